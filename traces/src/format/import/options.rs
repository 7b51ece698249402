//! What whoever imports a recording says about it.

use std::collections::BTreeMap;

use super::GapPolicy;
use crate::scenario::Scenario;
use crate::{Direction, EndPolicy};

/// What a recording leaves open.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportOptions {
    /// The name of the trace.
    pub scenario: String,
    /// One-way delay of each direction, where the recording holds none.
    pub delay_ns: u64,
    /// Queue before the bottleneck, in bytes; 0 leaves it to the link.
    pub queue_bytes: u32,
    /// The direction of a recording that holds one and does not say which.
    pub direction: Direction,
    /// What becomes of time without samples.
    pub gaps: GapPolicy,
    /// The longest time without samples that is held silently counted in the notes; by default
    /// three times the usual distance between samples.
    pub longest_hold_ns: Option<u64>,
    /// The length of the rows to make, where the recording's own are not wanted.
    pub step_ns: Option<u64>,
    /// What follows the end of the trace; by default what the format says, or a loop.
    pub end: Option<EndPolicy>,
    /// The licence of the recording.
    pub licence: Option<String>,
    /// Which rows count: those whose column has this value.
    pub select: BTreeMap<String, String>,
    /// Settings of the radio that makes rates of recorded ratios (`snr`), or of the scenario that
    /// makes them of recorded positions: dotted keys and values, such as `radio.bandwidth` and
    /// `20 MHz`.
    pub settings: Vec<(String, String)>,
    /// The scenario in which recorded positions are played.
    pub around: Option<Scenario>,
    /// What the columns of a table are: by role (`time`, `down`, `rtt`, ...) the column's name and
    /// unit, such as `DL_bitrate:kbit/s`.
    pub columns: BTreeMap<String, String>,
}

impl Default for ImportOptions {
    fn default() -> ImportOptions {
        ImportOptions {
            scenario: "recording".to_owned(),
            delay_ns: 0,
            queue_bytes: 0,
            direction: Direction::Down,
            gaps: GapPolicy::Refuse,
            longest_hold_ns: None,
            step_ns: None,
            end: None,
            licence: None,
            settings: Vec::new(),
            around: None,
            select: BTreeMap::new(),
            columns: BTreeMap::new(),
        }
    }
}
