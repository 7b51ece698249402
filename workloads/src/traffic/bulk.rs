//! Bulk TCP: as much as the connection takes, in one direction or both.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};

use nix::sys::socket::{getsockopt, setsockopt, sockopt};

use super::{PATIENCE, TrafficError, TrafficRecord, Work, failed, same, spawn};
use crate::clock::{self, MonotonicNs};

/// Bytes of one read or write.
const CHUNK_BYTES: usize = 64 * 1024;

/// One end of a transfer.
#[derive(Debug)]
pub(super) struct Transfer {
    stream: TcpStream,
    peer: SocketAddr,
    sends: bool,
    congestion_control: String,
    received: Arc<AtomicU64>,
    sent: Arc<AtomicU64>,
}

/// What fills a queue, the best first: only a queue that is never empty proves a rate, and BBR
/// keeps it short. CUBIC (RFC 9438) is refused to processes without privileges where the
/// machine's `net.ipv4.tcp_allowed_congestion_control` lacks it; Reno (RFC 5681) never is.
const FILL_THE_QUEUE: [&str; 2] = ["cubic", "reno"];

/// Chooses how a connection is controlled, and reads back what came of it. A kernel that has
/// neither leaves its own choice: the windows in which the queue was empty then say so.
fn choose_congestion_control(stream: &TcpStream) -> String {
    for name in FILL_THE_QUEUE {
        if setsockopt(stream, sockopt::TcpCongestion, &OsString::from(name)).is_ok() {
            break;
        }
    }
    getsockopt(stream, sockopt::TcpCongestion)
        .map(|name| name.to_string_lossy().trim_end_matches('\0').to_owned())
        .unwrap_or_default()
}

impl Transfer {
    fn new(stream: TcpStream, peer: SocketAddr, sends: bool) -> Transfer {
        let congestion_control = choose_congestion_control(&stream);
        Transfer {
            stream,
            congestion_control,
            peer,
            sends,
            received: Arc::default(),
            sent: Arc::default(),
        }
    }

    /// Connects, shows the secret and waits until it was accepted.
    pub(super) fn connect(
        peer: SocketAddr,
        sends: bool,
        secret: &[u8],
    ) -> Result<Transfer, TrafficError> {
        Ok(Transfer::new(connect(peer, secret)?, peer, sends))
    }
}

/// Connects, shows the secret and waits until it was accepted.
pub(super) fn connect(peer: SocketAddr, secret: &[u8]) -> Result<TcpStream, TrafficError> {
    let failed = failed("connect to", peer);
    let mut stream = TcpStream::connect_timeout(&peer, PATIENCE).map_err(failed)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
    stream.write_all(secret).map_err(failed)?;
    stream.read_exact(&mut [0]).map_err(failed)?;
    stream.set_read_timeout(None).map_err(failed)?;
    Ok(stream)
}

impl Work for Transfer {
    fn start(&mut self, t0: MonotonicNs, end: &Arc<AtomicBool>) -> Result<(), TrafficError> {
        let cloned = || {
            self.stream
                .try_clone()
                .map_err(failed("share the socket of", self.peer))
        };
        let (mut reader, received) = (cloned()?, Arc::clone(&self.received));
        spawn("hx-receive", move || {
            let mut buffer = vec![0; CHUNK_BYTES];
            // The end of the stream, or an error at the end of the phase: nothing more comes.
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                received.fetch_add(u64::try_from(count).unwrap_or(0), Ordering::Relaxed);
            }
        })?;
        if !self.sends {
            return Ok(());
        }
        let (mut writer, sent, end) = (cloned()?, Arc::clone(&self.sent), Arc::clone(end));
        spawn("hx-send", move || {
            let chunk = vec![0x5a; CHUNK_BYTES];
            clock::sleep_until(t0);
            while !end.load(Ordering::Relaxed) {
                match writer.write(&chunk) {
                    Ok(count) => {
                        sent.fetch_add(u64::try_from(count).unwrap_or(0), Ordering::Relaxed);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(_) => return,
                }
            }
        })
    }

    fn finish(&mut self) -> TrafficRecord {
        // Wakes the threads that wait in a read or write. The other side may have ended already.
        let _ = self.stream.shutdown(Shutdown::Both);
        TrafficRecord {
            received_bytes: self.received.load(Ordering::Relaxed),
            sent_bytes: self.sent.load(Ordering::Relaxed),
            congestion_control: if self.sends {
                self.congestion_control.clone()
            } else {
                String::new()
            },
            probes: Vec::new(),
            background: None,
        }
    }
}

/// The end that listens. The other one connects before T0.
#[derive(Debug)]
pub(super) struct Listener {
    address: SocketAddr,
    admitted: Receiver<Result<Transfer, TrafficError>>,
    transfer: Option<Transfer>,
}

impl Listener {
    pub(super) fn open(
        listen: SocketAddr,
        sends: bool,
        secret: &[u8],
    ) -> Result<Listener, TrafficError> {
        let listener = TcpListener::bind(listen).map_err(failed("listen on", listen))?;
        let address = listener.local_addr().map_err(failed("listen on", listen))?;
        let (admit, admitted) = sync_channel(1);
        let secret = secret.to_owned();
        spawn("hx-door", move || {
            // Where nobody waits for it any more, the process is ending.
            let _ = admit.send(admit_one(&listener, address, sends, &secret));
        })?;
        Ok(Listener {
            address,
            admitted,
            transfer: None,
        })
    }

    /// Where it listens.
    #[cfg(test)]
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What has arrived so far.
    #[cfg(test)]
    pub(super) fn received_bytes(&self) -> u64 {
        let transfer = self.transfer.as_ref();
        transfer.map_or(0, |transfer| transfer.received.load(Ordering::Relaxed))
    }
}

fn admit_one(
    listener: &TcpListener,
    address: SocketAddr,
    sends: bool,
    secret: &[u8],
) -> Result<Transfer, TrafficError> {
    let broken = failed("open a connection at", address);
    let (mut stream, peer) = listener.accept().map_err(broken)?;
    if !admit(&mut stream, secret).map_err(broken)? {
        return Err(TrafficError::WrongSecret { address });
    }
    Ok(Transfer::new(stream, peer, sends))
}

/// Whether who connected shows the secret; it is told if so.
pub(super) fn admit(stream: &mut TcpStream, secret: &[u8]) -> io::Result<bool> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut shown = vec![0; secret.len()];
    stream.read_exact(&mut shown)?;
    if !same(secret, &shown) {
        return Ok(false);
    }
    stream.write_all(&[1])?;
    stream.set_read_timeout(None)?;
    Ok(true)
}

impl Work for Listener {
    fn start(&mut self, t0: MonotonicNs, end: &Arc<AtomicBool>) -> Result<(), TrafficError> {
        let nobody = |_| {
            let nobody = io::ErrorKind::TimedOut.into();
            failed("wait for a connection at", self.address)(nobody)
        };
        let mut transfer = self.admitted.recv_timeout(PATIENCE).map_err(nobody)??;
        transfer.start(t0, end)?;
        self.transfer = Some(transfer);
        Ok(())
    }

    fn finish(&mut self) -> TrafficRecord {
        let transfer = self.transfer.as_mut();
        transfer.map(Work::finish).unwrap_or_default()
    }
}
