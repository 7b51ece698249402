//! A hash of rows that does not depend on the file format.

use sha2::{Digest as _, Sha256};

use crate::{Direction, TraceRow};

/// SHA-256 over rows, each in a fixed layout of little-endian integers, so that the same rows
/// have the same hash in every file format.
#[derive(Debug, Clone, Default)]
pub struct RowsHash {
    hasher: Sha256,
    bytes: Vec<u8>,
}

impl RowsHash {
    /// Of no rows.
    #[must_use]
    pub fn new() -> RowsHash {
        RowsHash::default()
    }

    /// Adds the next row.
    pub fn add(&mut self, row: &TraceRow) {
        let bytes = &mut self.bytes;
        bytes.extend_from_slice(&row.t_ns.to_le_bytes());
        for direction in Direction::BOTH {
            let state = row.direction(direction);
            for wide in [state.rate_bps, state.delay_ns] {
                bytes.extend_from_slice(&wide.to_le_bytes());
            }
            for narrow in [
                state.jitter_ns,
                state.loss_ppb,
                state.loss_burst_milli,
                state.dup_ppb,
                state.corrupt_ppb,
                state.queue_bytes,
            ] {
                bytes.extend_from_slice(&narrow.to_le_bytes());
            }
        }
        let known = &row.diagnostics;
        for value in [
            known.sinr_cdb.map(i64::from),
            known.mcs.map(i64::from),
            known.cell_id.map(i64::from),
            known.los.map(i64::from),
            known.blocked.map(i64::from),
            known.elevation_cdeg.map(i64::from),
        ] {
            // No diagnostic is as small as the number that stands for an unknown one.
            bytes.extend_from_slice(&value.unwrap_or(i64::MIN).to_le_bytes());
        }
        let event = known.event.as_deref().unwrap_or("");
        // Names of events are at most 64 bytes long.
        bytes.push(u8::try_from(event.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(event.as_bytes());
        if bytes.len() >= 1 << 14 {
            self.hasher.update(&bytes);
            bytes.clear();
        }
    }

    /// The hash of all rows added, in hexadecimal.
    #[must_use]
    pub fn finish(mut self) -> String {
        use std::fmt::Write as _;
        self.hasher.update(&self.bytes);
        let mut hexadecimal = String::with_capacity(64);
        for byte in self.hasher.finalize() {
            // Writing to a string cannot fail.
            let _ = write!(hexadecimal, "{byte:02x}");
        }
        hexadecimal
    }
}
