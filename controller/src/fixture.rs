//! A small run made by hand: what the tests of verdict, summary and report judge.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hexloop_proto::{
    AgentDescription, CpuPinning, Event, EventBody, JobResources, LateHistogram, LinkCalibration,
    LinkCounters, LinkWindow, Measurement, NodeSample, NodeUp, PhaseEnd, TcpCounters,
};
use hexloop_topologies::plan::{
    CalibrationPlan, Claim, CpuQuota, DatapathChoice, ExpectationPlan, FaultPlan, LinkEnd,
    LinkPlan, ModelPlan, ModelSource, NodePlan, PLAN_SCHEMA, PhasePlan, Plan, VerdictBounds,
};
use hexloop_traces::{
    Diagnostics, Direction, EndPolicy, LinkState, TRACE_SCHEMA, Trace, TraceMetadata, TraceRow,
    TraceStatus, stream,
};
use hexloop_workloads::job::{JobTotals, Outcome, Placement, RequestRecord};
use hexloop_workloads::request::{RequestStream, open_unit};
use hexloop_workloads::wire::{
    PayloadBytes, edge_request_payload, handshake_payload, split_request_payload,
};

use crate::record::RunRecords;
use crate::record::environment::{Environment, GitState, Known, Machine, ModelOrigin};
use crate::results::Results;

pub(crate) const MS: u64 = 1_000_000;
pub(crate) const S: u64 = 1_000_000_000;

const OUTAGE: (u64, u64) = (8 * S, 10 * S + 500 * MS);
const PHASE_NS: u64 = 20 * S;
const WINDOW_NS: u64 = 100 * MS;

pub(crate) fn trace() -> Trace {
    let mut random = stream(7, "fixture trace");
    let mut rows = Vec::new();
    for index in 0..200 {
        let t_ns = index * WINDOW_NS;
        let blocked = (OUTAGE.0..OUTAGE.1).contains(&t_ns);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "below 2^53"
        )]
        let share = (open_unit(&mut random) * 1000.0) as u64;
        let down = if blocked {
            0
        } else {
            120_000_000 + share * 180_000
        };
        let state = |rate_bps| LinkState {
            rate_bps,
            delay_ns: 4 * MS,
            ..LinkState::TRANSPARENT
        };
        rows.push(TraceRow {
            t_ns,
            down: state(down),
            up: state(down / 4),
            diagnostics: Diagnostics::default(),
        });
    }
    let metadata = TraceMetadata {
        schema: TRACE_SCHEMA,
        scenario: "street-fr3-blockage".to_owned(),
        status: TraceStatus::Simplified,
        duration_ns: PHASE_NS,
        end: EndPolicy::Loop,
        seed: Some(7),
        generator: "fixture 1".to_owned(),
        configuration: BTreeMap::new(),
        notes: vec!["made by hand for tests; not calibrated against any specification".to_owned()],
    };
    Trace::new(metadata, rows).expect("a valid trace")
}

fn end(node: &str, last: u8) -> LinkEnd {
    LinkEnd {
        node: node.to_owned(),
        interface: format!("hx0{last}"),
        ipv4: IpAddr::V4(Ipv4Addr::new(10, 77, 0, last)),
        ipv6: IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, u16::from(last))),
        mac: [2, 0x68, 0x78, 0, 0, last],
    }
}

fn node(name: &str, index: u8, cpu_quota: Option<CpuQuota>) -> NodePlan {
    NodePlan {
        name: name.to_owned(),
        index,
        cpus: vec![u32::from(index)],
        cpu_quota,
        threads: 1,
    }
}

fn phase(name: &str, placement: Placement, port: u16) -> PhasePlan {
    PhasePlan {
        name: name.to_owned(),
        placement,
        device: "device".to_owned(),
        edge: "edge".to_owned(),
        link: "radio".to_owned(),
        edge_address: (Ipv4Addr::new(10, 77, 0, 2), port).into(),
        requests: RequestStream {
            arrivals_per_kilosecond: 1500,
            prompt_tokens: 64,
            output_tokens: 24,
            arrivals_for_ns: 16 * S,
            deadline_ns: 10 * S,
        },
        duration_ns: PHASE_NS,
    }
}

pub(crate) fn plan() -> Plan {
    let expect = |name: &str, claim| ExpectationPlan {
        name: name.to_owned(),
        claim,
    };
    let name = |phase: &str| phase.to_owned();
    Plan {
        schema: PLAN_SCHEMA,
        experiment: "quickstart".to_owned(),
        preset: None,
        seed: 7,
        nodes: vec![
            node(
                "device",
                0,
                Some(CpuQuota {
                    quota_us: 2500,
                    period_us: 5000,
                }),
            ),
            node("edge", 1, None),
        ],
        links: vec![LinkPlan {
            name: "radio".to_owned(),
            index: 0,
            ends: [end("device", 1), end("edge", 2)],
            trace: "street".to_owned(),
            trace_sha256: "0".repeat(64),
            datapath: DatapathChoice::Auto,
            mtu: 1500,
            queue_bytes: 300_000,
        }],
        calibration: CalibrationPlan {
            flow_ns: 3 * S,
            packet_payload_bytes: 1400,
            probe_gap_ns: 2 * MS,
            window_ns: 50 * MS,
        },
        model: ModelPlan {
            source: ModelSource::Recipe("tiny".to_owned()),
            layers: 6,
            width: 256,
            bytes_per_activation: 4,
        },
        phases: vec![
            phase("device", Placement::Device, 7800),
            phase("edge", Placement::Edge, 7801),
            phase(
                "split",
                Placement::Split {
                    layers_on_device: 2,
                },
                7802,
            ),
        ],
        commands: Vec::new(),
        verdict: VerdictBounds {
            rate_error_ppm: 10_000,
            delay_error_ns: 500_000,
            delay_error_ppm: 50_000,
            shaper_lateness_ns: MS,
            send_lateness_ppm: 10_000,
            backlogged_windows: 50,
            relay_cpu_ppm: 50_000,
        },
        expectations: vec![
            expect(
                "the same tokens wherever the layers run",
                Claim::SameTokens {
                    phases: vec![name("device"), name("edge"), name("split")],
                },
            ),
            expect(
                "edge payload",
                Claim::PayloadFormula {
                    phase: name("edge"),
                },
            ),
            expect(
                "split payload",
                Claim::PayloadFormula {
                    phase: name("split"),
                },
            ),
            expect(
                "the device goes on",
                Claim::GoesOnInOutage {
                    phase: name("device"),
                },
            ),
            expect(
                "the edge stalls",
                Claim::StallsInOutage {
                    phase: name("edge"),
                },
            ),
            expect(
                "the split model stalls",
                Claim::StallsInOutage {
                    phase: name("split"),
                },
            ),
            expect(
                "everything completes",
                Claim::AllCompleted {
                    phase: name("split"),
                },
            ),
        ],
        faults: FaultPlan::default(),
    }
}

pub(crate) fn late(count: u64, p50_ns: u64, p99_ns: u64, max_ns: u64) -> LateHistogram {
    LateHistogram {
        count,
        p50_ns: (count > 0).then_some(p50_ns),
        p99_ns: (count >= 459).then_some(p99_ns),
        max_ns: (count > 0).then_some(max_ns),
        v2_base64: String::new(),
    }
}

/// Events with numbers, one after the other.
#[derive(Default)]
struct Log {
    events: Vec<Event>,
}

impl Log {
    fn add(&mut self, phase: Option<&str>, at_ns: u64, body: EventBody) {
        let sequence = u64::try_from(self.events.len()).expect("few events");
        let at_ns = i64::try_from(at_ns).expect("a short run");
        let phase = phase.map(str::to_owned);
        self.events.push(Event {
            sequence,
            phase,
            due_ns: at_ns,
            done_ns: at_ns,
            body,
        });
    }
}

pub(crate) fn events() -> Vec<Event> {
    let mut log = Log::default();
    let unavailable = || Measurement::Unavailable {
        why: "no sensor: neither RAPL nor NVML is present on this machine".to_owned(),
    };
    log.add(
        None,
        0,
        EventBody::AgentUp(AgentDescription {
            version: "0.1.0".to_owned(),
            privilege: "root".to_owned(),
            job_user: "65534:65534".to_owned(),
            kernel: "6.18.0".to_owned(),
            cpu_control: "cgroup-v1".to_owned(),
            energy_j: unavailable(),
        }),
    );
    for (index, name) in [(0, "device"), (1, "edge")] {
        let quota = (index == 0).then_some(0.5);
        let pinning = CpuPinning {
            asked_cpus: vec![index],
            got_cpus: vec![index],
            cpus_by: "cgroup-v1 cpuset".to_owned(),
            asked_quota: quota,
            got_quota: quota,
            got_period_us: quota.map(|_| 5000),
            quota_by: "cgroup-v1 cfs_quota".to_owned(),
        };
        let up = NodeUp {
            node: name.to_owned(),
            pid: 100 + index,
            pinning,
        };
        log.add(None, MS, EventBody::NodeUp(up));
    }
    log.add(
        None,
        2 * MS,
        EventBody::LinkUp {
            link: "radio".to_owned(),
            datapath: "relay".to_owned(),
            reason: "this kernel has no netem".to_owned(),
            scheduling: "SCHED_FIFO 20".to_owned(),
        },
    );
    for (direction, trace_bytes) in [(Direction::Down, 78_750_000), (Direction::Up, 19_687_500)] {
        log.add(
            None,
            3 * S,
            EventBody::Calibrated(LinkCalibration {
                link: "radio".to_owned(),
                direction,
                backlogged_windows: 58,
                delivered_bytes: trace_bytes - trace_bytes / 900,
                trace_bytes,
                delay_error: late(1480, 21_000, 180_000, 900_000),
                asked_delay_ns: 4 * MS,
                probes_lost: 0,
                lateness: late(52_000, 9_000, 140_000, 1_900_000),
                clock_step_ns: 120,
            }),
        );
    }
    for phase in &plan().phases {
        play_phase(&mut log, phase, &unavailable());
    }
    log.add(
        None,
        70 * S,
        EventBody::TakenDown {
            leftovers: Vec::new(),
        },
    );
    log.events
}

/// When a token that is ready now reaches the device, past the outage if there is one.
fn arrival(placement: Placement, ready_ns: u64) -> u64 {
    let on_link = !matches!(placement, Placement::Device);
    if on_link && ready_ns + 4 * MS > OUTAGE.0 && ready_ns < OUTAGE.1 {
        return OUTAGE.1 + 4 * MS + ready_ns % (20 * MS);
    }
    ready_ns + if on_link { 4 * MS } else { 0 }
}

fn request(phase: &PhasePlan, id: u32, scheduled_ns: u64, free_ns: &mut u64) -> RequestRecord {
    let mut random = stream(u64::from(id), &phase.name);
    let mut jitter = |mean_ms: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small"
        )]
        let ns = (mean_ms * 1e6 * (0.8 + 0.4 * open_unit(&mut random))) as u64;
        ns
    };
    let (prefill_ms, token_ms) = match phase.placement {
        Placement::Device => (140.0, 19.0),
        Placement::Edge => (38.0, 5.5),
        Placement::Split { .. } => (78.0, 10.5),
    };
    let mut now = scheduled_ns.max(*free_ns) + jitter(prefill_ms);
    let mut token_ns = Vec::new();
    for _ in 0..phase.requests.output_tokens {
        now = arrival(phase.placement, now);
        token_ns.push(now);
        now += jitter(token_ms);
    }
    *free_ns = token_ns.last().copied().unwrap_or(0);
    let tokens: Vec<u32> = (0..phase.requests.output_tokens)
        .map(|n| (id * 31 + n * 7) % 1024)
        .collect();
    let payload = match phase.placement {
        Placement::Device => PayloadBytes::default(),
        Placement::Edge => edge_request_payload(64, 24),
        Placement::Split { .. } => split_request_payload(64, 24, 256, 4),
    };
    RequestRecord {
        id,
        scheduled_ns,
        sent_ns: scheduled_ns + 40_000,
        token_ns,
        prompt_tokens: 64,
        tokens,
        outcome: Outcome::Completed,
        payload,
    }
}

fn play_phase(log: &mut Log, phase: &PhasePlan, energy_j: &Measurement) {
    let name = Some(phase.name.as_str());
    let started = EventBody::PhaseStarted {
        t0_monotonic_ns: 5 * S,
        t0_wall_clock_ns: 1_795_219_199 * S,
    };
    for node in ["device", "edge"] {
        let ready = EventBody::JobReady {
            node: node.to_owned(),
            weight_bytes: 18_000_000,
            engine_path: "candle 0.11.1 cpu avx512".to_owned(),
        };
        log.add(name, 0, ready);
    }
    log.add(name, 0, started);
    let schedule = phase.requests.schedule(&mut stream(7, "requests"));
    let mut free_ns = 0;
    let records: Vec<RequestRecord> = schedule
        .iter()
        .map(|planned| request(phase, planned.id, planned.due_ns, &mut free_ns))
        .collect();
    let mut totals = PayloadBytes::default();
    for record in &records {
        totals.add(record.payload);
        let at = record.token_ns.last().copied().unwrap_or(0);
        let node = "device".to_owned();
        log.add(
            name,
            at,
            EventBody::Request {
                node,
                record: record.clone(),
            },
        );
    }
    windows(log, phase, &records);
    samples(log, phase, &records);
    let on_link = !matches!(phase.placement, Placement::Device);
    if on_link {
        totals.add(handshake_payload());
    }
    let packets = |payload: u64| if on_link { payload / 900 + 700 } else { 0 };
    let counters = |direction: Direction, payload: u64| LinkCounters {
        link: "radio".to_owned(),
        direction,
        wire_bytes: payload + packets(payload) * 66 + if on_link { 8 } else { 0 },
        packets: packets(payload),
    };
    let job = |node: &str, cpu_ns| JobResources {
        node: node.to_owned(),
        totals: (node == "device" || on_link).then_some(JobTotals {
            payload: totals,
            cpu_ns,
            load_ns: 90 * MS,
        }),
        cpu_ns,
        memory_peak_bytes: 64_000_000,
        tcp: TcpCounters {
            segments_out: packets(totals.up),
            segments_retransmitted: 0,
        },
    };
    let lateness = if on_link {
        late(3_000, 9_000, 120_000, 800_000)
    } else {
        late(0, 0, 0, 0)
    };
    let end = PhaseEnd {
        duration_ns: PHASE_NS,
        links: vec![
            counters(Direction::Down, totals.down),
            counters(Direction::Up, totals.up),
        ],
        jobs: vec![
            job("device", 7 * S),
            job("edge", if on_link { 3 * S } else { 60 * MS }),
        ],
        lateness: vec![
            ("radio".to_owned(), Direction::Down, lateness.clone()),
            ("radio".to_owned(), Direction::Up, lateness),
        ],
        relay_cpu_ns: vec![
            ("device".to_owned(), 90 * MS),
            ("edge".to_owned(), 110 * MS),
        ],
        energy_j: energy_j.clone(),
    };
    log.add(name, PHASE_NS, EventBody::PhaseEnded(end));
}

fn windows(log: &mut Log, phase: &PhasePlan, records: &[RequestRecord]) {
    let trace = trace();
    for row in trace.rows() {
        for direction in Direction::BOTH {
            let trace_bytes = row.direction(direction).rate_bps / 8 / 10;
            let inside = |at: &&u64| (row.t_ns..row.t_ns + WINDOW_NS).contains(*at);
            let tokens = records
                .iter()
                .flat_map(|record| &record.token_ns)
                .filter(inside)
                .count();
            let tokens = u64::try_from(tokens).expect("few tokens");
            let bytes = match (phase.placement, direction) {
                (Placement::Device, _) => 0,
                (Placement::Edge, Direction::Up) => tokens * 66,
                (_, Direction::Down) => tokens * (20 + 66),
                (Placement::Split { .. }, Direction::Up) => tokens * (1040 + 2600),
            };
            log.add(
                Some(&phase.name),
                row.t_ns + WINDOW_NS,
                EventBody::LinkWindow(LinkWindow {
                    link: "radio".to_owned(),
                    direction,
                    start_ns: row.t_ns,
                    length_ns: WINDOW_NS,
                    trace_bytes,
                    delivered_bytes: bytes.min(trace_bytes),
                    delivered_packets: tokens,
                    backlogged: false,
                    queue_bytes: bytes,
                    dropped_packets: 0,
                    lost_packets: 0,
                }),
            );
        }
    }
}

fn samples(log: &mut Log, phase: &PhasePlan, records: &[RequestRecord]) {
    let token_cpu_ns = match phase.placement {
        Placement::Device => [12 * MS, 0],
        Placement::Edge => [MS / 2, 5 * MS],
        Placement::Split { .. } => [4 * MS, 4 * MS],
    };
    for index in 0..=40 {
        let at_ns = index * 500 * MS;
        let before = |at: &&u64| **at <= at_ns;
        let tokens = records
            .iter()
            .flat_map(|record| &record.token_ns)
            .filter(before)
            .count();
        let tokens = u64::try_from(tokens).expect("few tokens");
        for (node, per_token) in ["device", "edge"].into_iter().zip(token_cpu_ns) {
            let sample = NodeSample {
                node: node.to_owned(),
                at_ns,
                cpu_ns: tokens * per_token + at_ns / 200,
                memory_bytes: 60_000_000,
                throttled_periods: Some(index),
            };
            log.add(Some(&phase.name), at_ns, EventBody::NodeSample(sample));
        }
    }
}

pub(crate) fn environment() -> Environment {
    Environment {
        schema_version: 1,
        run: "quickstart-20261120T235959Z-7".to_owned(),
        started: "2026-11-20 23:59:59 UTC".to_owned(),
        tool_version: "0.1.0".to_owned(),
        command: "hexloop run topologies/quickstart.toml --seed 7".to_owned(),
        seed: 7,
        machine: Machine {
            kernel: "Linux 6.18.0".to_owned(),
            architecture: "x86_64".to_owned(),
            cpu_model: "Example CPU".to_owned(),
            cpus: 2,
            memory_bytes: 8_000_000_000,
            load_average: [0.1, 0.2, 0.3],
            clock_source: "tsc".to_owned(),
            cgroups: "hybrid".to_owned(),
            gpu: Known::Unknown {
                why: "no NVIDIA driver is loaded".to_owned(),
            },
        },
        git: Known::Known(GitState {
            commit: "0123abcd".repeat(5),
            dirty: false,
        }),
        model: ModelOrigin {
            origin: "trained here by recipe tiny".to_owned(),
            weights_sha256: "1".repeat(64),
            layers: 6,
            width: 256,
            parameters: 4_983_040,
            engine: "candle 0.11.1 cpu avx512".to_owned(),
        },
        datapaths: BTreeMap::from([("radio".to_owned(), "relay".to_owned())]),
    }
}

pub(crate) fn records_of(plan: Plan, events: &[Event]) -> RunRecords {
    RunRecords {
        plan,
        plan_sha256: "2".repeat(64),
        traces: BTreeMap::from([("street".to_owned(), trace())]),
        environment: environment(),
        results: Results::from_events(events),
        torn: false,
    }
}

pub(crate) fn records() -> RunRecords {
    records_of(plan(), &events())
}
