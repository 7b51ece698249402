//! Claims about where a model is cut in two: what a layer more costs, and which cut is best.

use hexloop_workloads::study::{Arm, RowRecord};

use super::super::all_of;
use super::{
    Evidence, Judgement, LEAST_TRIALS, RATES_EACH_SIDE, RESOLUTION, TOLERANCE, brackets,
    fewest_of_row, judgement, told, trials_at, unjudged, with_numbers, within,
};
use crate::format::{count_to_f64, length, ns_to_ms};
use crate::summary::studies::Findings;
use crate::summary::studies::law;
use hexloop_statistics::mean_interval;

/// The time of a token is a line in the number of layers on the first node, as steep as the costs say.
pub(super) fn linear_in_cut(findings: &Findings<'_>) -> Judgement {
    let slopes = law::slopes(findings);
    let [device, edge] = findings.costs.as_slice() else {
        return unjudged(&[], "costs of two nodes are needed".to_owned());
    };
    let asked = count_to_f64(device.layer_ns) - count_to_f64(edge.layer_ns);
    let values: Vec<f64> = slopes.iter().map(|(slope, _)| *slope).collect();
    let slope = mean_interval(&values).filter(|_| asked.abs() >= 1.0);
    let Some([mean, low, high]) = slope else {
        return unjudged(&[], "too few settings, or layers cost the same".to_owned());
    };
    let count = count_to_f64(length(&slopes));
    let ratio = over_signed([mean, low, high], asked);
    let bend = slopes.iter().map(|(_, bend)| bend).sum::<f64>() / count;
    let held = within(ratio).map(|held| held && bend <= TOLERANCE);
    let detail = format!(
        "slope {:.3} ms per layer, {:.3} by the costs: {} (95 %), on average at most {:.1} % off the \
         line",
        mean / 1e6,
        asked / 1e6,
        told(ratio),
        bend * 100.0
    );
    let numbers = [
        ("slope_over_costs", ratio[0]),
        ("slope_over_costs_low", ratio[1]),
        ("slope_over_costs_high", ratio[2]),
        ("settings", count),
        ("mean_distance_from_line", bend),
    ];
    let evidence = Evidence::ratio(length(&slopes), "settings", ratio);
    with_numbers(held, &numbers, evidence, &detail)
}

/// A mean with its interval over a number that may be negative, which turns the ends of the interval around.
pub(super) fn over_signed([mean, low, high]: [f64; 3], by: f64) -> [f64; 3] {
    let (one, other) = (low / by, high / by);
    [mean / by, one.min(other), one.max(other)]
}

/// Which end of the range of cuts is best flips at the critical rate.
pub(super) fn best_cut_flips(findings: &Findings<'_>, seed: u64) -> Judgement {
    let rows = findings.rows.iter();
    let bracketing: Vec<&&RowRecord> = rows.filter(|row| brackets(findings, row)).collect();
    if bracketing.is_empty() {
        let detail = format!(
            "no round trip has {RATES_EACH_SIDE} rates on either side of its critical one: splitting \
             saves too little on these nodes, or the grid is too small"
        );
        let rows = length(&findings.rows);
        let evidence = Evidence::new(rows, "round trips", "one that has");
        return judgement(Some(false), &[("bracketing_rows", 0)], evidence, &detail);
    }
    all_of(bracketing.into_iter().map(|row| {
        let name = format!("round trip {} ms", ns_to_ms(row.round_trip_ns));
        (name, flip_of_row(findings, row, seed))
    }))
}

fn flip_of_row(findings: &Findings<'_>, row: &RowRecord, seed: u64) -> Judgement {
    let Some(flip) = law::flip(findings, row, seed) else {
        let detail = "what the trials took does not cross at any rate";
        let evidence = Evidence::new(
            trials_at(findings, row.round_trip_ns),
            "trials",
            "a crossing",
        );
        return judgement(Some(false), &[], evidence, detail);
    };
    let (Some(over), Some(critical)) = (flip.over_critical, findings.critical_rate_bps(row)) else {
        return unjudged(&[], "there is no interval".to_owned());
    };
    let times = law::times_by_rate(findings, row);
    let critical = count_to_f64(critical);
    let (mut judged, mut corners) = (0_u64, 0_u64);
    for (rate, times) in &times {
        let over = count_to_f64(*rate) / critical;
        if (over - 1.0).abs() <= TOLERANCE {
            continue;
        }
        judged += 1;
        corners += u64::from(is_best(times, over < 1.0, findings));
    }
    let held = match within(over) {
        Some(held) if fewest_of_row(findings, row) >= LEAST_TRIALS => {
            Some(held && corners == judged)
        }
        _ => None,
    };
    let detail = format!(
        "flips at {:.3} Mbit/s, {:.3} by the formula: {} (95 %); the end that the formula names \
         is best at {corners} of {judged} rates",
        flip.rate_bps / 1e6,
        critical / 1e6,
        told(over)
    );
    let numbers = [
        ("flip_over_critical", over[0]),
        ("flip_over_critical_low", over[1]),
        ("flip_over_critical_high", over[2]),
        ("rates", count_to_f64(judged)),
        ("rates_with_that_end_best", count_to_f64(corners)),
    ];
    let evidence = Evidence::ratio(trials_at(findings, row.round_trip_ns), "trials", over);
    with_numbers(held, &numbers, evidence, &detail)
}

/// Whether one end of the range of cuts is the best arm of a setting, as far as that can be told.
fn is_best(times: &[(&Arm, u64)], whole: bool, findings: &Findings<'_>) -> bool {
    let Some([least, all]) = law::corner_arms(findings) else {
        return false;
    };
    let named = if whole { all } else { least };
    let best = times.iter().map(|(_, time)| *time).min().unwrap_or(0);
    let of_named = times.iter().find(|(arm, _)| *arm == named);
    of_named.is_some_and(|(_, time)| count_to_f64(*time) <= count_to_f64(best) * (1.0 + RESOLUTION))
}

/// All layers on the first node are best where no rate is critical.
pub(super) fn never_splits(findings: &Findings<'_>) -> Judgement {
    let rows = findings.rows.iter();
    let without: Vec<&&RowRecord> = rows
        .filter(|row| findings.critical_rate_bps(row).is_none())
        .collect();
    let (mut settings, mut whole_best) = (0_u64, 0_u64);
    for row in &without {
        for times in law::times_by_rate(findings, row).values() {
            settings += 1;
            whole_best += u64::from(is_best(times, true, findings));
        }
    }
    let numbers = [
        ("rows", length(&without)),
        ("settings", settings),
        ("settings_with_all_on_the_first_best", whole_best),
    ];
    if without.is_empty() {
        let detail = "every round trip has a critical rate: none is long enough";
        let rows = length(&findings.rows);
        let evidence = Evidence::new(rows, "round trips", "one without a critical rate");
        return judgement(Some(false), &numbers, evidence, detail);
    }
    let detail = format!(
        "{} round trips without a critical rate: all layers on the first node are best at {whole_best} \
         of {settings} rates",
        without.len()
    );
    let trials: u64 = without
        .iter()
        .map(|row| trials_at(findings, row.round_trip_ns))
        .sum();
    let effect = format!("another cut that is faster by {:.0} %", RESOLUTION * 100.0);
    judgement(
        (settings > 0).then_some(whole_best == settings),
        &numbers,
        Evidence::new(trials, "trials", effect),
        &detail,
    )
}
