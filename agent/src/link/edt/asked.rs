//! What is asked for while a trace plays, and how the programs come to do it.
//!
//! A packet that waits keeps the departure time that it was given. A change of what is played
//! therefore takes hold once everything has left that came before it, and at the moment that was
//! asked for if that is later. Until then the link plays what it played, so that no packet leaves
//! at a moment that no schedule has. A changed queue takes hold for what comes from then on.

use std::sync::Arc;

use hexloop_traces::{
    CapacityCurve, Direction, Intervention, LinkChange, LinkSettings, LinkState, PlaybackChange,
    Schedule, SettingsChange, Trace,
};

use hexloop_workloads::clock::{self, MonotonicNs};

use super::loaded::{Generation, Loaded, Settings};
use super::memory::{FINISH, field};
use super::reader::Lane;
use super::table::Table;
use super::{settings_of, unsupported, unsupported_state};
use crate::link::LinkError;

/// Time to make a program and have the kernel take it; doubled each time that it does not do.
const HEAD_START_NS: u64 = 4_000_000;
const LONGEST_HEAD_START_NS: u64 = 200_000_000;

/// What is this long gone by, nobody asks for any more: no program still runs that read the clock
/// before.
const PAST_NS: u64 = 1_000_000;

/// Where the programs of one direction come from.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) link: String,
    pub(super) direction: Direction,
    pub(super) trace: Arc<Trace>,
    pub(super) settings: LinkSettings,
    pub(super) mtu: u32,
}

impl Source {
    fn cannot(&self, what: impl Into<String>) -> LinkError {
        LinkError::NotOnEdt {
            link: self.link.clone(),
            what: what.into(),
        }
    }
}

/// What one direction plays.
#[derive(Debug)]
pub(super) struct Asked {
    schedule: Schedule,
    settings: LinkSettings,
    /// Changes of settings that are to come, and when, in order.
    to_come: Vec<(u64, SettingsChange)>,
    /// There is no next window: what was made of it failed.
    has_ended: bool,
}

impl Asked {
    pub(super) fn new(curve: CapacityCurve, lane: &Lane) -> Asked {
        Asked {
            schedule: Schedule::new(curve),
            settings: lane.source.settings,
            to_come: Vec::new(),
            has_ended: false,
        }
    }

    /// When the next window of a long trace is to be made.
    pub(super) fn next_window_ns(&self, lane: &Lane) -> u64 {
        let window = lane.loaded.now().table.window;
        let window = window.filter(|_| !self.has_ended);
        window.map_or(u64::MAX, |window| window.next_ns)
    }

    /// Has the next window of a long trace take over, if it is time for that. Returns until when it
    /// may have taken to do so.
    ///
    /// # Errors
    /// The trace, with what was asked for meanwhile, has too many rows to look ahead, or the kernel
    /// refuses.
    pub(super) fn enter_window_by(
        &mut self,
        now_ns: u64,
        lane: &mut Lane,
    ) -> Result<Option<u64>, LinkError> {
        let Some(window) = lane.loaded.now().table.window else {
            return Ok(None);
        };
        if now_ns < self.next_window_ns(lane) {
            return Ok(None);
        }
        let next = generation(lane, &self.schedule, self.settings, now_ns);
        let made = next.and_then(|next| lane.play(next));
        self.has_ended = made.is_err();
        made.map(|()| Some(window.until_ns))
    }

    pub(super) fn next_settings_ns(&self) -> u64 {
        self.to_come.first().map_or(u64::MAX, |(at_ns, _)| *at_ns)
    }

    /// Changes what is played from a moment on or, if that is gone by or packets are to leave
    /// later, from then on. Returns from when on the change holds.
    ///
    /// # Errors
    /// Departure times cannot do it, or the kernel refuses.
    pub(super) fn change(
        &mut self,
        at_ns: u64,
        (t0, now_ns): (MonotonicNs, u64),
        change: PlaybackChange,
        lane: &mut Lane,
    ) -> Result<u64, LinkError> {
        let mut head_start_ns = HEAD_START_NS;
        loop {
            let free_ns = field(&lane.loaded.state()?, FINISH).max(now_ns);
            let at_ns = at_ns.max(free_ns + head_start_ns);
            let mut schedule = self.schedule.clone();
            schedule.apply(Intervention { at_ns, change });
            if let Some(what) = unsupported_change(&schedule, at_ns, &change) {
                return Err(lane.source.cannot(what));
            }
            let next = generation(lane, &schedule, self.settings, now_ns)?;
            // What came meanwhile may leave later than was thought, and it may have taken too long.
            let free_ns = field(&lane.loaded.state()?, FINISH).max(clock::now().saturating_sub(t0));
            if free_ns > at_ns && head_start_ns < LONGEST_HEAD_START_NS {
                head_start_ns *= 2;
                continue;
            }
            lane.play(next)?;
            self.schedule = schedule;
            return Ok(at_ns);
        }
    }

    /// Changes settings at a moment.
    ///
    /// # Errors
    /// Departure times cannot do it.
    pub(super) fn change_settings(
        &mut self,
        at_ns: u64,
        change: SettingsChange,
        lane: &Lane,
    ) -> Result<u64, LinkError> {
        if let Some(what) = unsupported(&change.over(self.settings)) {
            return Err(lane.source.cannot(what));
        }
        let index = self.to_come.partition_point(|(at, _)| *at <= at_ns);
        self.to_come.insert(index, (at_ns, change));
        Ok(at_ns)
    }

    /// Makes the changes of settings that are due.
    pub(super) fn change_settings_by(
        &mut self,
        now_ns: u64,
        lane: &mut Lane,
    ) -> Result<(), LinkError> {
        let due = self.to_come.partition_point(|(at_ns, _)| *at_ns <= now_ns);
        if due == 0 {
            return Ok(());
        }
        for (_, change) in self.to_come.drain(..due) {
            self.settings = change.over(self.settings);
        }
        let next = generation(lane, &self.schedule, self.settings, now_ns)?;
        lane.play(next)
    }
}

/// The program for the rest of a playback.
fn generation(
    lane: &Lane,
    schedule: &Schedule,
    settings: LinkSettings,
    now_ns: u64,
) -> Result<Generation, LinkError> {
    let Lane { source, loaded, .. } = lane;
    let now = Loaded::now(loaded);
    let from_ns = now_ns.saturating_sub(PAST_NS);
    // A slot grants from its start on.
    let from_ns = from_ns - from_ns % now.settings.slot_ns.unwrap_or(1);
    let queue_bytes = settings.most_queue_bytes(source.mtu);
    let following = match now.table.window {
        Some(window) => now
            .table
            .next_window(window, schedule, from_ns, queue_bytes),
        None => now.table.following(
            &source.trace,
            source.direction,
            schedule,
            from_ns,
            queue_bytes,
        ),
    };
    let table: Table = following.map_err(|error| source.cannot(error.to_string()))?;
    let settings: Settings = settings_of(now.settings, &settings);
    loaded.another(table, settings)
}

/// Why an outage that is asked for is refused.
fn outage_without_end() -> String {
    "an outage whose end is not known yet would have to hold packets without a time to leave at; \
     lose them instead (loss 100 %), or have the outage in the trace"
        .to_owned()
}

/// What a change asks for and departure times can never do.
pub(super) fn never(change: &LinkChange) -> Option<String> {
    match change {
        LinkChange::Play(PlaybackChange::Override(over)) if over.rate_bps == Some(0) => {
            Some(outage_without_end())
        }
        LinkChange::Play(PlaybackChange::Override(over)) => {
            unsupported_state(&over.over(LinkState::TRANSPARENT))
        }
        LinkChange::Play(_) => None,
        LinkChange::Set(change) => {
            unsupported(&change.over(LinkSettings::drop_tail(1))).map(str::to_owned)
        }
    }
}

/// What a schedule asks for from a moment on, when it was changed, and departure times cannot do.
fn unsupported_change(schedule: &Schedule, at_ns: u64, change: &PlaybackChange) -> Option<String> {
    let state = schedule.state_at(at_ns);
    if state.rate_bps == 0 && schedule.change_after(at_ns).is_none() {
        return Some(outage_without_end());
    }
    never(&LinkChange::Play(*change)).or_else(|| unsupported_state(&state))
}
