//! The nodes and links of a plan as they exist on this machine.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use hexloop_proto::{EventBody, NodeUp};
use hexloop_topologies::plan::{CalibrationPlan, LinkPlan, NodePlan, Plan};
use hexloop_traces::stream;
use hexloop_workloads::clock;
use rand_core::Rng;

use super::capture::{self, LinkCaptures};
use super::error::PlayError;
use super::sink::EventSink;
use super::stop::StopWish;
use super::{PlayInput, Stage};
use crate::capture::PreparedCapture;
use crate::cgroup::NodeCgroups;
use crate::descriptors;
use crate::failpoint;
use crate::isolation::node::Surroundings;
use crate::isolation::{self, Settling};
use crate::ledger::UndoId;
use crate::link::{CellSeat, Link, LinkSpec, Observer, RelayEngine, RelayOptions, SharedCell};
use crate::node::congestion::USUAL;
use crate::node::{DutyCycle, Node, NodeMessage, Shown, cpus_of, pin};
use crate::privilege::Privilege;
use crate::telemetry::node::NodeMeter;
use crate::undo::Undo;

/// How long one control group may take to be removed.
const REMOVE_LIMIT_NS: u64 = 1_500_000_000;

/// How often stop wishes are looked at.
const TICK: Duration = Duration::from_millis(20);

/// Everything that exists for a plan.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) nodes: Vec<Node>,
    pub(super) links: Vec<(String, Link)>,
    /// Serves all relayed links.
    relay: RelayEngine,
    /// The places in cells of the links that have one, and the same in words.
    seats: BTreeMap<String, (CellSeat, String)>,
    capture: Option<LinkCaptures>,
    pub(super) meters: Vec<(String, NodeMeter)>,
    pub(super) messages: Receiver<NodeMessage>,
    duty: Vec<DutyCycle>,
    /// UUIDs of the nodes' GPUs, by node.
    gpus: BTreeMap<String, String>,
    /// The program that computes on them.
    engine_cuda: Option<PathBuf>,
    /// What the nodes' processes are started with, in the order of the nodes.
    pub(super) surroundings: Vec<Surroundings>,
    undo: Vec<(UndoId, Undo)>,
}

impl Scene {
    pub(super) fn empty() -> Scene {
        Scene {
            nodes: Vec::new(),
            links: Vec::new(),
            relay: RelayEngine::new(),
            seats: BTreeMap::new(),
            capture: None,
            meters: Vec::new(),
            messages: channel().1,
            duty: Vec::new(),
            gpus: BTreeMap::new(),
            engine_cuda: None,
            surroundings: Vec::new(),
            undo: Vec::new(),
        }
    }

    /// Makes the settings of the machine that the plan asks for, and records what is there.
    pub(super) fn settle(
        &mut self,
        stage: &Stage,
        plan: &Plan,
        events: &EventSink,
    ) -> Result<(), PlayError> {
        let settled = settling(stage).settle(plan, &stage.guardian, &mut self.undo)?;
        let settings = settled.settings;
        events.emit(EventBody::Settings { settings });
        for message in settled.warnings {
            events.emit(EventBody::Warning { message });
        }
        self.gpus = settled.gpus;
        self.engine_cuda = settled.engine_cuda;
        if !self.undo.is_empty() {
            failpoint::reach("machine-set");
        }
        Ok(())
    }

    /// UUIDs of the GPUs that nodes were given.
    pub(super) fn gpus(&self) -> Vec<String> {
        let all: BTreeSet<&String> = self.gpus.values().collect();
        all.into_iter().cloned().collect()
    }

    /// Makes nodes and links.
    pub(super) fn build(
        &mut self,
        stage: &Stage,
        input: &PlayInput,
        events: &Arc<EventSink>,
        stop: &StopWish,
    ) -> Result<(), PlayError> {
        let plan = &input.plan;
        let model = named(stage, input.model_directory.as_deref())?;
        let draft_model = named(stage, input.draft_model_directory.as_deref())?;
        let run = format!("{:08x}", short_run_id());
        let (sender, messages) = channel();
        self.messages = messages;
        let realtime = plan
            .nodes
            .iter()
            .filter(|node| node.isolation.realtime.is_some());
        let realtime_nodes = u32::try_from(realtime.count()).unwrap_or(u32::MAX);
        let mut other_control = None;
        for (place, node_plan) in plan.nodes.iter().enumerate() {
            check(stop)?;
            let groups = self.make_groups(stage, node_plan, &run)?;
            let mut node = Node::start(&stage.program, &node_plan.name, place, sender.clone())?;
            failpoint::reach("node-started");
            self.record(stage, Undo::kill(node.process))?;
            let pinning = pin(node_plan, node.process.pid, &groups)?;
            let gpu = self.gpus.get(&node_plan.name).cloned();
            let (isolation, surroundings) = isolation::node::settle(
                &settling(stage),
                node_plan,
                &groups,
                gpu.as_deref(),
                realtime_nodes,
            )?;
            self.surroundings.push(surroundings);
            if pinning.quota_by == "stop-continue" {
                let duty = DutyCycle::start(node_plan, node.process.pid);
                let duty = duty.map_err(|source| PlayError::System {
                    action: "start the thread that holds a node to its CPU quota",
                    source,
                })?;
                self.duty.extend(duty);
            }
            let shown = Shown {
                model_directory: model.clone(),
                draft_model_directory: draft_model.clone(),
                engine_cuda: self.engine_cuda.clone(),
            };
            let control = node_plan.congestion_control.as_deref();
            let habitable = node.set_up(place, &self.messages, shown, control)?;
            for warning in habitable.warnings {
                let message = format!("node {}: {warning}", node.name);
                events.emit(EventBody::Warning { message });
            }
            let got = habitable.congestion_control;
            if control.is_none() && got != USUAL {
                other_control = Some(got.clone());
            }
            let pid = node.process.pid;
            let name = node_plan.name.clone();
            self.meters
                .push((name.clone(), NodeMeter::new(pid, groups)));
            self.nodes.push(node);
            failpoint::reach("node-up");
            events.emit(EventBody::NodeUp(NodeUp {
                node: name,
                pid,
                pinning,
                isolation,
                gpu,
                congestion_control: Some(got),
            }));
        }
        if let Some(other) = other_control {
            let message = format!(
                "TCP of nodes is controlled by {other}: network namespaces of this machine may not have {USUAL}, which \
                 `sysctl -w net.ipv4.tcp_allowed_congestion_control=\"reno {USUAL}\"` allows them"
            );
            events.emit(EventBody::Warning { message });
        }
        self.seats = seats(input)?;
        check(stop)?;
        self.make_links(input, events)
    }

    fn record(&mut self, stage: &Stage, undo: Undo) -> Result<(), PlayError> {
        let id = stage.guardian.record(undo.clone())?;
        self.undo.push((id, undo));
        Ok(())
    }

    fn make_groups(
        &mut self,
        stage: &Stage,
        node: &NodePlan,
        run: &str,
    ) -> Result<NodeCgroups, PlayError> {
        let name = format!("hx-{run}-{}", node.index);
        NodeCgroups::create(&stage.controllers, &name, |undo| self.record(stage, undo))
    }

    /// Makes all links side by side: most of it is waiting for the kernel.
    fn make_links(&mut self, input: &PlayInput, events: &EventSink) -> Result<(), PlayError> {
        let plan = &input.plan;
        descriptors::allow(descriptors_of(plan)).map_err(|source| PlayError::System {
            action: "raise the limit on open descriptors (`ulimit -Hn`) to what the links need",
            source,
        })?;
        let calibration = CalibrationPlan {
            flow_ns: failpoint::flow_ns(plan.calibration.flow_ns),
            ..plan.calibration.clone()
        };
        let wish = input.capture.as_ref();
        let prepared = wish.map(|wish| (wish, PreparedCapture::new(plan.links.len())));
        let specs = plan.links.iter().enumerate();
        let specs = specs.map(|(number, link)| {
            let seen_by = prepared.as_ref().filter(|_| capture::may_be_seen(link));
            let observer = seen_by.and_then(|(_, prepared)| prepared.observer(number));
            self.specification(input, link, &calibration, observer)
        });
        let specs = specs.collect::<Result<Vec<_>, _>>()?;
        let links = Link::build_all(&specs)?;
        self.links = plan
            .links
            .iter()
            .map(|link| link.name.clone())
            .zip(links)
            .collect();
        for (name, link) in &self.links {
            for event in plan.events.iter().filter(|event| &event.link == name) {
                let checked = link.remote().check(&event.directions, &event.change);
                checked.map_err(|error| PlayError::Event {
                    event: event.name.clone(),
                    source: error.into(),
                })?;
            }
            let description = link.description();
            let mut reason = description.reason;
            if let Some((_, place)) = self.seats.get(name) {
                reason = format!("{reason}; {place}");
            }
            events.emit(EventBody::LinkUp {
                link: name.clone(),
                datapath: description.datapath.to_owned(),
                mode: description.mode.map(|mode| mode.name().to_owned()),
                reason,
                scheduling: description.scheduling,
            });
            failpoint::reach("link-up");
        }
        let capture = prepared.map(|(wish, prepared)| {
            // Only now it is known which links are relayed.
            LinkCaptures::start(wish, prepared, &self.links, events)
        });
        self.capture = capture.transpose()?;
        Ok(())
    }

    fn specification<'a>(
        &'a self,
        input: &'a PlayInput,
        link: &'a LinkPlan,
        calibration: &'a CalibrationPlan,
        observer: Option<Observer>,
    ) -> Result<LinkSpec<'a>, PlayError> {
        let plan = &input.plan;
        let lacks = |what: &str| PlayError::Plan(format!("link {} names {what}", link.name));
        let trace = input.traces.get(&link.trace);
        let trace = trace.ok_or_else(|| lacks("a trace that did not come with the plan"))?;
        let end = |index: usize| {
            let name = &link.ends[index].node;
            let node = self.nodes.iter().find(|node| &node.name == name);
            node.map(|node| &node.namespace)
                .ok_or_else(|| lacks("a node that the plan lacks"))
        };
        let seat = self.seats.get(&link.name);
        Ok(LinkSpec {
            plan: link,
            trace: Arc::clone(trace),
            faults: &plan.faults,
            calibration,
            seed: stream(plan.seed, &format!("link {}", link.name)).next_u64(),
            // Where the allowed CPUs are not known, it shares the last CPU of the last node.
            relay_cpu: relay_cpu(plan, &cpus_of(std::process::id()).unwrap_or_default()),
            ends: [end(0)?, end(1)?],
            relay: RelayOptions {
                engine: Some(self.relay.clone()),
                mode: link.mode.into(),
                in_userspace: false,
                observer,
                seat: seat.map(|(seat, _)| seat.clone()),
            },
        })
    }

    /// Measures every link, one after the other. A measurement takes seconds and knows no way
    /// back: when the plan is to end meanwhile, it is left to itself, and loses its nodes.
    pub(super) fn calibrate(
        &mut self,
        plan: &Plan,
        events: &EventSink,
        stop: &StopWish,
    ) -> Result<(), PlayError> {
        for (name, mut link) in std::mem::take(&mut self.links) {
            if plan.uncalibrated.contains(&name) {
                self.links.push((name, link));
                continue;
            }
            let (finished, outcome) = channel();
            std::thread::Builder::new()
                .name("hx-calibrate".to_owned())
                .spawn(move || {
                    let report = link.calibrate();
                    // Where nobody waits any more, the link is dropped here.
                    let _ = finished.send((link, report));
                })
                .map_err(|source| PlayError::System {
                    action: "start the thread that calibrates a link",
                    source,
                })?;
            let (link, report) = loop {
                check(stop)?;
                if events.is_closed() {
                    return Err(PlayError::Stopped("the controller went away".to_owned()));
                }
                match outcome.recv_timeout(TICK) {
                    Ok(outcome) => break outcome,
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => {
                        return Err(PlayError::Plan(format!("calibrating link {name} panicked")));
                    }
                }
            };
            let report = report?;
            failpoint::reach("link-calibrated");
            for window in report.windows {
                events.emit(EventBody::LinkWindow(window));
            }
            note_losses(events, &name, report.windows_dropped, report.packets_missed);
            for calibration in report.directions {
                events.emit(EventBody::Calibrated(calibration));
            }
            // Nothing is measured now, so that what has piled up may be read before it goes on.
            events.flush();
            self.links.push((name, link));
        }
        check(stop)
    }

    /// Has packets captured from here on, or no longer, where that was asked for.
    pub(super) fn show_packets(&self, is_shown: bool) {
        if let Some(capture) = &self.capture {
            capture.set_open(is_shown);
        }
    }

    /// Waits until what was captured is written, and records what that is.
    pub(super) fn finish_capture(&mut self, events: &EventSink) {
        if let Some(capture) = self.capture.take() {
            capture.finish(events);
        }
    }

    /// Takes everything down. Returns what is left, in words.
    pub(super) fn take_down(&mut self, stage: &Stage) -> Vec<String> {
        let mut leftovers = Vec::new();
        failpoint::reach("taking-down");
        self.duty.clear();
        let links = std::mem::take(&mut self.links);
        Link::take_down_all(links.into_iter().map(|(_, link)| link).collect());
        for node in &mut self.nodes {
            leftovers.extend(node.take_down());
        }
        self.nodes.clear();
        failpoint::reach("nodes-down");
        for (id, undo) in self.undo.drain(..).rev() {
            match undo.perform(clock::now() + REMOVE_LIMIT_NS) {
                // If it cannot be noted, it is undone once more later, which does no harm.
                Ok(()) => drop(stage.guardian.done(id)),
                Err(error) => leftovers.push(crate::node::with_causes(&error)),
            }
        }
        leftovers
    }
}

/// How this agent may set the machine.
fn settling(stage: &Stage) -> Settling<'_> {
    Settling {
        root: &stage.meters.places.root,
        allowed: &stage.allowed,
        is_root: stage.privilege == Privilege::Root,
    }
}

/// The places of links in the cells of the plan, by the links' names.
fn seats(input: &PlayInput) -> Result<BTreeMap<String, (CellSeat, String)>, PlayError> {
    let mut seats = BTreeMap::new();
    for cell in &input.plan.cells {
        let capacity = cell.trace.as_ref().map(|name| {
            input.traces.get(name).cloned().ok_or_else(|| {
                PlayError::Plan(format!(
                    "cell {} names a trace that did not come with the plan",
                    cell.name
                ))
            })
        });
        let shared = Arc::new(SharedCell {
            settings: cell.settings,
            capacity: capacity.transpose()?,
        });
        for user in &cell.users {
            let seat = CellSeat {
                cell: Arc::clone(&shared),
                weight: user.weight,
            };
            let (users, weight) = (cell.users.len(), user.weight);
            let place = format!(
                "one of {users} links of cell {} ({}), weight {weight}",
                cell.name, cell.settings
            );
            seats.insert(user.link.clone(), (seat, place));
        }
    }
    Ok(seats)
}

/// What a link's taps had no room for is as lost as an event that was dropped.
pub(super) fn note_losses(events: &EventSink, link: &str, windows: u64, packets: u64) {
    let count = windows + packets;
    if count == 0 {
        return;
    }
    let message = format!("link {link}: {windows} windows and {packets} packets were not recorded");
    events.emit(EventBody::Warning { message });
    events.emit(EventBody::Dropped { count });
}

/// An error if the plan is to end.
pub(super) fn check(stop: &StopWish) -> Result<(), PlayError> {
    stop.reason()
        .map_or(Ok(()), |reason| Err(PlayError::Stopped(reason)))
}

/// Descriptors that an agent with these nodes and links has open, generously.
fn descriptors_of(plan: &Plan) -> u64 {
    let [nodes, links] =
        [plan.nodes.len(), plan.links.len()].map(|count| u64::try_from(count).unwrap_or(0));
    256 + 8 * nodes + 32 * links
}

/// Tells the control groups of runs on one machine apart.
fn short_run_id() -> u32 {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    text.get(..8)
        .and_then(|text| u32::from_str_radix(text, 16).ok())
        .unwrap_or_else(std::process::id)
}

/// A CPU for the relay: one that no node owns, else one of the last node's.
fn relay_cpu(plan: &Plan, available: &[u32]) -> Option<u32> {
    let owned: BTreeSet<u32> = plan
        .nodes
        .iter()
        .flat_map(|node| node.cpus.clone())
        .collect();
    let free = available.iter().copied().find(|cpu| !owned.contains(cpu));
    free.or_else(|| plan.nodes.last()?.cpus.last().copied())
}

/// The jobs must be able to read the model: found out here, where the remedy can be named.
/// The name of a model's directory, which the job user can read.
fn named(stage: &Stage, directory: Option<&Path>) -> Result<Option<String>, PlayError> {
    let Some(directory) = directory else {
        return Ok(None);
    };
    check_model_is_readable(stage, directory)?;
    let name = directory.to_str().map(str::to_owned);
    let not_text = || PlayError::Plan("the model directory's name is not UTF-8".to_owned());
    name.map(Some).ok_or_else(not_text)
}

fn check_model_is_readable(stage: &Stage, directory: &Path) -> Result<(), PlayError> {
    let Some((user, group)) = stage.credentials else {
        return Ok(());
    };
    let unreadable = |path: &Path| PlayError::ModelUnreadable {
        job_user: stage.job_user.clone(),
        path: path.display().to_string(),
    };
    let listing = std::fs::read_dir(directory).map_err(|source| PlayError::System {
        action: "read the model directory",
        source,
    })?;
    let files = listing.flatten().map(|entry| entry.path());
    for path in std::iter::once(directory.to_owned()).chain(files) {
        let Ok(metadata) = std::fs::metadata(&path) else {
            continue;
        };
        let shift = match (metadata.uid() == user, metadata.gid() == group) {
            (true, _) => 6,
            (false, true) => 3,
            (false, false) => 0,
        };
        let needed = if metadata.is_dir() { 0o5 } else { 0o4 };
        if (metadata.mode() >> shift) & needed != needed {
            return Err(unreadable(&path));
        }
    }
    Ok(())
}
