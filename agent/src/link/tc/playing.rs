//! One playback on queueing disciplines: what each direction plays, when something is due, and what
//! has been seen.
//!
//! The first rows are set a little before T0, so that the first packet finds them. The account of bytes
//! begins then too; where the thread came only after T0, it begins with what had left when it was told to
//! play, so that what found no limit is paid back.

use hexloop_traces::{Direction, Intervention, LinkChange, Schedule, SettingsChange};
use hexloop_workloads::clock::{self, MonotonicNs};

use super::LinkError;
use super::stage::{Queue, Stage};
use crate::link::books::WindowBook;
use crate::link::histogram::NanosecondHistogram;
use crate::link::netlink::RouteSocket;
use crate::link::relay::{Play, ShaperWindow};
use crate::link::remote::Order;

/// While packets wait, their bytes are looked at this often at least, and this often at most:
/// twice in the time in which the queue could run empty.
const BUSY_LOOK_NS: u64 = 2_000_000;
const SHORTEST_LOOK_NS: u64 = 500_000;

/// While none wait.
const IDLE_LOOK_NS: u64 = 10_000_000;

/// So long before T0 the first rows are set: longer than a thread takes to wake up, and too short for
/// what comes before T0 to matter.
const LEAD_NS: u64 = 2_000_000;

/// Rows shorter than this are set together, with their mean rate.
const SHORTEST_STEP_NS: u64 = 500_000;

pub(super) struct Playing {
    pub(super) play: Box<Play>,
    /// The first rows are set.
    has_begun: bool,
    /// When the next rows are set, from T0: not too soon after the last ones.
    next_step_ns: u64,
    next_look_ns: u64,
    next_edge_ns: u64,
    pub(super) sides: [Side; 2],
    /// How long after T0 the first rows were set.
    pub(super) late_start_ns: u64,
    pub(super) cpu_at_start_ns: u64,
    pub(super) failure: Option<LinkError>,
}

/// One direction.
pub(super) struct Side {
    /// What it plays: the trace, and what was asked for meanwhile.
    schedule: Schedule,
    /// When its next row is to be set.
    next_row_ns: u64,
    /// Changes of settings that are to come, and when, in order.
    settings: Vec<(u64, SettingsChange)>,
    pub(super) lateness: NanosecondHistogram,
    queue: Queue,
    /// Since when the queue has not been seen empty.
    busy_since_ns: Option<u64>,
    drops_at_last_edge: u64,
    lost_at_last_edge: u64,
    longest_queue_bytes: u64,
}

impl Playing {
    pub(super) fn new(play: Box<Play>) -> Playing {
        let side = |schedule| Side {
            schedule,
            next_row_ns: 0,
            settings: Vec::new(),
            lateness: NanosecondHistogram::new(),
            queue: Queue::default(),
            busy_since_ns: None,
            drops_at_last_edge: 0,
            lost_at_last_edge: 0,
            longest_queue_bytes: 0,
        };
        let sides = play.curves.clone().map(|curve| side(Schedule::new(curve)));
        Playing {
            play,
            has_begun: false,
            next_step_ns: 0,
            next_look_ns: 0,
            next_edge_ns: 0,
            sides,
            late_start_ns: 0,
            cpu_at_start_ns: clock::thread_cpu_ns(),
            failure: None,
        }
    }

    /// When something is due.
    pub(super) fn due(&self) -> MonotonicNs {
        if !self.has_begun {
            return self.play.t0.saturating_sub(LEAD_NS);
        }
        let step = self.next_step_ns.min(self.next_look_ns);
        self.play.t0.saturating_add(step.min(self.next_edge_ns))
    }

    /// Nothing is due any more.
    pub(super) const fn give_up(&mut self) {
        self.has_begun = true;
        (self.next_step_ns, self.next_look_ns, self.next_edge_ns) = (u64::MAX, u64::MAX, u64::MAX);
    }

    fn since_t0_ns(&self) -> u64 {
        clock::now().saturating_sub(self.play.t0)
    }

    /// Changes one direction from a moment on or, if that is gone by, from now on. Returns from
    /// when on the change holds.
    pub(super) fn change(
        &mut self,
        socket: &mut RouteSocket,
        stages: &mut [Stage; 2],
        order: &Order,
    ) -> Result<u64, LinkError> {
        let now_ns = self.since_t0_ns();
        let at_ns = order.at.saturating_sub(self.play.t0).max(now_ns);
        let number = usize::from(order.direction == Direction::Up);
        let (side, stage) = (&mut self.sides[number], &mut stages[number]);
        match order.change {
            LinkChange::Play(change) => {
                stage.prepare_for(socket, &change)?;
                side.schedule.apply(Intervention { at_ns, change });
                side.next_row_ns = side.next_row_ns.min(at_ns);
            }
            LinkChange::Set(change) => {
                stage.check(&change)?;
                let index = side.settings.partition_point(|(at, _)| *at <= at_ns);
                side.settings.insert(index, (at_ns, change));
            }
        }
        self.next_step_ns = self.next_step_ns.min(at_ns);
        Ok(at_ns)
    }

    /// Does what is due.
    pub(super) fn act(
        &mut self,
        socket: &mut RouteSocket,
        stages: &mut [Stage; 2],
    ) -> Result<(), LinkError> {
        if !self.has_begun {
            return self.begin(socket, stages);
        }
        let step_due = self.next_step_ns;
        let now_ns = self.since_t0_ns();
        let mut stepped = [false; 2];
        if now_ns >= step_due {
            for (number, stage) in stages.iter_mut().enumerate() {
                stepped[number] = self.sides[number].step(socket, stage, now_ns)?;
            }
        }
        for (number, stage) in stages.iter_mut().enumerate() {
            let at_ns = self.since_t0_ns();
            let side = &mut self.sides[number];
            let queue = stage.look(socket, &side.schedule, at_ns)?;
            side.saw(queue, at_ns);
        }
        self.plan_next(stages);
        for (number, stage) in stages.iter_mut().enumerate() {
            let now_ns = self.since_t0_ns();
            let schedule = &self.sides[number].schedule;
            stage.steer(socket, schedule, now_ns, self.next_look_ns)?;
            if stepped[number] {
                let late_ns = self.since_t0_ns().saturating_sub(step_due);
                self.sides[number].lateness.record(late_ns);
            }
        }
        self.close_windows(socket, stages)
    }

    /// Sets the first rows.
    fn begin(
        &mut self,
        socket: &mut RouteSocket,
        stages: &mut [Stage; 2],
    ) -> Result<(), LinkError> {
        let is_early = clock::now() <= self.play.t0;
        for (side, stage) in self.sides.iter_mut().zip(stages) {
            stage.enter(socket, &side.schedule.state_at(0))?;
            if is_early {
                stage.open_account(socket)?;
            }
            stage.steer(socket, &side.schedule, 0, 0)?;
            side.next_row_ns = side.schedule.change_after(0).unwrap_or(u64::MAX);
            let late_ns = clock::now().saturating_sub(self.play.t0);
            side.lateness.record(late_ns);
            self.late_start_ns = self.late_start_ns.max(late_ns);
        }
        let next_ns = self.sides.iter().map(Side::next_ns).min();
        self.next_step_ns = next_ns.unwrap_or(u64::MAX);
        self.has_begun = true;
        Ok(())
    }

    /// When to set rows and to look next.
    fn plan_next(&mut self, stages: &[Stage; 2]) {
        let now_ns = self.since_t0_ns();
        let empty_ns = stages.iter().filter_map(Stage::empty_in_ns).min();
        let pause_ns = empty_ns.map_or(IDLE_LOOK_NS, |empty_ns| {
            (empty_ns / 2).clamp(SHORTEST_LOOK_NS, BUSY_LOOK_NS)
        });
        let next_ns = self.sides.iter().map(Side::next_ns).min();
        let next_ns = next_ns.unwrap_or(u64::MAX);
        self.next_step_ns = next_ns.max(now_ns + SHORTEST_STEP_NS);
        self.next_look_ns = now_ns + pause_ns;
        if self.next_step_ns < self.next_look_ns + SHORTEST_STEP_NS {
            self.next_look_ns = self.next_step_ns;
        }
    }

    /// Reports the windows that have ended.
    fn close_windows(
        &mut self,
        socket: &mut RouteSocket,
        stages: &mut [Stage; 2],
    ) -> Result<(), LinkError> {
        let now_ns = self.since_t0_ns();
        let window_ns = self.play.window_ns;
        let edge_ns = self.next_edge_ns;
        if now_ns < edge_ns {
            return Ok(());
        }
        let index = (edge_ns / window_ns).checked_sub(1);
        let on_time = now_ns - edge_ns < window_ns / 4;
        for (side, stage) in self.sides.iter_mut().zip(stages) {
            let dropped = side.queue.drops.saturating_sub(side.drops_at_last_edge);
            side.drops_at_last_edge = side.queue.drops;
            let all_lost = stage.lost(socket)?;
            let lost = all_lost.saturating_sub(side.lost_at_last_edge);
            side.lost_at_last_edge = all_lost;
            let queue_bytes = std::mem::take(&mut side.longest_queue_bytes);
            let Some(index) = index else { continue };
            // The receiver sees the queue of a delay ago.
            let longest_delay_ns = side.schedule.longest_delay_ns();
            let begins_ns = (edge_ns - window_ns).saturating_sub(longest_delay_ns);
            let busy = side
                .busy_since_ns
                .is_some_and(|since| since <= begins_ns + window_ns / 4);
            let book = WindowBook {
                idle: !(busy && on_time),
                queue_bytes,
                dropped,
                lost,
                ..WindowBook::default()
            };
            let window = ShaperWindow {
                direction: stage.direction,
                index,
                book,
            };
            // A window that finds no room is missing in the record, which counts it.
            let _ = self.play.windows.try_send(window);
        }
        self.next_edge_ns += window_ns;
        Ok(())
    }
}

impl Side {
    /// When it changes next.
    fn next_ns(&self) -> u64 {
        let settings_ns = self.settings.first().map_or(u64::MAX, |(at_ns, _)| *at_ns);
        self.next_row_ns.min(settings_ns)
    }

    /// Sets what has come into force by now; says whether a row has.
    fn step(
        &mut self,
        socket: &mut RouteSocket,
        stage: &mut Stage,
        now_ns: u64,
    ) -> Result<bool, LinkError> {
        let due = self.settings.partition_point(|(at_ns, _)| *at_ns <= now_ns);
        for (_, change) in self.settings.drain(..due) {
            stage.change_settings(socket, &change)?;
        }
        if self.next_row_ns > now_ns {
            return Ok(false);
        }
        stage.enter(socket, &self.schedule.state_at(now_ns))?;
        self.next_row_ns = self.schedule.change_after(now_ns).unwrap_or(u64::MAX);
        Ok(true)
    }

    fn saw(&mut self, queue: Queue, at_ns: u64) {
        self.longest_queue_bytes = self.longest_queue_bytes.max(queue.backlog_bytes);
        if queue.backlog_bytes == 0 {
            self.busy_since_ns = None;
        } else if !queue.never_empty || self.busy_since_ns.is_none() {
            self.busy_since_ns = Some(at_ns);
        }
        self.queue = queue;
    }
}
