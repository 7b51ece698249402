//! The second of two nodes where one thread answers frame by frame what the driver sends: drafts, keys and
//! values, retrieval.

use super::books::WayBack;
use super::door::Refusal;
use crate::serve::connection::{Connection, Frame};
use crate::serve::error::JobError;
use crate::wire::FrameKind;

/// What answers.
pub(super) trait Answers {
    /// Bytes that the body of a frame may have at most; `None` for a kind that is not let in.
    fn accepts(&self, kind: FrameKind) -> Option<u64>;

    /// Takes a frame in, and answers it.
    ///
    /// # Errors
    /// The frame makes no sense, or the job has failed.
    fn take(&mut self, frame: &Frame) -> Result<(), Refusal>;
}

/// Answers until the driver goes.
///
/// # Errors
/// What was refused, or the connection is gone.
pub(super) fn answer<A: Answers>(
    front: Connection,
    make: impl FnOnce(WayBack) -> A,
) -> Result<(), JobError> {
    let Connection {
        mut reader,
        writer,
        socket: _open,
        peer,
    } = front;
    let mut answers = make(WayBack::new(writer));
    loop {
        let frame = reader.read(&|kind| answers.accepts(kind));
        let frame = frame.map_err(|source| JobError::Connection { peer, source })?;
        let Some(frame) = frame else { return Ok(()) };
        match answers.take(&frame) {
            Ok(()) => {}
            Err(Refusal::Job(error)) => return Err(error),
            Err(Refusal::Front(source)) => return Err(JobError::Connection { peer, source }),
        }
    }
}

/// The token ids that a frame's body is a list of.
///
/// # Errors
/// It is none.
pub(super) fn ids(frame: &Frame) -> Result<Vec<u32>, Refusal> {
    let ids = frame.token_ids();
    Ok(ids.ok_or_else(|| frame.content_error("its body is no list of tokens"))?)
}
