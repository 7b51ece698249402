//! Compares what was recorded with the plan's bounds.

use hexloop_proto::{CpuPinning, LateHistogram, LinkCalibration, LinkWindow};
use hexloop_topologies::plan::{PhasePlan, Plan, VerdictBounds};
use hexloop_traces::Direction;
use hexloop_workloads::job::{Outcome, Placement};

use super::{Check, Reason, ReasonCode, Verdict, VerdictOutcome};
use crate::format::{milliseconds, percent_of_ppm, share_percent};
use crate::results::{PhaseResults, Results};

/// Fewest values that carry a 99th percentile (MLPerf's early-stopping bound).
const P99_NEEDS: u64 = 459;

/// What a disciplined clock may slew, in parts per million of the time that passed.
const SLEW_PPM: u64 = 500;

/// What reading two clocks one after the other may differ by.
const CLOCK_READ_NS: u64 = 1_000_000;

/// How far a CPU quota that was read back may differ from the one asked for.
const QUOTA_TOLERANCE: f64 = 0.01;

/// The name of a quota that is enforced by stopping and continuing processes.
const STOP_CONTINUE: &str = "stop-continue";

/// How much more than its quota such a node may use in a second: its CPU time is then counted in
/// clock ticks of 10 ms per process, and a signal is delivered when its target next runs.
const STOP_CONTINUE_TOLERANCE: f64 = 0.1;

#[derive(Debug, Default)]
struct Findings {
    checks: Vec<Check>,
    reasons: Vec<Reason>,
    notes: Vec<String>,
}

/// A check before it is known whether it holds.
struct Quantity<'a> {
    code: ReasonCode,
    subject: &'a str,
    quantity: &'a str,
}

impl Findings {
    fn check(&mut self, what: &Quantity<'_>, measured: String, bound: String, held: Option<bool>) {
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

    fn reason(&mut self, code: ReasonCode, subject: &str, message: String) {
        self.reasons.push(Reason {
            code,
            subject: subject.to_owned(),
            message,
        });
    }
}

/// The verdict on a run: a pure function of its plan and its records.
#[must_use]
pub fn judge(plan: &Plan, results: &Results) -> Verdict {
    let mut findings = Findings::default();
    completeness(&mut findings, plan, results);
    for link in &plan.links {
        for direction in Direction::BOTH {
            calibration(&mut findings, plan, results, &link.name, direction);
        }
    }
    for phase in &plan.phases {
        if let Some(recorded) = results.phase(&phase.name) {
            phase_checks(&mut findings, plan, phase, recorded);
        }
    }
    for node in &results.nodes {
        pinning(&mut findings, &node.node, &node.pinning, &results.phases);
    }
    let lost = results.lost_events;
    let what = Quantity {
        code: ReasonCode::EventsLost,
        subject: "run",
        quantity: "events lost",
    };
    findings.check(&what, lost.to_string(), "0".to_owned(), Some(lost == 0));
    if plan.faults.is_any() {
        let faults = serde_json::to_string(&plan.faults).unwrap_or_default();
        findings
            .notes
            .push(format!("faults were injected on purpose: {faults}"));
    }
    let outcome = match findings.reasons.is_empty() {
        true => VerdictOutcome::Valid,
        false => VerdictOutcome::Invalid,
    };
    let Findings {
        checks,
        reasons,
        notes,
    } = findings;
    Verdict {
        outcome,
        reasons,
        checks,
        notes,
    }
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
    for phase in &plan.phases {
        if results
            .phase(&phase.name)
            .is_none_or(|recorded| recorded.end.is_none())
        {
            let message = "the phase was not played to its end".to_owned();
            findings.reason(ReasonCode::Incomplete, &phase.name, message);
        }
    }
}

fn calibration(
    findings: &mut Findings,
    plan: &Plan,
    results: &Results,
    link: &str,
    direction: Direction,
) {
    let subject = format!("{link} {}", direction.name());
    let found = results
        .calibrations
        .iter()
        .find(|calibration| calibration.link == link && calibration.direction == direction);
    let Some(found) = found else {
        let message = "this direction was never calibrated".to_owned();
        findings.reason(ReasonCode::Incomplete, &subject, message);
        return;
    };
    let bounds = &plan.verdict;
    let windows = found.backlogged_windows;
    let what = Quantity {
        code: ReasonCode::TooFewBackloggedWindows,
        subject: &subject,
        quantity: "calibration windows with a queue that was never empty",
    };
    let bound = format!("at least {}", bounds.backlogged_windows);
    let held = windows >= bounds.backlogged_windows;
    findings.check(&what, windows.to_string(), bound, Some(held));

    let what = Quantity {
        code: ReasonCode::RateError,
        subject: &subject,
        quantity: "|delivered / trace - 1| in calibration",
    };
    rate(
        findings,
        &what,
        bounds,
        found.delivered_bytes,
        found.trace_bytes,
    );

    let run_windows = results.phases.iter().flat_map(|phase| &phase.windows);
    let run = backlogged_totals(run_windows, link, direction);
    let what = Quantity {
        quantity: "|delivered / trace - 1| while the jobs ran",
        ..what
    };
    if run.windows >= bounds.backlogged_windows && run.trace_bytes > 0 {
        rate(
            findings,
            &what,
            bounds,
            run.delivered_bytes,
            run.trace_bytes,
        );
    } else {
        let measured = format!("only {} backlogged windows: not judged", run.windows);
        let bound = format!("{} windows needed", bounds.backlogged_windows);
        findings.check(&what, measured, bound, None);
    }
    delay(findings, bounds, found, &subject);
    let what = Quantity {
        code: ReasonCode::ShaperLateness,
        subject: &subject,
        quantity: "shaper lateness p99 in calibration",
    };
    lateness(findings, &what, &found.lateness, bounds.shaper_lateness_ns);

    let step = found.clock_step_ns.unsigned_abs();
    let bound = CLOCK_READ_NS + plan.calibration.flow_ns / 1_000_000 * SLEW_PPM;
    let what = Quantity {
        code: ReasonCode::ClockStep,
        subject: &subject,
        quantity: "step of the wall clock in calibration",
    };
    findings.check(
        &what,
        milliseconds(step),
        milliseconds(bound),
        Some(step <= bound),
    );
}

/// Sums over the windows of one direction in which the queue was never empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Backlogged {
    pub(crate) windows: u64,
    pub(crate) delivered_bytes: u64,
    pub(crate) trace_bytes: u64,
}

pub(crate) fn backlogged_totals<'a>(
    windows: impl Iterator<Item = &'a LinkWindow>,
    link: &str,
    direction: Direction,
) -> Backlogged {
    let mut totals = Backlogged::default();
    for window in windows {
        if window.backlogged && window.link == link && window.direction == direction {
            totals.windows += 1;
            totals.delivered_bytes += window.delivered_bytes;
            totals.trace_bytes += window.trace_bytes;
        }
    }
    totals
}

fn rate(
    findings: &mut Findings,
    what: &Quantity<'_>,
    bounds: &VerdictBounds,
    delivered: u64,
    trace: u64,
) {
    let bound = percent_of_ppm(bounds.rate_error_ppm);
    if trace == 0 {
        let measured = "the trace allowed no byte in the measured windows".to_owned();
        findings.check(what, measured, bound, Some(false));
        return;
    }
    let difference = u128::from(delivered.abs_diff(trace));
    let held = difference * 1_000_000 <= u128::from(bounds.rate_error_ppm) * u128::from(trace);
    let error = share_percent(delivered.abs_diff(trace), trace);
    let measured = format!("{error} ({delivered} of {trace} bytes)");
    findings.check(what, measured, bound, Some(held));
}

fn delay(findings: &mut Findings, bounds: &VerdictBounds, found: &LinkCalibration, subject: &str) {
    let relative = u128::from(found.asked_delay_ns) * u128::from(bounds.delay_error_ppm);
    let relative = u64::try_from(relative / 1_000_000).unwrap_or(u64::MAX);
    let bound_ns = bounds.delay_error_ns.max(relative);
    let asked = milliseconds(found.asked_delay_ns);
    match found.delay_error.p99_ns {
        Some(p99) => {
            let what = Quantity {
                code: ReasonCode::DelayError,
                subject,
                quantity: "one-way delay error p99 on an empty queue",
            };
            let measured = format!("{} of {asked} asked", milliseconds(p99));
            findings.check(
                &what,
                measured,
                milliseconds(bound_ns),
                Some(p99 <= bound_ns),
            );
        }
        None => {
            let what = Quantity {
                code: ReasonCode::TooFewProbes,
                subject,
                quantity: "probes of the one-way delay that arrived",
            };
            let measured = format!("{} ({} lost)", found.delay_error.count, found.probes_lost);
            findings.check(
                &what,
                measured,
                format!("at least {P99_NEEDS}"),
                Some(false),
            );
        }
    }
}

fn lateness(findings: &mut Findings, what: &Quantity<'_>, late: &LateHistogram, bound_ns: u64) {
    if late.count == 0 {
        // The kernel's own shapers keep no such books, and an unused link has sent nothing.
        return;
    }
    let bound = milliseconds(bound_ns);
    let (measured, held) = match (late.p99_ns, late.max_ns) {
        (Some(p99), _) => (
            format!("{} (n = {})", milliseconds(p99), late.count),
            Some(p99 <= bound_ns),
        ),
        // Too few for a percentile: the largest value can still show that all were in time.
        (None, Some(max)) => (
            format!(
                "at most {} (n = {}, p99 needs {P99_NEEDS})",
                milliseconds(max),
                late.count
            ),
            (max <= bound_ns).then_some(true),
        ),
        (None, None) => return,
    };
    findings.check(what, measured, bound, held);
}

fn phase_checks(findings: &mut Findings, plan: &Plan, phase: &PhasePlan, recorded: &PhaseResults) {
    send_lateness(findings, plan, phase, recorded);
    for record in recorded.requests.values() {
        if let Outcome::Failed { reason } = &record.outcome {
            let message = format!("request {} failed: {reason}", record.id);
            findings.reason(ReasonCode::JobFailed, &phase.name, message);
        }
    }
    let Some(end) = &recorded.end else { return };
    let edge_plays = phase.placement != Placement::Device;
    let plays = |node: &str| node == phase.device || (edge_plays && node == phase.edge);
    for job in end.jobs.iter().filter(|job| plays(&job.node)) {
        if job.totals.is_none() {
            let message = format!("the job on {} ended without a report", job.node);
            findings.reason(ReasonCode::JobFailed, &phase.name, message);
        }
    }
    for (link, direction, late) in &end.lateness {
        let subject = format!("{link} {} in phase {}", direction.name(), phase.name);
        let what = Quantity {
            code: ReasonCode::ShaperLateness,
            subject: &subject,
            quantity: "shaper lateness p99",
        };
        lateness(findings, &what, late, plan.verdict.shaper_lateness_ns);
    }
    for (node, cpu_ns) in &end.relay_cpu_ns {
        let cpus = plan.node(node).map_or(1, |node| node.cpus.len().max(1));
        let cpus = u64::try_from(cpus).unwrap_or(1);
        let available = end.duration_ns.saturating_mul(cpus);
        let subject = format!("{node} in phase {}", phase.name);
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
}

fn send_lateness(findings: &mut Findings, plan: &Plan, phase: &PhasePlan, recorded: &PhaseResults) {
    let mut late: Vec<u64> = recorded
        .requests
        .values()
        .map(|record| record.sent_ns.saturating_sub(record.scheduled_ns))
        .collect();
    late.sort_unstable();
    let Some(&largest) = late.last() else { return };
    let bound = u128::from(phase.requests.deadline_ns) * u128::from(plan.verdict.send_lateness_ppm);
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
        subject: &phase.name,
        quantity: "send lateness p99 of the load generator",
    };
    findings.check(
        &what,
        measured,
        milliseconds(bound_ns),
        Some(value <= bound_ns),
    );
}

/// The largest CPU time per wall time that a node's samples show over a second or more.
fn busiest_second(node: &str, phases: &[PhaseResults]) -> Option<f64> {
    let second_ns = 1_000_000_000;
    let mut busiest: Option<f64> = None;
    for phase in phases {
        let samples: Vec<_> = phase.samples.iter().filter(|s| s.node == node).collect();
        for (index, first) in samples.iter().enumerate() {
            let later = samples[index..]
                .iter()
                .find(|s| s.at_ns >= first.at_ns + second_ns);
            let Some(last) = later else { break };
            #[expect(
                clippy::cast_precision_loss,
                reason = "a few seconds in ns are below 2^53"
            )]
            let used =
                last.cpu_ns.saturating_sub(first.cpu_ns) as f64 / (last.at_ns - first.at_ns) as f64;
            busiest = Some(busiest.map_or(used, |before| before.max(used)));
        }
    }
    busiest
}

fn pinning(findings: &mut Findings, node: &str, pinning: &CpuPinning, phases: &[PhaseResults]) {
    let list = |cpus: &[u32]| {
        let names: Vec<String> = cpus.iter().map(u32::to_string).collect();
        names.join(",")
    };
    let what = Quantity {
        code: ReasonCode::CpusNotApplied,
        subject: node,
        quantity: "numbers of the CPUs it may use",
    };
    let measured = format!("{} by {}", list(&pinning.got_cpus), pinning.cpus_by);
    let held = pinning.got_cpus == pinning.asked_cpus;
    findings.check(&what, measured, list(&pinning.asked_cpus), Some(held));
    let Some(asked) = pinning.asked_quota else {
        return;
    };
    if pinning.quota_by == STOP_CONTINUE {
        // Nothing can be read back, so what the node used is judged.
        let what = Quantity {
            code: ReasonCode::CpuQuotaNotApplied,
            subject: node,
            quantity: "CPU time per wall time in the busiest second",
        };
        let (measured, held) = match busiest_second(node, phases) {
            Some(used) => (
                format!("{used:.3} by {STOP_CONTINUE}"),
                Some(used <= asked * (1.0 + STOP_CONTINUE_TOLERANCE)),
            ),
            None => (
                format!("no second of samples, by {STOP_CONTINUE}"),
                Some(false),
            ),
        };
        findings.check(&what, measured, format!("at most {asked:.3}"), held);
        return;
    }
    let held = pinning
        .got_quota
        .is_some_and(|got| (got / asked - 1.0).abs() <= QUOTA_TOLERANCE);
    let got = pinning
        .got_quota
        .map_or_else(|| "none".to_owned(), |got| format!("{got:.3}"));
    let period = pinning.got_period_us.map_or_else(
        || "no period".to_owned(),
        |period| format!("period {period} us"),
    );
    let what = Quantity {
        code: ReasonCode::CpuQuotaNotApplied,
        subject: node,
        quantity: "CPU time per wall time",
    };
    let measured = format!("{got} ({period}) by {}", pinning.quota_by);
    findings.check(&what, measured, format!("{asked:.3}"), Some(held));
}
