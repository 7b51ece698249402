//! Whether an interface is free: nobody else's, and nothing of what dead owners left on it.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use hexloop_workloads::clock;
use nix::fcntl::{Flock, FlockArg};

use super::{HoldError, open, system};
use crate::guardian;
use crate::link::netlink::RouteSocket;
use crate::link::tc::interface::ifb_name;
use crate::undo::network::{called, has_our_root, link, qdiscs, tc_kind};
use crate::undo::{HANDLE, InterfaceIdentity};

/// How long the lock of a process that is being killed is waited for.
const DYING_NS: u64 = 1_000_000_000;

/// One interface at a time is taken, until it is confirmed.
pub(super) fn lock(state: &Path) -> Result<Flock<fs::File>, HoldError> {
    let path = state.join("link.lock");
    let doing = format!("lock {}", path.display());
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state)
        .map_err(system(&doing))?;
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path)
        .map_err(system(&doing))?;
    // A holder that was killed a moment ago may not have let go yet.
    let deadline = clock::now() + DYING_NS;
    let mut attempt = Flock::lock(file, FlockArg::LockExclusiveNonblock);
    loop {
        match attempt {
            Ok(lock) => return Ok(lock),
            Err((file, nix::Error::EWOULDBLOCK)) if clock::now() < deadline => {
                clock::sleep_until(clock::now() + 10_000_000);
                attempt = Flock::lock(file, FlockArg::LockExclusiveNonblock);
            }
            Err((_, nix::Error::EWOULDBLOCK)) => {
                return Err(HoldError::Taken {
                    interface: "shaping".to_owned(),
                    what: "of another interface is not confirmed yet".to_owned(),
                    remedy: "`hexloop link show` tells which; confirm or clear it first".to_owned(),
                });
            }
            Err((_, error)) => return Err(system(&doing)(error.into())),
        }
    }
}

/// Undoes what dead owners left, and looks whether the interface is free.
pub(super) fn put_right(state: &Path, interface: &InterfaceIdentity) -> Result<(), HoldError> {
    let failed: Vec<String> = guardian::replay_leftovers(state)?
        .into_iter()
        .flat_map(|report| report.failed)
        .collect();
    if !failed.is_empty() {
        return Err(HoldError::Dirty(failed.join("; ")));
    }
    let name = &interface.name;
    for held in guardian::held_links(state)? {
        let theirs = &held.held.interface;
        if theirs.index == interface.index && theirs.namespace == interface.namespace {
            return Err(HoldError::Taken {
                interface: name.clone(),
                what: format!("is shaped already: {}", held.held.shape),
                remedy: format!("`hexloop link clear {name}` first"),
            });
        }
    }
    let mut socket = open()?;
    check_free(&mut socket, name, interface.index)?;
    let left = unclaimed(interface).map_err(system("look for what earlier owners left"))?;
    if left.is_empty() {
        Ok(())
    } else {
        Err(HoldError::Dirty(left.join("; ")))
    }
}

/// What carries our mark on an interface although no ledger knows of it.
fn unclaimed(interface: &InterfaceIdentity) -> io::Result<Vec<String>> {
    let mut socket = RouteSocket::open()?;
    let mut left = Vec::new();
    let name = &interface.name;
    if has_our_root(&mut socket, interface.index)? {
        let major = HANDLE.major;
        left.push(format!(
            "{name} has hexloop's qdisc and no ledger knows of it; `tc qdisc del dev {name} root \
             handle {major:x}:` takes it away"
        ));
    }
    let ifb = ifb_name(interface.index);
    if link(&mut socket, called(&ifb))?.is_some() {
        left.push(format!(
            "there is a link {ifb} and no ledger knows of it; `ip link del {ifb}` takes it away"
        ));
    }
    Ok(left)
}

/// Qdiscs that the kernel puts there by itself have no handle.
fn check_free(socket: &mut RouteSocket, name: &str, index: u32) -> Result<(), HoldError> {
    let found = qdiscs(socket, index).map_err(system("list the qdiscs of the interface"))?;
    for qdisc in found {
        let handle = qdisc.header.handle;
        let is_ingress = handle.major == u16::MAX;
        if handle.major != 0 && handle != HANDLE && (is_root(&qdisc) || is_ingress) {
            let kind = tc_kind(&qdisc);
            let place = if is_ingress { "" } else { " root" };
            return Err(HoldError::Taken {
                interface: name.to_owned(),
                what: format!("has a{place} qdisc `{kind}` that is not hexloop's"),
                remedy: "hexloop never replaces what others made: take it away yourself, or \
                         choose another interface"
                    .to_owned(),
            });
        }
    }
    Ok(())
}

fn is_root(qdisc: &netlink_packet_route::tc::TcMessage) -> bool {
    qdisc.header.parent == netlink_packet_route::tc::TcHandle::ROOT
}
