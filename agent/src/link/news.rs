//! News of interfaces: the kernel tells whenever one of a network namespace comes, goes or changes.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

/// `RTMGRP_LINK` of linux/rtnetlink.h: news of links.
const LINK_NEWS: u32 = 1;

/// Room for one message; what does not fit is cut, and nobody reads it anyway.
const MESSAGE_BYTES: usize = 32_768;

/// What becomes readable when there are news.
#[derive(Debug)]
pub(crate) struct InterfaceNews(OwnedFd);

impl InterfaceNews {
    /// Of the interfaces in this thread's namespace.
    ///
    /// # Errors
    /// The kernel gives no socket.
    pub(crate) fn open() -> io::Result<InterfaceNews> {
        let news = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkRoute,
        )?;
        bind(news.as_raw_fd(), &NetlinkAddr::new(0, LINK_NEWS))?;
        Ok(InterfaceNews(news))
    }

    /// Reads them away: who hears of news looks at the interface itself, for some may have been lost.
    pub(crate) fn read_away(&self) {
        let mut buffer = vec![0; MESSAGE_BYTES];
        // ENOBUFS says that some were lost.
        while let Ok(_) | Err(Errno::EINTR | Errno::ENOBUFS) =
            recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty())
        {}
    }
}

impl AsFd for InterfaceNews {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
