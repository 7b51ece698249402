//! A channel trace: rows of link state, constant until the next row.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Diagnostics, Direction, LinkState, TraceError};

/// The version of the trace schema that this crate reads and writes.
pub const TRACE_SCHEMA: u32 = 1;

/// What happens when a trace has been played to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndPolicy {
    /// Start again from the first row.
    Loop,
    /// Keep the last row.
    Hold,
    /// Lift every limit.
    Clear,
}

/// How far a trace may be trusted to stand for the scenario it is named after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TraceStatus {
    /// Made by a model that passed the checks of the specification it names.
    Checked,
    /// Made by a reduced model: shaped like the scenario, not calibrated against it.
    Simplified,
    /// Recorded on a real network.
    Recorded,
    /// Written by hand, for a purpose of its own.
    Control,
}

/// What a trace says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceMetadata {
    /// The schema version: [`TRACE_SCHEMA`].
    pub schema: u32,
    /// A short name, such as `street-fr3-blockage`.
    pub scenario: String,
    /// How far to trust it.
    pub status: TraceStatus,
    /// Total length; the last row holds until then.
    pub duration_ns: u64,
    /// What follows the end.
    pub end: EndPolicy,
    /// The seed of the generator, if it had one.
    pub seed: Option<u64>,
    /// The program and version that made it.
    pub generator: String,
    /// The generator's resolved settings, name to value with unit.
    #[serde(default)]
    pub configuration: BTreeMap<String, String>,
    /// What the reader must know: what is standard, extrapolated or assumed.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// One row: the state of both directions from `t_ns` until the next row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceRow {
    /// Offset from the start of the trace, strictly increasing, 0 in the first row.
    pub t_ns: u64,
    /// Downlink.
    pub down: LinkState,
    /// Uplink.
    pub up: LinkState,
    /// What the generator knew.
    #[serde(default)]
    pub diagnostics: Diagnostics,
}

impl TraceRow {
    /// The state of one direction.
    #[must_use]
    pub const fn direction(&self, direction: Direction) -> &LinkState {
        match direction {
            Direction::Down => &self.down,
            Direction::Up => &self.up,
        }
    }
}

/// A whole trace in memory. It exists only in a valid state: at least one row, the first at 0,
/// times strictly increasing and before the end.
#[derive(Debug, Clone, PartialEq)]
pub struct Trace {
    metadata: TraceMetadata,
    rows: Vec<TraceRow>,
}

impl Trace {
    /// Checks the rows and makes a trace of them.
    ///
    /// # Errors
    /// No rows, a first row that is not at 0, a time that does not increase, or a row at or
    /// after `metadata.duration_ns`. The error's `row` counts data rows from 1.
    pub fn new(metadata: TraceMetadata, rows: Vec<TraceRow>) -> Result<Trace, TraceError> {
        let Some(first) = rows.first() else {
            return Err(TraceError::Empty);
        };
        if first.t_ns != 0 {
            return Err(TraceError::FirstRowNotAtZero { t_ns: first.t_ns });
        }
        for (index, pair) in rows.windows(2).enumerate() {
            if pair[1].t_ns <= pair[0].t_ns {
                return Err(TraceError::TimeGoesBack {
                    row: index + 2,
                    t_ns: pair[1].t_ns,
                    previous_ns: pair[0].t_ns,
                });
            }
        }
        let last = rows.last().map_or(0, |row| row.t_ns);
        if last >= metadata.duration_ns {
            return Err(TraceError::RowAfterEnd {
                row: rows.len(),
                t_ns: last,
                duration_ns: metadata.duration_ns,
            });
        }
        Ok(Trace { metadata, rows })
    }

    /// What the trace says about itself.
    #[must_use]
    pub const fn metadata(&self) -> &TraceMetadata {
        &self.metadata
    }

    /// The rows, in order of time.
    #[must_use]
    pub fn rows(&self) -> &[TraceRow] {
        &self.rows
    }

    /// Total length in nanoseconds.
    #[must_use]
    pub const fn duration_ns(&self) -> u64 {
        self.metadata.duration_ns
    }
}
