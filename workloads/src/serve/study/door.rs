//! How a stage comes by its one driver, and why it turns away what that sends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};

use crate::serve::connection::{
    Access, Connection, ConnectionError, Listener, PayloadCounter, Terms, accept,
};
use crate::serve::error::JobError;
use crate::serve::signal::{Ready, Signal, tell};
use crate::serve::thread;
use crate::study::StudyJobSpec;

/// Who may be shown the door at a time.
const MAX_STRANGERS: usize = 16;

/// Listens, says that the job is ready, and waits for its driver. `loaded` is the memory of
/// its weights and what computes with them, `held` what a driver must want. `None` if the job ends before one
/// comes.
///
/// # Errors
/// The secret is none, or nobody can be listened for.
pub(super) fn open(
    spec: &StudyJobSpec,
    listen: SocketAddr,
    (loaded, held): ((u64, String), Terms),
    (counter, signals): (&Arc<PayloadCounter>, &Sender<Signal>),
) -> Result<Option<Connection>, JobError> {
    let access = Access::of(&spec.secret, spec.transport)?;
    let refused = |source| JobError::Listen {
        address: listen,
        source,
    };
    let (listener, socket) = Listener::bind(listen, &access).map_err(refused)?;
    let ready = Ready {
        weight_bytes: loaded.0,
        engine_path: loaded.1,
        sockets: vec![socket],
    };
    tell(signals, Signal::Ready(ready));
    first_to_come(listener, (access, held), counter, signals)
}

/// The first connection that shows the secret and needs what is held here. `None` if the job ends
/// before one comes.
pub(super) fn first_to_come(
    listener: Listener,
    terms: (Access, Terms),
    counter: &Arc<PayloadCounter>,
    signals: &Sender<Signal>,
) -> Result<Option<Connection>, JobError> {
    let (found, comes) = mpsc::channel();
    let counter = Arc::clone(counter);
    thread::spawn("hx-door", signals, move |signals| {
        let terms = Arc::new(terms);
        let strangers = Arc::new(AtomicUsize::new(0));
        // It ends when the listener is shut down: the job is over.
        while let Ok(Some((stream, peer))) = listener.accept() {
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
