//! The claim about what leaks: the deeper the cut, the less of the prompt is read from its states.

use hexloop_workloads::coding::Coding;

use super::{Evidence, Judgement, unjudged, with_numbers};
use crate::format::{count_to_f64, length};
use crate::summary::studies::Findings;
use crate::summary::studies::leak::guessed;

/// Fewest tokens that a layer is judged by.
const LEAST_TOKENS: u64 = 30;

/// What each of the two readers is called.
const READERS: [&str; 2] = ["by the nearest embedding", "by a learnt map"];

/// Of exact states, whichever reader finds more finds no more after a deeper layer than after one before it, beyond
/// both intervals, and after the deepest fewer than after the first. A fall within the intervals decides nothing.
pub(super) fn falls_with_depth(findings: &Findings<'_>) -> Judgement {
    let exact: Vec<_> = guessed(findings)
        .into_iter()
        .filter(|(of, _)| of.coding == Coding::F32)
        .collect();
    // What is to be protected from is the better of the two.
    let found = |reader: usize| {
        exact
            .iter()
            .map(move |(_, both)| both[reader].tokens.same)
            .sum::<u64>()
    };
    let better = usize::from(found(1) > found(0));
    let shares: Option<Vec<[f64; 3]>> = exact
        .iter()
        .map(|(_, both)| both[better].interval())
        .collect();
    let shares = shares.filter(|shares| shares.len() > 1);
    let (Some(shares), Some(tokens)) = (
        shares,
        exact
            .iter()
            .map(|(_, both)| both[better].tokens.compared)
            .min(),
    ) else {
        let detail = "exact states after two layers or more are needed".to_owned();
        return unjudged(&[], detail);
    };
    let mut rises = 0_u64;
    for (index, earlier) in shares.iter().enumerate() {
        let later = shares.iter().skip(index + 1);
        let more = later.filter(|later| later[1] > earlier[2]).count();
        rises += u64::try_from(more).unwrap_or(u64::MAX);
    }
    let ends = shares.first().zip(shares.last());
    let falls = ends.is_some_and(|(first, last)| last[2] < first[1]);
    let is_less = ends.is_some_and(|(first, last)| last[0] < first[0]);
    let detectable = shares.windows(2).map(|pair| {
        let halves = pair.iter().map(|[_, low, high]| (high - low) / 2.0);
        halves.sum::<f64>()
    });
    let detectable = detectable.fold(0.0, f64::max);
    let told: Vec<String> = exact
        .iter()
        .zip(&shares)
        .map(|((of, both), [share, low, high])| {
            let other = both[1 - better].interval().map_or(0.0, |[share, ..]| share);
            let name = of.name();
            format!("{name}: {share:.3} ({low:.3} to {high:.3}; {other:.3} in the other way)")
        })
        .collect();
    let detail = format!(
        "share of {tokens} tokens that are read from their states {}, 95 %: {}",
        READERS[better],
        told.join(", ")
    );
    let numbers = [
        ("layers", count_to_f64(length(&shares))),
        ("tokens", count_to_f64(tokens)),
        ("rises", count_to_f64(rises)),
        (
            "read_after_the_first",
            shares.first().map_or(0.0, |share| share[0]),
        ),
        (
            "read_after_the_deepest",
            shares.last().map_or(0.0, |share| share[0]),
        ),
        ("detectable_rise", detectable),
    ];
    let held = match (rises, falls, is_less) {
        _ if tokens < LEAST_TOKENS => None,
        (0, true, _) => Some(true),
        (0, false, true) => None,
        _ => Some(false),
    };
    let effect = format!("a rise of {detectable:.3} between neighbours");
    let evidence = Evidence::new(tokens, "tokens after a layer", effect);
    with_numbers(held, &numbers, evidence, &detail)
}

#[cfg(test)]
mod tests;
