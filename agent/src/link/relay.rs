//! The userspace datapath: frames come in on one port, wait until their due time, and leave on
//! the other.
//!
//! One thread serves both directions. It sleeps until the next packet is due or arrives, and
//! spins over the last microseconds, within a budget, because a timer alone wakes 5 to 40 us
//! late. Due times follow from the kernel's arrival stamps, so a late wake-up makes one packet
//! late and nothing else. While no trace plays, frames pass at once.

mod checksum;
mod lane;
mod observer;
mod pace;
mod remote;
mod trouble;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel};
use std::thread::{self, JoinHandle};

use hexloop_traces::{CapacityCurve, Direction, LinkChange, LinkSettings};
use hexloop_workloads::clock::{self, ClockPair, MonotonicNs};
use nix::sys::eventfd::{EfdFlags, EventFd};

use super::LinkError;
use super::books::WindowBook;
use super::histogram::NanosecondHistogram;
use super::scheduling::{self, Scheduling};
use crate::sys::packet::{Frame, PacketSocket, ReceiveBuffers};
use lane::Lane;
pub use observer::{Observer, PassedPacket};
use pace::Pace;
pub(crate) use remote::RelayRemote;

/// Frames taken from a port before the other one gets its turn.
const RECEIVE_BATCH: usize = 128;

/// What the shaper knows about a window that has closed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ShaperWindow {
    pub(crate) direction: Direction,
    /// Its number, from 0 at T0.
    pub(crate) index: u64,
    pub(crate) book: WindowBook,
}

/// What to play.
#[derive(Debug)]
pub(crate) struct Play {
    pub(crate) t0: MonotonicNs,
    /// The rates of both directions, in the order of [`Direction::BOTH`].
    pub(crate) curves: [CapacityCurve; 2],
    pub(crate) settings: LinkSettings,
    pub(crate) mtu: u32,
    pub(crate) window_ns: u64,
    pub(crate) longest_delay_ns: u64,
    pub(crate) seed: u64,
    pub(crate) windows: SyncSender<ShaperWindow>,
    /// A fault: stand still from one offset from T0 to another.
    pub(crate) pause: Option<(u64, u64)>,
}

/// What was played.
#[derive(Debug)]
pub(crate) struct Played {
    /// Lateness of both directions, in the order of [`Direction::BOTH`].
    pub(crate) lateness: [NanosecondHistogram; 2],
    /// CPU time that the thread used meanwhile.
    pub(crate) cpu_ns: u64,
}

enum Command {
    Play(Box<Play>),
    Change {
        direction: Direction,
        at: MonotonicNs,
        change: LinkChange,
        /// Gets the offset from T0 at which it takes hold.
        reply: SyncSender<Option<u64>>,
    },
    Stop(SyncSender<Played>),
    Quit,
}

/// Sizes that the relay's buffers follow from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RelaySizes {
    pub(crate) mtu: u32,
    /// Most IP bytes that one direction holds: its queue and what is in flight.
    pub(crate) held_bytes: u64,
}

/// A relay that runs. Dropping it ends its thread.
#[derive(Debug)]
pub(crate) struct Relay {
    link: String,
    scheduling: Scheduling,
    commands: Sender<Command>,
    wake: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Starts the thread on the two ports; the first faces the first node.
    pub(crate) fn spawn(
        link: &str,
        index: u16,
        ports: [PacketSocket; 2],
        sizes: RelaySizes,
        cpu: Option<u32>,
    ) -> Result<Relay, LinkError> {
        let name = format!("hx-relay-{index}");
        let failed = |source| LinkError::Thread {
            name: name.clone(),
            source,
        };
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = EventFd::from_flags(flags).map_err(|error| failed(error.into()))?;
        let wake = Arc::new(wake);
        let (commands, inbox) = channel();
        let (report, reported) = sync_channel(1);
        let lanes = [
            Lane::new(Direction::Up, sizes, None),
            Lane::new(Direction::Down, sizes, None),
        ];
        let worker_wake = Arc::clone(&wake);
        let work = move || {
            let scheduling = scheduling::make_real_time(cpu);
            if report.send(scheduling).is_ok() {
                Worker {
                    ports,
                    lanes,
                    inbox,
                    wake: worker_wake,
                    playing: None,
                    buffers: ReceiveBuffers::new(),
                }
                .run();
            }
        };
        let thread = thread::Builder::new()
            .name(name.clone())
            .spawn(work)
            .map_err(failed)?;
        let gone = |_| LinkError::ThreadGone {
            link: link.to_owned(),
            name: "relay",
        };
        let scheduling = reported.recv().map_err(gone)?;
        Ok(Relay {
            link: link.to_owned(),
            scheduling,
            commands,
            wake,
            thread: Some(thread),
        })
    }

    /// What its thread got.
    pub(crate) const fn scheduling(&self) -> &Scheduling {
        &self.scheduling
    }

    fn command(&self, command: Command) -> Result<(), LinkError> {
        let gone = |_| LinkError::ThreadGone {
            link: self.link.clone(),
            name: "relay",
        };
        self.commands.send(command).map_err(gone)?;
        // The counter of an eventfd is full only after 2^64 wake-ups.
        let _ = self.wake.write(1);
        Ok(())
    }

    /// Plays from T0 on.
    pub(crate) fn play(&self, play: Play) -> Result<(), LinkError> {
        self.command(Command::Play(Box::new(play)))
    }

    /// What changes it from another thread.
    pub(crate) fn remote(&self) -> RelayRemote {
        RelayRemote {
            link: self.link.clone(),
            commands: self.commands.clone(),
            wake: Arc::clone(&self.wake),
        }
    }

    /// Ends the playback and lets waiting packets go.
    pub(crate) fn stop(&self) -> Result<Played, LinkError> {
        let (reply, answer) = sync_channel(1);
        self.command(Command::Stop(reply))?;
        let gone = |_| LinkError::ThreadGone {
            link: self.link.clone(),
            name: "relay",
        };
        answer.recv().map_err(gone)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.command(Command::Quit);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Playing {
    windows: SyncSender<ShaperWindow>,
    pause: Option<(MonotonicNs, MonotonicNs)>,
    cpu_at_start_ns: u64,
}

struct Worker {
    ports: [PacketSocket; 2],
    /// The first takes frames from the first port: uplink.
    lanes: [Lane; 2],
    inbox: Receiver<Command>,
    wake: Arc<EventFd>,
    playing: Option<Playing>,
    buffers: ReceiveBuffers,
}

impl Worker {
    fn run(mut self) {
        let mut pace = Pace::default();
        while self.obey() {
            let now = clock::now();
            self.stand_still(now);
            let more = self.receive();
            for (lane, port) in self.lanes.iter_mut().zip([&self.ports[1], &self.ports[0]]) {
                lane.send_due(port);
            }
            self.close_windows();
            if !more {
                let due = self.lanes.iter().filter_map(Lane::next_due).min();
                let errand = self.next_errand();
                pace.wait(due, errand, &self.ports, &self.wake);
            }
        }
    }

    /// Does what was commanded; false when the thread is to end.
    fn obey(&mut self) -> bool {
        loop {
            match self.inbox.try_recv() {
                Ok(Command::Play(play)) => self.start(*play),
                Ok(Command::Change {
                    direction,
                    at,
                    change,
                    reply,
                }) => {
                    // What came before the change is to feel nothing of it.
                    self.receive();
                    let lane = &mut self.lanes[usize::from(direction == Direction::Down)];
                    let _ = reply.send(lane.change(at, change));
                }
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

    fn start(&mut self, play: Play) {
        for lane in &mut self.lanes {
            lane.start(&play);
        }
        self.playing = Some(Playing {
            windows: play.windows,
            pause: play.pause.map(|(from, to)| (play.t0 + from, play.t0 + to)),
            cpu_at_start_ns: clock::thread_cpu_ns(),
        });
    }

    fn finish(&mut self) -> Played {
        self.receive();
        self.close_windows();
        let [up, down] = &mut self.lanes;
        let playing = self.playing.take();
        let cpu_at_start_ns = playing.map_or(0, |playing| playing.cpu_at_start_ns);
        Played {
            lateness: [down.finish(), up.finish()],
            cpu_ns: clock::thread_cpu_ns().saturating_sub(cpu_at_start_ns),
        }
    }

    fn receive(&mut self) -> bool {
        let pair = ClockPair::read();
        let mut more = false;
        for (lane, port) in self.lanes.iter_mut().zip(&mut self.ports) {
            let take = |frame: Frame<'_>| lane.take_in(frame, pair);
            let count = port.receive(RECEIVE_BATCH, &mut self.buffers, take);
            let full = count.unwrap_or(0) == RECEIVE_BATCH;
            lane.has_received(pair, full);
            more |= full;
        }
        more
    }

    fn close_windows(&mut self) {
        let Some(playing) = &self.playing else { return };
        let now = clock::now();
        for lane in &mut self.lanes {
            lane.close_windows(now, &playing.windows);
        }
    }

    /// The next thing to do that is not a packet.
    fn next_errand(&self) -> Option<MonotonicNs> {
        let close = self.lanes.iter().filter_map(Lane::next_close).min();
        let pause = self
            .playing
            .as_ref()
            .and_then(|playing| playing.pause)
            .map(|pause| pause.0);
        close.into_iter().chain(pause).min()
    }

    fn stand_still(&mut self, now: MonotonicNs) {
        let Some(playing) = &mut self.playing else {
            return;
        };
        if let Some((from, until)) = playing.pause
            && now >= from
        {
            playing.pause = None;
            clock::sleep_until(until);
        }
    }
}
