//! The thread that plays a trace on queueing disciplines, and looks at them at window edges.

use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::thread;
use std::time::Duration;

use hexloop_traces::{EndPolicy, LinkState, Trace, UNLIMITED_RATE_BPS};
use hexloop_workloads::clock::{self, MonotonicNs};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcMessage, TcStats2};

use super::{LinkError, Shaped, messages};
use crate::link::books::WindowBook;
use crate::link::histogram::NanosecondHistogram;
use crate::link::relay::{Play, Played, ShaperWindow};

/// Between two commands the thread looks up this often; a command wakes it.
const IDLE: Duration = Duration::from_secs(1);

/// A command is noticed within this time while a trace plays.
const LONGEST_SLEEP_NS: u64 = 20_000_000;

pub(super) enum Command {
    Play(Box<Play>),
    Stop(SyncSender<Result<Played, LinkError>>),
    Quit,
}

struct Playing {
    play: Box<Play>,
    /// The next row to set, and when, as an offset from T0.
    next_row: usize,
    next_change_ns: u64,
    next_edge_ns: u64,
    at_last_edge: [Queue; 2],
    lateness: [NanosecondHistogram; 2],
    cpu_at_start_ns: u64,
    failure: Option<LinkError>,
}

/// What a queue held when it was looked at.
#[derive(Debug, Clone, Copy, Default)]
struct Queue {
    backlog_bytes: u64,
    drops: u64,
    /// More than the delay alone holds.
    backlogged: bool,
}

pub(super) struct Worker {
    /// In the order of [`hexloop_traces::Direction::BOTH`].
    shaped: [Shaped; 2],
    trace: Trace,
    inbox: Receiver<Command>,
    playing: Option<Playing>,
}

impl Worker {
    pub(super) const fn new(shaped: [Shaped; 2], trace: Trace, inbox: Receiver<Command>) -> Worker {
        Worker {
            shaped,
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
            let due_ns = playing.next_change_ns.min(playing.next_edge_ns);
            let due = playing.play.t0.saturating_add(due_ns);
            let now = clock::now();
            if due > now {
                clock::sleep_until(due.min(now + LONGEST_SLEEP_NS));
                if clock::now() < due {
                    continue;
                }
            }
            self.stand_still();
            self.change();
            self.look();
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
        self.playing = Some(Playing {
            next_row: 0,
            next_change_ns: 0,
            next_edge_ns: 0,
            at_last_edge: [Queue::default(); 2],
            lateness: [NanosecondHistogram::new(), NanosecondHistogram::new()],
            cpu_at_start_ns: clock::thread_cpu_ns(),
            failure: None,
            play,
        });
    }

    fn finish(&mut self) -> Result<Played, LinkError> {
        let playing = self.playing.take();
        for shaped in &mut self.shaped {
            shaped.change(&LinkState::TRANSPARENT)?;
        }
        let empty = || [NanosecondHistogram::new(), NanosecondHistogram::new()];
        let Some(playing) = playing else {
            return Ok(Played {
                lateness: empty(),
                cpu_ns: 0,
            });
        };
        if let Some(failure) = playing.failure {
            return Err(failure);
        }
        let cpu_ns = clock::thread_cpu_ns().saturating_sub(playing.cpu_at_start_ns);
        Ok(Played {
            lateness: playing.lateness,
            cpu_ns,
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

    /// Sets the rows whose time has come.
    fn change(&mut self) {
        let Some(playing) = &mut self.playing else {
            return;
        };
        let due = playing.play.t0.saturating_add(playing.next_change_ns);
        if clock::now() < due {
            return;
        }
        let (state, following_ns) = state_and_next(&self.trace, playing.next_row);
        for (side, shaped) in self.shaped.iter_mut().enumerate() {
            let Some(state) = state.get(side) else {
                continue;
            };
            match shaped.change(state) {
                Ok(()) => playing.lateness[side].record(clock::now() - due),
                Err(failure) => playing.failure = Some(failure),
            }
        }
        playing.next_row += 1;
        playing.next_change_ns = following_ns;
    }

    /// Looks at the queues at the edges of windows.
    fn look(&mut self) {
        let Some(playing) = &mut self.playing else {
            return;
        };
        let edge = playing.play.t0.saturating_add(playing.next_edge_ns);
        let now = clock::now();
        if now < edge {
            return;
        }
        let window_ns = playing.play.window_ns;
        let index = (playing.next_edge_ns / window_ns).checked_sub(1);
        let on_time = now - edge < window_ns / 4;
        for (side, shaped) in self.shaped.iter_mut().enumerate() {
            let queue = match look_at(shaped) {
                Ok(queue) => queue,
                Err(failure) => {
                    playing.failure = Some(failure);
                    continue;
                }
            };
            let earlier = std::mem::replace(&mut playing.at_last_edge[side], queue);
            let Some(index) = index else { continue };
            let book = WindowBook {
                idle: !(earlier.backlogged && queue.backlogged && on_time),
                queue_bytes: earlier.backlog_bytes.max(queue.backlog_bytes),
                dropped: queue.drops.saturating_sub(earlier.drops),
                lost: 0,
            };
            let window = ShaperWindow {
                direction: shaped.direction,
                index,
                book,
            };
            // A window that finds no room is missing in the record, which counts it.
            let _ = playing.play.windows.try_send(window);
        }
        playing.next_edge_ns += window_ns;
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

/// The backlog of the leaf and what it has dropped.
fn look_at(shaped: &mut Shaped) -> Result<Queue, LinkError> {
    let interface = shaped.interface.clone();
    let question = RouteNetlinkMessage::GetQueueDiscipline(TcMessage::with_index(shaped.index));
    let action = || format!("read the queue of {interface}");
    let answers = shaped.socket.query(question, true, action)?;
    let leaf = answers.into_iter().find_map(|answer| match answer {
        RouteNetlinkMessage::NewQueueDiscipline(qdisc)
            if qdisc.header.index == shaped.index && qdisc.header.handle == messages::LEAF =>
        {
            Some(qdisc)
        }
        _ => None,
    });
    let mut queue = Queue::default();
    for attribute in leaf.into_iter().flat_map(|qdisc| qdisc.attributes) {
        let TcAttribute::Stats2(statistics) = attribute else {
            continue;
        };
        for statistic in statistics {
            if let TcStats2::Queue(found) = statistic {
                queue.backlog_bytes = u64::from(found.backlog);
                queue.drops = u64::from(found.drops);
            }
        }
    }
    queue.backlogged = queue.backlog_bytes > in_flight_bytes(&shaped.state);
    Ok(queue)
}

/// What the delay alone holds at the full rate.
fn in_flight_bytes(state: &LinkState) -> u64 {
    if state.rate_bps == UNLIMITED_RATE_BPS {
        return u64::MAX;
    }
    let bits = u128::from(state.rate_bps) * u128::from(state.delay_ns) / 1_000_000_000;
    u64::try_from(bits / 8).unwrap_or(u64::MAX)
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
