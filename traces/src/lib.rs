//! Units, experiment time, link state, channel traces and their exact playback.
//!
//! Nothing here reads a clock, starts a thread or touches the network: a trace is data, and
//! playing it is arithmetic on integers (nanoseconds and bits), so that every answer can be
//! checked exactly.

mod curve;
mod error;
pub mod format;
pub mod generate;
mod rng;
mod state;
mod trace;
pub mod units;

pub use curve::CapacityCurve;
pub use error::TraceError;
pub use rng::stream;
pub use state::{Diagnostics, Direction, LinkState, UNLIMITED_RATE_BPS};
pub use trace::{EndPolicy, Trace, TraceMetadata, TraceRow, TraceStatus, TRACE_SCHEMA};
