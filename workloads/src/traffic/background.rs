//! Traffic beside a phase: what others have a link carry meanwhile, all the time or now and then.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

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
    /// As much as a TCP connection takes.
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
    Tcp(TcpStream, String),
    Udp(UdpSocket),
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
                Socket::Tcp(stream, got)
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
            Socket::Tcp(stream, _) => {
                let stream = stream.try_clone().map_err(shared)?;
                spawn("hx-send", move || fill(stream, pattern, &counted, &end))
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
        if let Socket::Tcp(stream, name) = &self.socket {
            congestion_control.clone_from(name);
            // Wakes a thread that waits in a write. The other side may have ended already.
            let _ = stream.shutdown(std::net::Shutdown::Both);
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

/// Writes as much as the connection takes while it is on.
fn fill(mut stream: TcpStream, mut pattern: Pattern, counted: &Counted, end: &AtomicBool) {
    let chunk = vec![0x5a; CHUNK_BYTES];
    loop {
        clock::sleep_until(pattern.from);
        while clock::now() < pattern.until {
            if end.load(Ordering::Relaxed) {
                return;
            }
            match stream.write(&chunk) {
                Ok(count) => counted.add(count, 0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
        pattern.next();
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
    Tcp(bulk::Listener),
    Udp(Arc<Counted>),
}

impl Receiver {
    pub(super) fn open(
        listen: SocketAddr,
        spec: &BackgroundSpec,
        secret: &[u8],
    ) -> Result<Receiver, TrafficError> {
        let from = match spec.carrier {
            Carrier::Tcp { .. } => From::Tcp(bulk::Listener::open(listen, false, secret)?),
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
    fn start(&mut self, t0: MonotonicNs, end: &Arc<AtomicBool>) -> Result<(), TrafficError> {
        match &mut self.from {
            From::Tcp(listener) => listener.start(t0, end),
            From::Udp(_) => Ok(()),
        }
    }

    fn finish(&mut self) -> TrafficRecord {
        let (received_bytes, packets) = match &mut self.from {
            From::Tcp(listener) => (listener.finish().received_bytes, 0),
            From::Udp(counted) => (
                counted.bytes.load(Ordering::Relaxed),
                counted.packets.load(Ordering::Relaxed),
            ),
        };
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
mod tests {
    use super::*;

    fn spec(carrier: Carrier, periods: Option<Periods>) -> BackgroundSpec {
        BackgroundSpec {
            name: "beside".to_owned(),
            carrier,
            periods,
            seed: 3,
        }
    }

    const UDP: Carrier = Carrier::Udp {
        rate_bps: 8_000_000,
        packet_bytes: 972,
    };

    #[test]
    fn fixed_periods_take_turns_and_drawn_ones_have_their_means() {
        let periods = Periods {
            on_ns: 30,
            off_ns: 10,
            exponential: false,
        };
        let mut pattern = Pattern::begin(&spec(UDP, Some(periods)), 100);
        assert_eq!((pattern.from, pattern.until), (100, 130));
        pattern.next();
        assert_eq!((pattern.from, pattern.until), (140, 170));
        let periods = Periods {
            on_ns: 3_000_000,
            off_ns: 1_000_000,
            exponential: true,
        };
        let mut pattern = Pattern::begin(&spec(UDP, Some(periods)), 0);
        let (mut on, rounds) = (0, 10_000);
        for _ in 0..rounds {
            on += pattern.until - pattern.from;
            pattern.next();
        }
        // Four standard errors of a mean of exponential draws are 4 %.
        let mean = on / rounds;
        assert!((2_880_000..3_120_000).contains(&mean), "{mean}");
        let share = on as f64 / pattern.from as f64;
        assert!((share - 0.75).abs() < 0.02, "{share}");
    }

    #[test]
    fn without_periods_it_is_always_on() {
        let pattern = Pattern::begin(&spec(UDP, None), 7);
        assert_eq!((pattern.from, pattern.until), (7, MonotonicNs::MAX));
    }

    #[test]
    fn datagrams_come_no_faster_than_their_rate_and_are_counted_at_both_ends() {
        let listener = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let sent = Counted::default();
        let end = AtomicBool::new(false);
        // 8000 bits at 8 Mbit/s are a millisecond: 20 in 20 ms.
        let from = clock::now();
        let pattern = Pattern {
            periods: None,
            random: ChaCha12Rng::seed_from_u64(1),
            from,
            until: MonotonicNs::MAX,
        };
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        sender.connect(address).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                pace(
                    &sender,
                    (&[0x5a; 972], 8000, 8_000_000),
                    pattern,
                    &sent,
                    &end,
                )
            });
            let mut buffer = [0; 2000];
            for number in 0..20 {
                assert_eq!(listener.recv(&mut buffer).unwrap(), 972);
                assert!(clock::now() >= from + number * 1_000_000);
            }
            end.store(true, Ordering::Relaxed);
        });
        assert!(sent.packets.load(Ordering::Relaxed) >= 20);
    }

    #[test]
    fn a_congestion_control_that_the_kernel_lacks_is_refused_with_a_remedy() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let error = controlled(&stream, "no-such").unwrap_err().to_string();
        assert!(
            error.contains("no-such") && error.contains("modprobe"),
            "{error}"
        );
        assert_eq!(controlled(&stream, "reno").unwrap(), "reno");
    }
}
