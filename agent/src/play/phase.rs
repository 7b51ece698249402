//! One phase: jobs are started, everything begins at a common T0, and at the end what the links,
//! the nodes and the jobs counted is put together.

mod links;
mod messages;
mod processes;
mod ready;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use hexloop_proto::{EventBody, JobResources, LinkWindow, PhaseEnd, TcpCounters};
use hexloop_topologies::plan::Plan;
use hexloop_workloads::clock::{self, MonotonicNs};
use hexloop_workloads::job::{JobCommand, JobTotals};

use super::Stage;
use super::burner::Burner;
use super::desk::ControlDesk;
use super::error::PlayError;
use super::jobs::Part;
use super::meter::{Around, Sampler};
use super::scene::{Scene, check, note_losses};
use super::sink::EventSink;
use super::stop::StopWish;
use super::timeline::Timeline;
use crate::failpoint;
use crate::isolation::cpu_time::CpuTimes;
use crate::isolation::node::{read_back, threads_at};
use crate::link::LinkPhaseReport;
use crate::telemetry::node::{NodeMeter, tcp_between};
use crate::telemetry::power::PowerSampler;
use ready::LastLines;

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
    Job {
        sends_requests: bool,
        is_beside: bool,
        link: Option<String>,
    },
    Command {
        name: String,
        /// That it ends before the phase does is a failure.
        lives: bool,
        /// What it wrote last.
        said: LastLines,
        /// Text of a line that somebody waits for; `None` where it came, or nobody does.
        awaited: Option<String>,
    },
}

impl Role {
    const fn is_job(&self) -> bool {
        matches!(self, Role::Job { .. })
    }

    const fn sends_requests(&self) -> bool {
        matches!(
            self,
            Role::Job {
                sends_requests: true,
                ..
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
    // The account of bytes holds the opening of connections too, and so do captures.
    playing.scene.show_packets(true);
    for (_, link) in &mut playing.scene.links {
        link.mark()?;
    }
    let tcp_before = tcp_counters(playing.scene, events);
    playing.start_commands(stage, plan, true)?;
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
    playing.start_commands(stage, plan, false)?;
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
    playing.scene.show_packets(false);
    let tcp_after = tcp_counters(playing.scene, events);
    playing.pass_windows(&arrived);
    power.end_phase();
    let metered = power.window(t0, ended);
    let burned_ns = burner.map(Burner::finish);
    let mut usage = sampler.finish(events);
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
        energy_j: metered.energy_j,
        energy_uncertainty_j: metered.uncertainty_j,
        energy_by_channel: metered.channels,
        cores: usage.cores,
        clock_step_ns: reports
            .iter()
            .map(|(_, report)| report.clock_step_ns)
            .max_by_key(|step| step.unsigned_abs())
            .unwrap_or(0),
    }));
    Ok(())
}

/// The kernel's TCP counters of every node. Where they cannot be read, what is known of them is none, which is told.
fn tcp_counters(scene: &Scene, events: &EventSink) -> Vec<TcpCounters> {
    let counters = |(node, meter): &(String, NodeMeter)| {
        meter.tcp().unwrap_or_else(|error| {
            let message = format!(
                "{node}: cannot read the kernel's TCP counters: {error}; segments that it sent, or sent again, in \
                 this phase are not known, whatever the record says"
            );
            events.emit(EventBody::Warning { message });
            TcpCounters::default()
        })
    };
    scene.meters.iter().map(counters).collect()
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
}
