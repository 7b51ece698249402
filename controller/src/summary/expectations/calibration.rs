//! What a calibration claims of the machine beside its traces: constant rates, and power without work.

use super::super::energy::idle;
use super::super::rates::{LEAST_FILLED, TOLERANCE, in_bits, listed};
use super::super::{ConstantRate, Following, TrafficSummary};
use super::evidence::Evidence;
use super::{Judgement, all_of, judgement, unjudged};
use crate::results::Results;

/// How far power may vary without work: its standard deviation over its mean.
const IDLE_VARIATION: f64 = 0.05;

/// Every constant rate that a bulk phase filled was delivered. One that TCP did not fill says nothing of the link.
pub(super) fn constant_rates(phase: &str, summaries: &[TrafficSummary]) -> Judgement {
    let of_phase = summaries.iter().filter(|summary| summary.phase == phase);
    let parts: Vec<(String, &Following)> = of_phase
        .flat_map(|summary| {
            let link = &summary.link;
            let following = summary.following.iter();
            following.map(move |one| (format!("{link}_{}", one.direction), one))
        })
        .filter(|(_, one)| !one.rates.is_empty())
        .collect();
    if parts.is_empty() {
        let detail = format!("phase {phase} was not played, or no trace in it keeps a rate");
        return unjudged(&[], detail);
    }
    all_of(
        parts
            .into_iter()
            .map(|(name, one)| (name, rates_of(&one.rates))),
    )
}

fn rates_of(rates: &[ConstantRate]) -> Judgement {
    let which = |passes: Option<bool>| -> Vec<f64> {
        let these = rates.iter().filter(|rate| rate.passes == passes);
        these.filter_map(|rate| rate.asked_mbps).collect()
    };
    let [passed, failed, unknown] = [Some(true), Some(false), None].map(which);
    let mut details = Vec::new();
    for (rates, what) in [
        (&passed, "delivered"),
        (&failed, "not delivered"),
        (&unknown, "filled in too few windows"),
    ] {
        if !rates.is_empty() {
            details.push(format!("{what}: {}", listed(rates)));
        }
    }
    let free = rates.iter().find(|rate| rate.asked_mbps.is_none());
    if let Some((mean, most)) = free.and_then(|rate| rate.delivered_mbps.zip(rate.highest_mbps)) {
        details.push(format!(
            "without a limit {} crossed, at most {} in a window",
            in_bits(mean),
            in_bits(most)
        ));
    }
    let judged = rates.iter().filter(|rate| rate.passes.is_some());
    let fewest = judged.map(|rate| rate.backlogged_windows).min();
    let effect = format!("{:.0} % more or less than a rate", TOLERANCE * 100.0);
    let evidence = Evidence::new(fewest.unwrap_or(0), "windows of a rate", effect);
    let held = fewest.map(|_| failed.is_empty());
    let mut judged = match held {
        Some(_) => judgement(held, &[], evidence, &details.join("; ")),
        None => unjudged(
            &[],
            format!("{}; {LEAST_FILLED} are needed", details.join("; ")),
        ),
    };
    for rate in rates {
        if let (Some(mbps), Some(share)) = (rate.asked_mbps, rate.delivered_over_asked) {
            let name = format!("delivered_over_{mbps}_mbps");
            judged.numbers.insert(name, share);
        }
    }
    judged
}

/// Power before the first phase varies little.
pub(super) fn idle_power(results: &Results) -> Judgement {
    let found = match idle::before_phases(results) {
        Ok(found) => found,
        Err(why) => return unjudged(&[], format!("idle power is unavailable: {why}")),
    };
    let variation = found.variation();
    let bound = IDLE_VARIATION * 100.0;
    let detail = format!(
        "mean {:.2} W, standard deviation {:.3} W, which is {:.2} % of {bound:.0} % allowed",
        found.mean_w,
        found.deviation_w,
        variation * 100.0
    );
    let effect = format!("a standard deviation of more than {bound:.0} % of the mean");
    let evidence = Evidence::new(found.pieces, "half seconds", effect);
    let mut judged = judgement(Some(variation <= IDLE_VARIATION), &[], evidence, &detail);
    judged.numbers.extend([
        ("idle_mean_w".to_owned(), found.mean_w),
        ("idle_variation".to_owned(), variation),
    ]);
    judged
}
