//! The integral of a trace: how many bits a link has carried by a given moment, and when it
//! will have carried so many.
//!
//! Everything is exact integer arithmetic in bit-nanoseconds (bit/s x ns = 10^-9 bit), so a
//! rate change needs no control action and no rounding error accumulates.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{Direction, EndPolicy, LinkState, Trace, UNLIMITED_RATE_BPS};

/// Bits x 10^9: the unit of the integral.
pub(crate) const PER_BIT: u128 = 1_000_000_000;

/// Rates above this count as unlimited, so that the integral cannot overflow: 10^15 bit/s.
const HIGHEST_FINITE_RATE_BPS: u64 = 1_000_000_000_000_000;

#[derive(Debug, Clone, Copy)]
struct Segment {
    start_ns: u64,
    /// Integral at `start_ns` from the start of the trace.
    integral: u128,
    state: LinkState,
    /// By when everything sent before the end of this segment has arrived: the largest
    /// end + delay up to here. The last segment of a trace that does not loop has no end.
    settled_ns: u128,
}

/// Where the answers to the last questions were: guesses that are checked before they are
/// believed, as the next question is nearly always about the same segment or the one after it.
/// Two for moments, as whoever plays a trace asks about arrivals and about departures.
#[derive(Debug, Default)]
struct Guesses {
    moments: [AtomicUsize; 2],
    integral: AtomicUsize,
}

impl Clone for Guesses {
    fn clone(&self) -> Guesses {
        Guesses::default()
    }
}

impl Guesses {
    /// The index of the only segment that `holds`, from a guess or the one after it.
    fn check(guess: &AtomicUsize, holds: impl Fn(usize) -> bool) -> Option<usize> {
        let index = guess.load(Ordering::Relaxed);
        if holds(index) {
            return Some(index);
        }
        holds(index + 1).then(|| {
            guess.store(index + 1, Ordering::Relaxed);
            index + 1
        })
    }
}

/// One direction of a trace, prepared for playback. Clones share the rows.
#[derive(Debug, Clone)]
pub struct CapacityCurve {
    segments: Arc<[Segment]>,
    guesses: Guesses,
    duration_ns: u64,
    /// Integral of one whole period.
    period: u128,
    end: EndPolicy,
    longest_delay_ns: u64,
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

/// Fills in `settled_ns`.
fn settle(segments: &mut [Segment], duration_ns: u64, end: EndPolicy) {
    let mut settled_ns = 0;
    for index in 0..segments.len() {
        let delay_ns = u128::from(segments[index].state.delay_ns);
        settled_ns = match (segments.get(index + 1), end) {
            (Some(next), _) => u128::from(next.start_ns) + delay_ns,
            (None, EndPolicy::Loop) => u128::from(duration_ns) + delay_ns,
            (None, EndPolicy::Hold | EndPolicy::Clear) => u128::MAX,
        }
        .max(settled_ns);
        segments[index].settled_ns = settled_ns;
    }
}

impl CapacityCurve {
    /// Prepares one direction of `trace`.
    #[must_use]
    pub fn new(trace: &Trace, direction: Direction) -> CapacityCurve {
        let mut segments = Vec::with_capacity(trace.rows().len() + 1);
        let mut integral = 0;
        let mut previous: Option<(u64, LinkState)> = None;
        for row in trace.rows() {
            if let Some((start_ns, state)) = previous {
                integral += area(state.rate_bps, row.t_ns - start_ns);
            }
            let state = *row.direction(direction);
            segments.push(Segment {
                start_ns: row.t_ns,
                integral,
                state,
                settled_ns: 0,
            });
            previous = Some((row.t_ns, state));
        }
        let duration_ns = trace.duration_ns();
        let period = integral
            + previous.map_or(0, |(start_ns, state)| {
                area(state.rate_bps, duration_ns - start_ns)
            });
        let end = trace.metadata().end;
        if end == EndPolicy::Clear {
            let state = LinkState::TRANSPARENT;
            segments.push(Segment {
                start_ns: duration_ns,
                integral: period,
                state,
                settled_ns: 0,
            });
        }
        settle(&mut segments, duration_ns, end);
        let delays = segments.iter().map(|segment| segment.state.delay_ns);
        CapacityCurve {
            longest_delay_ns: delays.max().unwrap_or(0),
            segments: segments.into(),
            guesses: Guesses::default(),
            duration_ns,
            period,
            end,
        }
    }

    /// Splits a moment into whole periods gone by and the time within the current one.
    const fn fold(&self, t_ns: u64) -> (u64, u64) {
        match self.end {
            EndPolicy::Loop => (t_ns / self.duration_ns, t_ns % self.duration_ns),
            EndPolicy::Hold | EndPolicy::Clear => (0, t_ns),
        }
    }

    fn segment_at(&self, t_ns: u64) -> &Segment {
        &self.segments[self.index_at(t_ns)]
    }

    fn index_at(&self, t_ns: u64) -> usize {
        let started = |segment: &Segment| segment.start_ns <= t_ns;
        let holds = |index: usize| {
            self.segments.get(index).is_some_and(started)
                && !self.segments.get(index + 1).is_some_and(started)
        };
        let [first, second] = &self.guesses.moments;
        if let Some(index) = Guesses::check(first, holds) {
            return index;
        }
        if let Some(index) = Guesses::check(second, holds) {
            return index;
        }
        let index = self.segments.partition_point(started).saturating_sub(1);
        second.store(first.load(Ordering::Relaxed), Ordering::Relaxed);
        first.store(index, Ordering::Relaxed);
        index
    }

    /// The link's state at `t_ns` after the start of the trace.
    #[must_use]
    pub fn state_at(&self, t_ns: u64) -> LinkState {
        self.segment_at(self.fold(t_ns).1).state
    }

    /// The longest delay of the trace.
    #[must_use]
    pub const fn longest_delay_ns(&self) -> u64 {
        self.longest_delay_ns
    }

    /// Until when the state at `t_ns` holds; `None` if for ever. The state may be the same
    /// afterwards.
    pub(crate) fn change_after(&self, t_ns: u64) -> Option<u64> {
        let (periods, local_ns) = self.fold(t_ns);
        let after = self.index_at(local_ns) + 1;
        let local_ns = match (self.segments.get(after), self.end) {
            (Some(next), _) => next.start_ns,
            (None, EndPolicy::Loop) => self.duration_ns,
            (None, EndPolicy::Hold | EndPolicy::Clear) => return None,
        };
        periods.checked_mul(self.duration_ns)?.checked_add(local_ns)
    }

    /// The integral from the start of the trace to `t_ns`, in bits x 10^9.
    pub(crate) fn integral_at(&self, t_ns: u64) -> u128 {
        let (periods, t_ns) = self.fold(t_ns);
        let segment = self.segment_at(t_ns);
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

    /// The moment from which on bits have not arrived at `t_ns`; 0 if none has.
    fn left_by(&self, t_ns: u64) -> u64 {
        let t_ns = u128::from(t_ns);
        let period_ns = u128::from(self.duration_ns);
        let settled_ns = self.segments.last().map_or(0, |segment| segment.settled_ns);
        // Periods whose bits have all arrived.
        let periods = match self.end {
            EndPolicy::Loop if t_ns >= settled_ns => (t_ns - settled_ns) / period_ns + 1,
            EndPolicy::Loop | EndPolicy::Hold | EndPolicy::Clear => 0,
        };
        let base_ns = periods * period_ns;
        let arrived = |segment: &Segment| base_ns + segment.settled_ns <= t_ns;
        let index = self.segments.partition_point(arrived);
        let segment = &self.segments[index.min(self.segments.len() - 1)];
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
        let short = |segment: &Segment| segment.integral < target;
        let holds = |index: usize| {
            self.segments.get(index).is_some_and(short)
                && !self.segments.get(index + 1).is_some_and(short)
        };
        let index = Guesses::check(&self.guesses.integral, holds).unwrap_or_else(|| {
            let index = self.segments.partition_point(short).saturating_sub(1);
            self.guesses.integral.store(index, Ordering::Relaxed);
            index
        });
        let segment = &self.segments[index];
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
    pub fn peak_bps(&self) -> u64 {
        self.segments
            .iter()
            .map(|segment| segment.state.rate_bps)
            .filter(|&rate| rate != UNLIMITED_RATE_BPS)
            .max()
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TraceMetadata, TraceRow, TraceStatus};
    use proptest::prelude::*;

    fn trace(end: EndPolicy, steps: &[(u64, u64)]) -> Trace {
        let mut t_ns = 0;
        let mut rows = Vec::new();
        for &(length_ns, rate_bps) in steps {
            let state = LinkState {
                rate_bps,
                ..LinkState::TRANSPARENT
            };
            rows.push(TraceRow {
                t_ns,
                down: state,
                up: state,
                diagnostics: Default::default(),
            });
            t_ns += length_ns;
        }
        let metadata = TraceMetadata {
            schema: crate::TRACE_SCHEMA,
            scenario: "test".to_owned(),
            status: TraceStatus::Control,
            duration_ns: t_ns,
            end,
            seed: None,
            generator: "test".to_owned(),
            configuration: Default::default(),
            notes: Vec::new(),
            provenance: Default::default(),
        };
        Trace::new(metadata, rows).unwrap()
    }

    const PER_GBIT: u64 = 1_000_000_000;

    fn curve(end: EndPolicy, steps: &[(u64, u64)]) -> CapacityCurve {
        CapacityCurve::new(&trace(end, steps), Direction::Down)
    }

    #[test]
    fn a_packet_across_a_rate_change_takes_the_exact_time() {
        // 1000 ns at 1 Gbit/s carry 1000 bits; the other 500 take 250 ns at 2 Gbit/s.
        let curve = curve(
            EndPolicy::Hold,
            &[(1000, 1_000_000_000), (1000, 2_000_000_000)],
        );
        assert_eq!(curve.finish_ns(0, 1500), Some(1250));
        assert_eq!(curve.bits_between(0, 1250), 1500);
    }

    #[test]
    fn an_outage_holds_packets_until_it_ends() {
        let curve = curve(
            EndPolicy::Hold,
            &[(100, 1_000_000_000), (500, 0), (1, 1_000_000_000)],
        );
        assert_eq!(curve.finish_ns(50, 100), Some(650));
        assert_eq!(curve.finish_ns(100, 1), Some(601));
        assert_eq!(curve.finish_ns(300, 1), Some(601));
    }

    #[test]
    fn a_trace_that_ends_in_an_outage_never_sends_the_rest() {
        assert_eq!(
            curve(EndPolicy::Hold, &[(100, 8), (100, 0)]).finish_ns(150, 8),
            None
        );
        assert_eq!(curve(EndPolicy::Loop, &[(100, 0)]).finish_ns(0, 8), None);
    }

    #[test]
    fn a_looping_trace_wraps_and_a_cleared_one_lifts_the_limit() {
        let steps = [(1000, 1_000_000_000), (1000, 0)];
        assert_eq!(
            curve(EndPolicy::Loop, &steps).finish_ns(0, 1500),
            Some(2500)
        );
        assert_eq!(
            curve(EndPolicy::Loop, &steps).finish_ns(0, 1000),
            Some(1000)
        );
        assert_eq!(
            curve(EndPolicy::Clear, &steps).state_at(2000),
            LinkState::TRANSPARENT
        );
        assert_eq!(
            curve(EndPolicy::Clear, &steps).finish_ns(2500, 1500),
            Some(2500)
        );
    }

    #[test]
    fn no_bits_take_no_time() {
        for end in [EndPolicy::Loop, EndPolicy::Hold] {
            assert_eq!(curve(end, &[(100, 0), (100, 8)]).finish_ns(0, 0), Some(0));
        }
    }

    #[test]
    fn the_largest_rates_and_times_do_not_overflow() {
        for end in [EndPolicy::Loop, EndPolicy::Hold, EndPolicy::Clear] {
            let curve = curve(
                end,
                &[
                    (1, UNLIMITED_RATE_BPS),
                    (u64::MAX - 1, UNLIMITED_RATE_BPS - 1),
                ],
            );
            assert_eq!(curve.bits_between(0, u64::MAX), u64::MAX);
            assert_eq!(curve.arrivals_between(0, u64::MAX), u64::MAX);
            assert_eq!(
                curve.finish_ns(u64::MAX, u64::MAX),
                if end == EndPolicy::Hold {
                    None
                } else {
                    Some(u64::MAX)
                }
            );
            assert!(curve.finish_ns(2, u64::MAX).is_some());
        }
        let slow = curve(EndPolicy::Loop, &[(u64::MAX, 1)]);
        assert_eq!(slow.finish_ns(5, u64::MAX), None, "beyond the end of time");
    }

    /// A trace with (length, rate, delay) steps.
    fn delayed(end: EndPolicy, steps: &[(u64, u64, u64)]) -> CapacityCurve {
        let rates: Vec<(u64, u64)> = steps
            .iter()
            .map(|&(length, rate, _)| (length, rate))
            .collect();
        let trace = trace(end, &rates);
        let mut rows = trace.rows().to_vec();
        for (row, &(_, _, delay_ns)) in rows.iter_mut().zip(steps) {
            row.down.delay_ns = delay_ns;
        }
        CapacityCurve::new(
            &Trace::new(trace.metadata().clone(), rows).unwrap(),
            Direction::Down,
        )
    }

    #[test]
    fn bits_arrive_after_their_delay_and_in_order() {
        let g = 1_000_000_000;
        let constant = delayed(EndPolicy::Hold, &[(100, g, 30)]);
        assert_eq!(constant.arrivals_between(0, 30), 0);
        assert_eq!(constant.arrivals_between(0, 50), 20);
        assert_eq!(constant.arrivals_between(40, 200), 160);
        // The delay rises by 20: nothing arrives for 20 ns.
        let rising = delayed(EndPolicy::Hold, &[(100, g, 30), (100, g, 50)]);
        assert_eq!(rising.arrivals_between(0, 130), 100);
        assert_eq!(rising.arrivals_between(130, 150), 0);
        assert_eq!(rising.arrivals_between(150, 160), 10);
        // The delay falls by 20: the bits that would have overtaken arrive together.
        let falling = delayed(EndPolicy::Hold, &[(100, g, 50), (100, g, 30)]);
        assert_eq!(falling.arrivals_between(0, 149), 99);
        assert_eq!(falling.arrivals_between(149, 150), 21);
        assert_eq!(falling.arrivals_between(150, 160), 10);
    }

    proptest! {
        #[test]
        fn what_was_asked_before_does_not_change_an_answer(
            steps in prop::collection::vec((1_u64..40, 0_u64..3), 1..12),
            questions in prop::collection::vec((0_u64..600, 1_u64..300), 1..40),
            loops: bool,
        ) {
            let end = if loops { EndPolicy::Loop } else { EndPolicy::Clear };
            let steps: Vec<_> =
                steps.into_iter().map(|(ns, gbit)| (ns, gbit * PER_GBIT)).collect();
            let asked = curve(end, &steps);
            for (at_ns, bits) in questions {
                let fresh = asked.clone();
                prop_assert_eq!(asked.state_at(at_ns), fresh.state_at(at_ns));
                prop_assert_eq!(asked.finish_ns(at_ns, bits), fresh.finish_ns(at_ns, bits));
                prop_assert_eq!(asked.change_after(at_ns), fresh.change_after(at_ns));
            }
        }

        #[test]
        fn what_has_arrived_is_what_left_before_the_first_bit_under_way(
            steps in prop::collection::vec((1_u64..40, 0_u64..3, 0_u64..90), 1..6),
            t_ns in 0_u64..400,
            loops: bool,
        ) {
            let end = if loops { EndPolicy::Loop } else { EndPolicy::Hold };
            let steps: Vec<_> =
                steps.into_iter().map(|(ns, gbit, delay)| (ns, gbit * PER_GBIT, delay)).collect();
            let curve = delayed(end, &steps);
            let left = (0..).find(|&s| s + curve.state_at(s).delay_ns >= t_ns).unwrap();
            prop_assert_eq!(curve.left_by(t_ns), left);
            prop_assert_eq!(curve.arrivals_between(0, t_ns), curve.bits_between(0, left));
        }

        #[test]
        fn the_finish_time_is_the_first_moment_with_enough_capacity(
            steps in prop::collection::vec((1_u64..10_000, 0_u64..20_000_000_000), 1..8),
            start_ns in 0_u64..50_000,
            bits in 1_u64..200_000,
            loops: bool,
        ) {
            let end = if loops { EndPolicy::Loop } else { EndPolicy::Hold };
            let curve = curve(end, &steps);
            match curve.finish_ns(start_ns, bits) {
                Some(finish) => {
                    let target = curve.integral_at(start_ns) + u128::from(bits) * PER_BIT;
                    prop_assert!(curve.integral_at(finish) >= target);
                    prop_assert!(finish == start_ns || curve.integral_at(finish - 1) < target);
                }
                None => prop_assert!(curve.state_at(u64::MAX / 4).rate_bps == 0 || curve.period == 0),
            }
        }
    }
}
