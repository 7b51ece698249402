//! The kernel of one network namespace, asked and changed.

use super::verify::{self, ObjectSeen, Root};
use super::{TcStep, TcUndo};
use crate::link::netlink::RouteSocket;
use crate::link::{LinkError, interfaces};

/// One netlink socket, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Session {
    socket: RouteSocket,
}

impl Session {
    /// Opens the socket.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn open() -> Result<Session, LinkError> {
        Ok(Session {
            socket: interfaces::open_socket()?,
        })
    }

    /// What the root of an interface is.
    ///
    /// # Errors
    /// There is no such interface here, or the kernel refuses.
    pub fn root(&mut self, interface: &str) -> Result<Root, LinkError> {
        verify::root(&mut self.socket, interface)
    }

    /// Does a step.
    ///
    /// # Errors
    /// What it makes exists already (`EEXIST`), or the kernel refuses.
    pub fn apply(&mut self, step: &TcStep) -> Result<(), LinkError> {
        step.apply(&mut self.socket)
    }

    /// Takes a step back. What is gone already is no failure.
    ///
    /// # Errors
    /// Somebody else's discipline is in its place, or the kernel refuses.
    pub fn undo(&mut self, undo: &TcUndo) -> Result<(), LinkError> {
        undo.apply(&mut self.socket)
    }

    /// Compares what steps asked for with what the kernel has.
    ///
    /// # Errors
    /// Something is missing or different; the message names it.
    pub fn verify(&mut self, steps: &[TcStep]) -> Result<(), LinkError> {
        verify::verify(&mut self.socket, steps)
    }

    /// Everything that queues on an interface, and what it has done.
    ///
    /// # Errors
    /// There is no such interface here, or the kernel refuses.
    pub fn show(&mut self, interface: &str) -> Result<Vec<ObjectSeen>, LinkError> {
        verify::show(&mut self.socket, interface)
    }
}
