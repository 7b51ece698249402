//! What every source of energy and power offers.

pub(crate) mod external;
pub(crate) mod hwmon;
pub(crate) mod nvml;
pub(crate) mod perf;
pub(crate) mod pmic;
pub(crate) mod powercap;

use crate::{Channel, GpuState, Trouble};

/// One value of one channel, or why there is none: microjoules or microwatts, as the channel's
/// quantity says.
pub type Reading = Result<u64, Trouble>;

/// What a source tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// Energy, or everything that it has.
    Energy,
    /// Power.
    Power,
    /// How busy the parts of a GPU are.
    Activity,
}

/// A source of energy or power.
pub trait Meter: Send {
    /// What the source is called, such as `RAPL (powercap)`.
    fn name(&self) -> &str;

    /// Its channels; they do not change while it lives.
    fn channels(&self) -> &[Channel];

    /// Reads every channel now, in their order, into `readings` (cleared first).
    fn read(&mut self, readings: &mut Vec<Reading>);

    /// What it looked for beside its channels and may not or cannot read: something else stands in for
    /// it, or nothing does.
    fn withheld(&self) -> &[(Subject, Trouble)] {
        &[]
    }

    /// The slow things about its GPUs, by UUID; none for other sources.
    fn gpu_states(&mut self) -> Vec<(String, Result<GpuState, Trouble>)> {
        Vec::new()
    }
}
