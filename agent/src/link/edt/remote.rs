//! Changing what a link plays by departure times, from another thread.

use std::sync::mpsc::Sender;

use hexloop_traces::{Direction, LinkChange};
use hexloop_workloads::clock::MonotonicNs;

use super::LinkError;
use super::asked::never;
use super::reader::Command;
use crate::link::remote::ask;

/// A handle on a link.
#[derive(Debug, Clone)]
pub(crate) struct EdtRemote {
    link: String,
    commands: Sender<Command>,
}

impl EdtRemote {
    pub(super) fn new(link: &str, commands: Sender<Command>) -> EdtRemote {
        EdtRemote {
            link: link.to_owned(),
            commands,
        }
    }

    /// Whether departure times can do it at all.
    pub(crate) fn check(&self, change: &LinkChange) -> Result<(), LinkError> {
        match never(change) {
            None => Ok(()),
            Some(what) => Err(LinkError::NotOnEdt {
                link: self.link.clone(),
                what,
            }),
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
        ask((&self.link, "edt"), (direction, at, change), |order| {
            self.commands.send(Command::Change(order)).is_ok()
        })
    }
}
