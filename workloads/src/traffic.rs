//! Traffic without a model: what calibrates an emulation end to end. Bulk TCP, UDP echo, and
//! processes that burn the CPU time of their node, to see whether load disturbs the links.
//!
//! [`run_traffic`] is the main of such a process. It reads one [`TrafficSpec`] as a line of JSON,
//! then [`JobCommand`] lines, and writes [`JobEvent`] lines, as the jobs with a model do. End of
//! file on its input ends it.

mod background;
mod bulk;
mod burn;
mod echo;

use std::io::{self, BufRead, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::{self, MonotonicNs};
use crate::job::{JobCommand, JobEvent, JobTotals};
use crate::wire::PayloadBytes;

pub use background::{BackgroundPart, BackgroundSpec, Carrier, MARK_BYTES, Periods};

/// How long the other side may take to answer before T0.
const PATIENCE: Duration = Duration::from_secs(10);

/// What one process of a traffic phase does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficSpec {
    /// What both ends of a connection must know.
    pub secret: String,
    /// This process's part.
    pub role: TrafficRole,
}

/// The part of one process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrafficRole {
    /// Waits for the other end of a bulk transfer; receives, and sends if told.
    BulkListener {
        /// Where to listen: an address of the node itself.
        listen: SocketAddr,
        /// Whether it sends.
        sends: bool,
    },
    /// Opens a bulk transfer; receives, and sends if told.
    BulkConnector {
        /// Who listens.
        peer: SocketAddr,
        /// Whether it sends.
        sends: bool,
    },
    /// Sends every probe back.
    EchoListener {
        /// Where to listen.
        listen: SocketAddr,
    },
    /// Sends probes and notes when they are back.
    EchoConnector {
        /// Who listens.
        peer: SocketAddr,
        /// Time between probes.
        gap_ns: u64,
        /// How long probes are sent, from T0.
        send_for_ns: u64,
    },
    /// Receives what is sent beside a phase.
    BackgroundReceiver {
        /// Where to listen.
        listen: SocketAddr,
        /// What comes.
        background: BackgroundSpec,
    },
    /// Sends beside a phase.
    BackgroundSender {
        /// Who listens.
        peer: SocketAddr,
        /// What to send.
        background: BackgroundSpec,
    },
    /// Burns CPU time.
    Burner {
        /// On so many threads.
        threads: u32,
    },
}

/// What one process has measured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficRecord {
    /// Bytes of payload that arrived from T0 to the end.
    pub received_bytes: u64,
    /// Bytes of payload that were handed to the kernel.
    pub sent_bytes: u64,
    /// The congestion control that a TCP sender really used; empty for everybody else.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub congestion_control: String,
    /// Probes, in the order of sending.
    pub probes: Vec<ProbeRecord>,
    /// What else is told of traffic beside a phase; `None` for all other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub background: Option<BackgroundPart>,
}

/// One probe of an echo.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeRecord {
    /// When it was sent, from T0.
    pub sent_ns: u64,
    /// How long it was under way there and back, by the kernel's stamps of arrival: without what its
    /// ends waited for a CPU. `None` if it did not come back until the end.
    pub round_trip_ns: Option<u64>,
    /// How long it lay at the other end until it was sent back.
    #[serde(default)]
    pub held_ns: u64,
    /// How long the answer lay here until it was taken.
    #[serde(default)]
    pub unseen_ns: u64,
}

/// Bytes of IP that a probe is: what its ideal round trip is computed with.
#[must_use]
pub const fn probe_ip_bytes(ipv6: bool) -> u64 {
    echo::PROBE_BYTES + 8 + if ipv6 { 40 } else { 20 }
}

/// Why a traffic process failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrafficError {
    /// Its input is not what it expects.
    #[error("the traffic's orders are not understood")]
    Orders(#[source] serde_json::Error),
    /// Standard input or output failed.
    #[error("cannot talk to the node's first process")]
    Talk(#[source] io::Error),
    /// A socket failed.
    #[error("cannot {action} {address}")]
    Socket {
        /// What was being done.
        action: &'static str,
        /// With which address.
        address: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Whoever connected did not know the secret.
    #[error("who connected to {address} does not know the run's secret")]
    WrongSecret {
        /// The listening address.
        address: SocketAddr,
    },
    /// The kernel does not control a connection as asked.
    #[error(
        "congestion control {asked} cannot be had (load it with `modprobe tcp_{asked}`, and add it to \
         `sysctl net.ipv4.tcp_allowed_congestion_control`, as programs without privileges need)"
    )]
    CongestionControl {
        /// What was asked for.
        asked: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
}

/// Work that goes on beside the main thread.
trait Work {
    /// Begins at T0; `end` says when to stop.
    fn start(&mut self, t0: MonotonicNs, end: &Arc<AtomicBool>) -> Result<(), TrafficError>;
    /// Stops, and says what was measured.
    fn finish(&mut self) -> TrafficRecord;
}

fn prepare(spec: &TrafficSpec) -> Result<Box<dyn Work>, TrafficError> {
    let secret = spec.secret.as_bytes();
    Ok(match &spec.role {
        TrafficRole::BackgroundReceiver { listen, background } => {
            Box::new(background::Receiver::open(*listen, background, secret)?)
        }
        TrafficRole::BackgroundSender { peer, background } => {
            Box::new(background::Sender::open(*peer, background, secret)?)
        }
        TrafficRole::BulkListener { listen, sends } => {
            Box::new(bulk::Listener::open(*listen, *sends, secret)?)
        }
        TrafficRole::BulkConnector { peer, sends } => {
            Box::new(bulk::Transfer::connect(*peer, *sends, secret)?)
        }
        TrafficRole::EchoListener { listen } => Box::new(echo::Listener::open(*listen, secret)?),
        TrafficRole::EchoConnector {
            peer,
            gap_ns,
            send_for_ns,
        } => Box::new(echo::Prober::open(*peer, (*gap_ns, *send_for_ns), secret)?),
        TrafficRole::Burner { threads } => Box::new(burn::Burner::new(*threads)),
    })
}

/// Runs one traffic process to its end.
///
/// # Errors
/// A socket failed, or its orders are not understood; `output` has been told where it still takes
/// lines.
pub fn run_traffic(mut input: impl BufRead, mut output: impl Write) -> Result<(), TrafficError> {
    let began = clock::now();
    let mut line = String::new();
    input.read_line(&mut line).map_err(TrafficError::Talk)?;
    if line.is_empty() {
        return Ok(());
    }
    let outcome = serde_json::from_str(&line)
        .map_err(TrafficError::Orders)
        .and_then(|spec| carry_out(&spec, began, &mut input, &mut output));
    if let Err(error) = &outcome {
        let mut reason = error.to_string();
        if let Some(cause) = std::error::Error::source(error) {
            reason = format!("{reason}: {cause}");
        }
        tell(&mut output, &JobEvent::Failed { reason })?;
    }
    outcome
}

fn carry_out(
    spec: &TrafficSpec,
    began: MonotonicNs,
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> Result<(), TrafficError> {
    let mut work = prepare(spec)?;
    let load_ns = clock::now().saturating_sub(began);
    let ready = JobEvent::Ready {
        weight_bytes: 0,
        engine_path: "none".to_owned(),
    };
    tell(output, &ready)?;
    let end = Arc::new(AtomicBool::new(false));
    loop {
        let mut line = String::new();
        if input.read_line(&mut line).map_err(TrafficError::Talk)? == 0 {
            return Ok(());
        }
        match serde_json::from_str(&line).map_err(TrafficError::Orders)? {
            JobCommand::Start { t0_monotonic_ns } => work.start(t0_monotonic_ns, &end)?,
            // It never asks for either.
            JobCommand::LinksSet | JobCommand::TracesPlay { .. } => {}
            JobCommand::Stop => break,
        }
    }
    end.store(true, Ordering::Relaxed);
    tell(output, &JobEvent::Traffic(work.finish()))?;
    let totals = JobTotals {
        payload: PayloadBytes::default(),
        quic: None,
        cpu_ns: clock::process_cpu_ns(),
        load_ns,
    };
    tell(output, &JobEvent::Done(totals))
}

fn tell(output: &mut impl Write, event: &JobEvent) -> Result<(), TrafficError> {
    let mut line = serde_json::to_string(event).map_err(TrafficError::Orders)?;
    line.push('\n');
    output
        .write_all(line.as_bytes())
        .and_then(|()| output.flush())
        .map_err(TrafficError::Talk)
}

/// Whether `shown` is the secret, in a time that does not depend on where they differ.
fn same(secret: &[u8], shown: &[u8]) -> bool {
    let pairs = secret.iter().zip(shown);
    let difference = pairs.fold(0, |sum, (a, b)| sum | (a ^ b));
    secret.len() == shown.len() && std::hint::black_box(difference) == 0
}

fn failed(action: &'static str, address: SocketAddr) -> impl Fn(io::Error) -> TrafficError + Copy {
    move |source| TrafficError::Socket {
        action,
        address,
        source,
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), TrafficError> {
    let thread = std::thread::Builder::new().name(name.to_owned());
    // Never joined: what is measured lies in shared counters, and the process ends all threads.
    thread.spawn(work).map(drop).map_err(TrafficError::Thread)
}

#[cfg(test)]
mod tests;
