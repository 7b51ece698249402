//! A stage, a plan with two nodes, and a program that does not end by itself.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hexloop_agent::cgroup::Controllers;
use hexloop_agent::configuration::Configuration;
use hexloop_agent::guardian::Guardian;
use hexloop_agent::play::{ControlDesk, EventSink, PlayInput, Stage, StopWish, play};
use hexloop_agent::privilege::Privilege;
use hexloop_agent::process::SelfCommand;
use hexloop_agent::telemetry::sources::MeterSources;
use hexloop_proto::Event;
use hexloop_telemetry::{Origin, Places};
use hexloop_topologies::plan::{
    CalibrationPlan, CommandPlan, CpuQuota, FaultPlan, MachinePlan, ModelPlan, ModelSource,
    NodeIsolation, NodePlan, PLAN_SCHEMA, PhasePlan, Plan, VerdictBounds,
};
use hexloop_workloads::device::ComputeSettings;
use hexloop_workloads::job::Placement;
use hexloop_workloads::request::RequestStream;
use hexloop_workloads::transport::Transport;
use tokio::sync::mpsc;

/// This test program in the part of `hexloop agent PART`: the harness runs one test, and
/// what follows `--` is for [`plays_the_part_it_is_given`].
pub(crate) fn this_program() -> SelfCommand {
    let arguments = [
        "--exact",
        "tests::plays_the_part_it_is_given",
        "--nocapture",
        "--",
    ];
    SelfCommand::with_arguments(arguments.iter().map(Into::into).collect())
}

pub(crate) fn node_plan(name: &str, index: u16, cpu_quota: Option<CpuQuota>) -> NodePlan {
    NodePlan {
        name: name.to_owned(),
        index,
        cpus: vec![0],
        cpu_quota,
        threads: 1,
        compute: ComputeSettings::default(),
        slowdown: None,
        congestion_control: None,
        isolation: NodeIsolation::default(),
    }
}

/// Two nodes without a link, one phase on the device, one command that leaves a daemon.
pub(crate) fn plan(daemon: &str) -> Plan {
    let quota = CpuQuota {
        quota_us: 2000,
        period_us: 4000,
    };
    let daemonise = format!("setsid {daemon} 600 & setsid {daemon} 600 & echo left two");
    Plan {
        schema: PLAN_SCHEMA,
        experiment: "nodes".to_owned(),
        preset: None,
        seed: 1,
        nodes: vec![
            node_plan("<device>", 0, Some(quota)),
            node_plan("edge", 1, None),
        ],
        links: Vec::new(),
        cells: Vec::new(),
        uncalibrated: Vec::new(),
        machine: MachinePlan::default(),
        calibration: CalibrationPlan {
            flow_ns: 0,
            packet_payload_bytes: 0,
            probe_gap_ns: 0,
            window_ns: 0,
        },
        traffic: Vec::new(),
        model: Some(ModelPlan {
            source: ModelSource::Recipe("tiny".to_owned()),
            layers: 1,
            width: 1,
            vocabulary: 1,
            kv_heads: 1,
            head_width: 1,
            bytes_per_activation: 4,
        }),
        draft_model: None,
        phases: vec![PhasePlan {
            name: "device".to_owned(),
            placement: Placement::Device,
            device: "<device>".to_owned(),
            edge: "edge".to_owned(),
            link: "radio".to_owned(),
            edge_address: "10.0.0.2:7000".parse().unwrap(),
            transport: Transport::Tcp,
            requests: RequestStream {
                arrivals_per_kilosecond: 1000,
                prompt_tokens: 1,
                output_tokens: 1,
                arrivals_for_ns: 1_000_000_000,
                deadline_ns: 1_000_000_000,
            },
            duration_ns: 20_000_000_000,
        }],
        studies: Vec::new(),
        loads: Vec::new(),
        background: Vec::new(),
        events: Vec::new(),
        commands: vec![CommandPlan {
            environment: Vec::new(),
            directory: None,
            ready: None,
            lives: false,
            name: "daemons".to_owned(),
            node: "edge".to_owned(),
            argv: ["sh", "-c", &daemonise].map(str::to_owned).to_vec(),
        }],
        verdict: VerdictBounds {
            rate_error_ppm: 0,
            delay_error_ns: 0,
            delay_error_ppm: 0,
            shaper_lateness_ns: 0,
            send_lateness_ppm: 0,
            backlogged_windows: 0,
            relay_cpu_ppm: 0,
            interrupt_cpu_ppm: 0,
            steal_ppm: None,
            timer_lateness_ns: None,
        },
        expectations: Vec::new(),
        faults: FaultPlan::default(),
    }
}

/// A program that does nothing for long, with a name of its own so that it can be counted.
pub(crate) fn daemon_program(root: &Path) -> PathBuf {
    let name = format!("hxd{}", std::process::id());
    let path = root.join(name);
    let sleep = ["/bin/sleep", "/usr/bin/sleep"]
        .into_iter()
        .find(|p| Path::new(p).exists());
    fs::copy(sleep.unwrap(), &path).unwrap();
    path
}

pub(crate) fn directory_for_everybody() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let open = |path: &Path| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(path, mode).unwrap();
    };
    open(root.path());
    let model = root.path().join("model");
    fs::create_dir(&model).unwrap();
    fs::write(model.join("config.json"), "{}").unwrap();
    open(&model);
    root
}

pub(crate) fn stage(root: &Path, privilege: Privilege) -> Stage {
    let state = root.join("state");
    Stage {
        program: this_program(),
        privilege,
        credentials: (privilege == Privilege::Root).then_some((65_534, 65_534)),
        job_user: "nobody".to_owned(),
        controllers: Controllers::detect(),
        guardian: Arc::new(Guardian::start_as(&this_program(), &state, "test").unwrap()),
        meters: MeterSources::at(Places {
            root: "/nowhere".into(),
            nvml: None,
            with_nvml: false,
            origin: Origin::Stub,
        }),
        allowed: Configuration::nothing(),
    }
}

pub(crate) fn input(root: &Path, plan: Plan) -> PlayInput {
    PlayInput {
        plan,
        traces: BTreeMap::new(),
        model_directory: Some(root.join("model")),
        draft_model_directory: None,
        capture: None,
    }
}

pub(crate) fn play_to_the_end(stage: &Stage, input: &PlayInput) -> Vec<Event> {
    let (sender, mut receiver) = mpsc::channel(4096);
    let events = Arc::new(EventSink::new(sender));
    let desk = ControlDesk::default();
    play(stage, input, &events, &StopWish::default(), &desk);
    drop(events);
    std::iter::from_fn(move || receiver.blocking_recv()).collect()
}
