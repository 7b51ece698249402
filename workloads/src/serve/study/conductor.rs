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
use crate::study::{Arm, NodeCosts, StudyFinding, TrialRecord};
use crate::wire::FrameKind;

/// Echoes that a round trip is the median of.
const ECHOES: u32 = 21;

/// Bytes of all stages' accounts of their costs.
const MOST_COST_BYTES: u64 = 1 << 16;

/// One setting of all links.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    pub(super) round_trip_ns: u64,
    pub(super) rate_bps: u64,
}

impl Setting {
    /// What the agent is asked for.
    pub(super) const fn asked(self) -> JobEvent {
        JobEvent::SetLinks {
            round_trip_ns: self.round_trip_ns,
            rate_bps: self.rate_bps,
        }
    }
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

    /// All trials are over.
    pub(super) fn end(self) {
        report(self.signals, JobEvent::Idle);
    }

    pub(super) fn find(&self, finding: StudyFinding) {
        report(self.signals, JobEvent::Study(finding));
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
            hops: Vec::new(),
            busy_ns: vec![0],
            rounds: Vec::new(),
            decisions: Vec::new(),
            outage: None,
            transfer: None,
            retrieval: None,
        }
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

    /// The median round trip over the whole path, and echoes that it is of.
    pub(super) fn echo(&mut self, round_trip_ns: u64) -> Result<(u64, u32), JobError> {
        if self.link.is_none() {
            return Ok((0, 0));
        }
        self.set_links(Setting {
            round_trip_ns,
            rate_bps: grid::ECHO_RATE_BPS,
        })?;
        let mut times = Vec::new();
        if let Some(link) = &mut self.link {
            for number in 0..ECHOES {
                let began = clock::now();
                link.write((FrameKind::Echo, number), 0, &[])?;
                link.read(&[FrameKind::Echo], 0)?;
                times.push(clock::now().saturating_sub(began));
            }
        }
        Ok((costs::median(&mut times), ECHOES))
    }

    /// Has the links set, and waits until they are.
    pub(super) fn set_links(&self, setting: Setting) -> Result<(), JobError> {
        if self.link.is_none() {
            return Ok(());
        }
        report(self.signals, setting.asked());
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
