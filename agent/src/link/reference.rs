//! What the receiver should have got by when, from the trace as asked, whatever is played.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hexloop_traces::{CapacityCurve, Direction, Intervention, LinkState, Schedule, Trace};

/// One direction of the asked trace, with what was asked of it while it played, seen from the
/// receiver. Copies share the interventions.
#[derive(Debug, Clone)]
pub(crate) struct Reference {
    curve: CapacityCurve,
    schedule: Arc<Mutex<Schedule>>,
}

/// A packet's way through the link, as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Passage {
    /// When it is through the bottleneck.
    pub(crate) finish_ns: u64,
    /// When it arrives, without jitter and whatever is ahead of it.
    pub(crate) due_ns: u64,
    /// By how much jitter may move that, either way.
    pub(crate) jitter_ns: u64,
}

impl Reference {
    /// The reference of one direction.
    pub(crate) fn new(trace: &Trace, direction: Direction) -> Reference {
        let curve = CapacityCurve::new(trace, direction);
        let schedule = Arc::new(Mutex::new(Schedule::new(curve.clone())));
        Reference { curve, schedule }
    }

    /// The rates and delays of the trace itself.
    pub(crate) const fn curve(&self) -> &CapacityCurve {
        &self.curve
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The trace as it is, from its start.
    pub(crate) fn reset(&self) {
        *self.schedule() = Schedule::new(self.curve.clone());
    }

    /// Something else was asked for from a moment on.
    pub(crate) fn apply(&self, intervention: Intervention) {
        self.schedule().apply(intervention);
    }

    /// What is asked for at `t_ns` after T0.
    pub(crate) fn state_at(&self, t_ns: u64) -> LinkState {
        self.schedule().state_at(t_ns)
    }

    /// What left the bottleneck before this moment had arrived by `t_ns`: the inverse of
    /// f -> f + delay(f), kept in order.
    pub(crate) fn departure_ns(&self, t_ns: u64) -> u64 {
        self.schedule().left_by(t_ns)
    }

    /// The bits that may arrive at the receiver between two moments, if the queue is never empty.
    pub(crate) fn arriving_bits(&self, from_ns: u64, to_ns: u64) -> u64 {
        self.schedule().arrivals_between(from_ns, to_ns)
    }

    /// Whether the trace's jitter decides what arrives in a window, so that its bytes say nothing
    /// about the rate: from half the window's length on.
    pub(crate) fn jitters_in(&self, from_ns: u64, to_ns: u64) -> bool {
        let tolerance_ns = to_ns.saturating_sub(from_ns) / 2;
        self.schedule()
            .jitters_between(from_ns, to_ns, tolerance_ns)
    }

    /// How a packet passes that is sent at `sent_ns` behind one whose end was at `busy_until_ns`.
    /// `None` if it never does.
    pub(crate) fn passage(
        &self,
        sent_ns: u64,
        busy_until_ns: u64,
        ip_bytes: u64,
    ) -> Option<Passage> {
        let schedule = self.schedule();
        let finish_ns = schedule.finish_ns(sent_ns.max(busy_until_ns), ip_bytes * 8)?;
        let state = schedule.state_at(finish_ns);
        Some(Passage {
            finish_ns,
            due_ns: finish_ns + state.delay_ns,
            jitter_ns: u64::from(state.jitter_ns),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::testing::{MS, state, trace};
    use hexloop_traces::{EndPolicy, PlaybackChange};

    #[test]
    fn what_was_asked_for_meanwhile_counts_in_every_copy_until_the_next_phase() {
        let trace = trace(EndPolicy::Hold, &[(1000 * MS, state(8_000_000, 20 * MS))]);
        let reference = Reference::new(&trace, Direction::Down);
        let pause = Intervention {
            at_ns: 10 * MS,
            change: PlaybackChange::Override(hexloop_traces::StateOverride {
                rate_bps: Some(4_000_000),
                ..hexloop_traces::StateOverride::NONE
            }),
        };
        let copy = reference.clone();
        reference.apply(pause);
        assert_eq!(copy.arriving_bits(20 * MS, 40 * MS), 80_000 + 40_000);
        assert_eq!(copy.state_at(11 * MS).rate_bps, 4_000_000);
        copy.reset();
        assert_eq!(reference.arriving_bits(20 * MS, 40 * MS), 160_000);
    }

    #[test]
    fn bits_arrive_a_delay_after_they_left() {
        let trace = trace(EndPolicy::Hold, &[(1000 * MS, state(8_000_000, 20 * MS))]);
        let reference = Reference::new(&trace, Direction::Down);
        assert_eq!(reference.arriving_bits(0, 20 * MS), 0);
        assert_eq!(reference.arriving_bits(20 * MS, 30 * MS), 80_000);
        let passage = |finish_ms| Passage {
            finish_ns: finish_ms * MS,
            due_ns: (finish_ms + 20) * MS,
            jitter_ns: 0,
        };
        assert_eq!(reference.passage(0, 0, 1000), Some(passage(1)));
        assert_eq!(reference.passage(0, 5 * MS, 1000), Some(passage(6)));
    }

    #[test]
    fn a_shorter_delay_brings_the_waiting_bits_at_once() {
        // The delay falls from 20 to 5 ms at 100 ms: what left at 100 ms arrives at 105, but not
        // before what left just ahead of it at 120.
        let rows = [
            (100 * MS, state(8_000_000, 20 * MS)),
            (900 * MS, state(8_000_000, 5 * MS)),
        ];
        let reference = Reference::new(&trace(EndPolicy::Hold, &rows), Direction::Up);
        assert_eq!(reference.departure_ns(119 * MS), 99 * MS);
        assert_eq!(reference.departure_ns(120 * MS), 115 * MS);
    }

    #[test]
    fn a_longer_delay_leaves_a_gap() {
        let rows = [
            (100 * MS, state(8_000_000, 5 * MS)),
            (900 * MS, state(8_000_000, 20 * MS)),
        ];
        let reference = Reference::new(&trace(EndPolicy::Hold, &rows), Direction::Up);
        assert_eq!(reference.departure_ns(104 * MS), 99 * MS);
        assert_eq!(reference.departure_ns(112 * MS), 100 * MS);
        assert_eq!(reference.departure_ns(121 * MS), 101 * MS);
    }

    #[test]
    fn a_looped_trace_goes_on_into_its_next_period() {
        let rows = [(10 * MS, state(8_000_000, MS)), (10 * MS, state(0, MS))];
        let reference = Reference::new(&trace(EndPolicy::Loop, &rows), Direction::Up);
        assert_eq!(reference.arriving_bits(21 * MS, 41 * MS), 80_000);
        assert_eq!(reference.departure_ns(45 * MS), 44 * MS);
    }
}
