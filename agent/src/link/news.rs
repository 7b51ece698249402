//! News of a network namespace: the kernel tells whenever an interface comes, goes or changes, and, who asks
//! for that, of addresses, routes and disciplines.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

use crate::sys::message_filter;

/// Groups of linux/rtnetlink.h: links alone.
const LINKS: &[u32] = &[1];

/// Links, disciplines, and what decides over which interface a packet leaves: addresses, routes and rules
/// of both families, nexthop objects.
const EVERYTHING: &[u32] = &[1, 4, 5, 7, 8, 9, 11, 19, 32];

/// Disciplines, classes and filters that are made or changed (`RTM_NEWQDISC`, `RTM_NEWTCLASS` and
/// `RTM_NEWTFILTER`): who follows a trace makes such news himself, at each row. What replaces another tells
/// of that one's end first.
const OUR_OWN: [u16; 3] = [36, 40, 44];

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
        InterfaceNews::of(LINKS)
    }

    /// Of those, of addresses and routes, and of disciplines, classes and filters that end.
    ///
    /// # Errors
    /// The kernel gives no socket.
    pub(crate) fn open_to_everything() -> io::Result<InterfaceNews> {
        let news = InterfaceNews::of(EVERYTHING)?;
        message_filter::discard(news.as_fd(), &OUR_OWN)?;
        Ok(news)
    }

    fn of(groups: &[u32]) -> io::Result<InterfaceNews> {
        let news = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkRoute,
        )?;
        let mask = groups.iter().fold(0, |mask, group| mask | 1 << (group - 1));
        bind(news.as_raw_fd(), &NetlinkAddr::new(0, mask))?;
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
