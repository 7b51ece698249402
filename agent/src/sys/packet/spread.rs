//! A socket that sends out of many interfaces in one system call. Every frame goes with a
//! [`VirtioHeader`](super::VirtioHeader) before it.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::net::if_::if_nametoindex;
use nix::sys::socket::{setsockopt, sockopt};

use super::{
    SEND_BATCH, SEND_BUFFER_BYTES, address_of, address_of_none, check, length_of, open_raw, set,
};

/// An interface that it can send out of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exit(libc::sockaddr_ll);

impl Default for Exit {
    /// None: whatever is sent there is refused.
    fn default() -> Exit {
        Exit(address_of_none())
    }
}

/// Sends out of any interface of the network namespace that it was opened in, and takes nothing in.
#[derive(Debug)]
pub(crate) struct SpreadSender {
    descriptor: OwnedFd,
}

impl SpreadSender {
    /// Opens one in this thread's network namespace.
    ///
    /// # Errors
    /// No `CAP_NET_RAW`.
    pub(crate) fn open() -> io::Result<SpreadSender> {
        let descriptor = open_raw()?;
        set(&descriptor, libc::PACKET_VNET_HDR, &1_i32)?;
        // Without the right to more, the default has to do.
        let _ = setsockopt(&descriptor, sockopt::SndBufForce, &SEND_BUFFER_BYTES);
        Ok(SpreadSender { descriptor })
    }

    /// The interface of that name, in this thread's network namespace.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn exit(interface: &str) -> io::Result<Exit> {
        Ok(Exit(address_of(if_nametoindex(interface)?, 0)?))
    }

    /// Sends each frame, its header before it, out of its interface, at most [`SEND_BATCH`], and returns how many were
    /// taken.
    ///
    /// # Errors
    /// The first frame could not be sent.
    pub(crate) fn send(&self, exits: &[Exit], frames: &[IoSlice<'_>]) -> io::Result<usize> {
        #[expect(unsafe_code, reason = "msghdr has private padding on some platforms")]
        // SAFETY: all-zero bytes are a valid mmsghdr: null pointers and zero lengths.
        let mut headers: [libc::mmsghdr; SEND_BATCH] = unsafe { std::mem::zeroed() };
        let mut count = 0;
        for ((header, exit), frame) in headers.iter_mut().zip(exits).zip(frames) {
            // The kernel only reads through both.
            header.msg_hdr.msg_name = std::ptr::from_ref(&exit.0).cast_mut().cast();
            header.msg_hdr.msg_namelen = length_of::<libc::sockaddr_ll>()?;
            // An IoSlice has the layout of an iovec.
            header.msg_hdr.msg_iov = std::ptr::from_ref(frame).cast_mut().cast();
            header.msg_hdr.msg_iovlen = 1;
            count += 1;
        }
        let raw = self.descriptor.as_raw_fd();
        #[expect(unsafe_code, reason = "nix's sendmmsg allocates for every batch")]
        // SAFETY: the first `count` headers each point to a live address and one live iovec of
        // readable bytes.
        let sent = unsafe { libc::sendmmsg(raw, headers.as_mut_ptr(), count, 0) };
        usize::try_from(check(sent)?).map_err(io::Error::other)
    }
}
