//! `summary.json`: what a run found, for scripts. A versioned interface: fields are added, never
//! changed, within one `schema_version`; `hexloop schema summary` prints its JSON Schema.

mod background;
mod bytes;
mod captures;
mod cells;
mod compute;
mod distribution;
mod energy;
mod expectations;
mod loads;
mod machine;
mod radio;
pub(crate) mod rates;
mod studies;
pub(crate) mod traffic;
mod training;
mod usage;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::verdict::Verdict;

pub use background::BackgroundSummary;
pub use captures::CaptureSummary;
pub use compute::{RunFacts, summarise};
pub(crate) use compute::{quantity, unavailable};
pub use distribution::{Distribution, PercentileInterval};
pub use energy::{
    AttributionSummary, CounterGap, IdleChannelSummary, JobEnergy, LARGEST_GAP,
    MeterChannelSummary, MeterCostSummary, MeterSummary, MeteringSummary, Missing,
};
pub(crate) use energy::{derived_from, gaps_between, metering, missing, subtracted};
pub use expectations::{Evidence, outages};
pub use loads::{LoadSummary, ScenarioSummary, Sizes};
pub use machine::{CoolingSummary, InterruptSummary, MachineSummary, NoiseSummary, SettingSummary};
pub use radio::RadioSummary;
pub use rates::{ConstantRate, RatesSummary};
pub use studies::{
    AdapterDeliveries, AdapterTask, AdapterWaves, KpiByTrace, KpiOnTrace, KpiOutcome, SharedBatch,
    SharedCapacity, SharedLoad, StudyAcceptance, StudyAdapters, StudyCell, StudyCodedKv,
    StudyContext, StudyCosts, StudyDelivery, StudyEnergy, StudyHalfCosts, StudyHalves,
    StudyHalvesArm, StudyHits, StudyKpi, StudyLeak, StudyLink, StudyLook, StudyLookCell,
    StudyLooks, StudyNodeEnergy, StudyOwn, StudyPlaceCosts, StudyPlaced, StudyRegimes,
    StudyRetrieval, StudyRow, StudyShared, StudySpeculation, StudySummary, StudyTraced,
    StudyTracedArm,
};
pub(crate) use training::{Step, Surroundings, training_energy};
pub use training::{ToPerplexity, TrainingEnergy};
pub use usage::{CoreSummary, NodeCounterSummary};

/// The version of this document.
pub const SUMMARY_SCHEMA: u32 = 2;

/// What a run found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Summary {
    /// [`SUMMARY_SCHEMA`].
    pub schema_version: u32,
    /// Version of the program.
    pub tool_version: String,
    /// Name of the experiment.
    pub experiment: String,
    /// The preset that was applied, if any.
    pub preset: Option<String>,
    /// The seed that everything random followed from.
    pub seed: u64,
    /// SHA-256 of plan.json in hexadecimal.
    pub plan_sha256: String,
    /// When the run began, in UTC.
    pub started: String,
    /// Name of the run: that of its directory, without `.interrupted`.
    pub run: String,
    /// The run directory, as it was when the summary was written.
    pub run_dir: String,
    /// Whether the run came to its end.
    pub status: RunStatus,
    /// Why it did not, if it did not.
    pub failure: Option<String>,
    /// `verdict` (`VALID` or `INVALID`: whether the emulation was good enough to believe), with
    /// `reasons`, `checks` and `notes` beside it.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// Every link, each direction on its own.
    pub links: Vec<LinkSummary>,
    /// Changes of links while they played, in order.
    #[serde(default)]
    pub changes: Vec<ChangeSummary>,
    /// Captures of links, each direction on its own; absent where none were asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub captures: Vec<CaptureSummary>,
    /// Every phase without a model, in the order it was played.
    #[serde(default)]
    pub traffic: Vec<TrafficSummary>,
    /// The constant rates of all bulk phases: which passed, and the highest of them; absent where no trace keeps a
    /// rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rates: Option<RatesSummary>,
    /// What the links of a cell got, for every bulk phase, cell and direction in which some of
    /// them were filled.
    #[serde(default)]
    pub cells: Vec<CellSummary>,
    /// Every placement, in the order it was played.
    pub jobs: Vec<JobSummary>,
    /// Every study, in the order it was played.
    #[serde(default)]
    pub studies: Vec<StudySummary>,
    /// Every load on a program that serves, in the order it was played.
    #[serde(default)]
    pub loads: Vec<LoadSummary>,
    /// Traffic beside phases, phase by phase.
    #[serde(default)]
    pub background: Vec<BackgroundSummary>,
    /// Every node.
    pub nodes: Vec<NodeSummary>,
    /// What was asked of the machine, what it is, and how quiet it was.
    #[serde(default)]
    pub machine: MachineSummary,
    /// Claims about the results, judged.
    pub expectations: Vec<ExpectationSummary>,
    /// Energy of the machine over the whole run.
    pub energy_j: Quantity,
    /// What was metered; null where no agent told of it.
    pub meters: Option<MeterSummary>,
    /// Warnings that were given while the run went on.
    pub warnings: Vec<String>,
    /// What could not be taken down; empty when all is clean.
    pub leftovers: Vec<String>,
}

/// Whether a run came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RunStatus {
    /// Every phase was played and everything was taken down.
    Complete,
    /// It was interrupted or failed.
    Interrupted,
}

/// A quantity that may not have been measured: then `value` is null and `reason` says why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Quantity {
    /// The value, or null.
    pub value: Option<f64>,
    /// How it was obtained.
    pub quality: Quality,
    /// Which sensor, counter or model it comes from.
    pub source: Option<String>,
    /// Why there is no value.
    pub reason: Option<String>,
}

/// How a quantity was obtained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Quality {
    /// Read from a sensor or counter.
    Measured,
    /// Computed from measured values.
    Derived,
    /// From a documented model.
    Estimated,
    /// Not obtained.
    Unavailable,
}

/// One direction of a link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LinkSummary {
    /// The link.
    pub link: String,
    /// `down` or `up`.
    pub direction: String,
    /// The trace it followed.
    pub trace: String,
    /// What shaped the packets: `relay`, `tc` or `edt`.
    pub datapath: Option<String>,
    /// How it was relayed: `low-latency`, `exact` or `bulk`; null where it was not.
    pub mode: Option<String>,
    /// Bytes delivered over bytes that the trace allows, in the windows of the calibration in
    /// which the queue was never empty; null without such windows.
    pub delivered_over_trace: Option<f64>,
    /// Number of those windows.
    pub backlogged_windows: u64,
    /// The same ratio over the backlogged windows while the jobs ran, those in an outage left out.
    pub run_delivered_over_trace: Option<f64>,
    /// Number of those windows.
    pub run_backlogged_windows: u64,
    /// How late packets left the shaper in calibration, in microseconds.
    pub lateness_us: Lateness,
    /// One-way delay on an empty queue, |measured - asked|, in microseconds.
    pub delay_error_us: Lateness,
    /// The delay that was asked for, the median over the probes, in microseconds.
    pub asked_delay_us: Option<f64>,
    /// Probes sent and not received.
    pub probes_lost: Option<u64>,
    /// Packets dropped because the queue was full, while the jobs ran.
    pub dropped_packets: u64,
    /// Packets lost as the trace asks, while the jobs ran.
    pub lost_packets: u64,
}

/// Percentiles in microseconds; null where there are too few values.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Lateness {
    /// Number of values.
    pub n: u64,
    /// 50th percentile.
    pub p50: Option<f64>,
    /// 99th percentile.
    pub p99: Option<f64>,
    /// Largest value.
    pub max: Option<f64>,
}

/// A change of a link while it played.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChangeSummary {
    /// The phase.
    pub phase: String,
    /// The event of the experiment that asked for it; null if it was made by hand.
    pub event: Option<String>,
    /// The link.
    pub link: String,
    /// The directions that changed: `down`, `up`.
    pub directions: Vec<String>,
    /// What changed, in words.
    pub change: String,
    /// When it was asked for, in seconds after T0.
    pub asked_s: f64,
    /// From when on it holds, in seconds after T0.
    pub achieved_s: f64,
}

/// One phase without a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TrafficSummary {
    /// Name of the phase.
    pub phase: String,
    /// `bulk` or `ping`.
    pub job: String,
    /// The link that it crossed; one that fills several links has an entry for each.
    pub link: String,
    /// Whether all CPU time of both nodes was burned meanwhile.
    pub load: bool,
    /// Length of the phase in seconds.
    pub duration_s: Option<f64>,
    /// With job `bulk`: the congestion controls that the senders really used.
    pub congestion_control: Vec<String>,
    /// With job `bulk`: how what was delivered follows the trace, per direction that was filled.
    pub following: Vec<Following>,
    /// With job `ping`: how long packets took there and back.
    pub round_trips: Option<RoundTrips>,
}

/// What the links of a cell got in one direction of a bulk phase. Bytes and shares are over the
/// windows in which every link that was filled had something waiting all the time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CellSummary {
    /// Name of the phase.
    pub phase: String,
    /// The cell.
    pub cell: String,
    /// Its policy, in words.
    pub policy: String,
    /// `down` or `up`.
    pub direction: String,
    /// Windows of the phase.
    pub windows: u64,
    /// Those that the bytes and shares are over.
    pub backlogged_windows: u64,
    /// Every link of the cell that the phase filled.
    pub users: Vec<CellUserSummary>,
}

/// What one link of a cell got.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct CellUserSummary {
    /// The link.
    pub link: String,
    /// Its weight; null unless the cell's policy divides by weight.
    pub weight: Option<u32>,
    /// Bytes that were delivered.
    pub delivered_bytes: u64,
    /// Bytes that the cell's policy gives the link on the traces alone, when all filled links
    /// always have something to send and the others never; null where that was not computed.
    pub asked_bytes: Option<u64>,
    /// What it got of all that was delivered.
    pub delivered_share: Option<f64>,
    /// What it was to get of all that was asked.
    pub asked_share: Option<f64>,
    /// Bytes delivered over bytes asked.
    pub delivered_over_asked: Option<f64>,
}

/// How what was delivered in one direction follows the trace. All but the number of windows is
/// over those in which the queue was never empty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Following {
    /// `down` or `up`.
    pub direction: String,
    /// Windows of the phase.
    pub windows: u64,
    /// Those in which the queue was never empty.
    pub backlogged_windows: u64,
    /// Bytes delivered over bytes that the trace allows.
    pub delivered_over_trace: Option<f64>,
    /// Pearson's coefficient of both over the windows; null where the trace does not change.
    pub correlation: Option<f64>,
    /// Steps of the trace by more than 10 %.
    pub steps: u64,
    /// Steps after which, a whole window later, what was delivered was still nearer to the old
    /// rate than to the new one.
    pub late_steps: u64,
    /// Every rate that the trace keeps for ten windows or more, from the lowest on; empty where it changes most of
    /// the time, and on links of a cell.
    #[serde(default)]
    pub rates: Vec<ConstantRate>,
}

/// Round trips of small packets on an otherwise empty link, in milliseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RoundTrips {
    /// Packets sent.
    pub sent: u64,
    /// Packets that did not come back until the end of the phase.
    pub lost: u64,
    /// The median.
    pub p50_ms: Option<f64>,
    /// The 99th percentile; null with fewer than 459 values.
    pub p99_ms: Option<f64>,
    /// The largest.
    pub max_ms: Option<f64>,
    /// The median of what the trace asks at those moments.
    pub asked_p50_ms: Option<f64>,
    /// The median of |measured - asked|, less what the trace's jitter excuses.
    pub error_p50_ms: Option<f64>,
    /// Its 99th percentile; null with fewer than 459 values.
    pub error_p99_ms: Option<f64>,
}

/// One placement of the model serving its requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JobSummary {
    /// Name of the phase, such as `split`.
    pub phase: String,
    /// Where the layers ran: `device`, `edge` or `split`.
    pub placement: String,
    /// How frames crossed the link: `quic` or `tcp`.
    #[serde(default)]
    pub transport: String,
    /// Layers on the device; null unless `split`.
    pub layers_on_device: Option<u32>,
    /// Requests that the schedule offered.
    pub requests: u64,
    /// Requests whose tokens all arrived by their deadline.
    pub completed: u64,
    /// Requests whose tokens had not all arrived by their deadline or the end of the phase.
    pub unfinished: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Requests completed over those that the schedule offered, with a record or without.
    pub goodput_over_offered: Option<f64>,
    /// Tokens generated.
    pub output_tokens: u64,
    /// SHA-256 over the generated tokens of all completed requests, in order of their numbers.
    pub tokens_sha256: String,
    /// Time to first token from the scheduled time.
    pub ttft_ms: Distribution,
    /// The same from the moment of sending.
    pub ttft_from_send_ms: Distribution,
    /// (E2E - TTFT) / (tokens - 1), of completed requests with at least two tokens.
    pub tpot_ms: Distribution,
    /// Gaps between tokens, all requests pooled.
    pub itl_ms: Distribution,
    /// From the scheduled time to the last token, of completed requests.
    pub e2e_ms: Distribution,
    /// How late the load generator sent.
    pub send_lateness_ms: Distribution,
    /// Bytes the application sent from device to edge, framing and handshakes included.
    pub link_payload_bytes_up: Option<u64>,
    /// The same from edge to device.
    pub link_payload_bytes_down: Option<u64>,
    /// Bytes that arrived at the edge's interface, Ethernet headers included.
    pub link_wire_bytes_up: Option<u64>,
    /// The same at the device's interface.
    pub link_wire_bytes_down: Option<u64>,
    /// How payload and wire bytes follow from each other, from device to edge.
    pub wire_up: Option<WireAccount>,
    /// The same from edge to device.
    pub wire_down: Option<WireAccount>,
    /// CPU time of each node's processes, in seconds.
    pub cpu_s: BTreeMap<String, f64>,
    /// Highest resident memory of each node, in bytes.
    pub memory_peak_bytes: BTreeMap<String, u64>,
    /// What else the kernel counted of each node.
    pub counters: BTreeMap<String, NodeCounterSummary>,
    /// What the machine's CPUs did over the phase; empty where the kernel does not tell.
    pub cores: Vec<CoreSummary>,
    /// Why there is no core, if so.
    pub without_cores: Option<String>,
    /// What the radio of the phase's link used by published models. Estimated, and part of no other
    /// figure.
    pub radio: Option<RadioSummary>,
    /// Length of the phase in seconds.
    pub duration_s: Option<f64>,
    /// Energy of the machine over the phase: gross.
    pub energy_j: Quantity,
    /// What it amounts to.
    pub energy: JobEnergy,
}

/// One direction of the link in one phase: from the formula to the bytes on the wire.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WireAccount {
    /// What the formula gives for the completed requests.
    pub formula_bytes: u64,
    /// What the job counted for them.
    pub counted_bytes: u64,
    /// Part of it that is frame headers.
    pub framing_bytes: u64,
    /// Handshakes of the connections.
    pub handshake_bytes: u64,
    /// All payload, as the job counted.
    pub payload_bytes: u64,
    /// Payload per generated token.
    pub payload_bytes_per_token: Option<f64>,
    /// What QUIC made of the payload, as the sending end counted: bytes of its datagrams, with encryption,
    /// packet headers, acknowledgements and what was sent again; null over TCP.
    #[serde(default)]
    pub quic_bytes: Option<u64>,
    /// Packets that arrived.
    pub packets: u64,
    /// Per packet: Ethernet, IP and TCP header with timestamps, or Ethernet, IP and UDP header.
    pub header_bytes_per_packet: u64,
    /// What the opening segments carry beyond that.
    pub opening_bytes: u64,
    /// Payload, or what QUIC made of it, + packets x header + opening.
    pub expected_wire_bytes: u64,
    /// What arrived.
    pub wire_bytes: u64,
    /// What arrived less what was expected: retransmitted payload, selective acknowledgements
    /// and whatever else the kernels said to each other.
    pub difference_bytes: i64,
    /// Segments that the sender retransmitted; over QUIC, packets that it took for lost.
    pub segments_retransmitted: u64,
}

/// One node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct NodeSummary {
    /// Its name.
    pub node: String,
    /// CPUs asked for.
    pub asked_cpus: Vec<u32>,
    /// CPUs read back.
    pub got_cpus: Vec<u32>,
    /// How they were set.
    pub cpus_by: String,
    /// CPU time per wall time asked for; null without a quota.
    pub asked_quota: Option<f64>,
    /// The same, read back.
    pub got_quota: Option<f64>,
    /// The period read back, in microseconds.
    pub got_period_us: Option<u64>,
    /// How it is enforced.
    pub quota_by: String,
    /// What controls the congestion of its TCP connections, read back; null in records from before that was set.
    #[serde(default)]
    pub congestion_control: Option<String>,
}

/// Whether a claim about the results held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ExpectationOutcome {
    /// It held.
    Held,
    /// It did not.
    NotHeld,
    /// The records do not say.
    Undecided,
}

impl ExpectationOutcome {
    /// Its name in files and on the screen.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            ExpectationOutcome::Held => "held",
            ExpectationOutcome::NotHeld => "not-held",
            ExpectationOutcome::Undecided => "undecided",
        }
    }
}

/// One claim, judged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ExpectationSummary {
    /// Its name.
    pub name: String,
    /// What is claimed, in words.
    pub claim: String,
    /// Whether it held.
    pub outcome: ExpectationOutcome,
    /// The numbers it was judged by.
    pub numbers: BTreeMap<String, f64>,
    /// Of each of its parts, how much it was judged by and how small an effect would have shown; empty where there was
    /// no case, or too few, to judge by.
    #[serde(default)]
    pub evidence: Vec<Evidence>,
    /// The same in words.
    pub detail: String,
}

impl Summary {
    /// The JSON document, with a final line feed.
    ///
    /// # Errors
    /// Never for finite numbers.
    pub fn to_json(&self) -> serde_json::Result<String> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        Ok(text)
    }

    /// Its JSON Schema.
    #[must_use]
    pub fn json_schema() -> schemars::Schema {
        schemars::schema_for!(Summary)
    }
}

#[cfg(test)]
mod tests;
