//! Why a job cannot go on.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::connection::ConnectionError;
use crate::engine::EngineError;

/// Why a job cannot go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JobError {
    /// Standard input gave nothing.
    #[error("cannot read the job's description from standard input")]
    ReadSpec(#[source] io::Error),
    /// Standard input gave something else.
    #[error("the first line of standard input is not a job's description")]
    ParseSpec(#[source] serde_json::Error),
    /// A command that is not one.
    #[error("standard input holds a line that is no command: `{line}`")]
    ParseCommand {
        /// The line, cut short.
        line: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// End of file on standard input before the job was told to stop.
    #[error(
        "standard input was closed before the job was told to stop: whoever started it has gone"
    )]
    InputClosed,
    /// The job's description contradicts itself.
    #[error("the job's description cannot be carried out: {why}")]
    Spec {
        /// In which way.
        why: String,
    },
    /// The model could not be loaded or run.
    #[error("cannot {doing} the model in {directory}")]
    Engine {
        /// What was being done: `load`, `run`.
        doing: &'static str,
        /// The model's directory.
        directory: PathBuf,
        /// Why not.
        source: EngineError,
    },
    /// The model's files could not be read for its fingerprint.
    #[error("cannot tell which model is in {directory}")]
    Fingerprint {
        /// The model's directory.
        directory: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The edge's port could not be opened.
    #[error(
        "cannot listen at {address}: another program may hold the port (`ss -lntup` names it), or \
         the address is not this node's; give the phase another port"
    )]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The edge does not answer.
    #[error("cannot connect to the edge at {address}")]
    Connect {
        /// Where it should listen.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// An established connection broke.
    #[error("the connection to {peer} failed")]
    Connection {
        /// The other side.
        peer: SocketAddr,
        /// Why.
        source: ConnectionError,
    },
    /// The operating system refused a thread.
    #[error("cannot start the thread `{name}`")]
    Thread {
        /// Its name.
        name: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// A thread ended without a word.
    #[error("the thread that played the job ended unexpectedly; its panic is on standard error")]
    ThreadLost,
    /// Nobody takes the reports any more.
    #[error("cannot report on standard output")]
    Report(#[source] io::Error),
}

impl JobError {
    /// The whole chain of causes in one line, for [`crate::job::JobEvent::Failed`].
    #[must_use]
    pub fn reason(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
