//! Meters of energy and power, as they are recorded.

use serde::{Deserialize, Serialize};

use crate::Measurement;

/// One channel of a meter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeterChannel {
    /// The device: a GPU's UUID, `package-0`, a rail's label.
    pub device: String,
    /// Which part of the machine it covers: `GPU`, `package`, `rail`, ...
    pub scope: String,
    /// `energy counter`, `instantaneous power` or `average power`.
    pub quantity: String,
    /// The length of an average, where the source states it.
    pub average_window_ns: Option<u64>,
    /// A counter starts again from 0 beyond this, in microjoules.
    pub wraps_at_uj: Option<u64>,
    /// Where it is read, such as `NVML field 186 (POWER_INSTANT), GPU`.
    pub source: String,
    /// Whether values follow from a model of partial measurements.
    pub estimated: bool,
    /// Whether it is part of the machine's sum.
    pub counted: bool,
    /// Whether it is not hardware but what a test put in its place.
    pub stub: bool,
}

impl MeterChannel {
    /// Whether it counts energy in microjoules; otherwise it tells power in microwatts.
    #[must_use]
    pub fn is_counter(&self) -> bool {
        self.quantity == "energy counter"
    }
}

/// A source of energy or power that was tried, or something that one withholds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unmetered {
    /// The source, such as `RAPL (powercap)`.
    pub source: String,
    /// Why it tells nothing.
    pub why: String,
}

/// Readings of every channel at some moments; microjoules or microwatts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeterReadings {
    /// Since T0 of the phase, in nanoseconds.
    pub at_ns: Vec<u64>,
    /// Per moment, one value per channel; `None` where it could not be read.
    pub values: Vec<Vec<Option<u64>>>,
}

/// The energy of one channel over a phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChannelEnergy {
    /// In joules, or why there is none.
    pub energy_j: Measurement,
    /// What the edges of the window leave open, in joules.
    pub uncertainty_j: Option<f64>,
    /// How often the source renewed its value.
    pub refresh_period_ns: Option<u64>,
    /// Of a counter, the part of the window between its ticks.
    #[serde(default)]
    pub ticks: Option<TickWindow>,
}

/// The part of a window between the first and the last tick of a counter within it: there the
/// counter's own difference is the energy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct TickWindow {
    /// The first tick, from the window's beginning on, in nanoseconds.
    pub first_after_ns: u64,
    /// The last tick, likewise.
    pub last_after_ns: u64,
    /// The energy between them, in joules.
    pub energy_j: f64,
}

/// A GPU at one moment; `None` is what it does not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuSample {
    /// Its UUID.
    pub uuid: String,
    /// Since T0 of the phase, in nanoseconds.
    pub at_ns: u64,
    /// Why nothing could be read, if so.
    pub trouble: Option<String>,
    /// Memory in use, in bytes.
    pub memory_used_bytes: Option<u64>,
    /// Share of time in which a kernel ran, in percent, over the driver's own window.
    pub busy_percent: Option<u32>,
    /// Clock of the multiprocessors, in MHz.
    pub sm_clock_mhz: Option<u32>,
    /// Clock of the memory, in MHz.
    pub memory_clock_mhz: Option<u32>,
    /// Temperature of the die, in degrees Celsius.
    pub temperature_c: Option<u32>,
    /// Why its clocks are lower than they could be: bits of `nvmlClocksThrottleReasons` of nvml.h.
    pub throttle_reasons: Option<u64>,
    /// Whether power, heat or a brake holds its clocks down.
    pub throttled: Option<bool>,
    /// Performance state, 0 is the highest.
    pub performance_state: Option<u32>,
    /// Whether it is cut into instances (MIG).
    pub mig: Option<bool>,
    /// Process ids that compute on it.
    pub processes: Option<Vec<u32>>,
    /// Those of them that do not belong to the run.
    pub foreign_processes: Option<Vec<u32>>,
    /// Share of time in which memory was accessed, in percent.
    #[serde(default)]
    pub memory_busy_percent: Option<u32>,
    /// The power limit in force, in milliwatts.
    #[serde(default)]
    pub power_limit_mw: Option<u32>,
    /// How many processes come through the multi-process service (MPS).
    #[serde(default)]
    pub mps_processes: Option<u64>,
    /// Memory and use of each process: process id, bytes, percent of the multiprocessors' time.
    #[serde(default)]
    pub process_use: Vec<(u32, Option<u64>, Option<u32>)>,
    /// Performance counters (GPM) since the last sample, in hundredths of a percent: multiprocessors,
    /// their occupancy, tensor cores, bandwidth of the memory.
    #[serde(default)]
    pub activity: Option<[Option<u32>; 4]>,
    /// Why there are no performance counters.
    #[serde(default)]
    pub without_activity: Option<String>,
}

/// Power of the machine over a span without jobs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IdlePower {
    /// `before` the first phase or `after` the last.
    pub when: String,
    /// Length of the span, in nanoseconds.
    pub span_ns: u64,
    /// In watts, or why there is none.
    pub power_w: Measurement,
    /// What the edges of the window leave open, in watts.
    pub uncertainty_w: Option<f64>,
    /// Mean power of every channel, in the order of the meters' channels: in watts, or why there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels_w: Vec<Measurement>,
    /// What every channel read meanwhile, with moments since the span's beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub readings: Option<MeterReadings>,
}

/// What reading the meters cost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeteringCost {
    /// Time between readings that was asked for, in nanoseconds.
    pub period_ns: u64,
    /// How often every channel was read.
    pub reads: u64,
    /// Readings that came more than a period late.
    pub late: u64,
    /// CPU time of the thread, in nanoseconds.
    pub cpu_ns: u64,
    /// How long the thread ran, in nanoseconds.
    pub wall_ns: u64,
    /// Median time of reading every channel once, in nanoseconds.
    pub read_p50_ns: u64,
    /// 99th percentile of the same.
    pub read_p99_ns: u64,
    /// Median time of reading the slow things of all GPUs once, in nanoseconds.
    pub state_p50_ns: Option<u64>,
    /// The same of energy and power by meter, in the order of its channels.
    #[serde(default)]
    pub meters: Vec<MeterCost>,
}

/// What reading one meter cost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeterCost {
    /// The meter, such as `NVML`.
    pub meter: String,
    /// Its channels: all of them are read at once.
    pub channels: u64,
    /// Its devices.
    pub devices: u64,
    /// Median time of reading all its channels, in nanoseconds.
    pub read_p50_ns: u64,
    /// 99th percentile of the same.
    pub read_p99_ns: u64,
    /// Mean of the same: dear quantities are not read every time.
    #[serde(default)]
    pub read_mean_ns: u64,
}
