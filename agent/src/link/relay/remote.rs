//! Changing what a relayed link plays, from another thread.

use std::sync::Arc;
use std::sync::mpsc::{Sender, sync_channel};

use hexloop_traces::{Direction, LinkChange};
use hexloop_workloads::clock::MonotonicNs;
use nix::sys::eventfd::EventFd;

use super::engine::Station;
use super::{Change, Command};
use crate::link::LinkError;

/// A handle on a relayed link.
#[derive(Debug, Clone)]
pub(crate) struct RelayRemote {
    link: String,
    number: u32,
    commands: Sender<Command>,
    wake: Arc<EventFd>,
}

impl RelayRemote {
    /// A handle on the link of this number that this thread serves.
    pub(super) fn new(link: &str, number: u32, station: &Station) -> RelayRemote {
        RelayRemote {
            link: link.to_owned(),
            number,
            commands: station.commands.clone(),
            wake: Arc::clone(&station.wake),
        }
    }

    /// Changes one direction of what is played from `at` on or, if that is gone by, from now on.
    /// Gives the offset from T0 at which the change takes hold; `None` if nothing plays.
    pub(crate) fn change(
        &self,
        direction: Direction,
        at: MonotonicNs,
        change: LinkChange,
    ) -> Result<Option<u64>, LinkError> {
        let gone = || LinkError::ThreadGone {
            link: self.link.clone(),
            name: "relay",
        };
        let (reply, answer) = sync_channel(1);
        let change = Change {
            direction,
            at,
            change,
            reply,
        };
        let command = Command::Change(self.number, change);
        self.commands.send(command).map_err(|_closed| gone())?;
        // The counter of an eventfd is full only after 2^64 wake-ups.
        let _ = self.wake.write(1);
        answer.recv().map_err(|_closed| gone())
    }
}
