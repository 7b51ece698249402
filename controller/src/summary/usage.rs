//! What the kernel counted of nodes and CPUs.

use std::collections::BTreeMap;

use hexloop_proto::{CoreUse, JobResources};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::compute::{quantity, unavailable};
use super::{Quality, Quantity};
use crate::format::{count_to_f64, rounded};
use crate::results::PhaseResults;

/// What the kernel counted of one node over a phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeCounterSummary {
    /// Periods in which its CPU quota held it up.
    pub throttled_periods: Quantity,
    /// Time in which it did, in seconds, summed over CPUs.
    pub throttled_s: Quantity,
    /// Time in which some of its tasks waited for a CPU, in seconds.
    pub cpu_pressure_s: Quantity,
    /// The same for memory.
    pub memory_pressure_s: Quantity,
    /// The same for disks.
    pub io_pressure_s: Quantity,
    /// Its highest memory as its control group counts it, in bytes.
    pub memory_peak_bytes: Quantity,
    /// How often its threads gave a CPU up to wait.
    pub voluntary_switches: Quantity,
    /// How often they were displaced.
    pub involuntary_switches: Quantity,
}

/// One core of the machine over a phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CoreSummary {
    /// Which core.
    pub cpu: u32,
    /// Time in which it worked for this machine, over the time of the phase.
    pub busy: f64,
    /// Time that the hypervisor took, over the time of the phase.
    pub steal: f64,
    /// Its frequency in Hz, the mean of one look a second.
    pub frequency_hz: Quantity,
}

/// What was counted of each node; nothing of nodes whose agent did not count.
pub(super) fn counters(jobs: &[JobResources]) -> BTreeMap<String, NodeCounterSummary> {
    let counted = jobs.iter().filter_map(|job| {
        let counters = job.counters.as_ref()?;
        let summary = NodeCounterSummary {
            throttled_periods: quantity(&counters.throttled_periods),
            throttled_s: quantity(&counters.throttled_s),
            cpu_pressure_s: quantity(&counters.cpu_pressure_s),
            memory_pressure_s: quantity(&counters.memory_pressure_s),
            io_pressure_s: quantity(&counters.io_pressure_s),
            memory_peak_bytes: quantity(&counters.memory_peak_bytes),
            voluntary_switches: quantity(&counters.voluntary_switches),
            involuntary_switches: quantity(&counters.involuntary_switches),
        };
        Some((job.node.clone(), summary))
    });
    counted.collect()
}

/// Why nothing is known of the cores, if so.
pub(super) fn without_cores(recorded: &PhaseResults) -> Option<String> {
    recorded.end.as_ref()?.cores.as_ref()?.without_cores.clone()
}

/// What the cores did.
pub(super) fn cores(recorded: &PhaseResults) -> Vec<CoreSummary> {
    let Some(whole) = recorded.end.as_ref().and_then(|end| end.cores.as_ref()) else {
        return Vec::new();
    };
    let span = count_to_f64(whole.span_ns.max(1));
    let share = |part_ns: u64| rounded(count_to_f64(part_ns) / span, 6);
    let frequency_hz = |core: &CoreUse| match core.frequency_hz {
        Some(hertz) => Quantity {
            value: Some(count_to_f64(hertz)),
            quality: Quality::Measured,
            source: Some("cpufreq scaling_cur_freq, one look a second".to_owned()),
            reason: None,
        },
        None => unavailable(
            whole
                .without_frequency
                .as_deref()
                .unwrap_or("the phase was too short for a look"),
        ),
    };
    let summary = |core: &CoreUse| CoreSummary {
        cpu: core.cpu,
        busy: share(core.busy_ns),
        steal: share(core.steal_ns),
        frequency_hz: frequency_hz(core),
    };
    whole.cores.iter().map(summary).collect()
}
