//! Round trips of small UDP datagrams.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hexloop_workloads::clock::{self, MonotonicNs};

use super::BenchError;
use super::scene::Nodes;
use crate::link::scheduling;

/// Port of the far end.
pub(super) const ECHO_PORT: u16 = 47_004;

/// Payload: 64 bytes of IP packet.
const PAYLOAD_BYTES: usize = 36;

/// A round trip that takes longer is lost.
const LONGEST: Duration = Duration::from_millis(200);

/// How often the far end looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// How the threads of a round trip are scheduled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// As any process.
    Ordinary,
    /// In real time where that is allowed, below the link's own threads.
    RealTime,
}

impl Urgency {
    fn apply(self) {
        if self == Urgency::RealTime {
            scheduling::make_punctual();
        }
    }
}

/// The far end, which sends back whatever comes, until this is dropped.
#[derive(Debug)]
pub(super) struct Echo {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    pub(super) fn start(nodes: &Nodes, urgency: Urgency) -> Result<Echo, BenchError> {
        let address = (nodes.plan.ends[1].ipv4, ECHO_PORT);
        let open = move || {
            let socket = UdpSocket::bind(address)?;
            socket.set_read_timeout(Some(LOOK))?;
            Ok(socket)
        };
        let socket = nodes.inside(1, open, "open the far end of round trips")?;
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let work = move || {
            urgency.apply();
            let mut datagram = [0; 2048];
            while !ended.load(Ordering::Relaxed) {
                if let Ok((length, from)) = socket.recv_from(&mut datagram) {
                    // A probe that cannot be sent back counts as lost.
                    let _ = socket.send_to(&datagram[..length], from);
                }
            }
        };
        let thread = thread::Builder::new().name("hx-echo".to_owned());
        let thread = thread
            .spawn(work)
            .map_err(BenchError::socket("start the far end of round trips"))?;
        Ok(Echo {
            end,
            thread: Some(thread),
        })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there was printed when it happened.
            let _ = thread.join();
        }
    }
}

/// The near end: a connected socket in the first node.
#[derive(Debug)]
pub(super) struct Pinger {
    socket: UdpSocket,
    number: u64,
}

/// A datagram that was sent at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) number: u64,
    pub(super) at: MonotonicNs,
}

impl Pinger {
    pub(super) fn open(nodes: &Nodes) -> Result<Pinger, BenchError> {
        let [near, far] = &nodes.plan.ends;
        let (near, far) = ((near.ipv4, 0), (far.ipv4, ECHO_PORT));
        let open = move || {
            let socket = UdpSocket::bind(near)?;
            socket.connect(far)?;
            socket.set_read_timeout(Some(LONGEST))?;
            Ok(socket)
        };
        Ok(Pinger {
            socket: nodes.inside(0, open, "open the near end of round trips")?,
            number: 0,
        })
    }

    fn send(&mut self) -> io::Result<Sent> {
        self.number += 1;
        let mut payload = [0; PAYLOAD_BYTES];
        payload[..8].copy_from_slice(&self.number.to_be_bytes());
        let at = clock::now();
        self.socket.send(&payload)?;
        Ok(Sent {
            number: self.number,
            at,
        })
    }

    /// One round trip after the other, each begun at its moment: how long each took, as a
    /// program sees it that waits for the answer. Lost ones are left out.
    pub(super) fn one_by_one(&mut self, start: MonotonicNs, gap_ns: u64, count: u64) -> Vec<u64> {
        let mut round_trips = Vec::new();
        for slot in 0..count {
            clock::sleep_until(start + slot * gap_ns);
            let Ok(sent) = self.send() else { continue };
            let mut answer = [0; 2048];
            while let Ok(length) = self.socket.recv(&mut answer) {
                let back = clock::now();
                // An answer to one that was given up is not this one's.
                if length >= 8 && answer[..8] == sent.number.to_be_bytes() {
                    round_trips.push(back - sent.at);
                    break;
                }
            }
        }
        round_trips
    }

    /// Sends without waiting for answers: the tap sees them.
    pub(super) fn in_flight(&mut self, start: MonotonicNs, gap_ns: u64, count: u64) -> Vec<Sent> {
        let mut sent = Vec::new();
        for slot in 0..count {
            clock::sleep_until(start + slot * gap_ns);
            sent.extend(self.send().ok());
        }
        sent
    }

    /// The port that answers come to.
    pub(super) fn port(&self) -> Result<u16, BenchError> {
        let address = self.socket.local_addr();
        Ok(address
            .map_err(BenchError::socket("read the port of round trips"))?
            .port())
    }
}
