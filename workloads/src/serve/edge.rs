//! The edge's side: one engine serves the frames of all connections in the order they arrive.

mod door;
mod service;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use super::connection::{Access, Listener, PayloadCounter};
use super::error::JobError;
use super::part::Part;
use super::signal::{Ready, Signal, tell};
use super::thread;
use crate::clock::MonotonicNs;
use crate::job::JobSpec;

/// Frames that may wait for the engine; a client that sends more waits in its own socket.
const QUEUE_FRAMES: usize = 64;

/// What an edge job is to do.
#[derive(Debug)]
pub(super) struct EdgeJob {
    pub(super) spec: JobSpec,
    pub(super) access: Access,
    pub(super) listen: SocketAddr,
    pub(super) counter: Arc<PayloadCounter>,
}

/// Serves until the process ends. It serves before T0 too: whoever connects sets the pace.
pub(super) fn play(
    job: EdgeJob,
    signals: &Sender<Signal>,
    _start: &Receiver<MonotonicNs>,
) -> Result<(), JobError> {
    let part = Part::load_edge(&job.spec)?;
    let refused = |source| JobError::Listen {
        address: job.listen,
        source,
    };
    let (listener, socket) = Listener::bind(job.listen, &job.access).map_err(refused)?;
    let (queue, work) = mpsc::sync_channel(QUEUE_FRAMES);
    let limits = part.limits(job.spec.placement);
    let door = door::Door {
        held: part.terms(part.layers())?,
        access: job.access,
        counter: job.counter,
        limits,
        queue,
    };
    let address = job.listen;
    thread::spawn("hx-door", signals, move |signals| {
        door::serve(&listener, address, &door, signals)
    })?;
    let ready = Ready {
        weight_bytes: part.weight_bytes(),
        engine_path: part.engine_path(),
        sockets: vec![socket],
    };
    tell(signals, Signal::Ready(ready));
    service::serve(&part, job.spec.placement, &work)
}
