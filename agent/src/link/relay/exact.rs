//! The thread that serves links on which something acts on packets: every packet leaves at its
//! due time.
//!
//! A lane with frames waiting is looked at when its next one is due; its arrivals wake nobody,
//! since they cannot be due before. Only an empty lane is watched.

mod shared;
mod together;

use std::hint;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use hexloop_traces::Direction;
use hexloop_workloads::clock::{self, ClockPair, MonotonicNs};
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags, EpollTimeout};

use super::agenda::Agenda;
use super::alarm::{self, Alarm};
use super::cell::Cell;
use super::join::Batch;
use super::lane::Lane;
use super::pace::{Pace, Wait};
use super::port::{self, PortFailure};
use super::segment;
use super::worker::{self, EVENTS, WAKE, Worker, token};
use super::{Change, Inbox, Meter, NewLink, Play, Played, ShaperWindow, Share, Trouble};
use crate::sys::packet::{Exit, Frame, PacketSocket, ReceiveBuffers, SpreadSender};
use together::Waiting;

/// Frames taken from a port before another one gets its turn.
const RECEIVE_BATCH: usize = 128;

/// A lane that is not watched is looked at this often, so that its port does not overflow.
const LOOK_NS: u64 = 2_000_000;

/// Windows are closed on this grid, so that many links need one wake-up for it.
const ERRAND_GRID_NS: u64 = 1_000_000;

/// Items of the agenda per link: two lanes and the errands.
const ITEMS: usize = 3;
const ERRANDS: usize = 2;

/// Items that are due at once from which on frames are sent for many links in one call. With fewer, one
/// call each costs no more, and each frame leaves as soon as it is seen to be due.
const TOGETHER_FROM: usize = 32;

/// Whether a lane sends by itself, or may wait for others if it has one frame to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sending {
    Now,
    Together,
}

/// What serving a lane came to.
#[derive(Debug, Clone, Copy)]
struct Looked {
    /// Frames waited before.
    waited: bool,
    received: usize,
    sent: usize,
}

struct Playing {
    windows: SyncSender<ShaperWindow>,
    pause: Option<(MonotonicNs, MonotonicNs)>,
    share: Share,
}

/// One link. Lane 0 takes frames from port 0 and sends them on port 1: uplink.
struct Served {
    ports: [PacketSocket; 2],
    spread: Option<(Arc<SpreadSender>, [Exit; 2])>,
    lanes: [Lane; 2],
    /// Whether arrivals at the lane's port wake the thread.
    watched: [bool; 2],
    /// Whether a later packet may be due earlier: then arrivals always wake the thread.
    reorders: bool,
    /// The load period that the lane was last busy in.
    busy_in: [MonotonicNs; 2],
    playing: Option<Playing>,
    /// A fault: nothing is sent before.
    still_until: MonotonicNs,
    trouble: Trouble,
    failures: [Option<PortFailure>; 2],
    /// The cell that it has a place in, and the same while it plays there.
    cell: Option<usize>,
    in_cell: Option<usize>,
}

pub(super) struct ExactWorker {
    inbox: Inbox,
    epoll: Epoll,
    alarm: Alarm,
    links: Vec<Option<Box<Served>>>,
    agenda: Agenda,
    cells: Vec<Option<Cell>>,
    /// When their next slots begin, of those in which something waits.
    cell_agenda: Agenda,
    pace: Pace,
    meter: Meter,
    buffers: ReceiveBuffers,
    batch: Batch,
    scratch: Vec<u8>,
    due: Vec<usize>,
    /// Lanes that send together.
    waiting: Vec<Waiting>,
}

impl ExactWorker {
    pub(super) fn new(inbox: Inbox) -> std::io::Result<ExactWorker> {
        Ok(ExactWorker {
            epoll: worker::watch_inbox(&inbox)?,
            alarm: Alarm::new()?,
            inbox,
            links: Vec::new(),
            agenda: Agenda::default(),
            cells: Vec::new(),
            cell_agenda: Agenda::default(),
            pace: Pace::default(),
            meter: Meter::default(),
            buffers: ReceiveBuffers::new(),
            batch: Batch::default(),
            scratch: Vec::with_capacity(1 << 16),
            due: Vec::new(),
            waiting: Vec::new(),
        })
    }

    pub(super) fn run(mut self) {
        while self.events() {
            let turn = clock::now();
            self.pace.advance(turn);
            self.do_due(turn);
            self.divide_slots(turn);
            self.wait(turn);
        }
    }

    fn wait(&mut self, turn: MonotonicNs) {
        let next = self.agenda.next().into_iter();
        let next = next.chain(self.cell_agenda.next()).min();
        let now = clock::now();
        match self.pace.wait(now, turn, next) {
            Wait::Not => {}
            Wait::Spin(until) => {
                while clock::now() < until {
                    hint::spin_loop();
                }
            }
            Wait::Sleep(until) => clock::sleep_until(until),
            Wait::Watch(until) => self.alarm.wait_until(&self.epoll, until),
            Wait::Idle(ns) => alarm::wait_for(&self.epoll, ns),
        }
    }

    /// Takes in what has arrived at watched ports, and obeys; false when the thread is to end.
    fn events(&mut self) -> bool {
        let mut events = [EpollEvent::empty(); EVENTS];
        let count = self
            .epoll
            .wait(&mut events, EpollTimeout::ZERO)
            .unwrap_or(0);
        let pair = (count > 0).then(ClockPair::read);
        for event in &events[..count] {
            if event.data() == WAKE {
                if !self.obey() {
                    return false;
                }
                continue;
            }
            let (link, side) = worker::place(event);
            if event.events().contains(EpollFlags::EPOLLERR) {
                self.inspect(link, side);
            }
            if let Some(pair) = pair {
                self.serve(link, side, pair, Sending::Now);
            }
        }
        true
    }

    fn inspect(&mut self, link: usize, side: usize) {
        if let Some(Some(served)) = self.links.get_mut(link) {
            let failure = port::inspect(&served.ports[side], &self.epoll);
            served.failures[side] = failure.or(served.failures[side]);
        }
    }

    fn do_due(&mut self, now: MonotonicNs) {
        let mut due = std::mem::take(&mut self.due);
        self.agenda.take_due(now, &mut due);
        if !due.is_empty() {
            let pair = ClockPair::read();
            let sending = if self.pace.is_in_steps() && due.len() >= TOGETHER_FROM {
                Sending::Together
            } else {
                Sending::Now
            };
            for &item in &due {
                match (item / ITEMS, item % ITEMS) {
                    (link, ERRANDS) => self.run_errands(link, now, pair),
                    (link, side) => self.serve(link, side, pair, sending),
                }
            }
            self.send_together(pair);
        }
        self.due = due;
    }

    /// Takes in what has arrived for a lane, sends what is due, and sees to it that the lane is
    /// served again in time.
    fn serve(&mut self, link: usize, side: usize, pair: ClockPair, sending: Sending) {
        let Some(Some(served)) = self.links.get_mut(link) else {
            return;
        };
        let Served {
            ports,
            lanes,
            spread,
            still_until,
            trouble,
            failures,
            ..
        } = &mut **served;
        let lane = &mut lanes[side];
        let waited = lane.next_due().is_some();
        let scratch = &mut self.scratch;
        let take = |frame: Frame<'_>| take_in(frame, pair, lane, scratch, trouble);
        let received = ports[side].receive(RECEIVE_BATCH, &mut self.buffers, take);
        let full = received.as_ref().is_ok_and(|&count| count == RECEIVE_BATCH);
        lane.has_received(pair, full);
        let received = match received {
            Ok(received) => received,
            Err(error) => {
                trouble.note_refusal(&error);
                let failure = port::failure_of(&ports[side], Some(&error));
                if matches!(failure, Some(PortFailure::Gone | PortFailure::Down)) {
                    failures[side] = failure;
                }
                0
            }
        };
        let now = clock::now();
        let mut looked = Looked {
            waited,
            received,
            sent: 0,
        };
        if now >= *still_until {
            if sending == Sending::Together && spread.is_some() && lane.is_one_due(now) {
                self.waiting.push(Waiting { link, side, looked });
                return;
            }
            let joins = self.pace.is_in_steps();
            looked.sent = lane.send_due(&ports[1 - side], &mut self.batch, joins);
        }
        self.settle(link, side, looked);
    }

    /// Books what serving a lane came to, and sees to it that it is served again in time.
    fn settle(&mut self, link: usize, side: usize, looked: Looked) {
        let Looked {
            waited,
            received,
            sent,
        } = looked;
        let Some(Some(served)) = self.links.get_mut(link) else {
            return;
        };
        let Served {
            ports,
            lanes,
            watched,
            reorders,
            busy_in,
            playing,
            still_until,
            in_cell,
            ..
        } = &mut **served;
        let lane = &lanes[side];
        let now = clock::now();
        let still = now < *still_until;
        let work = u64::try_from(received + sent).unwrap_or(0);
        let share = playing.as_mut().map(|playing| &mut playing.share);
        self.meter.note(share, work);
        self.pace.note_packets(sent);
        if work > 0 && busy_in[side] != self.pace.period() {
            busy_in[side] = self.pace.period();
            self.pace.note_lane();
        }
        // Arrivals that found the lane waiting woke the thread for nothing.
        let next_due = lane.next_due();
        let watch = match next_due {
            None => true,
            Some(_) if *reorders => true,
            Some(_) if waited && received > 0 => false,
            Some(_) => watched[side],
        };
        if watch != watched[side] {
            let flags = if watch {
                EpollFlags::EPOLLIN
            } else {
                EpollFlags::empty()
            };
            let mut event = EpollEvent::new(flags, token(link, side));
            // A port that is gone is not watched any more.
            let _ = self.epoll.modify(ports[side].as_fd(), &mut event);
            watched[side] = watch;
        }
        let look = (!watch).then_some(now + LOOK_NS);
        let next_due = next_due.map(|due| if still { due.max(*still_until) } else { due });
        let next = if received == RECEIVE_BATCH {
            Some(now)
        } else {
            next_due.into_iter().chain(look).min()
        };
        let waits = in_cell.zip(lane.waiting_since());
        self.agenda.set(link * ITEMS + side, next);
        if let Some((cell, since)) = waits {
            self.wake_cell(cell, since);
        }
    }

    /// Does what is to be done beside packets; the books of `now` are only right once all that
    /// came before has been taken in.
    fn run_errands(&mut self, link: usize, now: MonotonicNs, pair: ClockPair) {
        for side in 0..2 {
            self.serve(link, side, pair, Sending::Now);
        }
        let Some(Some(served)) = self.links.get_mut(link) else {
            return;
        };
        let Some(playing) = &mut served.playing else {
            return;
        };
        if let Some((from, until)) = playing.pause
            && now >= from
        {
            playing.pause = None;
            served.still_until = until;
        }
        for lane in &mut served.lanes {
            lane.close_windows(now, &playing.windows);
        }
        self.meter.note(Some(&mut playing.share), 1);
        let close = served.lanes.iter().filter_map(Lane::next_close).min();
        let close = close.map(|at| at.next_multiple_of(ERRAND_GRID_NS));
        let pause = playing.pause.map(|pause| pause.0);
        let next = close.into_iter().chain(pause).min();
        self.agenda.set(link * ITEMS + ERRANDS, next);
    }
}

impl Worker for ExactWorker {
    fn inbox(&self) -> &Inbox {
        &self.inbox
    }

    fn add(&mut self, link: usize, new: NewLink) {
        let NewLink {
            ports,
            spread,
            sizes,
            observer,
            seat,
        } = new;
        let failures = worker::watch(&self.epoll, link, &ports);
        let cell = seat.map(|seat| self.join(link, &seat));
        let served = Box::new(Served {
            ports,
            spread,
            lanes: [
                Lane::new(Direction::Up, sizes, observer.clone()),
                Lane::new(Direction::Down, sizes, observer),
            ],
            watched: [true; 2],
            reorders: false,
            busy_in: [0; 2],
            playing: None,
            still_until: 0,
            trouble: Trouble::default(),
            failures,
            cell,
            in_cell: None,
        });
        worker::put(&mut self.links, link, served);
    }

    fn remove(&mut self, link: usize) -> Option<[PacketSocket; 2]> {
        for item in 0..ITEMS {
            self.agenda.set(link * ITEMS + item, None);
        }
        let served = self.links.get_mut(link)?.take()?;
        if let Some(cell) = served.cell {
            self.leave(link, cell);
        }
        worker::unwatch(&self.epoll, &served.ports);
        Some(served.ports)
    }

    fn play(&mut self, link: usize, play: Play) {
        let Some(Some(served)) = self.links.get_mut(link) else {
            return;
        };
        for lane in &mut served.lanes {
            lane.start(&play);
        }
        served.reorders = play.settings.reorder;
        for port in &served.ports {
            // What was lost before does not belong to this playback.
            let _ = port.take_drops();
        }
        served.playing = Some(Playing {
            windows: play.windows,
            pause: play.pause.map(|(from, to)| (play.t0 + from, play.t0 + to)),
            share: self.meter.begin(clock::thread_cpu_ns()),
        });
        served.in_cell = served.cell.filter(|_| play.shares_cell);
        if let Some(Some(cell)) = served.in_cell.and_then(|cell| self.cells.get_mut(cell)) {
            cell.play(play.t0);
        }
        self.agenda.set(link * ITEMS + ERRANDS, Some(play.t0));
    }

    fn change(&mut self, link: usize, change: &Change) -> Option<u64> {
        let side = usize::from(change.direction == Direction::Down);
        // What came before the change is to feel nothing of it.
        self.serve(link, side, ClockPair::read(), Sending::Now);
        let served = self.links.get_mut(link)?.as_mut()?;
        served.reorders = true;
        let at_ns = served.lanes[side].change(change.at, change.change);
        self.agenda.set(link * ITEMS + side, Some(0));
        at_ns
    }

    fn stop(&mut self, link: usize) -> Option<Played> {
        self.run_errands(link, clock::now(), ClockPair::read());
        let served = self.links.get_mut(link)?.as_mut()?;
        for side in 0..2 {
            let failure = port::inspect(&served.ports[side], &self.epoll);
            served.failures[side] = failure.or(served.failures[side]);
        }
        let mut trouble = std::mem::take(&mut served.trouble);
        for lane in &mut served.lanes {
            trouble.add(lane.take_trouble());
        }
        for port in &served.ports {
            // It fails only once the port is gone, which is told as such.
            trouble.overflow += port.take_drops().unwrap_or(0);
        }
        let playing = served.playing.take();
        served.still_until = 0;
        if let Some(Some(cell)) = served
            .in_cell
            .take()
            .and_then(|cell| self.cells.get_mut(cell))
        {
            cell.stop();
        }
        let [up, down] = &mut served.lanes;
        let played = Played {
            joined: [down.take_joined(), up.take_joined()],
            lateness: [down.finish(), up.finish()],
            cpu_ns: playing.map_or(0, |playing| {
                playing.share.cpu_ns(self.meter, clock::thread_cpu_ns())
            }),
            trouble,
            failures: std::mem::take(&mut served.failures),
            late_start_ns: 0,
        };
        // What still waits goes at once.
        for side in 0..2 {
            self.agenda.set(link * ITEMS + side, Some(0));
        }
        self.agenda.set(link * ITEMS + ERRANDS, None);
        Some(played)
    }
}

/// Takes a frame into a lane, cut into packets if it is several.
fn take_in(
    frame: Frame<'_>,
    pair: ClockPair,
    lane: &mut Lane,
    scratch: &mut Vec<u8>,
    trouble: &mut Trouble,
) {
    if frame.bytes.len() != frame.wire_bytes {
        trouble.note_too_long(frame.wire_bytes);
        return;
    }
    let cut = segment::cut(frame.bytes, frame.virtio, scratch, &mut |bytes, virtio| {
        lane.take_in(
            Frame {
                bytes,
                wire_bytes: bytes.len(),
                realtime_ns: frame.realtime_ns,
                virtio,
            },
            pair,
        );
    });
    if cut.is_err() {
        trouble.note_uncut();
    }
}
