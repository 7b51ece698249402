//! Everything that happens in a run, in the order the agent saw it.

use hexloop_traces::{Direction, LinkChange};
use hexloop_workloads::job::{JobTotals, RequestRecord};
use hexloop_workloads::load::ExchangeRecord;
use hexloop_workloads::study::StudyFinding;
use hexloop_workloads::traffic::TrafficRecord;
use serde::{Deserialize, Serialize};

use crate::{
    AskedAndGot, ChannelEnergy, CoolingReport, CoreSample, GpuSample, IdlePower, InterruptCpu,
    LinkCapture, MeterChannel, MeterReadings, MeteringCost, NodeCounters, NoiseReport, Unmetered,
};

/// A quantity, or the reason why there is none. What nobody measured is never a number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measurement {
    /// Read from a sensor or counter.
    Measured {
        /// The value, in the unit of the field that holds it.
        value: f64,
        /// Which sensor or counter.
        source: String,
    },
    /// Computed from measured values.
    Derived {
        /// The value.
        value: f64,
        /// From what.
        source: String,
    },
    /// From a documented model.
    Estimated {
        /// The value.
        value: f64,
        /// Which model.
        source: String,
    },
    /// Not measured.
    Unavailable {
        /// Why, in words.
        why: String,
    },
}

impl Measurement {
    /// The value, in the unit of the field that holds it; `None` where it was not measured.
    #[must_use]
    pub const fn value(&self) -> Option<f64> {
        match self {
            Measurement::Measured { value, .. }
            | Measurement::Derived { value, .. }
            | Measurement::Estimated { value, .. } => Some(*value),
            Measurement::Unavailable { .. } => None,
        }
    }

    /// It times a factor: derived, unless it is estimated or was not measured.
    #[must_use]
    pub fn scaled(&self, factor: f64) -> Measurement {
        match self.clone() {
            Measurement::Measured { value, source } | Measurement::Derived { value, source } => {
                let value = value * factor;
                Measurement::Derived { value, source }
            }
            Measurement::Estimated { value, source } => {
                let value = value * factor;
                Measurement::Estimated { value, source }
            }
            unavailable @ Measurement::Unavailable { .. } => unavailable,
        }
    }
}

/// One event, with the moment it was due and the moment it was done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Number in the stream, from 0; a gap means lost events.
    pub sequence: u64,
    /// The phase it belongs to; `None` before the first and after the last.
    pub phase: Option<String>,
    /// When it was due, as an offset from the phase's T0 (from the agent's start outside of
    /// phases), in nanoseconds. Equal to `done_ns` for what has no due time.
    pub due_ns: i64,
    /// When it was done, on the same scale.
    pub done_ns: i64,
    /// What happened.
    #[serde(flatten)]
    pub body: EventBody,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum EventBody {
    /// The agent has started on the plan.
    AgentUp(AgentDescription),
    /// Settings of the machine or of a node: what was asked and what was read back.
    Settings {
        /// Each of them.
        settings: Vec<AskedAndGot>,
    },
    /// How quiet the machine was before anything was made.
    Noise(NoiseReport),
    /// A wait for the machine to cool down.
    Cooling(CoolingReport),
    /// A node exists.
    NodeUp(NodeUp),
    /// A link exists.
    LinkUp {
        /// The link.
        link: String,
        /// The datapath in use: `relay`, `tc` or `edt`.
        datapath: String,
        /// How it is relayed, if it is: `low-latency`, `exact` or `bulk`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mode: Option<String>,
        /// Why this one, and what it can and cannot do here.
        reason: String,
        /// Scheduling of its thread, such as `SCHED_FIFO 20 on CPU 1`.
        scheduling: String,
    },
    /// One direction of a link has been calibrated.
    Calibrated(LinkCalibration),
    /// Jobs are ready and the phase begins.
    PhaseStarted {
        /// T0 on `CLOCK_MONOTONIC`, in nanoseconds.
        t0_monotonic_ns: u64,
        /// T0 in nanoseconds since 1970, for dating only.
        t0_wall_clock_ns: u64,
    },
    /// A job has loaded its model and waits for T0.
    JobReady {
        /// The node it runs on.
        node: String,
        /// Bytes of weights it holds.
        weight_bytes: u64,
        /// Kernels of the engine.
        engine_path: String,
    },
    /// A request has ended.
    Request {
        /// The node that sent it.
        node: String,
        /// What it experienced.
        record: RequestRecord,
    },
    /// What the exchange of a request with a server was that is no part of this program.
    Exchange {
        /// The node that sent it.
        node: String,
        /// What.
        record: ExchangeRecord,
    },
    /// One window of one direction of a link.
    LinkWindow(LinkWindow),
    /// One sample of a node.
    NodeSample(NodeSample),
    /// Readings of every meter at some moments.
    Meters(MeterReadings),
    /// The slow things about a GPU.
    Gpu(GpuSample),
    /// What the machine's CPUs did since the last such sample.
    Cores(CoreSample),
    /// Power of the machine with nodes and links up and no job.
    Idle(IdlePower),
    /// A program of the experiment has ended.
    CommandExit(CommandExit),
    /// A link was changed while it played. The event is due when that was asked for and done when
    /// it took hold.
    LinkChanged(LinkChanged),
    /// What a process of a traffic phase has measured.
    Traffic {
        /// Its node.
        node: String,
        /// The link that it crosses; `None` for what burns CPU time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        link: Option<String>,
        /// What.
        record: TrafficRecord,
    },
    /// What a study has found.
    Study {
        /// The driver's node.
        node: String,
        /// What.
        finding: StudyFinding,
    },
    /// A phase is over: totals.
    PhaseEnded(PhaseEnd),
    /// A line that a process of the experiment wrote to standard error.
    Log {
        /// The node.
        node: String,
        /// The job or command.
        job: String,
        /// The line.
        line: String,
    },
    /// Something the reader of the results should know.
    Warning {
        /// What.
        message: String,
    },
    /// Events that were dropped because the reader was slow, and windows and packets that the
    /// tap of a link had no room for.
    Dropped {
        /// How many.
        count: u64,
    },
    /// The run failed.
    Failed {
        /// What failed.
        message: String,
        /// The exit code it calls for (see the table of exit codes).
        exit_code: u8,
    },
    /// What was captured of one direction of a link, where that was asked for.
    Captured(LinkCapture),
    /// Everything has been taken down: the last event.
    TakenDown {
        /// What could not be taken down, in words; empty when all is clean.
        leftovers: Vec<String>,
        /// Energy of the machine over the whole run in joules, or why there is none.
        #[serde(default)]
        energy_j: Option<Measurement>,
        /// What reading the meters cost; `None` where there was nothing to read.
        #[serde(default)]
        metering: Option<MeteringCost>,
    },
}

/// Who plays the plan, and on what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AgentDescription {
    /// Software version.
    pub version: String,
    /// `root` or `user-namespace`.
    pub privilege: String,
    /// User and group that jobs run as, as the host sees them.
    pub job_user: String,
    /// Kernel release.
    pub kernel: String,
    /// How CPU shares are enforced: `cgroup-v2`, `cgroup-v1`, `stop-continue`, or `none`.
    pub cpu_control: String,
    /// Why there is no energy yet: it comes per phase, and for the whole run at its end.
    pub energy_j: Measurement,
    /// What is metered, in the order of every reading of the run.
    #[serde(default)]
    pub meters: Vec<MeterChannel>,
    /// What is not metered, and why.
    #[serde(default)]
    pub unmetered: Vec<Unmetered>,
}

/// A node that exists.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeUp {
    /// Its name.
    pub node: String,
    /// Process id of its first process, as the host sees it.
    pub pid: u32,
    /// Where it may run: asked and got.
    pub pinning: CpuPinning,
    /// What keeps others away from it: asked and got.
    #[serde(default)]
    pub isolation: Vec<AskedAndGot>,
    /// UUID of its GPU, if it was given one.
    #[serde(default)]
    pub gpu: Option<String>,
    /// What controls the congestion of its TCP connections, read back; `None` in records from before that was set.
    #[serde(default)]
    pub congestion_control: Option<String>,
}

/// CPUs and CPU time of a node: what was asked and what was read back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CpuPinning {
    /// CPUs asked for.
    pub asked_cpus: Vec<u32>,
    /// CPUs read back after setting.
    pub got_cpus: Vec<u32>,
    /// How they were set: `cgroup-v2 cpuset`, `cgroup-v1 cpuset` or `affinity`.
    pub cpus_by: String,
    /// CPU time per wall time asked for; `None` without a quota.
    pub asked_quota: Option<f64>,
    /// The same, read back.
    pub got_quota: Option<f64>,
    /// The period read back, in microseconds.
    pub got_period_us: Option<u64>,
    /// How it is enforced: `cgroup-v2 cpu.max`, `cgroup-v1 cfs_quota`, `stop-continue`, `none`.
    pub quota_by: String,
}

/// A histogram of lateness or delay error, in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LateHistogram {
    /// Number of values.
    pub count: u64,
    /// 50th percentile, in nanoseconds; `None` without values.
    pub p50_ns: Option<u64>,
    /// 99th percentile; `None` with fewer than 459 values.
    pub p99_ns: Option<u64>,
    /// Largest value; `None` without values.
    pub max_ns: Option<u64>,
    /// The whole histogram in HdrHistogram's V2 encoding, base64.
    pub v2_base64: String,
}

/// What calibration found in one direction of a link.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkCalibration {
    /// The link.
    pub link: String,
    /// The direction.
    pub direction: Direction,
    /// Windows in which the queue was never empty.
    pub backlogged_windows: u64,
    /// IP bytes that arrived at the receiving interface in those windows.
    pub delivered_bytes: u64,
    /// IP bytes that the trace allows in them, at the same moments less the delay.
    pub trace_bytes: u64,
    /// One-way delay of probes on an empty queue: |measured - asked|.
    pub delay_error: LateHistogram,
    /// The delay that was asked for, the median over the probes, in nanoseconds.
    pub asked_delay_ns: u64,
    /// Probes sent and not received.
    pub probes_lost: u64,
    /// How late the shaper sent, against each packet's due time; empty for `tc`.
    pub lateness: LateHistogram,
    /// A step of the wall clock against the monotonic one while measuring, in nanoseconds.
    pub clock_step_ns: i64,
}

/// One direction of a link in one window of time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LinkWindow {
    /// The link.
    pub link: String,
    /// The direction.
    pub direction: Direction,
    /// Start, as an offset from T0.
    pub start_ns: u64,
    /// Length.
    pub length_ns: u64,
    /// IP bytes that the trace allows in this window, at the same moments less the delay.
    pub trace_bytes: u64,
    /// IP bytes that arrived at the receiving interface (kernel packet stamps there).
    pub delivered_bytes: u64,
    /// Packets that arrived.
    pub delivered_packets: u64,
    /// Whether the queue was never empty.
    pub backlogged: bool,
    /// The longest queue in the window, in bytes.
    pub queue_bytes: u64,
    /// Packets that found the queue full or that its discipline dropped.
    pub dropped_packets: u64,
    /// Packets lost as the trace asks.
    pub lost_packets: u64,
    /// Packets that the queue's discipline marked (RFC 3168) instead of dropping them.
    #[serde(default)]
    pub marked_packets: u64,
    /// Packets of which there came another one, as the trace asks.
    #[serde(default)]
    pub duplicated_packets: u64,
    /// Packets with a flipped bit, as the trace asks.
    #[serde(default)]
    pub corrupted_packets: u64,
}

/// A change of a link that somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkControl {
    /// The link.
    pub link: String,
    /// The directions of it that change; settings change in both.
    pub directions: Vec<Direction>,
    /// What changes.
    pub change: LinkChange,
}

/// A change of a link that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkChanged {
    /// The event of the plan that asked for it; `None` if it was made by hand.
    pub asked_by: Option<String>,
    /// What was asked for.
    pub control: LinkControl,
    /// From when on it holds, as an offset from T0.
    pub at_ns: u64,
}

/// One sample of a node's processes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeSample {
    /// The node.
    pub node: String,
    /// When, as an offset from T0.
    pub at_ns: u64,
    /// CPU time of its processes since the phase began, in nanoseconds.
    pub cpu_ns: u64,
    /// Resident memory of its processes, in bytes.
    pub memory_bytes: u64,
    /// Periods in which the quota held it up, since the phase began; `None` where not counted.
    pub throttled_periods: Option<u64>,
}

/// A program of the experiment that has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandExit {
    /// The command.
    pub command: String,
    /// Its exit status, or the signal that ended it.
    pub status: String,
}

/// Counters of the kernel's TCP in a node's network namespace over a phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpCounters {
    /// Segments sent, those that only retransmit not counted.
    pub segments_out: u64,
    /// Segments retransmitted.
    pub segments_retransmitted: u64,
}

/// Counters of one direction of a link over a phase, from the receiving interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkCounters {
    /// The link.
    pub link: String,
    /// The direction.
    pub direction: Direction,
    /// Bytes, Ethernet headers included.
    pub wire_bytes: u64,
    /// Packets.
    pub packets: u64,
}

/// What one node's job cost in a phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobResources {
    /// The node.
    pub node: String,
    /// What the job itself reported at its end; `None` if it did not get to that.
    pub totals: Option<JobTotals>,
    /// CPU time of all the node's processes in the phase, in nanoseconds.
    pub cpu_ns: u64,
    /// Highest resident memory seen, in bytes.
    pub memory_peak_bytes: u64,
    /// TCP in the node's network namespace.
    pub tcp: TcpCounters,
    /// What else the kernel counted of it; `None` in records of earlier versions.
    #[serde(default)]
    pub counters: Option<NodeCounters>,
}

/// Totals of a phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PhaseEnd {
    /// Length of the phase as it was, in nanoseconds.
    pub duration_ns: u64,
    /// Both directions of every link.
    pub links: Vec<LinkCounters>,
    /// Every node's job.
    pub jobs: Vec<JobResources>,
    /// Lateness of the shaper, per link and direction, over the phase.
    pub lateness: Vec<(String, Direction, LateHistogram)>,
    /// CPU time that relay threads took on the CPUs of each node, in nanoseconds.
    pub relay_cpu_ns: Vec<(String, u64)>,
    /// CPU time that interrupts took on the CPUs of each node.
    #[serde(default)]
    pub interrupt_cpu: Vec<InterruptCpu>,
    /// Energy of the machine over the phase in joules, or why there is none.
    pub energy_j: Measurement,
    /// What the windows of the counters leave open of it, in joules.
    #[serde(default)]
    pub energy_uncertainty_j: Option<f64>,
    /// Every channel's energy over the phase, in the order of [`AgentDescription::meters`].
    #[serde(default)]
    pub energy_by_channel: Vec<ChannelEnergy>,
    /// What the machine's CPUs did over the phase.
    #[serde(default)]
    pub cores: Option<CoreSample>,
    /// The largest step of the wall clock against the monotonic one between two looks of any
    /// link's tap, in nanoseconds, with its sign.
    #[serde(default)]
    pub clock_step_ns: i64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CaptureOutcome;
    use hexloop_traces::PlaybackChange;
    use hexloop_workloads::traffic::{ProbeRecord, TrafficRecord};

    #[test]
    fn events_of_links_and_traffic_read_back_as_they_were_written() {
        let control = LinkControl {
            link: "radio".to_owned(),
            directions: Direction::BOTH.to_vec(),
            change: LinkChange::Play(PlaybackChange::Jump { to_ns: 7 }),
        };
        let changed = LinkChanged {
            asked_by: Some("blockage".to_owned()),
            control,
            at_ns: 9,
        };
        let probe = ProbeRecord {
            sent_ns: 1,
            round_trip_ns: Some(2),
            held_ns: 3,
            unseen_ns: 4,
        };
        let record = TrafficRecord {
            probes: vec![probe],
            ..TrafficRecord::default()
        };
        let traffic = EventBody::Traffic {
            node: "first".to_owned(),
            link: Some("radio".to_owned()),
            record,
        };
        let captured = |outcome| {
            EventBody::Captured(LinkCapture {
                link: "radio".to_owned(),
                direction: Direction::Up,
                outcome,
            })
        };
        let written = captured(CaptureOutcome::Written {
            file: "radio-up.pcapng".to_owned(),
            packets: 5,
            missed_packets: 1,
            cut_short: Some("the disk is full".to_owned()),
        });
        let unavailable = captured(CaptureOutcome::Unavailable {
            why: "tc".to_owned(),
        });
        for body in [
            EventBody::LinkChanged(changed),
            traffic,
            written,
            unavailable,
        ] {
            let event = Event {
                sequence: 3,
                phase: Some("bulk".to_owned()),
                due_ns: -1,
                done_ns: 1,
                body,
            };
            let text = serde_json::to_string(&event).unwrap();
            assert_eq!(
                serde_json::from_str::<Event>(&text).unwrap(),
                event,
                "{text}"
            );
        }
    }
}
