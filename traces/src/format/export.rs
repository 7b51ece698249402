//! Export of traces to other formats, row by row.
//!
//! CSV, Arrow IPC and Parquet are written by [`super::TraceWriter`]. The formats here hold less
//! than a trace does; what is lost is told in [`Exported::warnings`].

mod mahimahi;
mod netem;
mod theaterq;

pub use mahimahi::mahimahi;
pub use netem::netem;
pub use theaterq::{TheaterqForm, theaterq};

use crate::TraceError;

/// What came of an export.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exported {
    /// Lines or entries written.
    pub entries: u64,
    /// What the format could not hold, once each.
    pub warnings: Vec<String>,
}

impl Exported {
    fn warn(&mut self, warning: impl Into<String>) {
        let warning = warning.into();
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }
}

fn failed(source: std::io::Error) -> TraceError {
    TraceError::Stream {
        action: "write",
        source,
    }
}

/// IP bytes of a full packet, where a format counts packets.
const PACKET_BYTES: u32 = 1500;

#[cfg(test)]
mod tests;
