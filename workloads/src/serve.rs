//! The job processes: the device's load generator and its part of the model, the edge's part.
//!
//! [`run_job`] is the main of such a process. Threads do the work and *tell* the coordinator,
//! which alone keeps the books (`ledger`) and alone writes [`crate::job::JobEvent`] lines:
//!
//! ```text
//! standard input -> hx-input  -+
//! schedule       -> hx-load   -+-> Signal -> coordinator -> JobEvent -> standard output
//! model, link    -> hx-engine -+
//! link           -> hx-reader -+
//! ```
//!
//! No thread is ever waited for at the end, so a job ends at once even in the middle of a token.

mod connection;
mod coordinator;
mod device;
mod edge;
mod error;
mod ledger;
mod pace;
mod part;
mod secret;
mod signal;
mod study;
mod thread;

#[cfg(test)]
mod tests;

use std::io::{BufRead, Write};

pub use connection::ConnectionError;
pub use error::JobError;
pub use study::run_study;

/// Runs one job, from its [`crate::job::JobSpec`] on the first line of `input` to its last
/// [`crate::job::JobEvent`] on `output`. End of file on `input` ends it at once.
///
/// # Errors
/// Everything that keeps the job from ending as it was told; where `output` still takes lines it
/// has been told as [`crate::job::JobEvent::Failed`] too.
pub fn run_job(
    input: impl BufRead + Send + 'static,
    output: impl Write + Send + 'static,
) -> Result<(), JobError> {
    coordinator::run(input, output)
}
