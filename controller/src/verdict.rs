//! Whether the emulation itself was good enough to believe its results.
//!
//! A pure function of the plan's bounds and what the run recorded. Every quantity is listed with
//! its bound, so that a reader sees how far a VALID run was from the edge.

mod bounds;
mod interface;
mod isolation;
mod judge;
mod link;
mod node;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use bounds::StatedBounds;
pub(crate) use interface::judge_interface;
pub use judge::judge;
pub(crate) use link::{BacklogSums, Grain, backlogged_totals};

/// Whether a run is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum VerdictOutcome {
    /// Every quantity was within its bound.
    Valid,
    /// At least one was not; the reasons say which.
    Invalid,
}

/// Why a run is not believed.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum ReasonCode {
    /// A link delivered more or less than its trace allows.
    RateError,
    /// Too few windows in which the queue was never empty.
    TooFewBackloggedWindows,
    /// The one-way delay differed from the trace's.
    DelayError,
    /// Too few probes to judge the delay by.
    TooFewProbes,
    /// Packets left the shaper too late.
    ShaperLateness,
    /// The load generator sent too late.
    SendLateness,
    /// The relay took CPU time from the jobs.
    RelayCpu,
    /// Interrupts took CPU time from the jobs.
    InterruptCpu,
    /// A setting that was asked for is not what was read back.
    SettingNotApplied,
    /// The machine was busier before the run than the experiment allows.
    NoisyMachine,
    /// The wall clock was set while delays were measured with it.
    ClockStep,
    /// Events were lost on the way to the record.
    EventsLost,
    /// A node did not get the CPUs that were asked for.
    CpusNotApplied,
    /// A node did not get the CPU quota that was asked for.
    CpuQuotaNotApplied,
    /// A GPU was lost, or used by a process that does not belong to the run.
    GpuNotOurs,
    /// A job or a request failed for another reason than the link.
    JobFailed,
    /// A part of the plan was not played or left no record.
    Incomplete,
}

impl ReasonCode {
    /// Its name in files and on the screen.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ReasonCode::RateError => "rate-error",
            ReasonCode::TooFewBackloggedWindows => "too-few-backlogged-windows",
            ReasonCode::DelayError => "delay-error",
            ReasonCode::TooFewProbes => "too-few-probes",
            ReasonCode::ShaperLateness => "shaper-lateness",
            ReasonCode::SendLateness => "send-lateness",
            ReasonCode::RelayCpu => "relay-cpu",
            ReasonCode::InterruptCpu => "interrupt-cpu",
            ReasonCode::SettingNotApplied => "setting-not-applied",
            ReasonCode::NoisyMachine => "noisy-machine",
            ReasonCode::ClockStep => "clock-step",
            ReasonCode::EventsLost => "events-lost",
            ReasonCode::CpusNotApplied => "cpus-not-applied",
            ReasonCode::CpuQuotaNotApplied => "cpu-quota-not-applied",
            ReasonCode::GpuNotOurs => "gpu-not-ours",
            ReasonCode::JobFailed => "job-failed",
            ReasonCode::Incomplete => "incomplete",
        }
    }
}

/// One reason why a run is not believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reason {
    /// Which kind.
    pub code: ReasonCode,
    /// The link with direction, node or phase it is about.
    pub subject: String,
    /// What was asked and what was got, in words and numbers.
    pub message: String,
}

/// One quantity that was compared with its bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// The reason it gives when it does not hold.
    pub code: ReasonCode,
    /// The link with direction, node or phase it is about.
    pub subject: String,
    /// What is compared.
    pub quantity: String,
    /// What was measured, with its unit.
    pub measured: String,
    /// What it must keep to, with its unit.
    pub bound: String,
    /// Whether it did; `None` when there were too few values to say.
    pub held: Option<bool>,
}

/// The verdict on a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Verdict {
    /// Whether the run is believed.
    #[serde(rename = "verdict")]
    pub outcome: VerdictOutcome,
    /// Why it is not; empty when it is.
    pub reasons: Vec<Reason>,
    /// Everything that was compared.
    pub checks: Vec<Check>,
    /// What the reader must know besides, such as faults that were injected on purpose.
    pub notes: Vec<String>,
}

impl Verdict {
    /// Whether the run is believed.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.outcome == VerdictOutcome::Valid
    }
}

#[cfg(test)]
mod tests;
