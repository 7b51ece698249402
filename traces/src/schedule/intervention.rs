//! What may be done to a trace while it plays.

use serde::{Deserialize, Serialize};

use crate::LinkState;

/// Values that are used instead of the trace's, in one direction. What is left out follows the
/// trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StateOverride {
    /// Bits per second of IP packets; 0 is an outage, [`crate::UNLIMITED_RATE_BPS`] no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_bps: Option<u64>,
    /// One-way delay in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ns: Option<u64>,
    /// Half-width of the jitter in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_ns: Option<u32>,
    /// Loss in parts per 10^9.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_ppb: Option<u32>,
    /// Mean burst length of losses in thousandths of a packet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss_burst_milli: Option<u32>,
    /// Duplicated packets in parts per 10^9.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dup_ppb: Option<u32>,
    /// Packets with a flipped bit in parts per 10^9.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub corrupt_ppb: Option<u32>,
    /// The queue in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue_bytes: Option<u32>,
}

impl StateOverride {
    /// Nothing is overridden.
    pub const NONE: StateOverride = StateOverride {
        rate_bps: None,
        delay_ns: None,
        jitter_ns: None,
        loss_ppb: None,
        loss_burst_milli: None,
        dup_ppb: None,
        corrupt_ppb: None,
        queue_bytes: None,
    };

    /// `state` with these values in it.
    #[must_use]
    pub fn over(&self, state: LinkState) -> LinkState {
        LinkState {
            rate_bps: self.rate_bps.unwrap_or(state.rate_bps),
            delay_ns: self.delay_ns.unwrap_or(state.delay_ns),
            jitter_ns: self.jitter_ns.unwrap_or(state.jitter_ns),
            loss_ppb: self.loss_ppb.unwrap_or(state.loss_ppb),
            loss_burst_milli: self.loss_burst_milli.unwrap_or(state.loss_burst_milli),
            dup_ppb: self.dup_ppb.unwrap_or(state.dup_ppb),
            corrupt_ppb: self.corrupt_ppb.unwrap_or(state.corrupt_ppb),
            queue_bytes: self.queue_bytes.unwrap_or(state.queue_bytes),
        }
    }
}

/// What may be done to a trace that plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlaybackChange {
    /// The trace stands still: the link stays in the state that it is in.
    Pause,
    /// The trace goes on from where it stands.
    Resume,
    /// The trace goes on from another place, or stands there if it is paused.
    Jump {
        /// Offset from the start of the trace, in nanoseconds.
        to_ns: u64,
    },
    /// These values hold instead of the trace's, and those of an earlier override no longer.
    Override(StateOverride),
}

/// A change and its moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intervention {
    /// From when on, in nanoseconds after T0.
    pub at_ns: u64,
    /// What changes.
    pub change: PlaybackChange,
}
