//! What a command cost, in words.

use super::summary::{ChannelSummary, Energy, GpuSummary, Summary};
use crate::format::{grouped, significant, trimmed};
use crate::summary::{MeteringSummary, Quality, Quantity};

/// The summary for standard error.
pub(super) fn text(summary: &Summary) -> String {
    let stub = match summary.source {
        "stub" => ", STUB METERS: not measurements",
        _ => "",
    };
    let mut lines = vec![format!(
        "meter: {} s, status {}{stub}",
        trimmed(summary.duration_s, 3),
        summary.command_status
    )];
    lines.push(format!("  machine: {}", of_machine(summary)));
    if summary.machine.idle_w.value.is_some() {
        lines.push(format!("  idle: {}", idle(&summary.machine)));
    }
    lines.extend(summary.channels.iter().map(channel));
    lines.extend(summary.counter_gaps.iter().map(|gap| {
        let verdict = match gap.is_suspect() {
            true => "SUSPECT: more than 5 % apart",
            false => "agrees",
        };
        format!(
            "  {}: the integral of instantaneous power is {:+.2} % off the energy counter ({verdict})",
            gap.device,
            gap.relative * 100.0
        )
    }));
    let used = &summary.used;
    let memory = match used.peak_memory_bytes.value {
        Some(bytes) => format!("{} MB", trimmed(bytes / 1e6, 1)),
        None => used.peak_memory_bytes.reason.clone().unwrap_or_default(),
    };
    lines.push(format!(
        "  command: {} s of CPU time ({} s in the kernel), peak memory of a process: {memory}",
        trimmed(used.cpu_user_s + used.cpu_system_s, 3),
        trimmed(used.cpu_system_s, 3),
    ));
    lines.extend(summary.gpus.iter().map(gpu));
    lines.extend(summary.overhead.as_ref().map(sampling));
    lines.extend(
        summary
            .unavailable
            .iter()
            .map(|missing| format!("  not metered: {}: {}", missing.source, missing.reason)),
    );
    lines.extend(summary.notes.iter().map(|note| format!("  note: {note}")));
    lines.join("\n")
}

/// `12.3 +- 0.4 J`, or `Unavailable: why`.
fn with_open(quantity: &Quantity, open: Option<f64>, unit: &str) -> String {
    match quantity.value {
        Some(value) => {
            let open = open.map_or_else(String::new, |open| format!(" +- {}", significant(open)));
            let estimated = match quantity.quality {
                Quality::Estimated => " (estimated)",
                _ => "",
            };
            format!("{}{open} {unit}{estimated}", significant(value))
        }
        None => {
            let reason = quantity.reason.as_deref();
            format!(
                "Unavailable: {}",
                reason.unwrap_or("no reason was recorded")
            )
        }
    }
}

/// The energy of the machine. Where nothing can be summed up, the reasons have lines of their own.
fn of_machine(summary: &Summary) -> String {
    match summary.channels.iter().any(|channel| channel.counted) {
        true => energy(&summary.machine),
        false => "Unavailable: no meter stands for it; what was tried follows".to_owned(),
    }
}

fn energy(energy: &Energy) -> String {
    let gross = with_open(&energy.energy_j, energy.uncertainty_j, "J");
    if energy.energy_j.value.is_none() {
        return gross;
    }
    let above = with_open(&energy.above_idle_j, energy.above_idle_uncertainty_j, "J");
    let power = with_open(&energy.power_w, energy.power_uncertainty_w, "W");
    format!("{gross} gross ({power}), above idle {above}")
}

fn idle(energy: &Energy) -> String {
    format!(
        "{} before, {} after",
        with_open(&energy.idle_before_w, None, "W"),
        with_open(&energy.idle_after_w, None, "W")
    )
}

fn channel(channel: &ChannelSummary) -> String {
    let counted = if channel.counted { ", in the sum" } else { "" };
    let refreshed = channel
        .refresh_period_ms
        .map_or_else(String::new, |period| {
            format!("; renewed every {} ms", trimmed(period, 2))
        });
    format!(
        "  {} ({}, {}, {}{counted}): {}{refreshed}",
        channel.device,
        channel.scope,
        channel.quantity,
        channel.source,
        energy(&channel.energy)
    )
}

fn gpu(gpu: &GpuSummary) -> String {
    let mut parts = Vec::new();
    if let Some(bytes) = gpu.memory_peak_bytes {
        parts.push(format!("memory up to {} MiB", grouped(bytes >> 20)));
    }
    if let Some(percent) = gpu.busy_percent {
        parts.push(format!("busy {} %", trimmed(percent, 1)));
    }
    if let Some((least, most)) = gpu.sm_clock_mhz {
        parts.push(format!("{least} to {most} MHz"));
    }
    if let Some((least, most)) = gpu.temperature_c {
        parts.push(format!("{least} to {most} C"));
    }
    parts.extend(gpu.throttled.map(|throttled| match throttled {
        true => "THROTTLED".to_owned(),
        false => "not throttled".to_owned(),
    }));
    if !gpu.foreign_processes.is_empty() {
        let pids = gpu.foreign_processes.iter().map(u32::to_string);
        let pids = pids.collect::<Vec<String>>().join(", ");
        parts.push(format!("processes of others: {pids}"));
    }
    parts.extend(gpu.trouble.iter().cloned());
    format!("  {}: {}", gpu.uuid, parts.join(", "))
}

fn sampling(cost: &MeteringSummary) -> String {
    let eight = cost.eight_gpus_cpu_share.map_or_else(String::new, |share| {
        format!(
            "; eight such GPUs would take {} %",
            trimmed(share * 100.0, 2)
        )
    });
    format!(
        "  sampling: {} readings of all channels a second, {} % late, {} us each (p99 {}), {} % of a CPU{eight}",
        significant(cost.rate_hz),
        trimmed(cost.late_share * 100.0, 2),
        significant(cost.read_p50_us),
        significant(cost.read_p99_us),
        trimmed(cost.cpu_share * 100.0, 2),
    )
}
