//! What nodes and the machine's CPUs did, counted by the kernel.

use serde::{Deserialize, Serialize};

use crate::Measurement;

/// What the kernel counted of one node over a phase. Each figure has its source, or why there is
/// none.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeCounters {
    /// Periods in which its CPU quota held it up.
    pub throttled_periods: Measurement,
    /// Time in which it did, in seconds, summed over CPUs.
    pub throttled_s: Measurement,
    /// Time in which some of its tasks waited for a CPU, in seconds (PSI).
    pub cpu_pressure_s: Measurement,
    /// The same for memory.
    pub memory_pressure_s: Measurement,
    /// The same for disks.
    pub io_pressure_s: Measurement,
    /// Its highest memory as its control group counts it, in bytes.
    pub memory_peak_bytes: Measurement,
    /// How often its threads gave a CPU up to wait.
    pub voluntary_switches: Measurement,
    /// How often they were displaced.
    pub involuntary_switches: Measurement,
}

/// The machine's CPUs over a span of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CoreSample {
    /// End of the span, as an offset from T0, in nanoseconds.
    pub at_ns: u64,
    /// Its length.
    pub span_ns: u64,
    /// Every core; empty where the kernel does not tell.
    pub cores: Vec<CoreUse>,
    /// Context switches of the whole machine in the span.
    pub context_switches: u64,
    /// Why a frequency is missing, if one is.
    pub without_frequency: Option<String>,
    /// Why there is no core, if so.
    #[serde(default)]
    pub without_cores: Option<String>,
}

/// One core over a span of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CoreUse {
    /// Which core.
    pub cpu: u32,
    /// Time in which it worked for this machine, in nanoseconds; to a hundredth of a second.
    pub busy_ns: u64,
    /// Time that the hypervisor took from it, in nanoseconds.
    pub steal_ns: u64,
    /// Its frequency in hertz, the mean of what was seen.
    pub frequency_hz: Option<u64>,
}
