//! Compares what was recorded with the plan's bounds.

use std::collections::{BTreeMap, BTreeSet};

use hexloop_proto::PhaseEnd;
use hexloop_topologies::plan::{LinkPlan, LoadPlan, PhasePlan, Plan, StudyPlan};
use hexloop_traces::Direction;
use hexloop_workloads::job::{Outcome, Placement};

use super::isolation;
use super::link::{P99_NEEDS, calibration, clock_step, lateness};
use super::node::pinning;
use super::{Check, Reason, ReasonCode, Verdict, VerdictOutcome};
use crate::format::{milliseconds, ns_to_ms, percent_of_ppm, share_percent};
use crate::results::{PhaseResults, Results};

#[derive(Debug, Default)]
/// What has been compared so far.
pub(super) struct Findings {
    checks: Vec<Check>,
    reasons: Vec<Reason>,
    notes: Vec<String>,
}

/// A check before it is known whether it holds.
pub(super) struct Quantity<'a> {
    pub(super) code: ReasonCode,
    pub(super) subject: &'a str,
    pub(super) quantity: &'a str,
}

impl Findings {
    pub(super) fn check(
        &mut self,
        what: &Quantity<'_>,
        measured: String,
        bound: String,
        held: Option<bool>,
    ) {
        if held == Some(false) {
            let message = format!("{}: {measured}, bound {bound}", what.quantity);
            self.reason(what.code, what.subject, message);
        }
        self.checks.push(Check {
            code: what.code,
            subject: what.subject.to_owned(),
            quantity: what.quantity.to_owned(),
            measured,
            bound,
            held,
        });
    }

    /// Whether there is a reason not to believe it.
    pub(super) fn verdict(self) -> Verdict {
        let Findings {
            checks,
            reasons,
            notes,
        } = self;
        let outcome = match reasons.is_empty() {
            true => VerdictOutcome::Valid,
            false => VerdictOutcome::Invalid,
        };
        Verdict {
            outcome,
            reasons,
            checks,
            notes,
        }
    }

    pub(super) fn reason(&mut self, code: ReasonCode, subject: &str, message: String) {
        self.reasons.push(Reason {
            code,
            subject: subject.to_owned(),
            message,
        });
    }
}

/// A study is over when its driver says so; one that runs into its limit has trials missing.
fn over_in_time(findings: &mut Findings, study: &StudyPlan, end: &PhaseEnd) {
    let what = Quantity {
        code: ReasonCode::Incomplete,
        subject: &study.name,
        quantity: "time until the study was over",
    };
    let seconds = |ns: u64| format!("{:.1} s", ns_to_ms(ns) / 1000.0);
    let bound = format!("less than its limit of {}", seconds(study.duration_ns));
    let is_over = end.duration_ns < study.duration_ns;
    findings.check(&what, seconds(end.duration_ns), bound, Some(is_over));
}

/// The verdict on a run: a pure function of its plan and its records.
#[must_use]
pub fn judge(plan: &Plan, results: &Results) -> Verdict {
    let mut findings = Findings::default();
    completeness(&mut findings, plan, results);
    let calibrated = |link: &&LinkPlan| !plan.uncalibrated.contains(&link.name);
    for link in plan.links.iter().filter(calibrated) {
        for direction in Direction::BOTH {
            calibration(&mut findings, plan, results, link, direction);
        }
    }
    for phase in &plan.traffic {
        let recorded = results.phase(&phase.name);
        if let Some(end) = recorded.and_then(|recorded| recorded.end.as_ref()) {
            let link = plan.link(&phase.link);
            let plays =
                |node: &str| link.is_some_and(|link| link.ends.iter().any(|end| end.node == node));
            reports(&mut findings, &phase.name, end, plays);
            emulation_checks(&mut findings, plan, &phase.name, end);
        }
    }
    for study in &plan.studies {
        let recorded = results.phase(&study.name);
        if let Some(end) = recorded.and_then(|recorded| recorded.end.as_ref()) {
            let plays = |node: &str| study.path.iter().any(|known| known == node);
            reports(&mut findings, &study.name, end, plays);
            over_in_time(&mut findings, study, end);
            emulation_checks(&mut findings, plan, &study.name, end);
        }
    }
    for phase in &plan.phases {
        if let Some(recorded) = results.phase(&phase.name) {
            phase_checks(&mut findings, plan, phase, recorded);
        }
    }
    for load in &plan.loads {
        if let Some(recorded) = results.phase(&load.name) {
            load_checks(&mut findings, plan, load, recorded);
        }
    }
    for node in &results.nodes {
        pinning(&mut findings, &node.node, &node.pinning, &results.phases);
    }
    isolation::settings(&mut findings, results);
    isolation::noise(&mut findings, plan, results);
    for phase in &results.phases {
        gpus(&mut findings, results, phase);
    }
    let lost = results.lost_events;
    let what = Quantity {
        code: ReasonCode::EventsLost,
        subject: "run",
        quantity: "events lost",
    };
    findings.check(&what, lost.to_string(), "0".to_owned(), Some(lost == 0));
    if !plan.uncalibrated.is_empty() {
        findings.notes.push(format!(
            "{} links were not calibrated, and nothing is claimed about them",
            plan.uncalibrated.len()
        ));
    }
    if plan.faults.is_any() {
        let faults = serde_json::to_string(&plan.faults).unwrap_or_default();
        findings
            .notes
            .push(format!("faults were injected on purpose: {faults}"));
    }
    findings.verdict()
}

fn completeness(findings: &mut Findings, plan: &Plan, results: &Results) {
    if let Some((message, _)) = &results.failure {
        findings.reason(
            ReasonCode::Incomplete,
            "run",
            format!("the run failed: {message}"),
        );
    }
    for node in &plan.nodes {
        if !results.nodes.iter().any(|up| up.node == node.name) {
            let message = "the node never came up".to_owned();
            findings.reason(ReasonCode::Incomplete, &node.name, message);
        }
    }
    for (phase, _) in plan.phase_spans() {
        if results
            .phase(phase)
            .is_none_or(|recorded| recorded.end.is_none())
        {
            let message = "the phase was not played to its end".to_owned();
            findings.reason(ReasonCode::Incomplete, phase, message);
        }
    }
}

/// What a server that is no part of this program answers is its own affair; what the load generator
/// and the emulation did is judged as everywhere.
fn load_checks(findings: &mut Findings, plan: &Plan, load: &LoadPlan, recorded: &PhaseResults) {
    let deadline_ns = load.load.deadline_ns;
    send_lateness(findings, plan, (&load.name, deadline_ns), recorded);
    let Some(end) = &recorded.end else { return };
    if let Some(schedule) = load.schedule(plan.seed) {
        let begun = recorded
            .exchanges
            .values()
            .filter(|it| it.turn == 0)
            .count();
        let what = Quantity {
            code: ReasonCode::Incomplete,
            subject: &load.name,
            quantity: "scheduled requests with a record",
        };
        let (measured, bound) = (begun.to_string(), schedule.len().to_string());
        findings.check(&what, measured, bound, Some(begun == schedule.len()));
    }
    reports(findings, &load.name, end, |node| node == load.node);
    emulation_checks(findings, plan, &load.name, end);
}

fn phase_checks(findings: &mut Findings, plan: &Plan, phase: &PhasePlan, recorded: &PhaseResults) {
    let deadline_ns = phase.requests.deadline_ns;
    send_lateness(findings, plan, (&phase.name, deadline_ns), recorded);
    for record in recorded.requests.values() {
        if let Outcome::Failed { reason } = &record.outcome {
            let message = format!("request {} failed: {reason}", record.id);
            findings.reason(ReasonCode::JobFailed, &phase.name, message);
        }
    }
    let Some(end) = &recorded.end else { return };
    requests_recorded(findings, plan, phase, recorded);
    let edge_plays = phase.placement != Placement::Device;
    let plays = |node: &str| node == phase.device || (edge_plays && node == phase.edge);
    reports(findings, &phase.name, end, plays);
    emulation_checks(findings, plan, &phase.name, end);
}

/// Jobs that played must have given their totals.
fn reports(findings: &mut Findings, phase: &str, end: &PhaseEnd, plays: impl Fn(&str) -> bool) {
    for job in end.jobs.iter().filter(|job| plays(&job.node)) {
        if job.totals.is_none() {
            let message = format!("the job on {} ended without a report", job.node);
            findings.reason(ReasonCode::JobFailed, phase, message);
        }
    }
}

/// What shaper, clocks and relay did in a phase of whatever kind.
fn emulation_checks(findings: &mut Findings, plan: &Plan, phase: &str, end: &PhaseEnd) {
    for (link, direction, late) in &end.lateness {
        let subject = format!("{link} {} in phase {phase}", direction.name());
        let what = Quantity {
            code: ReasonCode::ShaperLateness,
            subject: &subject,
            quantity: "shaper lateness p99",
        };
        lateness(findings, &what, late, plan.verdict.shaper_lateness_ns);
    }
    let what = Quantity {
        code: ReasonCode::ClockStep,
        subject: phase,
        quantity: "step of the wall clock while the jobs ran",
    };
    // The step is that between two looks of a tap, so nearly nothing may be slew.
    clock_step(findings, &what, end.clock_step_ns, 0);
    for (node, cpu_ns) in &end.relay_cpu_ns {
        let cpus = plan.node(node).map_or(1, |node| node.cpus.len().max(1));
        let cpus = u64::try_from(cpus).unwrap_or(1);
        let available = end.duration_ns.saturating_mul(cpus);
        let subject = format!("{node} in phase {phase}");
        let what = Quantity {
            code: ReasonCode::RelayCpu,
            subject: &subject,
            quantity: "CPU that the relay took from this node's CPUs",
        };
        let bound = percent_of_ppm(plan.verdict.relay_cpu_ppm);
        let held = u128::from(*cpu_ns) * 1_000_000
            <= u128::from(plan.verdict.relay_cpu_ppm) * u128::from(available);
        findings.check(
            &what,
            share_percent(*cpu_ns, available.max(1)),
            bound,
            Some(held),
        );
    }
    isolation::interrupts(findings, plan, phase, end);
}

/// Every request of the schedule must have left a record, and no other.
fn requests_recorded(
    findings: &mut Findings,
    plan: &Plan,
    phase: &PhasePlan,
    recorded: &PhaseResults,
) {
    let schedule = phase.schedule(plan.seed);
    let known = schedule
        .iter()
        .filter(|request| recorded.requests.contains_key(&request.id))
        .count();
    let what = Quantity {
        code: ReasonCode::Incomplete,
        subject: &phase.name,
        quantity: "scheduled requests with a record",
    };
    let unscheduled = recorded.requests.len() - known;
    let measured = match unscheduled {
        0 => known.to_string(),
        more => format!("{known} and {more} that were never scheduled"),
    };
    let held = known == schedule.len() && unscheduled == 0;
    findings.check(&what, measured, schedule.len().to_string(), Some(held));
}

fn send_lateness(
    findings: &mut Findings,
    plan: &Plan,
    (phase, deadline_ns): (&str, u64),
    recorded: &PhaseResults,
) {
    let mut late: Vec<u64> = recorded
        .requests
        .values()
        .map(|record| record.sent_ns.saturating_sub(record.scheduled_ns))
        .collect();
    late.sort_unstable();
    let Some(&largest) = late.last() else { return };
    let bound = u128::from(deadline_ns) * u128::from(plan.verdict.send_lateness_ppm);
    let bound_ns = u64::try_from(bound / 1_000_000).unwrap_or(u64::MAX);
    let count = u64::try_from(late.len()).unwrap_or(u64::MAX);
    // With too few requests for a percentile, the largest stands in: it cannot be smaller.
    let (value, measured) = if count < P99_NEEDS {
        (
            largest,
            format!("at most {} (n = {count})", milliseconds(largest)),
        )
    } else {
        let index = (late.len() * 99).div_ceil(100) - 1;
        (
            late[index],
            format!("{} (n = {count})", milliseconds(late[index])),
        )
    };
    let what = Quantity {
        code: ReasonCode::SendLateness,
        subject: phase,
        quantity: "send lateness p99 of the load generator",
    };
    findings.check(
        &what,
        measured,
        milliseconds(bound_ns),
        Some(value <= bound_ns),
    );
}

/// No process of somebody else may have used a GPU of the run, and none may have been lost.
fn gpus(findings: &mut Findings, results: &Results, phase: &PhaseResults) {
    let mut foreign: BTreeMap<&str, BTreeSet<u32>> = BTreeMap::new();
    let samples = phase.gpus.iter();
    for sample in samples.filter(|sample| results.is_of_the_run(&sample.uuid)) {
        if let Some(trouble) = &sample.trouble {
            let message = format!("in phase {}: {trouble}", phase.name);
            let is_new = !findings
                .reasons
                .iter()
                .any(|reason| reason.message == message);
            if is_new {
                findings.reason(ReasonCode::GpuNotOurs, &sample.uuid, message);
            }
        }
        let pids = sample.foreign_processes.iter().flatten();
        foreign.entry(&sample.uuid).or_default().extend(pids);
    }
    for (uuid, pids) in foreign {
        let what = Quantity {
            code: ReasonCode::GpuNotOurs,
            subject: uuid,
            quantity: "processes of others on the GPU",
        };
        let measured = match pids.is_empty() {
            true => format!("none in phase {}", phase.name),
            false => format!("{pids:?} in phase {}", phase.name),
        };
        findings.check(&what, measured, "none".to_owned(), Some(pids.is_empty()));
    }
}
