//! Import of recordings in other formats.
//!
//! An importer reads text into a [`Timeline`]: samples of rates, delays and losses with their
//! moments. The timeline knows what to do about several samples at one moment, about missing ones
//! and about gaps; nothing is ever interpolated, and a gap becomes an outage or is held only where
//! the options say so or it is short. What was done is told in the trace's notes.
//!
//! Every error of an importer is a [`TraceError::Recording`](crate::TraceError::Recording): file,
//! line, column and problem.

mod cellreplay;
mod clock;
mod dataset;
mod direction;
mod errant;
mod gaps;
mod importer;
mod iperf3;
mod lens5g;
mod mahimahi;
mod netem_trace;
mod nuwins;
mod options;
mod pensieve;
mod ping;
mod positions;
mod quantity;
mod recording;
mod resample;
mod snr;
mod snr_radio;
mod table;
mod theaterq;
mod timeline;

pub use clock::{ZoneCheck, civil_ns, decimal_ns};
pub use gaps::GapPolicy;
pub use importer::{IMPORTERS, Importer, detect, importer_named};
pub use options::ImportOptions;
pub use quantity::{Missing, RateUnit, delay_ns, loss_ppb, number, rate_bps};
pub use recording::{Place, Recording};
pub use resample::{Resampled, resample};
pub use table::{Cell, Delimiter, Record, Table, records};
pub use timeline::{Facts, Quantity, Timeline};

#[cfg(test)]
mod fuzz_tests;
