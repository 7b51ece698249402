//! The thread that owns the endpoints of this process.

use std::future::Future;
use std::io;
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};

use crate::serve::coordinator::LAST_BYTES_LIMIT;

static RUNTIME: Mutex<Option<Handle>> = Mutex::new(None);

/// What is to be done before the process ends.
static LEFT: Mutex<usize> = Mutex::new(0);
static DONE: Condvar = Condvar::new();

/// The runtime, which is started when it is first asked for and ends with the process.
pub(super) fn handle() -> io::Result<Handle> {
    let mut held = RUNTIME.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(handle) = &*held {
        return Ok(handle.clone());
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let body = move || runtime.block_on(std::future::pending::<()>());
    thread::Builder::new()
        .name("hx-quic".to_owned())
        .spawn(body)?;
    *held = Some(handle.clone());
    Ok(handle)
}

/// Starts work that the process waits for when it ends.
pub(super) fn spawn_last(handle: &Handle, work: impl Future<Output = ()> + Send + 'static) {
    *LEFT.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    handle.spawn(async move {
        work.await;
        *LEFT.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        DONE.notify_all();
    });
}

/// Waits until what was written last has left: unlike TCP's, what QUIC still holds goes with the process.
pub(in crate::serve) fn settle() {
    let left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
    let limit = LAST_BYTES_LIMIT + Duration::from_millis(100);
    // Whatever has not left by then is lost, as with a kernel that is switched off.
    let _in_time = DONE.wait_timeout_while(left, limit, |left| *left > 0);
}
