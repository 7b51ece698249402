//! The plan: what an agent is to do, with every default in and every reference resolved.
//!
//! A plan is data alone. The same experiment file, seed and settings give the same plan, byte
//! for byte, on every machine with the same CPUs; its hash names it in the record.

mod background;
mod load;
mod program;
mod study;

use std::net::IpAddr;

use hexloop_traces::{CellSettings, Direction, LinkChange, LinkSettings};
use hexloop_workloads::device::ComputeSettings;
use hexloop_workloads::job::Placement;
use hexloop_workloads::request::{RequestStream, ScheduledRequest};
use hexloop_workloads::transport::Transport;
use serde::{Deserialize, Serialize};

pub use crate::describe::describe;
pub use crate::isolation::{
    CoolPlan, GpuPlan, HugepagesPlan, MachinePlan, NodeIsolation, Partition,
};
pub use background::BackgroundPlan;
pub use load::LoadPlan;
pub use program::{CommandPlan, Readiness, ReadyPlan};
pub use study::{StudyClaim, StudyPlan};

/// The version of the plan's schema.
pub const PLAN_SCHEMA: u32 = 10;

/// What one agent is to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// [`PLAN_SCHEMA`].
    pub schema: u32,
    /// Name of the experiment.
    pub experiment: String,
    /// The preset that was applied, if any.
    pub preset: Option<String>,
    /// The seed that everything random follows from.
    pub seed: u64,
    /// The nodes that this agent plays.
    pub nodes: Vec<NodePlan>,
    /// The links between them.
    pub links: Vec<LinkPlan>,
    /// The cells that some of the links share.
    pub cells: Vec<CellPlan>,
    /// Links that are not calibrated: no phase crosses them, and nothing is claimed about them.
    pub uncalibrated: Vec<String>,
    /// What is asked of the machine itself.
    #[serde(default)]
    pub machine: MachinePlan,
    /// The calibration that precedes the phases.
    pub calibration: CalibrationPlan,
    /// Phases without a model; they come first.
    pub traffic: Vec<TrafficPlan>,
    /// The model that the jobs serve; `None` if there are no other phases.
    pub model: Option<ModelPlan>,
    /// A second, smaller model with the tokenizer of the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft_model: Option<ModelPlan>,
    /// What is run, one after the other, each from the start of the traces.
    pub phases: Vec<PhasePlan>,
    /// Studies; they come last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub studies: Vec<StudyPlan>,
    /// Loads on programs that serve; they come after everything else.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loads: Vec<LoadPlan>,
    /// Traffic that links carry beside phases.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub background: Vec<BackgroundPlan>,
    /// Changes of links at moments of the phases, in the order of those.
    pub events: Vec<TimelineEvent>,
    /// Programs that run on their nodes during every phase.
    pub commands: Vec<CommandPlan>,
    /// When the run is believed.
    pub verdict: VerdictBounds,
    /// Claims about the results that the report judges.
    pub expectations: Vec<ExpectationPlan>,
    /// Faults to inject, to see that the verdict notices them.
    pub faults: FaultPlan,
}

/// One emulated node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodePlan {
    /// Its name in the experiment file.
    pub name: String,
    /// Its number, from 0; addresses follow from it.
    pub index: u16,
    /// The CPUs that it may run on.
    pub cpus: Vec<u32>,
    /// The share of CPU time it gets, if less than its CPUs give.
    pub cpu_quota: Option<CpuQuota>,
    /// Threads of the tensor engine.
    pub threads: u32,
    /// Where its engine computes, as its processes see it: the GPU of a node, which
    /// [`NodeIsolation::gpu`] names, is their `cuda:0`.
    #[serde(default, skip_serializing_if = "ComputeSettings::is_default")]
    pub compute: ComputeSettings,
    /// How many times as long as it took every computation of its engine lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slowdown: Option<u32>,
    /// What controls the congestion of its TCP connections; `None` stands for cubic, or reno where namespaces may not have that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub congestion_control: Option<String>,
    /// What is to keep others away from it.
    #[serde(default)]
    pub isolation: NodeIsolation,
}

/// CPU time per period, as in the cgroup CPU controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CpuQuota {
    /// CPU time that the node may use in each period, in microseconds.
    pub quota_us: u64,
    /// The period, in microseconds; at most 5000, so that a token is not held up much longer
    /// than the slowdown says.
    pub period_us: u64,
}

/// How packets are shaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DatapathChoice {
    /// Whatever this machine can do best, found by trying.
    Auto,
    /// The userspace relay.
    Relay,
    /// Kernel queueing disciplines: htb, and netem where delay or loss is asked for.
    Tc,
    /// Departure times that a BPF program takes from the trace, and the kernel's fq.
    Edt,
}

/// How a relayed link works.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RelayModePlan {
    /// Packets pass at once, and super-packets whole.
    LowLatency,
    /// Every packet leaves at its due time.
    #[default]
    Exact,
    /// Packets pass in blocks, for many small ones.
    Bulk,
}

impl RelayModePlan {
    /// Its name in experiment files and plans.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            RelayModePlan::LowLatency => "low-latency",
            RelayModePlan::Exact => "exact",
            RelayModePlan::Bulk => "bulk",
        }
    }
}

/// One link between two nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkPlan {
    /// Its name in the experiment file.
    pub name: String,
    /// Its number, from 0; addresses and interface names follow from it.
    pub index: u16,
    /// The nodes it joins: `up` goes from the first to the second.
    pub ends: [LinkEnd; 2],
    /// The trace it follows, by name; its text travels beside the plan.
    pub trace: String,
    /// SHA-256 of the trace's canonical text, in hexadecimal.
    pub trace_sha256: String,
    /// How packets are shaped.
    pub datapath: DatapathChoice,
    /// How it is relayed, if it is.
    #[serde(default)]
    pub mode: RelayModePlan,
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// Queue and service, where the trace leaves them open.
    pub settings: LinkSettings,
}

/// A radio cell: its links share its slots, each direction apart.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellPlan {
    /// Its name in the experiment file.
    pub name: String,
    /// The trace whose rates all links together do not exceed, by name; `None` if only their own
    /// traces limit them.
    pub trace: Option<String>,
    /// SHA-256 of that trace's canonical text, in hexadecimal.
    pub trace_sha256: Option<String>,
    /// Who gets what of a slot.
    pub settings: CellSettings,
    /// The links, in the order of the plan.
    pub users: Vec<CellUserPlan>,
}

/// A link of a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CellUserPlan {
    /// Its name.
    pub link: String,
    /// Its weight, where the policy asks for one.
    pub weight: u32,
}

/// A change of a link at a moment of a phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineEvent {
    /// Its name.
    pub name: String,
    /// The phase; `None` stands for every phase.
    pub phase: Option<String>,
    /// When, from T0 of the phase.
    pub at_ns: u64,
    /// The link.
    pub link: String,
    /// The directions of it that change.
    pub directions: Vec<Direction>,
    /// What changes.
    pub change: LinkChange,
}

impl TimelineEvent {
    /// Whether it comes in the phase of that name.
    #[must_use]
    pub fn is_in(&self, phase: &str) -> bool {
        self.phase.as_deref().is_none_or(|name| name == phase)
    }
}

/// One end of a link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkEnd {
    /// The node.
    pub node: String,
    /// Its interface on this link, 15 bytes at most.
    pub interface: String,
    /// Its IPv4 address on this link (prefix length 30).
    pub ipv4: IpAddr,
    /// Its IPv6 address on this link (prefix length 64).
    pub ipv6: IpAddr,
    /// Its MAC address, six bytes.
    pub mac: [u8; 6],
}

/// How the links are measured before anything is run over them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrationPlan {
    /// Length of the saturating flow in each direction; at least 3 s.
    pub flow_ns: u64,
    /// Payload of its UDP packets, in bytes.
    pub packet_payload_bytes: u32,
    /// Gap between the probes that measure delay in the other direction.
    pub probe_gap_ns: u64,
    /// Length of the windows in which asked and delivered are compared, here and during the run.
    pub window_ns: u64,
}

/// The model that the jobs serve.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelPlan {
    /// Name of a bundled recipe, such as `tiny`; or the directory of a Hugging Face checkpoint.
    pub source: ModelSource,
    /// Number of decoder layers, so that a cut can be checked before anything runs.
    pub layers: u32,
    /// Width of the hidden state.
    pub width: u32,
    /// Tokens that it scores; 0 in plans of earlier versions.
    #[serde(default)]
    pub vocabulary: u32,
    /// Key-value heads of a layer; 0 in plans of earlier versions.
    #[serde(default)]
    pub kv_heads: u32,
    /// Width of a head; likewise.
    #[serde(default)]
    pub head_width: u32,
    /// Bytes per activation that crosses the link.
    pub bytes_per_activation: u32,
}

/// Where the model comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ModelSource {
    /// Trained here once by the named recipe, then kept in the user's cache.
    Recipe(String),
    /// A directory with config.json, tokenizer.json and model.safetensors.
    Directory(std::path::PathBuf),
}

/// One phase: a placement of the model serving a stream of requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhasePlan {
    /// Its name, such as `split`.
    pub name: String,
    /// Where the layers run.
    pub placement: Placement,
    /// The node that sends the requests and plays the device.
    pub device: String,
    /// The node that plays the edge.
    pub edge: String,
    /// The link between them.
    pub link: String,
    /// The address that the edge listens at.
    pub edge_address: std::net::SocketAddr,
    /// How frames cross the link.
    #[serde(default, skip_serializing_if = "Transport::is_default")]
    pub transport: Transport,
    /// The requests. The same seed gives every phase the same schedule.
    pub requests: RequestStream,
    /// Length of the phase from its T0; requests still under way then are unfinished.
    pub duration_ns: u64,
}

/// A phase without a model, from the link's first end to its second.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficPlan {
    /// Its name.
    pub name: String,
    /// What is sent.
    pub job: TrafficJob,
    /// The link that it crosses.
    pub link: String,
    /// The address that the link's second end listens at.
    pub address: std::net::SocketAddr,
    /// Links that are filled or probed at the same time, in the same way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub beside: Vec<BesidePlan>,
    /// Whether all CPU time of both nodes is burned meanwhile.
    pub load: bool,
    /// Length of the phase from its T0.
    pub duration_ns: u64,
}

/// A further link of a traffic phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BesidePlan {
    /// The link.
    pub link: String,
    /// The address that its second end listens at.
    pub address: std::net::SocketAddr,
}

impl TrafficPlan {
    /// Every link that it crosses, with the address that its second end listens at.
    pub fn links(&self) -> impl Iterator<Item = (&str, std::net::SocketAddr)> {
        let beside = self.beside.iter();
        std::iter::once((self.link.as_str(), self.address))
            .chain(beside.map(|beside| (beside.link.as_str(), beside.address)))
    }
}

/// What a traffic phase sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrafficJob {
    /// As much as a TCP connection takes.
    Bulk {
        /// The directions that are filled.
        directions: Vec<Direction>,
    },
    /// UDP packets that the second end sends back.
    Ping {
        /// Time between packets.
        gap_ns: u64,
    },
}

/// When the run is believed. Shares are in parts per million, so that plans compare exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerdictBounds {
    /// Largest |delivered / trace - 1|.
    pub rate_error_ppm: u64,
    /// Largest 99th percentile of the one-way delay error: this absolute bound ...
    pub delay_error_ns: u64,
    /// ... or this share of the delay asked for, whichever is larger.
    pub delay_error_ppm: u64,
    /// Largest 99th percentile of the shaper's lateness.
    pub shaper_lateness_ns: u64,
    /// Largest 99th percentile of the load generator's send lateness, as a share of the deadline.
    pub send_lateness_ppm: u64,
    /// Fewest windows in which the queue was never empty.
    pub backlogged_windows: u64,
    /// Largest share of any job's CPU set that the relay's threads took.
    pub relay_cpu_ppm: u64,
    /// Largest share of any job's CPU set that interrupts took.
    #[serde(default)]
    pub interrupt_cpu_ppm: u64,
    /// Largest share of the nodes' CPUs that the host had taken in the noise check; `None` warns only.
    #[serde(default)]
    pub steal_ppm: Option<u64>,
    /// Largest 99th percentile of timers' lateness there, in nanoseconds; `None` warns only.
    #[serde(default)]
    pub timer_lateness_ns: Option<u64>,
}

/// A claim about the results.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExpectationPlan {
    /// Its name in the report.
    pub name: String,
    /// What is claimed.
    pub claim: Claim,
}

/// What can be claimed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Claim {
    /// Every completed request has the same tokens in these phases.
    SameTokens {
        /// Phases by name.
        phases: Vec<String>,
    },
    /// Payload on the link equals the formula of the placement, byte for byte.
    PayloadFormula {
        /// The phase.
        phase: String,
    },
    /// No token of the phase arrived during an outage of its link, though requests were under way.
    StallsInOutage {
        /// The phase.
        phase: String,
    },
    /// Tokens of the phase went on arriving during an outage of the link.
    GoesOnInOutage {
        /// The phase.
        phase: String,
    },
    /// All requests that were offered in the phase completed before its end.
    AllCompleted {
        /// The phase.
        phase: String,
    },
    /// What a bulk phase delivered follows the trace: its mean, its course, its steps.
    RateFollowsTrace {
        /// The traffic phase.
        phase: String,
    },
    /// The round trips of a ping phase are those of the trace.
    RoundTripFollowsTrace {
        /// The traffic phase.
        phase: String,
    },
    /// What the links of a cell got in a bulk phase is what the cell's policy gives them.
    SharesFollowCell {
        /// The traffic phase.
        phase: String,
    },
    /// Every constant rate of the trace that a bulk phase filled is what it delivered.
    ConstantRatesPass {
        /// The traffic phase.
        phase: String,
    },
    /// Power of the machine before the first phase is steady.
    IdlePowerStable,
    /// What a study shows.
    Study {
        /// The study.
        study: String,
        /// What is claimed of it.
        claim: StudyClaim,
    },
}

/// Faults that the agent injects on purpose, all zero in an honest run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultPlan {
    /// Stops the relay for so long in the middle of each calibration flow.
    pub stop_relay_ns: u64,
    /// Scales every rate that is played by this many parts per million (0: unscaled).
    pub scale_rate_ppm: u64,
    /// Adds to every delay that is played.
    pub add_delay_ns: u64,
    /// Delays every send of the load generator.
    pub delay_sends_ns: u64,
    /// Burns CPU on the CPUs of the first node, counted as the relay's.
    pub burn_relay_cpu: bool,
}

impl FaultPlan {
    /// Whether any fault is asked for.
    #[must_use]
    pub fn is_any(&self) -> bool {
        *self != FaultPlan::default()
    }
}

impl Plan {
    /// The node of that name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodePlan> {
        self.nodes.iter().find(|node| node.name == name)
    }

    /// The names and lengths of all phases, in the order in which they are played.
    pub fn phase_spans(&self) -> impl Iterator<Item = (&str, u64)> {
        let traffic = self
            .traffic
            .iter()
            .map(|phase| (phase.name.as_str(), phase.duration_ns));
        let phases = self
            .phases
            .iter()
            .map(|phase| (phase.name.as_str(), phase.duration_ns));
        let studies = self
            .studies
            .iter()
            .map(|study| (study.name.as_str(), study.duration_ns));
        let loads = self
            .loads
            .iter()
            .map(|load| (load.name.as_str(), load.duration_ns));
        traffic.chain(phases).chain(studies).chain(loads)
    }

    /// The link of that name.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<&LinkPlan> {
        self.links.iter().find(|link| link.name == name)
    }

    /// Whether the link of that name shares a cell.
    #[must_use]
    pub fn is_in_cell(&self, link: &str) -> bool {
        let users = self.cells.iter().flat_map(|cell| &cell.users);
        users.into_iter().any(|user| user.link == link)
    }
}

impl PhasePlan {
    /// The requests of the phase: every phase draws the same from the plan's seed.
    #[must_use]
    pub fn schedule(&self, seed: u64) -> Vec<ScheduledRequest> {
        self.requests
            .schedule(&mut hexloop_traces::stream(seed, "requests"))
    }
}

impl LinkPlan {
    /// The end that packets of this direction leave from.
    #[must_use]
    pub const fn sender(&self, direction: Direction) -> &LinkEnd {
        match direction {
            Direction::Up => &self.ends[0],
            Direction::Down => &self.ends[1],
        }
    }

    /// The end that packets of this direction arrive at.
    #[must_use]
    pub const fn receiver(&self, direction: Direction) -> &LinkEnd {
        self.sender(direction.reverse())
    }
}
