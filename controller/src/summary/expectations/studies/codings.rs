//! Claims about how hidden states are coded: what a coding takes off the bytes of a prompt it takes off
//! the time of its first token.

use std::collections::BTreeMap;

use hexloop_workloads::study::split;

use super::{Evidence, Judgement, told, unjudged, with_numbers, within};
use crate::format::{count_to_f64, length};
use crate::summary::studies::Findings;
use crate::summary::studies::law;
use hexloop_statistics::mean_interval;

/// Fewest prompts at settings that a mean's interval is told from.
const LEAST_LINES: usize = 4;

/// Fewest codings that a line is drawn through.
const LEAST_CODINGS: usize = 3;

/// One prompt at one setting with one division of the layers; what differs is the coding.
type Asked<'a> = (u64, u64, &'a [u32], u32);

pub(super) fn save_link_time(findings: &Findings<'_>) -> Judgement {
    let prompt_tokens = u64::from(findings.plan.study.prompt_tokens);
    let mut lines: BTreeMap<Asked<'_>, Vec<(f64, f64)>> = BTreeMap::new();
    for trial in &findings.trials {
        let arm = &trial.arm;
        let Some(first) = trial.token_ns.first() else {
            continue;
        };
        if arm.is_whole() || arm.in_flight() != 1 {
            continue;
        }
        let (coding, width) = (arm.coding(), findings.width);
        let body = prompt_tokens * coding.token_bytes(width) + coding.opening_bytes(width);
        let bytes = count_to_f64(split::wire_bytes_of_frame(body));
        let took = count_to_f64(first.saturating_sub(trial.started_ns));
        let asked = (
            trial.round_trip_ns,
            trial.rate_bps,
            arm.ends(),
            trial.prompt,
        );
        lines.entry(asked).or_default().push((bytes, took));
    }
    let ratios: Vec<f64> = lines
        .iter()
        .filter(|(_, points)| points.len() >= LEAST_CODINGS)
        .filter_map(|((_, rate_bps, ..), points)| {
            let (_, ns_per_byte) = law::line(points)?;
            Some(ns_per_byte * count_to_f64(*rate_bps) / 8e9)
        })
        .collect();
    let interval = mean_interval(&ratios).filter(|_| ratios.len() >= LEAST_LINES);
    let Some(ratio) = interval else {
        let detail = format!(
            "{} prompts at settings with {LEAST_CODINGS} codings or more are too few",
            ratios.len()
        );
        return unjudged(&[("lines", length(&ratios))], detail);
    };
    let detail = format!(
        "what a byte less takes off the time of the first token, over its time on the link: {} (95 %)",
        told(ratio)
    );
    let numbers = [
        ("time_over_link_time", ratio[0]),
        ("time_over_link_time_low", ratio[1]),
        ("time_over_link_time_high", ratio[2]),
        ("lines", count_to_f64(length(&ratios))),
    ];
    let evidence = Evidence::ratio(length(&ratios), "prompts at settings", ratio);
    with_numbers(within(ratio), &numbers, evidence, &detail)
}

#[cfg(test)]
mod tests;
