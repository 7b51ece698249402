//! Handles on processes: a signal sent through one can never reach another process.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::signal::Signal;

/// A handle on the process that has this id now.
pub(crate) fn open(pid: u32) -> io::Result<OwnedFd> {
    let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
    #[expect(unsafe_code, reason = "neither std nor nix has pidfd_open")]
    // SAFETY: pidfd_open takes two integers and touches no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    let descriptor = RawFd::try_from(result).map_err(io::Error::other)?;
    #[expect(unsafe_code, reason = "taking ownership of a new descriptor")]
    // SAFETY: the kernel has just returned this descriptor; nobody else owns it.
    let owned = unsafe { OwnedFd::from_raw_fd(descriptor) };
    Ok(owned)
}

/// Sends a signal to the process of a handle.
pub(crate) fn send_signal(process: &OwnedFd, signal: Signal) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    #[expect(unsafe_code, reason = "neither std nor nix has pidfd_send_signal")]
    // SAFETY: the descriptor is open for the call, and a null siginfo is allowed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal as libc::c_int,
            no_info,
            0,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
