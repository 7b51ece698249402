//! What a job process is told, and what it reports.
//!
//! A job process reads one [`JobSpec`] as a line of JSON on standard input, then [`JobCommand`]
//! lines; it writes [`JobEvent`] lines on standard output. End of file on standard input ends it.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::device::ComputeSettings;
use crate::load::ExchangeRecord;
use crate::request::ScheduledRequest;
use crate::study::StudyFinding;
use crate::traffic::TrafficRecord;
use crate::transport::{QuicTotals, Transport};
use crate::wire::PayloadBytes;

/// The variables by which the tensor library sizes its own work. Without the first it also reads
/// /proc/cpuinfo before every matrix product, which can cost more than the product.
pub const THREAD_VARIABLES: [&str; 2] = ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"];

/// The environment in which a process that computes with so many threads must be started.
///
/// A process that trains takes one thread here: the two halves of a batch are side by side.
#[must_use]
pub fn thread_environment(threads: u32) -> [(&'static str, String); 2] {
    THREAD_VARIABLES.map(|name| (name, threads.max(1).to_string()))
}

/// Where the layers of the model run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Placement {
    /// The whole model on the device; nothing crosses the link.
    Device,
    /// The whole model on the edge; token ids cross the link.
    Edge,
    /// The first `layers_on_device` layers on the device, the rest and the output head on the
    /// edge; hidden states cross the link and each side keeps its own key-value cache.
    Split {
        /// Decoder layers on the device, 1 to layers - 1.
        layers_on_device: u32,
    },
}

/// What one process does in a phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobRole {
    /// Sends the scheduled requests and runs the device's part of the model.
    Device {
        /// Where the edge listens; `None` when nothing crosses the link.
        edge: Option<SocketAddr>,
        /// The requests, in order of time.
        requests: Vec<ScheduledRequest>,
        /// See [`crate::request::RequestStream::deadline_ns`].
        deadline_ns: u64,
        /// Sends every request so much late: a fault injected to see that the verdict notices it;
        /// 0 in an honest run.
        #[serde(default)]
        send_delay_ns: u64,
    },
    /// Listens and runs the edge's part of the model.
    Edge {
        /// Where to listen: an address of the node itself.
        listen: SocketAddr,
    },
}

/// Everything a job process needs to start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// Name of the job, for logs.
    pub name: String,
    /// Where the model's layers run in this phase.
    pub placement: Placement,
    /// This process's part.
    pub role: JobRole,
    /// Directory with config.json, tokenizer.json and model.safetensors, as this process sees it.
    pub model_directory: PathBuf,
    /// Threads of the tensor engine.
    pub threads: u32,
    /// Where the engine computes.
    #[serde(default, skip_serializing_if = "ComputeSettings::is_default")]
    pub compute: ComputeSettings,
    /// How many times as long as it really takes every computation lasts; `None` for once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowdown: Option<u32>,
    /// How frames cross the link.
    #[serde(default, skip_serializing_if = "Transport::is_default")]
    pub transport: Transport,
    /// 64 hexadecimal digits that both ends of a connection must know.
    pub secret: String,
}

/// What a running job is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobCommand {
    /// The phase's T0 on `CLOCK_MONOTONIC`.
    Start {
        /// Nanoseconds.
        t0_monotonic_ns: u64,
    },
    /// The links are set as [`JobEvent::SetLinks`] asked.
    LinksSet,
    /// The links follow their traces, as [`JobEvent::PlayTraces`] asked.
    TracesPlay {
        /// When the traces began, on `CLOCK_MONOTONIC`, in nanoseconds.
        from_monotonic_ns: u64,
    },
    /// Finish: report totals and end.
    Stop,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// All tokens arrived.
    Completed,
    /// Not all tokens had arrived at its deadline or the end of the phase.
    Unfinished,
    /// It could not be carried on.
    Failed {
        /// Why.
        reason: String,
    },
}

/// What one request experienced. Times are offsets from T0 in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// Number within its phase.
    pub id: u32,
    /// When it was to be sent.
    pub scheduled_ns: u64,
    /// When the load generator did send it. For a request that was not sent at all it is the
    /// later of its scheduled time and the end of the phase: it was not sent before that.
    pub sent_ns: u64,
    /// When each generated token was there, in order; the first gives the time to first token.
    pub token_ns: Vec<u64>,
    /// The prompt's length in tokens.
    pub prompt_tokens: u32,
    /// The generated token ids.
    pub tokens: Vec<u32>,
    /// Places in the answer, counted from 0, of tokens that this process chose on a CPU and beside which another was
    /// about as good: another device may say that one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ties: Vec<u32>,
    /// How it ended.
    pub outcome: Outcome,
    /// What it put on the link, framing included, as this process counted.
    pub payload: PayloadBytes,
}

/// Totals of a job process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobTotals {
    /// Payload of all connections, handshakes included, as this process counted.
    pub payload: PayloadBytes,
    /// What QUIC made of it; `None` if no connection is over QUIC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quic: Option<QuicTotals>,
    /// CPU time of the whole process, in nanoseconds.
    pub cpu_ns: u64,
    /// Time from start to ready: model loaded, socket open.
    pub load_ns: u64,
}

impl JobTotals {
    /// Adds another process of the same node: both counted, both used CPU time, and the node was ready when
    /// the later one was.
    pub fn add(&mut self, other: &JobTotals) {
        self.payload.add(other.payload);
        if let Some(other) = other.quic {
            self.quic.get_or_insert_default().add(other);
        }
        self.cpu_ns += other.cpu_ns;
        self.load_ns = self.load_ns.max(other.load_ns);
    }
}

/// What a job process reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobEvent {
    /// The model is loaded; a listening edge is listening.
    Ready {
        /// Bytes of weights that this process holds.
        weight_bytes: u64,
        /// Which kernels the engine uses, such as `avx512`.
        engine_path: String,
    },
    /// A request has ended.
    Request(RequestRecord),
    /// What the exchange of the request that is told of next was.
    Exchange(ExchangeRecord),
    /// What traffic without a model has measured.
    Traffic(TrafficRecord),
    /// What a study has found.
    Study(StudyFinding),
    /// The links of the study are to be set so; the driver waits for [`JobCommand::LinksSet`].
    SetLinks {
        /// The round trip of each, half of it each way.
        round_trip_ns: u64,
        /// The rate of each, the same in both directions.
        rate_bps: u64,
        /// The round trip is that of the last link alone and the rate that of the first: everything else
        /// is as their traces say.
        #[serde(default)]
        ends_only: bool,
    },
    /// The links of the study are to follow their traces from the start; the driver waits for
    /// [`JobCommand::TracesPlay`].
    PlayTraces,
    /// Something that the record of the run is to say, though the job goes on.
    Warning {
        /// What, with its cause.
        message: String,
    },
    /// All requests have ended; waiting for [`JobCommand::Stop`].
    Idle,
    /// The last event: totals.
    Done(JobTotals),
    /// The job cannot go on.
    Failed {
        /// Why, with the remedy where there is one.
        reason: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_processes_of_a_node_come_to_is_the_sum_and_the_later_start() {
        let totals = |up, cpu_ns, load_ns| JobTotals {
            payload: PayloadBytes { up, down: 1 },
            quic: None,
            cpu_ns,
            load_ns,
        };
        let mut all = totals(10, 5, 7);
        all.add(&totals(0, 100, 3));
        let payload = PayloadBytes { up: 10, down: 2 };
        assert_eq!((all.payload, all.cpu_ns, all.load_ns), (payload, 105, 7));
    }
}
