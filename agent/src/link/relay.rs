//! The userspace datapath: frames come in on one port, wait until their due time, and leave on
//! the other.
//!
//! A [`RelayEngine`] serves all links of an agent with two threads at most. The exact one
//! (`exact`) sleeps until the next packet of any link is due or one arrives at an idle link, and
//! spins over the last microseconds, within a budget, because a timer alone wakes 5 to 40 us
//! late. Due times follow from the kernel's arrival stamps, so a late wake-up makes packets late
//! and nothing else. The other one (`passing`) serves links on which nothing acts on packets; where
//! it can, the kernel passes those on by itself (`kernel`).
//! Links that share a radio cell (`cell`) are served by the exact thread, slot by slot.
//! One thread sends each direction of a link, so that nothing is reordered. While no trace
//! plays, frames pass at once.

mod agenda;
mod alarm;
mod cell;
mod checksum;
mod engine;
mod exact;
mod join;
mod kernel;
mod lane;
mod mode;
mod mooring;
mod observer;
mod pace;
mod passing;
mod port;
mod remote;
mod segment;
mod share;
mod trouble;
mod worker;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

use hexloop_traces::{CapacityCurve, Direction, LinkChange, LinkSettings};
use hexloop_workloads::clock::MonotonicNs;
use nix::sys::eventfd::EventFd;

use super::LinkError;
use super::books::WindowBook;
use super::histogram::NanosecondHistogram;
use super::scheduling::Scheduling;
use crate::sys::packet::{Exit, PacketSocket, SpreadSender};
use engine::Station;

pub use cell::{CellSeat, SharedCell};
pub use engine::RelayEngine;
pub(crate) use kernel::Carrier;
pub(crate) use mode::choose as choose_mode;
pub use mode::{ModeChoice, RelayMode};
pub use observer::{Observer, PassedPacket, PassedPackets};
pub(crate) use port::{PortFailure, failure_of};
pub(crate) use remote::RelayRemote;
pub(crate) use segment::on_the_wire;
pub(crate) use share::{Meter, Share};
pub(crate) use trouble::Trouble;

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
    /// Whether the link is to share its cell, or is to be alone as it is.
    pub(crate) shares_cell: bool,
}

/// What was played.
#[derive(Debug)]
pub(crate) struct Played {
    /// Lateness of both directions, in the order of [`Direction::BOTH`].
    pub(crate) lateness: [NanosecondHistogram; 2],
    /// CPU time that the thread used for this link meanwhile.
    pub(crate) cpu_ns: u64,
    /// Packets that were lost otherwise than the trace asks.
    pub(crate) trouble: Trouble,
    /// What the receiving interfaces did not count, in the order of [`Direction::BOTH`].
    pub(crate) joined: [Joined; 2],
    /// What became of the ports, first the one that faces the first node.
    pub(crate) failures: [Option<PortFailure>; 2],
    /// How long after T0 the trace's first row was set, where rows are set one by one.
    pub(crate) late_start_ns: u64,
}

impl Played {
    /// What was played by a datapath that looks after its interfaces itself.
    pub(crate) fn undisturbed(lateness: [NanosecondHistogram; 2], cpu_ns: u64) -> Played {
        Played {
            lateness,
            cpu_ns,
            trouble: Trouble::default(),
            joined: [Joined::default(); 2],
            failures: [None; 2],
            late_start_ns: 0,
        }
    }
}

/// Packets that were handed over within others, and the headers that they would have had: what
/// the counters of an interface miss of a super-packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) packets: u64,
    pub(crate) header_bytes: u64,
}

enum Command {
    Add(u32, Box<NewLink>),
    Play(u32, Box<Play>),
    Change(u32, Change),
    Stop(u32, SyncSender<Played>),
    /// Gives the ports back: closing them waits for the kernel, which the thread cannot afford.
    Remove(u32, SyncSender<Option<[PacketSocket; 2]>>),
    Quit,
}

/// A change of what is played, or how.
struct Change {
    direction: Direction,
    at: MonotonicNs,
    change: LinkChange,
    /// Gets the offset from T0 at which it takes hold.
    reply: SyncSender<Option<u64>>,
}

/// A link as its thread gets it.
#[derive(Debug)]
pub(crate) struct NewLink {
    /// The first faces the first node.
    pub(crate) ports: [PacketSocket; 2],
    /// What sends out of the ports of many links at once, and which of its exits they are.
    pub(crate) spread: Option<(Arc<SpreadSender>, [Exit; 2])>,
    pub(crate) sizes: RelaySizes,
    pub(crate) observer: Option<Observer>,
    /// The cell that it shares with others, if it does.
    pub(crate) seat: Option<CellSeat>,
}

/// Where a thread hears of commands.
struct Inbox {
    commands: Receiver<Command>,
    wake: Arc<EventFd>,
}

impl Inbox {
    /// The next command; no more of them means the end.
    fn next(&self) -> Option<Command> {
        match self.commands.try_recv() {
            Ok(command) => Some(command),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Command::Quit),
        }
    }
}

/// Sizes that the relay's buffers follow from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RelaySizes {
    pub(crate) mtu: u32,
    /// Most IP bytes that one direction holds, as far as is known when the link is built: its queue
    /// and what is in flight.
    pub(crate) held_bytes: u64,
}

/// A link that an engine serves. Dropping it takes it off its thread.
#[derive(Debug)]
pub(crate) struct Relay {
    link: String,
    number: u32,
    mode: RelayMode,
    station: Arc<Station>,
    carrier: Carrier,
    scheduling: Scheduling,
}

impl Relay {
    /// Hands a link to the thread of the mode.
    pub(crate) fn attach(
        engine: &RelayEngine,
        (link, number): (&str, u32),
        mode: RelayMode,
        new: NewLink,
        carrier: Carrier,
        cpu: Option<u32>,
    ) -> Result<Relay, LinkError> {
        let station = engine.station(mode, cpu)?;
        let relay = Relay {
            link: link.to_owned(),
            number,
            mode,
            scheduling: carrier.scheduling(&station.scheduling),
            station,
            carrier,
        };
        relay.tell(Command::Add(number, Box::new(new)))?;
        Ok(relay)
    }

    /// How whoever serves it is scheduled.
    pub(crate) const fn scheduling(&self) -> &Scheduling {
        &self.scheduling
    }

    /// Which of its engine's links it is.
    pub(crate) const fn number(&self) -> u32 {
        self.number
    }

    pub(crate) const fn mode(&self) -> RelayMode {
        self.mode
    }

    fn gone(&self) -> LinkError {
        LinkError::ThreadGone {
            link: self.link.clone(),
            name: "relay",
        }
    }

    fn tell(&self, command: Command) -> Result<(), LinkError> {
        if self.station.tell(command) {
            Ok(())
        } else {
            Err(self.gone())
        }
    }

    /// Plays from T0 on.
    pub(crate) fn play(&self, play: Play) -> Result<(), LinkError> {
        self.carrier.begin();
        self.tell(Command::Play(self.number, Box::new(play)))
    }

    /// What changes it from another thread.
    pub(crate) fn remote(&self) -> RelayRemote {
        RelayRemote::new(&self.link, self.number, &self.station)
    }

    /// Ends the playback and lets waiting packets go.
    pub(crate) fn stop(&self) -> Result<Played, LinkError> {
        let (reply, answer) = sync_channel(1);
        self.tell(Command::Stop(self.number, reply))?;
        let mut played = answer.recv().map_err(|_closed| self.gone())?;
        played.trouble.overflow += self.carrier.drops();
        Ok(played)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let (reply, answer) = sync_channel(1);
        if self.tell(Command::Remove(self.number, reply)).is_ok() {
            // The ports are closed here.
            drop(answer.recv());
        }
    }
}
