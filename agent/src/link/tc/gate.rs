//! The way into the bottleneck: netem that loses, duplicates and corrupts packets as they come.
//!
//! ```text
//! entry ------------------------------> bottleneck   as long as nothing asks for chance
//! entry -> [hxg..]====[hxg..] --------> bottleneck   from then on
//!           netem
//! ```
//!
//! As on the other datapaths that is decided on arrival: a lost packet takes no capacity and a
//! duplicate takes its own, so that a trace is never exceeded. netem cannot be above htb on one
//! interface, so it has a pair of its own, through which packets go only where it is needed.
//!
//! Where netem duplicates a packet it draws anew whether the copy is lost, and of a packet for which both
//! were drawn, loss and copy, one passes (`netem_enqueue` in net/sched/sch_netem.c). So where both are
//! asked for, both are off by less than the product of their shares.

use hexloop_traces::LinkState;

use super::LinkError;
use super::codec::{Discipline, NEW_QDISC, Place, Qdisc};
use super::handle::Handle;
use super::lacking;
use super::path::{self, Path};
use super::question::Question;
use super::stage::{Port, failed, put_ingress_hook, redirect};
use crate::link::netlink::{Mode, RouteSocket};

const NETEM: Handle = Handle::new(1, 0);

/// The filter with the lower priority is asked first (linux/pkt_cls.h).
const THROUGH_NETEM: u16 = 1;
const STRAIGHT_ON: u16 = 2;

/// The gate of one direction.
#[derive(Debug)]
pub(super) struct Gate {
    /// Where packets come in.
    entry: Port,
    /// Where netem is, and where what it lets through comes out.
    ports: [Port; 2],
    bottleneck: Port,
    /// Packets go through netem.
    is_there: bool,
    /// What of a state is set now.
    fates: LinkState,
    seed: Option<u64>,
    changes: u64,
    question: Question,
    /// What netem had dropped when the playback began.
    dropped_before: u32,
}

impl Gate {
    /// Sends what comes in on one port to the bottleneck, through netem if that is needed from the
    /// beginning.
    ///
    /// # Errors
    /// The kernel refuses: it lacks the hook, u32, mirred or netem.
    pub(super) fn install(
        socket: &mut RouteSocket,
        [entry, first, second, bottleneck]: [Port; 4],
        is_needed: bool,
    ) -> Result<Gate, LinkError> {
        put_ingress_hook(socket, &entry)?;
        put_ingress_hook(socket, &second)?;
        redirect(socket, &second, &bottleneck, STRAIGHT_ON)?;
        redirect(socket, &entry, &bottleneck, STRAIGHT_ON)?;
        let place = Place::new(first.index, NETEM, Handle::ROOT);
        let mut gate = Gate {
            entry,
            ports: [first, second],
            bottleneck,
            is_there: false,
            fates: LinkState::TRANSPARENT,
            seed: None,
            changes: 0,
            question: Question::of_discipline(place),
            dropped_before: 0,
        };
        if is_needed {
            gate.prepare(socket)?;
        }
        Ok(gate)
    }

    /// Sees to it that packets go through netem.
    ///
    /// # Errors
    /// The kernel refuses, as one without netem does.
    pub(super) fn prepare(&mut self, socket: &mut RouteSocket) -> Result<(), LinkError> {
        if self.is_there {
            return Ok(());
        }
        self.order(socket, Mode::Replace)?;
        redirect(socket, &self.entry, &self.ports[0], THROUGH_NETEM)?;
        self.is_there = true;
        Ok(())
    }

    /// Begins anew, with other random numbers and no losses counted.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn start(&mut self, socket: &mut RouteSocket, seed: u64) -> Result<(), LinkError> {
        self.seed = Some(seed);
        self.changes = 0;
        self.dropped_before = self.dropped(socket)?;
        Ok(())
    }

    /// Sets what a state asks for. Where that is what is set already, the model of bursts goes on.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn enter(
        &mut self,
        socket: &mut RouteSocket,
        state: &LinkState,
    ) -> Result<(), LinkError> {
        let fates = path::fates(state);
        if !self.is_there || fates == self.fates {
            return Ok(());
        }
        self.fates = fates;
        self.order(socket, Mode::Change)
    }

    fn order(&mut self, socket: &mut RouteSocket, mode: Mode) -> Result<(), LinkError> {
        let passing = Path {
            // Nothing waits here, so nothing is dropped for want of room.
            limit: u32::MAX,
            // Without a delay nothing overtakes.
            reorder: true,
            seed: self.seed,
        };
        let netem = Discipline::Netem(path::netem(&self.fates, passing, self.changes));
        self.changes += 1;
        let [port, _] = &self.ports;
        let place = Place::new(port.index, NETEM, Handle::ROOT);
        let message = Qdisc::new(place, netem).message();
        let set = socket.order(NEW_QDISC, mode, &message, || {
            format!("set loss and duplication on {}", port.name)
        });
        set.map_err(|error| match mode {
            Mode::Replace => lacking::told(error, "netem"),
            // What is changed was there.
            _ => error,
        })
    }

    fn dropped(&mut self, socket: &mut RouteSocket) -> Result<u32, LinkError> {
        if !self.is_there {
            return Ok(0);
        }
        let asked = self.question.ask(socket);
        let action = format!("read the losses before {}", self.bottleneck.name);
        Ok(asked.map_err(failed(action))?.queue.drops)
    }

    /// Packets that were lost since the playback began.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(super) fn lost(&mut self, socket: &mut RouteSocket) -> Result<u64, LinkError> {
        let dropped = self.dropped(socket)?;
        Ok(u64::from(dropped.wrapping_sub(self.dropped_before)))
    }
}
