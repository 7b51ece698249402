//! What the drivers of all techniques do alike: begin with the phase, have the links set, measure round
//! trips, number the trials and tell what was found.

use std::sync::mpsc::{Receiver, Sender};

use super::link::{Link, Path};
use super::{costs, grid, report, since};
use crate::clock::{self, MonotonicNs};
use crate::job::{JobCommand, JobEvent};
use crate::serve::connection::Terms;
use crate::serve::error::JobError;
use crate::serve::signal::{Ready, Signal, tell};
use crate::study::tensor_parallel::HalfCosts;
use crate::study::traced::{TracedTrial, Turn};
use crate::study::{Arm, NodeCosts, StudyFinding, StudySpec, TrialRecord};
use crate::wire::FrameKind;

/// Echoes that a round trip is the median of.
const ECHOES: u32 = 21;

/// Bytes of all stages' accounts of their costs.
const MOST_COST_BYTES: u64 = 1 << 16;

/// Which links of the path a setting is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Each of them.
    All,
    /// The rate for the first and the round trip for the last.
    Ends,
}

/// One setting of the links.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    pub(super) round_trip_ns: u64,
    pub(super) rate_bps: u64,
}

impl Setting {
    /// The links follow their traces.
    pub(super) const TRACED: Setting = Setting {
        round_trip_ns: 0,
        rate_bps: 0,
    };

    /// What the agent is asked for.
    pub(super) const fn asked(self) -> JobEvent {
        self.asked_of(Reach::All)
    }

    const fn asked_of(self, reach: Reach) -> JobEvent {
        JobEvent::SetLinks {
            round_trip_ns: self.round_trip_ns,
            rate_bps: self.rate_bps,
            ends_only: matches!(reach, Reach::Ends),
        }
    }
}

/// Where on the traces a request is asked.
#[derive(Debug)]
struct OnTraces {
    turn: Turn,
    from: MonotonicNs,
    due: MonotonicNs,
}

fn no_next_node() -> JobError {
    JobError::Spec {
        why: "something is to cross a link, and no address of a next node is given".to_owned(),
    }
}

pub(super) struct Conductor<'a> {
    link: Option<Link>,
    signals: &'a Sender<Signal>,
    told: &'a Receiver<JobCommand>,
    t0: MonotonicNs,
    trials: u32,
    groups: u32,
    reach: Reach,
    /// The request under way, where the links follow their traces.
    on_traces: Option<OnTraces>,
}

impl<'a> Conductor<'a> {
    /// Says that everything is loaded, and waits for T0. `None` if the job ends before that.
    pub(super) fn begin(
        link: Option<Link>,
        ready: Ready,
        (signals, told): (&'a Sender<Signal>, &'a Receiver<JobCommand>),
    ) -> Option<Conductor<'a>> {
        tell(signals, Signal::Ready(ready));
        let Ok(JobCommand::Start { t0_monotonic_ns }) = told.recv() else {
            return None;
        };
        clock::sleep_until(t0_monotonic_ns);
        Some(Conductor {
            link,
            signals,
            told,
            t0: t0_monotonic_ns,
            trials: 0,
            groups: 0,
            reach: Reach::All,
            on_traces: None,
        })
    }

    /// Connects to the next node, and begins: for techniques that cannot do without one.
    pub(super) fn connect(
        path: &Path,
        (needed, timeout_ns): (&Terms, u64),
        (weight_bytes, engine_path): (u64, String),
        told: (&'a Sender<Signal>, &'a Receiver<JobCommand>),
    ) -> Result<Option<Conductor<'a>>, JobError> {
        let address = path.next.ok_or_else(no_next_node)?;
        let (link, socket) = Link::open((address, path), needed, timeout_ns)?;
        let ready = Ready {
            weight_bytes,
            engine_path,
            sockets: vec![socket],
        };
        Ok(Conductor::begin(Some(link), ready, told))
    }

    /// From now on links are set so.
    pub(super) const fn reach(&mut self, reach: Reach) {
        self.reach = reach;
    }

    /// Every prompt with every arm at every setting: arms take turns, so that what drifts meets all of them.
    pub(super) fn try_everything(
        &mut self,
        study: &StudySpec,
        mut answer: impl FnMut(&mut Self, &Arm, Setting, u32) -> Result<TrialRecord, JobError>,
    ) -> Result<(), JobError> {
        for round_trip_ns in &study.grid.round_trips_ns {
            let echo = self.echo(*round_trip_ns)?;
            let row = grid::row(&study.grid, *round_trip_ns, echo, None);
            let rates_bps = row.rates_bps.clone();
            self.find(StudyFinding::Row(row));
            for rate_bps in rates_bps {
                let setting = Setting {
                    round_trip_ns: *round_trip_ns,
                    rate_bps,
                };
                self.set_links(setting)?;
                for prompt in 0..study.prompts {
                    for arm in &study.arms {
                        let record = answer(self, arm, setting, prompt)?;
                        self.find_trial(record);
                    }
                }
            }
        }
        Ok(())
    }

    /// All trials are over.
    pub(super) fn end(&self) {
        report(self.signals, JobEvent::Idle);
    }

    pub(super) fn find(&self, finding: StudyFinding) {
        report(self.signals, JobEvent::Study(finding));
    }

    /// Tells of a trial: of one at a setting, or of one on the traces.
    pub(super) fn find_trial(&self, trial: TrialRecord) {
        let offset = self.offset();
        self.find(match &self.on_traces {
            None => StudyFinding::Trial(trial),
            Some(on) => StudyFinding::Traced(Box::new(TracedTrial {
                repetition: on.turn.repetition,
                request: on.turn.request,
                from_ns: offset(on.from),
                due_ns: offset(on.due),
                trial,
            })),
        });
    }

    /// Waits until a request on the traces is due; with the first of a round they begin anew.
    pub(super) fn take_turn(&mut self, turn: Turn) -> Result<(), JobError> {
        let begun = self.on_traces.as_ref().map(|on| on.from);
        let from = match begun.filter(|_| turn.request > 0) {
            Some(from) => from,
            None => self.play_traces()?,
        };
        let due = from.saturating_add(turn.after_ns);
        clock::sleep_until(due);
        self.on_traces = Some(OnTraces { turn, from, due });
        Ok(())
    }

    /// Has the links follow their traces from the start; when that was.
    fn play_traces(&self) -> Result<MonotonicNs, JobError> {
        report(self.signals, JobEvent::PlayTraces);
        match self.told.recv() {
            Ok(JobCommand::TracesPlay { from_monotonic_ns }) => Ok(from_monotonic_ns),
            _ => Err(JobError::Spec {
                why: "it was told something else when its links were to follow their traces"
                    .to_owned(),
            }),
        }
    }

    pub(super) fn link(&mut self) -> Result<&mut Link, JobError> {
        self.link.as_mut().ok_or_else(no_next_node)
    }

    /// Moments as offsets from T0.
    pub(super) fn offset(&self) -> impl Fn(MonotonicNs) -> u64 + Copy + use<> {
        since(self.t0)
    }

    /// The number of a group of requests that are under way together.
    pub(super) const fn next_group(&mut self) -> u32 {
        let group = self.groups;
        self.groups += 1;
        group
    }

    /// The record of a trial that begins now.
    pub(super) fn next_trial(
        &mut self,
        arm: &Arm,
        setting: Setting,
        (group, prompt): (u32, u32),
    ) -> TrialRecord {
        let number = self.trials;
        self.trials += 1;
        TrialRecord {
            number,
            group,
            arm: arm.clone(),
            round_trip_ns: setting.round_trip_ns,
            rate_bps: setting.rate_bps,
            prompt,
            started_ns: since(self.t0)(clock::now()),
            token_ns: Vec::new(),
            tokens: Vec::new(),
            ties: Vec::new(),
            hops: Vec::new(),
            busy_ns: vec![0],
            rounds: Vec::new(),
            decisions: Vec::new(),
            outage: None,
            transfer: None,
            retrieval: None,
            placed: None,
            halves: None,
        }
    }

    /// The record of a request that is no trial. It is numbered among them, so that no stage takes it for
    /// another.
    pub(super) fn next_calibration(&mut self, arm: &Arm, setting: Setting) -> TrialRecord {
        self.next_trial(arm, setting, (u32::MAX, u32::MAX))
    }

    /// What computing costs on every stage at a position, one after the other.
    pub(super) fn costs_of_stages(&mut self, position: u32) -> Result<Vec<NodeCosts>, JobError> {
        let Some(link) = &mut self.link else {
            return Ok(Vec::new());
        };
        link.write((FrameKind::Measure, 0), position, &[])?;
        let frame = link.read(&[FrameKind::Costs], MOST_COST_BYTES)?;
        let stages: Result<Vec<NodeCosts>, _> = serde_json::from_slice(&frame.body);
        stages.map_err(|error| link.wrong(&frame, &format!("it holds no costs: {error}")))
    }

    /// What half of a layer costs the other of two nodes, at a position.
    pub(super) fn half_costs(&mut self, position: u32) -> Result<HalfCosts, JobError> {
        let link = self.link()?;
        link.write((FrameKind::HalfCosts, 0), position, &[])?;
        let frame = link.read(&[FrameKind::HalfCosts], MOST_COST_BYTES)?;
        let costs: Result<HalfCosts, _> = serde_json::from_slice(&frame.body);
        costs.map_err(|error| link.wrong(&frame, &format!("it holds no costs: {error}")))
    }

    /// The median round trip over the whole path, and echoes that it is of.
    pub(super) fn echo(&mut self, round_trip_ns: u64) -> Result<(u64, u32), JobError> {
        self.set_links(Setting {
            round_trip_ns,
            rate_bps: grid::ECHO_RATE_BPS,
        })?;
        self.echo_at(0)
    }

    /// The same to the node at a place of the path, 0 for the last, with the links as they are.
    pub(super) fn echo_at(&mut self, place: u32) -> Result<(u64, u32), JobError> {
        if self.link.is_none() {
            return Ok((0, 0));
        }
        let mut times = Vec::new();
        for _ in 0..ECHOES {
            times.push(self.echo_once(place)?);
        }
        Ok((costs::median(&mut times), ECHOES))
    }

    /// The round trip of one empty frame to a node further on.
    pub(super) fn echo_once(&mut self, place: u32) -> Result<u64, JobError> {
        let link = self.link()?;
        let began = clock::now();
        link.write((FrameKind::Echo, 0), place, &[])?;
        link.read(&[FrameKind::Echo], 0)?;
        Ok(clock::now().saturating_sub(began))
    }

    /// Has the links set, and waits until they are.
    pub(super) fn set_links(&self, setting: Setting) -> Result<(), JobError> {
        if self.link.is_none() {
            return Ok(());
        }
        report(self.signals, setting.asked_of(self.reach));
        self.links_are_set()
    }

    /// To whom a thread of its own may tell something.
    pub(super) const fn signals(&self) -> &Sender<Signal> {
        self.signals
    }

    /// Waits until the links are as somebody has asked.
    pub(super) fn links_are_set(&self) -> Result<(), JobError> {
        match self.told.recv() {
            Ok(JobCommand::LinksSet) => Ok(()),
            _ => Err(JobError::Spec {
                why: "it was told something else when its links were to be set".to_owned(),
            }),
        }
    }
}
