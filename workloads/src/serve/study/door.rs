//! How a stage comes by its one driver, and why it turns away what that sends.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};

use crate::serve::connection::{Connection, ConnectionError, PayloadCounter, Terms, accept};
use crate::serve::error::JobError;
use crate::serve::secret::Secret;
use crate::serve::signal::Signal;
use crate::serve::thread;

/// Who may be shown the door at a time.
const MAX_STRANGERS: usize = 16;

/// The first connection that shows the secret and needs what is held here. `None` if the job ends
/// before one comes.
pub(super) fn first_to_come(
    listener: TcpListener,
    terms: (Secret, Terms),
    counter: &Arc<PayloadCounter>,
    signals: &Sender<Signal>,
) -> Result<Option<Connection>, JobError> {
    let (found, comes) = mpsc::channel();
    let counter = Arc::clone(counter);
    thread::spawn("hx-door", signals, move |signals| {
        let terms = Arc::new(terms);
        let strangers = Arc::new(AtomicUsize::new(0));
        // It ends with an error when the listener is shut down: the job is over.
        while let Ok((stream, peer)) = listener.accept() {
            if strangers.fetch_add(1, Ordering::Relaxed) >= MAX_STRANGERS {
                strangers.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let (found, counter) = (found.clone(), Arc::clone(&counter));
            let (terms, strangers) = (Arc::clone(&terms), Arc::clone(&strangers));
            thread::spawn("hx-client", signals, move |_signals| {
                match accept(stream, peer, (&terms.0, &terms.1), &counter) {
                    Ok(connection) => {
                        counter.opened();
                        // One driver is enough: who comes later finds nobody.
                        if found.send(connection).is_err() {
                            counter.closed();
                        }
                    }
                    Err(error) => eprintln!("stage: connection from {peer} refused: {error}"),
                }
                strangers.fetch_sub(1, Ordering::Relaxed);
                Ok(())
            })?;
        }
        Ok(())
    })?;
    Ok(comes.recv().ok())
}

/// Why a frame was not served.
pub(super) enum Refusal {
    /// It makes no sense, or the way back is cut.
    Front(ConnectionError),
    /// The model, or the way on.
    Job(JobError),
}

impl From<ConnectionError> for Refusal {
    fn from(error: ConnectionError) -> Refusal {
        Refusal::Front(error)
    }
}

impl From<JobError> for Refusal {
    fn from(error: JobError) -> Refusal {
        Refusal::Job(error)
    }
}
