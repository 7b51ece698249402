//! A plan in words: what `hexloop plan` prints.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use hexloop_traces::units::TimeSpan;
use hexloop_traces::{CellPolicy, Direction, UNLIMITED_RATE_BPS};
use hexloop_workloads::device::{ComputeDevice, Precision};
use hexloop_workloads::job::Placement;
use hexloop_workloads::study::{Arm, Technique};
use hexloop_workloads::traffic::Carrier;
use hexloop_workloads::transport::Transport;

use crate::plan::{
    BackgroundPlan, Claim, DatapathChoice, ExpectationPlan, LoadPlan, ModelSource, NodePlan,
    PhasePlan, Plan, StudyPlan, TimelineEvent, TrafficJob, TrafficPlan,
};
use crate::resolve::ResolvedTrace;

/// Time that each phase needs for starting and stopping its processes, for the estimate.
const PER_PHASE_NS: u64 = 2_000_000_000;

/// The same for a phase without a model to load.
const PER_TRAFFIC_PHASE_NS: u64 = 500_000_000;

/// What playing the plan will do, line by line.
#[must_use]
pub fn describe(plan: &Plan, traces: &BTreeMap<String, ResolvedTrace>) -> String {
    Description { plan, traces }.to_string()
}

struct Description<'a> {
    plan: &'a Plan,
    traces: &'a BTreeMap<String, ResolvedTrace>,
}

/// How long playing the plan takes, about, once its model is there.
#[must_use]
pub(crate) fn estimated_ns(plan: &Plan) -> u64 {
    let calibrated = plan.links.len() - plan.uncalibrated.len().min(plan.links.len());
    let links = u64::try_from(calibrated).unwrap_or(u64::MAX);
    // Both directions, one after the other, each with half a second to drain.
    let calibration = (plan.calibration.flow_ns + 500_000_000).saturating_mul(2 * links);
    let phases = plan
        .phases
        .iter()
        .map(|phase| phase.duration_ns + PER_PHASE_NS);
    let traffic = plan.traffic.iter();
    let traffic = traffic.map(|phase| phase.duration_ns + PER_TRAFFIC_PHASE_NS);
    // A study is over when its trials are: its limit says no more than that it has failed.
    let studies = plan.studies.iter().map(|study| study.duration_ns / 2);
    let loads = plan.loads.iter();
    let loads = loads.map(|load| load.duration_ns + PER_PHASE_NS);
    phases
        .chain(traffic)
        .chain(studies)
        .chain(loads)
        .fold(calibration, u64::saturating_add)
}

fn span(ns: u64) -> TimeSpan {
    TimeSpan { ns }
}

/// A rate with one decimal.
fn rate(bps: u64) -> String {
    if bps == UNLIMITED_RATE_BPS {
        return "unlimited".to_owned();
    }
    format!("{}.{} Mbit/s", bps / 1_000_000, bps / 100_000 % 10)
}

/// What an event does to its link.
fn change_in_words(event: &TimelineEvent) -> String {
    let directions = match event.directions.as_slice() {
        [one] => format!(" ({})", one.name()),
        _ => String::new(),
    };
    format!("{}{directions}", event.change)
}

/// What a user wrote, safe for a terminal.
fn safe(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

impl Display for Description<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.plan;
        write!(f, "experiment {}", plan.experiment)?;
        if let Some(preset) = &plan.preset {
            write!(f, ", preset {preset}")?;
        }
        writeln!(f, ", seed {}", plan.seed)?;
        let models = [("model", &plan.model), ("draft model", &plan.draft_model)];
        for (what, model) in models {
            let Some(model) = model else { continue };
            let source = match &model.source {
                ModelSource::Recipe(name) => format!("recipe {name}, trained once and kept"),
                ModelSource::Directory(path) => safe(&format!("from {}", path.display())),
            };
            let (layers, width) = (model.layers, model.width);
            writeln!(f, "{what}: {source}; {layers} layers, {width} wide")?;
        }
        writeln!(
            f,
            "\nnodes, each in a network and a process namespace of its own:"
        )?;
        for node in &plan.nodes {
            self.node(f, node)?;
        }
        if !plan.machine.meters.is_empty() {
            writeln!(
                f,
                "\nmeters that there must be: {}",
                plan.machine.meters.join(", ")
            )?;
        }
        writeln!(f, "\nlinks:")?;
        self.links(f)?;
        self.cells(f)?;
        writeln!(f, "\nsteps:")?;
        let calibration = &plan.calibration;
        writeln!(
            f,
            "  calibration: {} of saturating UDP per direction and link, {} windows",
            span(calibration.flow_ns),
            span(calibration.window_ns)
        )?;
        for phase in &plan.traffic {
            Self::traffic(f, phase)?;
        }
        for phase in &plan.phases {
            self.phase(f, phase)?;
        }
        for study in &plan.studies {
            self.study(f, study)?;
        }
        for load in &plan.loads {
            self.load(f, load)?;
        }
        for background in &plan.background {
            Self::background(f, background)?;
        }
        for command in &plan.commands {
            let argv = safe(&command.argv.join(" "));
            write!(f, "  in every phase, on {}: {argv}", safe(&command.node))?;
            if let Some(ready) = &command.ready {
                let (what, within) = (safe(&ready.when.in_words()), span(ready.within_ns));
                write!(f, ", ready at {what} within {within}")?;
            }
            writeln!(f)?;
        }
        for event in &plan.events {
            let phase = event.phase.as_deref().unwrap_or("every phase");
            let [link, change] = [&event.link, &change_in_words(event)];
            let at = span(event.at_ns);
            writeln!(f, "  in {phase}, at {at}: {link} {change}")?;
        }
        if plan.faults.is_any() {
            writeln!(f, "\nfaults are injected: the verdict should be INVALID")?;
        }
        if !plan.expectations.is_empty() {
            writeln!(f, "\nexpectations:")?;
        }
        for expectation in &plan.expectations {
            Self::expectation(f, expectation)?;
        }
        let seconds = estimated_ns(plan).div_ceil(1_000_000_000);
        write!(f, "\nabout {seconds} s in all, once the model is there")
    }
}

impl Description<'_> {
    fn node(&self, f: &mut fmt::Formatter<'_>, node: &NodePlan) -> fmt::Result {
        let cpus: Vec<String> = node.cpus.iter().map(u32::to_string).collect();
        let plural = if cpus.len() == 1 { "CPU" } else { "CPUs" };
        write!(f, "  {}: {plural} {}", safe(&node.name), cpus.join(", "))?;
        if let Some(quota) = node.cpu_quota {
            write!(
                f,
                ", {} us of CPU time every {} us",
                quota.quota_us, quota.period_us
            )?;
        }
        let precision = node.compute.precision;
        match node.compute.device {
            ComputeDevice::Cpu if precision == Precision::F32 => {}
            ComputeDevice::Cpu => write!(f, ", computes in {precision}")?,
            ComputeDevice::Cuda(_) => write!(f, ", computes on its GPU in {precision}")?,
        }
        let isolation = &node.isolation;
        if let Some(partition) = isolation.partition {
            write!(f, ", partition {}", partition.name())?;
        }
        if isolation.local_memory {
            write!(f, ", memory of its CPUs' NUMA nodes")?;
        }
        if let Some(priority) = isolation.realtime {
            write!(f, ", SCHED_FIFO {priority}")?;
        }
        if let Some(gpu) = &isolation.gpu {
            write!(f, ", GPU {}", safe(&gpu.gpu))?;
            if let Some(limit_mw) = gpu.power_limit_mw {
                write!(f, " at {} W at most", limit_mw / 1000)?;
            }
            if let Some(mhz) = gpu.clock_mhz {
                write!(f, " locked to {mhz} MHz")?;
            }
        }
        writeln!(f)
    }

    fn links(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for link in &self.plan.links {
            let [first, second] = &link.ends;
            let datapath = match link.datapath {
                DatapathChoice::Auto => "the best datapath found by trying",
                DatapathChoice::Relay => "the userspace relay",
                DatapathChoice::Tc => "kernel queueing disciplines",
                DatapathChoice::Edt => "departure times in the kernel",
            };
            let mode = match link.datapath {
                DatapathChoice::Auto => format!(" (the relay in mode {})", link.mode.name()),
                DatapathChoice::Relay => format!(" in mode {}", link.mode.name()),
                DatapathChoice::Tc | DatapathChoice::Edt => String::new(),
            };
            writeln!(
                f,
                "  {}: {} ({}, {}) to {} ({}, {}), mtu {}, {}, through {datapath}{mode}",
                link.name,
                safe(&first.node),
                first.interface,
                first.ipv4,
                safe(&second.node),
                second.interface,
                second.ipv4,
                link.mtu,
                link.settings
            )?;
            let Some(resolved) = self.traces.get(&link.trace) else {
                continue;
            };
            let trace = &resolved.trace;
            let length = span(trace.duration_ns());
            let rows = trace.row_count();
            writeln!(
                f,
                "    trace {}: {length}, {rows} rows, sha256 {}",
                link.trace,
                &link.trace_sha256.get(..12).unwrap_or_default()
            )?;
            for direction in Direction::BOTH {
                let rates = || {
                    trace.states().map(move |(_, [down, up])| match direction {
                        Direction::Down => down.rate_bps,
                        Direction::Up => up.rate_bps,
                    })
                };
                let least = rate(rates().min().unwrap_or_default());
                let most = rate(rates().max().unwrap_or_default());
                writeln!(f, "      {}: {least} to {most}", direction.name())?;
            }
        }
        Ok(())
    }

    fn cells(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.plan.cells.is_empty() {
            writeln!(f, "\ncells:")?;
        }
        for cell in &self.plan.cells {
            let by_weight = cell.settings.policy == CellPolicy::FixedShare;
            let users = cell.users.iter().map(|user| match user.weight {
                weight if by_weight => format!("{} (weight {weight})", user.link),
                _ => user.link.clone(),
            });
            let users: Vec<String> = users.collect();
            let most = match &cell.trace {
                Some(trace) => format!("at most trace {trace} in all, "),
                None => String::new(),
            };
            let (name, settings) = (&cell.name, cell.settings);
            writeln!(f, "  {name}: {most}{settings}, among {}", users.join(", "))?;
        }
        Ok(())
    }

    fn traffic(f: &mut fmt::Formatter<'_>, phase: &TrafficPlan) -> fmt::Result {
        let job = match &phase.job {
            TrafficJob::Bulk { directions } => {
                let directions: Vec<&str> = directions.iter().map(|d| d.name()).collect();
                format!("bulk TCP {}", directions.join(" and "))
            }
            TrafficJob::Ping { gap_ns } => format!("a ping every {}", span(*gap_ns)),
        };
        let load = if phase.load { ", under load" } else { "" };
        let (name, length) = (&phase.name, span(phase.duration_ns));
        let links: Vec<&str> = phase.links().map(|(link, _)| link).collect();
        let links = links.join(" and ");
        writeln!(f, "  traffic {name}: {length}, {job} over {links}{load}")
    }

    fn phase(&self, f: &mut fmt::Formatter<'_>, phase: &PhasePlan) -> fmt::Result {
        let layers = match phase.placement {
            Placement::Device => "the whole model on the device".to_owned(),
            Placement::Edge => "the whole model on the edge".to_owned(),
            Placement::Split { layers_on_device } => {
                let layers = self.plan.model.as_ref().map_or(0, |model| model.layers);
                let rest = layers.saturating_sub(layers_on_device);
                format!("{layers_on_device} layers on the device, {rest} on the edge")
            }
        };
        let count = phase.schedule(self.plan.seed).len();
        let requests = &phase.requests;
        writeln!(
            f,
            "  phase {}: {}, {layers}{}; {count} requests of {} tokens in and {} out within {}",
            phase.name,
            span(phase.duration_ns),
            over(phase.transport),
            requests.prompt_tokens,
            requests.output_tokens,
            span(requests.arrivals_for_ns)
        )
    }

    fn shared(f: &mut fmt::Formatter<'_>, study: &StudyPlan, arms: &str) -> fmt::Result {
        let spec = &study.study;
        let Some(shared) = &spec.shared else {
            return writeln!(f, "  study {}: {arms}", study.name);
        };
        let numbers = |all: &[u32]| {
            let all: Vec<String> = all.iter().map(u32::to_string).collect();
            all.join(", ")
        };
        writeln!(
            f,
            "  study {}: {} users of one edge under {arms}; {} B and {} tokens up and {} tokens down, within {}; \
             {} % of what can be served is offered for {}, {} times",
            study.name,
            numbers(&shared.users),
            shared.upload_bytes,
            spec.prompt_tokens,
            spec.output_tokens,
            span(shared.deadline_ns),
            numbers(&shared.offered_percent),
            span(shared.arrivals_for_ns),
            shared.repetitions
        )
    }

    fn rows(f: &mut fmt::Formatter<'_>, study: &StudyPlan, path: &str) -> fmt::Result {
        let spec = &study.study;
        let named = |is_on_trace: bool| -> Vec<String> {
            let is_meant = |arm: &&Arm| arm.is_asked_on_traces() == is_on_trace;
            spec.arms.iter().filter(is_meant).map(Arm::name).collect()
        };
        let way = over(study.transport);
        write!(f, "  study {}: sent over {path}{way}", study.name)?;
        let at_rates = named(false);
        if !at_rates.is_empty() {
            let (times, arms) = (spec.prompts, at_rates.join(", "));
            write!(f, ", {times} times each: {arms}")?;
        }
        if let Some(traced) = spec.traced {
            write!(
                f,
                "; {} of each on the trace from its start, one every {}, {} times: {}",
                traced.requests,
                span(traced.every_ns),
                traced.repetitions,
                named(true).join(", ")
            )?;
        }
        writeln!(f)
    }

    fn study(&self, f: &mut fmt::Formatter<'_>, study: &StudyPlan) -> fmt::Result {
        let spec = &study.study;
        let arms: Vec<String> = spec.arms.iter().map(Arm::name).collect();
        let (path, arms) = (safe(&study.path.join(", ")), arms.join(", "));
        let done = match spec.technique() {
            Technique::Split => format!("layers divided over {path} after {arms}"),
            Technique::Speculative => format!("drafts verified over {path}: {arms}"),
            Technique::EarlyExit => format!("exits over {path}, kept if as sure as: {arms}"),
            Technique::Cascade => format!("cascades over {path}, kept if as sure as: {arms}"),
            Technique::KeyValues => format!("contexts that come over {path}: {arms}"),
            Technique::Retrieval => format!("chunks retrieved over {path}: {arms}"),
            Technique::Kpi => return Self::rows(f, study, &path),
            Technique::Shared => return Self::shared(f, study, &arms),
            Technique::Adapters => {
                let tasks = spec.adapters.iter().flat_map(|adapters| &adapters.tasks);
                let tasks: Vec<&str> = tasks.map(String::as_str).collect();
                format!(
                    "adapters for {} brought over {path}, served {arms}",
                    safe(&tasks.join(", "))
                )
            }
            Technique::Multimodal => format!("images seen over {path}: {arms}"),
            Technique::Leaking => format!("tokens guessed from states over {path}: {arms}"),
            Technique::Convolutional => format!("images recognised over {path}: {arms}"),
            Technique::UShaped => {
                format!("first and last layers on the first of {path}, after {arms}")
            }
            Technique::TensorParallel => format!("every layer shared by {path}: {arms}"),
            Technique::Placement => {
                let kept = self.kept(study);
                format!("answers on a node of {path}: {arms}{kept}")
            }
        };
        let spans = spec
            .grid
            .round_trips_ns
            .iter()
            .map(|ns| span(*ns).to_string());
        let spans: Vec<String> = spans.collect();
        let most = match spec.grid.around_percent.len() {
            0 => spec.grid.rates_bps.len(),
            // Such studies have two critical rates.
            around if spec.technique() == Technique::KeyValues => 2 * around,
            around => around.max(spec.grid.rates_bps.len()),
        };
        let (prompts, output) = (spec.prompts, spec.output_tokens);
        let asked = match spec.technique() {
            Technique::Multimodal => format!("{prompts} images, each to be named"),
            _ => format!(
                "{prompts} prompts of {} tokens in and {output} out",
                spec.prompt_tokens
            ),
        };
        let on_traces = spec.traced.map_or_else(String::new, |traced| {
            format!(
                "; then {} of each arm on the traces from their start, one every {}, {} times",
                traced.requests,
                span(traced.every_ns),
                traced.repetitions
            )
        });
        writeln!(
            f,
            "  study {}: {}{}; {asked} at round trips of {}, each with up to {most} rates{on_traces}; at most {}",
            study.name,
            done,
            over(study.transport),
            spans.join(", "),
            span(study.duration_ns)
        )
    }

    /// Which nodes keep weights otherwise than the names of their arms say.
    fn kept(&self, study: &StudyPlan) -> String {
        let arms = study.study.arms.iter().filter_map(|arm| match arm {
            Arm::Placed(placement) => Some(placement),
            _ => None,
        });
        let kept = arms.filter_map(|arm| {
            let node = self.plan.nodes.iter().find(|node| node.name == arm.node)?;
            let kept = arm.weights.kept(node.compute.precision)?;
            Some(format!("{} keeps {kept}", safe(&node.name)))
        });
        let kept: Vec<String> = kept.collect();
        match kept.is_empty() {
            true => String::new(),
            false => format!(" ({})", kept.join(", ")),
        }
    }

    fn background(f: &mut fmt::Formatter<'_>, background: &BackgroundPlan) -> fmt::Result {
        let what = &background.background;
        let carried = match &what.carrier {
            Carrier::Tcp { congestion_control } => format!("TCP ({congestion_control})"),
            Carrier::Udp { rate_bps, .. } => format!("UDP at {}", rate(*rate_bps)),
        };
        let periods = match what.periods {
            Some(periods) => format!(
                ", on for {} and off for {}{}",
                span(periods.on_ns),
                span(periods.off_ns),
                if periods.exponential {
                    " on average"
                } else {
                    ""
                }
            ),
            None => String::new(),
        };
        let phases = match background.phases.as_slice() {
            [] => "every phase".to_owned(),
            phases => phases.join(", "),
        };
        let (link, direction) = (&background.link, background.direction.name());
        writeln!(
            f,
            "  beside {phases}: {carried} {direction} over {link}{periods}"
        )
    }

    fn load(&self, f: &mut fmt::Formatter<'_>, load: &LoadPlan) -> fmt::Result {
        let what = &load.load;
        let count = match load.schedule(self.plan.seed) {
            Some(schedule) => format!("{} beginnings", schedule.len()),
            None => "as many as it answers".to_owned(),
        };
        writeln!(
            f,
            "  load {}: {}, {} of mix {} to {} at {}, {count} within {}",
            load.name,
            span(load.duration_ns),
            what.arrivals.name(),
            what.mix.name(),
            safe(&load.server),
            load.endpoint,
            span(what.arrivals_for_ns)
        )
    }

    fn expectation(f: &mut fmt::Formatter<'_>, expectation: &ExpectationPlan) -> fmt::Result {
        let claim = match &expectation.claim {
            Claim::SameTokens { phases } => {
                format!("requests have the same tokens in {}", phases.join(", "))
            }
            Claim::PayloadFormula { phase } => format!("payload of {phase} equals its formula"),
            Claim::StallsInOutage { phase } => format!("{phase} stalls in the outage"),
            Claim::GoesOnInOutage { phase } => format!("{phase} goes on in the outage"),
            Claim::AllCompleted { phase } => format!("all requests of {phase} complete"),
            Claim::RateFollowsTrace { phase } => format!("{phase} delivers what the trace gives"),
            Claim::RoundTripFollowsTrace { phase } => {
                format!("round trips of {phase} are those of the trace")
            }
            Claim::SharesFollowCell { phase } => {
                format!("links of {phase} get what their cell gives them")
            }
            Claim::ConstantRatesPass { phase } => {
                format!("{phase} delivers every constant rate of the trace that it fills")
            }
            Claim::IdlePowerStable => "power before the phases is steady".to_owned(),
            Claim::Study { study, claim } => format!("{study}: {}", claim.in_words()),
        };
        writeln!(f, "  {}: {claim}", safe(&expectation.name))
    }
}

/// How frames cross links, where it is not the usual way.
const fn over(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "",
        Transport::Quic { .. } => ", over QUIC",
    }
}
