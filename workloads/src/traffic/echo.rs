//! UDP echo: probes at fixed moments, sent back with how long they lay at the other end.
//!
//! Arrivals are those of the kernel's stamps. Where the CPUs of the ends have other work, a packet
//! lies there until its process runs, which is no property of the link.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendto, setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;

use super::{ProbeRecord, TrafficError, TrafficRecord, Work, failed, same, spawn};
use crate::clock::{self, ClockPair, MonotonicNs};

/// The secret's digits, a number, and how many nanoseconds the probe was held (4.2 s at most).
pub(super) const PROBE_BYTES: u64 = 64 + 4 + 4;

const NUMBER_BYTES: usize = 4;

/// The end that sends probes back.
#[derive(Debug)]
pub(super) struct Listener {
    #[cfg(test)]
    address: SocketAddr,
}

impl Listener {
    pub(super) fn open(listen: SocketAddr, secret: &[u8]) -> Result<Listener, TrafficError> {
        let socket = UdpSocket::bind(listen).map_err(failed("listen on", listen))?;
        #[cfg(test)]
        let address = socket.local_addr().map_err(failed("listen on", listen))?;
        let secret = secret.to_owned();
        ask_for_stamps(&socket).map_err(failed("have packets stamped on", listen))?;
        spawn("hx-echo", move || {
            let mut buffer = [0; 256];
            loop {
                // An error here answers an earlier probe that could not be delivered.
                let Ok(Received {
                    count,
                    from: Some(from),
                    at,
                    ..
                }) = receive(&socket, &mut buffer)
                else {
                    continue;
                };
                let probe = &mut buffer[..count];
                if count != secret.len() + 2 * NUMBER_BYTES
                    || !same(&secret, &probe[..secret.len()])
                {
                    continue;
                }
                let held_ns = clock::now().saturating_sub(at);
                let held = u32::try_from(held_ns).unwrap_or(u32::MAX).to_be_bytes();
                probe[secret.len() + NUMBER_BYTES..].copy_from_slice(&held);
                // A probe that cannot be sent back counts as lost.
                let _ = sendto(socket.as_raw_fd(), probe, &from, MsgFlags::empty());
            }
        })?;
        Ok(Listener {
            #[cfg(test)]
            address,
        })
    }

    /// Where it listens.
    #[cfg(test)]
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Work for Listener {
    fn start(&mut self, _t0: MonotonicNs, _end: &Arc<AtomicBool>) -> Result<(), TrafficError> {
        Ok(())
    }

    fn finish(&mut self) -> TrafficRecord {
        TrafficRecord::default()
    }
}

/// The end that sends probes.
#[derive(Debug)]
pub(super) struct Prober {
    socket: UdpSocket,
    peer: SocketAddr,
    gap_ns: u64,
    send_for_ns: u64,
    secret: Vec<u8>,
    probes: Arc<Mutex<Vec<ProbeRecord>>>,
}

impl Prober {
    pub(super) fn open(
        peer: SocketAddr,
        (gap_ns, send_for_ns): (u64, u64),
        secret: &[u8],
    ) -> Result<Prober, TrafficError> {
        let any: SocketAddr = match peer {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any).map_err(failed("open a socket to", peer))?;
        // From here on it takes and sends packets of that peer alone.
        socket.connect(peer).map_err(failed("connect to", peer))?;
        ask_for_stamps(&socket).map_err(failed("have packets stamped from", peer))?;
        Ok(Prober {
            socket,
            peer,
            gap_ns: gap_ns.max(1),
            send_for_ns,
            secret: secret.to_owned(),
            probes: Arc::default(),
        })
    }
}

impl Work for Prober {
    fn start(&mut self, t0: MonotonicNs, end: &Arc<AtomicBool>) -> Result<(), TrafficError> {
        let share = || {
            self.socket
                .try_clone()
                .map_err(failed("share the socket to", self.peer))
        };
        let (socket, probes, secret) = (share()?, Arc::clone(&self.probes), self.secret.clone());
        spawn("hx-reader", move || {
            let mut buffer = [0; 256];
            loop {
                let Ok(received) = receive(&socket, &mut buffer) else {
                    continue;
                };
                let answer = &buffer[..received.count];
                let [at_ns, seen_ns] = [received.at, received.seen].map(|at| at.saturating_sub(t0));
                note_answer(answer, &secret, (at_ns, seen_ns), &probes);
            }
        })?;
        let (socket, probes, secret) = (share()?, Arc::clone(&self.probes), self.secret.clone());
        let (gap_ns, send_for_ns, end) = (self.gap_ns, self.send_for_ns, Arc::clone(end));
        spawn("hx-probe", move || {
            let mut probe = secret;
            let digits = probe.len();
            for (number, due_ns) in (0_u32..).map(|number| (number, u64::from(number) * gap_ns)) {
                if due_ns >= send_for_ns {
                    return;
                }
                clock::sleep_until(t0 + due_ns);
                if end.load(Ordering::Relaxed) {
                    return;
                }
                probe.truncate(digits);
                probe.extend(number.to_be_bytes());
                probe.extend([0; NUMBER_BYTES]);
                let sent_ns = clock::now().saturating_sub(t0);
                // Noted before it is sent: the answer may be there at once.
                lock(&probes).push(ProbeRecord {
                    sent_ns,
                    ..ProbeRecord::default()
                });
                // A probe that cannot be sent counts as lost.
                let _ = socket.send(&probe);
            }
        })
    }

    fn finish(&mut self) -> TrafficRecord {
        TrafficRecord {
            probes: lock(&self.probes).clone(),
            ..TrafficRecord::default()
        }
    }
}

fn lock(probes: &Mutex<Vec<ProbeRecord>>) -> std::sync::MutexGuard<'_, Vec<ProbeRecord>> {
    probes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was received.
struct Received {
    count: usize,
    from: Option<SockaddrStorage>,
    /// When the kernel got it.
    at: MonotonicNs,
    /// When it was taken.
    seen: MonotonicNs,
}

fn ask_for_stamps(socket: &UdpSocket) -> io::Result<()> {
    setsockopt(socket, sockopt::ReceiveTimestampns, &true).map_err(io::Error::from)
}

/// Waits for a packet and takes it, with the kernel's stamp of its arrival.
fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    let mut parts = [IoSliceMut::new(buffer)];
    let mut control = nix::cmsg_space!(TimeSpec);
    let descriptor = socket.as_raw_fd();
    let none = MsgFlags::empty();
    let message = recvmsg::<SockaddrStorage>(descriptor, &mut parts, Some(&mut control), none)?;
    let (seen, pair) = (clock::now(), ClockPair::read());
    let stamp = message.cmsgs()?.find_map(|said| match said {
        ControlMessageOwned::ScmTimestampns(stamp) => Some(stamp),
        _ => None,
    });
    // A stamp from before 1970 is none.
    let at = stamp.and_then(|stamp| {
        let seconds = u64::try_from(stamp.tv_sec()).ok()?;
        let rest = u64::try_from(stamp.tv_nsec()).ok()?;
        Some(pair.to_monotonic(seconds * 1_000_000_000 + rest))
    });
    let at = at.unwrap_or(seen);
    Ok(Received {
        count: message.bytes,
        from: message.address,
        // A step of the wall clock makes no packet come from the future.
        at: at.min(seen),
        seen,
    })
}

/// Notes an answer that arrived and was seen at these moments from T0; the first one to a probe
/// counts.
fn note_answer(
    answer: &[u8],
    secret: &[u8],
    (at_ns, seen_ns): (u64, u64),
    probes: &Mutex<Vec<ProbeRecord>>,
) {
    let Some((shown, numbers)) = answer.split_at_checked(secret.len()) else {
        return;
    };
    let (true, Ok(numbers)) = (same(secret, shown), <[u8; 8]>::try_from(numbers)) else {
        return;
    };
    let [a, b, c, d, held @ ..] = numbers;
    let Ok(index) = usize::try_from(u32::from_be_bytes([a, b, c, d])) else {
        return;
    };
    let held_ns = u64::from(u32::from_be_bytes(held));
    if let Some(probe) = lock(probes).get_mut(index)
        && probe.round_trip_ns.is_none()
    {
        let whole_ns = at_ns.saturating_sub(probe.sent_ns);
        probe.round_trip_ns = Some(whole_ns.saturating_sub(held_ns));
        probe.held_ns = held_ns;
        probe.unseen_ns = seen_ns.saturating_sub(at_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_ends_waited_for_a_cpu_is_no_part_of_the_round_trip() {
        let probe = ProbeRecord {
            sent_ns: 1_000,
            ..ProbeRecord::default()
        };
        let probes = Mutex::new(vec![ProbeRecord::default(), probe]);
        let answer = [&b"77"[..], &1_u32.to_be_bytes(), &300_u32.to_be_bytes()].concat();
        note_answer(&answer, b"78", (2_000, 2_500), &probes);
        assert_eq!(lock(&probes)[1], probe, "a stranger's");
        note_answer(&answer, b"77", (2_000, 2_500), &probes);
        note_answer(&answer, b"77", (9_000, 9_500), &probes);
        let noted = ProbeRecord {
            sent_ns: 1_000,
            round_trip_ns: Some(700),
            held_ns: 300,
            unseen_ns: 500,
        };
        assert_eq!(lock(&probes)[1], noted);
    }
}
