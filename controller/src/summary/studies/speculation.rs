//! What speculative decoding came to: how likely drafts are accepted, and what each arm's drafts brought.

use std::collections::BTreeMap;

use hexloop_traces::stream;
use hexloop_workloads::study::speculative::acceptance::{
    full_rounds, lag_one_correlation, tokens_per_round,
};
use hexloop_workloads::study::speculative::{
    Crossing, DraftLength, Drawing, RoundRecord, Speculation,
};
use hexloop_workloads::study::{Arm, TrialRecord};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::energy::{Energy, StudyEnergy};
use super::{Findings, law, mbps};
use crate::format::{count_to_f64, length, ns_to_ms, rounded};
use hexloop_statistics::below;

/// Resamples that an interval is taken from.
const RESAMPLES: u32 = 400;

/// How likely drafts are accepted on prompts that no trial asks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyAcceptance {
    /// How tokens are chosen: `greedy` or `sampled`.
    pub drawing: String,
    /// Prompts.
    pub prompts: u64,
    /// Tokens of their answers.
    pub tokens: u64,
    /// The mean of the sum of min(p, q); of greedy answers, the share of tokens that both models name.
    pub acceptance: f64,
    /// Its correlation between neighbouring tokens; null where it does not vary.
    pub lag_one_correlation: Option<f64>,
}

/// What the drafts of an arm came to at a setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudySpeculation {
    /// The round trip of the link, in milliseconds.
    pub round_trip_ms: f64,
    /// The rate of the link, in Mbit/s.
    pub rate_mbps: f64,
    /// The arm.
    pub arm: String,
    /// `greedy` or `sampled`.
    pub drawing: String,
    /// What crosses the link with each drafted token; null of the baseline, which drafts nothing.
    pub crossing: Option<String>,
    /// How many tokens are drafted at a time; null of the baseline, and where the length adapts.
    pub drafted: Option<u32>,
    /// Drafts; null of the baseline.
    pub rounds: Option<u64>,
    /// Drafted tokens that were accepted, per draft.
    pub accepted_per_round: Option<f64>,
    /// Tokens that a draft of full length brought.
    pub tokens_per_round: Option<f64>,
    /// What those should be if acceptances did not depend on each other.
    pub expected_tokens_per_round: Option<f64>,
    /// Tokens per second, of all trials together.
    pub tokens_per_s: Option<f64>,
    /// Share of the time in which the node that drafts computed, and the one that verifies.
    pub busy: Vec<f64>,
    /// Bytes to the node that verifies, headers of frames included, per token.
    pub up_bytes_per_token: f64,
    /// Bytes back, per token.
    pub down_bytes_per_token: f64,
    /// What its requests used.
    #[serde(flatten)]
    pub energy: StudyEnergy,
}

const fn drawing_name(drawing: Drawing) -> &'static str {
    match drawing {
        Drawing::Greedy => "greedy",
        Drawing::Sampled => "sampled",
    }
}

/// The overlaps of the held-out prompts, each from 0 to 1.
fn overlaps(findings: &Findings<'_>, drawing: Drawing) -> Vec<Vec<f64>> {
    let records = findings.acceptances.iter();
    let records = records.filter(|record| record.drawing == drawing);
    let shares = records.map(|record| {
        let values = record.overlap_ppm.iter();
        values.map(|ppm| f64::from(*ppm) / 1e6).collect()
    });
    shares.collect()
}

fn mean(overlaps: &[&Vec<f64>]) -> Option<f64> {
    let count = count_to_f64(overlaps.iter().map(|values| length(values)).sum());
    let sum: f64 = overlaps.iter().flat_map(|values| values.iter()).sum();
    (count > 0.0).then(|| sum / count)
}

pub(super) fn acceptances(findings: &Findings<'_>) -> Vec<StudyAcceptance> {
    let of = |drawing| {
        let overlaps = overlaps(findings, drawing);
        let all: Vec<&Vec<f64>> = overlaps.iter().collect();
        Some(StudyAcceptance {
            drawing: drawing_name(drawing).to_owned(),
            prompts: length(&overlaps),
            tokens: overlaps.iter().map(|values| length(values)).sum(),
            acceptance: rounded(mean(&all)?, 4),
            lag_one_correlation: lag_one_correlation(&overlaps).map(|value| rounded(value, 4)),
        })
    };
    let drawings = [Drawing::Greedy, Drawing::Sampled];
    drawings.into_iter().filter_map(of).collect()
}

/// How many tokens drafts of one length brought, beside what their acceptance predicts.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::summary) struct Rounds {
    pub(in crate::summary) drawing: Drawing,
    pub(in crate::summary) drafted: u32,
    pub(in crate::summary) rounds: u64,
    /// Prompts whose trials these are, and held-out ones.
    pub(in crate::summary) prompts: [u64; 2],
    pub(in crate::summary) acceptance: f64,
    pub(in crate::summary) correlation: Option<f64>,
    /// Tokens per round over the prediction, and the ends of its 95 % interval.
    pub(in crate::summary) over_expected: [f64; 3],
}

/// Of every length of two drafts or more. Arms whose drafts are drawn from fewer tokens than the small
/// model's distribution have are left out: they are accepted otherwise.
pub(in crate::summary) fn rounds(findings: &Findings<'_>, seed: u64) -> Vec<Rounds> {
    let mut sorted: BTreeMap<(Drawing, u32), BTreeMap<u32, (u64, u64)>> = BTreeMap::new();
    for trial in &findings.trials {
        if let Some((speculation, drafted)) = fixed(&trial.arm)
            && drafted > 1
            && !matches!(speculation.crossing, Crossing::TopK(_))
        {
            let key = (speculation.drawing, drafted);
            let sum = sorted.entry(key).or_default().entry(trial.prompt);
            let (rounds, tokens) = full_rounds(&trial.rounds, drafted);
            let sum = sum.or_default();
            *sum = (sum.0 + rounds, sum.1 + tokens);
        }
    }
    let of_length = |((drawing, drafted), by_prompt): ((Drawing, u32), BTreeMap<_, _>)| {
        let overlaps = overlaps(findings, drawing);
        let by_prompt: Vec<(u64, u64)> = by_prompt.into_values().collect();
        let ratio = |prompts: &[(u64, u64)], held_out: &[&Vec<f64>]| {
            let rounds = count_to_f64(prompts.iter().map(|(rounds, _)| rounds).sum());
            let tokens = count_to_f64(prompts.iter().map(|(_, tokens)| tokens).sum());
            let expected = tokens_per_round(mean(held_out)?, drafted);
            (rounds > 0.0).then(|| tokens / rounds / expected)
        };
        let all: Vec<&Vec<f64>> = overlaps.iter().collect();
        let mut random = stream(seed, &format!("rounds of {drafted} drafts"));
        let mut again = Vec::new();
        for _ in 0..RESAMPLES {
            let mut draw = |count: usize| -> Vec<usize> {
                (0..count).map(|_| below(&mut random, count)).collect()
            };
            let prompts = draw(by_prompt.len()).into_iter();
            let prompts: Vec<(u64, u64)> = prompts
                .filter_map(|index| by_prompt.get(index).copied())
                .collect();
            let held_out = draw(all.len()).into_iter();
            let held_out: Vec<&Vec<f64>> = held_out
                .filter_map(|index| all.get(index).copied())
                .collect();
            again.extend(ratio(&prompts, &held_out));
        }
        Some(Rounds {
            drawing,
            drafted,
            rounds: by_prompt.iter().map(|(rounds, _)| rounds).sum(),
            prompts: [length(&by_prompt), length(&overlaps)],
            acceptance: mean(&all)?,
            correlation: lag_one_correlation(&overlaps),
            over_expected: with_interval(ratio(&by_prompt, &all)?, again)?,
        })
    };
    sorted.into_iter().filter_map(of_length).collect()
}

/// A value with the middle 95 % of what resamples made of it.
fn with_interval(value: f64, mut again: Vec<f64>) -> Option<[f64; 3]> {
    again.sort_by(f64::total_cmp);
    let at = |per_mille: usize| again.get(again.len() * per_mille / 1000).copied();
    Some([value, at(25)?, at(975)?])
}

/// The parameters of an arm whose drafts have one length.
pub(in crate::summary) fn fixed(arm: &Arm) -> Option<(&Speculation, u32)> {
    match arm {
        Arm::Speculative(speculation) => match speculation.length {
            DraftLength::Fixed(drafted) => Some((speculation, drafted)),
            DraftLength::Adaptive => None,
        },
        _ => None,
    }
}

/// Tokens per second of some trials together, one after the other.
pub(in crate::summary) fn tokens_per_s(trials: &[&TrialRecord]) -> Option<f64> {
    let spans = law::spans_ns(trials);
    let (ns, tokens) = spans
        .values()
        .fold((0, 0), |(ns, tokens), (begin, end, more)| {
            (ns + (end - begin), tokens + more)
        });
    (ns > 0).then(|| count_to_f64(tokens) * 1e9 / count_to_f64(ns))
}

/// What an arm brings at one rate over what it brings at another, with an interval over its prompts.
pub(in crate::summary) fn rate_ratio(
    (low, high): (&[&TrialRecord], &[&TrialRecord]),
    seed: u64,
) -> Option<[f64; 3]> {
    let mut random = stream(seed, "token rates");
    let mut again = Vec::new();
    for _ in 0..RESAMPLES {
        let mut draw = |trials: &[&'_ TrialRecord]| {
            let drawn = (0..trials.len()).map(|_| below(&mut random, trials.len()));
            let drawn = drawn.filter_map(|index| trials.get(index));
            let spans = drawn.filter_map(|trial| tokens_per_s(&[*trial]).map(|rate| 1.0 / rate));
            spans.sum::<f64>()
        };
        let (slow, fast) = (draw(low), draw(high));
        // As many trials of one length on both sides: their times stand for the rates.
        again.push(fast / slow);
    }
    with_interval(tokens_per_s(low)? / tokens_per_s(high)?, again)
}

pub(super) fn cells(findings: &Findings<'_>, energy: &Energy) -> Vec<StudySpeculation> {
    let mut sorted: BTreeMap<(u64, u64, &Arm), Vec<&TrialRecord>> = BTreeMap::new();
    for trial in &findings.trials {
        if matches!(trial.arm, Arm::Remote { .. } | Arm::Speculative(_)) {
            let key = (trial.round_trip_ns, trial.rate_bps, &trial.arm);
            sorted.entry(key).or_default().push(trial);
        }
    }
    let cell = |((round_trip_ns, rate_bps, arm), trials): (_, Vec<&TrialRecord>)| {
        let arm: &Arm = arm;
        let fixed = fixed(arm);
        let crossing = match arm {
            Arm::Speculative(speculation) => Some(speculation.crossing),
            _ => None,
        };
        let rounds = || trials.iter().flat_map(|trial| trial.rounds.iter());
        let count = count_to_f64(rounds().map(|_| 1).sum());
        let accepted = |round: &RoundRecord| u64::from(round.accepted);
        let full = fixed.and_then(|(_, drafted)| {
            let (rounds, tokens) = full_rounds(rounds(), drafted);
            (rounds > 0).then(|| count_to_f64(tokens) / count_to_f64(rounds))
        });
        let exact = fixed.filter(|(one, _)| !matches!(one.crossing, Crossing::TopK(_)));
        let expected = exact.and_then(|(speculation, drafted)| {
            let overlaps = overlaps(findings, speculation.drawing);
            let all: Vec<&Vec<f64>> = overlaps.iter().collect();
            Some(tokens_per_round(mean(&all)?, drafted))
        });
        let tokens = count_to_f64(trials.iter().map(|trial| length(&trial.tokens)).sum());
        let hops = || trials.iter().flat_map(|trial| trial.hops.iter());
        let per_token = |bytes: u64| rounded(count_to_f64(bytes) / tokens.max(1.0), 2);
        StudySpeculation {
            round_trip_ms: ns_to_ms(round_trip_ns),
            rate_mbps: mbps(rate_bps),
            arm: arm.name(),
            drawing: drawing_name(arm.drawing()).to_owned(),
            crossing: crossing.map(Crossing::name),
            drafted: fixed.map(|(_, drafted)| drafted),
            rounds: crossing.map(|_| rounds().map(|_| 1).sum()),
            accepted_per_round: (count > 0.0)
                .then(|| rounded(count_to_f64(rounds().map(accepted).sum()) / count, 4)),
            tokens_per_round: full.map(|value| rounded(value, 4)),
            expected_tokens_per_round: expected.map(|value| rounded(value, 4)),
            tokens_per_s: tokens_per_s(&trials).map(|rate| rounded(rate, 3)),
            busy: super::busy(&trials),
            up_bytes_per_token: per_token(hops().map(|hop| hop.up).sum()),
            down_bytes_per_token: per_token(hops().map(|hop| hop.down).sum()),
            energy: energy.of_trials(&trials),
        }
    };
    sorted.into_iter().map(cell).collect()
}
