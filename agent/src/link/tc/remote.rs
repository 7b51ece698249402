//! Changing what a link plays on queueing disciplines, from another thread.

use std::sync::mpsc::Sender;
use std::thread::Thread;

use hexloop_traces::{Direction, LinkChange};
use hexloop_workloads::clock::MonotonicNs;

use super::LinkError;
use super::player::Command;
use crate::link::remote::ask;

/// A handle on a link.
#[derive(Debug, Clone)]
pub(crate) struct TcRemote {
    link: String,
    commands: Sender<Command>,
    thread: Option<Thread>,
}

impl TcRemote {
    pub(super) fn new(link: &str, commands: Sender<Command>, thread: Option<Thread>) -> TcRemote {
        TcRemote {
            link: link.to_owned(),
            commands,
            thread,
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
        ask((&self.link, "tc"), (direction, at, change), |order| {
            let sent = self.commands.send(Command::Change(order)).is_ok();
            if let Some(thread) = &self.thread {
                thread.unpark();
            }
            sent
        })
    }
}
