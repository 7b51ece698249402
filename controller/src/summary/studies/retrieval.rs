//! Retrieval at the edge: what was found, what had been kept, and what computing the rest took.

use std::collections::BTreeMap;

use hexloop_workloads::study::retrieval::{
    Retrieval, RetrievalCosts, RetrievalRecord, median_costs,
};
use hexloop_workloads::study::{Arm, StudyFinding, TrialRecord};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Findings, law};
use crate::format::{count_to_f64, length, ns_to_ms, rounded};

/// One way to retrieve, over all settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyRetrieval {
    /// The arm.
    pub arm: String,
    /// Trials.
    pub trials: u64,
    /// Chunks that were put in front of each query.
    pub chunks: u32,
    /// Share of the chunks of an exact search that were found.
    pub recall: f64,
    /// Share of the queries for which the chunk that they were taken from was found.
    pub origin_found: f64,
    /// Share of the trials in which keys and values had been kept.
    pub hits: f64,
    /// Share of all positions in front of answers whose keys and values had been kept.
    pub reused: f64,
    /// Time of the first token, the median, in milliseconds.
    pub first_token_ms: Option<f64>,
    /// To compute what had not been kept, the mean, in milliseconds.
    pub prefill_ms: f64,
    /// What that should take by what was measured, the mean, in milliseconds; null where nothing was.
    pub expected_prefill_ms: Option<f64>,
    /// To pool the states of a query and search exactly, in milliseconds; likewise.
    pub search_ms: Option<f64>,
}

/// The trials of one way to retrieve.
#[derive(Debug)]
pub(in crate::summary) struct RetrievalArm<'a> {
    pub(in crate::summary) arm: &'a Arm,
    pub(in crate::summary) retrieval: Retrieval,
    pub(in crate::summary) trials: Vec<(&'a TrialRecord, &'a RetrievalRecord)>,
}

impl RetrievalArm<'_> {
    /// Chunks of exact searches, and how many of them were found.
    pub(in crate::summary) fn recalled(&self) -> (u64, u64) {
        let (mut asked, mut found) = (0, 0);
        for (_, record) in &self.trials {
            asked += length(&record.exact);
            let same = record.exact.iter().filter(|one| record.found.contains(one));
            found += u64::try_from(same.count()).unwrap_or(0);
        }
        (asked, found)
    }

    fn sum(&self, of: impl Fn(&RetrievalRecord) -> u64) -> u64 {
        self.trials.iter().map(|(_, record)| of(record)).sum()
    }
}

/// The ways that were tried, in their order.
pub(in crate::summary) fn arms<'a>(findings: &Findings<'a>) -> Vec<RetrievalArm<'a>> {
    let mut arms: BTreeMap<Retrieval, RetrievalArm<'_>> = BTreeMap::new();
    for trial in &findings.trials {
        let (Arm::Retrieval(retrieval), Some(record)) = (&trial.arm, &trial.retrieval) else {
            continue;
        };
        let arm = arms.entry(*retrieval).or_insert(RetrievalArm {
            arm: &trial.arm,
            retrieval: *retrieval,
            trials: Vec::new(),
        });
        arm.trials.push((trial, &**record));
    }
    arms.into_values().collect()
}

/// The medians of what was measured.
pub(in crate::summary) fn costs(findings: &[StudyFinding]) -> Option<RetrievalCosts> {
    let measured: Vec<&RetrievalCosts> = findings
        .iter()
        .filter_map(|finding| match finding {
            StudyFinding::Retrieval(costs) => Some(costs),
            _ => None,
        })
        .collect();
    median_costs(&measured)
}

pub(super) fn summaries(findings: &Findings<'_>) -> Vec<StudyRetrieval> {
    let costs = findings.retrieval;
    let summary = |arm: RetrievalArm<'_>| {
        let trials = length(&arm.trials);
        let share =
            |part: u64, whole: u64| rounded(count_to_f64(part) / count_to_f64(whole.max(1)), 4);
        let (asked, found) = arm.recalled();
        let mean_ms = |sum: u64| rounded(count_to_f64(sum) / count_to_f64(trials.max(1)) / 1e6, 4);
        let reused = arm.sum(|record| u64::from(record.reused));
        let computed = arm.sum(|record| u64::from(record.computed));
        let first = arm.trials.iter().filter_map(|(trial, _)| {
            let first = trial.token_ns.first()?;
            Some(first.saturating_sub(trial.started_ns))
        });
        StudyRetrieval {
            arm: arm.arm.name(),
            trials,
            chunks: arm.retrieval.chunks,
            recall: share(found, asked),
            origin_found: share(
                arm.sum(|record| u64::from(record.found.contains(&record.origin))),
                trials,
            ),
            hits: share(arm.sum(|record| u64::from(record.reused > 0)), trials),
            reused: share(reused, reused + computed),
            first_token_ms: law::median(first).map(ns_to_ms),
            prefill_ms: mean_ms(arm.sum(|record| record.prefill_ns)),
            expected_prefill_ms: costs
                .map(|costs| mean_ms(arm.sum(|record| costs.prefill_ns(record.computed)))),
            search_ms: costs.map(|costs| ns_to_ms(costs.search_ns)),
        }
    };
    arms(findings).into_iter().map(summary).collect()
}
