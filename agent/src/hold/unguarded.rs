//! Shapes an interface as a holder does, and follows the trace with the holder's own follower, without
//! ledger, guardian and lease: for the bench, whose interfaces lie in namespaces that go with it.

use hexloop_traces::{LinkSettings, Trace};
use hexloop_workloads::clock;

use super::shaping::{FollowedSoFar, Follower, Outages, Shaping, curves};
use super::wait::timer;
use super::{HoldError, open, system};
use crate::link::scheduling::{self, Scheduling};
use crate::link::tc::interface::{Kernel, draw_ifb_address, verify};
use crate::undo::network::{called, link, longest_packet_of, mtu_of};
use crate::undo::{InterfaceIdentity, NamespaceIdentity};

/// What is to be shaped. The interface is one of the calling thread's network namespace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unguarded<'a> {
    pub(crate) interface: &'a str,
    pub(crate) trace: &'a Trace,
    pub(crate) settings: LinkSettings,
}

/// Shapes it, hands what the calling thread got from the scheduler to `begin`, and follows the trace from
/// the first to the second of the moments that `begin` returns, in nanoseconds since the machine was
/// started; not at all where it returns none. What was made stays.
///
/// # Errors
/// It cannot be shaped so here, or the kernel refuses.
pub(crate) fn shape_and_follow(
    wanted: Unguarded<'_>,
    begin: impl FnOnce(&Scheduling) -> Option<(u64, u64)>,
) -> Result<Option<FollowedSoFar>, HoldError> {
    let mut socket = open()?;
    let name = wanted.interface;
    let found = link(&mut socket, called(name)).map_err(system("find the interface"))?;
    let found = found.ok_or_else(|| HoldError::NoInterface(name.to_owned()))?;
    let namespace =
        NamespaceIdentity::of_this_thread().map_err(system("find out the network namespace"))?;
    let interface = InterfaceIdentity {
        namespace,
        index: found.header.index,
        name: name.to_owned(),
    };
    let trace = wanted.trace;
    let states = trace.states().flat_map(|(_, states)| states);
    let shaping = Shaping {
        interface: &interface,
        ifb_address: draw_ifb_address().map_err(system("draw an address"))?,
        mtu: mtu_of(&found),
        longest_bytes: longest_packet_of(&found),
        speed_bps: None,
        trace,
        curves: curves(trace),
        settings: wanted.settings,
        peers: &[],
        kernel: Kernel::here(states, &wanted.settings, mtu_of(&found))?,
        outages: Outages::of(trace),
    };
    let steps = shaping.check()?;
    for step in &steps {
        step.apply(&mut socket)?;
    }
    verify(&mut socket, &steps)?;
    let scheduling = scheduling::make_real_time(None);
    let Some((start_boot_ns, end_boot_ns)) = begin(&scheduling) else {
        return Ok(None);
    };
    let mut follower = Follower::new(&shaping, start_boot_ns);
    while clock::since_boot_ns() < end_boot_ns {
        let next_ns = follower.next_boot_ns().unwrap_or(end_boot_ns);
        let timer = timer(next_ns.min(end_boot_ns))?;
        let waited = timer.wait();
        waited.map_err(|error| system("wait for the next row")(error.into()))?;
        if next_ns <= end_boot_ns && !follower.go_on(&mut socket)? {
            break;
        }
    }
    Ok(Some(follower.so_far()))
}
