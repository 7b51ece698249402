//! Threads of a job that cannot end without the coordinator hearing of it.

use std::sync::mpsc::Sender;
use std::thread;

use super::error::JobError;
use super::signal::{Signal, tell};

/// Tells the coordinator when its thread panics.
struct Alarm<'a>(&'a Sender<Signal>);

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            tell(self.0, Signal::Failed(JobError::ThreadLost));
        }
    }
}

/// Starts a thread (name of 15 bytes at most) whose error or panic ends the job. Nobody waits for
/// it: it ends with the process, or when its channels and sockets close.
pub(super) fn spawn(
    name: &'static str,
    signals: &Sender<Signal>,
    work: impl FnOnce(&Sender<Signal>) -> Result<(), JobError> + Send + 'static,
) -> Result<(), JobError> {
    let signals = signals.clone();
    let body = move || {
        let alarm = Alarm(&signals);
        if let Err(error) = work(&signals) {
            tell(&signals, Signal::Failed(error));
        }
        drop(alarm);
    };
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(body);
    spawned
        .map(drop)
        .map_err(|source| JobError::Thread { name, source })
}
