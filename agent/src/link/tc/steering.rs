//! Steering: keeps the bytes that htb lets through on the integral of the trace.
//!
//! htb sends a packet first and pays for it afterwards: the debt is kept in nanoseconds of the
//! rate that was set when the packet left, and a later rate neither rescales it nor wakes the
//! class earlier (`htb_charge_class` and `htb_change_class` in net/sched/sch_htb.c). After a
//! step from 12 to 300 Mbit/s the class may therefore stay blocked for another millisecond. So
//! rates alone do not add up; here they are chosen from the bytes that were really sent.
//!
//! A share of the link that nobody used is gone, not owed. Only what was lost while packets
//! waited is made up for. What left beyond the trace is held against the class whether packets waited
//! or not, until the trace has allowed it: a row that was set late lets nothing wait.
//!
//! Pure arithmetic on bits and nanoseconds; it is told the time.

use hexloop_traces::Schedule;

/// What the class says at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    /// Since T0, in nanoseconds.
    pub(super) at_ns: u64,
    /// All bytes that it has sent.
    pub(super) bytes: u64,
    /// Bytes that wait in it.
    pub(super) backlog_bytes: u64,
}

/// What a class sent, and what its trace allowed, while packets waited without a gap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Backlogged {
    /// For how long, in nanoseconds; time in which the trace allowed nothing is left out.
    pub(super) length_ns: u64,
    pub(super) trace_bits: u64,
    pub(super) sent_bits: u64,
}

impl Backlogged {
    const fn and(self, other: Backlogged) -> Backlogged {
        Backlogged {
            length_ns: self.length_ns.saturating_add(other.length_ns),
            trace_bits: self.trace_bits.saturating_add(other.trace_bits),
            sent_bits: self.sent_bits.saturating_add(other.sent_bits),
        }
    }
}

/// The account of one class.
#[derive(Debug, Clone)]
pub(super) struct Steering {
    packet_bits: i128,
    previous: Option<Seen>,
    /// Bits that the trace has allowed beyond those that were sent; negative: sent too early.
    owed_bits: i128,
    /// The largest of its amounts while packets waited.
    largest_owed_bits: i128,
    /// All backlogs that are over and were long enough to count, and the one that goes on.
    backlogs: Backlogged,
    backlog: Backlogged,
}

/// A backlog counts that is so many packets long: a packet more or less at its ends, which says nothing
/// about the rate, is 1 % of it then, as much as the verdict on runs tolerates.
const COUNTING_PACKETS: u64 = 100;

/// An error of more than this share of a packet is corrected at once. Below it lies what comes of
/// packets being sent whole, of which only this part is corrected each time, so that none of it
/// lasts.
const DEAD_ZONE_PERCENT: i128 = 60;
const SLOW_PART: i128 = 8;

/// A correction never sets less than this share of the trace's rate: the debt of a packet that
/// leaves at a small rate is large.
const LEAST_SHARE: u64 = 2;

/// Nobody aims at a moment that is nearer than this, or gone by because the thread was kept from
/// running: what the trace allows until then may be nothing, and one packet that leaves at next to no
/// rate blocks the class for as long as htb keeps a debt, a minute (`mbuffer` of net/sched/sch_htb.c).
const SHORTEST_AIM_NS: u64 = 100_000;

impl Steering {
    pub(super) fn new(mtu: u32) -> Steering {
        Steering {
            packet_bits: i128::from(mtu.max(1)) * 8,
            previous: None,
            owed_bits: 0,
            largest_owed_bits: 0,
            backlogs: Backlogged::default(),
            backlog: Backlogged::default(),
        }
    }

    /// Bits that the class is behind the trace; negative: ahead. While nothing waits it is never behind.
    #[cfg(test)]
    pub(super) const fn owed_bits(&self) -> i128 {
        self.owed_bits
    }

    /// The largest distance from the trace while packets waited, in bytes.
    pub(super) fn largest_error_bytes(&self) -> u64 {
        u64::try_from(self.largest_owed_bits / 8).unwrap_or(u64::MAX)
    }

    /// The sums over all backlogs of at least [`COUNTING_PACKETS`].
    pub(super) fn backlogged(&self) -> Backlogged {
        let least_bits = u64::try_from(self.packet_bits).unwrap_or(u64::MAX);
        if self.backlog.trace_bits < least_bits.saturating_mul(COUNTING_PACKETS) {
            return self.backlogs;
        }
        self.backlogs.and(self.backlog)
    }

    fn end_backlog(&mut self) {
        self.backlogs = self.backlogged();
        self.backlog = Backlogged::default();
    }

    /// There is nothing to steer until the next observation: the trace has no limit.
    pub(super) fn let_go(&mut self) {
        self.end_backlog();
        self.previous = None;
        self.owed_bits = 0;
    }

    /// The account begins at T0, when the class has sent so many bytes.
    pub(super) const fn open(&mut self, bytes: u64) {
        self.previous = Some(Seen {
            at_ns: 0,
            bytes,
            backlog_bytes: 0,
        });
    }

    /// Takes an observation in.
    pub(super) fn look(&mut self, schedule: &Schedule, seen: Seen) {
        let previous = self.previous.replace(seen);
        let Some(previous) = previous else { return };
        let allowed_bits = schedule.bits_between(previous.at_ns, seen.at_ns);
        let sent_bits = seen.bytes.saturating_sub(previous.bytes).saturating_mul(8);
        let (allowed, sent) = (i128::from(allowed_bits), i128::from(sent_bits));
        let mut missing = allowed - sent;
        if seen.backlog_bytes == 0 {
            // Nothing waits, nothing is owed.
            self.end_backlog();
            self.owed_bits = (self.owed_bits + missing).min(0);
            return;
        }
        if previous.backlog_bytes == 0 {
            // Packets began to wait somewhere in between. The first one has left already,
            // though it should be under way only now.
            self.owed_bits = (self.owed_bits + missing).min(-self.packet_bits / 2);
            return;
        }
        // What was sent had all been waiting before: then the queue was never empty. Else only
        // as much is believed as a change of rate can have cost.
        let never_empty = i128::from(previous.backlog_bytes) * 8 >= sent;
        if never_empty {
            let length_ns = seen.at_ns.saturating_sub(previous.at_ns);
            self.backlog = self.backlog.and(Backlogged {
                length_ns: if allowed_bits > 0 { length_ns } else { 0 },
                trace_bits: allowed_bits,
                sent_bits,
            });
        } else {
            self.end_backlog();
            missing = missing.min(2 * self.packet_bits);
        }
        self.owed_bits += missing;
        self.largest_owed_bits = self.largest_owed_bits.max(self.owed_bits.abs());
    }

    /// The rate to set now, in bit/s, so that at `until_ns` the trace is met. `row_bps` is that of the
    /// row which is in force, and stands where there is no time to aim.
    pub(super) fn rate_bps(
        &self,
        schedule: &Schedule,
        row_bps: u64,
        now_ns: u64,
        until_ns: u64,
    ) -> u64 {
        // Nobody aims into an outage either: its share of the time would make the rate before it small.
        let until_ns = match schedule.change_after(now_ns) {
            Some(at_ns) if schedule.state_at(at_ns).rate_bps == 0 => until_ns.min(at_ns),
            _ => until_ns,
        };
        let length_ns = until_ns.saturating_sub(now_ns);
        let allowed = i128::from(schedule.bits_between(now_ns, until_ns));
        if length_ns < SHORTEST_AIM_NS || allowed == 0 {
            return row_bps;
        }
        let plain = per_second(allowed, length_ns);
        let tolerated = self.packet_bits * DEAD_ZONE_PERCENT / 100;
        let small = self.owed_bits.clamp(-tolerated, tolerated);
        let correction = self.owed_bits - small + small / SLOW_PART;
        per_second(allowed + correction, length_ns).max(plain / LEAST_SHARE)
    }
}

fn per_second(bits: i128, length_ns: u64) -> u64 {
    let rate = bits.max(0) * 1_000_000_000 / i128::from(length_ns.max(1));
    u64::try_from(rate).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
