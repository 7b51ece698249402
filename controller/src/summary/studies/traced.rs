//! Requests while the links followed their traces: how long each arm took, all of them at the same moments
//! of the same channel.

use std::collections::BTreeMap;

use hexloop_workloads::study::placement::levels_ns;
use hexloop_workloads::study::traced::TracedTrial;
use hexloop_workloads::study::{Arm, TrialRecord};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::distribution::Distribution;
use super::energy::{Energy, StudyEnergy};
use super::{Findings, busy, placement};
use crate::format::{count_to_f64, length, ns_to_ms, rounded};
use crate::summary::Quantity;

/// What was asked of each arm on the traces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyTraced {
    /// How often a request was due, in milliseconds.
    pub every_ms: f64,
    /// Rounds of each arm, each from the start of the traces.
    pub repetitions: u32,
    /// Every arm.
    pub arms: Vec<StudyTracedArm>,
}

/// An arm on the traces. Times count from when a request was due.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyTracedArm {
    /// The arm.
    pub arm: String,
    /// Times of the first token.
    pub first_token_ms: Distribution,
    /// Times of the whole answer.
    pub answer_ms: Distribution,
    /// Requests that were asked late because the one before had no answer yet.
    pub waited: u64,
    /// Bytes of a request on all links, both ways, headers of frames included: the mean.
    pub link_bytes: f64,
    /// Of placements, the share of requests whose whole answer was there within each service level in milliseconds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hits: Vec<[f64; 2]>,
    /// Of an arm that chooses for each request, how often it chose what.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chosen: Vec<(String, u64)>,
    /// Share of the time in which requests were under way in which each node of the path computed.
    #[serde(default)]
    pub busy: Vec<f64>,
    /// What its requests used while they were under way.
    #[serde(flatten)]
    pub energy: StudyEnergy,
    /// Energy of the machine over whole rounds, from when the traces began until the last answer, pauses between
    /// requests included, for each request: gross, in joules.
    pub round_j_per_request: Quantity,
    /// Of each request, where in the traces it was due, and the time of its first token, both in milliseconds.
    pub first_tokens_ms: Vec<[f64; 2]>,
}

impl<'a> Findings<'a> {
    /// The requests of an arm on the traces.
    pub(in crate::summary) fn traced_of(&self, arm: &Arm) -> Vec<&'a TracedTrial> {
        let traced = self.traced.iter().copied();
        traced.filter(|traced| traced.trial.arm == *arm).collect()
    }
}

/// Every arm on the traces; `None` where nothing was asked on them. Rows of the KPI tables have a summary of their own.
pub(super) fn summary(findings: &Findings<'_>, energy: &Energy, seed: u64) -> Option<StudyTraced> {
    let spec = findings.plan.study.traced?;
    let arms = findings.plan.study.arms.iter();
    let arms = arms.filter(|arm| !matches!(arm, Arm::KpiOnTrace { .. }));
    let arms: Vec<StudyTracedArm> = arms
        .filter_map(|arm| summary_of((findings, energy), arm, (spec.every_ns, seed)))
        .collect();
    (!arms.is_empty()).then(|| StudyTraced {
        every_ms: ns_to_ms(spec.every_ns),
        repetitions: spec.repetitions,
        arms,
    })
}

fn summary_of(
    (findings, energy): (&Findings<'_>, &Energy),
    arm: &Arm,
    (every_ns, seed): (u64, u64),
) -> Option<StudyTracedArm> {
    let traced = findings.traced_of(arm);
    if traced.is_empty() {
        return None;
    }
    let of = |value: fn(&TracedTrial) -> Option<u64>| {
        let samples = traced.iter().map(|one| (one.due_ns, value(one)));
        let samples: Vec<(u64, Option<u64>)> = samples.collect();
        // What a bad stretch of the channel makes late is more than one request.
        Distribution::of(&samples, every_ns.saturating_mul(BLOCK_REQUESTS), seed)
    };
    let bytes = traced.iter().flat_map(|one| &one.trial.hops);
    let bytes: u64 = bytes.map(|hop| hop.up + hop.down).sum();
    let waited = |one: &&&TracedTrial| one.trial.started_ns > one.due_ns + every_ns / LATE_PART;
    let points = traced
        .iter()
        .filter_map(|one| Some([ns_to_ms(one.position_ns()), ns_to_ms(one.first_token_ns()?)]));
    let trials: Vec<&TrialRecord> = traced.iter().map(|one| &one.trial).collect();
    let levels = levels_ns(&findings.plan.study.arms);
    let hit = |level_ns: u64| {
        let in_time = |one: &&&TracedTrial| one.answer_ns().is_some_and(|ns| ns <= level_ns);
        let hits = u64::try_from(traced.iter().filter(in_time).count()).unwrap_or(u64::MAX);
        let share = count_to_f64(hits) / count_to_f64(length(&traced));
        [ns_to_ms(level_ns), rounded(share, 4)]
    };
    Some(StudyTracedArm {
        arm: arm.name(),
        first_token_ms: of(TracedTrial::first_token_ns),
        answer_ms: of(TracedTrial::answer_ns),
        waited: u64::try_from(traced.iter().filter(waited).count()).unwrap_or(u64::MAX),
        link_bytes: rounded(count_to_f64(bytes) / count_to_f64(length(&traced)), 1),
        hits: levels.filter(|_| is_placement(arm)).map(hit).collect(),
        chosen: chosen(findings, arm, &traced),
        busy: busy(&trials),
        energy: energy.of_trials(&trials),
        round_j_per_request: energy.per(&rounds(&traced), count_to_f64(length(&traced))),
        first_tokens_ms: points.collect(),
    })
}

/// From when the traces began until the last answer, of each round.
fn rounds(traced: &[&TracedTrial]) -> Vec<(u64, u64)> {
    let mut rounds: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for one in traced {
        let last_ns = one.trial.token_ns.last().copied().unwrap_or(one.due_ns);
        let round = rounds
            .entry(one.repetition)
            .or_insert((one.from_ns, last_ns));
        round.1 = round.1.max(last_ns);
    }
    rounds.into_values().collect()
}

/// Requests of a block that is drawn again as a whole for an interval.
pub(in crate::summary) const BLOCK_REQUESTS: u64 = 3;

/// A request is late that begins more than this part of the pause between requests after it was due.
const LATE_PART: u64 = 10;

const fn is_placement(arm: &Arm) -> bool {
    matches!(arm, Arm::Placed(_) | Arm::Policy(_))
}

/// How often an arm that chooses for each request chose what, by name.
fn chosen(findings: &Findings<'_>, arm: &Arm, traced: &[&TracedTrial]) -> Vec<(String, u64)> {
    if matches!(arm, Arm::Policy(_)) {
        let trials: Vec<&TrialRecord> = traced.iter().map(|one| &one.trial).collect();
        return placement::chosen(findings, &trials);
    }
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    for one in traced {
        let transfer = one.trial.transfer.filter(|how| how.measured_bps.is_some());
        if let Some(how) = transfer {
            *counts.entry(how.delivery.name()).or_default() += 1;
        }
    }
    let named = counts.into_iter();
    named
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
}
