//! What a channel of a meter is.

use serde::{Deserialize, Serialize};

/// What a channel measures. Readings are integers: microjoules or microwatts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "quantity")]
pub enum Quantity {
    /// Energy since some start, in microjoules.
    EnergyCounter {
        /// It starts again from 0 beyond this; `None` where it does not wrap in practice.
        wraps_at_uj: Option<u64>,
    },
    /// Power at the moment of the reading, in microwatts.
    InstantPower,
    /// Power averaged over a window before the reading, in microwatts.
    AveragePower {
        /// The window's length, where the source states it.
        window_ns: Option<u64>,
    },
}

impl Quantity {
    /// Whether it counts energy; otherwise it tells power.
    #[must_use]
    pub const fn is_counter(self) -> bool {
        matches!(self, Quantity::EnergyCounter { .. })
    }

    /// A name for tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Quantity::EnergyCounter { .. } => "energy counter",
            Quantity::InstantPower => "instantaneous power",
            Quantity::AveragePower { .. } => "average power",
        }
    }
}

/// Which part of the machine a channel covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// A GPU with its memory, as its board counts it.
    Gpu,
    /// A module that holds a GPU and more, such as a Grace Hopper module.
    Module,
    /// The memory of a GPU; part of [`Scope::Gpu`].
    GpuMemory,
    /// A CPU package.
    Package,
    /// The cores of a package; part of it.
    Cores,
    /// The memory attached to a package.
    Dram,
    /// One rail of a board.
    Rail,
    /// The whole machine.
    Machine,
}

impl Scope {
    /// A name for tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Scope::Gpu => "GPU",
            Scope::Module => "module",
            Scope::GpuMemory => "GPU memory",
            Scope::Package => "package",
            Scope::Cores => "cores",
            Scope::Dram => "DRAM",
            Scope::Rail => "rail",
            Scope::Machine => "machine",
        }
    }
}

/// How a channel's values come about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quality {
    /// A sensor or counter.
    Measured,
    /// A documented model of partial measurements.
    Estimated,
}

/// Whether values come from hardware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// A real device.
    Hardware,
    /// A library or directory that a test put in its place.
    Stub,
}

/// One channel of a meter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// The device: a GPU's UUID, `package-0`, a rail's label.
    pub device: String,
    /// Which part of the machine it covers.
    pub scope: Scope,
    /// What it measures.
    #[serde(flatten)]
    pub quantity: Quantity,
    /// How its values come about.
    pub quality: Quality,
    /// Where they are read, such as `NVML field 186 (POWER_INSTANT)`.
    pub source: String,
    /// Whether the machine's sum may count it: no other counted channel covers the same part.
    pub counted: bool,
    /// Whether they come from hardware.
    pub origin: Origin,
}

impl Channel {
    /// The channel in a few words: `package-0, energy counter, powercap`.
    #[must_use]
    pub fn describe(&self) -> String {
        format!("{}, {}, {}", self.device, self.quantity.name(), self.source)
    }
}
