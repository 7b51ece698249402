//! Constant rates: which of those that traces keep for a while were delivered as asked, and how much crosses a
//! link while its trace has no limit.

use std::collections::BTreeMap;

use hexloop_proto::LinkWindow;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::TrafficSummary;
use crate::format::{bit_rate, count_to_f64, length, ratio, rounded};

/// A trace keeps a rate that is the same in so many windows one after the other.
const LEAST_IN_A_ROW: usize = 10;

/// Fewest filled windows that a rate is judged by.
pub(super) const LEAST_FILLED: u64 = 10;

/// How far what was delivered may be from a constant rate, as a share of it.
pub(super) const TOLERANCE: f64 = 0.05;

/// Windows count a rate without a limit as 10^15 bit/s, and partly where it begins or ends in them.
const WITHOUT_LIMIT_BPS: u128 = 1_000_000_000_000;

/// A rate that the trace keeps for ten windows or more, in one direction of a bulk phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ConstantRate {
    /// What the trace asks, in Mbit/s; null where it has no limit.
    pub asked_mbps: Option<f64>,
    /// Windows with that rate.
    pub windows: u64,
    /// Those in which the queue was never empty; of a rate without a limit none.
    pub backlogged_windows: u64,
    /// What was delivered on average, in Mbit/s: over the filled windows, or over all where there is no limit;
    /// null without such windows.
    pub delivered_mbps: Option<f64>,
    /// The most that was delivered in one of these windows, in Mbit/s.
    pub highest_mbps: Option<f64>,
    /// Bytes delivered over bytes asked.
    pub delivered_over_asked: Option<f64>,
    /// Whether that is within 5 %; null with fewer than ten filled windows, and without a limit.
    pub passes: Option<bool>,
}

/// The constant rates of all bulk phases together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RatesSummary {
    /// Rates that were delivered wherever they were filled, in Mbit/s, from the lowest on.
    pub passed_mbps: Vec<f64>,
    /// Rates that somewhere were filled and not delivered, likewise.
    pub failed_mbps: Vec<f64>,
    /// Rates that TCP filled nowhere, about which nothing is known, likewise.
    pub not_filled_mbps: Vec<f64>,
    /// The highest rate that passed, of those below the first that did not.
    pub highest_passed_mbps: Option<f64>,
    /// What crossed a link on average while its trace had no limit, the most of all phases, in Mbit/s.
    pub without_limit_mbps: Option<f64>,
    /// The most that did in one window.
    pub without_limit_highest_mbps: Option<f64>,
}

impl RatesSummary {
    /// In one sentence, without its full stop.
    #[must_use]
    pub fn in_words(&self) -> String {
        let mut words = match self.highest_passed_mbps {
            Some(mbps) => format!("highest constant rate passed {}", in_bits(mbps)),
            None => "no constant rate passed".to_owned(),
        };
        for (rates, what) in [
            (&self.failed_mbps, "not delivered"),
            (&self.not_filled_mbps, "not filled"),
        ] {
            if !rates.is_empty() {
                words = format!("{words}; {what}: {}", listed(rates));
            }
        }
        if let (Some(mean), Some(most)) = (self.without_limit_mbps, self.without_limit_highest_mbps)
        {
            words = format!(
                "{words}; without a limit {} crossed, at most {} in a window",
                in_bits(mean),
                in_bits(most)
            );
        }
        words
    }
}

/// `5.00 Mbit/s, 20.0 Mbit/s`.
pub(crate) fn listed(rates_mbps: &[f64]) -> String {
    let rates: Vec<String> = rates_mbps.iter().map(|mbps| in_bits(*mbps)).collect();
    rates.join(", ")
}

/// `5.00 Mbit/s`.
pub(crate) fn in_bits(mbps: f64) -> String {
    bit_rate(mbps * 1e6)
}

/// Whether the trace has no limit in a window, or not all the time.
pub(crate) fn is_without_limit(window: &LinkWindow) -> bool {
    bits_per_s(window.trace_bytes, window.length_ns) >= WITHOUT_LIMIT_BPS
}

fn bits_per_s(bytes: u64, length_ns: u64) -> u128 {
    u128::from(bytes) * 8_000_000_000 / u128::from(length_ns.max(1))
}

/// In Mbit/s, to a bit per second.
fn mbps(bytes: u64, length_ns: u64) -> Option<f64> {
    (length_ns > 0).then(|| rounded(count_to_f64(bytes) * 8e3 / count_to_f64(length_ns), 6))
}

/// The constant rates of the windows of one direction, in order of time, from the lowest rate on and the one without
/// a limit last. None where the rate changes most of the time.
pub(super) fn constant_rates(windows: &[&LinkWindow]) -> Vec<ConstantRate> {
    let same = |a: &&LinkWindow, b: &&LinkWindow| {
        // Whole bytes of a rate that is none in a window.
        a.trace_bytes.abs_diff(b.trace_bytes) <= 1
            && a.length_ns == b.length_ns
            && a.start_ns + a.length_ns == b.start_ns
    };
    // By kilobits per second, which whole bytes do not blur; everything without a limit is one.
    let mut rates: BTreeMap<u128, Vec<&LinkWindow>> = BTreeMap::new();
    for run in windows.chunk_by(same) {
        let [first, ..] = run else { continue };
        if run.len() < LEAST_IN_A_ROW || first.trace_bytes == 0 {
            continue;
        }
        let rate_bps = bits_per_s(first.trace_bytes, first.length_ns).min(WITHOUT_LIMIT_BPS);
        rates
            .entry((rate_bps + 500) / 1000)
            .or_default()
            .extend(run);
    }
    let kept: usize = rates.values().map(Vec::len).sum();
    if kept * 2 < windows.len() {
        return Vec::new();
    }
    rates
        .values()
        .map(|windows| constant_rate(windows))
        .collect()
}

fn constant_rate(windows: &[&LinkWindow]) -> ConstantRate {
    let unlimited = windows.iter().any(|window| is_without_limit(window));
    let filled: Vec<&LinkWindow> = windows.iter().copied().filter(|w| w.backlogged).collect();
    let counted: &[&LinkWindow] = if unlimited { windows } else { &filled };
    let sum = |of: &[&LinkWindow], what: fn(&LinkWindow) -> u64| -> u64 {
        of.iter().map(|window| what(window)).sum()
    };
    let delivered = sum(counted, |w| w.delivered_bytes);
    let asked = sum(counted, |w| w.trace_bytes);
    let each = counted
        .iter()
        .filter_map(|window| mbps(window.delivered_bytes, window.length_ns));
    let asked_mbps = mbps(
        sum(windows, |w| w.trace_bytes),
        sum(windows, |w| w.length_ns),
    );
    let delivered_over_asked = (!unlimited).then(|| ratio(delivered, asked)).flatten();
    let is_judged = length(&filled) >= LEAST_FILLED;
    ConstantRate {
        asked_mbps: asked_mbps
            .filter(|_| !unlimited)
            .map(|mbps| rounded(mbps, 3)),
        windows: length(windows),
        backlogged_windows: length(&filled),
        delivered_mbps: mbps(delivered, sum(counted, |w| w.length_ns)),
        highest_mbps: each.reduce(f64::max),
        delivered_over_asked,
        passes: delivered_over_asked
            .filter(|_| is_judged)
            .map(|share| (share - 1.0).abs() <= TOLERANCE),
    }
}

/// Those of all bulk phases on idle nodes; `None` where no trace keeps a rate. How a loaded machine fills a link is
/// judged by claims.
pub(super) fn summary(traffic: &[TrafficSummary]) -> Option<RatesSummary> {
    let all: Vec<&ConstantRate> = traffic
        .iter()
        .filter(|phase| !phase.load)
        .flat_map(|phase| &phase.following)
        .flat_map(|following| &following.rates)
        .collect();
    if all.is_empty() {
        return None;
    }
    let mut limited: Vec<(f64, Option<bool>)> = all
        .iter()
        .filter_map(|rate| Some((rate.asked_mbps?, rate.passes)))
        .collect();
    limited.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut found = RatesSummary::default();
    for same in limited.chunk_by(|a, b| a.0.total_cmp(&b.0).is_eq()) {
        let [(mbps, _), ..] = same else { continue };
        let has = |outcome| same.iter().any(|(_, passes)| *passes == outcome);
        if has(Some(false)) {
            found.failed_mbps.push(*mbps);
        } else if has(Some(true)) {
            found.passed_mbps.push(*mbps);
            if found.failed_mbps.is_empty() {
                found.highest_passed_mbps = Some(*mbps);
            }
        } else {
            found.not_filled_mbps.push(*mbps);
        }
    }
    let free = || all.iter().filter(|rate| rate.asked_mbps.is_none());
    found.without_limit_mbps = free()
        .filter_map(|rate| rate.delivered_mbps)
        .reduce(f64::max);
    found.without_limit_highest_mbps = free().filter_map(|rate| rate.highest_mbps).reduce(f64::max);
    Some(found)
}

#[cfg(test)]
mod tests {
    use hexloop_traces::Direction;

    use super::*;
    use crate::fixture::MS;
    use crate::summary::Following;

    /// Windows of 100 ms, so many of each rate in Mbit/s, and the share of it that was delivered; a rate of `None` has no
    /// limit, and 300 Mbit/s cross it.
    fn windows(stretches: &[(u64, Option<u64>, u64)]) -> Vec<LinkWindow> {
        let rates = stretches.iter().flat_map(|&(count, rate, percent)| {
            let count = usize::try_from(count).unwrap();
            std::iter::repeat_n((rate, percent), count)
        });
        let window = |(number, (rate, percent)): (u64, (Option<u64>, u64))| {
            let trace_bytes = rate.unwrap_or(1_000_000_000) * 12_500;
            let delivered_bytes = rate.map_or(300 * 12_500, |rate| rate * 125 * percent);
            LinkWindow {
                link: "a".to_owned(),
                direction: Direction::Up,
                start_ns: number * 100 * MS,
                length_ns: 100 * MS,
                trace_bytes,
                delivered_bytes,
                delivered_packets: 1,
                backlogged: rate.is_some() && percent > 0,
                queue_bytes: 1,
                dropped_packets: 0,
                lost_packets: 0,
                marked_packets: 0,
                duplicated_packets: 0,
                corrupted_packets: 0,
            }
        };
        (0..).zip(rates).map(window).collect()
    }

    fn of(stretches: &[(u64, Option<u64>, u64)]) -> Vec<ConstantRate> {
        let windows = windows(stretches);
        constant_rates(&windows.iter().collect::<Vec<_>>())
    }

    fn together(rates: Vec<ConstantRate>) -> RatesSummary {
        let following = Following {
            direction: "up".to_owned(),
            windows: 0,
            backlogged_windows: 0,
            delivered_over_trace: None,
            correlation: None,
            steps: 0,
            late_steps: 0,
            rates,
        };
        let phase = TrafficSummary {
            phase: "rates".to_owned(),
            job: "bulk".to_owned(),
            link: "a".to_owned(),
            load: false,
            congestion_control: Vec::new(),
            duration_s: None,
            following: vec![following],
            round_trips: None,
        };
        summary(&[phase]).unwrap()
    }

    #[test]
    fn each_rate_is_judged_by_itself_and_the_highest_below_the_first_failure_is_told() {
        let found = of(&[
            (14, Some(5), 100),
            (14, Some(20), 99),
            (14, Some(100), 90),
            (14, Some(200), 100),
            (14, Some(500), 0),
            (12, None, 0),
        ]);
        let outcomes: Vec<_> = found
            .iter()
            .map(|one| (one.asked_mbps, one.passes))
            .collect();
        let expected = [
            (Some(5.0), Some(true)),
            (Some(20.0), Some(true)),
            (Some(100.0), Some(false)),
            (Some(200.0), Some(true)),
            (Some(500.0), None),
            (None, None),
        ];
        assert_eq!(outcomes, expected);
        assert_eq!(found[5].delivered_mbps, Some(300.0));
        let all = together(found);
        assert_eq!(all.highest_passed_mbps, Some(20.0));
        assert_eq!(all.passed_mbps, [5.0, 20.0, 200.0]);
        assert_eq!(
            all.in_words(),
            "highest constant rate passed 20.0 Mbit/s; not delivered: 100 Mbit/s; not filled: 500 Mbit/s; \
             without a limit 300 Mbit/s crossed, at most 300 Mbit/s in a window"
        );
    }

    #[test]
    fn too_few_filled_windows_judge_no_rate() {
        let found = of(&[(9, Some(5), 100), (10, Some(5), 0)]);
        // Nineteen windows, of which nine were filled.
        assert_eq!((found[0].windows, found[0].passes), (19, None));
        assert_eq!(together(found).highest_passed_mbps, None);
    }

    #[test]
    fn a_rate_that_changes_all_the_time_is_not_constant() {
        let steps: Vec<(u64, Option<u64>, u64)> =
            (1..20).map(|rate| (5, Some(rate), 100)).collect();
        assert!(of(&steps).is_empty());
    }
}
