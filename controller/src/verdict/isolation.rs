//! Whether others were kept away from the nodes, as the experiment asks.

use hexloop_proto::PhaseEnd;
use hexloop_topologies::plan::Plan;

use super::ReasonCode;
use super::judge::{Findings, Quantity};
use crate::format::{milliseconds, percent_of_ppm, share_percent};
use crate::results::Results;

/// Settings that were asked for, and the temperature.
pub(super) fn settings(findings: &mut Findings, results: &Results) {
    for setting in results.all_settings() {
        let Some(asked) = &setting.asked else {
            continue;
        };
        let what = Quantity {
            code: ReasonCode::SettingNotApplied,
            subject: &setting.what,
            quantity: "setting, read back",
        };
        let got = setting.got.as_deref().unwrap_or("nothing");
        let got = match &setting.note {
            Some(note) => format!("{got} ({note})"),
            None => got.to_owned(),
        };
        findings.check(&what, got, asked.clone(), setting.held);
    }
    if let Some(cooling) = &results.cooling {
        let what = Quantity {
            code: ReasonCode::SettingNotApplied,
            subject: "machine",
            quantity: "temperature before the phases",
        };
        let measured = match (cooling.after_c, &cooling.why) {
            (Some(degrees), _) => format!("{degrees} C by {}", cooling.source),
            (None, Some(why)) => why.clone(),
            (None, None) => "not read".to_owned(),
        };
        let bound = format!("at most {} C", cooling.asked_c);
        findings.check(&what, measured, bound, cooling.held());
    }
}

/// How quiet the machine was, where the experiment bounds it.
pub(super) fn noise(findings: &mut Findings, plan: &Plan, results: &Results) {
    let bounds = &plan.verdict;
    let noise = results.noise.as_ref();
    if let Some(bound) = bounds.steal_ppm {
        let steal = noise.and_then(|noise| noise.steal_ppm);
        let what = Quantity {
            code: ReasonCode::NoisyMachine,
            subject: "machine",
            quantity: "CPU time that the host took before the run",
        };
        let measured = steal.map_or_else(|| "not measured".to_owned(), percent_of_ppm);
        let held = steal.map(|steal| steal <= bound);
        findings.check(&what, measured, percent_of_ppm(bound), held);
    }
    if let Some(bound) = bounds.timer_lateness_ns {
        let late = noise.and_then(|noise| noise.timer_lateness.p99_ns);
        let what = Quantity {
            code: ReasonCode::NoisyMachine,
            subject: "machine",
            quantity: "lateness of timers before the run, p99",
        };
        let measured = late.map_or_else(|| "too few wake-ups".to_owned(), milliseconds);
        let held = late.map(|late| late <= bound);
        findings.check(&what, measured, milliseconds(bound), held);
    }
}

/// What interrupts took from every node's CPUs in a phase.
pub(super) fn interrupts(findings: &mut Findings, plan: &Plan, phase: &str, end: &PhaseEnd) {
    for taken in &end.interrupt_cpu {
        let node = &taken.node;
        let cpus = plan.node(node).map_or(1, |node| node.cpus.len().max(1));
        let available = end
            .duration_ns
            .saturating_mul(u64::try_from(cpus).unwrap_or(1));
        let subject = format!("{node} in phase {phase}");
        let what = Quantity {
            code: ReasonCode::InterruptCpu,
            subject: &subject,
            quantity: "CPU that interrupts took from this node's CPUs",
        };
        let bound_ppm = plan.verdict.interrupt_cpu_ppm;
        let bound = percent_of_ppm(bound_ppm);
        let (measured, held) = match taken.cpu_ns {
            Some(cpu_ns) => (
                share_percent(cpu_ns, available.max(1)),
                Some(
                    u128::from(cpu_ns) * 1_000_000 <= u128::from(bound_ppm) * u128::from(available),
                ),
            ),
            None => (taken.why.clone().unwrap_or_default(), None),
        };
        findings.check(&what, measured, bound, held);
    }
}
