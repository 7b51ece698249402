//! What may be refused before anything is made: who asks, for which interface, for how much.

use hexloop_traces::units::{BitRate, TimeSpan};
use hexloop_traces::{Trace, UNLIMITED_RATE_BPS};

use super::{HoldError, HoldOrder, open, system};
use crate::configuration::Configuration;
use crate::management::{self, Protected};
use crate::sys::{capability, ethtool};
use crate::undo::network::{called, link, link_name, longest_packet_of, mtu_of};
use crate::undo::{InterfaceIdentity, NamespaceIdentity};

/// What was found of an interface that may be shaped.
pub(super) struct Found {
    pub(super) interface: InterfaceIdentity,
    pub(super) mtu: u32,
    pub(super) longest_bytes: u32,
    pub(super) protected: Protected,
}

/// What may be refused before anything is made, and before anybody looks at the trace.
pub(super) fn check_asked(order: &HoldOrder) -> Result<Found, HoldError> {
    if !nix::unistd::geteuid().is_root() {
        return Err(HoldError::NotRoot);
    }
    for (capability, name) in [
        (capability::NET_ADMIN, "CAP_NET_ADMIN"),
        (capability::SYS_ADMIN, "CAP_SYS_ADMIN"),
    ] {
        if !capability::has(capability).map_err(system("ask for this process's rights"))? {
            return Err(HoldError::Powerless(name));
        }
    }
    check_allowed(order, &Configuration::load()?)?;
    let mut socket = open()?;
    let name = &order.interface;
    let found = link(&mut socket, called(name)).map_err(system("find the interface"))?;
    // A name may be an alternative one; what is allowed is the interface's own.
    let Some(found) = found.filter(|found| &link_name(found) == name) else {
        return Err(HoldError::NoInterface(name.clone()));
    };
    let index = found.header.index;
    let protected = management::protected(&order.control_peers)?;
    if let Some(reason) = protected.get(&index) {
        return Err(HoldError::Protected {
            interface: name.clone(),
            reason: reason.clone(),
        });
    }
    let namespace =
        NamespaceIdentity::of_this_thread().map_err(system("find out the network namespace"))?;
    Ok(Found {
        interface: InterfaceIdentity {
            namespace,
            index,
            name: name.clone(),
        },
        mtu: mtu_of(&found),
        longest_bytes: longest_packet_of(&found),
        protected,
    })
}

/// The highest rate that is asked for; 0 when none is.
fn highest_rate(trace: &Trace) -> u64 {
    let states = trace.states().flat_map(|(_, states)| states);
    states
        .map(|state| state.rate_bps)
        .filter(|rate| *rate != UNLIMITED_RATE_BPS)
        .max()
        .unwrap_or(0)
}

/// Whether the trace's rates are allowed, and below the interface's own, which is returned.
pub(super) fn check_rates(order: &HoldOrder, trace: &Trace) -> Result<Option<u64>, HoldError> {
    let highest_bps = highest_rate(trace);
    let configuration = Configuration::load()?;
    if highest_bps > configuration.host.max_rate_bps.unwrap_or(u64::MAX) {
        let rate = BitRate { bps: highest_bps };
        let path = configuration.path.display();
        return Err(HoldError::NotAllowed {
            what: format!("a rate of {rate}"),
            remedy: format!("`max_rate` in {path} says how much is"),
        });
    }
    check_speed(&order.interface, highest_bps)
}

/// Whether this interface may be shaped by this user for so long.
fn check_allowed(order: &HoldOrder, configuration: &Configuration) -> Result<(), HoldError> {
    check_named(order, configuration)?;
    let (host, path) = (&configuration.host, configuration.path.display());
    if order.lease_ns > host.max_lease_ns {
        let span = |ns| TimeSpan { ns };
        return Err(HoldError::NotAllowed {
            what: format!("a lease of {}", span(order.lease_ns)),
            remedy: format!("`max_lease` in {path} is {}", span(host.max_lease_ns)),
        });
    }
    Ok(())
}

/// Whether this interface may be shaped by this user.
pub(super) fn check_named(
    order: &HoldOrder,
    configuration: &Configuration,
) -> Result<(), HoldError> {
    let (host, path) = (&configuration.host, configuration.path.display());
    let refuse = |what: String, remedy: String| Err(HoldError::NotAllowed { what, remedy });
    let name = &order.interface;
    if !host.allow_interfaces.contains(name) {
        let remedy = format!(
            "its owner can allow it in {path}: `schema = 1` and `allow_interfaces = [\"{name}\"]`"
        );
        return refuse(format!("shaping interface {name}"), remedy);
    }
    if !configuration.allows_user(order.invoking_user) {
        let remedy = format!("its owner can add you to `allow_users` in {path}");
        return refuse("shaping by this user".to_owned(), remedy);
    }
    Ok(())
}

/// A rate above the interface's own shapes nothing. Returns that.
fn check_speed(name: &str, highest_bps: u64) -> Result<Option<u64>, HoldError> {
    let speed = ethtool::speed_mbps(name).map_err(system("read the speed of the interface"))?;
    let Some(most_bps) = speed.map(|mbps| u64::from(mbps) * 1_000_000) else {
        return Ok(None);
    };
    if highest_bps > most_bps {
        let rate = |bps| BitRate { bps };
        return Err(HoldError::Senseless(format!(
            "a rate of {} is more than interface {name} has: {}",
            rate(highest_bps),
            rate(most_bps)
        )));
    }
    Ok(Some(most_bps))
}
