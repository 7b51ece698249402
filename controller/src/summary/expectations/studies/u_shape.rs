//! Claims about U-shaped splits: what they put on the link beside a two-way split.

use std::collections::BTreeMap;

use hexloop_workloads::study::split::begin_bytes;
use hexloop_workloads::study::{Arm, TrialRecord};
use hexloop_workloads::wire::HEADER_BYTES;

use super::{Evidence, Judgement, unjudged, with_numbers};
use crate::format::{count_to_f64, length};
use crate::summary::studies::Findings;

/// Bytes of the states of a trial in both directions: all but headers, the opening, and tokens that came
/// back.
fn states_bytes(trial: &TrialRecord) -> u64 {
    let tokens_back = match trial.arm {
        Arm::UShaped(_) => 0,
        _ => 4 * length(&trial.tokens),
    };
    let bytes = trial.hops.iter().map(|hop| {
        let frames = hop.frames_up + hop.frames_down;
        (hop.up + hop.down).saturating_sub(frames * HEADER_BYTES)
    });
    bytes
        .sum::<u64>()
        .saturating_sub(begin_bytes(1) + tokens_back)
}

/// Each U's states are exactly twice those of the two-way split after the same layer, for the same prompt at the
/// same setting.
pub(super) fn doubles_states(findings: &Findings<'_>) -> Judgement {
    let mut two_way: BTreeMap<(u64, u64, u32, u32), u64> = BTreeMap::new();
    let key =
        |trial: &TrialRecord, first| (trial.round_trip_ns, trial.rate_bps, trial.prompt, first);
    for trial in &findings.trials {
        if let Arm::Split { .. } = trial.arm {
            let first = trial.arm.first_cut();
            two_way.insert(key(trial, first), states_bytes(trial));
        }
    }
    let (mut pairs, mut differing, mut of_u, mut of_two_way) = (0_u64, 0_u64, 0_u64, 0_u64);
    for trial in &findings.trials {
        let Arm::UShaped(shape) = trial.arm else {
            continue;
        };
        let Some(beside) = two_way.get(&key(trial, shape.first)) else {
            continue;
        };
        let own = states_bytes(trial);
        pairs += 1;
        differing += u64::from(own != 2 * beside);
        of_u += own;
        of_two_way += beside;
    }
    if pairs == 0 {
        return unjudged(&[], "no U was tried beside a two-way split".to_owned());
    }
    let ratio = count_to_f64(of_u) / count_to_f64(of_two_way.max(1));
    let numbers = [
        ("pairs", count_to_f64(pairs)),
        ("differing_pairs", count_to_f64(differing)),
        ("u_over_two_way", ratio),
    ];
    let detail = format!(
        "{pairs} pairs of trials: {of_u} bytes of states in a U, {of_two_way} in two ways, {ratio:.4} times as many; \
         {differing} pairs are not exactly double"
    );
    let evidence = Evidence::equality(pairs, "pairs of trials", "one byte");
    with_numbers(Some(differing == 0), &numbers, evidence, &detail)
}

#[cfg(test)]
mod tests;
