//! Settings of the machine and of nodes, asked and got, and what the machine was like before a run.

use serde::{Deserialize, Serialize};

use crate::LateHistogram;

/// One setting: what was asked, what was found, and what is there after it was set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AskedAndGot {
    /// What it is, such as `governor of CPUs 0-1`.
    pub what: String,
    /// What was asked; `None` where it was only read.
    pub asked: Option<String>,
    /// What was there before.
    pub before: Option<String>,
    /// What was read back after setting; without a wish, what is there.
    pub got: Option<String>,
    /// Why nothing could be read, or what the reader must know besides.
    pub note: Option<String>,
    /// Whether it is as it was asked; `None` where nothing was asked or nobody can tell.
    pub held: Option<bool>,
}

/// How quiet the machine was before anything was made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct NoiseReport {
    /// How long it was listened to, in nanoseconds.
    pub span_ns: u64,
    /// The CPUs of all nodes.
    pub cpus: Vec<u32>,
    /// Share of their time that the host of a virtual machine had taken, in parts per million.
    pub steal_ppm: Option<u64>,
    /// Share of their time in which they worked, interrupts and steal included.
    pub busy_ppm: Option<u64>,
    /// Load average over a minute.
    pub load_average: Option<f64>,
    /// Tasks that could run, hexloop's own included.
    pub runnable: Option<u64>,
    /// CPUs of the machine.
    pub machine_cpus: u64,
    /// How often heat held one of those CPUs down meanwhile.
    pub throttle_events: Option<u64>,
    /// The slowest and the fastest of them, in kHz.
    pub frequency_khz: Option<(u64, u64)>,
    /// How late an ordinary thread on each of those CPUs woke up, a thousand times a second.
    pub timer_lateness: LateHistogram,
    /// What could not be read, and why.
    pub unavailable: Vec<String>,
}

/// A wait for a temperature.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoolingReport {
    /// What it was to be at most, in degrees Celsius.
    pub asked_c: u32,
    /// The longest wait, in nanoseconds.
    pub limit_ns: u64,
    /// The hottest of the sensors when the wait began.
    pub before_c: Option<i32>,
    /// The same at its end.
    pub after_c: Option<i32>,
    /// How long it took, in nanoseconds.
    pub waited_ns: u64,
    /// Which sensors.
    pub source: String,
    /// Why there is no temperature, if so.
    pub why: Option<String>,
}

impl CoolingReport {
    /// Whether it was cool enough in time; `None` without a sensor.
    #[must_use]
    pub fn held(&self) -> Option<bool> {
        let after = i64::from(self.after_c?);
        Some(after <= i64::from(self.asked_c))
    }
}

/// CPU time that interrupts took from the CPUs of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterruptCpu {
    /// The node.
    pub node: String,
    /// Hard and soft interrupts on its CPUs over the phase, in nanoseconds.
    pub cpu_ns: Option<u64>,
    /// The kernel counts in steps of so many nanoseconds on each CPU.
    pub resolution_ns: u64,
    /// Why there is no number, if so.
    pub why: Option<String>,
}
