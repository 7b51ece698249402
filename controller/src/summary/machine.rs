//! What was asked of the machine, what it is, and how quiet it was.

use hexloop_proto::{AskedAndGot, CoolingReport, NoiseReport};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Lateness;
use crate::format::count_to_f64;
use crate::results::Results;

/// The machine of a run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MachineSummary {
    /// Settings of the machine and of its nodes, asked and got.
    pub settings: Vec<SettingSummary>,
    /// How quiet it was before the run; null where nobody listened.
    pub noise: Option<NoiseSummary>,
    /// The wait for a temperature; null where none was asked for.
    pub cooling: Option<CoolingSummary>,
    /// CPU time that interrupts took on the CPUs of each node, per phase.
    pub interrupts: Vec<InterruptSummary>,
}

/// One setting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SettingSummary {
    /// What it is.
    pub what: String,
    /// What was asked; null where it was only read.
    pub asked: Option<String>,
    /// What was there before.
    pub before: Option<String>,
    /// What was read back; null where nothing tells.
    pub got: Option<String>,
    /// What the reader must know besides.
    pub note: Option<String>,
    /// Whether it is as it was asked; null where nothing was asked or nobody can tell.
    pub held: Option<bool>,
}

/// How quiet a machine was.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NoiseSummary {
    /// How long it was listened to, in seconds.
    pub listened_s: f64,
    /// Share of the nodes' CPUs that the host of a virtual machine had taken.
    pub steal: Option<f64>,
    /// Share of their time in which they worked.
    pub busy: Option<f64>,
    /// Load average over a minute.
    pub load_average: Option<f64>,
    /// Tasks that could run at its end.
    pub runnable: Option<u64>,
    /// How often heat held one of the CPUs down.
    pub throttle_events: Option<u64>,
    /// The slowest and the fastest of the CPUs, in MHz.
    pub frequency_mhz: Option<(f64, f64)>,
    /// How late an ordinary thread on each of the CPUs woke up, in microseconds.
    pub timer_lateness_us: Lateness,
    /// What could not be read, and why.
    pub unavailable: Vec<String>,
}

/// A wait for a temperature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CoolingSummary {
    /// What it was to be at most, in degrees Celsius.
    pub asked_c: u32,
    /// The hottest sensor when the wait began; null without one.
    pub before_c: Option<i32>,
    /// The same at its end.
    pub after_c: Option<i32>,
    /// How long it took, in seconds.
    pub waited_s: f64,
    /// Which sensors.
    pub source: String,
    /// Why there is no temperature.
    pub reason: Option<String>,
}

/// What interrupts took from a node's CPUs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct InterruptSummary {
    /// The phase.
    pub phase: String,
    /// The node.
    pub node: String,
    /// CPU time of hard and soft interrupts in seconds; null where nothing counts it.
    pub cpu_s: Option<f64>,
    /// The steps in which it is counted, in seconds.
    pub resolution_s: f64,
}

/// What the events tell of the machine.
pub(super) fn machine(results: &Results) -> MachineSummary {
    let interrupts = results.phases.iter().flat_map(|phase| {
        let taken = phase.end.iter().flat_map(|end| &end.interrupt_cpu);
        taken.map(|taken| InterruptSummary {
            phase: phase.name.clone(),
            node: taken.node.clone(),
            cpu_s: taken.cpu_ns.map(|ns| count_to_f64(ns) / 1e9),
            resolution_s: count_to_f64(taken.resolution_ns) / 1e9,
        })
    });
    MachineSummary {
        settings: results.all_settings().map(setting).collect(),
        noise: results.noise.as_ref().map(noise),
        cooling: results.cooling.as_ref().map(cooling),
        interrupts: interrupts.collect(),
    }
}

fn setting(setting: &AskedAndGot) -> SettingSummary {
    let AskedAndGot {
        what,
        asked,
        before,
        got,
        note,
        held,
    } = setting.clone();
    SettingSummary {
        what,
        asked,
        before,
        got,
        note,
        held,
    }
}

fn noise(noise: &NoiseReport) -> NoiseSummary {
    let share = |ppm: u64| count_to_f64(ppm) / 1e6;
    let microseconds = |ns: u64| count_to_f64(ns) / 1e3;
    let late = &noise.timer_lateness;
    let megahertz = |khz: u64| count_to_f64(khz) / 1e3;
    NoiseSummary {
        listened_s: count_to_f64(noise.span_ns) / 1e9,
        steal: noise.steal_ppm.map(share),
        busy: noise.busy_ppm.map(share),
        load_average: noise.load_average,
        runnable: noise.runnable,
        throttle_events: noise.throttle_events,
        frequency_mhz: noise
            .frequency_khz
            .map(|(least, most)| (megahertz(least), megahertz(most))),
        timer_lateness_us: Lateness {
            n: late.count,
            p50: late.p50_ns.map(microseconds),
            p99: late.p99_ns.map(microseconds),
            max: late.max_ns.map(microseconds),
        },
        unavailable: noise.unavailable.clone(),
    }
}

fn cooling(cooling: &CoolingReport) -> CoolingSummary {
    CoolingSummary {
        asked_c: cooling.asked_c,
        before_c: cooling.before_c,
        after_c: cooling.after_c,
        waited_s: count_to_f64(cooling.waited_ns) / 1e9,
        source: cooling.source.clone(),
        reason: cooling.why.clone(),
    }
}
