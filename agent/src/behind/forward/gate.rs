//! The gate between the link and the stack that ends the command's connections: frames pass as
//! they are, but those that would open something are handed to the forwarder, which lets them in
//! when the other side has answered.

use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use tokio::sync::mpsc::Sender;

use super::Counters;
use super::classify::{Ends, Verdict, classify};
use crate::sys::packet::{Frame, PacketSocket, ReceiveBuffers, VirtioHeader};

/// Frames taken from one side before the other gets its turn.
const BATCH: usize = 64;

/// A frame that waits to be let in.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) ends: Ends,
    /// Whether it opens a TCP connection; otherwise it is a datagram.
    pub(crate) opens: bool,
    pub(crate) frame: Vec<u8>,
}

/// What the gate stands between.
pub(crate) struct Gate {
    /// The far end of the link.
    pub(crate) link: PacketSocket,
    /// The stack's side.
    pub(crate) stack: PacketSocket,
    pub(crate) gateway: [IpAddr; 2],
    pub(crate) held: Sender<Held>,
    pub(crate) counters: Arc<Counters>,
    /// Readable when the gate is to close.
    pub(crate) close: Arc<EventFd>,
}

impl Gate {
    pub(crate) fn spawn(self) -> io::Result<JoinHandle<()>> {
        let thread = thread::Builder::new().name("hx-gate".to_owned());
        thread.spawn(move || self.run())
    }

    fn run(mut self) {
        let mut buffers = ReceiveBuffers::new();
        let mut copy = Vec::with_capacity(1 << 16);
        loop {
            let Gate {
                link,
                stack,
                gateway,
                held,
                counters,
                ..
            } = &mut self;
            let from_link = link.receive(BATCH, &mut buffers, |frame| {
                let verdict = classify(frame.bytes, *gateway);
                let (ends, opens) = match verdict {
                    Verdict::Pass => return send(stack, &frame, &mut copy, counters),
                    Verdict::Open(ends) => (ends, true),
                    Verdict::Datagram(ends) => (ends, false),
                    Verdict::ForeignEcho => return Counters::add(&counters.foreign_echoes),
                    Verdict::Ignore => return,
                };
                let mut bytes = Vec::with_capacity(VirtioHeader::BYTES + frame.bytes.len());
                whole(&frame, &mut bytes);
                // A forwarder that is behind loses packets, as any router does.
                let frame = bytes;
                if held.try_send(Held { ends, opens, frame }).is_err() {
                    Counters::add(&counters.frames_dropped);
                }
            });
            let from_stack = stack.receive(BATCH, &mut buffers, |frame| {
                send(link, &frame, &mut copy, counters);
            });
            match (from_link, from_stack) {
                (Ok(BATCH), _) | (_, Ok(BATCH)) => continue,
                (Ok(_), Ok(_)) => {}
                // An interface is gone: so is the link.
                (Err(_), _) | (_, Err(_)) => return,
            }
            let mut polled = [self.link.as_fd(), self.stack.as_fd(), self.close.as_fd()]
                .map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN));
            match poll(&mut polled, PollTimeout::NONE) {
                Ok(_) if polled[2].any().unwrap_or(true) => return,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return,
            }
            let gone = [&self.link, &self.stack]
                .into_iter()
                .any(|socket| socket.take_error().is_some());
            if gone {
                return;
            }
        }
    }
}

/// A frame as it is sent: what is left to do for it, then its bytes.
fn whole(frame: &Frame<'_>, into: &mut Vec<u8>) {
    into.clear();
    into.extend(frame.virtio.to_bytes());
    into.extend(frame.bytes);
}

fn send(to: &PacketSocket, frame: &Frame<'_>, copy: &mut Vec<u8>, counters: &Counters) {
    whole(frame, copy);
    let cut = frame.bytes.len() < frame.wire_bytes;
    if cut || !matches!(to.send(&[IoSlice::new(copy)]), Ok(1)) {
        Counters::add(&counters.frames_dropped);
    }
}
