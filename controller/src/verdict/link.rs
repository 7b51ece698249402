//! Whether a link did what its trace asked: rate, delay, lateness.

use hexloop_proto::{LateHistogram, LinkCalibration, LinkWindow};
use hexloop_topologies::plan::{LinkPlan, Plan, VerdictBounds};
use hexloop_traces::Direction;

use super::ReasonCode;
use super::judge::{Findings, Quantity};
use crate::format::{milliseconds, percent_of_ppm, share_percent};
use crate::results::Results;

/// Fewest values that carry a 99th percentile (MLPerf's early-stopping bound).
pub(super) const P99_NEEDS: u64 = 459;

/// What a disciplined clock may slew, in parts per million of the time that passed.
const SLEW_PPM: u64 = 500;

/// What reading two clocks one after the other may differ by.
const CLOCK_READ_NS: u64 = 1_000_000;

/// Compares what calibration found in one direction, and the backlogged windows of the run.
pub(super) fn calibration(
    findings: &mut Findings,
    plan: &Plan,
    results: &Results,
    planned: &LinkPlan,
    direction: Direction,
) {
    let link = planned.name.as_str();
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
    let run = backlogged_totals(run_windows, link, direction, Grain::of(plan, planned));
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
        let measured = format!("not judged: {} backlogged windows", run.windows);
        let bound = format!("{} are needed", bounds.backlogged_windows);
        findings.check(&what, measured, bound, None);
    }
    delay(findings, bounds, found, &subject);
    let what = Quantity {
        code: ReasonCode::ShaperLateness,
        subject: &subject,
        quantity: "shaper lateness p99 in calibration",
    };
    lateness(findings, &what, &found.lateness, bounds.shaper_lateness_ns);

    let what = Quantity {
        code: ReasonCode::ClockStep,
        subject: &subject,
        quantity: "step of the wall clock in calibration",
    };
    clock_step(
        findings,
        &what,
        found.clock_step_ns,
        plan.calibration.flow_ns,
    );
}

/// Compares a step of the wall clock with what a disciplined clock may slew over that time.
pub(super) fn clock_step(findings: &mut Findings, what: &Quantity<'_>, step_ns: i64, over_ns: u64) {
    let step = step_ns.unsigned_abs();
    let bound = CLOCK_READ_NS + over_ns / 1_000_000 * SLEW_PPM;
    findings.check(
        what,
        milliseconds(step),
        milliseconds(bound),
        Some(step <= bound),
    );
}

/// Sums over the windows of one direction in which the queue was never empty and the trace allowed
/// something: a queue that waits for the end of an outage says nothing about the rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Backlogged {
    pub(crate) windows: u64,
    pub(crate) delivered_bytes: u64,
    pub(crate) trace_bytes: u64,
}

/// What a comparison of whole packets with a trace can tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Grain {
    /// The longest packet of the link.
    pub(crate) packet_bytes: u64,
    /// The error that is looked for.
    pub(crate) rate_error_ppm: u64,
}

impl Grain {
    /// That of a link under the plan's bounds.
    pub(crate) fn of(plan: &Plan, link: &LinkPlan) -> Grain {
        Grain {
            packet_bytes: u64::from(link.mtu),
            rate_error_ppm: plan.verdict.rate_error_ppm,
        }
    }
}

/// Adds windows of one direction up as they come, in their order.
///
/// The last packet of a queue arrives when the queue is empty, in a window that does not count. Where
/// every window has room for a packet, the part of the first packet that came before the first window makes up
/// for it on average. Where a packet takes longer than a window nothing does: then windows without a gap
/// count only if a packet is no more than the error that is looked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct BacklogSums {
    grain: Grain,
    total: Backlogged,
    /// The windows since the last gap, and whether one of them has no room for a packet.
    run: Backlogged,
    splits_packets: bool,
    run_ends_ns: Option<u64>,
}

impl BacklogSums {
    pub(crate) fn new(grain: Grain) -> BacklogSums {
        BacklogSums {
            grain,
            ..BacklogSums::default()
        }
    }

    pub(crate) fn add(&mut self, window: &LinkWindow) {
        let counts = window.backlogged && window.trace_bytes > 0;
        if !counts || self.run_ends_ns != Some(window.start_ns) {
            *self = BacklogSums {
                total: self.totals(),
                ..BacklogSums::new(self.grain)
            };
        }
        if counts {
            self.run.windows += 1;
            self.run.delivered_bytes += window.delivered_bytes;
            self.run.trace_bytes += window.trace_bytes;
            self.splits_packets |= window.trace_bytes < self.grain.packet_bytes;
            self.run_ends_ns = window.start_ns.checked_add(window.length_ns);
        }
    }

    /// What counts of all that came.
    pub(crate) fn totals(&self) -> Backlogged {
        let tolerated = u128::from(self.run.trace_bytes) * u128::from(self.grain.rate_error_ppm);
        if self.splits_packets && tolerated < u128::from(self.grain.packet_bytes) * 1_000_000 {
            return self.total;
        }
        Backlogged {
            windows: self.total.windows + self.run.windows,
            delivered_bytes: self.total.delivered_bytes + self.run.delivered_bytes,
            trace_bytes: self.total.trace_bytes + self.run.trace_bytes,
        }
    }
}

/// Those of one direction among the windows of all.
pub(crate) fn backlogged_totals<'a>(
    windows: impl Iterator<Item = &'a LinkWindow>,
    link: &str,
    direction: Direction,
    grain: Grain,
) -> Backlogged {
    let mut sums = BacklogSums::new(grain);
    windows
        .filter(|window| window.link == link && window.direction == direction)
        .for_each(|window| sums.add(window));
    sums.totals()
}

/// Compares what was delivered with what the trace allowed meanwhile, in bytes.
pub(super) fn rate(
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

/// Compares how late packets left the shaper, or how late a trace's rows were set.
///
/// Of fewer values than carry a percentile, the largest shows that all were in time, and the median that they were
/// not: with n values the chance that half of them or more lie above what 99 of 100 stay below is 1 % for one and
/// less for more. A trace of one row has one.
pub(super) fn lateness(
    findings: &mut Findings,
    what: &Quantity<'_>,
    late: &LateHistogram,
    bound_ns: u64,
) {
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
        (None, Some(max)) => (
            format!(
                "at most {} (n = {}, p99 needs {P99_NEEDS})",
                milliseconds(max),
                late.count
            ),
            match late.p50_ns {
                _ if max <= bound_ns => Some(true),
                Some(median) if median > bound_ns => Some(false),
                _ => None,
            },
        ),
        (None, None) => return,
    };
    findings.check(what, measured, bound, held);
}
