//! Traffic beside a phase: what others have a link carry meanwhile, all the time or now and then.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use libm::{log, round};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng as _;
use serde::{Deserialize, Serialize};

use super::{TrafficError, TrafficRecord, Work, bulk, failed, same, spawn};
use crate::clock::{self, MonotonicNs};
use crate::request::open_unit;

/// Bytes of the secret that every datagram begins with.
pub const MARK_BYTES: usize = 16;

/// Bytes of one write.
const CHUNK_BYTES: usize = 64 << 10;

/// What is sent beside a phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackgroundSpec {
    /// Its name.
    pub name: String,
    /// What carries it.
    pub carrier: Carrier,
    /// When it is on; `None` for all the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub periods: Option<Periods>,
    /// What its periods are drawn from.
    pub seed: u64,
}

/// What carries background traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Carrier {
    /// As much as a TCP connection takes; one after another where there are periods.
    Tcp {
        /// How it is controlled, by the kernel's name.
        congestion_control: String,
    },
    /// UDP at a constant rate.
    Udp {
        /// Bits of IP packets per second.
        rate_bps: u64,
        /// Payload of a packet.
        packet_bytes: u32,
    },
}

/// When traffic is on and off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Periods {
    /// Mean length of a period in which it is on; it begins with one.
    pub on_ns: u64,
    /// Mean length of one in which it is off.
    pub off_ns: u64,
    /// Whether lengths are drawn from exponential distributions, or always the same.
    pub exponential: bool,
}

/// What is told of background traffic beside what is told of all traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackgroundPart {
    /// Its name.
    pub name: String,
    /// Whether this end sends.
    pub sends: bool,
    /// Datagrams that it sent or received; 0 for TCP.
    pub packets: u64,
}

/// Periods as they come.
#[derive(Debug)]
struct Pattern {
    periods: Option<Periods>,
    random: ChaCha12Rng,
    /// The present period in which it is on.
    from: MonotonicNs,
    until: MonotonicNs,
}

impl Pattern {
    fn begin(spec: &BackgroundSpec, t0: MonotonicNs) -> Pattern {
        let mut pattern = Pattern {
            periods: spec.periods,
            random: ChaCha12Rng::seed_from_u64(spec.seed),
            from: t0,
            until: MonotonicNs::MAX,
        };
        if let Some(periods) = spec.periods {
            pattern.until = t0.saturating_add(pattern.draw(periods.on_ns, periods.exponential));
        }
        pattern
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "positive, and far below 2^53 ns"
    )]
    fn draw(&mut self, mean_ns: u64, exponential: bool) -> u64 {
        let drawn = if exponential {
            round(-log(open_unit(&mut self.random)) * mean_ns as f64) as u64
        } else {
            mean_ns
        };
        drawn.max(1)
    }

    /// The period after the present one.
    fn next(&mut self) {
        if let Some(periods) = self.periods {
            let off = self.draw(periods.off_ns, periods.exponential);
            self.from = self.until.saturating_add(off);
            let on = self.draw(periods.on_ns, periods.exponential);
            self.until = self.from.saturating_add(on);
        }
    }
}

/// Counters that two threads share.
#[derive(Debug, Default)]
struct Counted {
    bytes: AtomicU64,
    packets: AtomicU64,
}

impl Counted {
    fn add(&self, bytes: usize, packets: u64) {
        let bytes = u64::try_from(bytes).unwrap_or(0);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.packets.fetch_add(packets, Ordering::Relaxed);
    }
}

/// The end that sends.
#[derive(Debug)]
pub(super) struct Sender {
    spec: BackgroundSpec,
    peer: SocketAddr,
    socket: Socket,
    secret: Vec<u8>,
    counted: Arc<Counted>,
}

#[derive(Debug)]
enum Socket {
    Tcp(Arc<Connected>),
    Udp(UdpSocket),
}

/// The connection of the present period, and what the next ones are made with.
#[derive(Debug)]
struct Connected {
    peer: SocketAddr,
    secret: Vec<u8>,
    asked: String,
    /// The kernel's name of what was got.
    got: String,
    stream: Mutex<Option<TcpStream>>,
}

impl Connected {
    /// The present connection, shared.
    fn present(&self) -> Option<TcpStream> {
        let stream = self.stream.lock().ok()?;
        stream.as_ref()?.try_clone().ok()
    }

    /// Ends the present connection without sending what the kernel still holds of it: it is off.
    fn abort(&self) {
        let stream = self.stream.lock().ok().and_then(|mut stream| stream.take());
        if let Some(stream) = stream {
            let now = nix::libc::linger {
                l_onoff: 1,
                l_linger: 0,
            };
            // Where that is refused, the rest is sent: what arrived says so.
            let _ = setsockopt(&stream, sockopt::Linger, &now);
        }
    }

    /// Opens the next one.
    fn again(&self) -> Option<TcpStream> {
        let stream = bulk::connect(self.peer, &self.secret).ok()?;
        controlled(&stream, &self.asked).ok()?;
        let shared = stream.try_clone().ok();
        if let Ok(mut present) = self.stream.lock() {
            *present = Some(stream);
        }
        shared
    }
}

impl Sender {
    /// Connects. Congestion control is the one that was asked for, or an error.
    pub(super) fn open(
        peer: SocketAddr,
        spec: &BackgroundSpec,
        secret: &[u8],
    ) -> Result<Sender, TrafficError> {
        let socket = match &spec.carrier {
            Carrier::Tcp { congestion_control } => {
                let stream = bulk::connect(peer, secret)?;
                let got = controlled(&stream, congestion_control)?;
                Socket::Tcp(Arc::new(Connected {
                    peer,
                    secret: secret.to_owned(),
                    asked: congestion_control.clone(),
                    got,
                    stream: Mutex::new(Some(stream)),
                }))
            }
            Carrier::Udp { .. } => {
                let any: SocketAddr = match peer {
                    SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                    SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
                };
                let socket = UdpSocket::bind(any).map_err(failed("open a socket to", peer))?;
                socket.connect(peer).map_err(failed("connect to", peer))?;
                Socket::Udp(socket)
            }
        };
        Ok(Sender {
            spec: spec.clone(),
            peer,
            socket,
            secret: secret.to_owned(),
            counted: Arc::default(),
        })
    }
}

/// Has a connection controlled as asked; the kernel's name of what it is.
fn controlled(stream: &TcpStream, asked: &str) -> Result<String, TrafficError> {
    let set = setsockopt(stream, sockopt::TcpCongestion, &OsString::from(asked));
    set.map_err(|error| TrafficError::CongestionControl {
        asked: asked.to_owned(),
        source: error.into(),
    })?;
    let got = getsockopt(stream, sockopt::TcpCongestion).map_err(|error| {
        TrafficError::CongestionControl {
            asked: asked.to_owned(),
            source: error.into(),
        }
    })?;
    Ok(got.to_string_lossy().trim_end_matches('\0').to_owned())
}

impl Work for Sender {
    fn start(&mut self, t0: MonotonicNs, end: &Arc<AtomicBool>) -> Result<(), TrafficError> {
        let pattern = Pattern::begin(&self.spec, t0);
        let (counted, end) = (Arc::clone(&self.counted), Arc::clone(end));
        let shared = |error| failed("share the socket of", self.peer)(error);
        match &self.socket {
            Socket::Tcp(connected) => {
                let connected = Arc::clone(connected);
                spawn("hx-send", move || fill(&connected, pattern, &counted, &end))
            }
            Socket::Udp(socket) => {
                let socket = socket.try_clone().map_err(shared)?;
                let Carrier::Udp {
                    rate_bps,
                    packet_bytes,
                } = self.spec.carrier
                else {
                    return Ok(());
                };
                let headers = if self.peer.is_ipv6() { 48 } else { 28 };
                let bits = 8 * (u64::from(packet_bytes) + headers);
                let mut packet = vec![0x5a; usize::try_from(packet_bytes).unwrap_or(0)];
                let mark = &self.secret[..self.secret.len().min(MARK_BYTES).min(packet.len())];
                packet[..mark.len()].copy_from_slice(mark);
                spawn("hx-send", move || {
                    pace(&socket, (&packet, bits, rate_bps), pattern, &counted, &end);
                })
            }
        }
    }

    fn finish(&mut self) -> TrafficRecord {
        let mut congestion_control = String::new();
        if let Socket::Tcp(connected) = &self.socket {
            congestion_control.clone_from(&connected.got);
            if let Some(stream) = connected.present() {
                // Wakes a thread that waits in a write. The other side may have ended already.
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        TrafficRecord {
            sent_bytes: self.counted.bytes.load(Ordering::Relaxed),
            congestion_control,
            background: Some(BackgroundPart {
                name: self.spec.name.clone(),
                sends: true,
                packets: self.counted.packets.load(Ordering::Relaxed),
            }),
            ..TrafficRecord::default()
        }
    }
}

/// Writes as much as a connection takes while it is on. Each period has a connection of its own, for what the
/// kernel holds of one would go on being sent while it is off.
fn fill(connected: &Connected, mut pattern: Pattern, counted: &Counted, end: &AtomicBool) {
    let chunk = vec![0x5a; CHUNK_BYTES];
    let mut stream = connected.present();
    loop {
        clock::sleep_until(pattern.from);
        if end.load(Ordering::Relaxed) {
            return;
        }
        // One that cannot be made, in an outage, leaves its period empty.
        if let Some(stream) = stream.take().or_else(|| connected.again()) {
            write_until(&stream, &chunk, (pattern.until, end), counted);
        }
        connected.abort();
        pattern.next();
    }
}

fn write_until(
    mut stream: &TcpStream,
    chunk: &[u8],
    (until, end): (MonotonicNs, &AtomicBool),
    counted: &Counted,
) {
    while !end.load(Ordering::Relaxed) {
        let Some(left) = until.checked_sub(clock::now()).filter(|left| *left > 0) else {
            return;
        };
        if until < MonotonicNs::MAX
            && stream
                .set_write_timeout(Some(Duration::from_nanos(left)))
                .is_err()
        {
            return;
        }
        match stream.write(chunk) {
            Ok(count) => counted.add(count, 0),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
                ) => {}
            Err(_) => return,
        }
    }
}

/// Sends each packet at its moment while it is on: the n-th of a period at n times a packet's bits over
/// the rate. What comes late is sent at once, none is left out.
fn pace(
    socket: &UdpSocket,
    (packet, bits, rate_bps): (&[u8], u64, u64),
    mut pattern: Pattern,
    counted: &Counted,
    end: &AtomicBool,
) {
    loop {
        for number in 0_u64.. {
            let offset =
                u128::from(number) * u128::from(bits) * 1_000_000_000 / u128::from(rate_bps.max(1));
            let at = pattern
                .from
                .saturating_add(u64::try_from(offset).unwrap_or(u64::MAX));
            if at >= pattern.until {
                break;
            }
            clock::sleep_until(at);
            if end.load(Ordering::Relaxed) {
                return;
            }
            // One that the kernel does not take, as its queue is full, is lost like any other.
            if let Ok(count) = socket.send(packet) {
                counted.add(count, 1);
            }
        }
        pattern.next();
    }
}

/// The end that receives.
#[derive(Debug)]
pub(super) struct Receiver {
    name: String,
    from: From,
}

#[derive(Debug)]
enum From {
    /// Connections, one after another.
    Tcp(Arc<Counted>),
    Udp(Arc<Counted>),
}

/// Takes connections that show the secret, one after another, and reads each to its end.
fn take(listener: &TcpListener, secret: &[u8], counted: &Counted) {
    let mut buffer = vec![0; CHUNK_BYTES];
    for mut stream in listener.incoming().flatten() {
        if matches!(bulk::admit(&mut stream, secret), Ok(true)) {
            // The end of the stream, or its abortion: the period is over.
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                counted.add(count, 0);
            }
        }
    }
}

impl Receiver {
    pub(super) fn open(
        listen: SocketAddr,
        spec: &BackgroundSpec,
        secret: &[u8],
    ) -> Result<Receiver, TrafficError> {
        let from = match spec.carrier {
            Carrier::Tcp { .. } => {
                let listener = TcpListener::bind(listen).map_err(failed("listen on", listen))?;
                let counted: Arc<Counted> = Arc::default();
                let (secret, sum) = (secret.to_vec(), Arc::clone(&counted));
                spawn("hx-receive", move || take(&listener, &secret, &sum))?;
                From::Tcp(counted)
            }
            Carrier::Udp { .. } => {
                let socket = UdpSocket::bind(listen).map_err(failed("listen on", listen))?;
                let counted: Arc<Counted> = Arc::default();
                let (mark, sum) = (
                    secret[..secret.len().min(MARK_BYTES)].to_vec(),
                    Arc::clone(&counted),
                );
                spawn("hx-receive", move || {
                    let mut buffer = vec![0; 64 << 10];
                    while let Ok(count) = socket.recv(&mut buffer) {
                        if count >= mark.len() && same(&mark, &buffer[..mark.len()]) {
                            sum.add(count, 1);
                        }
                    }
                })?;
                From::Udp(counted)
            }
        };
        Ok(Receiver {
            name: spec.name.clone(),
            from,
        })
    }
}

impl Work for Receiver {
    fn start(&mut self, _t0: MonotonicNs, _end: &Arc<AtomicBool>) -> Result<(), TrafficError> {
        Ok(())
    }

    fn finish(&mut self) -> TrafficRecord {
        let (From::Tcp(counted) | From::Udp(counted)) = &self.from;
        let received_bytes = counted.bytes.load(Ordering::Relaxed);
        let packets = counted.packets.load(Ordering::Relaxed);
        TrafficRecord {
            received_bytes,
            background: Some(BackgroundPart {
                name: self.name.clone(),
                sends: false,
                packets,
            }),
            ..TrafficRecord::default()
        }
    }
}

#[cfg(test)]
mod tests;
