//! The integral of a trace: how many bits a link has carried by a given moment, and when it
//! will have carried so many.
//!
//! Everything is exact integer arithmetic in bit-nanoseconds (bit/s x ns = 10^-9 bit), so a
//! rate change needs no control action and no rounding error accumulates.

mod pages;
mod segments;

use crate::trace::MappedRows;
use crate::{Direction, EndPolicy, LinkState, LossBounds, Trace, UNLIMITED_RATE_BPS};
use pages::{PAGE_SEGMENTS, Pages};
use segments::{Segment, Segments};

/// Bits x 10^9: the unit of the integral.
pub(crate) const PER_BIT: u128 = 1_000_000_000;

/// Rates above this count as unlimited, so that the integral cannot overflow: 10^15 bit/s.
const HIGHEST_FINITE_RATE_BPS: u64 = 1_000_000_000_000_000;

/// Where the segments are.
#[derive(Debug, Clone)]
enum Store {
    Memory(Segments),
    Mapped(Pages),
}

/// One direction of a trace, prepared for playback. Clones share the rows. Of a trace in a mapped
/// file only what is asked about is in memory, a few thousand rows at a time.
#[derive(Debug, Clone)]
pub struct CapacityCurve {
    store: Store,
    duration_ns: u64,
    /// Integral of one whole period.
    period: u128,
    end: EndPolicy,
    longest_delay_ns: u64,
    longest_jitter_ns: u64,
    peak_bps: u64,
    losses: LossBounds,
}

/// The rate that enters the integral, in bit/s.
pub(crate) const fn effective_bps(rate_bps: u64) -> u64 {
    if rate_bps > HIGHEST_FINITE_RATE_BPS {
        HIGHEST_FINITE_RATE_BPS
    } else {
        rate_bps
    }
}

/// The integral of a constant rate over so many nanoseconds.
pub(crate) fn area(rate_bps: u64, ns: u64) -> u128 {
    u128::from(effective_bps(rate_bps)) * u128::from(ns)
}

impl CapacityCurve {
    /// Prepares one direction of `trace`.
    #[must_use]
    pub fn new(trace: &Trace, direction: Direction) -> CapacityCurve {
        let (duration_ns, end) = (trace.duration_ns(), trace.metadata().end);
        if let Some(rows) = trace.mapped() {
            return CapacityCurve::of_mapped(rows, direction, (duration_ns, end), PAGE_SEGMENTS);
        }
        let rows = trace.rows().iter();
        let states = rows.map(|row| (row.t_ns, *row.direction(direction)));
        let (segments, period) = Segments::new(states, duration_ns, end);
        let delays = segments.states().map(|state| state.delay_ns);
        let jitters = segments.states().map(|state| u64::from(state.jitter_ns));
        let rates = segments.states().map(|state| state.rate_bps);
        let limited = rates.filter(|&rate| rate != UNLIMITED_RATE_BPS);
        CapacityCurve {
            longest_delay_ns: delays.max().unwrap_or(0),
            longest_jitter_ns: jitters.max().unwrap_or(0),
            peak_bps: limited.max().unwrap_or(0),
            losses: LossBounds::of(segments.states().copied()),
            store: Store::Memory(segments),
            duration_ns,
            period,
            end,
        }
    }

    fn of_mapped(
        rows: &MappedRows,
        direction: Direction,
        (duration_ns, end): (u64, EndPolicy),
        page_segments: usize,
    ) -> CapacityCurve {
        let found = Pages::survey(rows, direction, (duration_ns, end), page_segments);
        CapacityCurve {
            store: Store::Mapped(found.pages),
            duration_ns,
            period: found.period,
            end,
            longest_delay_ns: found.longest_delay_ns,
            longest_jitter_ns: found.longest_jitter_ns,
            peak_bps: found.peak_bps,
            losses: found.losses,
        }
    }

    /// Splits a moment into whole periods gone by and the time within the current one.
    const fn fold(&self, t_ns: u64) -> (u64, u64) {
        match self.end {
            EndPolicy::Loop => (t_ns / self.duration_ns, t_ns % self.duration_ns),
            EndPolicy::Hold | EndPolicy::Clear => (0, t_ns),
        }
    }

    /// The segment that a moment of the trace is in, and the start of the one after it.
    fn at(&self, t_ns: u64) -> (Segment, Option<u64>) {
        match &self.store {
            Store::Memory(segments) => {
                let (segment, next_ns) = segments.at(t_ns);
                (*segment, next_ns)
            }
            Store::Mapped(pages) => pages.at(t_ns),
        }
    }

    /// The link's state at `t_ns` after the start of the trace.
    #[must_use]
    pub fn state_at(&self, t_ns: u64) -> LinkState {
        self.at(self.fold(t_ns).1).0.state
    }

    /// The longest delay of the trace.
    #[must_use]
    pub const fn longest_delay_ns(&self) -> u64 {
        self.longest_delay_ns
    }

    /// The largest half-width of the trace's jitter.
    #[must_use]
    pub const fn longest_jitter_ns(&self) -> u64 {
        self.longest_jitter_ns
    }

    /// What of the trace's losses decides whether some of their values can be overridden.
    #[must_use]
    pub const fn losses(&self) -> LossBounds {
        self.losses
    }

    /// Until when the state at `t_ns` holds; `None` if for ever. The state may be the same
    /// afterwards.
    pub(crate) fn change_after(&self, t_ns: u64) -> Option<u64> {
        let (periods, local_ns) = self.fold(t_ns);
        let local_ns = match (self.at(local_ns).1, self.end) {
            (Some(next_ns), _) => next_ns,
            (None, EndPolicy::Loop) => self.duration_ns,
            (None, EndPolicy::Hold | EndPolicy::Clear) => return None,
        };
        periods.checked_mul(self.duration_ns)?.checked_add(local_ns)
    }

    /// The integral from the start of the trace to `t_ns`, in bits x 10^9.
    pub(crate) fn integral_at(&self, t_ns: u64) -> u128 {
        let (periods, t_ns) = self.fold(t_ns);
        let (segment, _) = self.at(t_ns);
        u128::from(periods) * self.period
            + segment.integral
            + area(segment.state.rate_bps, t_ns - segment.start_ns)
    }

    /// How many bits the link can carry between two moments, rounded down.
    ///
    /// An unlimited rate counts as 10^15 bit/s here.
    #[must_use]
    pub fn bits_between(&self, from_ns: u64, to_ns: u64) -> u64 {
        let bits = (self.integral_at(to_ns.max(from_ns)) - self.integral_at(from_ns)) / PER_BIT;
        u64::try_from(bits).unwrap_or(u64::MAX)
    }

    /// How many bits the trace allows to *arrive* between two moments, rounded down.
    ///
    /// A bit that leaves the bottleneck at s arrives at s + delay(s), but never before one that
    /// left earlier: bits stay in order, so a delay that falls by d lets nothing arrive out of
    /// turn; a delay that rises by d opens a gap of d. What has arrived by t is therefore what
    /// left before the infimum of all s with s + delay(s) > t, and the answer is
    /// [`CapacityCurve::bits_between`] of those two moments. Jitter, loss and the queue do not
    /// enter.
    #[must_use]
    pub fn arrivals_between(&self, from_ns: u64, to_ns: u64) -> u64 {
        self.bits_between(self.left_by(from_ns), self.left_by(to_ns))
    }

    /// How many bits arrive within a time, if the first is sent no earlier than `start_ns`, rounded down.
    ///
    /// That is [`CapacityCurve::bits_between`] of `start_ns` and the infimum of all s with s + delay(s) beyond the end of
    /// the time, as of [`CapacityCurve::arrivals_between`]: with a delay that does not change, the integral over the time
    /// less the delay. Jitter, loss and what was in the queue before do not enter.
    #[must_use]
    pub fn bits_within(&self, start_ns: u64, within_ns: u64) -> u64 {
        self.bits_between(start_ns, self.left_by(start_ns.saturating_add(within_ns)))
    }

    /// The moment from which on bits have not arrived at `t_ns`; 0 if none has.
    fn left_by(&self, t_ns: u64) -> u64 {
        let t_ns = u128::from(t_ns);
        let period_ns = u128::from(self.duration_ns);
        let settled_ns = match &self.store {
            Store::Memory(segments) => segments.settled_ns(),
            Store::Mapped(pages) => pages.settled_ns(),
        };
        // Periods whose bits have all arrived.
        let periods = match self.end {
            EndPolicy::Loop if t_ns >= settled_ns => (t_ns - settled_ns) / period_ns + 1,
            EndPolicy::Loop | EndPolicy::Hold | EndPolicy::Clear => 0,
        };
        let base_ns = periods * period_ns;
        let local_ns = t_ns.saturating_sub(base_ns);
        let segment = match &self.store {
            Store::Memory(segments) => *segments.under_way(local_ns),
            Store::Mapped(pages) => pages.under_way(local_ns),
        };
        let start_ns = base_ns + u128::from(segment.start_ns);
        let left_ns = start_ns.max(t_ns.saturating_sub(u128::from(segment.state.delay_ns)));
        u64::try_from(left_ns).unwrap_or(u64::MAX)
    }

    /// When the last of `bits` has been sent, if the first is sent no earlier than `start_ns`:
    /// C^-1(C(start) + bits), rounded up to a whole nanosecond. `None` if that never happens
    /// (the trace ends in an outage).
    ///
    /// An unlimited rate takes no time at all, and neither do no bits.
    #[must_use]
    pub fn finish_ns(&self, start_ns: u64, bits: u64) -> Option<u64> {
        if bits == 0 {
            return Some(start_ns);
        }
        if self.state_at(start_ns).rate_bps == UNLIMITED_RATE_BPS {
            return Some(start_ns);
        }
        let target = self.integral_at(start_ns) + u128::from(bits) * PER_BIT;
        self.moment_of(target).map(|finish| finish.max(start_ns))
    }

    /// The first moment at which the integral from the start of the trace has reached `target`,
    /// which is more than 0. `None` if that never happens.
    pub(crate) fn moment_of(&self, target: u128) -> Option<u64> {
        let (periods, target) = match self.end {
            EndPolicy::Loop if self.period == 0 => return None,
            EndPolicy::Loop => {
                // The moment that ends a period belongs to that period, not to the next.
                let whole = (target - 1) / self.period;
                (u64::try_from(whole).ok()?, target - whole * self.period)
            }
            EndPolicy::Hold | EndPolicy::Clear => (0, target),
        };
        let segment = match &self.store {
            Store::Memory(segments) => *segments.short_of(target),
            Store::Mapped(pages) => pages.short_of(target),
        };
        let rate = u128::from(effective_bps(segment.state.rate_bps));
        if rate == 0 {
            // Only the last segment can be short of the target with nothing more to come.
            return None;
        }
        let within = (target - segment.integral).div_ceil(rate);
        let period_start = periods.checked_mul(self.duration_ns)?;
        let finish = period_start.checked_add(segment.start_ns)?;
        finish.checked_add(u64::try_from(within).ok()?)
    }

    /// The largest finite rate in the trace, in bit/s.
    #[must_use]
    pub const fn peak_bps(&self) -> u64 {
        self.peak_bps
    }
}

#[cfg(test)]
mod mapped_tests;
#[cfg(test)]
mod tests;
