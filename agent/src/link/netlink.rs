//! One route netlink socket, used synchronously: a request, then its answer.
//!
//! Messages are built by the typed builders of rtnetlink and netlink-packet-route; what they
//! need no event loop for is done here without one, so that the same socket serves the set-up
//! and the real-time player of queueing disciplines.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_ECHO, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST,
    NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, connect, recv, send,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use super::LinkError;

/// The length of `struct nlmsghdr`: length, type, flags, sequence number, port.
pub(crate) const HEADER_BYTES: usize = 16;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

/// A whole message, its header included, that can be sent again and again: only what changes
/// is written anew, and nothing is allocated.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    bytes: Vec<u8>,
}

impl Prepared {
    /// A message of type `kind` (RTM_...) with this payload.
    pub(crate) fn new(kind: u16, flags: u16, payload: &[u8]) -> Prepared {
        let length = HEADER_BYTES + payload.len();
        let mut bytes = Vec::with_capacity(length.next_multiple_of(4));
        bytes.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        bytes.extend([0; 8]);
        bytes.extend_from_slice(payload);
        bytes.resize(length.next_multiple_of(4), 0);
        Prepared { bytes }
    }

    /// A request that the kernel answers when it is done.
    pub(crate) fn request(kind: u16, mode: Mode, payload: &[u8]) -> Prepared {
        Prepared::new(kind, NLM_F_ACK | mode.flags(), payload)
    }

    /// A question with one answer, which is not acknowledged beside that. Without the request
    /// for an echo the answer would go to those who listen for changes only (`nlmsg_notify`).
    pub(crate) fn question(kind: u16, payload: &[u8]) -> Prepared {
        Prepared::new(kind, NLM_F_ECHO, payload)
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Writes over the payload, from its byte `at` on.
    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) {
        let at = HEADER_BYTES + at;
        if let Some(place) = self.bytes.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    fn number(&mut self, sequence: u32) {
        self.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
    }
}

/// One message of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Answer<'a> {
    kind: u16,
    sequence: u32,
    payload: &'a [u8],
}

/// The first message of a datagram, and what follows it.
fn first_answer(bytes: &[u8]) -> Option<(Answer<'_>, &[u8])> {
    let word = |at: usize| {
        let word = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_ne_bytes(word))
    };
    let length = usize::try_from(word(0)?).ok()?;
    let payload = bytes.get(HEADER_BYTES..length)?;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let answer = Answer {
        kind,
        sequence: word(8)?,
        payload,
    };
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    Some((answer, rest))
}

/// What the kernel says of a request: a negative error number, or 0 when it is done.
fn status(payload: &[u8]) -> io::Result<()> {
    let code = payload.get(..4).and_then(|code| code.try_into().ok());
    match code.map(i32::from_ne_bytes) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

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

/// Waits for a datagram. If answers were lost for want of room (`ENOBUFS`), those that were not are
/// read away: the kernel gives a socket nothing more until it is empty (`NETLINK_S_CONGESTED`).
fn receive(descriptor: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    let received = recv(descriptor, buffer, MsgFlags::empty());
    if received == Err(Errno::ENOBUFS) {
        while let Ok(_) | Err(Errno::ENOBUFS | Errno::EINTR) =
            recv(descriptor, buffer, MsgFlags::MSG_DONTWAIT)
        {}
    }
    Ok(received?)
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
        crate::failpoint::fallible("netlink")?;
        self.next_number();
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

    fn next_number(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Sends a message that was prepared, and hands every message of its answer to `take`,
    /// until the kernel says that it is done, or until `take` says that it has enough.
    pub(crate) fn exchange(
        &mut self,
        message: &mut Prepared,
        mut take: impl FnMut(u16, &[u8]) -> bool,
    ) -> io::Result<()> {
        crate::failpoint::fallible("netlink")?;
        let sequence = self.next_number();
        message.number(sequence);
        let descriptor = self.descriptor.as_raw_fd();
        send(descriptor, &message.bytes, MsgFlags::empty())?;
        loop {
            let length = receive(descriptor, &mut self.buffer)?;
            let mut rest = &self.buffer[..length];
            while let Some((answer, following)) = first_answer(rest) {
                rest = following;
                if answer.sequence != sequence {
                    continue;
                }
                match answer.kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => return status(answer.payload),
                    kind => {
                        if take(kind, answer.payload) {
                            return Ok(());
                        }
                    }
                }
            }
        }
    }

    /// Sends many prepared requests at once, and waits for the answers to all of them. Returns
    /// the first refusal.
    pub(crate) fn exchange_all(
        &mut self,
        messages: &mut [Prepared],
        scratch: &mut Vec<u8>,
    ) -> io::Result<()> {
        crate::failpoint::fallible("netlink")?;
        scratch.clear();
        for message in &mut *messages {
            let sequence = self.next_number();
            message.number(sequence);
            scratch.extend_from_slice(&message.bytes);
        }
        let descriptor = self.descriptor.as_raw_fd();
        send(descriptor, scratch, MsgFlags::empty())?;
        let last = self.sequence;
        let first = last.wrapping_sub(u32::try_from(messages.len()).unwrap_or(0));
        let mut missing = messages.len();
        let mut result = Ok(());
        while missing > 0 {
            let length = receive(descriptor, &mut self.buffer)?;
            let mut rest = &self.buffer[..length];
            while let Some((answer, following)) = first_answer(rest) {
                rest = following;
                let number = answer.sequence.wrapping_sub(first);
                let ours = number >= 1 && number <= last.wrapping_sub(first);
                if answer.kind == NLMSG_ERROR && ours {
                    missing = missing.saturating_sub(1);
                    if let Err(error) = status(answer.payload)
                        && result.is_ok()
                    {
                        result = Err(error);
                    }
                }
            }
        }
        result
    }

    /// Makes, changes or deletes an object; `kind` is the type of the message.
    ///
    /// # Errors
    /// `action` says what was being done.
    pub(crate) fn order(
        &mut self,
        kind: u16,
        mode: Mode,
        payload: &[u8],
        action: impl FnOnce() -> String,
    ) -> Result<(), LinkError> {
        let mut message = Prepared::request(kind, mode, payload);
        let result = self.exchange(&mut message, |_, _| false);
        result.map_err(|source| LinkError::Netlink {
            action: action(),
            source,
        })
    }

    /// Asks for all objects of a sort; `kind` is the type of the question.
    ///
    /// # Errors
    /// `action` says what was being done.
    pub(crate) fn list(
        &mut self,
        kind: u16,
        payload: &[u8],
        mut take: impl FnMut(u16, &[u8]),
        action: impl FnOnce() -> String,
    ) -> Result<(), LinkError> {
        let mut message = Prepared::new(kind, NLM_F_DUMP, payload);
        let result = self.exchange(&mut message, |kind, payload| {
            take(kind, payload);
            false
        });
        result.map_err(|source| LinkError::Netlink {
            action: action(),
            source,
        })
    }

    fn answers(
        &mut self,
        sequence: u32,
        mut take: impl FnMut(RouteNetlinkMessage),
    ) -> io::Result<()> {
        loop {
            let length = receive(self.descriptor.as_raw_fd(), &mut self.buffer)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    const GET_LINK: u16 = 18; // RTM_GETLINK

    /// Asks for the loopback interface: `struct ifinfomsg` with its number.
    fn ask_for_loopback() -> Prepared {
        let mut payload = vec![0; 16];
        payload[4..8].copy_from_slice(&1_i32.to_ne_bytes());
        Prepared::request(GET_LINK, Mode::Plain, &payload)
    }

    #[test]
    fn a_socket_whose_answers_found_no_room_says_so_and_goes_on_working() {
        let mut socket = RouteSocket::open().unwrap();
        // Room for one answer and its acknowledgement, and not for 64.
        setsockopt(&socket.descriptor, sockopt::RcvBuf, &8192).unwrap();
        let mut many: Vec<Prepared> = (0..64).map(|_| ask_for_loopback()).collect();
        let refused = socket.exchange_all(&mut many, &mut Vec::new()).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::ENOBUFS), "{refused}");
        let mut kinds = Vec::new();
        let answered = socket.exchange(&mut ask_for_loopback(), |kind, _| {
            kinds.push(kind);
            false
        });
        answered.unwrap();
        assert_eq!(kinds, [16], "RTM_NEWLINK");
    }
}
