//! How the relay waits: asleep until shortly before the next packet is due, then spinning; and
//! when many packets are due all the time, in steps that share the cost of waking up.

use hexloop_workloads::clock::MonotonicNs;

/// A woken thread runs 5 to 40 us late; this much is spun instead.
const SPIN_NS: u64 = 40_000;

/// Spinning may take half of each of these periods: a real-time thread that never sleeps is
/// stopped by the kernel for 50 ms in every second, and others want the CPU too.
const BUDGET_PERIOD_NS: u64 = 100_000_000;
const BUDGET_NS: u64 = BUDGET_PERIOD_NS / 2;

/// How busy the links are is seen over this long.
const LOAD_PERIOD_NS: u64 = 10_000_000;

/// From this many busy lanes on, or this many packets in a period, the thread wakes up in steps.
const MANY_LANES: u64 = 16;
const MANY_PACKETS: u64 = 1500;

/// The steps: so much per busy lane, within bounds.
const STEP_PER_LANE_NS: u64 = 2_000;
const SHORTEST_STEP_NS: u64 = 50_000;
const LONGEST_STEP_NS: u64 = 400_000;

/// With nothing to do the thread looks up this often.
const LONGEST_SLEEP_NS: u64 = 1_000_000_000;

/// How to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Not at all.
    Not,
    /// Spin until then.
    Spin(MonotonicNs),
    /// Sleep until then, whatever comes in.
    Sleep(MonotonicNs),
    /// Sleep until something comes in, but no longer than until then.
    Watch(MonotonicNs),
    /// Sleep until something comes in, but no longer than about so many nanoseconds: nothing is due by then.
    Idle(u64),
}

/// Keeps the budget of spinning, and decides how to wait.
#[derive(Debug, Default)]
pub(super) struct Pace {
    budget_start: MonotonicNs,
    spun_ns: u64,
    load_start: MonotonicNs,
    lanes: u64,
    packets: u64,
    step_ns: u64,
}

impl Pace {
    /// The load period that this moment belongs to; a lane that has not been busy in it yet is
    /// to be counted.
    pub(super) const fn period(&self) -> MonotonicNs {
        self.load_start
    }

    /// Whether the thread wakes up in steps, so that packets leave in groups.
    pub(super) const fn is_in_steps(&self) -> bool {
        self.step_ns > 0
    }

    /// A lane had something to do for the first time in this period.
    pub(super) const fn note_lane(&mut self) {
        self.lanes += 1;
    }

    /// So many packets were sent.
    pub(super) fn note_packets(&mut self, packets: usize) {
        self.packets += u64::try_from(packets).unwrap_or(0);
    }

    /// Begins new periods where the old ones have ended.
    pub(super) fn advance(&mut self, now: MonotonicNs) {
        if now.saturating_sub(self.budget_start) >= BUDGET_PERIOD_NS {
            self.budget_start = now;
            self.spun_ns = 0;
        }
        if now.saturating_sub(self.load_start) >= LOAD_PERIOD_NS {
            let many = self.lanes >= MANY_LANES || self.packets >= MANY_PACKETS;
            self.step_ns = if many {
                (self.lanes * STEP_PER_LANE_NS).clamp(SHORTEST_STEP_NS, LONGEST_STEP_NS)
            } else {
                0
            };
            (self.load_start, self.lanes, self.packets) = (now, 0, 0);
        }
    }

    /// How to wait at `now` when the last turn began at `turn` and something is due at `due`.
    pub(super) fn wait(
        &mut self,
        now: MonotonicNs,
        turn: MonotonicNs,
        due: Option<MonotonicNs>,
    ) -> Wait {
        if self.step_ns > 0 {
            let step = turn + self.step_ns;
            if now < step {
                return Wait::Sleep(step);
            }
        }
        let Some(due) = due else {
            return Wait::Idle(LONGEST_SLEEP_NS);
        };
        if due <= now {
            return Wait::Not;
        }
        let spin_ns = if self.step_ns == 0 && self.spun_ns < BUDGET_NS {
            SPIN_NS
        } else {
            0
        };
        if due - now <= spin_ns {
            self.spun_ns += due - now;
            return Wait::Spin(due);
        }
        let until = due - spin_ns;
        if until - now > LONGEST_SLEEP_NS {
            return Wait::Idle(LONGEST_SLEEP_NS);
        }
        Wait::Watch(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_packet_is_slept_for_and_then_spun_for() {
        let mut pace = Pace::default();
        assert_eq!(pace.wait(0, 0, Some(MS)), Wait::Watch(MS - SPIN_NS));
        assert_eq!(pace.wait(MS - 10, 0, Some(MS)), Wait::Spin(MS));
        assert_eq!(pace.wait(MS, 0, Some(MS)), Wait::Not);
        let idle = Wait::Idle(1000 * MS);
        assert_eq!(pace.wait(0, 0, None), idle);
        assert_eq!(pace.wait(0, 0, Some(1001 * MS)), idle);
    }

    #[test]
    fn spinning_ends_with_its_budget_and_begins_again_with_the_next_period() {
        let mut pace = Pace::default();
        pace.advance(0);
        for _ in 0..BUDGET_NS / SPIN_NS {
            assert_eq!(pace.wait(0, 0, Some(SPIN_NS)), Wait::Spin(SPIN_NS));
        }
        assert_eq!(pace.wait(0, 0, Some(SPIN_NS)), Wait::Watch(SPIN_NS));
        pace.advance(BUDGET_PERIOD_NS);
        let (now, due) = (BUDGET_PERIOD_NS, BUDGET_PERIOD_NS + 1);
        assert_eq!(pace.wait(now, 0, Some(due)), Wait::Spin(due));
    }

    #[test]
    fn many_busy_lanes_are_served_in_steps() {
        let mut pace = Pace::default();
        for _ in 0..100 {
            pace.note_lane();
        }
        pace.advance(LOAD_PERIOD_NS);
        let step = LOAD_PERIOD_NS + 100 * STEP_PER_LANE_NS;
        let due = Some(LOAD_PERIOD_NS + 10);
        assert_eq!(
            pace.wait(LOAD_PERIOD_NS + 5, LOAD_PERIOD_NS, due),
            Wait::Sleep(step)
        );
        assert_eq!(pace.wait(step, LOAD_PERIOD_NS, due), Wait::Not);
        // Nothing in the next period: back to spinning.
        pace.advance(2 * LOAD_PERIOD_NS);
        let due = 2 * LOAD_PERIOD_NS + 10;
        assert_eq!(pace.wait(2 * LOAD_PERIOD_NS, 0, Some(due)), Wait::Spin(due));
    }
}
