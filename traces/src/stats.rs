//! What a trace amounts to: rates, delays, outages. Everything is weighted by time.

pub mod long;

use serde::{Deserialize, Serialize};

use crate::{CapacityCurve, Direction, EndPolicy, LinkState, Trace};

/// One direction of a trace in numbers, from its start to its end.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TraceStatistics {
    /// Length of the trace.
    pub duration_ns: u64,
    /// Mean rate; unlimited counts as 10^15 bit/s.
    pub rate_mean_bps: u64,
    /// Lowest rate.
    pub rate_min_bps: u64,
    /// The rate that the link is at or below for 5 % of the time.
    pub rate_p5_bps: u64,
    /// The median rate.
    pub rate_p50_bps: u64,
    /// The rate that the link is at or below for 95 % of the time.
    pub rate_p95_bps: u64,
    /// Highest rate; `u64::MAX` is unlimited.
    pub rate_max_bps: u64,
    /// Bytes that the link can carry; unlimited counts as 10^15 bit/s.
    pub capacity_bytes: u64,
    /// Time without any rate.
    pub outage_ns: u64,
    /// That time as a share of the whole.
    pub outage_fraction: f64,
    /// The outages, each from its start to before its end.
    pub outages: Vec<(u64, u64)>,
    /// Shortest one-way delay.
    pub delay_min_ns: u64,
    /// Median one-way delay.
    pub delay_median_ns: u64,
    /// Longest one-way delay.
    pub delay_max_ns: u64,
}

impl TraceStatistics {
    /// The statistics of one direction.
    #[must_use]
    pub fn of(trace: &Trace, direction: Direction) -> TraceStatistics {
        let duration_ns = trace.duration_ns();
        let rates = Weighted::new(trace, direction, |state| state.rate_bps);
        let delays = Weighted::new(trace, direction, |state| state.delay_ns);
        let bits = CapacityCurve::new(trace, direction).bits_between(0, duration_ns);
        let mean = u128::from(bits) * 1_000_000_000 / u128::from(duration_ns);
        let outages = outages(trace, direction);
        let outage_ns = outages
            .iter()
            .map(|(start_ns, end_ns)| end_ns - start_ns)
            .sum();
        TraceStatistics {
            duration_ns,
            rate_mean_bps: u64::try_from(mean).unwrap_or(u64::MAX),
            rate_min_bps: rates.at(0),
            rate_p5_bps: rates.at(50_000),
            rate_p50_bps: rates.at(500_000),
            rate_p95_bps: rates.at(950_000),
            rate_max_bps: rates.at(1_000_000),
            capacity_bytes: bits / 8,
            outage_ns,
            outage_fraction: fraction(outage_ns, duration_ns),
            outages,
            delay_min_ns: delays.at(0),
            delay_median_ns: delays.at(500_000),
            delay_max_ns: delays.at(1_000_000),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "for printing only")]
fn fraction(part_ns: u64, whole_ns: u64) -> f64 {
    part_ns as f64 / whole_ns as f64
}

/// The outages (rate 0) within the trace's own length, each as (start, end) in ns; the end is
/// the first moment at which the link carries something again, or the end of the trace.
#[must_use]
pub fn outages(trace: &Trace, direction: Direction) -> Vec<(u64, u64)> {
    outages_until(trace, direction, trace.duration_ns())
}

/// The outages that someone meets who plays the trace from its start until `end_ns`, which may
/// lie before or after the trace's own end: a looping trace repeats them, a held one keeps its
/// last row, a cleared one has none after its end.
#[must_use]
pub fn outages_until(trace: &Trace, direction: Direction, end_ns: u64) -> Vec<(u64, u64)> {
    let mut found: Vec<(u64, u64)> = Vec::new();
    let mut add = |start_ns: u64, until_ns: u64| {
        let until_ns = until_ns.min(end_ns);
        if start_ns >= until_ns {
            return;
        }
        match found.last_mut() {
            Some(last) if last.1 == start_ns => last.1 = until_ns,
            _ => found.push((start_ns, until_ns)),
        }
    };
    let spans: Vec<(u64, u64)> = spans(trace, direction)
        .filter(|(state, ..)| state.rate_bps == 0)
        .map(|(_, start_ns, until_ns)| (start_ns, until_ns))
        .collect();
    let duration_ns = trace.duration_ns();
    let loops = trace.metadata().end == EndPolicy::Loop && !spans.is_empty();
    let mut period_ns = 0_u64;
    loop {
        for &(start_ns, until_ns) in &spans {
            add(
                period_ns.saturating_add(start_ns),
                period_ns.saturating_add(until_ns),
            );
        }
        period_ns = period_ns.saturating_add(duration_ns);
        if !loops || period_ns >= end_ns {
            break;
        }
    }
    let ends_out = spans
        .last()
        .is_some_and(|&(_, until_ns)| until_ns == duration_ns);
    if trace.metadata().end == EndPolicy::Hold && ends_out {
        add(duration_ns, end_ns);
    }
    found
}

/// One direction's states as (state, start, end).
fn spans(trace: &Trace, direction: Direction) -> impl Iterator<Item = (LinkState, u64, u64)> + '_ {
    let ends = trace.states().skip(1).map(|(t_ns, _)| t_ns);
    let ends = ends.chain(std::iter::once(trace.duration_ns()));
    trace
        .states()
        .zip(ends)
        .map(move |((start_ns, [down, up]), end_ns)| match direction {
            Direction::Down => (down, start_ns, end_ns),
            Direction::Up => (up, start_ns, end_ns),
        })
}

/// Values with the time for which they hold, in order of value.
struct Weighted {
    /// (value, time at or below it).
    cumulated: Vec<(u64, u64)>,
    total_ns: u64,
}

impl Weighted {
    fn new(trace: &Trace, direction: Direction, value: fn(&LinkState) -> u64) -> Weighted {
        let mut cumulated: Vec<(u64, u64)> = spans(trace, direction)
            .map(|(state, start_ns, until_ns)| (value(&state), until_ns - start_ns))
            .collect();
        cumulated.sort_unstable();
        let mut total_ns = 0;
        for (_, time_ns) in &mut cumulated {
            total_ns += *time_ns;
            *time_ns = total_ns;
        }
        Weighted {
            cumulated,
            total_ns,
        }
    }

    /// The smallest value that at least `ppm` / 10^6 of the time is at or below.
    fn at(&self, ppm: u32) -> u64 {
        let wanted = u128::from(self.total_ns) * u128::from(ppm);
        let index = self
            .cumulated
            .partition_point(|&(_, time_ns)| u128::from(time_ns) * 1_000_000 < wanted)
            .min(self.cumulated.len() - 1);
        self.cumulated[index].0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::control::{self, Link};

    fn with_end(end: EndPolicy, steps: &[(u64, u64)]) -> Trace {
        let trace = control::step(Link::new(0, 3, 0), steps).unwrap();
        let mut metadata = trace.metadata().clone();
        metadata.end = end;
        Trace::new(metadata, trace.rows().to_vec()).unwrap()
    }

    #[test]
    fn statistics_are_weighted_by_time_not_by_rows() {
        let second = 1_000_000_000;
        let steps = [
            (4 * second, 0),
            (second, 800),
            (second, 1600),
            (94 * second, 8000),
        ];
        let statistics = TraceStatistics::of(&with_end(EndPolicy::Hold, &steps), Direction::Down);
        assert_eq!(statistics.rate_min_bps, 0);
        assert_eq!(statistics.rate_p5_bps, 800);
        assert_eq!(statistics.rate_p50_bps, 8000);
        assert_eq!(statistics.rate_max_bps, 8000);
        assert_eq!(statistics.capacity_bytes, 100 + 200 + 94_000);
        assert_eq!(statistics.rate_mean_bps, 8 * 94_300 / 100);
        assert_eq!(statistics.outage_ns, 4 * second);
        assert!((statistics.outage_fraction - 0.04).abs() < 1e-12);
        assert_eq!(statistics.outages, [(0, 4 * second)]);
        assert_eq!((statistics.delay_min_ns, statistics.delay_max_ns), (3, 3));
    }

    #[test]
    fn rows_of_one_outage_are_one_interval() {
        let trace = with_end(EndPolicy::Hold, &[(5, 1), (5, 0), (5, 0), (5, 1), (5, 0)]);
        assert_eq!(outages(&trace, Direction::Up), [(5, 15), (20, 25)]);
    }

    #[test]
    fn outages_go_on_after_the_end_as_the_policy_says() {
        let steps = [(5, 0), (5, 1), (5, 0)];
        let until = |end, end_ns| outages_until(&with_end(end, &steps), Direction::Down, end_ns);
        assert_eq!(until(EndPolicy::Hold, 40), [(0, 5), (10, 40)]);
        assert_eq!(until(EndPolicy::Clear, 40), [(0, 5), (10, 15)]);
        assert_eq!(until(EndPolicy::Loop, 40), [(0, 5), (10, 20), (25, 35)]);
        assert_eq!(until(EndPolicy::Loop, 12), [(0, 5), (10, 12)]);
        assert_eq!(until(EndPolicy::Hold, 3), [(0, 3)]);
    }
}
