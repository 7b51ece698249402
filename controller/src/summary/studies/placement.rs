//! What came of answering on one node or another: times, how often that was in time, what crossed the links
//! and how long the nodes computed.

use std::collections::BTreeMap;

use hexloop_workloads::study::placement::{
    PlaceCosts, Weights, levels_ns, offload_arms, offload_rate_of, placements,
};
use hexloop_workloads::study::{Arm, RowRecord, Technique, TrialRecord};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::energy::{Energy, StudyEnergy};
use super::own::Agreement;
use super::{Findings, law};
use crate::format::{count_to_f64, length, ns_to_ms, rounded};
use crate::summary::Quantity;

/// What an answer costs a node in computing, its slowdown included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyPlaceCosts {
    /// The node.
    pub node: String,
    /// Its weights.
    pub weights: String,
    /// The prompt and the first token, in milliseconds.
    pub first_token_ms: f64,
    /// Each further token, in milliseconds.
    pub token_ms: f64,
    /// Requests that these are the medians of.
    pub requests: u32,
}

/// An arm of a study of placements, over all settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyPlaced {
    /// The arm.
    pub arm: String,
    /// Requests.
    pub requests: u64,
    /// Time of the first token, the median, in milliseconds.
    pub first_token_ms: f64,
    /// Time of each further one, the median, in milliseconds.
    pub token_ms: f64,
    /// Time of the whole answer, the median, in milliseconds.
    pub answer_ms: f64,
    /// That over what was predicted: the median, and the ends of the middle half.
    pub answer_over_predicted: Option<[f64; 3]>,
    /// How often it was in time.
    pub hits: Vec<StudyHits>,
    /// How long each node of the path computed for a request, the mean, in milliseconds.
    pub busy_ms: Vec<f64>,
    /// Bytes of a request on each link of the path, both ways, headers of frames included: the mean.
    pub link_bytes: Vec<f64>,
    /// Energy of a request on each node: `j_per_request` of `node_energy`.
    pub node_j: Vec<Quantity>,
    /// What its requests used.
    #[serde(flatten)]
    pub energy: StudyEnergy,
    /// Of a policy, how often it chose which placement.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chosen: Vec<(String, u64)>,
}

/// How often an arm was in time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyHits {
    /// The service level, in milliseconds.
    pub level_ms: f64,
    /// Share of the requests whose whole answer was there by then, and the ends of its 95 % interval.
    pub answer: [f64; 3],
    /// Share of those whose first token was.
    pub first_token: f64,
}

/// How long a request took until it was answered whole; `None` without tokens.
pub(in crate::summary) fn answer_ns(trial: &TrialRecord) -> Option<u64> {
    let last = trial.token_ns.last()?;
    Some(last.saturating_sub(trial.started_ns))
}

/// How long it took until the first token.
pub(in crate::summary) fn first_token_ns(trial: &TrialRecord) -> Option<u64> {
    let first = trial.token_ns.first()?;
    Some(first.saturating_sub(trial.started_ns))
}

/// Whether a request was answered whole by then.
pub(in crate::summary) fn hits(trial: &TrialRecord, level_ns: u64) -> bool {
    answer_ns(trial).is_some_and(|took| took <= level_ns)
}

/// The trials of an arm.
pub(in crate::summary) fn trials_of<'a>(
    findings: &Findings<'a>,
    arm: &Arm,
) -> Vec<&'a TrialRecord> {
    let trials = findings.trials.iter().copied();
    trials.filter(|trial| trial.arm == *arm).collect()
}

/// What answers cost, by the last account of it, which is over all that was measured.
pub(super) fn costs(findings: &Findings<'_>) -> Vec<StudyPlaceCosts> {
    let last = findings.places.last().copied().unwrap_or_default();
    let of = |costs: &PlaceCosts| {
        let place = usize::try_from(costs.place).unwrap_or(usize::MAX);
        StudyPlaceCosts {
            node: findings.plan.path.get(place).cloned().unwrap_or_default(),
            weights: costs.weights.name().to_owned(),
            first_token_ms: ns_to_ms(costs.first_ns),
            token_ms: ns_to_ms(costs.token_ns),
            requests: costs.requests,
        }
    };
    last.iter().map(of).collect()
}

/// The rate at which the first token comes from the second of two nodes as early as from the first, by the
/// last account of the costs.
pub(super) fn critical_rate_bps(findings: &Findings<'_>, row: &RowRecord) -> Option<u64> {
    let study = &findings.plan.study;
    let way = (u64::from(study.prompt_tokens), row.echo_ns);
    offload_rate_of(&study.arms, findings.places.last()?, way)
}

/// The trials that tell where that is in a row, compared by their first token; `None` of other studies.
pub(super) fn corners<'a>(findings: &Findings<'a>, row: &RowRecord) -> Option<law::Corners<'a>> {
    if findings.plan.study.technique() != Technique::Placement {
        return None;
    }
    let arms = offload_arms(&findings.plan.study.arms)?;
    let [near, far] = arms.map(|placement| {
        let arm = Arm::Placed(placement.clone());
        findings.by_rate(row.round_trip_ns, &arm)
    });
    Some(law::Corners {
        least: far,
        whole: near.into_values().flatten().collect(),
        time: |trials| law::median(trials.iter().filter_map(|trial| first_token_ns(trial))),
    })
}

/// Every arm; none of a study of another technique.
pub(super) fn summaries(findings: &Findings<'_>, energy: &Energy) -> Vec<StudyPlaced> {
    if findings.plan.study.technique() != Technique::Placement {
        return Vec::new();
    }
    let arms = findings.plan.study.arms.iter();
    let placed = arms.filter(|arm| matches!(arm, Arm::Placed(_) | Arm::Policy(_)));
    let summary = |arm| summary(findings, energy, arm);
    placed.filter_map(summary).collect()
}

fn summary(findings: &Findings<'_>, energy: &Energy, arm: &Arm) -> Option<StudyPlaced> {
    let trials = trials_of(findings, arm);
    let energy = energy.of_trials(&trials);
    let middle = |of: fn(&TrialRecord) -> Option<u64>| {
        law::median(trials.iter().filter_map(|trial| of(trial))).map(ns_to_ms)
    };
    let requests = count_to_f64(length(&trials));
    let mean = |of: &dyn Fn(&TrialRecord) -> u64| {
        let sum: u64 = trials.iter().map(|trial| of(trial)).sum();
        count_to_f64(sum) / requests
    };
    let nodes = findings.plan.path.len();
    let levels = levels_ns(&findings.plan.study.arms);
    Some(StudyPlaced {
        arm: arm.name(),
        requests: length(&trials),
        first_token_ms: middle(first_token_ns)?,
        token_ms: law::token_ns(&trials).map_or(0.0, ns_to_ms),
        answer_ms: middle(answer_ns)?,
        answer_over_predicted: over_predicted(&trials),
        hits: levels.filter_map(|level| hits_at(&trials, level)).collect(),
        busy_ms: (0..nodes)
            .map(|node| mean(&|trial| trial.busy_ns.get(node).copied().unwrap_or(0)) / 1e6)
            .map(|ms| rounded(ms, 6))
            .collect(),
        link_bytes: (0..nodes.saturating_sub(1))
            .map(|link| mean(&|trial| trial.hops.get(link).map_or(0, |hop| hop.up + hop.down)))
            .map(|bytes| rounded(bytes, 3))
            .collect(),
        node_j: energy
            .node_energy
            .iter()
            .map(|node| node.j_per_request.clone())
            .collect(),
        energy,
        chosen: match arm {
            Arm::Policy(_) => chosen(findings, &trials),
            _ => Vec::new(),
        },
    })
}

fn hits_at(trials: &[&TrialRecord], level_ns: u64) -> Option<StudyHits> {
    let count = |is: &dyn Fn(&TrialRecord) -> bool| {
        let those = trials.iter().filter(|trial| is(trial));
        u64::try_from(those.count()).unwrap_or(u64::MAX)
    };
    // Hits and requests, as agreeing and compared tokens.
    let shares = Agreement {
        compared: length(trials),
        same: count(&|trial| hits(trial, level_ns)),
    };
    let first = count(&|trial| first_token_ns(trial).is_some_and(|took| took <= level_ns));
    Some(StudyHits {
        level_ms: ns_to_ms(level_ns),
        answer: shares.interval()?.map(|value| rounded(value, 6)),
        first_token: rounded(count_to_f64(first) / count_to_f64(length(trials)), 6),
    })
}

/// How long answers took over what was predicted: the median and the ends of the middle half.
fn over_predicted(trials: &[&TrialRecord]) -> Option<[f64; 3]> {
    let ratio = |trial: &&TrialRecord| {
        let predicted = trial.placed?.predicted_ns;
        Some(count_to_f64(answer_ns(trial)?) / count_to_f64(predicted.max(1)))
    };
    let mut ratios: Vec<f64> = trials.iter().filter_map(ratio).collect();
    ratios.sort_by(f64::total_cmp);
    let at = |percent: usize| {
        let last = ratios.len().checked_sub(1)?;
        ratios
            .get(last * percent / 100)
            .map(|value| rounded(*value, 4))
    };
    Some([at(50)?, at(25)?, at(75)?])
}

/// How often each placement was chosen, in the order of the arms.
pub(super) fn chosen(findings: &Findings<'_>, trials: &[&TrialRecord]) -> Vec<(String, u64)> {
    let mut counts: BTreeMap<(u32, Weights), u64> = BTreeMap::new();
    for placed in trials.iter().filter_map(|trial| trial.placed) {
        *counts.entry((placed.place, placed.weights)).or_default() += 1;
    }
    let named = placements(&findings.plan.study.arms).filter_map(|placement| {
        let count = counts.get(&(placement.place, placement.weights))?;
        Some((placement.name(), *count))
    });
    named.collect()
}
