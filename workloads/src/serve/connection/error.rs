//! What ends a connection between two job processes.

use std::io;
use std::ops::Range;

use crate::wire::{FrameError, FrameKind};

/// Why a connection between two job processes ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// End of file where a frame was expected.
    #[error("the other side closed the connection while it was still needed")]
    Closed,
    /// Reading failed, or the stream ended inside a frame.
    #[error("reading a frame failed")]
    Read(#[source] io::Error),
    /// Writing failed.
    #[error("writing a frame failed")]
    Write(#[source] io::Error),
    /// The bytes are not ours.
    #[error("the other side does not speak this protocol")]
    Foreign(#[source] FrameError),
    /// A frame that has no place here.
    #[error("a {kind:?} frame came where none may come")]
    Unexpected {
        /// Its kind.
        kind: FrameKind,
    },
    /// A body longer than this job can use.
    #[error(
        "a {kind:?} frame of {body_bytes} bytes came; {limit_bytes} is the most that can be meant"
    )]
    TooLong {
        /// The frame's kind.
        kind: FrameKind,
        /// Its stated length.
        body_bytes: u64,
        /// The most that this job accepts.
        limit_bytes: u64,
    },
    /// A frame that contradicts what went before or what it says of itself.
    #[error("a {kind:?} frame for request {request} makes no sense: {why}")]
    Content {
        /// The frame's kind.
        kind: FrameKind,
        /// Its request.
        request: u32,
        /// What is wrong with it.
        why: String,
    },
    /// The connecting side does not know the secret.
    #[error("the other side does not know this run's secret")]
    WrongSecret,
    /// The listening side closed the connection in answer to the secret.
    #[error("the other side refused this run's secret: it belongs to another run")]
    Refused,
    /// The other side has another model.
    #[error(
        "the other side has another model (its files differ): give both nodes the same directory"
    )]
    WrongModel,
    /// The other side has another second model, or none.
    #[error(
        "the other side has another draft model or vision encoder (its files differ), or none: give both \
         nodes the same directory"
    )]
    WrongSecond,
    /// The other side has other layers.
    #[error("layers {needed:?} are needed, and the other side holds {held:?}")]
    WrongLayers {
        /// Needed here.
        needed: Range<u32>,
        /// Held there.
        held: Range<u32>,
    },
    /// What was sent has not been acknowledged for as long as anybody waits.
    #[error(
        "the link has stalled: {unacknowledged_bytes} bytes were not acknowledged for {seconds} s; \
         the other side may be alive"
    )]
    LinkStalled {
        /// Bytes on the way.
        unacknowledged_bytes: u64,
        /// How long nothing came.
        seconds: u64,
    },
    /// The same where the kernel does not know how much is on the way.
    #[error(
        "the link has stalled: nothing that is sent is acknowledged, and nothing came for {seconds} s; \
         the other side may be alive"
    )]
    NothingAcknowledged {
        /// How long nothing came.
        seconds: u64,
    },
    /// Everything that was sent was acknowledged, and no answer came.
    #[error(
        "the other side does not answer: it has taken everything that was sent and has been silent \
         for {seconds} s"
    )]
    PeerSilent {
        /// How long.
        seconds: u64,
    },
}
