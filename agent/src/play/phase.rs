//! One phase: jobs are started, everything begins at a common T0, and at the end what the links,
//! the nodes and the jobs counted is put together.

mod links;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use hexloop_proto::{CommandExit, EventBody, JobResources, LinkWindow, PhaseEnd, TcpCounters};
use hexloop_topologies::plan::Plan;
use hexloop_workloads::clock::{self, MonotonicNs};
use hexloop_workloads::job::{JobCommand, JobEvent, JobTotals};

use super::Stage;
use super::burner::Burner;
use super::desk::ControlDesk;
use super::error::PlayError;
use super::jobs::{NodeJob, Orders, Part};
use super::meter::{Around, Sampler};
use super::scene::{Scene, check, note_losses};
use super::sink::EventSink;
use super::stop::StopWish;
use super::timeline::Timeline;
use crate::failpoint;
use crate::isolation::cpu_time::CpuTimes;
use crate::isolation::node::{read_back, threads_at};
use crate::link::LinkPhaseReport;
use crate::node::{NodeError, NodeMessage, NodeReply, NodeRequest, Program, Stream};
use crate::telemetry::node::tcp_between;
use crate::telemetry::power::PowerSampler;

/// How long a job may take to load its model, also on a node that is slowed down.
const READY_LIMIT_NS: u64 = 60_000_000_000;
/// Time between the decision to start and T0, so that every thread is in place.
const LEAD_NS: u64 = 100_000_000;
/// How long jobs have for their totals.
const DONE_LIMIT_NS: u64 = 2_000_000_000;
/// How often stop wishes and windows are looked at.
const TICK: Duration = Duration::from_millis(20);
/// Windows of all links that may wait to be looked at.
const WINDOWS: usize = 1 << 14;

/// A process of the phase.
#[derive(Debug)]
enum Role {
    Job { sends_requests: bool },
    Command { name: String },
}

impl Role {
    const fn is_job(&self) -> bool {
        matches!(self, Role::Job { .. })
    }

    const fn sends_requests(&self) -> bool {
        matches!(
            self,
            Role::Job {
                sends_requests: true
            }
        )
    }
}

/// A phase under way.
struct Playing<'a> {
    scene: &'a mut Scene,
    events: &'a Arc<EventSink>,
    stop: &'a StopWish,
    desk: &'a ControlDesk,
    phase: &'a Part<'a>,
    /// Every process by its number, with its node's place.
    processes: BTreeMap<u32, (usize, Role)>,
    ready: usize,
    /// Jobs that send requests and have more to come.
    busy: usize,
    totals: BTreeMap<usize, JobTotals>,
    stopping: bool,
}

/// Plays one phase.
pub(super) fn play(
    stage: &Stage,
    plan: &Plan,
    part: &Part<'_>,
    scene: &mut Scene,
    events: &Arc<EventSink>,
    (stop, desk, power): (&StopWish, &ControlDesk, &PowerSampler),
) -> Result<(), PlayError> {
    let mut playing = Playing {
        scene,
        events,
        stop,
        desk,
        phase: part,
        processes: BTreeMap::new(),
        ready: 0,
        busy: part.jobs.iter().filter(|job| job.sends_requests).count(),
        totals: BTreeMap::new(),
        stopping: false,
    };
    // Until T0 is known, times count from the present.
    events.begin_phase(part.name, clock::now());
    // The account of bytes holds the opening of connections too.
    for (_, link) in &mut playing.scene.links {
        link.mark()?;
    }
    let tcp_before: Vec<TcpCounters> = playing.scene.meters.iter().map(|(_, m)| m.tcp()).collect();
    for (id, job) in (0..).zip(&part.jobs) {
        playing.start_job(stage, id, job)?;
    }

    failpoint::reach("jobs-ready");
    playing.read_back();
    let t0 = clock::now() + LEAD_NS;
    events.begin_phase(part.name, t0);
    let (windows, arrived) = sync_channel(WINDOWS);
    for (_, link) in &mut playing.scene.links {
        link.start(t0, windows.clone())?;
    }
    drop(windows);
    let start = JobCommand::Start {
        t0_monotonic_ns: t0,
    };
    playing.tell_jobs(start, Role::is_job)?;
    playing.start_commands(stage, plan)?;
    let system = |action| move |source| PlayError::System { action, source };
    if let Some(board) = &stage.meters.board {
        board.show_phase(Some(part.name));
    }
    let around = Around {
        board: stage.meters.board.clone(),
        root: stage.meters.places.root.clone(),
    };
    let sampler = Sampler::start(playing.scene.meters.clone(), t0, Arc::clone(events), around)
        .map_err(system("start the thread that samples the nodes"))?;
    let burner = if plan.faults.burn_relay_cpu {
        let cpus = plan
            .nodes
            .first()
            .map(|node| node.cpus.clone())
            .unwrap_or_default();
        Some(Burner::start(cpus).map_err(system("start the thread that burns CPU time"))?)
    } else {
        None
    };
    clock::sleep_until(t0);
    let wall_clock_ns = clock::wall_clock_ns().saturating_sub(clock::now().saturating_sub(t0));
    events.emit_due(
        Some(t0),
        EventBody::PhaseStarted {
            t0_monotonic_ns: t0,
            t0_wall_clock_ns: wall_clock_ns,
        },
    );
    let cpu_before = CpuTimes::read(&stage.meters.places.root);
    let roots = playing
        .scene
        .meters
        .iter()
        .map(|(_, meter)| meter.first_process());
    power.begin_phase(t0, events, roots.collect());
    let remotes = playing.scene.links.iter();
    let remotes = remotes.map(|(name, link)| (name.clone(), link.remote()));
    desk.open(part.name, t0, remotes.collect(), events);
    let timeline = plan.events.iter().filter(|event| event.is_in(part.name));
    let timeline = Timeline::start(timeline.cloned().collect(), t0, desk.clone())
        .map_err(system("start the thread that changes links"))?;

    failpoint::reach("phase-plays");
    let outcome = playing.until_over(t0 + part.duration_ns, &arrived);
    let ended = clock::now();
    let interrupt_cpu =
        CpuTimes::read(&stage.meters.places.root).interrupts_since(&cpu_before, plan);
    playing.note_demoted();
    desk.close();
    let changed = timeline.finish();
    let outcome = outcome.and_then(|()| playing.until_done(&arrived));
    let reports = playing.stop_links();
    let tcp_after: Vec<TcpCounters> = playing.scene.meters.iter().map(|(_, m)| m.tcp()).collect();
    playing.pass_windows(&arrived);
    power.end_phase();
    let (energy_j, energy_uncertainty_j, energy_by_channel) = power.window(t0, ended);
    let burned_ns = burner.map(Burner::finish);
    let mut usage = sampler.finish();
    if let Some(board) = &stage.meters.board {
        board.show_phase(None);
    }
    outcome?;
    changed?;
    let reports = reports?;
    playing.kill_all()?;
    failpoint::reach("phase-over");

    let jobs = playing
        .scene
        .meters
        .iter()
        .enumerate()
        .map(|(place, (node, _))| {
            let used = usage.nodes.get(node).copied().unwrap_or_default();
            JobResources {
                node: node.clone(),
                totals: playing.totals.remove(&place),
                cpu_ns: used.cpu_ns,
                memory_peak_bytes: used.memory_bytes,
                tcp: tcp_between(tcp_before[place], tcp_after[place]),
                counters: usage.counters.remove(node),
            }
        })
        .collect();
    for (link, report) in &reports {
        note_losses(events, link, report.windows_dropped, report.packets_missed);
        for warning in &report.warnings {
            let message = warning.clone();
            events.emit(EventBody::Warning { message });
        }
    }
    events.emit(EventBody::PhaseEnded(PhaseEnd {
        duration_ns: ended.saturating_sub(t0),
        links: reports
            .iter()
            .flat_map(|(_, report)| report.counters.clone())
            .collect(),
        jobs,
        lateness: reports
            .iter()
            .flat_map(|(link, report)| {
                report
                    .lateness
                    .iter()
                    .map(|(d, late)| (link.clone(), *d, late.clone()))
            })
            .collect(),
        relay_cpu_ns: relay_cpu(plan, &reports, burned_ns),
        interrupt_cpu,
        energy_j,
        energy_uncertainty_j,
        energy_by_channel,
        cores: usage.cores,
        clock_step_ns: reports
            .iter()
            .map(|(_, report)| report.clock_step_ns)
            .max_by_key(|step| step.unsigned_abs())
            .unwrap_or(0),
    }));
    Ok(())
}

/// CPU time that the relays took on each node's CPUs. A relay on several CPUs is spread evenly.
fn relay_cpu(
    plan: &Plan,
    reports: &[(String, LinkPhaseReport)],
    burned_ns: Option<u64>,
) -> Vec<(String, u64)> {
    let on_node = |cpus: &[u32]| -> u64 {
        reports
            .iter()
            .map(|(_, report)| {
                let all = u64::try_from(report.relay_cpus.len()).unwrap_or(1).max(1);
                let shared = report
                    .relay_cpus
                    .iter()
                    .filter(|cpu| cpus.contains(cpu))
                    .count();
                report.relay_cpu_ns * u64::try_from(shared).unwrap_or(0) / all
            })
            .sum()
    };
    let burned = |index: usize| {
        if index == 0 {
            burned_ns.unwrap_or(0)
        } else {
            0
        }
    };
    plan.nodes
        .iter()
        .enumerate()
        .map(|(index, node)| (node.name.clone(), on_node(&node.cpus) + burned(index)))
        .collect()
}

impl Playing<'_> {
    /// Records what the jobs, which run by now, have of what they were started with.
    fn read_back(&self) {
        let nodes = self.scene.meters.iter().zip(&self.scene.surroundings);
        let settings: Vec<_> = nodes
            .flat_map(|((node, meter), surroundings)| {
                read_back(node, meter.first_process(), surroundings)
            })
            .collect();
        if !settings.is_empty() {
            self.events.emit(EventBody::Settings { settings });
        }
    }

    /// Warns of real-time threads that the kernel's guard has made ordinary ones.
    fn note_demoted(&self) {
        for ((node, meter), surroundings) in self.scene.meters.iter().zip(&self.scene.surroundings)
        {
            let Some(priority) = surroundings.realtime else {
                continue;
            };
            let (have, all) = threads_at(meter.first_process(), priority);
            if have < all {
                let message = format!(
                    "{} of {all} threads on {node} lost real-time scheduling: they ran for 0.5 s \
                     without sleeping, or were started without it",
                    all - have
                );
                self.events.emit(EventBody::Warning { message });
            }
        }
    }

    fn start_job(&mut self, stage: &Stage, id: u32, job: &NodeJob) -> Result<(), PlayError> {
        let node = &mut self.scene.nodes[job.place];
        let (part, threads, line) = match &job.orders {
            Orders::Model(spec) => ("job", spec.threads, json_line(spec)?),
            Orders::Study(spec) => ("study", spec.threads, json_line(spec)?),
            Orders::Traffic(spec) => ("traffic", 1, json_line(spec)?),
        };
        let arguments = stage.program.arguments_of_part(part);
        let arguments = arguments
            .into_iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        node.ask(&NodeRequest::Start {
            id,
            program: Program::Itself { arguments, threads },
            credentials: stage.credentials,
            surroundings: self.scene.surroundings[job.place].clone(),
        })?;
        node.ask(&NodeRequest::Write { id, line })?;
        let role = Role::Job {
            sends_requests: job.sends_requests,
        };
        self.processes.insert(id, (job.place, role));
        let wanted = self.ready + 1;
        let deadline = clock::now() + READY_LIMIT_NS;
        while self.ready < wanted {
            check(self.stop)?;
            if clock::now() >= deadline {
                return Err(PlayError::JobNotReady {
                    phase: self.phase.name.to_owned(),
                    node: self.scene.nodes[job.place].name.clone(),
                    seconds: READY_LIMIT_NS / 1_000_000_000,
                });
            }
            self.hear()?;
        }
        Ok(())
    }

    fn start_commands(&mut self, stage: &Stage, plan: &Plan) -> Result<(), PlayError> {
        for (id, command) in (1000..).zip(&plan.commands) {
            let place = plan.nodes.iter().position(|node| node.name == command.node);
            let place = place.ok_or_else(|| {
                PlayError::Plan(format!("command {} names a node it lacks", command.name))
            })?;
            let surroundings = self.scene.surroundings[place].clone();
            self.scene.nodes[place].ask(&NodeRequest::Start {
                id,
                program: Program::Other(command.argv.clone()),
                credentials: stage.credentials,
                surroundings,
            })?;
            let role = Role::Command {
                name: command.name.clone(),
            };
            self.processes.insert(id, (place, role));
        }
        Ok(())
    }

    fn tell_jobs(
        &mut self,
        command: JobCommand,
        which: impl Fn(&Role) -> bool,
    ) -> Result<(), PlayError> {
        let line = json_line(&command)?;
        for (id, (place, role)) in &self.processes {
            if which(role) {
                let request = NodeRequest::Write {
                    id: *id,
                    line: line.clone(),
                };
                self.scene.nodes[*place].ask(&request)?;
            }
        }
        Ok(())
    }

    /// Until every request has ended, the phase's time is over, or somebody wants it to stop.
    fn until_over(
        &mut self,
        deadline: MonotonicNs,
        windows: &Receiver<LinkWindow>,
    ) -> Result<(), PlayError> {
        while self.busy > 0 && clock::now() < deadline {
            check(self.stop)?;
            if self.events.is_closed() {
                return Err(PlayError::Stopped("the controller went away".to_owned()));
            }
            self.hear()?;
            self.pass_windows(windows);
        }
        Ok(())
    }

    /// Until every job has given its totals, or the time for that is over: first those that send
    /// requests, then those that answer, who count what the others sent last.
    fn until_done(&mut self, windows: &Receiver<LinkWindow>) -> Result<(), PlayError> {
        self.stopping = true;
        for which in [Role::sends_requests, Role::is_job] {
            self.tell_jobs(JobCommand::Stop, which)?;
            let deadline = clock::now() + DONE_LIMIT_NS;
            while self.processes.values().any(|(_, role)| which(role)) && clock::now() < deadline {
                self.hear()?;
                self.pass_windows(windows);
            }
        }
        Ok(())
    }

    fn stop_links(&mut self) -> Result<Vec<(String, LinkPhaseReport)>, PlayError> {
        let mut reports = Vec::new();
        for (name, link) in &mut self.scene.links {
            reports.push((name.clone(), link.stop()?));
        }
        Ok(reports)
    }

    fn pass_windows(&self, windows: &Receiver<LinkWindow>) {
        for window in windows.try_iter() {
            self.events.emit(EventBody::LinkWindow(window));
        }
    }

    /// Ends every process of every node, so that the next phase finds none.
    fn kill_all(&mut self) -> Result<(), PlayError> {
        for place in 0..self.scene.nodes.len() {
            self.scene.nodes[place].ask(&NodeRequest::KillAll)?;
            let deadline = clock::now() + DONE_LIMIT_NS;
            loop {
                let message = self.scene.messages.recv_timeout(TICK);
                match message {
                    Ok(NodeMessage {
                        node,
                        reply: Some(NodeReply::AllKilled),
                    }) if node == place => {
                        break;
                    }
                    Ok(NodeMessage {
                        node,
                        reply: Some(NodeReply::Exited { id, status }),
                    }) => {
                        self.note_exit(node, id, status)?;
                    }
                    Ok(NodeMessage { node, reply: None }) => return Err(self.gone(node)),
                    Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return Err(self.gone(place)),
                }
                if clock::now() >= deadline {
                    return Err(self.gone(place));
                }
            }
        }
        Ok(())
    }

    fn gone(&self, place: usize) -> PlayError {
        let node = self
            .scene
            .nodes
            .get(place)
            .map(|node| node.name.clone())
            .unwrap_or_default();
        NodeError::Gone { node }.into()
    }

    /// Takes one message of a node, if one comes within a tick.
    fn hear(&mut self) -> Result<(), PlayError> {
        let message = match self.scene.messages.recv_timeout(TICK) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => return Ok(()),
            Err(RecvTimeoutError::Disconnected) => return Err(self.gone(0)),
        };
        let place = message.node;
        let Some(reply) = message.reply else {
            return Err(self.gone(place));
        };
        match reply {
            NodeReply::Line {
                id,
                stream,
                text,
                cut,
            } => self.note_line(place, id, stream, text, cut),
            NodeReply::Exited { id, status } => self.note_exit(place, id, status),
            NodeReply::NotStarted { id, message } => match self.processes.get(&id) {
                Some((_, Role::Command { name })) => {
                    let reason = format!("command {name} cannot be started: {message}");
                    Err(self.failed(place, reason))
                }
                _ => {
                    let surroundings = &self.scene.surroundings[place];
                    let hint = match surroundings.realtime {
                        Some(_) => {
                            " (with `realtime`, which this kernel may not allow in control groups)"
                        }
                        None => "",
                    };
                    Err(self.failed(place, format!("it cannot be started: {message}{hint}")))
                }
            },
            NodeReply::Failed { message } => Err(self.failed(place, message)),
            NodeReply::Up { .. } | NodeReply::Started { .. } | NodeReply::AllKilled => Ok(()),
        }
    }

    fn failed(&self, place: usize, reason: String) -> PlayError {
        PlayError::JobFailed {
            phase: self.phase.name.to_owned(),
            node: self.scene.nodes[place].name.clone(),
            reason,
        }
    }

    fn note_line(
        &mut self,
        place: usize,
        id: u32,
        stream: Stream,
        text: String,
        cut: bool,
    ) -> Result<(), PlayError> {
        let node = self.scene.nodes[place].name.clone();
        let name = match self.processes.get(&id) {
            Some((_, Role::Job { .. })) if stream == Stream::Output && !cut => {
                if let Ok(event) = serde_json::from_str(&text) {
                    return self.note_job_event(place, id, event);
                }
                // Some library's remark.
                self.phase.name.to_owned()
            }
            Some((_, Role::Job { .. })) => self.phase.name.to_owned(),
            Some((_, Role::Command { name })) => name.clone(),
            // A process of an earlier phase, or one whose end was already told.
            None => return Ok(()),
        };
        let line = if cut { text + " [cut]" } else { text };
        self.events.emit(EventBody::Log {
            node,
            job: name,
            line,
        });
        Ok(())
    }

    fn note_job_event(&mut self, place: usize, id: u32, event: JobEvent) -> Result<(), PlayError> {
        let node = self.scene.nodes[place].name.clone();
        match event {
            JobEvent::Ready {
                weight_bytes,
                engine_path,
            } => {
                self.ready += 1;
                self.events.emit(EventBody::JobReady {
                    node,
                    weight_bytes,
                    engine_path,
                });
            }
            JobEvent::Request(record) => {
                self.events.emit(EventBody::Request { node, record });
            }
            JobEvent::Traffic(record) => {
                self.events.emit(EventBody::Traffic { node, record });
            }
            JobEvent::Study(finding) => {
                self.events.emit(EventBody::Study { node, finding });
            }
            JobEvent::SetLinks {
                round_trip_ns,
                rate_bps,
            } => self.set_links(id, (round_trip_ns, rate_bps))?,
            JobEvent::Idle => {
                let sends = matches!(
                    self.processes.get(&id),
                    Some((
                        _,
                        Role::Job {
                            sends_requests: true
                        }
                    ))
                );
                self.busy = self.busy.saturating_sub(usize::from(sends));
            }
            JobEvent::Done(totals) => {
                self.totals.insert(place, totals);
            }
            JobEvent::Failed { reason } => {
                if !self.stopping {
                    return Err(self.failed(place, reason));
                }
                let message = format!("the job on {node} failed at its end: {reason}");
                self.events.emit(EventBody::Warning { message });
            }
        }
        Ok(())
    }

    fn note_exit(&mut self, place: usize, id: u32, status: String) -> Result<(), PlayError> {
        match self.processes.remove(&id) {
            Some((_, Role::Job { .. })) if !self.stopping => {
                let reason = format!("it ended too early, with {status}");
                Err(self.failed(place, reason))
            }
            Some((_, Role::Command { name })) => {
                self.events.emit(EventBody::CommandExit(CommandExit {
                    command: name,
                    status,
                }));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn json_line(value: &impl serde::Serialize) -> Result<String, PlayError> {
    serde_json::to_string(value).map_err(|error| PlayError::System {
        action: "write a message as JSON",
        source: error.into(),
    })
}
