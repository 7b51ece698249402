//! Rows of the KPI tables: which were in time at which rate, by how much, and which were not tried.

pub(in crate::summary) mod on_trace;

use std::collections::BTreeMap;

use hexloop_topologies::plan::Plan;
use hexloop_traces::Trace;
use hexloop_workloads::study::kpi::{KpiRow, KpiSpec, Way};
use hexloop_workloads::study::{Arm, TrialRecord};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use on_trace::{KpiByTrace, KpiOnTrace};

use self::on_trace::{LinkTrace, RowSent};
use super::{Findings, law};
use crate::format::{count_to_f64, length, ns_to_ms, rounded};

/// A row of 3GPP TS 22.261 clause 7.10.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyKpi {
    /// The table.
    pub table: String,
    /// What it is for.
    pub use_case: String,
    /// `up` or `down`.
    pub direction: String,
    /// The most that it may take, in milliseconds.
    pub latency_ms: Option<u32>,
    /// The rate that the table lists, in Mbit/s.
    pub listed_mbps: Option<f64>,
    /// Payload over latency as the table has them, in Mbit/s.
    pub implied_mbps: Option<f64>,
    /// What payload and rate were divided by.
    pub scale: u32,
    /// What was sent at a time, after that; null if it was not tried.
    pub payload_bytes: Option<u64>,
    /// Why it was not tried; null if it was.
    pub not_tried: Option<String>,
    /// What came of it, at each rate.
    pub outcomes: Vec<KpiOutcome>,
    /// What came of it on the link's trace; null where it was not sent there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_trace: Option<KpiOnTrace>,
}

/// A row at a rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct KpiOutcome {
    /// The rate in percent of payload over latency.
    pub percent: u32,
    /// The rate of the link, in Mbit/s.
    pub rate_mbps: f64,
    /// How often it was sent.
    pub sent: u64,
    /// How often it was in time.
    pub in_time: u64,
    /// From the first byte's sending to the last one's arrival, the median, in milliseconds.
    pub median_ms: f64,
    /// The longest.
    pub longest_ms: f64,
    /// What the median leaves of the latency, as a share of it; negative if it was late.
    pub margin: f64,
    /// `pass` if all were in time, `fail` if none was, else `mixed`.
    pub verdict: String,
}

/// The transmissions of a row at a rate.
pub(in crate::summary) struct Sent<'a> {
    pub(in crate::summary) row: &'static KpiRow,
    pub(in crate::summary) percent: u32,
    pub(in crate::summary) latency_ns: u64,
    pub(in crate::summary) trials: Vec<&'a TrialRecord>,
}

pub(in crate::summary) fn took_ns(trial: &TrialRecord) -> u64 {
    let arrived = trial.token_ns.last().copied().unwrap_or(u64::MAX);
    arrived.saturating_sub(trial.started_ns)
}

impl Sent<'_> {
    pub(in crate::summary) fn in_time(&self) -> u64 {
        let trials = self.trials.iter();
        let in_time = trials.filter(|trial| took_ns(trial) <= self.latency_ns);
        u64::try_from(in_time.count()).unwrap_or(u64::MAX)
    }
}

/// Everything that was sent, in the order of the plan.
pub(in crate::summary) fn sent<'a>(findings: &Findings<'a>) -> Vec<Sent<'a>> {
    let study = &findings.plan.study;
    let of_arm = |arm: &Arm| {
        let Arm::Kpi { row, percent } = *arm else {
            return None;
        };
        let spec = study.kpi.as_ref()?;
        let row = spec.rows().find(|(place, _)| *place == row)?.1;
        let trials = findings.trials.iter().copied();
        Some(Sent {
            row,
            percent,
            latency_ns: spec.flow(row).ok()?.latency_ns,
            trials: trials.filter(|trial| trial.arm == *arm).collect(),
        })
    };
    study.arms.iter().filter_map(of_arm).collect()
}

pub(super) fn summaries(
    plan: &Plan,
    traces: &BTreeMap<String, Trace>,
    findings: &Findings<'_>,
) -> Vec<StudyKpi> {
    let Some(spec) = &findings.plan.study.kpi else {
        return Vec::new();
    };
    let all = sent(findings);
    let trace = LinkTrace::of(plan, traces, findings.plan);
    let on_trace = on_trace::sent(findings, trace.as_ref());
    let name = on_trace::name_of(plan, findings.plan);
    let of_row = |row: &KpiRow| -> Option<KpiOnTrace> {
        let own = on_trace.iter().find(|sent: &&RowSent| sent.row == row)?;
        own.summary(name?)
    };
    let rows = spec.rows();
    rows.map(|(_, row)| summary(spec, (row, of_row(row)), &all))
        .collect()
}

fn summary(
    spec: &KpiSpec,
    (row, on_trace): (&'static KpiRow, Option<KpiOnTrace>),
    all: &[Sent<'_>],
) -> StudyKpi {
    let flow = spec.flow(row);
    let mbps = |bps: u64| rounded(count_to_f64(bps) / 1e6, 6);
    let own = all.iter().filter(|sent| sent.row == row);
    StudyKpi {
        table: row.table.to_owned(),
        use_case: row.use_case.to_owned(),
        direction: match row.way {
            Way::Up => "up",
            Way::Down => "down",
        }
        .to_owned(),
        latency_ms: row.latency_ms,
        listed_mbps: row.listed_kbps.map(|kbps| mbps(1000 * u64::from(kbps))),
        implied_mbps: row.implied_bps().map(mbps),
        scale: spec.scale,
        payload_bytes: flow.as_ref().ok().map(|flow| flow.payload_bytes),
        not_tried: flow.err(),
        outcomes: own.filter_map(outcome).collect(),
        on_trace,
    }
}

/// What came of transmissions of a row.
struct Times {
    in_time: u64,
    median_ms: f64,
    longest_ms: f64,
    margin: f64,
    verdict: &'static str,
}

impl Times {
    /// Of what they took; `None` if there are none.
    fn of(took_ns: &[u64], latency_ns: u64) -> Option<Times> {
        let median = law::median(took_ns.iter().copied())?;
        let latency = count_to_f64(latency_ns);
        let in_time = took_ns.iter().filter(|took_ns| **took_ns <= latency_ns);
        let in_time = in_time.count();
        Some(Times {
            in_time: u64::try_from(in_time).unwrap_or(u64::MAX),
            median_ms: ns_to_ms(median),
            longest_ms: ns_to_ms(*took_ns.iter().max()?),
            margin: rounded((latency - count_to_f64(median)) / latency.max(1.0), 6),
            verdict: match in_time {
                all if all == took_ns.len() => "pass",
                0 => "fail",
                _ => "mixed",
            },
        })
    }
}

fn outcome(sent: &Sent<'_>) -> Option<KpiOutcome> {
    let took: Vec<u64> = sent.trials.iter().map(|trial| took_ns(trial)).collect();
    let times = Times::of(&took, sent.latency_ns)?;
    let rate_bps = sent.trials.first()?.rate_bps;
    Some(KpiOutcome {
        percent: sent.percent,
        rate_mbps: rounded(count_to_f64(rate_bps) / 1e6, 6),
        sent: length(&took),
        in_time: times.in_time,
        median_ms: times.median_ms,
        longest_ms: times.longest_ms,
        margin: times.margin,
        verdict: times.verdict.to_owned(),
    })
}
