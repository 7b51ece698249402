//! What came of answering on the device as long as it was sure enough: how often that agreed with the
//! whole model, how much was left to the edge, and what crossed the link for it.

use std::collections::BTreeMap;

use hexloop_workloads::study::own::{Decision, Keeping, Maker, Threshold, keeping};
use hexloop_workloads::study::{Arm, TrialRecord};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Findings;
use super::energy::{Energy, StudyEnergy};
use crate::format::{count_to_f64, length, rounded};

/// An arm of a study in which the device answers as long as it is sure enough, over all settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyOwn {
    /// The arm.
    pub arm: String,
    /// What it has in common with arms of another threshold.
    pub family: String,
    /// Different prompts.
    pub prompts: u64,
    /// Tokens that the device or the edge made, over all prompts, each once.
    pub tokens: u64,
    /// Share of those that the edge was asked for.
    pub asked: f64,
    /// Tokens that were the device's for want of an answer, over all trials without an outage.
    pub fallback_tokens: u64,
    /// Tokens that are compared with those of the whole model: of each prompt all up to the first that
    /// differs, since those after it answer another text.
    pub compared: u64,
    /// Share of those that are the same, and the ends of its 95 % interval; null if none is compared.
    pub agreement: Option<[f64; 3]>,
    /// Bytes away from the device for each token, headers of frames included.
    pub up_bytes_per_token: f64,
    /// Time of a token, the prompt's included: the mean over all trials, in milliseconds.
    pub token_ms: Option<f64>,
    /// What the requests of all trials without an outage used.
    #[serde(flatten)]
    pub energy: StudyEnergy,
    /// Tokens of trials in an outage that were there before it ended; null if there were no such
    /// trials.
    pub tokens_in_outage: Option<u64>,
}

/// The trials of an arm.
#[derive(Debug)]
pub(in crate::summary) struct OwnArm<'a> {
    pub(in crate::summary) arm: &'a Arm,
    pub(in crate::summary) keeping: Keeping,
    /// Without an outage.
    pub(in crate::summary) trials: Vec<&'a TrialRecord>,
    /// In one.
    pub(in crate::summary) out: Vec<&'a TrialRecord>,
}

/// How many tokens were compared with the whole model's, and how many of them are the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::summary) struct Agreement {
    pub(in crate::summary) compared: u64,
    pub(in crate::summary) same: u64,
}

impl Agreement {
    /// The share, and its 95 % interval by Wilson 1927. Tokens count as independent: each follows the
    /// same text in both answers, and no prompt has more than one that differs.
    pub(in crate::summary) fn interval(self) -> Option<[f64; 3]> {
        if self.compared == 0 {
            return None;
        }
        let (count, z) = (count_to_f64(self.compared), 1.96_f64);
        let share = count_to_f64(self.same) / count;
        let middle = share + z * z / (2.0 * count);
        let half = z * (share * (1.0 - share) / count + z * z / (4.0 * count * count)).sqrt();
        let scale = 1.0 + z * z / count;
        let end = |value: f64| (value / scale).clamp(0.0, 1.0);
        Some([share, end(middle - half), end(middle + half)])
    }
}

/// The arms of a study, in the order of its plan.
pub(in crate::summary) fn arms<'a>(findings: &Findings<'a>) -> Vec<OwnArm<'a>> {
    let arms = findings.plan.study.arms.iter();
    let of_arm = |arm: &'a Arm| {
        let keeping = keeping(arm)?;
        let trials = findings.trials.iter().copied();
        let (out, trials) = trials
            .filter(|trial| trial.arm == *arm)
            .partition(|trial| trial.outage.is_some());
        Some(OwnArm {
            arm,
            keeping,
            trials,
            out,
        })
    };
    arms.filter_map(of_arm).collect()
}

/// What the whole model answers to each prompt: what the edge alone said.
pub(in crate::summary) fn references<'a>(findings: &Findings<'a>) -> BTreeMap<u32, &'a [u32]> {
    let trials = findings.trials.iter();
    let remote = trials.filter(|trial| {
        keeping(&trial.arm).is_some_and(|keeping| keeping.threshold == Threshold::REMOTE)
    });
    remote
        .map(|trial| (trial.prompt, trial.tokens.as_slice()))
        .collect()
}

impl<'a> OwnArm<'a> {
    /// One trial of each prompt: what is answered does not depend on the setting, so that the others
    /// say nothing new of it.
    pub(in crate::summary) fn one_each(&self) -> Vec<&'a TrialRecord> {
        let trials = self.trials.iter().rev();
        let by_prompt: BTreeMap<u32, &TrialRecord> =
            trials.map(|trial| (trial.prompt, *trial)).collect();
        by_prompt.into_values().collect()
    }

    /// Agreement of some of the tokens with the whole model's.
    pub(in crate::summary) fn agreement(
        &self,
        references: &BTreeMap<u32, &[u32]>,
        counts: impl Fn(&Decision) -> bool,
    ) -> Agreement {
        let mut agreement = Agreement::default();
        for trial in self.one_each() {
            let Some(reference) = references.get(&trial.prompt) else {
                continue;
            };
            let tokens = trial.tokens.iter().zip(*reference);
            for ((own, whole), decision) in tokens.zip(&trial.decisions) {
                if counts(decision) {
                    agreement.compared += 1;
                    agreement.same += u64::from(own == whole);
                }
                if own != whole {
                    break;
                }
            }
        }
        agreement
    }

    /// Share of the tokens that the edge was asked for.
    pub(in crate::summary) fn asked(&self) -> f64 {
        let trials = self.one_each();
        let decisions = || trials.iter().flat_map(|trial| &trial.decisions);
        let asked = decisions().filter(|decision| decision.maker != Maker::Device);
        count(asked) / count(decisions()).max(1.0)
    }

    /// Mean time of a token of some trials, from when the prompt was there, in nanoseconds.
    pub(in crate::summary) fn token_ns(trials: &[&TrialRecord]) -> Option<f64> {
        let time = |trial: &&TrialRecord| {
            let last = trial.token_ns.last()?;
            let time = count_to_f64(last.saturating_sub(trial.started_ns));
            Some(time / count_to_f64(length(&trial.token_ns)))
        };
        let times: Option<Vec<f64>> = trials.iter().map(time).collect();
        let times = times.filter(|times| !times.is_empty())?;
        Some(times.iter().sum::<f64>() / count_to_f64(length(&times)))
    }
}

fn count<T>(things: impl Iterator<Item = T>) -> f64 {
    count_to_f64(u64::try_from(things.count()).unwrap_or(u64::MAX))
}

/// Tokens of a trial that were there before its outage ended.
pub(in crate::summary) fn tokens_in_outage(trial: &TrialRecord) -> u64 {
    let until = trial.outage.as_ref().map_or(0, |outage| outage.until_ns);
    let before = trial.token_ns.iter().filter(|at| **at < until);
    u64::try_from(before.count()).unwrap_or(u64::MAX)
}

/// Every arm; none of a study of another technique.
pub(super) fn summaries(findings: &Findings<'_>, energy: &Energy) -> Vec<StudyOwn> {
    let references = references(findings);
    let summary = |arm: OwnArm<'_>| {
        let trials = arm.one_each();
        let tokens: u64 = trials.iter().map(|trial| length(&trial.tokens)).sum();
        let agreement = arm.agreement(&references, |_| true);
        let all_tokens: u64 = arm.trials.iter().map(|trial| length(&trial.tokens)).sum();
        let hops = arm.trials.iter().flat_map(|trial| &trial.hops);
        let up: u64 = hops.map(|hop| hop.up).sum();
        let decisions = arm.trials.iter().flat_map(|trial| &trial.decisions);
        let fallback =
            decisions.filter(|decision| matches!(decision.maker, Maker::Fallback | Maker::Alone));
        StudyOwn {
            arm: arm.arm.name(),
            family: arm.keeping.family.name(),
            prompts: length(&trials),
            tokens,
            asked: rounded(arm.asked(), 6),
            fallback_tokens: u64::try_from(fallback.count()).unwrap_or(u64::MAX),
            compared: agreement.compared,
            agreement: agreement
                .interval()
                .map(|values| values.map(|value| rounded(value, 6))),
            up_bytes_per_token: rounded(count_to_f64(up) / count_to_f64(all_tokens.max(1)), 3),
            token_ms: OwnArm::token_ns(&arm.trials).map(|ns| rounded(ns / 1e6, 6)),
            energy: energy.of_trials(&arm.trials),
            tokens_in_outage: (!arm.out.is_empty())
                .then(|| arm.out.iter().map(|trial| tokens_in_outage(trial)).sum()),
        }
    };
    arms(findings).into_iter().map(summary).collect()
}
