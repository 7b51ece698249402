//! What both ends of a connection must agree on before a frame crosses it.

use crate::serve::error::JobError;
use crate::serve::secret::Secret;
use crate::transport::Transport;

/// How connections are made, and what proves that both ends belong to the same run.
#[derive(Debug, Clone)]
pub(in crate::serve) struct Access {
    pub(super) secret: Secret,
    pub(super) transport: Transport,
}

impl Access {
    /// From what a process is told; the secret in 64 hexadecimal digits.
    pub(in crate::serve) fn of(secret: &str, transport: Transport) -> Result<Access, JobError> {
        let secret = Secret::parse(secret)?;
        Ok(Access { secret, transport })
    }
}
