//! Waiting for a child, with what it used.

use std::io;
use std::mem::MaybeUninit;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;

/// How a child ended, and what it and the processes that it waited for used.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// See getrusage(2).
    pub(crate) used: libc::rusage,
}

/// Waits for the end of a child that nobody has waited for.
///
/// # Errors
/// This process has no such child.
pub(crate) fn wait(pid: u32) -> io::Result<Ended> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    let mut status = 0;
    let mut used = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        #[expect(unsafe_code, reason = "neither std nor nix has wait4")]
        // SAFETY: both pointers are to memory of this frame, of the types that wait4 writes.
        let result = unsafe { libc::wait4(pid, &raw mut status, 0, used.as_mut_ptr()) };
        if result >= 0 {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    #[expect(unsafe_code, reason = "the kernel has filled it")]
    // SAFETY: all bytes were zero, which is a valid rusage, before the kernel wrote to it.
    let used = unsafe { used.assume_init() };
    Ok(Ended {
        status: ExitStatus::from_raw(status),
        used,
    })
}
