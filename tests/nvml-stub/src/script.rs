//! What a stub's GPUs do.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Recording;

/// The whole script.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// The driver's version; `580.82.07` if it is left out.
    #[serde(default)]
    pub driver: Option<String>,
    /// What `nvmlInit_v2` returns; 0 is success.
    #[serde(default)]
    pub init_code: u32,
    /// The GPUs.
    pub gpus: Vec<GpuScript>,
}

/// One GPU. Moments are in milliseconds since the start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GpuScript {
    /// Its UUID.
    pub uuid: String,
    /// Its name; the word "stub" is added.
    pub name: String,
    /// NVML's number of the architecture: 7 Ampere, 9 Hopper.
    pub architecture: u32,
    /// Power from a moment on, in milliwatts; the first moment is 0.
    pub power_mw: Vec<(u64, u64)>,
    /// How often the energy counter is renewed.
    pub counter_period_ms: u64,
    /// What the counter stands at in the beginning, in millijoules.
    pub counter_start_mj: u64,
    /// How often the instantaneous power is renewed.
    pub instant_period_ms: u64,
    /// How often the average power is renewed, and over how long it is taken.
    pub average_period_ms: u64,
    /// Length of the average's window.
    pub average_window_ms: u64,
    /// When the counter starts again from 0, if ever.
    pub reset_at_ms: Option<u64>,
    /// When it falls off the bus, if ever.
    pub lost_at_ms: Option<u64>,
    /// Calls that are not supported: `energy`, `fields`, `power`, `memory`, `clocks`, ...
    pub not_supported: Vec<String>,
    /// Calls that only root may make: `set_limit`, `set_persistence`, `set_clocks`, ...
    pub no_permission: Vec<String>,
    /// The power limit that holds until another one is set, in milliwatts.
    pub power_limit_mw: u32,
    /// The least and the most that it can be set to.
    pub power_limits_mw: (u32, u32),
    /// Where it is on the bus, such as `00000000:17:00.0`.
    pub bus_id: String,
    /// How long each call takes, in microseconds.
    pub latency_us: u64,
    /// Processes on it: from when, until when (0 is for ever), process id, bytes.
    pub processes: Vec<(u64, u64, u32, u64)>,
    /// Temperature in degrees Celsius.
    pub temperature_c: u32,
    /// Throttle reasons from a moment on, as bits of `nvmlClocksThrottleReasons`.
    pub throttle: Vec<(u64, u64)>,
    /// Whether it is cut into instances.
    pub mig: bool,
    /// A recording whose samples are shown instead of what follows from the rest: see
    /// [`Recording`].
    pub recording: Option<PathBuf>,
    /// The recording, once it was read.
    #[serde(skip)]
    pub recorded: Option<Recording>,
}

impl Default for GpuScript {
    fn default() -> GpuScript {
        GpuScript {
            uuid: "GPU-00000000-0000-0000-0000-000000000000".to_owned(),
            name: "H100".to_owned(),
            architecture: 9,
            power_mw: vec![(0, 70_000)],
            counter_period_ms: 100,
            counter_start_mj: 1_000_000,
            instant_period_ms: 25,
            average_period_ms: 25,
            average_window_ms: 1_000,
            reset_at_ms: None,
            lost_at_ms: None,
            not_supported: Vec::new(),
            no_permission: Vec::new(),
            power_limit_mw: 700_000,
            power_limits_mw: (200_000, 700_000),
            bus_id: "00000000:17:00.0".to_owned(),
            latency_us: 0,
            processes: Vec::new(),
            temperature_c: 40,
            throttle: Vec::new(),
            mig: false,
            recording: None,
            recorded: None,
        }
    }
}
