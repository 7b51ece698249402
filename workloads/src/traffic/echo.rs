//! UDP echo: probes at fixed moments, sent back as they are.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{ProbeRecord, TrafficError, TrafficRecord, Work, failed, same, spawn};
use crate::clock::{self, MonotonicNs};

/// The secret's digits and a number.
pub(super) const PROBE_BYTES: u64 = 64 + 8;

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
        spawn("hx-echo", move || {
            let mut buffer = [0; 256];
            loop {
                // An error here answers an earlier probe that could not be delivered.
                let Ok((count, from)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                let probe = &buffer[..count];
                if probe.len() > secret.len() && same(&secret, &probe[..secret.len()]) {
                    // A probe that cannot be sent back counts as lost.
                    let _ = socket.send_to(probe, from);
                }
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
                let Ok(count) = socket.recv(&mut buffer) else {
                    continue;
                };
                let now = clock::now();
                note_answer(&buffer[..count], &secret, now.saturating_sub(t0), &probes);
            }
        })?;
        let (socket, probes, secret) = (share()?, Arc::clone(&self.probes), self.secret.clone());
        let (gap_ns, send_for_ns, end) = (self.gap_ns, self.send_for_ns, Arc::clone(end));
        spawn("hx-probe", move || {
            let mut probe = secret;
            let digits = probe.len();
            for (number, due_ns) in (0_u64..).map(|number| (number, number * gap_ns)) {
                if due_ns >= send_for_ns {
                    return;
                }
                clock::sleep_until(t0 + due_ns);
                if end.load(Ordering::Relaxed) {
                    return;
                }
                probe.truncate(digits);
                probe.extend(number.to_be_bytes());
                let sent_ns = clock::now().saturating_sub(t0);
                // Noted before it is sent: the answer may be there at once.
                lock(&probes).push(ProbeRecord {
                    sent_ns,
                    round_trip_ns: None,
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

/// Notes an answer; the first one to a probe counts.
fn note_answer(answer: &[u8], secret: &[u8], now_ns: u64, probes: &Mutex<Vec<ProbeRecord>>) {
    let Some((shown, number)) = answer.split_at_checked(secret.len()) else {
        return;
    };
    let (true, Ok(number)) = (same(secret, shown), <[u8; 8]>::try_from(number)) else {
        return;
    };
    let Ok(index) = usize::try_from(u64::from_be_bytes(number)) else {
        return;
    };
    if let Some(probe) = lock(probes).get_mut(index) {
        let round_trip_ns = now_ns.saturating_sub(probe.sent_ns);
        probe.round_trip_ns.get_or_insert(round_trip_ns);
    }
}
