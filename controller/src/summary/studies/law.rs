//! The laws of studies as the trials show them: medians, the flip of the best cut, its slope.

use std::collections::BTreeMap;

use hexloop_traces::stream;
use hexloop_workloads::study::{Arm, RowRecord, TrialRecord, split};

use super::{Findings, placement, rates_of};
use crate::format::count_to_f64;
use hexloop_statistics::below;

/// Resamples that an interval is taken from.
const RESAMPLES: u32 = 400;

pub(in crate::summary) use crate::format::median;

/// Where the best cut flips.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::summary) struct Flip {
    /// The rate at which both ends of the range of cuts take the same time.
    pub(in crate::summary) rate_bps: f64,
    /// That over the critical rate, and the ends of its 95 % interval.
    pub(in crate::summary) over_critical: Option<[f64; 3]>,
}

/// Time of a token after the first: the median over all of some trials.
pub(in crate::summary) fn token_ns(trials: &[&TrialRecord]) -> Option<u64> {
    median(trials.iter().flat_map(|trial| trial.gaps_ns()))
}

/// Begin, end and tokens of each group of trials that were under way together.
pub(in crate::summary) fn spans_ns(trials: &[&TrialRecord]) -> BTreeMap<u32, (u64, u64, u64)> {
    let mut spans = BTreeMap::new();
    for trial in trials {
        let end = trial.token_ns.last().copied().unwrap_or(trial.started_ns);
        let tokens = u64::try_from(trial.tokens.len()).unwrap_or(0);
        let span = spans
            .entry(trial.group)
            .or_insert((trial.started_ns, end, 0));
        *span = (
            span.0.min(trial.started_ns),
            span.1.max(end),
            span.2 + tokens,
        );
    }
    spans
}

/// Tokens per second of a group, the median.
pub(in crate::summary) fn throughput(trials: &[&TrialRecord]) -> Option<f64> {
    let spans = spans_ns(trials);
    let mut rates: Vec<f64> = spans
        .values()
        .filter(|(begin, end, _)| end > begin)
        .map(|(begin, end, tokens)| count_to_f64(*tokens) * 1e9 / count_to_f64(end - begin))
        .collect();
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied()
}

/// A straight line through some points by least squares: its value at 0 and its slope.
pub(in crate::summary) fn line(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    let count = points.iter().map(|_| 1.0).sum::<f64>();
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
    let spread: f64 = points
        .iter()
        .map(|(x, _)| (x - mean_x) * (x - mean_x))
        .sum();
    let both: f64 = points
        .iter()
        .map(|(x, y)| (x - mean_x) * (y - mean_y))
        .sum();
    (spread > 0.0).then(|| {
        let slope = both / spread;
        (mean_y - slope * mean_x, slope)
    })
}

/// The arm with the fewest layers on the first node, and the one with all, of those with one request
/// under way.
pub(in crate::summary) fn corner_arms<'a>(findings: &Findings<'a>) -> Option<[&'a Arm; 2]> {
    let (least, all) = split::corners(&findings.plan.study)?;
    let alone = |cut: u32| {
        let arms = findings.plan.study.arms.iter();
        arms.filter(|arm| arm.in_flight() == 1)
            .find(|arm| arm.first_cut() == cut)
    };
    Some([alone(least)?, alone(all)?])
}

/// The time of some trials that a choice is made by.
type Time = fn(&[&TrialRecord]) -> Option<u64>;

/// Trials of both corners of a row.
pub(in crate::summary) struct Corners<'a> {
    /// With as few layers as there are on the first node, by rate.
    pub(in crate::summary) least: BTreeMap<u64, Vec<&'a TrialRecord>>,
    /// With all of them, at any rate: nothing crosses the link.
    pub(in crate::summary) whole: Vec<&'a TrialRecord>,
    /// What both are compared by.
    pub(in crate::summary) time: Time,
}

impl Corners<'_> {
    /// The rate at which both take the same time: the time of the split is `a + b / R`.
    fn crossing_bps(&self) -> Option<f64> {
        let points: Option<Vec<(f64, f64)>> = self
            .least
            .iter()
            .map(|(rate, trials)| {
                let time = count_to_f64((self.time)(trials)?);
                Some((1.0 / count_to_f64((*rate).max(1)), time))
            })
            .collect();
        let (at_once, per_inverse_rate) = line(&points?)?;
        let whole = count_to_f64((self.time)(&self.whole)?);
        let crosses = whole > at_once && per_inverse_rate > 0.0;
        crosses.then(|| per_inverse_rate / (whole - at_once))
    }
}

/// Where the best cut of a row flips, by its trials; `None` where it does not.
pub(in crate::summary) fn flip(
    findings: &Findings<'_>,
    row: &RowRecord,
    seed: u64,
) -> Option<Flip> {
    if let Some(corners) = placement::corners(findings, row) {
        return flip_of(&corners, findings.critical_rate_bps(row), seed);
    }
    let [least, whole] = corner_arms(findings)?;
    let corners = Corners {
        least: findings.by_rate(row.round_trip_ns, least),
        whole: findings
            .by_rate(row.round_trip_ns, whole)
            .into_values()
            .flatten()
            .collect(),
        time: token_ns,
    };
    flip_of(&corners, findings.critical_rate_bps(row), seed)
}

/// Where two corners take the same time, and that over the critical rate.
pub(in crate::summary) fn flip_of(
    corners: &Corners<'_>,
    critical_rate_bps: Option<u64>,
    seed: u64,
) -> Option<Flip> {
    let rate_bps = corners.crossing_bps()?;
    let critical = critical_rate_bps.map(count_to_f64);
    let over_critical = critical.and_then(|critical| {
        let [low, high] = interval(corners, seed)?;
        Some([rate_bps / critical, low / critical, high / critical])
    });
    Some(Flip {
        rate_bps,
        over_critical,
    })
}

/// The middle 95 % of the crossing when trials are drawn again, each cell from its own.
fn interval(corners: &Corners<'_>, seed: u64) -> Option<[f64; 2]> {
    let mut random = stream(seed, "resamples of studies");
    let mut crossings = Vec::new();
    for _ in 0..RESAMPLES {
        let mut draw = |trials: &Vec<_>| {
            let drawn = (0..trials.len()).map(|_| below(&mut random, trials.len()));
            let drawn = drawn.filter_map(|index| trials.get(index).copied());
            drawn.collect::<Vec<&TrialRecord>>()
        };
        let again = Corners {
            least: corners
                .least
                .iter()
                .map(|(rate, trials)| (*rate, draw(trials)))
                .collect(),
            whole: draw(&corners.whole),
            time: corners.time,
        };
        crossings.push(again.crossing_bps()?);
    }
    crossings.sort_by(f64::total_cmp);
    let at = |per_mille: usize| crossings.get(crossings.len() * per_mille / 1000).copied();
    Some([at(25)?, at(975)?])
}

/// For each rate of a row, the time of a token with each arm that has one request under way.
pub(in crate::summary) fn times_by_rate<'a>(
    findings: &Findings<'a>,
    row: &RowRecord,
) -> BTreeMap<u64, Vec<(&'a Arm, u64)>> {
    let arms = findings.plan.study.arms.iter();
    let coding = findings.plan.study.coding();
    let arms: Vec<&Arm> = arms
        .filter(|arm| arm.in_flight() == 1 && arm.coding() == coding)
        .collect();
    let by_arm: Vec<_> = arms
        .iter()
        .map(|arm| (*arm, findings.by_rate(row.round_trip_ns, arm)))
        .collect();
    let of_rate = |rate: u64| {
        let times = by_arm
            .iter()
            .filter_map(|(arm, rates)| Some((*arm, token_ns(rates.get(&rate)?)?)));
        (rate, times.collect())
    };
    let rates = rates_of(findings, row.round_trip_ns);
    rates.into_iter().map(of_rate).collect()
}

/// How the time of a token rises with each layer on the first node, for each setting: nanoseconds
/// per layer, and the largest distance from the line over the time there.
pub(in crate::summary) fn slopes(findings: &Findings<'_>) -> Vec<(f64, f64)> {
    let of_setting = |times: Vec<(&Arm, u64)>| {
        let parted = times.iter().filter(|(arm, _)| !arm.is_whole());
        let points = parted.map(|(arm, time)| (f64::from(arm.first_cut()), count_to_f64(*time)));
        let points: Vec<(f64, f64)> = points.collect();
        let (start, slope) = line(&points)?;
        let distance = |(cut, time): &(f64, f64)| (time - start - slope * cut).abs() / time;
        let largest = points.iter().map(distance).fold(0.0, f64::max);
        (points.len() > 2).then_some((slope, largest))
    };
    let rows = findings.rows.iter();
    rows.flat_map(|row| times_by_rate(findings, row).into_values())
        .filter_map(of_setting)
        .collect()
}
