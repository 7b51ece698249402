//! Handles on processes: a signal sent through one can never reach another process.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};
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

/// Waits until the process of a handle has ended with all of its threads, or so many milliseconds
/// have passed; whether it has ended. A first thread that has ended before others is not the end.
pub(crate) fn has_ended_within(process: &OwnedFd, milliseconds: u16) -> io::Result<bool> {
    let mut ends = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
    match poll(&mut ends, milliseconds) {
        Ok(count) => Ok(count > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
