//! Interfaces that nobody may touch: those over which this machine is reached.
//!
//! Refused are the interfaces of every default route, in both families and all tables (also where a VPN
//! has split it, and where it names a nexthop object), those of the connections that this process was
//! started over and of the machine's SSH servers, and whatever carries them: bonds, bridges and their
//! members, and what VLANs and the like run on. A link-local peer comes in over the
//! interface that its address belongs to, whatever routes say.

#[cfg(test)]
mod kernel_tests;
mod nexthops;
mod peers;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use serde::{Deserialize, Serialize};

use crate::link::LinkError;
use crate::link::netlink::RouteSocket;
use crate::undo::network::link_name;
use nexthops::Nexthops;

pub use peers::control_peers;

/// Interfaces by number, each with the reason why it is refused.
pub type Protected = BTreeMap<u32, String>;

/// Somebody who controls this machine over the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ControlPeer {
    /// The address.
    pub address: IpAddr,
    /// Over which interface.
    pub comes_in: ComesIn,
}

/// Over which interface a peer comes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ComesIn {
    /// Over that by which packets to its address leave.
    ByRoute,
    /// Over that with this number: the address is link-local, and belongs to it.
    Over(u32),
    /// Over that with this number, or another one that has link-local addresses: which of them this one
    /// belongs to was not found out.
    Perhaps(u32),
}

/// The interfaces of this thread's network namespace that nobody may touch. `peers` are those that
/// the machine is controlled from.
///
/// # Errors
/// The kernel does not tell its links and routes, or the way to a peer.
pub fn protected(peers: &BTreeSet<ControlPeer>) -> Result<Protected, LinkError> {
    let mut socket = RouteSocket::open().map_err(|source| LinkError::Socket {
        action: "open a netlink socket".to_owned(),
        source,
    })?;
    protected_now(&mut socket, peers)
}

/// The same, asked over a socket of the namespace.
///
/// # Errors
/// The kernel does not tell its links and routes, or the way to a peer.
pub(crate) fn protected_now(
    socket: &mut RouteSocket,
    peers: &BTreeSet<ControlPeer>,
) -> Result<Protected, LinkError> {
    let links = links(socket)?;
    let mut seeds = Protected::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut routes = routes(socket, family)?;
        routes.retain(is_default);
        let nexthops = if routes.iter().any(|route| nexthop_of(route).is_some()) {
            Nexthops::read(socket)?
        } else {
            Nexthops::default()
        };
        for route in &routes {
            for index in interfaces_of(route, &nexthops) {
                add(&mut seeds, index, "a default route leads over it");
            }
        }
    }
    for ControlPeer { address, comes_in } in peers {
        let (index, how) = match comes_in {
            ComesIn::ByRoute => (way_to(socket, *address)?, "comes"),
            ComesIn::Over(index) => (Some(*index), "comes"),
            ComesIn::Perhaps(index) => (Some(*index), "may come"),
        };
        if let Some(index) = index {
            let reason = format!("the connection from {address} {how} in over it");
            add(&mut seeds, index, &reason);
        }
    }
    Ok(with_carriers(seeds, &links))
}

fn add(found: &mut Protected, index: u32, reason: &str) {
    found.entry(index).or_insert_with(|| reason.to_owned());
}

/// How an interface hangs on others of its namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Relations {
    index: u32,
    name: String,
    /// The bond, bridge or the like that it is a member of.
    master: Option<u32>,
    /// What it runs on: a VLAN's or macvlan's parent.
    below: Option<u32>,
}

/// Adds what carries the interfaces that are refused: their parents, their masters, and the
/// members of those that are masters.
fn with_carriers(seeds: Protected, links: &[Relations]) -> Protected {
    let name = |index: u32| {
        let link = links.iter().find(|link| link.index == index);
        link.map_or("?", |link| link.name.as_str())
    };
    let mut found = seeds;
    loop {
        let mut more = Protected::new();
        for link in links {
            let carries = |other: u32, how: &str, reason: &str| {
                format!("it {how} {}, and {reason}", name(other))
            };
            if let Some(reason) = found.get(&link.index) {
                for (other, how) in [(link.master, "is the master of"), (link.below, "carries")] {
                    if let Some(other) = other.filter(|other| !found.contains_key(other)) {
                        more.insert(other, carries(link.index, how, reason));
                    }
                }
            }
            let master = link
                .master
                .and_then(|master| Some((master, found.get(&master)?)));
            if let Some((master, reason)) = master
                && !found.contains_key(&link.index)
            {
                more.insert(link.index, carries(master, "is a member of", reason));
            }
        }
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

fn links(socket: &mut RouteSocket) -> Result<Vec<Relations>, LinkError> {
    let ask = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let answers = socket.query(ask, true, || "list the interfaces".to_owned())?;
    Ok(answers
        .into_iter()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewLink(link) => Some(relations(&link)),
            _ => None,
        })
        .collect())
}

fn relations(link: &LinkMessage) -> Relations {
    let mut found = Relations {
        index: link.header.index,
        name: link_name(link),
        master: None,
        below: None,
    };
    let mut is_elsewhere = false;
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::Controller(index) => found.master = Some(*index),
            LinkAttribute::Link(index) => found.below = Some(*index),
            // The number is then one of another namespace.
            LinkAttribute::LinkNetNsId(_) => is_elsewhere = true,
            _ => {}
        }
    }
    if is_elsewhere || found.below == Some(found.index) {
        found.below = None;
    }
    found.master = found.master.filter(|index| *index != 0);
    found.below = found.below.filter(|index| *index != 0);
    found
}

fn routes(socket: &mut RouteSocket, family: AddressFamily) -> Result<Vec<RouteMessage>, LinkError> {
    let mut ask = RouteMessage::default();
    ask.header.address_family = family;
    let ask = RouteNetlinkMessage::GetRoute(ask);
    let answers = socket.query(ask, true, || format!("list the {family:?} routes"));
    Ok(answers?
        .into_iter()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewRoute(route) => Some(route),
            _ => None,
        })
        .collect())
}

/// Whether a route is for all addresses, or for so many of them as VPNs make routes for that cover a default
/// one: `0.0.0.0/1` and `128.0.0.0/1`; of IPv6 also `2000::/4` and `3000::/4`, in which all addresses of the
/// Internet are.
fn is_default(route: &RouteMessage) -> bool {
    let most_bits = match route.header.address_family {
        AddressFamily::Inet6 => 4,
        _ => 1,
    };
    route.header.destination_prefix_length <= most_bits
}

/// The nexthop object that a route names.
fn nexthop_of(route: &RouteMessage) -> Option<u32> {
    route.attributes.iter().find_map(|one| match one {
        RouteAttribute::NhId(number) => Some(*number),
        _ => None,
    })
}

/// The interfaces that a route leads over; none where it refuses, or is the loopback interface's.
fn interfaces_of(route: &RouteMessage, nexthops: &Nexthops) -> Vec<u32> {
    // The loopback interface is number 1 in every namespace.
    let mut found: Vec<u32> = Vec::new();
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Oif(index) => found.push(*index),
            RouteAttribute::MultiPath(hops) => {
                found.extend(hops.iter().map(|hop| hop.interface_index));
            }
            RouteAttribute::NhId(number) => found.extend(nexthops.interfaces(*number)),
            _ => {}
        }
    }
    found.retain(|index| *index > 1);
    found
}

/// What the kernel says of an address that it knows no way to. Any other error leaves open over which
/// interface the machine is reached.
const NO_WAY: [i32; 3] = [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::ESRCH];

/// The interface over which packets to an address leave; `None` when there is no way, or the
/// address is this machine's own.
fn way_to(socket: &mut RouteSocket, peer: IpAddr) -> Result<Option<u32>, LinkError> {
    let mut ask = RouteMessage::default();
    let (family, length, address) = match peer {
        IpAddr::V4(address) => (AddressFamily::Inet, 32, RouteAddress::Inet(address)),
        IpAddr::V6(address) => (AddressFamily::Inet6, 128, RouteAddress::Inet6(address)),
    };
    ask.header.address_family = family;
    ask.header.destination_prefix_length = length;
    ask.attributes.push(RouteAttribute::Destination(address));
    let ask = RouteNetlinkMessage::GetRoute(ask);
    interface_of_answer(socket.query(ask, false, || {
        format!(
            "find the way to {peer}, from where this machine is controlled, over whose interface nothing \
             may be shaped"
        )
    }))
}

fn interface_of_answer(
    answers: Result<Vec<RouteNetlinkMessage>, LinkError>,
) -> Result<Option<u32>, LinkError> {
    let answers = match answers {
        Err(LinkError::Netlink { source, .. })
            if source
                .raw_os_error()
                .is_some_and(|code| NO_WAY.contains(&code)) =>
        {
            return Ok(None);
        }
        answers => answers?,
    };
    Ok(answers.into_iter().find_map(|message| match message {
        // The answer to a question for one address names the interface itself.
        RouteNetlinkMessage::NewRoute(route) => {
            let found = interfaces_of(&route, &Nexthops::default());
            found.into_iter().next()
        }
        _ => None,
    }))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn link(index: u32, name: &str, master: Option<u32>, below: Option<u32>) -> Relations {
        Relations {
            index,
            name: name.to_owned(),
            master,
            below,
        }
    }

    #[test]
    fn what_carries_the_management_network_is_refused_and_what_only_uses_it_is_not() {
        let links = [
            link(2, "eth0", Some(4), None),
            link(3, "eth1", Some(4), None),
            link(4, "bond0", None, None),
            link(5, "bond0.7", Some(6), Some(4)),
            link(6, "br0", None, None),
            link(7, "eth2", None, None),
            link(8, "macvlan0", None, Some(6)),
        ];
        let seeds = Protected::from([(6, "a default route leads over it".to_owned())]);
        let found = with_carriers(seeds, &links);
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [2, 3, 4, 5, 6]);
        assert_eq!(
            found[&3],
            "it is a member of bond0, and it carries bond0.7, and it is a member of br0, and a \
             default route leads over it"
        );
    }

    #[test]
    fn routes_for_everything_and_for_halves_of_it_are_default_routes_and_no_others() {
        let is_one = |address_family, destination_prefix_length| {
            let mut route = RouteMessage::default();
            route.header.address_family = address_family;
            route.header.destination_prefix_length = destination_prefix_length;
            is_default(&route)
        };
        let of_ipv4 = [0, 1, 2, 8].map(|prefix| is_one(AddressFamily::Inet, prefix));
        assert_eq!(of_ipv4, [true, true, false, false]);
        let of_ipv6 = [0, 1, 4, 7].map(|prefix| is_one(AddressFamily::Inet6, prefix));
        assert_eq!(of_ipv6, [true, true, true, false]);
    }

    #[test]
    fn only_an_unreachable_peer_comes_in_over_no_interface_and_any_other_error_refuses() {
        let refused = |code: i32| {
            interface_of_answer(Err(LinkError::Netlink {
                action: "find the way".to_owned(),
                source: io::Error::from_raw_os_error(code),
            }))
        };
        for code in [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::ESRCH] {
            assert_eq!(refused(code).unwrap(), None);
        }
        for code in [libc::EPERM, libc::ENOBUFS, libc::EACCES, libc::EAGAIN] {
            let LinkError::Netlink { source, .. } = refused(code).unwrap_err() else {
                panic!("another error");
            };
            assert_eq!(source.raw_os_error(), Some(code));
        }
        let unnumbered = interface_of_answer(Err(LinkError::Netlink {
            action: "find the way".to_owned(),
            source: io::Error::other("an answer that makes no sense"),
        }));
        assert!(unnumbered.is_err());
    }
}
