//! A small run made by hand: what the tests of verdict, summary and report judge.

mod events;
mod study;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hexloop_proto::{Event, LateHistogram};
use hexloop_topologies::plan::{
    CalibrationPlan, Claim, CpuQuota, DatapathChoice, ExpectationPlan, FaultPlan, LinkEnd,
    LinkPlan, MachinePlan, ModelPlan, ModelSource, NodeIsolation, NodePlan, PLAN_SCHEMA, PhasePlan,
    Plan, VerdictBounds,
};
use hexloop_traces::{
    Diagnostics, EndPolicy, LinkSettings, LinkState, TRACE_SCHEMA, Trace, TraceMetadata, TraceRow,
    TraceStatus, stream,
};
use hexloop_workloads::device::ComputeSettings;
use hexloop_workloads::job::Placement;
use hexloop_workloads::request::{RequestStream, open_unit};
use hexloop_workloads::transport::Transport;

pub(crate) use events::events;
pub(crate) use study::{idle_power, meter, study_spec, trial, with_study};

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
        provenance: hexloop_traces::Provenance::default(),
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

fn node(name: &str, index: u16, cpu_quota: Option<CpuQuota>) -> NodePlan {
    NodePlan {
        name: name.to_owned(),
        index,
        cpus: vec![u32::from(index)],
        cpu_quota,
        threads: 1,
        compute: ComputeSettings::default(),
        slowdown: None,
        congestion_control: None,
        isolation: NodeIsolation::default(),
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
        transport: Transport::Tcp,
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
            mode: hexloop_topologies::plan::RelayModePlan::default(),
            mtu: 1500,
            settings: LinkSettings::drop_tail(300_000),
        }],
        cells: Vec::new(),
        uncalibrated: Vec::new(),
        machine: MachinePlan::default(),
        calibration: CalibrationPlan {
            flow_ns: 3 * S,
            packet_payload_bytes: 1400,
            probe_gap_ns: 2 * MS,
            window_ns: 50 * MS,
        },
        traffic: Vec::new(),
        model: Some(ModelPlan {
            source: ModelSource::Recipe("tiny".to_owned()),
            layers: 6,
            width: 256,
            vocabulary: 1024,
            kv_heads: 4,
            head_width: 32,
            bytes_per_activation: 4,
        }),
        draft_model: None,
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
        studies: Vec::new(),
        loads: Vec::new(),
        background: Vec::new(),
        events: Vec::new(),
        commands: Vec::new(),
        verdict: VerdictBounds {
            rate_error_ppm: 10_000,
            delay_error_ns: 500_000,
            delay_error_ppm: 50_000,
            shaper_lateness_ns: MS,
            send_lateness_ppm: 10_000,
            backlogged_windows: 50,
            relay_cpu_ppm: 50_000,
            interrupt_cpu_ppm: 100_000,
            steal_ppm: None,
            timer_lateness_ns: None,
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
            memory_bytes: Some(8_000_000_000),
            load_average: Some([0.1, 0.2, 0.3]),
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
        model: Some(ModelOrigin {
            origin: "trained here by recipe tiny".to_owned(),
            weights_sha256: "1".repeat(64),
            layers: 6,
            width: 256,
            parameters: 4_983_040,
            engine: "candle 0.11.1 cpu avx512".to_owned(),
            chat_template_tokens: None,
            exits: Vec::new(),
            training: Known::Unknown {
                why: "no energy.json beside the model's files".to_owned(),
            },
        }),
        draft_model: None,
        end_to_end: None,
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
        unaccounted: BTreeMap::new(),
        torn: false,
    }
}

pub(crate) fn records() -> RunRecords {
    records_of(plan(), &events())
}
