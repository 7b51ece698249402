//! An experiment as it will run: checked, with every default in.

mod technique;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::check::problem;
use crate::plan::{
    CalibrationPlan, CommandPlan, CpuQuota, DatapathChoice, ExpectationPlan, FaultPlan,
    MachinePlan, ModelSource, NodeIsolation, RelayModePlan, TimelineEvent, TrafficJob,
    VerdictBounds,
};
use crate::problem::{Problem, SourceText};
use crate::value::{Origin, Table, Value};
use hexloop_traces::scenario::ScriptedEvent;
use hexloop_traces::{CellSettings, Direction, LinkSettings};
use hexloop_workloads::device::ComputeSettings;
use hexloop_workloads::job::Placement;
use hexloop_workloads::load::LoadSpec;
use hexloop_workloads::request::RequestStream;
use hexloop_workloads::study::Grid;
use hexloop_workloads::study::adapters::AdaptersSpec;
use hexloop_workloads::study::kpi::KpiSpec;
use hexloop_workloads::study::own::OutageSpec;
use hexloop_workloads::study::shared::SharedSpec;
use hexloop_workloads::study::traced::TracedSpec;
use hexloop_workloads::traffic::{Carrier, Periods};

pub(crate) use technique::{Cut, Speculations, Technique};

/// A valid experiment. Only [`crate::ExperimentFile::parse`] makes one.
#[derive(Debug, Clone, PartialEq)]
pub struct Experiment {
    /// Its name.
    pub name: String,
    /// What it shows.
    pub description: String,
    /// The preset that was applied, if any.
    pub preset: Option<String>,
    /// The seed that everything random follows from.
    pub seed: u64,
    /// Where each trace comes from.
    pub traces: BTreeMap<String, TraceSource>,
    /// The nodes, in the order of the file.
    pub nodes: Vec<Node>,
    /// The links, in the order of the file.
    pub links: Vec<Link>,
    /// The cells that some of them share, in the order of the file.
    pub cells: Vec<Cell>,
    /// The model, with a directory as it was written; `None` if there are only traffic phases.
    pub model: Option<ModelSource>,
    /// The second, smaller model, likewise.
    pub draft_model: Option<ModelSource>,
    /// The requests of every phase, if there are any.
    pub requests: Option<RequestStream>,
    /// Phases without a model, in the order they run.
    pub traffic: Vec<Traffic>,
    /// The phases, in the order they run.
    pub phases: Vec<Phase>,
    /// Studies, in the order they run.
    pub studies: Vec<Study>,
    /// Loads on programs that serve, in the order they run.
    pub loads: Vec<Load>,
    /// Traffic beside phases.
    pub background: Vec<Background>,
    /// Changes of links at moments of the phases, in the order of those.
    pub events: Vec<TimelineEvent>,
    /// Programs that run on their nodes during every phase.
    pub commands: Vec<CommandPlan>,
    /// What is asked of the machine itself.
    pub machine: MachinePlan,
    /// How the links are measured.
    pub calibration: CalibrationPlan,
    /// When the run is believed.
    pub verdict: VerdictBounds,
    /// Faults to inject.
    pub faults: FaultPlan,
    /// Claims about the results.
    pub expectations: Vec<ExpectationPlan>,
    pub(crate) document: Document,
}

/// Where a trace comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum TraceSource {
    /// A file, relative to the experiment file, and what is scripted on top.
    File(PathBuf, Vec<ScriptedEvent>),
    /// A scenario.
    Scenario(ScenarioSource),
    /// Given rates, one after the other, and what is scripted on top.
    Steps(Steps, Vec<ScriptedEvent>),
}

/// A scenario with what the experiment puts over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScenarioSource {
    /// A bundled scenario, or a scenario file relative to the experiment file.
    pub name: String,
    /// Settings put over it, dotted key and value.
    pub settings: Vec<(String, String)>,
    /// Which of its users.
    pub user: u32,
    /// What is scripted on top.
    pub events: Vec<ScriptedEvent>,
}

/// Given rates, one after the other, round and round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steps {
    /// In bit/s, the same in both directions.
    pub rates_bps: Vec<u64>,
    /// How long each lasts.
    pub step_ns: u64,
    /// One-way delay.
    pub delay_ns: u64,
    /// Length of the whole.
    pub duration_ns: u64,
}

/// A phase without a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traffic {
    /// Its name.
    pub name: String,
    /// What is sent.
    pub job: TrafficJob,
    /// The link that it crosses.
    pub link: String,
    /// Links that are filled at the same time.
    pub beside: Vec<String>,
    /// Whether it uses IPv6.
    pub ipv6: bool,
    /// Whether all CPU time of both nodes is burned meanwhile.
    pub load: bool,
    /// Its length.
    pub duration_ns: u64,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// How many CPUs of its own.
    pub cpus: u32,
    /// The stated slowdown.
    pub cpu_quota: Option<CpuQuota>,
    /// Where its engine computes, as its processes see it.
    pub compute: ComputeSettings,
    /// The stated slowdown of its engine.
    pub slowdown: Option<u32>,
    /// What controls the congestion of its TCP connections; `None` leaves it at cubic.
    pub congestion_control: Option<String>,
    /// What is to keep others away from it.
    pub isolation: NodeIsolation,
}

/// A link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// The nodes it joins; `up` goes from the first to the second.
    pub between: [String; 2],
    /// The trace it follows.
    pub trace: String,
    /// How packets are shaped.
    pub datapath: DatapathChoice,
    /// How the relay is to work; `None` leaves it to the plan.
    pub mode: Option<RelayModePlan>,
    /// Its place in a cell, if it shares one.
    pub cell: Option<CellSeat>,
    /// Largest IP packet, in bytes.
    pub mtu: u32,
    /// Whether it is measured before anything runs over it.
    pub calibrate: bool,
    /// Queue and service, where the trace leaves them open.
    pub settings: LinkSettings,
}

/// A radio cell that links share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Its name.
    pub name: String,
    /// The trace that limits all links together, if one does.
    pub trace: Option<String>,
    /// Who gets what of a slot.
    pub settings: CellSettings,
}

/// The place of a link in a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellSeat {
    /// The cell's name.
    pub cell: String,
    /// The link's weight in it.
    pub weight: u32,
}

/// A phase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase {
    /// Its name.
    pub name: String,
    /// Where the layers run.
    pub placement: Placement,
    /// The node that sends the requests.
    pub device: String,
    /// The node that plays the edge.
    pub edge: String,
    /// The link between them.
    pub link: String,
    /// Whether the job's connection uses IPv6.
    pub ipv6: bool,
    /// Whether it is over QUIC instead of TCP.
    pub quic: bool,
    /// Its length.
    pub duration_ns: u64,
}

/// A technique over a grid of settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Study {
    /// Its name.
    pub name: String,
    /// The nodes, from the driver on.
    pub path: Vec<String>,
    /// The links between them.
    pub links: Vec<String>,
    /// The technique, with its parameters.
    pub technique: Technique,
    /// Different prompts.
    pub prompts: u32,
    /// Length of each, in tokens.
    pub prompt_tokens: u32,
    /// Tokens that are generated for each.
    pub output_tokens: u32,
    /// Prompts that no trial asks.
    pub held_out_prompts: u32,
    /// Settings of the links.
    pub grid: Grid,
    /// The outage that is played after them.
    pub outage: Option<OutageSpec>,
    /// What is asked of each arm while the links follow their traces.
    pub traced: Option<TracedSpec>,
    /// What several users do.
    pub shared: Option<SharedSpec>,
    /// Which tasks have adapters.
    pub adapters: Option<AdaptersSpec>,
    /// Which rows of the KPI tables are sent.
    pub kpi: Option<KpiSpec>,
    /// How long a device with an answer of its own waits for a better one.
    pub patience_ns: u64,
    /// Whether frames cross the links over QUIC instead of TCP.
    pub quic: bool,
    /// How long the other side may be silent.
    pub timeout_ns: u64,
    /// How long it may take.
    pub duration_ns: u64,
}

/// A load on a program that serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Load {
    /// Its name.
    pub name: String,
    /// The node that the requests come from.
    pub node: String,
    /// The node that the server listens on.
    pub server: String,
    /// The link between them.
    pub link: String,
    /// Whether it uses IPv6.
    pub ipv6: bool,
    /// The port that the server listens at.
    pub port: u16,
    /// What is sent; what lies in files is not in it yet.
    pub load: LoadSpec,
    /// The files that belong in it: the key that names each, and its path as it was written.
    pub files: Vec<(&'static str, PathBuf)>,
    /// Its length.
    pub duration_ns: u64,
}

/// Traffic beside phases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Background {
    /// Its name.
    pub name: String,
    /// The link that it crosses.
    pub link: String,
    /// Which way.
    pub direction: Direction,
    /// What carries it.
    pub carrier: Carrier,
    /// When it is on; `None` for all the time.
    pub periods: Option<Periods>,
    /// The phases that it is beside; empty for all.
    pub phases: Vec<String>,
    /// Whether it uses IPv6.
    pub ipv6: bool,
}

/// The name and length of a phase of whatever kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PhaseSpan {
    pub(crate) name: String,
    pub(crate) duration_ns: u64,
}

/// The text an experiment came from and its values, for naming places in it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document {
    pub(crate) source: SourceText,
    pub(crate) root: Table,
}

impl Document {
    /// A problem at the value that a path leads to, or at the nearest thing that was written.
    pub(crate) fn problem(&self, path: &[&str], message: String, help: Option<String>) -> Problem {
        problem(&self.source, &self.origin(path), message, help)
    }

    fn origin(&self, path: &[&str]) -> Origin {
        let mut origin = Origin::File(0..0);
        let mut table = Some(&self.root);
        let mut elements: &[Value] = &[];
        for step in path {
            let value = match table {
                Some(table) => {
                    let Some(entry) = table.entry(step) else {
                        return origin;
                    };
                    // A table's own place is the key that names it.
                    origin = match entry.value.table() {
                        Some(_) => entry.key_origin.clone(),
                        None => entry.value.origin.clone(),
                    };
                    &entry.value
                }
                None => {
                    let Some(element) = elements.iter().find(|value| value.name() == Some(step))
                    else {
                        return origin;
                    };
                    origin = element.origin.clone();
                    element
                }
            };
            table = value.table();
            elements = value.array().unwrap_or_default();
        }
        origin
    }
}
