//! What sharing every layer brought beside a split between layers and one node alone: times, and the round trip from
//! which it is behind.

use std::collections::BTreeSet;

use hexloop_workloads::coding::Coding;
use hexloop_workloads::study::placement::Placement;
use hexloop_workloads::study::tensor_parallel::{HalfCosts, median_costs, token_time_ns};
use hexloop_workloads::study::{Arm, RowRecord, StudyFinding, Technique, TrialRecord};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Findings, law, mbps};
use crate::format::{count_to_f64, length, ns_to_ms, rounded};

/// A study of tensor-parallel pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyHalves {
    /// What half of a layer costs each node.
    pub costs: Vec<StudyHalfCosts>,
    /// Every arm of which both nodes are part, at every rate.
    pub arms: Vec<StudyHalvesArm>,
    /// Tokens of exact halves whose two best scores were closer than sums in another order may be off.
    pub ties: u64,
}

/// What half of a layer costs a node: medians, the slowdown included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyHalfCosts {
    /// The node.
    pub node: String,
    /// From the sum before to its part of the attention's sum, in milliseconds.
    pub attention_ms: f64,
    /// The same of the feed-forward part, in milliseconds.
    pub feed_forward_ms: f64,
    /// Passes that each median is over.
    pub passes: u32,
}

/// An arm at a rate, over all round trips.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyHalvesArm {
    /// The arm.
    pub arm: String,
    /// The rate of the link.
    pub rate_mbps: f64,
    /// Time of a token at the shortest round trip, in milliseconds.
    pub token_ms: f64,
    /// What it should be by what the nodes' halves cost; null for others than halves.
    pub predicted_ms: Option<f64>,
    /// How many times as fast that is as the first node alone; null where that was not tried.
    pub speed_up: Option<f64>,
    /// Round trips that a token takes for each one of the link; null with a single round trip.
    pub round_trips: Option<f64>,
    /// The round trip of an empty frame from which it is slower than the first node alone, in milliseconds: where the
    /// line through its times meets that time; null where it is at none, or at every one.
    pub behind_from_ms: Option<f64>,
    /// Share of the time in which the first node waits, at the shortest and at the longest round trip; null where it
    /// was not tried.
    pub waits: [Option<f64>; 2],
}

/// The medians of what halves cost on each node.
pub(super) fn costs(findings: &[StudyFinding]) -> Vec<HalfCosts> {
    let measured = findings.iter().filter_map(|finding| match finding {
        StudyFinding::Halves(costs) => Some(costs.as_slice()),
        _ => None,
    });
    median_costs(&measured.collect::<Vec<_>>())
}

/// The arm whose layers both nodes share, with sums as they are.
pub(in crate::summary) fn exact_halves(arm: &Arm) -> bool {
    matches!(arm, Arm::TensorParallel(halves) if halves.coding == Coding::F32)
}

/// Whether the first node alone answers.
pub(in crate::summary) fn is_first_alone(arm: &Arm) -> bool {
    matches!(arm, Arm::Placed(Placement { place: 0, .. }))
}

/// Trials at a rate, perhaps of one prompt alone.
#[derive(Debug, Clone, Copy)]
pub(in crate::summary) struct Chosen {
    pub(in crate::summary) rate_bps: u64,
    pub(in crate::summary) prompt: Option<u32>,
}

impl Chosen {
    /// Those of an arm in a row.
    fn trials<'a>(
        self,
        findings: &Findings<'a>,
        arm: &Arm,
        row: &RowRecord,
    ) -> Vec<&'a TrialRecord> {
        let trials = findings.trials.iter().copied();
        let is_one = |trial: &&TrialRecord| {
            (trial.round_trip_ns, trial.rate_bps) == (row.round_trip_ns, self.rate_bps)
                && trial.arm == *arm
                && self.prompt.is_none_or(|prompt| trial.prompt == prompt)
        };
        trials.filter(is_one).collect()
    }

    /// The round trip of an empty frame and the time of a token, row by row.
    fn points(self, findings: &Findings<'_>, arm: &Arm) -> Vec<(f64, f64)> {
        let point = |row: &&RowRecord| {
            let token_ns = law::token_ns(&self.trials(findings, arm, row))?;
            Some((count_to_f64(row.echo_ns), count_to_f64(token_ns)))
        };
        findings.rows.iter().filter_map(point).collect()
    }

    /// The time of a token over the round trip of an empty frame: at none, in nanoseconds, and how many times over
    /// it pays it.
    pub(in crate::summary) fn line(self, findings: &Findings<'_>, arm: &Arm) -> Option<(f64, f64)> {
        law::line(&self.points(findings, arm))
    }

    /// The time of a token on the first node alone, whatever the link is.
    pub(in crate::summary) fn alone_ns(self, findings: &Findings<'_>) -> Option<f64> {
        let trials = findings.trials.iter().copied();
        let alone: Vec<&TrialRecord> = trials
            .filter(|trial| is_first_alone(&trial.arm))
            .filter(|trial| self.prompt.is_none_or(|prompt| trial.prompt == prompt))
            .collect();
        law::token_ns(&alone).map(count_to_f64)
    }

    /// The round trip of an empty frame from which an arm is slower than the first node alone, in nanoseconds; below 0
    /// if it is always.
    pub(in crate::summary) fn behind_from_ns(
        self,
        findings: &Findings<'_>,
        arm: &Arm,
    ) -> Option<f64> {
        let (at_none, times) = self.line(findings, arm)?;
        let alone = self.alone_ns(findings)?;
        (times > 0.0).then(|| (alone - at_none) / times)
    }
}

/// The time of a token of halves by what they cost; `None` where that was not measured.
pub(in crate::summary) fn predicted_ns(
    findings: &Findings<'_>,
    coding: Coding,
    way: (u64, u64),
) -> Option<u64> {
    let [near, far] = findings.halves.as_slice() else {
        return None;
    };
    let head_ns = findings.costs.first()?.head_ns?;
    let bytes = coding.token_bytes(findings.width);
    let layers = findings.kv_shape.layers;
    Some(token_time_ns(layers, ([near, far], head_ns), way, bytes))
}

/// The rates of all trials.
pub(in crate::summary) fn rates(findings: &Findings<'_>) -> BTreeSet<u64> {
    findings.trials.iter().map(|trial| trial.rate_bps).collect()
}

/// Tokens of exact halves whose two best scores were nearly the same.
fn ties(findings: &Findings<'_>) -> u64 {
    let trials = findings.trials.iter();
    let exact = trials.filter(|trial| exact_halves(&trial.arm));
    exact
        .filter_map(|trial| trial.halves.as_ref())
        .map(|halves| length(&halves.ties))
        .sum()
}

/// What the study found; `None` of another technique.
pub(super) fn summary(findings: &Findings<'_>) -> Option<StudyHalves> {
    let study = &findings.plan.study;
    if study.technique() != Technique::TensorParallel {
        return None;
    }
    let nodes = findings.plan.path.iter().zip(&findings.halves);
    let of_both = |arm: &&Arm| !matches!(arm, Arm::Placed(_));
    let rates = rates(findings);
    let arms = study.arms.iter().filter(of_both);
    let arms = arms.flat_map(|arm| rates.iter().map(move |rate| (arm, *rate)));
    Some(StudyHalves {
        costs: nodes
            .map(|(node, costs)| StudyHalfCosts {
                node: node.clone(),
                attention_ms: ns_to_ms(costs.attention_ns),
                feed_forward_ms: ns_to_ms(costs.feed_forward_ns),
                passes: costs.passes,
            })
            .collect(),
        arms: arms
            .filter_map(|(arm, rate)| arm_summary(findings, arm, rate))
            .collect(),
        ties: ties(findings),
    })
}

fn arm_summary(findings: &Findings<'_>, arm: &Arm, rate_bps: u64) -> Option<StudyHalvesArm> {
    let chosen = Chosen {
        rate_bps,
        prompt: None,
    };
    let shortest = findings.rows.iter().min_by_key(|row| row.echo_ns)?;
    let longest = findings.rows.iter().max_by_key(|row| row.echo_ns)?;
    let token_ns = law::token_ns(&chosen.trials(findings, arm, shortest))?;
    let predicted_ns = match arm {
        Arm::TensorParallel(halves) => {
            predicted_ns(findings, halves.coding, (shortest.echo_ns, rate_bps))
        }
        _ => None,
    };
    let alone_ns = chosen.alone_ns(findings);
    let behind_ns = chosen.behind_from_ns(findings, arm);
    let waits = |row: &RowRecord| {
        let trials = chosen.trials(findings, arm, row);
        let busy = super::busy(&trials).first().copied();
        busy.map(|busy| rounded(1.0 - busy, 4))
    };
    Some(StudyHalvesArm {
        arm: arm.name(),
        rate_mbps: mbps(rate_bps),
        token_ms: ns_to_ms(token_ns),
        predicted_ms: predicted_ns.map(ns_to_ms),
        speed_up: alone_ns.map(|alone| rounded(alone / count_to_f64(token_ns.max(1)), 4)),
        round_trips: chosen
            .line(findings, arm)
            .map(|(_, times)| rounded(times, 3)),
        behind_from_ms: behind_ns
            .filter(|from| *from > 0.0)
            .map(|from| rounded(from / 1e6, 6)),
        waits: [waits(shortest), waits(longest)],
    })
}
