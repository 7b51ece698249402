//! The agent's service: a gRPC server on a unix socket that plays one plan at a time.

use std::path::PathBuf;

use crate::process::SelfCommand;

/// How an agent is to serve.
#[derive(Debug, Clone)]
pub struct ServeOptions {
    /// The socket to listen on; its directory is made with mode 0700 if it is missing.
    pub socket: PathBuf,
    /// Where ledgers are kept, an absolute path.
    pub state_directory: PathBuf,
    /// User and group of the jobs; `None` takes the invoking user (`SUDO_UID`), else `nobody`.
    /// Without root privilege jobs stay with the agent's own user.
    pub job_user: Option<JobUser>,
    /// Whether end of file on standard input ends the agent: its owner holds the other end.
    pub lease_on_stdin: bool,
    /// How this program starts its other parts.
    pub program: SelfCommand,
}

/// The unprivileged user that jobs run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobUser {
    /// User id.
    pub user: u32,
    /// Group id.
    pub group: u32,
}

/// Why an agent cannot serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// Placeholder while the service is being built.
    #[error("the agent does not serve yet")]
    NotYet,
}

impl ServeError {
    /// The exit code that it calls for.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        4
    }
}

/// Serves until the owner goes away, or a signal asks it to end. To be called at the very start
/// of the process, before any thread exists: it may have to enter a user namespace.
///
/// # Errors
/// No privilege, or the socket cannot be served.
pub fn run(options: &ServeOptions) -> Result<(), ServeError> {
    let _ = options;
    Err(ServeError::NotYet)
}
