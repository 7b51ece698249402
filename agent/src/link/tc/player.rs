//! The thread that plays a trace on queueing disciplines: it sets the rows of the trace when
//! their time has come, looks at the classes in between, and steers their bytes.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::thread;
use std::time::Duration;

use hexloop_traces::{EndPolicy, LinkState, Trace};
use hexloop_workloads::clock::{self, MonotonicNs};

use super::LinkError;
use super::stage::{Queue, Stage};
use crate::link::books::WindowBook;
use crate::link::histogram::NanosecondHistogram;
use crate::link::netlink::RouteSocket;
use crate::link::relay::{Play, Played, ShaperWindow};

/// Between two commands the thread looks up this often; a command wakes it.
const IDLE: Duration = Duration::from_secs(1);

/// A command is noticed within this time while a trace plays.
const LONGEST_SLEEP_NS: u64 = 20_000_000;

/// While packets wait, their bytes are looked at this often at least, and this often at most:
/// twice in the time in which the queue could run empty.
const BUSY_LOOK_NS: u64 = 2_000_000;
const SHORTEST_LOOK_NS: u64 = 500_000;

/// While none wait.
const IDLE_LOOK_NS: u64 = 10_000_000;

/// Rows shorter than this are set together, with their mean rate.
const SHORTEST_STEP_NS: u64 = 500_000;

pub(super) enum Command {
    Play(Box<Play>),
    Stop(SyncSender<Result<TcPlayed, LinkError>>),
    Quit,
}

/// What was played, and how far the bytes were from the trace.
#[derive(Debug)]
pub(super) struct TcPlayed {
    pub(super) played: Played,
    /// See [`super::TcPlayer::largest_error_bytes`].
    pub(super) largest_error_bytes: [u64; 2],
}

struct Playing {
    play: Box<Play>,
    /// The next row to set, and when, as an offset from T0.
    next_row: usize,
    next_row_ns: u64,
    /// When the next rows are set: not too soon after the last ones.
    next_step_ns: u64,
    next_look_ns: u64,
    next_edge_ns: u64,
    sides: [Side; 2],
    cpu_at_start_ns: u64,
    failure: Option<LinkError>,
}

/// What is known of one direction.
struct Side {
    lateness: NanosecondHistogram,
    queue: Queue,
    /// Since when the queue has not been seen empty.
    busy_since_ns: Option<u64>,
    drops_at_last_edge: u64,
    longest_queue_bytes: u64,
}

pub(super) struct Worker {
    /// In the namespace of all the stages' interfaces.
    socket: RouteSocket,
    /// In the order of [`hexloop_traces::Direction::BOTH`].
    stages: [Stage; 2],
    trace: Trace,
    inbox: Receiver<Command>,
    playing: Option<Playing>,
}

impl Worker {
    pub(super) const fn new(
        socket: RouteSocket,
        stages: [Stage; 2],
        trace: Trace,
        inbox: Receiver<Command>,
    ) -> Worker {
        Worker {
            socket,
            stages,
            trace,
            inbox,
            playing: None,
        }
    }

    pub(super) fn run(mut self) {
        while self.obey() {
            let Some(playing) = &self.playing else {
                thread::park_timeout(IDLE);
                continue;
            };
            let due = playing.play.t0.saturating_add(playing.next_due_ns());
            let now = clock::now();
            if due > now {
                clock::sleep_until(due.min(now + LONGEST_SLEEP_NS));
                if clock::now() < due {
                    continue;
                }
            }
            self.stand_still();
            self.act();
        }
    }

    fn obey(&mut self) -> bool {
        loop {
            match self.inbox.try_recv() {
                Ok(Command::Play(play)) => self.start(play),
                Ok(Command::Stop(reply)) => {
                    let played = self.finish();
                    // The asker may have given up waiting.
                    let _ = reply.send(played);
                }
                Ok(Command::Quit) | Err(TryRecvError::Disconnected) => return false,
                Err(TryRecvError::Empty) => return true,
            }
        }
    }

    fn start(&mut self, play: Box<Play>) {
        for stage in &mut self.stages {
            stage.start(play.seed);
        }
        self.playing = Some(Playing::new(play));
    }

    fn finish(&mut self) -> Result<TcPlayed, LinkError> {
        let playing = self.playing.take();
        for stage in &mut self.stages {
            stage.clear(&mut self.socket)?;
        }
        let [down, up] = &self.stages;
        let largest_error_bytes = [down.largest_error_bytes(), up.largest_error_bytes()];
        let Some(playing) = playing else {
            let empty = NanosecondHistogram::new;
            return Ok(TcPlayed {
                played: Played::undisturbed([empty(), empty()], 0),
                largest_error_bytes,
            });
        };
        if let Some(failure) = playing.failure {
            return Err(failure);
        }
        Ok(TcPlayed {
            played: Played::undisturbed(
                playing.sides.map(|side| side.lateness),
                clock::thread_cpu_ns().saturating_sub(playing.cpu_at_start_ns),
            ),
            largest_error_bytes,
        })
    }

    /// A fault: the thread does nothing for a while.
    fn stand_still(&mut self) {
        let Some(playing) = &mut self.playing else {
            return;
        };
        if let Some((from, until)) = playing.play.pause
            && clock::now() >= playing.play.t0 + from
        {
            playing.play.pause = None;
            clock::sleep_until(playing.play.t0 + until);
        }
    }

    /// Does what is due. After a failure nothing is changed any more; the failure is the
    /// answer to the end of the playback.
    fn act(&mut self) {
        let Some(playing) = &mut self.playing else {
            return;
        };
        if playing.failure.is_some() {
            playing.give_up();
            return;
        }
        if let Err(failure) = playing.act(&mut self.socket, &mut self.stages, &self.trace) {
            playing.failure = Some(failure);
        }
    }
}

impl Playing {
    fn new(play: Box<Play>) -> Playing {
        let side = || Side {
            lateness: NanosecondHistogram::new(),
            queue: Queue::default(),
            busy_since_ns: None,
            drops_at_last_edge: 0,
            longest_queue_bytes: 0,
        };
        Playing {
            play,
            next_row: 0,
            next_row_ns: 0,
            next_step_ns: 0,
            next_look_ns: 0,
            next_edge_ns: 0,
            sides: [side(), side()],
            cpu_at_start_ns: clock::thread_cpu_ns(),
            failure: None,
        }
    }

    fn next_due_ns(&self) -> u64 {
        let step = self.next_step_ns.min(self.next_look_ns);
        step.min(self.next_edge_ns)
    }

    fn give_up(&mut self) {
        (self.next_step_ns, self.next_look_ns, self.next_edge_ns) = (u64::MAX, u64::MAX, u64::MAX);
    }

    fn since_t0_ns(&self) -> u64 {
        clock::now().saturating_sub(self.play.t0)
    }

    fn act(
        &mut self,
        socket: &mut RouteSocket,
        stages: &mut [Stage; 2],
        trace: &Trace,
    ) -> Result<(), LinkError> {
        let step_due = self.next_step_ns;
        let stepped = self.since_t0_ns() >= step_due;
        if stepped {
            let now_ns = self.since_t0_ns();
            let mut state = [LinkState::TRANSPARENT; 2];
            while self.next_row_ns <= now_ns {
                let (found, following_ns) = state_and_next(trace, self.next_row);
                state = found;
                self.next_row += 1;
                self.next_row_ns = following_ns;
            }
            for (stage, state) in stages.iter_mut().zip(&state) {
                stage.enter(socket, state)?;
            }
        }
        for (number, stage) in stages.iter_mut().enumerate() {
            let curve = &self.play.curves[number];
            let at_ns = self.since_t0_ns();
            let queue = stage.look(socket, curve, at_ns)?;
            self.sides[number].saw(queue, at_ns);
        }
        let now_ns = self.since_t0_ns();
        let empty_ns = stages.iter().filter_map(Stage::empty_in_ns).min();
        let pause_ns = empty_ns.map_or(IDLE_LOOK_NS, |empty_ns| {
            (empty_ns / 2).clamp(SHORTEST_LOOK_NS, BUSY_LOOK_NS)
        });
        self.next_step_ns = self.next_row_ns.max(now_ns + SHORTEST_STEP_NS);
        if self.next_row_ns == u64::MAX {
            self.next_step_ns = u64::MAX;
        }
        self.next_look_ns = now_ns + pause_ns;
        if self.next_step_ns < self.next_look_ns + SHORTEST_STEP_NS {
            self.next_look_ns = self.next_step_ns;
        }
        for (number, stage) in stages.iter_mut().enumerate() {
            let curve = &self.play.curves[number];
            let now_ns = self.since_t0_ns();
            stage.steer(socket, curve, now_ns, self.next_look_ns)?;
            if stepped {
                let late_ns = self.since_t0_ns().saturating_sub(step_due);
                self.sides[number].lateness.record(late_ns);
            }
        }
        self.close_windows(stages);
        Ok(())
    }

    /// Reports the windows that have ended.
    fn close_windows(&mut self, stages: &[Stage; 2]) {
        let now_ns = self.since_t0_ns();
        let window_ns = self.play.window_ns;
        let edge_ns = self.next_edge_ns;
        if now_ns < edge_ns {
            return;
        }
        let index = (edge_ns / window_ns).checked_sub(1);
        let on_time = now_ns - edge_ns < window_ns / 4;
        for (side, stage) in self.sides.iter_mut().zip(stages) {
            let dropped = side.queue.drops.saturating_sub(side.drops_at_last_edge);
            side.drops_at_last_edge = side.queue.drops;
            let queue_bytes = std::mem::take(&mut side.longest_queue_bytes);
            let Some(index) = index else { continue };
            // The receiver sees the queue of a delay ago.
            let begins_ns = (edge_ns - window_ns).saturating_sub(self.play.longest_delay_ns);
            let busy = side
                .busy_since_ns
                .is_some_and(|since| since <= begins_ns + window_ns / 4);
            let book = WindowBook {
                idle: !(busy && on_time),
                queue_bytes,
                dropped,
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
    }
}

impl Side {
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
/// The states of both directions that row number `count` (over all periods) sets, and when the
/// next one is due as an offset from T0.
fn state_and_next(trace: &Trace, count: usize) -> ([LinkState; 2], MonotonicNs) {
    let rows = trace.rows();
    let end = trace.metadata().end;
    let (period, place) = match end {
        EndPolicy::Loop => (count / rows.len(), count % rows.len()),
        EndPolicy::Hold | EndPolicy::Clear => (0, count),
    };
    let Some(row) = rows.get(place) else {
        return ([LinkState::TRANSPARENT; 2], u64::MAX);
    };
    let base_ns = u64::try_from(period)
        .unwrap_or(0)
        .saturating_mul(trace.duration_ns());
    let next_ns = match (rows.get(place + 1), end) {
        (Some(next), _) => next.t_ns,
        (None, EndPolicy::Hold) => return ([row.down, row.up], u64::MAX),
        (None, EndPolicy::Loop | EndPolicy::Clear) => trace.duration_ns(),
    };
    ([row.down, row.up], base_ns.saturating_add(next_ns))
}
#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::testing::{MS, state, trace};

    #[test]
    fn a_looped_trace_comes_round_again() {
        let rows = [(10 * MS, state(1, 0)), (20 * MS, state(2, 0))];
        let trace = trace(EndPolicy::Loop, &rows);
        assert_eq!(state_and_next(&trace, 0), ([state(1, 0); 2], 10 * MS));
        assert_eq!(state_and_next(&trace, 1), ([state(2, 0); 2], 30 * MS));
        assert_eq!(state_and_next(&trace, 2), ([state(1, 0); 2], 40 * MS));
    }

    #[test]
    fn a_held_trace_keeps_its_last_row_and_a_cleared_one_lifts_it() {
        let held = trace(EndPolicy::Hold, &[(10 * MS, state(1, 0))]);
        assert_eq!(state_and_next(&held, 0), ([state(1, 0); 2], u64::MAX));
        let cleared = trace(EndPolicy::Clear, &[(10 * MS, state(1, 0))]);
        assert_eq!(state_and_next(&cleared, 0), ([state(1, 0); 2], 10 * MS));
        assert_eq!(
            state_and_next(&cleared, 1),
            ([LinkState::TRANSPARENT; 2], u64::MAX)
        );
    }
}
