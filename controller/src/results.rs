//! What a run found out: the fold of its events. Monitor, summary and report read the same one.

use std::collections::BTreeMap;

use hexloop_proto::{
    AgentDescription, AskedAndGot, CommandExit, CoolingReport, CoreSample, Event, EventBody,
    GpuSample, IdlePower, LinkCalibration, LinkCapture, LinkChanged, LinkWindow, Measurement,
    MeterReadings, MeteringCost, NodeSample, NodeUp, NoiseReport, PhaseEnd,
};
use hexloop_traces::LinkChange;
use hexloop_workloads::job::RequestRecord;
use hexloop_workloads::load::ExchangeRecord;
use hexloop_workloads::study::StudyFinding;
use hexloop_workloads::traffic::TrafficRecord;

/// Everything that the events of one run say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Results {
    /// Who played the plan.
    pub agent: Option<AgentDescription>,
    /// The nodes, in the order they came up.
    pub nodes: Vec<NodeUp>,
    /// The links by name.
    pub links: BTreeMap<String, LinkFacts>,
    /// What calibration found, per link and direction.
    pub calibrations: Vec<LinkCalibration>,
    /// Windows of the calibration flows.
    pub calibration_windows: Vec<LinkWindow>,
    /// The phases, in the order they were played.
    pub phases: Vec<PhaseResults>,
    /// What the reader should know, in order.
    pub warnings: Vec<String>,
    /// Events that never arrived or were dropped.
    pub lost_events: u64,
    /// Why the run failed, and with which exit code.
    pub failure: Option<(String, u8)>,
    /// What could not be taken down; `None` when the run did not get that far.
    pub taken_down: Option<Vec<String>>,
    /// Energy of the machine over the whole run; `None` where the end did not say.
    pub energy_j: Option<Measurement>,
    /// Power without jobs, before and after the phases; empty where no meter can be summed up.
    pub idle: Vec<IdlePower>,
    /// What reading the meters cost.
    pub metering: Option<MeteringCost>,
    /// Settings of the machine and of its nodes' processes, asked and got.
    pub settings: Vec<AskedAndGot>,
    /// How quiet the machine was before the run; `None` where nobody listened.
    pub noise: Option<NoiseReport>,
    /// The wait for a temperature, if one was asked for.
    pub cooling: Option<CoolingReport>,
    /// What was captured of links, where that was asked for.
    pub captures: Vec<LinkCapture>,
    next_sequence: u64,
}

/// How a link was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkFacts {
    /// The datapath in use.
    pub datapath: String,
    /// How it was relayed, if it was.
    pub mode: Option<String>,
    /// Why this one.
    pub reason: String,
    /// Scheduling of its thread.
    pub scheduling: String,
}

/// What one phase found out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PhaseResults {
    /// Its name.
    pub name: String,
    /// T0 on the wall clock, for dating.
    pub t0_wall_clock_ns: Option<u64>,
    /// The jobs that became ready.
    pub ready: Vec<ReadyJob>,
    /// The requests by number.
    pub requests: BTreeMap<u32, RequestRecord>,
    /// What the exchanges with a server were, by the numbers of their requests.
    pub exchanges: BTreeMap<u32, ExchangeRecord>,
    /// Windows of its links, in order.
    pub windows: Vec<LinkWindow>,
    /// Samples of its nodes, in order.
    pub samples: Vec<NodeSample>,
    /// Readings of the meters, in order.
    pub meters: Vec<MeterReadings>,
    /// The slow things about its GPUs, in order.
    pub gpus: Vec<GpuSample>,
    /// What the machine's CPUs did, in order.
    pub cores: Vec<CoreSample>,
    /// Changes of its links while it played, in order.
    pub changes: Vec<ChangeMade>,
    /// What processes of a phase without a model measured.
    pub traffic: Vec<TrafficOfLink>,
    /// What both ends of the traffic beside it measured.
    pub background: Vec<TrafficOfLink>,
    /// What a study found, in order.
    pub findings: Vec<StudyFinding>,
    /// Programs that ended.
    pub command_exits: Vec<ProgramEnd>,
    /// Totals; `None` when the phase did not end.
    pub end: Option<PhaseEnd>,
}

/// What a process of a phase without a model measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrafficOfLink {
    /// The link that it crossed; `None` in records of earlier versions, whose phases crossed one.
    pub link: Option<String>,
    /// What.
    pub record: TrafficRecord,
}

/// A change of a link while it played.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangeMade {
    /// When it was asked for, as an offset from T0.
    pub asked_ns: i64,
    /// What, and from when on it holds.
    pub changed: LinkChanged,
}

/// A program of the experiment that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramEnd {
    /// When, as an offset from T0.
    pub at_ns: i64,
    /// Which, and how.
    pub exit: CommandExit,
}

impl ProgramEnd {
    /// Whether it ended by itself and not well: what still runs at the end of a phase is stopped,
    /// and how it takes that is no failure.
    #[must_use]
    pub fn failed(&self, phase_ns: u64) -> bool {
        let stopped = u64::try_from(self.at_ns).is_ok_and(|at| at >= phase_ns);
        !stopped && self.exit.status != "exit status 0"
    }
}

/// A job that has loaded its model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadyJob {
    /// Its node.
    pub node: String,
    /// Bytes of weights it holds.
    pub weight_bytes: u64,
    /// Kernels of the engine.
    pub engine_path: String,
}

impl Results {
    /// Folds a whole stream.
    pub fn from_events<'a>(events: impl IntoIterator<Item = &'a Event>) -> Results {
        let mut results = Results::default();
        for event in events {
            results.push(event);
        }
        results
    }

    /// The phase of that name.
    #[must_use]
    pub fn phase(&self, name: &str) -> Option<&PhaseResults> {
        self.phases.iter().find(|phase| phase.name == name)
    }

    /// Whether what a link plays was changed in a phase.
    #[must_use]
    pub fn was_changed(&self, phase: &str, link: &str) -> bool {
        self.plays_changed(phase, link).next().is_some()
    }

    /// Whether somebody else than the phase, which is a study that sets its own links, changed what a link plays in it.
    #[must_use]
    pub fn was_changed_by_others(&self, phase: &str, link: &str) -> bool {
        let by_others = |made: &ChangeMade| made.changed.asked_by.as_deref() != Some(phase);
        self.plays_changed(phase, link).any(by_others)
    }

    fn plays_changed(&self, phase: &str, link: &str) -> impl Iterator<Item = &ChangeMade> {
        let changes = self.phase(phase).map(|phase| phase.changes.as_slice());
        changes.unwrap_or_default().iter().filter(move |made| {
            let control = &made.changed.control;
            control.link == link && matches!(control.change, LinkChange::Play(_))
        })
    }

    /// Whether the run came to its end: nothing failed and everything was taken down.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.failure.is_none() && self.taken_down.is_some()
    }

    /// Every setting, those of the nodes among them.
    pub fn all_settings(&self) -> impl Iterator<Item = &AskedAndGot> {
        let of_nodes = self.nodes.iter().flat_map(|node| &node.isolation);
        self.settings.iter().chain(of_nodes)
    }

    /// Whether a GPU is the run's: one of those that nodes were given, or any if none was.
    #[must_use]
    pub fn is_of_the_run(&self, gpu: &str) -> bool {
        let mut given = self
            .nodes
            .iter()
            .filter_map(|node| node.gpu.as_deref())
            .peekable();
        given.peek().is_none() || given.any(|uuid| uuid == gpu)
    }

    fn phase_entry(&mut self, name: &str) -> &mut PhaseResults {
        let index = self.phases.iter().position(|phase| phase.name == name);
        let index = index.unwrap_or_else(|| {
            self.phases.push(PhaseResults {
                name: name.to_owned(),
                ..PhaseResults::default()
            });
            self.phases.len() - 1
        });
        &mut self.phases[index]
    }

    /// Takes in the next event.
    pub fn push(&mut self, event: &Event) {
        self.lost_events += event.sequence.saturating_sub(self.next_sequence);
        self.next_sequence = event.sequence + 1;
        match &event.body {
            EventBody::AgentUp(agent) => self.agent = Some(agent.clone()),
            EventBody::Settings { settings } => self.settings.extend(settings.iter().cloned()),
            EventBody::Noise(noise) => self.noise = Some(noise.clone()),
            EventBody::Cooling(cooling) => self.cooling = Some(cooling.clone()),
            EventBody::NodeUp(node) => self.nodes.push(node.clone()),
            EventBody::LinkUp {
                link,
                datapath,
                mode,
                reason,
                scheduling,
            } => {
                let facts = LinkFacts {
                    datapath: datapath.clone(),
                    mode: mode.clone(),
                    reason: reason.clone(),
                    scheduling: scheduling.clone(),
                };
                self.links.insert(link.clone(), facts);
            }
            EventBody::Calibrated(calibration) => self.calibrations.push(calibration.clone()),
            EventBody::Warning { message } => self.warnings.push(message.clone()),
            EventBody::Dropped { count } => self.lost_events += count,
            EventBody::Failed { message, exit_code } => {
                self.failure
                    .get_or_insert_with(|| (message.clone(), *exit_code));
            }
            EventBody::TakenDown {
                leftovers,
                energy_j,
                metering,
            } => {
                self.taken_down = Some(leftovers.clone());
                self.energy_j.clone_from(energy_j);
                self.metering.clone_from(metering);
            }
            EventBody::Idle(idle) => self.idle.push(idle.clone()),
            EventBody::Captured(capture) => self.captures.push(capture.clone()),
            EventBody::Log { .. } => {}
            EventBody::LinkWindow(window) if event.phase.is_none() => {
                self.calibration_windows.push(window.clone());
            }
            body => {
                if let Some(name) = &event.phase {
                    self.phase_entry(name)
                        .push(body, (event.due_ns, event.done_ns));
                }
            }
        }
    }
}

impl PhaseResults {
    /// What was measured over one link by processes of a phase without a model.
    pub fn traffic_of<'a>(&'a self, link: &'a str) -> impl Iterator<Item = &'a TrafficRecord> {
        let of_link = move |one: &&TrafficOfLink| one.link.as_deref().is_none_or(|it| it == link);
        self.traffic.iter().filter(of_link).map(|one| &one.record)
    }

    fn push(&mut self, body: &EventBody, (due_ns, at_ns): (i64, i64)) {
        match body {
            EventBody::PhaseStarted {
                t0_wall_clock_ns, ..
            } => {
                self.t0_wall_clock_ns = Some(*t0_wall_clock_ns);
            }
            EventBody::JobReady {
                node,
                weight_bytes,
                engine_path,
            } => self.ready.push(ReadyJob {
                node: node.clone(),
                weight_bytes: *weight_bytes,
                engine_path: engine_path.clone(),
            }),
            EventBody::Request { record, .. } => {
                self.requests.insert(record.id, record.clone());
            }
            EventBody::Exchange { record, .. } => {
                self.exchanges.insert(record.id, record.clone());
            }
            EventBody::LinkWindow(window) => self.windows.push(window.clone()),
            EventBody::NodeSample(sample) => self.samples.push(sample.clone()),
            EventBody::Meters(readings) => self.meters.push(readings.clone()),
            EventBody::Gpu(sample) => self.gpus.push(sample.clone()),
            EventBody::Cores(sample) => self.cores.push(sample.clone()),
            EventBody::LinkChanged(changed) => self.changes.push(ChangeMade {
                asked_ns: due_ns,
                changed: changed.clone(),
            }),
            EventBody::Traffic { link, record, .. } => {
                let of = match record.background {
                    Some(_) => &mut self.background,
                    None => &mut self.traffic,
                };
                of.push(TrafficOfLink {
                    link: link.clone(),
                    record: record.clone(),
                });
            }
            EventBody::Study { finding, .. } => self.findings.push(finding.clone()),
            EventBody::CommandExit(exit) => self.command_exits.push(ProgramEnd {
                at_ns,
                exit: exit.clone(),
            }),
            EventBody::PhaseEnded(end) => self.end = Some(end.clone()),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(sequence: u64, phase: Option<&str>, body: EventBody) -> Event {
        Event {
            sequence,
            phase: phase.map(str::to_owned),
            due_ns: 0,
            done_ns: 0,
            body,
        }
    }

    #[test]
    fn gaps_in_the_sequence_and_dropped_events_are_counted_as_lost() {
        let warning = || EventBody::Warning {
            message: "w".to_owned(),
        };
        let events = [
            event(0, None, warning()),
            event(3, None, EventBody::Dropped { count: 5 }),
            event(4, None, warning()),
        ];
        assert_eq!(Results::from_events(&events).lost_events, 2 + 5);
    }

    #[test]
    fn a_run_is_complete_only_when_it_was_taken_down_without_a_failure() {
        let down = || EventBody::TakenDown {
            leftovers: Vec::new(),
            energy_j: None,
            metering: None,
        };
        let failed = EventBody::Failed {
            message: "x".to_owned(),
            exit_code: 4,
        };
        assert!(!Results::default().is_complete());
        assert!(Results::from_events(&[event(0, None, down())]).is_complete());
        let failed = Results::from_events(&[event(0, None, failed), event(1, None, down())]);
        assert!(!failed.is_complete());
        assert_eq!(failed.failure, Some(("x".to_owned(), 4)));
    }
}
