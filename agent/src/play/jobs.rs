//! Which job runs on which node in a phase, and what it is told.

mod background;
mod load;
mod study;
mod traffic;

use std::fs;
use std::io;
use std::path::PathBuf;

use hexloop_topologies::plan::{PhasePlan, Plan};
use hexloop_traces::stream;
use hexloop_workloads::job::{JobRole, JobSpec, Placement};
use hexloop_workloads::load::LoadJobSpec;
use hexloop_workloads::request::ScheduledRequest;
use hexloop_workloads::study::StudyJobSpec;
use hexloop_workloads::traffic::TrafficSpec;

use super::error::PlayError;
use crate::node::MODEL_DIRECTORY;

/// One job of a phase.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct NodeJob {
    /// The node's place in the plan.
    pub(super) place: usize,
    /// Whether it sends the requests: when such a job is idle, the phase is over.
    pub(super) sends_requests: bool,
    /// Whether it goes on beside the phase, of whose totals its own are no part.
    pub(super) is_beside: bool,
    /// The link that it crosses, where that has to be told: a phase can cross several.
    pub(super) link: Option<String>,
    pub(super) orders: Orders,
}

/// What a job is told at its start.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Orders {
    /// Serve a part of the model, or its requests.
    Model(JobSpec),
    /// Play a part of a study.
    Study(Box<StudyJobSpec>),
    /// Fill or probe a link, or burn CPU time.
    Traffic(TrafficSpec),
    /// Ask a server that is no part of this program.
    Load(LoadJobSpec),
}

/// A phase of whatever kind, as it is played.
#[derive(Debug)]
pub(super) struct Part<'a> {
    pub(super) name: &'a str,
    pub(super) duration_ns: u64,
    /// Links that who sends the requests may have set, each in its own way.
    pub(super) settable: Vec<&'a str>,
    /// In the order in which they are started.
    pub(super) jobs: Vec<NodeJob>,
}

/// The phases of a plan, in the order in which they are played.
pub(super) fn parts<'a>(plan: &'a Plan, secret: &str) -> Result<Vec<Part<'a>>, PlayError> {
    let traffic = plan.traffic.iter().map(|phase| {
        Ok(Part {
            name: &phase.name,
            duration_ns: phase.duration_ns,
            settable: Vec::new(),
            jobs: traffic::jobs_of(plan, phase, secret)?,
        })
    });
    let phases = plan.phases.iter().map(|phase| {
        Ok(Part {
            name: &phase.name,
            duration_ns: phase.duration_ns,
            settable: Vec::new(),
            jobs: jobs_of(plan, phase, secret)?,
        })
    });
    let studies = plan.studies.iter().map(|study| {
        Ok(Part {
            name: &study.name,
            duration_ns: study.duration_ns,
            settable: study.hops.iter().map(|hop| hop.link.as_str()).collect(),
            jobs: study::jobs_of(plan, study, secret)?,
        })
    });
    let loads = plan.loads.iter().map(|load| {
        Ok(Part {
            name: &load.name,
            duration_ns: load.duration_ns,
            settable: Vec::new(),
            jobs: load::jobs_of(plan, load)?,
        })
    });
    let parts = traffic.chain(phases).chain(studies).chain(loads);
    let beside = parts.map(|part: Result<Part<'a>, PlayError>| {
        let mut part = part?;
        part.jobs
            .extend(background::jobs_of(plan, part.name, secret)?);
        Ok(part)
    });
    beside.collect()
}

/// The place of a node in the plan.
fn place_of(plan: &Plan, phase: &str, node: &str) -> Result<usize, PlayError> {
    let place = plan.nodes.iter().position(|known| known.name == node);
    place.ok_or_else(|| PlayError::Plan(format!("phase {phase} names node {node}, which it lacks")))
}

/// The schedule of a phase. It depends on the seed alone, so that every phase of a plan with the
/// same stream of requests has the same.
#[must_use]
pub fn requests_of(plan: &Plan, phase: &PhasePlan) -> Vec<ScheduledRequest> {
    phase.requests.schedule(&mut stream(plan.seed, "requests"))
}

/// The jobs of a phase in the order in which they are started: who listens comes first.
fn jobs_of(plan: &Plan, phase: &PhasePlan, secret: &str) -> Result<Vec<NodeJob>, PlayError> {
    let place = |name: &str| place_of(plan, &phase.name, name);
    let job = |place: usize, role: JobRole, sends_requests| NodeJob {
        place,
        sends_requests,
        is_beside: false,
        link: None,
        orders: Orders::Model(JobSpec {
            name: phase.name.clone(),
            placement: phase.placement,
            role,
            model_directory: PathBuf::from(MODEL_DIRECTORY),
            threads: plan.nodes[place].threads,
            compute: plan.nodes[place].compute,
            slowdown: plan.nodes[place].slowdown,
            transport: phase.transport,
            secret: secret.to_owned(),
        }),
    };
    let mut jobs = Vec::new();
    let crosses = phase.placement != Placement::Device;
    if crosses {
        let role = JobRole::Edge {
            listen: phase.edge_address,
        };
        jobs.push(job(place(&phase.edge)?, role, false));
    }
    let role = JobRole::Device {
        edge: crosses.then_some(phase.edge_address),
        requests: requests_of(plan, phase),
        deadline_ns: phase.requests.deadline_ns,
        send_delay_ns: plan.faults.delay_sends_ns,
    };
    jobs.push(job(place(&phase.device)?, role, true));
    Ok(jobs)
}

/// 32 random bytes in hexadecimal.
pub(super) fn random_secret() -> Result<String, PlayError> {
    let mut bytes = [0_u8; 32];
    let mut source = fs::File::open("/dev/urandom").map_err(no_randomness)?;
    io::Read::read_exact(&mut source, &mut bytes).map_err(no_randomness)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

const fn no_randomness(source: io::Error) -> PlayError {
    PlayError::System {
        action: "read /dev/urandom",
        source,
    }
}
