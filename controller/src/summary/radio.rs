//! What a radio link used, by published models: estimated, and beside everything that was measured.

use hexloop_topologies::plan::{PhasePlan, Plan};
use hexloop_traces::Trace;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::compute::unavailable;
use super::{Quality, Quantity};
use crate::energy::{RADIO_MODEL, RadioEnergy, radio_energy};
use crate::format::rounded;
use crate::results::PhaseResults;

/// The radio of one link over one phase, by published models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RadioSummary {
    /// The link.
    pub link: String,
    /// The carrier that its trace stands for, in Hz.
    pub carrier_hz: u64,
    /// Share of time in which bytes crossed it from edge to device.
    pub active_down: Option<f64>,
    /// The same from device to edge.
    pub active_up: Option<f64>,
    /// The user equipment, in joules, if it slept whenever it could.
    pub device_least_j: Quantity,
    /// The user equipment, in joules, if it never slept.
    pub device_most_j: Quantity,
    /// The base station, in joules, if it slept whenever it could.
    pub base_least_j: Quantity,
    /// The base station, in joules, if it never slept.
    pub base_most_j: Quantity,
}

/// The radio of the phase's link; `None` where its trace stands for no carrier.
pub(super) fn radio(
    plan: &Plan,
    phase: &PhasePlan,
    recorded: &PhaseResults,
    trace: Option<&Trace>,
) -> Option<RadioSummary> {
    let link = plan.link(&phase.link)?;
    let carrier_hz = trace?.metadata().provenance.radio.as_ref()?.carrier_hz;
    let energy = radio_energy(&link.name, &recorded.windows);
    let joules = |which: fn(&RadioEnergy) -> f64| match &energy {
        Some(energy) => Quantity {
            value: Some(rounded(which(energy), 6)),
            quality: Quality::Estimated,
            source: Some(RADIO_MODEL.to_owned()),
            reason: None,
        },
        None => unavailable("no windows of both directions of the link were recorded"),
    };
    let share = |which: fn(&RadioEnergy) -> f64| {
        let energy = energy.as_ref()?;
        Some(rounded(which(energy), 6))
    };
    Some(RadioSummary {
        link: link.name.clone(),
        carrier_hz,
        active_down: share(|energy| energy.active.0),
        active_up: share(|energy| energy.active.1),
        device_least_j: joules(|energy| energy.device_least_j),
        device_most_j: joules(|energy| energy.device_most_j),
        base_least_j: joules(|energy| energy.base_least_j),
        base_most_j: joules(|energy| energy.base_most_j),
    })
}
