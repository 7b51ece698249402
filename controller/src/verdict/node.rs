//! Whether a node got the CPUs and the CPU time that were asked for.

use hexloop_proto::CpuPinning;

use super::ReasonCode;
use super::judge::{Findings, Quantity};
use crate::results::PhaseResults;

/// How far a CPU quota that was read back may differ from the one asked for.
const QUOTA_TOLERANCE: f64 = 0.01;

/// The name of a quota that is enforced by stopping and continuing processes.
const STOP_CONTINUE: &str = "stop-continue";

/// How much more than its quota such a node may use in a second: its CPU time is then counted in
/// clock ticks of 10 ms per process, and a signal is delivered when its target next runs.
const STOP_CONTINUE_TOLERANCE: f64 = 0.1;

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

/// Whether a node got the CPUs and the CPU time that were asked for.
pub(super) fn pinning(
    findings: &mut Findings,
    node: &str,
    pinning: &CpuPinning,
    phases: &[PhaseResults],
) {
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
