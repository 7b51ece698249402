//! The cookie of a network namespace (`SO_NETNS_COOKIE`): unlike the inode of its file it is
//! never used again before the next boot.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The cookie of the namespace that a socket is in; an error before Linux 5.14.
pub(crate) fn of_socket(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut length: libc::socklen_t = 8;
    #[expect(unsafe_code, reason = "nix does not know SO_NETNS_COOKIE")]
    // SAFETY: the option writes at most the eight bytes that `length` announces.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(cookie)
    }
}
