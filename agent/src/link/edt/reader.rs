//! The thread that reads what the programs wrote, as windows end. It shapes nothing.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::Duration;

use hexloop_traces::{Direction, LinkChange};
use hexloop_workloads::clock::{self, MonotonicNs};

use super::asked::{Asked, Source};
use super::loaded::{Generation, Loaded};
use super::memory::{
    ARRIVAL, CONSUMED, DAMAGED, DOUBLES, DROPPED, FINISH, GAP_RING, GAP_RING_ENTRIES, GAPS, LOST,
    ORDER, PEAK_RING, PEAK_RING_ENTRIES, field,
};
use super::messages::Hook;
use super::port::Port;
use crate::link::LinkError;
use crate::link::books::WindowBooks;
use crate::link::relay::{Play, Played, ShaperWindow};
use crate::link::remote::Order;

/// After the end of a trace, packets that it has delayed may go in peace for so long.
const LONGEST_DRAIN_NS: u64 = 1_000_000_000;

/// Between two looks.
const SHORTEST_SLEEP_NS: u64 = 1_000_000;

/// Ring entries that are read once more: their writer may have been between number and entry.
const READ_AGAIN: u64 = 8;

pub(super) enum Command {
    Play(Box<Play>, SyncSender<Result<(), LinkError>>),
    Change(Order),
    Stop(SyncSender<Result<Played, LinkError>>),
    Quit,
}

/// One direction.
pub(super) struct Lane {
    pub(super) source: Source,
    pub(super) loaded: Loaded,
    /// The port whose fq holds its packets.
    pub(super) port: Port,
}

struct Playing {
    play: Box<Play>,
    /// What is asked for, in the order of [`Direction::BOTH`].
    asked: [Asked; 2],
    books: [LaneBooks; 2],
    next_look_ns: u64,
    cpu_at_start_ns: u64,
    failure: Option<LinkError>,
}

impl Playing {
    fn next_close_ns(&self) -> u64 {
        let [down, up] = &self.books;
        down.windows.next_close_ns().min(up.windows.next_close_ns())
    }
}

/// What has been read of one direction.
struct LaneBooks {
    windows: WindowBooks,
    gaps: u64,
    dropped: u64,
    lost: u64,
    doubled: u64,
    damaged: u64,
}

pub(super) struct Reader {
    /// In the order of [`Direction::BOTH`].
    pub(super) lanes: [Lane; 2],
    pub(super) inbox: Receiver<Command>,
    playing: Option<Playing>,
}

impl Lane {
    /// Goes back to what a playback begins with.
    fn begin_anew(&mut self) -> Result<(), LinkError> {
        if self.loaded.begin_anew() {
            let stamp = &self.loaded.now().stamp;
            self.port.exchange(Hook::Egress, stamp, "hx_stamp")?;
        }
        Ok(())
    }

    /// From now on another program stamps.
    pub(super) fn play(&mut self, next: Generation) -> Result<(), LinkError> {
        self.port.exchange(Hook::Egress, &next.stamp, "hx_stamp")?;
        self.loaded.take_over(next);
        Ok(())
    }
}

impl Reader {
    pub(super) const fn new(lanes: [Lane; 2], inbox: Receiver<Command>) -> Reader {
        Reader {
            lanes,
            inbox,
            playing: None,
        }
    }

    pub(super) fn run(mut self) {
        loop {
            // An asker may have given up waiting for an answer.
            match self.next_command() {
                Ok(Command::Play(play, reply)) => {
                    // Who asked may have given up.
                    let _ = reply.send(self.start(play));
                }
                Ok(Command::Change(order)) => {
                    // Who asked may have given up.
                    let _ = order.reply.send(self.change(&order));
                }
                Ok(Command::Stop(reply)) => {
                    // Who asked may have given up.
                    let _ = reply.send(self.finish());
                }
                Err(RecvTimeoutError::Timeout) => self.look(),
                Ok(Command::Quit) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// The next command, or a time-out when the next window can be closed.
    fn next_command(&self) -> Result<Command, RecvTimeoutError> {
        let Some(playing) = &self.playing else {
            return self
                .inbox
                .recv()
                .map_err(|_gone| RecvTimeoutError::Disconnected);
        };
        let [down, up] = &playing.asked;
        let settings_ns = down.next_settings_ns().min(up.next_settings_ns());
        let windows = playing.asked.iter().zip(&self.lanes);
        let window_ns = windows
            .map(|(asked, lane)| asked.next_window_ns(lane))
            .min();
        let look_ns = playing.next_look_ns.min(settings_ns);
        let look_ns = look_ns.min(window_ns.unwrap_or(u64::MAX));
        let look = playing.play.t0.saturating_add(look_ns);
        let wait = Duration::from_nanos(look.saturating_sub(clock::now()));
        self.inbox.recv_timeout(wait)
    }

    fn start(&mut self, play: Box<Play>) -> Result<(), LinkError> {
        for lane in &mut self.lanes {
            lane.begin_anew()?;
            lane.port.forget_drops()?;
            lane.loaded.start(play.t0, play.pause)?;
        }
        let books = [(); 2].map(|()| LaneBooks {
            windows: WindowBooks::new(play.window_ns, play.longest_delay_ns),
            gaps: 0,
            dropped: 0,
            lost: 0,
            doubled: 0,
            damaged: 0,
        });
        let [down, up] = &self.lanes;
        let [first, second] = play.curves.clone();
        let asked = [Asked::new(first, down), Asked::new(second, up)];
        self.playing = Some(Playing {
            asked,
            books,
            next_look_ns: 0,
            cpu_at_start_ns: clock::thread_cpu_ns(),
            failure: None,
            play,
        });
        Ok(())
    }

    fn look(&mut self) {
        let Some(playing) = &mut self.playing else {
            return;
        };
        let now = clock::now();
        let Some(now_ns) = now.checked_sub(playing.play.t0) else {
            return;
        };
        for (lane, asked) in self.lanes.iter_mut().zip(&mut playing.asked) {
            if let Err(failure) = asked.change_settings_by(now_ns, lane) {
                playing.failure = Some(failure);
            }
            match asked.enter_window_by(now_ns, lane) {
                Ok(until_ns) => {
                    let done_ns = clock::now().saturating_sub(playing.play.t0);
                    if let Some(until_ns) = until_ns.filter(|until_ns| *until_ns < done_ns) {
                        playing.failure = Some(LinkError::RowsLate {
                            link: lane.source.link.clone(),
                            late_ns: done_ns - until_ns,
                        });
                    }
                }
                Err(failure) => playing.failure = Some(failure),
            }
        }
        if now_ns < playing.next_look_ns {
            return;
        }
        for (lane, books) in self.lanes.iter_mut().zip(&mut playing.books) {
            match books.read(lane, now_ns, playing.play.window_ns) {
                Ok(close) => close.send(lane.source.direction, books, &playing.play),
                Err(failure) => playing.failure = Some(failure),
            }
        }
        // After a failure nothing is closed, and nobody is in a hurry.
        playing.next_look_ns = playing.next_close_ns().max(now_ns + SHORTEST_SLEEP_NS);
    }

    /// Changes what is played; `None` if nothing is.
    fn change(&mut self, order: &Order) -> Result<Option<u64>, LinkError> {
        // What is overdue is told before something else takes its place.
        self.look();
        let Some(playing) = &mut self.playing else {
            return Ok(None);
        };
        let side = usize::from(order.direction == Direction::Up);
        let at_ns = order.at.saturating_sub(playing.play.t0);
        let now_ns = clock::now().saturating_sub(playing.play.t0);
        let (asked, lane) = (&mut playing.asked[side], &mut self.lanes[side]);
        let made = match order.change {
            LinkChange::Play(change) => {
                asked.change(at_ns, (playing.play.t0, now_ns), change, lane)
            }
            LinkChange::Set(change) => asked.change_settings(at_ns.max(now_ns), change, lane),
        };
        made.map(Some)
    }

    fn finish(&mut self) -> Result<Played, LinkError> {
        self.look();
        let mut last_due: MonotonicNs = 0;
        let playing = self.playing.take();
        for lane in &self.lanes {
            lane.loaded.stop()?;
            if let Some(playing) = &playing {
                let state = lane.loaded.state()?;
                let due_ns = field(&state, ORDER).max(field(&state, ARRIVAL));
                last_due = last_due.max(playing.play.t0.saturating_add(due_ns));
            }
        }
        let until = last_due.min(clock::now() + LONGEST_DRAIN_NS);
        clock::sleep_until(until);
        if until < last_due {
            for lane in &mut self.lanes {
                lane.port.empty()?;
            }
        }
        let [down, up] = &self.lanes;
        let lateness = [down.loaded.lateness()?, up.loaded.lateness()?];
        let cpu_ns = match playing {
            Some(Playing {
                failure: Some(failure),
                ..
            }) => return Err(failure),
            Some(playing) => clock::thread_cpu_ns().saturating_sub(playing.cpu_at_start_ns),
            None => 0,
        };
        Ok(Played::undisturbed(lateness, cpu_ns))
    }
}

/// What closing windows needs to know.
struct Close {
    now_ns: u64,
    idle_since: Option<u64>,
    queue_bytes: u64,
}

impl Close {
    fn send(&self, direction: Direction, books: &mut LaneBooks, play: &Play) {
        let windows = &mut books.windows;
        while let Some((index, book)) =
            windows.close(self.now_ns, self.idle_since, self.queue_bytes)
        {
            // A window that finds no room is missing in the record, which counts it.
            let _ = play.windows.try_send(ShaperWindow {
                direction,
                index,
                book,
            });
        }
    }
}

impl LaneBooks {
    fn read(&mut self, lane: &mut Lane, now_ns: u64, window_ns: u64) -> Result<Close, LinkError> {
        // The clock was read before: what comes meanwhile makes the queue look longer, not idle.
        let state = lane.loaded.state()?;
        let table = &lane.loaded.now().table;
        self.read_gaps(&state, now_ns, window_ns);
        let peaks = ring(&state, PEAK_RING, PEAK_RING_ENTRIES);
        for (number, units) in peaks.filter(|&(number, _)| number > 0) {
            self.windows
                .queue((number - 1).saturating_mul(window_ns), table.bytes(units));
        }
        // What is counted here belongs to the window that has just ended.
        let counted_ns = now_ns.saturating_sub(window_ns);
        let dropped = field(&state, DROPPED) + lane.port.drops()?;
        for _ in self.dropped..dropped {
            self.windows.dropped(counted_ns);
        }
        for _ in self.lost..field(&state, LOST) {
            self.windows.lost(counted_ns);
        }
        (self.dropped, self.lost) = (dropped, field(&state, LOST));
        for _ in self.doubled..field(&state, DOUBLES) {
            self.windows.duplicated(counted_ns);
        }
        for _ in self.damaged..field(&state, DAMAGED) {
            self.windows.corrupted(counted_ns);
        }
        (self.doubled, self.damaged) = (field(&state, DOUBLES), field(&state, DAMAGED));
        let ahead = field(&state, CONSUMED).wrapping_sub(lane.loaded.granted_at(now_ns));
        let ahead = if ahead > u64::MAX / 2 { 0 } else { ahead };
        let idle = ahead == 0 && field(&state, FINISH) < now_ns;
        Ok(Close {
            now_ns,
            idle_since: idle.then(|| field(&state, ARRIVAL)),
            queue_bytes: table.bytes(ahead),
        })
    }

    fn read_gaps(&mut self, state: &[u8], now_ns: u64, window_ns: u64) {
        let gaps = field(state, GAPS);
        let room = u64::try_from(GAP_RING_ENTRIES).unwrap_or(0);
        if gaps - self.gaps > room {
            // Not all gaps were read: no window of that time can be said to have had none.
            let since_ns = (gaps - self.gaps + 2).saturating_mul(window_ns);
            self.windows.idle(now_ns.saturating_sub(since_ns), now_ns);
        }
        let first = self
            .gaps
            .saturating_sub(READ_AGAIN)
            .max(gaps.saturating_sub(room));
        let entries: Vec<(u64, u64)> = ring(state, GAP_RING, GAP_RING_ENTRIES).collect();
        for gap in first..gaps {
            let entry = usize::try_from(gap % room)
                .ok()
                .and_then(|place| entries.get(place));
            if let Some(&(from_ns, to_ns)) = entry {
                self.windows.idle(from_ns, to_ns);
            }
        }
        self.gaps = gaps;
    }
}

/// The pairs of a ring.
fn ring(state: &[u8], offset: i16, entries: i32) -> impl Iterator<Item = (u64, u64)> {
    let start = usize::try_from(offset).unwrap_or(0);
    let entries = usize::try_from(entries).unwrap_or(0);
    let bytes = state.get(start..start + 16 * entries).unwrap_or_default();
    bytes
        .chunks_exact(16)
        .map(|pair| (field(pair, 0), field(pair, 8)))
}
