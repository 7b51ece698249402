//! What becomes of the interfaces of a link while it exists.

use std::io;
use std::os::fd::AsFd;

use nix::sys::epoll::Epoll;

use crate::sys::packet::PacketSocket;

/// How an interface failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PortFailure {
    /// It no longer exists.
    Gone,
    /// It was taken down, for a while at least.
    Down,
    /// Something else; the error's number.
    Other(i32),
}

/// Looks at a socket that reports an error, which otherwise would be reported for ever. A
/// socket whose interface is gone, or that cannot say what it has, is not watched any more.
pub(super) fn inspect(port: &PacketSocket, epoll: &Epoll) -> Option<PortFailure> {
    let failure = failure_of(port, port.take_error().as_ref());
    if matches!(failure, Some(PortFailure::Gone | PortFailure::Other(_))) {
        // It may have been taken off before.
        let _ = epoll.delete(port.as_fd());
    }
    failure
}

/// What the state of a socket and the error that was pending on it mean.
pub(crate) fn failure_of(port: &PacketSocket, error: Option<&io::Error>) -> Option<PortFailure> {
    if !port.is_attached() {
        return Some(PortFailure::Gone);
    }
    match error?.raw_os_error() {
        Some(libc::ENETDOWN) => Some(PortFailure::Down),
        number => Some(PortFailure::Other(number.unwrap_or(0))),
    }
}
