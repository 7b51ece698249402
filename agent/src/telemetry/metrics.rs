//! What an agent tells Prometheus: names of OpenTelemetry's semantic conventions where there are
//! some, as Prometheus spells them, with units; `hexloop_...` for the rest.
//!
//! Estimated figures have names of their own, so that no query adds them to measured ones. What
//! has no value is absent, and [`UNAVAILABLE`] says why.

mod families;

use std::path::Path;

use hexloop_telemetry::{
    Channel, CpuCounters, Exposition, GpuState, MetricFamily, Origin, Pressure, Quality, Quantity,
    Scope, Subject, Trouble, core_frequency_hz,
};

use super::board::{Look, Shown};
use super::node::NodeUsage;
use super::sources::MeterSources;
use families as family;

pub use families::{ALL, UNAVAILABLE};

/// Reads what has to be read and writes all of it as Prometheus reads it. May take milliseconds.
#[must_use]
pub fn expose(sources: &MeterSources) -> String {
    let look = match &sources.board {
        Some(board) => board.look(sources),
        None => Look::default(),
    };
    let mut page = Exposition::default();
    page.add(
        family::BUILD,
        &[("version", env!("CARGO_PKG_VERSION"))],
        1.0,
    );
    let phase = look.phase.as_deref().unwrap_or_default();
    page.add(
        family::PHASE,
        &[("phase", phase)],
        f64::from(u8::from(look.phase.is_some())),
    );
    page.add(family::READS, &[], float(look.reads));
    for shown in &look.channels {
        channel(&mut page, shown);
    }
    for finding in &look.findings {
        if let Err(trouble) = &finding.outcome {
            let metric = match finding.subject {
                Subject::Energy => family::ENERGY.name,
                Subject::Power => family::POWER.name,
                // Each look at a GPU tells it again, with its device.
                Subject::Activity => continue,
            };
            unavailable(&mut page, metric, finding.source, trouble);
        }
    }
    for (uuid, state) in &look.gpus {
        match state {
            Ok(state) => {
                gpu(&mut page, uuid, state);
                gpu_parts(&mut page, uuid, state);
            }
            Err(trouble) => unavailable(&mut page, family::TEMPERATURE.name, uuid, trouble),
        }
    }
    machine(&mut page, &sources.places.root);
    for (name, usage) in &look.nodes {
        node(&mut page, name, usage);
    }
    for feed in &sources.feeds {
        let report = feed.report();
        let meter = feed.spec().name.as_str();
        for (outcome, lines) in [("taken", report.taken), ("refused", report.refused)] {
            let labels = [("meter", meter), ("outcome", outcome)];
            page.add(family::LINES, &labels, float(lines));
        }
    }
    page.render()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a double is what Prometheus keeps"
)]
const fn float(value: u64) -> f64 {
    value as f64
}

/// Why a metric has no sample for `of`.
fn unavailable(page: &mut Exposition, metric: &str, of: &str, trouble: &Trouble) {
    let reason = trouble.to_string();
    let labels = [("metric", metric), ("of", of), ("reason", reason.as_str())];
    page.add(UNAVAILABLE, &labels, 1.0);
}

/// The family of a channel. Whole machines have names of their own in the conventions, so that
/// nobody adds them to their parts.
const fn family_of(channel: &Channel) -> MetricFamily {
    let is_host = matches!(channel.scope, Scope::Machine);
    match (channel.quality, channel.quantity) {
        (Quality::Estimated, Quantity::EnergyCounter { .. }) => family::ESTIMATED_ENERGY,
        (Quality::Estimated, _) => family::ESTIMATED_POWER,
        (Quality::Measured, Quantity::EnergyCounter { .. }) if is_host => family::HOST_ENERGY,
        (Quality::Measured, Quantity::EnergyCounter { .. }) => family::ENERGY,
        (Quality::Measured, Quantity::InstantPower) if is_host => family::HOST_POWER,
        (Quality::Measured, Quantity::InstantPower) => family::POWER,
        (Quality::Measured, Quantity::AveragePower { .. }) => family::AVERAGE_POWER,
    }
}

/// OpenTelemetry's `hw.type`; rails have none of its values.
const fn hardware_type(scope: Scope) -> &'static str {
    match scope {
        Scope::Gpu | Scope::Module | Scope::GpuMemory => "gpu",
        Scope::Package | Scope::Cores => "cpu",
        Scope::Dram => "memory",
        Scope::Rail => "rail",
        Scope::Machine => "host",
    }
}

fn channel(page: &mut Exposition, shown: &Shown) {
    let channel = &shown.channel;
    let family = family_of(channel);
    let window = match channel.quantity {
        Quantity::AveragePower {
            window_ns: Some(window_ns),
        } => format!("{}", float(window_ns) / 1e9),
        _ => String::new(),
    };
    let labels = [
        ("hw_id", channel.device.as_str()),
        ("hw_type", hardware_type(channel.scope)),
        ("scope", channel.scope.name()),
        ("source", channel.source.as_str()),
        ("counted", if channel.counted { "true" } else { "false" }),
        ("window_seconds", window.as_str()),
        (
            "origin",
            match channel.origin {
                Origin::Stub => "stub",
                Origin::Hardware => "",
            },
        ),
    ];
    match &shown.reading {
        Some(Ok(_)) if channel.quantity.is_counter() => {
            page.add(family, &labels, float(shown.total_uj) / 1e6);
        }
        Some(Ok(microwatts)) => page.add(family, &labels, float(*microwatts) / 1e6),
        Some(Err(trouble)) => unavailable(page, family.name, &channel.describe(), trouble),
        None => {}
    }
}

/// A family, its labels, and the value if there is one.
type Figure<'a> = (MetricFamily, &'a [(&'a str, &'a str)], Option<f64>);

fn gpu(page: &mut Exposition, uuid: &str, state: &GpuState) {
    let id = ("hw_id", uuid);
    let ratio = |percent: u32| f64::from(percent) / 100.0;
    let hertz = |megahertz: u32| f64::from(megahertz) * 1e6;
    let count = |number: usize| float(u64::try_from(number).unwrap_or(u64::MAX));
    let values: [Figure<'_>; 11] = [
        (
            family::GPU_UTILIZATION,
            &[id, ("hw_gpu_task", "general")],
            state.busy_percent.map(ratio),
        ),
        (
            family::GPU_MEMORY_BUSY,
            &[id],
            state.memory_busy_percent.map(ratio),
        ),
        (
            family::GPU_MEMORY_USAGE,
            &[id],
            state.memory_used_bytes.map(float),
        ),
        (
            family::GPU_MEMORY_LIMIT,
            &[id],
            state.memory_total_bytes.map(float),
        ),
        (
            family::TEMPERATURE,
            &[id, ("hw_type", "gpu")],
            state.temperature_c.map(f64::from),
        ),
        (
            family::GPU_CLOCK,
            &[id, ("clock", "sm")],
            state.sm_clock_mhz.map(hertz),
        ),
        (
            family::GPU_CLOCK,
            &[id, ("clock", "memory")],
            state.memory_clock_mhz.map(hertz),
        ),
        (
            family::GPU_THROTTLED,
            &[id],
            state.is_throttled().map(|is| f64::from(u8::from(is))),
        ),
        (
            family::GPU_STATE,
            &[id],
            state.performance_state.map(f64::from),
        ),
        (
            family::GPU_POWER_LIMIT,
            &[id],
            state.power_limit_mw.map(|limit| f64::from(limit) / 1e3),
        ),
        (
            family::GPU_PROCESSES,
            &[id],
            state.processes.as_ref().map(|all| count(all.len())),
        ),
    ];
    for (family, labels, value) in values {
        match value {
            Some(value) => page.add(family, labels, value),
            None => {
                let trouble = Trouble::NotSupported {
                    source_name: uuid.to_owned(),
                    what: "this call".to_owned(),
                };
                unavailable(page, family.name, uuid, &trouble);
            }
        }
    }
}

/// What each process of a GPU uses, and what the performance counters say.
fn gpu_parts(page: &mut Exposition, uuid: &str, state: &GpuState) {
    for process in state.processes.iter().flatten() {
        let pid = process.pid.to_string();
        let labels = [("hw_id", uuid), ("process_pid", pid.as_str())];
        if let Some(bytes) = process.memory_bytes {
            page.add(family::GPU_PROCESS_MEMORY, &labels, float(bytes));
        }
        if let Some(percent) = process.sm_percent {
            let ratio = f64::from(percent) / 100.0;
            page.add(family::GPU_PROCESS_USE, &labels, ratio);
        }
    }
    if let Some(why) = &state.without_activity {
        let trouble = Trouble::Failed {
            what: "performance counters (GPM)".to_owned(),
            reason: why.clone(),
        };
        unavailable(page, family::GPU_ACTIVITY.name, uuid, &trouble);
    }
    let activity = state.activity.unwrap_or_default();
    for (part, hundredths) in [
        ("sm", activity.sm),
        ("sm_occupancy", activity.occupancy),
        ("tensor", activity.tensor),
        ("memory_bandwidth", activity.memory_bandwidth),
    ] {
        if let Some(hundredths) = hundredths {
            let ratio = f64::from(hundredths) / 10_000.0;
            page.add(
                family::GPU_ACTIVITY,
                &[("hw_id", uuid), ("part", part)],
                ratio,
            );
        }
    }
}

fn machine(page: &mut Exposition, root: &Path) {
    match CpuCounters::read(root) {
        Ok(counters) => {
            for core in &counters.cores {
                let cpu = core.cpu.to_string();
                for (mode, time_ns) in core.by_mode() {
                    let labels = [("cpu_logical_number", cpu.as_str()), ("cpu_mode", mode)];
                    page.add(family::CPU_TIME, &labels, float(time_ns) / 1e9);
                }
            }
            page.add(
                family::CONTEXT_SWITCHES,
                &[],
                float(counters.context_switches),
            );
            let mut why = None;
            for core in &counters.cores {
                match core_frequency_hz(root, core.cpu) {
                    Ok(hertz) => {
                        let cpu = core.cpu.to_string();
                        let labels = [("cpu_logical_number", cpu.as_str())];
                        page.add(family::CPU_FREQUENCY, &labels, float(hertz));
                    }
                    Err(trouble) => why = Some(trouble),
                }
            }
            if let Some(trouble) = why {
                unavailable(page, family::CPU_FREQUENCY.name, "this machine", &trouble);
            }
        }
        Err(trouble) => unavailable(page, family::CPU_TIME.name, "this machine", &trouble),
    }
    for resource in ["cpu", "memory", "io"] {
        match Pressure::read(&root.join("proc/pressure").join(resource)) {
            Ok(pressure) => {
                let labels = |kind| [("resource", resource), ("stalled", kind)];
                let some = float(pressure.some_ns) / 1e9;
                page.add(family::PRESSURE, &labels("some"), some);
                if let Some(full_ns) = pressure.full_ns {
                    page.add(family::PRESSURE, &labels("full"), float(full_ns) / 1e9);
                }
            }
            Err(trouble) => unavailable(page, family::PRESSURE.name, resource, &trouble),
        }
    }
}

fn node(page: &mut Exposition, name: &str, usage: &NodeUsage) {
    let labels = [("container_name", name)];
    page.add(family::NODE_CPU, &labels, float(usage.cpu_ns) / 1e9);
    page.add(family::NODE_MEMORY, &labels, float(usage.memory_bytes));
    if let Some(periods) = usage.throttled_periods {
        page.add(family::NODE_THROTTLED, &labels, float(periods));
    }
}

#[cfg(test)]
mod dashboard;
#[cfg(test)]
mod tests;
