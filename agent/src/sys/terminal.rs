//! Which process group a terminal listens to.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// The foreground process group of the terminal; an error where there is none.
pub(crate) fn foreground(terminal: impl AsFd) -> io::Result<libc::pid_t> {
    let descriptor = terminal.as_fd().as_raw_fd();
    #[expect(
        unsafe_code,
        reason = "nix has it behind a feature that nothing else needs"
    )]
    // SAFETY: the descriptor is open for the call, which takes nothing else.
    let group = unsafe { libc::tcgetpgrp(descriptor) };
    if group < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(group)
    }
}

/// Makes a process group of this session the foreground group of the terminal.
pub(crate) fn make_foreground(terminal: impl AsFd, group: libc::pid_t) -> io::Result<()> {
    let descriptor = terminal.as_fd().as_raw_fd();
    #[expect(
        unsafe_code,
        reason = "nix has it behind a feature that nothing else needs"
    )]
    // SAFETY: the descriptor is open for the call, which takes an integer besides.
    let result = unsafe { libc::tcsetpgrp(descriptor, group) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}
