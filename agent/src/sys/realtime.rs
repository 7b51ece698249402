//! Real-time scheduling of the calling thread.

use std::io;

/// Puts the calling thread into `SCHED_FIFO` at this priority.
///
/// # Errors
/// Neither `CAP_SYS_NICE` nor a sufficient `RLIMIT_RTPRIO`.
pub(crate) fn become_fifo(priority: i32) -> io::Result<()> {
    let parameters = libc::sched_param {
        sched_priority: priority,
    };
    #[expect(unsafe_code, reason = "neither std nor nix sets a scheduling policy")]
    // SAFETY: 0 means the calling thread, and the parameters outlive the call.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
