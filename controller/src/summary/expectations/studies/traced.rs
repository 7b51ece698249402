//! Claims about requests while the links followed their traces.

use hexloop_statistics::interval_over_blocks;
use hexloop_workloads::study::Arm;
use hexloop_workloads::study::traced::TracedTrial;

use super::super::{Evidence, Judgement, unjudged};
use super::placement::Compared;
use super::{told, with_numbers};
use crate::format::{count_to_f64, length};
use crate::summary::studies::Findings;
use crate::summary::studies::traced::BLOCK_REQUESTS;

/// How much longer than the best fixed arm an adaptive one may take.
const TOLERANCE: f64 = 0.10;

/// Fewest pairs of requests that a claim is judged by.
const LEAST_PAIRS: usize = 15;

/// How often blocks are drawn again.
const RESAMPLES: usize = 2000;

/// What an arm is compared by: contexts by the time of the first token, everything else by that of the answer.
fn took(one: &TracedTrial) -> Option<f64> {
    let ns = match one.trial.arm {
        Arm::KeyValues { .. } => one.first_token_ns(),
        _ => one.answer_ns(),
    };
    ns.map(count_to_f64)
}

/// Times of two arms for the same requests, in the order of the traces.
fn pairs(one: &[&TracedTrial], other: &[&TracedTrial]) -> Vec<(f64, f64)> {
    let pair = |one: &&TracedTrial| {
        let mut others = other.iter();
        let other = others.find(|other| other.place() == one.place())?;
        Some((took(one)?, took(other)?))
    };
    one.iter().filter_map(pair).collect()
}

/// The sum of the first times over that of the second, and its 95 % interval over blocks of requests that follow
/// each other.
fn ratio(pairs: &[(f64, f64)], seed: u64) -> Option<[f64; 3]> {
    let of = |pairs: &mut dyn Iterator<Item = &(f64, f64)>| {
        let sums = pairs.fold((0.0, 0.0), |sums, pair| (sums.0 + pair.0, sums.1 + pair.1));
        (sums.1 > 0.0).then(|| sums.0 / sums.1)
    };
    let blocks: Vec<&[(f64, f64)]> = pairs.chunks(block_size()).collect();
    let drawn = |drawn: &[&&[(f64, f64)]]| of(&mut drawn.iter().flat_map(|block| block.iter()));
    let (low, high) = interval_over_blocks(&blocks, seed, RESAMPLES, drawn)?;
    Some([of(&mut pairs.iter())?, low, high])
}

/// Whether a request was answered whole within a service level, from when it was due.
fn in_time(one: &TracedTrial, level_ns: u64) -> bool {
    one.answer_ns().is_some_and(|took| took <= level_ns)
}

/// A policy does not hurry where there is time: it is in time no less often than the fixed placement that is most often,
/// over the same requests. The interval is the wider of two: one over pairs, which leaves something open where all are
/// alike, and one over blocks of requests that follow each other, which a bad stretch of the channel makes alike.
fn policy_in_time(
    findings: &Findings<'_>,
    (policy, level_ns): (&Arm, u64),
    seed: u64,
) -> Judgement {
    let arms = findings.plan.study.arms.iter();
    let fixed = arms.filter(|arm| !arm.adapts() && !findings.traced_of(arm).is_empty());
    let hitting = |arm: &&Arm| {
        let traced = findings.traced_of(arm);
        traced.iter().filter(|one| in_time(one, level_ns)).count()
    };
    // Of several that are as good the last is named; which one does not matter.
    let Some(best) = fixed.max_by_key(hitting) else {
        return unjudged(&[], "no fixed arm was asked on the traces".to_owned());
    };
    let others = findings.traced_of(best);
    let pair = |one: &&TracedTrial| {
        let other = others.iter().find(|other| other.place() == one.place())?;
        Some((in_time(one, level_ns), in_time(other, level_ns)))
    };
    let of_policy = findings.traced_of(policy);
    let pairs: Vec<(bool, bool)> = of_policy.iter().filter_map(pair).collect();
    if pairs.len() < LEAST_PAIRS {
        return too_few(pairs.len());
    }
    let mut compared = Compared::default();
    for (this, other) in &pairs {
        compared.add(*this, *other);
    }
    let [difference, low, high] = compared.difference();
    let blocks: Vec<&[(bool, bool)]> = pairs.chunks(block_size()).collect();
    let more = |drawn: &[&&[(bool, bool)]]| {
        let drawn = drawn.iter().flat_map(|block| block.iter());
        let differences = drawn.map(|(this, other)| f64::from(*this) - f64::from(*other));
        let differences: Vec<f64> = differences.collect();
        Some(differences.iter().sum::<f64>() / count_to_f64(length(&differences)))
    };
    let Some((block_low, block_high)) = interval_over_blocks(&blocks, seed, RESAMPLES, more) else {
        return too_few(pairs.len());
    };
    let interval = [difference, low.min(block_low), high.max(block_high)];
    let detail = format!("on the same traces against {}, the best there", best.name());
    compared.judged_by(interval, &detail)
}

fn too_few(pairs: usize) -> Judgement {
    let detail =
        format!("{pairs} requests that both answered are too few; {LEAST_PAIRS} are needed");
    let pairs = u64::try_from(pairs).unwrap_or(u64::MAX);
    unjudged(&[("pairs", pairs)], detail)
}

/// Requests of a block.
fn block_size() -> usize {
    usize::try_from(BLOCK_REQUESTS).unwrap_or(1)
}

/// An arm that adapts takes hardly longer on the traces than the best of those that stay as they are; a policy is in
/// time hardly less often.
pub(super) fn adaptive_near_best(findings: &Findings<'_>, seed: u64) -> Judgement {
    let arms = || findings.plan.study.arms.iter();
    let mean = |arm: &Arm| {
        let times = findings.traced_of(arm);
        let times: Vec<f64> = times.iter().filter_map(|one| took(one)).collect();
        (!times.is_empty()).then(|| times.iter().sum::<f64>() / count_to_f64(length(&times)))
    };
    let fixed = arms().filter(|arm| !arm.adapts());
    let fixed = fixed.filter_map(|arm| Some((mean(arm)?, arm)));
    let best = fixed.min_by(|one, other| one.0.total_cmp(&other.0));
    let Some((best_ns, best)) = best else {
        return unjudged(&[], "no fixed arm was asked on the traces".to_owned());
    };
    let judged = arms().filter(|arm| arm.adapts()).map(|arm| {
        if let Arm::Policy(policy) = arm {
            let judged = policy_in_time(findings, (arm, policy.deadline_ns), seed);
            return (arm.name(), judged);
        }
        let pairs = pairs(&findings.traced_of(arm), &findings.traced_of(best));
        let judged = judged_pairs(&pairs, (best, best_ns), seed);
        (arm.name(), judged)
    });
    let judged: Vec<(String, Judgement)> = judged.collect();
    if judged.is_empty() {
        return unjudged(&[], "no arm adapts".to_owned());
    }
    super::super::all_of(judged.into_iter())
}

fn judged_pairs(pairs: &[(f64, f64)], (best, best_ns): (&Arm, f64), seed: u64) -> Judgement {
    let ratio = ratio(pairs, seed).filter(|_| pairs.len() >= LEAST_PAIRS);
    let Some(ratio) = ratio else {
        return too_few(pairs.len());
    };
    let most = 1.0 + TOLERANCE;
    let held = match () {
        () if ratio[2] <= most => Some(true),
        () if ratio[1] > most => Some(false),
        () => None,
    };
    let detail = format!(
        "{} of what {} takes, which is the best that stays as it is ({:.1} ms on average; 95 %, on the same traces)",
        told(ratio),
        best.name(),
        best_ns / 1e6
    );
    let numbers = [
        ("adaptive_over_best", ratio[0]),
        ("adaptive_over_best_low", ratio[1]),
        ("adaptive_over_best_high", ratio[2]),
        ("best_fixed_ms", best_ns / 1e6),
        ("pairs", count_to_f64(length(pairs))),
    ];
    let evidence = Evidence::ratio(length(pairs), "pairs of requests", ratio);
    with_numbers(held, &numbers, evidence, &detail)
}

#[cfg(test)]
mod tests;
