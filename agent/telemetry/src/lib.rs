//! Meters of energy and power, and what a window of their readings amounts to.
//!
//! A [`Meter`] reads one kind of source (NVML, RAPL, the rails of a board, an external meter) and
//! offers [`Channel`]s: each says what quantity it is, of which device, and how far to trust it.
//! "Power" alone means nothing: a one-second average and an instantaneous value are different
//! quantities, and a counter of energy is a third.
//!
//! - [`CounterTrack`]: follows an energy counter: its ticks, wrap-around, resets, stand-stills.
//! - [`PowerTrack`]: integrates samples of power.
//! - [`EnergyBook`]: every channel of a machine, the sum over a window, and counters against
//!   integrals.
//! - [`WindowEnergy`]: the energy of a window between ticks of the counter, with its uncertainty;
//!   none where the window is too short for the counter's refresh period.
//!
//! What was not measured is a [`Trouble`] in words, never a number. Nothing here knows links, nodes
//! or jobs.

mod book;
mod channel;
mod counter;
mod cpu;
mod exposition;
mod machine;
mod meter;
mod power;
mod pressure;
mod refresh;
mod sys;
mod trouble;
mod window;

pub use book::{ChannelEnergy, CounterAgainstIntegral, EnergyBook};
pub use channel::{Channel, Origin, Quality, Quantity, Scope};
pub use counter::{CounterStep, CounterTrack, Tick};
pub use cpu::{CoreTimes, CpuCounters, core_frequency_hz};
pub use exposition::{Exposition, FamilyKind, MetricFamily};
pub use machine::{Finding, MachineMeters, Places};
pub use meter::external::{
    ExternalFeed, ExternalMeter, ExternalSpec, FeedReport, LineError, LineReading, parse_line,
};
pub use meter::hwmon::HwmonMeter;
pub use meter::nvml::{GpuActivity, GpuProcess, GpuState, NvmlMeter, nvml_reason};
pub use meter::perf::PerfMeter;
pub use meter::pmic::PmicMeter;
pub use meter::powercap::PowercapMeter;
pub use meter::{Meter, Reading, Subject};
pub use power::PowerTrack;
pub use pressure::Pressure;
pub use refresh::refresh_period_ns;
pub use trouble::Trouble;
pub use window::{MINIMUM_REFRESHES, TickWindow, WindowEnergy, window_energy};
