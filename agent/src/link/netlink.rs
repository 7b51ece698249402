//! One route netlink socket, used synchronously: a request, then its answer.
//!
//! Messages are built by the typed builders of rtnetlink and netlink-packet-route; what they
//! need no event loop for is done here without one, so that the same socket serves the set-up
//! and the real-time player of queueing disciplines.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use super::LinkError;

/// What a request does if its object exists already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Make a new object, or fail.
    Create,
    /// Change an object that exists, or fail.
    Change,
    /// Make it, or replace what is there.
    Replace,
    /// Nothing: the request asks or deletes.
    Plain,
}

impl Mode {
    const fn flags(self) -> u16 {
        match self {
            Mode::Create => NLM_F_CREATE | NLM_F_EXCL,
            Mode::Change | Mode::Plain => 0,
            Mode::Replace => NLM_F_CREATE | NLM_F_REPLACE,
        }
    }
}

/// A socket in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct RouteSocket {
    descriptor: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl RouteSocket {
    /// Opens a socket in this thread's network namespace.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn open() -> io::Result<RouteSocket> {
        let descriptor = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        // An answer comes at once or, on a kernel in trouble, never.
        setsockopt(&descriptor, sockopt::ReceiveTimeout, &TimeVal::new(5, 0))?;
        connect(descriptor.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        Ok(RouteSocket {
            descriptor,
            sequence: 0,
            buffer: vec![0; 65536],
        })
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<u32> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        send(self.descriptor.as_raw_fd(), &bytes, MsgFlags::empty())?;
        Ok(self.sequence)
    }

    /// Sends a request and waits until the kernel has done it.
    ///
    /// # Errors
    /// `action` says what was being done.
    pub(crate) fn request(
        &mut self,
        message: RouteNetlinkMessage,
        mode: Mode,
        action: impl FnOnce() -> String,
    ) -> Result<(), LinkError> {
        let result = self
            .send(message, NLM_F_ACK | mode.flags())
            .and_then(|sequence| self.answers(sequence, |_| {}));
        result.map_err(|source| LinkError::Netlink {
            action: action(),
            source,
        })
    }

    /// Asks for one object or, with `dump`, for all, and returns the answers.
    ///
    /// # Errors
    /// `action` says what was being done.
    pub(crate) fn query(
        &mut self,
        message: RouteNetlinkMessage,
        dump: bool,
        action: impl FnOnce() -> String,
    ) -> Result<Vec<RouteNetlinkMessage>, LinkError> {
        let mut found = Vec::new();
        let flags = if dump { NLM_F_DUMP } else { NLM_F_ACK };
        let result = self
            .send(message, flags)
            .and_then(|sequence| self.answers(sequence, |message| found.push(message)));
        match result {
            Ok(()) => Ok(found),
            Err(source) => Err(LinkError::Netlink {
                action: action(),
                source,
            }),
        }
    }

    fn answers(
        &mut self,
        sequence: u32,
        mut take: impl FnMut(RouteNetlinkMessage),
    ) -> io::Result<()> {
        loop {
            let length = recv(
                self.descriptor.as_raw_fd(),
                &mut self.buffer,
                MsgFlags::empty(),
            )?;
            let mut rest = &self.buffer[..length];
            while rest.len() >= 16 {
                let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                    .map_err(io::Error::other)?;
                let length = usize::try_from(message.header.length).unwrap_or(0).max(16);
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
                if message.header.sequence_number != sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(()),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::InnerMessage(message) => take(message),
                    _ => {}
                }
            }
        }
    }
}
