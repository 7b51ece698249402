//! Draws the events of a run as they come: for now plain lines, one a second at most.
//!
//! Everything here folds [`hexloop_proto::Event`]s and is told the time by them; it reads no
//! clock and writes to nothing, so a replay of the recorded events gives the same lines.

mod line;
mod monitor;
mod progress;

pub use monitor::LineMonitor;
pub use progress::{PhaseOutline, Progress, RunOutline};
