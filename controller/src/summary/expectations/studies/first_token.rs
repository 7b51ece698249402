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
    let held = holds(ratio, [apart_low, apart_high]);
    let evidence = Evidence::ratio(length(&ratios), "arms and settings", ratio);
    with_numbers(held, &numbers, evidence, &detail)
}

/// Whether both the mean ratio and the mean distance from 1 are within the tolerance; one of them that is surely not
/// refutes, whatever the other leaves open.
fn holds(ratio: [f64; 3], [apart_low, apart_high]: [f64; 2]) -> Option<bool> {
    match within(ratio) {
        Some(false) => Some(false),
        _ if apart_low > TOLERANCE => Some(false),
        Some(true) if apart_high <= TOLERANCE => Some(true),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arms_that_are_surely_off_refute_though_their_mean_decides_nothing() {
        let wide = [1.0, 1.0 - 3.0 * TOLERANCE, 1.0 + 3.0 * TOLERANCE];
        let narrow = [1.0, 1.0 - TOLERANCE / 2.0, 1.0 + TOLERANCE / 2.0];
        let (off, near) = ([1.5, 3.0], [0.1, 0.5]);
        let of_tolerance = |ends: [f64; 2]| ends.map(|end| end * TOLERANCE);
        assert_eq!(holds(wide, of_tolerance(off)), Some(false));
        assert_eq!(holds(wide, of_tolerance(near)), None);
        assert_eq!(holds(narrow, of_tolerance(off)), Some(false));
        assert_eq!(holds(narrow, of_tolerance([0.5, 1.5])), None);
        assert_eq!(holds(narrow, of_tolerance(near)), Some(true));
    }
}
