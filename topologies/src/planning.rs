//! From a resolved experiment to the plan of one machine: CPUs, addresses, interface names.

mod cpus;
mod modes;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hexloop_traces::Gaps;
use hexloop_workloads::recipe::hexadecimal;
use hexloop_workloads::request::RequestStream;
use hexloop_workloads::study::StudySpec;
use hexloop_workloads::traffic::BackgroundSpec;
use hexloop_workloads::transport::Transport;
use rand_core::Rng as _;
use sha2::{Digest, Sha256};

use crate::experiment::{Cell, Experiment, Link, Node, Phase, Study, Technique};
use crate::model::{BYTES_PER_ACTIVATION, ModelShape};
use crate::plan::{
    BackgroundPlan, BesidePlan, CellPlan, CellUserPlan, LinkEnd, LinkPlan, LoadPlan, ModelPlan,
    ModelSource, NodePlan, PLAN_SCHEMA, PhasePlan, Plan, StudyPlan, TrafficPlan,
};
use crate::problem::{Problem, Problems, listed, quoted};
use crate::resolve::ResolvedExperiment;
use cpus::Wish;

/// What a plan must know about the machine that plays it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// The CPUs that may be used, in ascending order.
    pub cpus: Vec<u32>,
    /// The CPUs of each NUMA node; empty where nothing is known of them.
    pub numa_nodes: Vec<(u32, Vec<u32>)>,
    /// The GPUs that are on a known NUMA node: number, UUID, NUMA node.
    pub gpus: Vec<(u32, String, u32)>,
}

impl Machine {
    /// The NUMA node of a GPU, as an experiment names it.
    fn node_of_gpu(&self, asked: &str) -> Option<u32> {
        let mut gpus = self.gpus.iter();
        let found = gpus.find(|(number, uuid, _)| uuid == asked || asked.parse() == Ok(*number));
        found.map(|(.., node)| *node)
    }
}

/// A plan, and what its user should know about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// Notes, such as that nodes share CPUs.
    pub notes: Vec<String>,
}

/// The port that the edge listens at in the first phase; each further phase takes the next.
const FIRST_EDGE_PORT: u16 = 7800;

/// The same for traffic phases.
const FIRST_TRAFFIC_PORT: u16 = 17800;

/// The same for studies.
const FIRST_STUDY_PORT: u16 = 27800;

/// The same for traffic beside phases.
const FIRST_BACKGROUND_PORT: u16 = 37800;

/// The most nodes that a note lists by name.
const MOST_NAMED: usize = 8;

/// The first address of the links' networks, of the range that RFC 2544 sets aside.
const FIRST_IPV4: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);

/// Makes the plan. The same experiment, seed and machine give the same plan, byte for byte.
///
/// # Errors
/// A node that asks for more CPUs than the machine has.
pub fn plan(resolved: &ResolvedExperiment, machine: &Machine) -> Result<Planned, Problems> {
    let experiment = &resolved.experiment;
    let mut problems = Vec::new();
    let mut notes = Vec::new();
    let nodes = nodes(resolved, machine, &mut problems, &mut notes);
    for (name, trace) in &resolved.traces {
        notes.extend(Gaps::of(&trace.trace).map(|gaps| format!("trace {name}: {gaps}")));
    }
    let links: Vec<LinkPlan> = numbered(&experiment.links)
        .map(|(index, link)| LinkPlan {
            name: link.name.clone(),
            index,
            ends: ends(index, link),
            trace: link.trace.clone(),
            trace_sha256: resolved
                .traces
                .get(&link.trace)
                .map(|trace| trace.sha256.clone())
                .unwrap_or_default(),
            datapath: link.datapath,
            mode: modes::of_link(resolved, link, &mut problems),
            mtu: link.mtu,
            settings: link.settings,
        })
        .collect();
    let phases = (FIRST_EDGE_PORT..).zip(&experiment.phases);
    let phases = phases
        .filter_map(|(port, phase)| {
            let link = links.iter().find(|link| link.name == phase.link)?;
            let requests = experiment.requests.clone()?;
            Some(phase_plan(phase, link, port, requests))
        })
        .collect();
    Problems::check(problems)?;
    let traffic = traffic(experiment, &links);
    let studies = studies(resolved, &links);
    let loads = loads(experiment, &links);
    let background = background(experiment, &links);
    let plan = Plan {
        schema: PLAN_SCHEMA,
        experiment: experiment.name.clone(),
        preset: experiment.preset.clone(),
        seed: experiment.seed,
        nodes,
        traffic,
        links,
        cells: cells(resolved),
        uncalibrated: experiment
            .links
            .iter()
            .filter(|link| !link.calibrate)
            .map(|link| link.name.clone())
            .collect(),
        machine: experiment.machine.clone(),
        calibration: experiment.calibration.clone(),
        model: model_plan(resolved.model, experiment.model.as_ref()),
        draft_model: model_plan(resolved.draft_model, experiment.draft_model.as_ref()),
        phases,
        studies,
        loads,
        background,
        events: experiment.events.clone(),
        commands: experiment.commands.clone(),
        verdict: experiment.verdict.clone(),
        expectations: experiment.expectations.clone(),
        faults: experiment.faults.clone(),
    };
    Ok(Planned { plan, notes })
}

fn model_plan(shape: Option<ModelShape>, source: Option<&ModelSource>) -> Option<ModelPlan> {
    let (shape, source) = (shape?, source?);
    Some(ModelPlan {
        source: source.clone(),
        layers: shape.layers,
        width: shape.width,
        vocabulary: shape.vocabulary,
        kv_heads: shape.kv_heads,
        head_width: shape.head_width,
        bytes_per_activation: BYTES_PER_ACTIVATION,
    })
}

/// The hash that names a plan in records: SHA-256 of its JSON, in hexadecimal.
///
/// # Errors
/// Never for a plan made here; JSON that cannot be written otherwise.
pub fn plan_sha256(plan: &Plan) -> Result<String, serde_json::Error> {
    Ok(hexadecimal(&Sha256::digest(serde_json::to_vec(plan)?)))
}

/// Elements with their number; checked experiments have fewer than 65536.
fn numbered<T>(elements: &[T]) -> impl Iterator<Item = (u16, &T)> {
    (0..=u16::MAX).zip(elements)
}

/// The nodes with their CPUs; see [`cpus`].
fn nodes(
    resolved: &ResolvedExperiment,
    machine: &Machine,
    problems: &mut Vec<Problem>,
    notes: &mut Vec<String>,
) -> Vec<NodePlan> {
    let experiment = &resolved.experiment;
    let count = machine.cpus.len();
    let wanted: usize = experiment.nodes.iter().map(wanted_cpus).sum();
    let wishes = experiment.nodes.iter().map(|node| Wish {
        count: wanted_cpus(node).min(count),
        near: node
            .isolation
            .gpu
            .as_ref()
            .and_then(|gpu| machine.node_of_gpu(&gpu.gpu)),
    });
    let chosen = cpus::choose(machine, &wishes.collect::<Vec<Wish>>());
    let mut plans = Vec::new();
    for ((index, node), cpus) in numbered(&experiment.nodes).zip(chosen) {
        let own = wanted_cpus(node);
        if own > count {
            let message = format!(
                "node {} asks for {own} CPUs; this machine has {count}",
                quoted(&node.name)
            );
            let help = "ask for fewer, or allow this process more CPUs (see `taskset -p $$`)";
            let path = ["nodes", &node.name, "cpus"];
            problems.push(
                experiment
                    .document
                    .problem(&path, message, Some(help.to_owned())),
            );
            continue;
        }
        plans.push(NodePlan {
            name: node.name.clone(),
            index,
            cpus,
            cpu_quota: node.cpu_quota,
            threads: node.cpus,
            compute: node.compute,
            slowdown: node.slowdown,
            congestion_control: node.congestion_control.clone(),
            isolation: node.isolation.clone(),
        });
    }
    if wanted > count && problems.is_empty() {
        let names = if experiment.nodes.len() > MOST_NAMED {
            format!("{} nodes", experiment.nodes.len())
        } else {
            let names = listed(experiment.nodes.iter().map(|node| node.name.as_str()));
            format!("nodes {names}")
        };
        notes.push(format!(
            "{names} ask for {wanted} CPUs together and share the {count} of this machine: they \
             slow each other down"
        ));
    } else if wanted == count {
        notes.push(format!(
            "the nodes take all {count} CPUs of this machine: the relay and the controller run on \
             theirs, and the verdict judges how much that took"
        ));
    }
    plans
}

fn wanted_cpus(node: &Node) -> usize {
    usize::try_from(node.cpus).unwrap_or(usize::MAX)
}

/// Addresses and names follow from numbers alone, never from what a user wrote:
///
/// ```text
///   first end                                   second end
///   hx<link>a                                   hx<link>b
///   198.18.0.0 + 4 * <link> + 1, /30            ... + 2, /30           (RFC 2544: 198.18/15)
///   fd68:7865:<link>::1/64                      fd68:7865:<link>::2/64 (RFC 4193 range)
///   02:68:78:<link, two bytes>:01               02:68:78:<link>:02     (locally administered)
/// ```
fn ends(index: u16, link: &Link) -> [LinkEnd; 2] {
    let [high, low] = index.to_be_bytes();
    let subnet = u32::from(FIRST_IPV4) + 4 * u32::from(index);
    [(0, 'a', 1_u8), (1, 'b', 2)].map(|(end, letter, host)| LinkEnd {
        node: link.between[end].clone(),
        interface: format!("hx{index}{letter}"),
        ipv4: IpAddr::V4(Ipv4Addr::from(subnet + u32::from(host))),
        ipv6: IpAddr::V6(Ipv6Addr::new(
            0xfd68,
            0x7865,
            index,
            0,
            0,
            0,
            0,
            u16::from(host),
        )),
        mac: [0x02, 0x68, 0x78, high, low, host],
    })
}

fn cells(resolved: &ResolvedExperiment) -> Vec<CellPlan> {
    let experiment = &resolved.experiment;
    let plan = |cell: &Cell| {
        let trace = cell.trace.as_ref();
        let resolved = trace.and_then(|trace| resolved.traces.get(trace));
        let users = experiment.links.iter().filter_map(|link| {
            let seat = link.cell.as_ref().filter(|seat| seat.cell == cell.name)?;
            Some(CellUserPlan {
                link: link.name.clone(),
                weight: seat.weight,
            })
        });
        CellPlan {
            name: cell.name.clone(),
            trace: cell.trace.clone(),
            trace_sha256: resolved.map(|trace| trace.sha256.clone()),
            settings: cell.settings,
            users: users.collect(),
        }
    };
    experiment.cells.iter().map(plan).collect()
}

/// The address that the second end of a link listens at.
const fn listening(link: &LinkPlan, ipv6: bool, port: u16) -> SocketAddr {
    let end = &link.ends[1];
    SocketAddr::new(if ipv6 { end.ipv6 } else { end.ipv4 }, port)
}

fn traffic(experiment: &Experiment, links: &[LinkPlan]) -> Vec<TrafficPlan> {
    let phases = (FIRST_TRAFFIC_PORT..).zip(&experiment.traffic);
    let planned = phases.filter_map(|(port, phase)| {
        let of_name = |name: &String| links.iter().find(|link| link.name == *name);
        let link = of_name(&phase.link)?;
        let beside = phase
            .beside
            .iter()
            .filter_map(of_name)
            .map(|link| BesidePlan {
                link: link.name.clone(),
                address: listening(link, phase.ipv6, port),
            });
        Some(TrafficPlan {
            name: phase.name.clone(),
            job: phase.job.clone(),
            link: phase.link.clone(),
            address: listening(link, phase.ipv6, port),
            beside: beside.collect(),
            load: phase.load,
            duration_ns: phase.duration_ns,
        })
    });
    planned.collect()
}

fn studies(resolved: &ResolvedExperiment, links: &[LinkPlan]) -> Vec<StudyPlan> {
    let layers = resolved.model.map_or(0, |shape| shape.layers);
    let studies = (FIRST_STUDY_PORT..).zip(&resolved.experiment.studies);
    let planned = studies.filter_map(|(port, study)| {
        let hop = |name: &String| {
            let link = links.iter().find(|link| link.name == *name)?;
            Some(BesidePlan {
                link: name.clone(),
                address: listening(link, false, port),
            })
        };
        let crossed = links.iter().filter(|link| study.links.contains(&link.name));
        Some(StudyPlan {
            name: study.name.clone(),
            path: study.path.clone(),
            hops: study.links.iter().map(hop).collect::<Option<_>>()?,
            transport: transport(study.quic, crossed),
            study: study_spec(study, layers)?,
            duration_ns: study.duration_ns,
        })
    });
    planned.collect()
}

fn loads(experiment: &Experiment, links: &[LinkPlan]) -> Vec<LoadPlan> {
    let planned = experiment.loads.iter().filter_map(|load| {
        let link = links.iter().find(|link| link.name == load.link)?;
        Some(LoadPlan {
            name: load.name.clone(),
            node: load.node.clone(),
            server: load.server.clone(),
            link: load.link.clone(),
            endpoint: listening(link, load.ipv6, load.port),
            load: load.load.clone(),
            duration_ns: load.duration_ns,
        })
    });
    planned.collect()
}

fn background(experiment: &Experiment, links: &[LinkPlan]) -> Vec<BackgroundPlan> {
    let ports = (FIRST_BACKGROUND_PORT..).zip(&experiment.background);
    let mut seeds = hexloop_traces::stream(experiment.seed, "background");
    let planned = ports.filter_map(|(port, background)| {
        let link = links.iter().find(|link| link.name == background.link)?;
        let end = link.receiver(background.direction);
        let address = if background.ipv6 { end.ipv6 } else { end.ipv4 };
        Some(BackgroundPlan {
            link: link.name.clone(),
            direction: background.direction,
            address: SocketAddr::new(address, port),
            background: BackgroundSpec {
                name: background.name.clone(),
                carrier: background.carrier.clone(),
                periods: background.periods,
                seed: seeds.next_u64(),
            },
            phases: background.phases.clone(),
        })
    });
    planned.collect()
}

/// What a study does; its cuts were checked against the model before.
fn study_spec(study: &Study, layers: u32) -> Option<StudySpec> {
    Some(StudySpec {
        arms: study.arms(layers).ok()?,
        prompts: study.prompts,
        prompt_tokens: study.prompt_tokens,
        output_tokens: study.output_tokens,
        held_out_prompts: match study.technique {
            Technique::Speculative(_)
            | Technique::KeyValues { .. }
            | Technique::Adapters { .. } => study.held_out_prompts,
            _ => 0,
        },
        grid: study.grid.clone(),
        outage: study.outage,
        traced: study.traced,
        shared: study.shared.clone(),
        adapters: study.adapters.clone(),
        kpi: study.kpi.clone(),
        patience_ns: study.patience_ns,
        timeout_ns: study.timeout_ns,
    })
}

fn phase_plan(phase: &Phase, link: &LinkPlan, port: u16, requests: RequestStream) -> PhasePlan {
    PhasePlan {
        name: phase.name.clone(),
        placement: phase.placement,
        device: phase.device.clone(),
        edge: phase.edge.clone(),
        link: phase.link.clone(),
        edge_address: listening(link, phase.ipv6, port),
        transport: transport(phase.quic, [link]),
        requests,
        duration_ns: phase.duration_ns,
    }
}

/// The transport over some links: every datagram of QUIC fits into the packets of all of them.
fn transport<'a>(quic: bool, links: impl IntoIterator<Item = &'a LinkPlan>) -> Transport {
    let least = links.into_iter().map(|link| link.mtu).min();
    match (quic, least) {
        (true, Some(mtu_bytes)) => Transport::Quic { mtu_bytes },
        _ => Transport::Tcp,
    }
}
