//! What others do with an interface that is held: look, confirm, clear.

use std::path::Path;

use hexloop_workloads::clock;
use netlink_packet_route::link::LinkFlags;
use nix::net::if_::if_nametoindex;
use nix::sys::signal::Signal;
use serde::Serialize;

use super::{HoldError, last_end, open, system};
use crate::guardian::{HeldLink, held_links, replay_leftovers};
use crate::link::tc::interface::show;
use crate::undo::network::{link, link_name, numbered};
use crate::undo::{InterfaceIdentity, NamespaceIdentity};

/// How long a holder that was told to end may take, and then its guardian.
const CLEAR_LIMIT_NS: u64 = 5_000_000_000;

/// Takes the shape away: the holder does it when it lives, else its guardian, else this process.
///
/// # Errors
/// Something could not be put back.
pub fn clear(held: &HeldLink, state_directory: &Path) -> Result<(), HoldError> {
    let signal = |signal| {
        let sent = held.owner.signal(signal);
        sent.map_err(system("signal the process that holds the interface"))
    };
    if held.is_alive {
        signal(Signal::SIGTERM)?;
        if !is_gone_within(&held.ledger, CLEAR_LIMIT_NS) {
            // It hangs, or cannot put things back: its guardian tries again.
            signal(Signal::SIGKILL)?;
        }
    }
    if is_gone_within(&held.ledger, 0) {
        return Ok(());
    }
    let left: Vec<String> = replay_leftovers(state_directory)?
        .into_iter()
        .flat_map(|report| report.failed)
        .collect();
    if left.is_empty() && is_gone_within(&held.ledger, CLEAR_LIMIT_NS) {
        return Ok(());
    }
    let name = held.ledger.display();
    Err(HoldError::Dirty(if left.is_empty() {
        format!("{name} is still in use")
    } else {
        left.join("; ")
    }))
}

fn is_gone_within(path: &Path, limit_ns: u64) -> bool {
    let deadline = clock::now() + limit_ns;
    while path.exists() {
        if clock::now() >= deadline {
            return false;
        }
        clock::sleep_until(clock::now() + 5_000_000);
    }
    true
}

/// Confirms that the machine can still be reached, and waits until the holder has noted that.
///
/// # Errors
/// The holder is gone, or may not be signalled.
pub fn confirm(held: &HeldLink, state_directory: &Path) -> Result<(), HoldError> {
    let sent = held
        .owner
        .signal(Signal::SIGUSR1)
        .map_err(system("signal the process that holds the interface"))?;
    let deadline = clock::now() + CLEAR_LIMIT_NS;
    let is_noted = || -> Result<bool, HoldError> {
        let links = held_links(state_directory)?;
        let mut ours = links.iter().filter(|link| link.ledger == held.ledger);
        Ok(ours.any(|link| link.held.confirmed))
    };
    while sent && !is_noted()? {
        if !held.owner.is_alive() || clock::now() >= deadline {
            return Err(gone(held, state_directory));
        }
        clock::sleep_until(clock::now() + 5_000_000);
    }
    if sent {
        Ok(())
    } else {
        Err(gone(held, state_directory))
    }
}

/// Why nobody holds it any more: what its holder wrote last, if it came to that.
pub(super) fn gone(held: &HeldLink, state_directory: &Path) -> HoldError {
    let interface = held.held.interface.name.clone();
    let last = last_end(state_directory, &interface);
    let last = last.filter(|ended| ended.at_unix_ns >= held.held.since_unix_ns);
    let why = last.map_or_else(
        || "the process that held it is gone".to_owned(),
        |ended| ended.why,
    );
    HoldError::PutBack { interface, why }
}

/// A discipline or class of an interface, as the kernel tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// What it is, with its parameters.
    pub what: String,
    /// Its handle, as `tc` prints it.
    pub handle: String,
    /// Where it hangs, as `tc` prints it.
    pub parent: String,
    /// Bytes that it has sent; `null` where the kernel does not count.
    pub sent_bytes: Option<u64>,
    /// Bytes that wait in it now.
    pub backlog_bytes: Option<u64>,
    /// Packets that it has dropped.
    pub drops: Option<u64>,
}

/// What became of an interface that was shaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceNow {
    /// What it is called by now.
    pub name: String,
    /// Whether it is down, so that nothing passes.
    pub is_down: bool,
}

/// What an interface is by now; `None` where it is gone or in another network namespace than the calling
/// thread.
///
/// # Errors
/// The kernel does not tell.
pub fn interface_now(interface: &InterfaceIdentity) -> Result<Option<InterfaceNow>, HoldError> {
    let here =
        NamespaceIdentity::of_this_thread().map_err(system("find out the network namespace"))?;
    if !interface.namespace.is(here) {
        return Ok(None);
    }
    let found = link(&mut open()?, numbered(interface.index));
    let found = found.map_err(system("look at the interface"))?;
    Ok(found.map(|found| InterfaceNow {
        name: link_name(&found),
        is_down: !found.header.flags.contains(LinkFlags::Up),
    }))
}

/// What is on an interface of this thread's network namespace.
///
/// # Errors
/// There is no such interface, or the kernel does not tell.
pub fn seen(interface: &str) -> Result<Vec<Seen>, HoldError> {
    if if_nametoindex(interface).is_err() {
        return Err(HoldError::NoInterface(interface.to_owned()));
    }
    let found = show(&mut open()?, interface)?;
    Ok(found
        .into_iter()
        .map(|object| Seen {
            what: object.what,
            handle: object.handle.to_string(),
            parent: object.parent.to_string(),
            sent_bytes: object.sent_bytes,
            backlog_bytes: object.backlog_bytes,
            drops: object.drops,
        })
        .collect())
}
