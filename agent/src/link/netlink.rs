//! One route netlink socket, used synchronously: a request, then its answer.
//!
//! Messages are built by the typed builders of rtnetlink and netlink-packet-route; what they
//! need no event loop for is done here without one, so that the same socket serves the set-up
//! and the real-time player of queueing disciplines.

#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_ECHO, NLM_F_EXCL, NLM_F_REPLACE,
    NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
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

/// How often a list is read that changes each time while it is read.
const LIST_TRIES: usize = 32;

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
    flags: u16,
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
    let half = |at: usize| {
        let half = bytes.get(at..at + 2)?.try_into().ok()?;
        Some(u16::from_ne_bytes(half))
    };
    let answer = Answer {
        kind: half(4)?,
        flags: half(6)?,
        sequence: word(8)?,
        payload,
    };
    let rest = bytes.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    Some((answer, rest))
}

/// Whether everything that was asked for is among the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answered {
    Whole,
    /// What is listed changed meanwhile (`NLM_F_DUMP_INTR`): some of it may be missing, even what
    /// did not change itself.
    Torn,
}

impl Answered {
    fn note(&mut self, flags: u16) {
        if flags & NLM_F_DUMP_INTR != 0 {
            *self = Answered::Torn;
        }
    }
}

/// Reads a list until it comes whole, a bounded number of times.
fn read_whole<T>(mut read: impl FnMut() -> io::Result<(Answered, T)>) -> io::Result<T> {
    for _ in 0..LIST_TRIES {
        if let (Answered::Whole, found) = read()? {
            return Ok(found);
        }
    }
    Err(io::Error::other(format!(
        "the kernel's list changed while it was read, {LIST_TRIES} times in a row; try again when less \
         of the network changes"
    )))
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

/// A message with a header that is yet to be filled in.
fn whole_message(message: RouteNetlinkMessage) -> NetlinkMessage<RouteNetlinkMessage> {
    NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(message))
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
    /// The failpoint of its requests.
    point: &'static str,
}

impl RouteSocket {
    /// Opens a socket in this thread's network namespace.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn open() -> io::Result<RouteSocket> {
        RouteSocket::open_at("netlink")
    }

    /// Opens one for questions that come whenever the kernel has news, in no order that a test could count.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn open_to_look() -> io::Result<RouteSocket> {
        RouteSocket::open_at("netlink-look")
    }

    fn open_at(point: &'static str) -> io::Result<RouteSocket> {
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
            point,
        })
    }

    fn send(
        &mut self,
        message: &mut NetlinkMessage<RouteNetlinkMessage>,
        flags: u16,
    ) -> io::Result<u32> {
        crate::failpoint::fallible(self.point)?;
        self.next_number();
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
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
            .send(&mut whole_message(message), NLM_F_ACK | mode.flags())
            .and_then(|sequence| self.answers(sequence, |_| {}));
        result.map(|_| ()).map_err(|source| LinkError::Netlink {
            action: action(),
            source,
        })
    }

    /// Asks for one object or, with `dump`, for all, and returns the answers.
    ///
    /// # Errors
    /// The kernel refuses, or what is listed never stays as it is; `action` says what was being done.
    pub(crate) fn query(
        &mut self,
        message: RouteNetlinkMessage,
        dump: bool,
        action: impl FnOnce() -> String,
    ) -> Result<Vec<RouteNetlinkMessage>, LinkError> {
        let flags = if dump { NLM_F_DUMP } else { NLM_F_ACK };
        let mut message = whole_message(message);
        let result = read_whole(|| {
            let mut found = Vec::new();
            let sequence = self.send(&mut message, flags)?;
            let answered = self.answers(sequence, |message| found.push(message))?;
            Ok((answered, found))
        });
        result.map_err(|source| LinkError::Netlink {
            action: action(),
            source,
        })
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
        take: impl FnMut(u16, &[u8]) -> bool,
    ) -> io::Result<()> {
        self.ask(message, take).map(|_| ())
    }

    fn ask(
        &mut self,
        message: &mut Prepared,
        mut take: impl FnMut(u16, &[u8]) -> bool,
    ) -> io::Result<Answered> {
        crate::failpoint::fallible(self.point)?;
        let sequence = self.next_number();
        message.number(sequence);
        let descriptor = self.descriptor.as_raw_fd();
        send(descriptor, &message.bytes, MsgFlags::empty())?;
        let mut answered = Answered::Whole;
        loop {
            let length = receive(descriptor, &mut self.buffer)?;
            let mut rest = &self.buffer[..length];
            while let Some((answer, following)) = first_answer(rest) {
                rest = following;
                if answer.sequence != sequence {
                    continue;
                }
                answered.note(answer.flags);
                match answer.kind {
                    NLMSG_DONE | NLMSG_ERROR => return status(answer.payload).map(|()| answered),
                    kind => {
                        if take(kind, answer.payload) {
                            return Ok(answered);
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
        crate::failpoint::fallible(self.point)?;
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
    /// The kernel refuses, or what is listed never stays as it is; `action` says what was being done.
    pub(crate) fn list(
        &mut self,
        kind: u16,
        payload: &[u8],
        mut take: impl FnMut(u16, &[u8]),
        action: impl FnOnce() -> String,
    ) -> Result<(), LinkError> {
        let mut message = Prepared::new(kind, NLM_F_DUMP, payload);
        let result = read_whole(|| {
            // Nobody is shown a list that is then read once more.
            let mut found = Vec::new();
            let answered = self.ask(&mut message, |kind, payload| {
                found.push((kind, payload.to_vec()));
                false
            })?;
            Ok((answered, found))
        });
        let found = result.map_err(|source| LinkError::Netlink {
            action: action(),
            source,
        })?;
        for (kind, payload) in found {
            take(kind, &payload);
        }
        Ok(())
    }

    fn answers(
        &mut self,
        sequence: u32,
        mut take: impl FnMut(RouteNetlinkMessage),
    ) -> io::Result<Answered> {
        let mut answered = Answered::Whole;
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
                answered.note(message.header.flags);
                match message.payload {
                    NetlinkPayload::Done(done) if done.code < 0 => {
                        return Err(io::Error::from_raw_os_error(done.code.saturating_neg()));
                    }
                    NetlinkPayload::Done(_) => return Ok(answered),
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok(answered),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    NetlinkPayload::InnerMessage(message) => take(message),
                    _ => {}
                }
            }
        }
    }
}
