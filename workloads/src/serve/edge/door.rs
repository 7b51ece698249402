//! Who may come in: accepts connections, checks the secret, and reads frames for the engine.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, SyncSender};

use super::service::{Work, WorkKind};
use crate::serve::connection::{
    Access, Connection, ConnectionError, Listener, PayloadCounter, Stream, Terms, accept,
};
use crate::serve::error::JobError;
use crate::serve::part::FrameLimits;
use crate::serve::signal::Signal;
use crate::serve::thread;

/// Connections that may be open at a time, strangers included.
const MAX_CONNECTIONS: usize = 16;

/// What every connection needs.
#[derive(Debug, Clone)]
pub(super) struct Door {
    pub(super) access: Access,
    pub(super) held: Terms,
    pub(super) counter: Arc<PayloadCounter>,
    pub(super) limits: FrameLimits,
    pub(super) queue: SyncSender<Work>,
}

/// Counts a connection for as long as it is read.
struct Place(Arc<PayloadCounter>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.closed();
    }
}

/// Lets connections in until the listener is shut down. No stranger can end it.
pub(super) fn serve(
    listener: &Listener,
    address: SocketAddr,
    door: &Door,
    signals: &Sender<Signal>,
) -> Result<(), JobError> {
    for number in 0.. {
        let accepted = listener.accept();
        let accepted = accepted.map_err(|source| JobError::Listen { address, source })?;
        // The listener has been shut down: the job is over.
        let Some((stream, peer)) = accepted else {
            return Ok(());
        };
        let open = door.counter.opened();
        let place = Place(Arc::clone(&door.counter));
        if open > MAX_CONNECTIONS {
            eprintln!("edge: {peer} turned away: {MAX_CONNECTIONS} connections are open already");
            continue;
        }
        let door = door.clone();
        thread::spawn("hx-client", signals, move |_signals| {
            if let Err(error) = converse(stream, peer, number, &door) {
                eprintln!("edge: connection from {peer} ended: {}", chain(&error));
            }
            drop(place);
            Ok(())
        })?;
    }
    Ok(())
}

/// Checks the secret, then hands frames to the engine until the client goes.
fn converse(
    stream: Stream,
    peer: SocketAddr,
    number: u64,
    door: &Door,
) -> Result<(), ConnectionError> {
    let connection = accept(stream, peer, (&door.access, &door.held), &door.counter)?;
    let Connection {
        mut reader,
        writer,
        socket,
        peer,
    } = connection;
    let ended = Arc::new(AtomicBool::new(false));
    let hand_over = |kind| {
        door.queue
            .send(Work {
                connection: number,
                kind,
            })
            .is_ok()
    };
    if !hand_over(WorkKind::Opened {
        writer,
        socket,
        peer,
        ended: Arc::clone(&ended),
    }) {
        return Ok(());
    }
    let outcome = loop {
        match reader.read(&|kind| door.limits.accepts(kind)) {
            Ok(Some(frame)) => {
                if !hand_over(WorkKind::Frame(frame)) {
                    break Ok(());
                }
            }
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    ended.store(true, Ordering::Relaxed);
    hand_over(WorkKind::Gone);
    outcome
}

/// An error with its causes in one line.
fn chain(error: &ConnectionError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
