//! What the threads of a job tell its coordinator.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::mpsc::Sender;

use nix::sys::socket::{Shutdown, shutdown};

use super::connection::End;
use super::error::JobError;
use crate::clock::MonotonicNs;
use crate::job::{JobCommand, JobEvent, Outcome};
use crate::wire::PayloadBytes;

/// One thing that happened, stamped where it happened.
#[derive(Debug)]
pub(super) enum Signal {
    /// A line on standard input.
    Command(JobCommand),
    /// Standard input ended, or held something else.
    Input(JobError),
    /// The model is loaded and the sockets are open.
    Ready(Ready),
    /// The load generator sent a request.
    Sent { request: u32, at: MonotonicNs },
    /// A request put bytes on the link, framing included.
    Payload { request: u32, payload: PayloadBytes },
    /// A token was there.
    Token {
        request: u32,
        token: u32,
        at: MonotonicNs,
    },
    /// Another token than the one that comes next was about as good.
    Tie { request: u32 },
    /// A request has ended.
    Ended { request: u32, outcome: Outcome },
    /// Something to report as it is.
    Report(Box<JobEvent>),
    /// The thread that plays the job cannot go on.
    Failed(JobError),
}

/// What is known once a job is ready.
#[derive(Debug)]
pub(super) struct Ready {
    /// Bytes of weights that this process holds.
    pub(super) weight_bytes: u64,
    /// Which kernels the engine uses.
    pub(super) engine_path: String,
    /// Sockets to shut down at the end, so that threads blocked on them end too.
    pub(super) sockets: Vec<Socket>,
}

/// A socket that is shut down when it is dropped, whoever else still holds it.
#[derive(Debug)]
pub(super) struct Socket(Held);

#[derive(Debug)]
enum Held {
    Kernel(OwnedFd),
    /// Does it itself.
    Quic {
        _end: End,
    },
}

impl Socket {
    /// One over QUIC.
    pub(super) const fn of(end: End) -> Socket {
        Socket(Held::Quic { _end: end })
    }
}

impl From<OwnedFd> for Socket {
    fn from(socket: OwnedFd) -> Socket {
        Socket(Held::Kernel(socket))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Held::Kernel(socket) = &self.0 {
            // The other side may have closed already: nothing is left to do then.
            let _closed = shutdown(socket.as_raw_fd(), Shutdown::Both);
        }
    }
}

/// Tells the coordinator. When it has gone the job is over and nothing needs telling.
pub(super) fn tell(signals: &Sender<Signal>, signal: Signal) {
    let _gone = signals.send(signal);
}
