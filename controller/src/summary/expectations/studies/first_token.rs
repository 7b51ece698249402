//! The claim about first tokens, of every technique that says when they should be there.

use hexloop_workloads::study::Technique;

use super::{Evidence, Judgement, TOLERANCE, kv, multimodal, told, unjudged, with_numbers, within};
use crate::format::{count_to_f64, length};
use crate::summary::studies::Findings;
use hexloop_statistics::mean_interval;

/// The time of the first token is what it should be by costs, sizes and the rate, on average over all arms
/// and settings.
pub(super) fn is_sum(findings: &Findings<'_>) -> Judgement {
    let ratios = match findings.plan.study.technique() {
        Technique::Multimodal => multimodal::over_expected(findings),
        _ => kv::over_expected(findings),
    };
    let Some(ratios) = ratios else {
        return unjudged(&[], "no costs were measured".to_owned());
    };
    let Some(ratio) = mean_interval(&ratios) else {
        return unjudged(&[], "too few settings".to_owned());
    };
    let distances: Vec<f64> = ratios.iter().map(|ratio| (ratio - 1.0).abs()).collect();
    let farthest = distances.iter().copied().fold(0.0, f64::max);
    // Arms that are too slow do not make up for others that are too fast.
    let Some([apart, apart_low, apart_high]) = mean_interval(&distances) else {
        return unjudged(&[], "too few settings".to_owned());
    };
    let detail = format!(
        "the first token took {} of what bytes and costs add up to (95 %), {:.1} % off on average \
         ({:.1} to {:.1}), at most {:.1} %",
        told(ratio),
        apart * 100.0,
        apart_low * 100.0,
        apart_high * 100.0,
        farthest * 100.0
    );
    let numbers = [
        ("time_over_expected", ratio[0]),
        ("time_over_expected_low", ratio[1]),
        ("time_over_expected_high", ratio[2]),
        ("cells", count_to_f64(length(&ratios))),
        ("mean_distance", apart),
        ("largest_distance", farthest),
    ];
    let held = match within(ratio) {
        Some(true) if apart_high <= TOLERANCE => Some(true),
        Some(true) if apart_low <= TOLERANCE => None,
        Some(_) => Some(false),
        None => None,
    };
    let evidence = Evidence::ratio(length(&ratios), "arms and settings", ratio);
    with_numbers(held, &numbers, evidence, &detail)
}
