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

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::net::if_::if_nametoindex;
use serde::{Deserialize, Serialize};

use crate::link::LinkError;
use crate::link::netlink::RouteSocket;
use crate::process::fields_after_name;
use crate::undo::network::link_name;
use nexthops::Nexthops;

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

/// Addresses of peers, each with the numbers of the interfaces that it is known to come in over: only a
/// link-local one has any.
type Peers = BTreeMap<IpAddr, BTreeSet<u32>>;

/// Those whom this machine is controlled by: the far ends of the TCP connections of the processes that
/// started this one, such as sshd, what `SSH_CONNECTION` of any of them says, and the far ends of all
/// connections of SSH servers: whoever works in a terminal multiplexer, or has started a job, is connected
/// by a process that did not start this one.
///
/// # Errors
/// The kernel's tables of connections and addresses cannot be read, so that nobody knows whom to protect.
pub fn control_peers() -> io::Result<BTreeSet<ControlPeer>> {
    let mut peers = Peers::new();
    let connections = tcp_connections()?;
    let own = own_addresses()?;
    let mut pid = std::process::id();
    // A chain of parents has an end; a number that is used again could make it a ring.
    for _ in 0..64 {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        if let Some((address, interface)) = ssh_peer(&environment) {
            peers.entry(address).or_default().extend(interface);
        }
        for inode in socket_inodes(pid) {
            if let Some(connection) = connections.get(&inode) {
                let interfaces = connection.interfaces(&own);
                peers.entry(connection.peer).or_default().extend(interfaces);
            }
        }
        match parent_of(pid) {
            Some(parent) if parent > 1 => pid = parent,
            _ => break,
        }
    }
    for pid in ssh_servers() {
        for inode in socket_inodes(pid) {
            if let Some(connection) = connections.get(&inode).filter(|one| one.is_established) {
                let interfaces = connection.interfaces(&own);
                peers.entry(connection.peer).or_default().extend(interfaces);
            }
        }
    }
    peers.retain(|peer, _| !peer.is_loopback() && !peer.is_unspecified());
    Ok(with_interfaces(peers, &own))
}

/// Tells over which interface each comes in. A link-local address means nothing without one, and no route
/// says which: where it is not known, it may be any that has such addresses.
fn with_interfaces(peers: Peers, own: &[(Ipv6Addr, u32)]) -> BTreeSet<ControlPeer> {
    let link_local = own.iter().filter(|(one, _)| one.is_unicast_link_local());
    let perhaps: Vec<ComesIn> = link_local.map(|one| ComesIn::Perhaps(one.1)).collect();
    let peers = peers.into_iter().flat_map(|(address, interfaces)| {
        let comes_in = match (is_link_local(address), interfaces.is_empty()) {
            (false, _) => vec![ComesIn::ByRoute],
            (true, false) => interfaces.into_iter().map(ComesIn::Over).collect(),
            (true, true) => perhaps.clone(),
        };
        let peer = move |comes_in| ControlPeer { address, comes_in };
        comes_in.into_iter().map(peer)
    });
    peers.collect()
}

/// Whether it is one that every interface has addresses like.
const fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => false,
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// What programs that serve SSH are called, as the kernel cuts it (`TASK_COMM_LEN`).
const SSH_SERVERS: [&str; 4] = ["sshd", "sshd-session", "sshd-auth", "dropbear"];

/// The processes of this machine's SSH servers; a process that ends while it is looked at serves nobody.
fn ssh_servers() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm"));
        name.is_ok_and(|name| SSH_SERVERS.contains(&name.trim_end()))
    })
    .collect()
}

fn parent_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The state is the first field after the name, the parent the second.
    fields_after_name(&stat)?.nth(1)?.parse().ok()
}

/// The client of `SSH_CONNECTION`: client address, client port, server address, server port. Behind a
/// link-local address stands, after `%`, its interface, by name or number.
fn ssh_peer(environment: &[u8]) -> Option<(IpAddr, Option<u32>)> {
    let entry = environment
        .split(|byte| *byte == 0)
        .find_map(|entry| entry.strip_prefix(b"SSH_CONNECTION="))?;
    let client = std::str::from_utf8(entry).ok()?.split(' ').next()?;
    let Some((address, zone)) = client.split_once('%') else {
        return Some((client.parse().ok()?, None));
    };
    let named = if_nametoindex(zone).ok();
    Some((address.parse().ok()?, named.or_else(|| zone.parse().ok())))
}

fn socket_inodes(pid: u32) -> Vec<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten();
    entries
        .filter_map(|entry| {
            let target = fs::read_link(entry.ok()?.path()).ok()?;
            let inode = target
                .to_str()?
                .strip_prefix("socket:[")?
                .strip_suffix(']')?;
            inode.parse().ok()
        })
        .collect()
}

/// A TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Connection {
    local: IpAddr,
    peer: IpAddr,
    is_established: bool,
}

impl Connection {
    /// The interfaces that a link-local peer can belong to: those that have this end's address.
    fn interfaces(&self, own: &[(Ipv6Addr, u32)]) -> BTreeSet<u32> {
        let has_local = |one: &&(Ipv6Addr, u32)| IpAddr::V6(one.0) == self.local;
        let own = own.iter().filter(|_| is_link_local(self.peer));
        own.filter(has_local).map(|one| one.1).collect()
    }
}

/// A table of this namespace's network; empty where the kernel has no such protocol.
fn network_table(name: &str) -> io::Result<String> {
    let path = format!("/proc/thread-self/net/{name}");
    match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(io::Error::new(error.kind(), format!("{path}: {error}"))),
        table => table,
    }
}

/// The TCP connections of this namespace, by the inode of their socket.
fn tcp_connections() -> io::Result<BTreeMap<u64, Connection>> {
    let mut found = BTreeMap::new();
    for name in ["tcp", "tcp6"] {
        let table = network_table(name)?;
        found.extend(table.lines().skip(1).filter_map(connection));
    }
    Ok(found)
}

/// `TCP_ESTABLISHED` of net/tcp_states.h, as that table has it.
const ESTABLISHED: &str = "01";

/// One line of `/proc/net/tcp`: number, local, remote, state, ..., inode the tenth field.
fn connection(line: &str) -> Option<(u64, Connection)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    let address = |at: usize| hexadecimal_address(fields.get(at)?.split_once(':')?.0);
    let connection = Connection {
        local: address(1)?,
        peer: address(2)?,
        is_established: *fields.get(3)? == ESTABLISHED,
    };
    Some((fields.get(9)?.parse().ok()?, connection))
}

/// The IPv6 addresses of this namespace's interfaces, each with the number of its interface.
fn own_addresses() -> io::Result<Vec<(Ipv6Addr, u32)>> {
    let table = network_table("if_inet6")?;
    Ok(table.lines().filter_map(own_address).collect())
}

/// One line of `/proc/net/if_inet6`: the address in the order of the network, and the interface's number,
/// both hexadecimal.
fn own_address(line: &str) -> Option<(Ipv6Addr, u32)> {
    let mut fields = line.split_ascii_whitespace();
    let address = u128::from_str_radix(fields.next()?, 16).ok()?;
    let index = u32::from_str_radix(fields.next()?, 16).ok()?;
    Some((Ipv6Addr::from(address), index))
}

/// The kernel prints an address as words of 32 bits in the machine's own order.
fn hexadecimal_address(text: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let word = u32::from_str_radix(text.get(at..at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    match text.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut bytes = [0; 16];
            for (place, at) in bytes.chunks_exact_mut(4).zip([0, 8, 16, 24]) {
                place.copy_from_slice(&word(at)?);
            }
            Some(Ipv6Addr::from(bytes).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
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

    #[test]
    fn a_connection_tells_where_it_comes_from() {
        let line = "   1: 0100007F:0016 0264A8C0:C3E2 01 00000000:00000000 02:000 0 0 0 4711 4";
        if cfg!(target_endian = "little") {
            let peer = "192.168.100.2".parse().unwrap();
            let local = "127.0.0.1".parse().unwrap();
            let is_established = true;
            let expected = Connection {
                local,
                peer,
                is_established,
            };
            assert_eq!(connection(line), Some((4711, expected)));
            let closing = line.replace(" 01 ", " 06 ");
            let (_, closing) = connection(&closing).unwrap();
            assert!(!closing.is_established);
            let mapped = "0000000000000000FFFF00000264A8C0";
            assert_eq!(hexadecimal_address(mapped), Some(peer));
        }
        assert_eq!(hexadecimal_address("12"), None);
        let environment = b"A=b\0SSH_CONNECTION=2001:db8::7 50000 2001:db8::1 22\0";
        let expected = ("2001:db8::7".parse().unwrap(), None);
        assert_eq!(ssh_peer(environment), Some(expected));
        assert_eq!(ssh_peer(b"HOME=/root\0"), None);
    }

    #[test]
    fn a_link_local_client_comes_with_the_interface_that_its_address_belongs_to() {
        // The loopback interface is number 1 in every namespace.
        for (zone, expected) in [("lo", Some(1)), ("42", Some(42)), ("no-such0", None)] {
            let environment = format!("SSH_CONNECTION=fe80::7%{zone} 50000 fe80::1%{zone} 22");
            let address = "fe80::7".parse().unwrap();
            let found = ssh_peer(environment.as_bytes());
            assert_eq!(found, Some((address, expected)), "{zone}");
        }
    }

    #[test]
    fn a_link_local_peer_belongs_to_whatever_interface_is_known_and_else_perhaps_to_each() {
        let own: Vec<_> = [
            "fe80000000000000d0f67afffe285d4c 0c 40 20 80     eth0",
            "fe800000000000000000000000000001 03 40 20 80     eth1",
            "20010db8000000000000000000000001 04 40 00 80     eth2",
        ]
        .map(|line| own_address(line).unwrap())
        .into();
        assert_eq!(own[0], ("fe80::d0f6:7aff:fe28:5d4c".parse().unwrap(), 12));
        let [near, far]: [IpAddr; 2] = ["fe80::1", "fe80::2"].map(|text| text.parse().unwrap());
        let of = |local, peer| {
            let is_established = true;
            let connection = Connection {
                local,
                peer,
                is_established,
            };
            connection.interfaces(&own)
        };
        assert_eq!(of(near, far), BTreeSet::from([3]));
        assert_eq!(of(far, near), BTreeSet::new());
        let global = "2001:db8::2".parse().unwrap();
        assert_eq!(of("2001:db8::1".parse().unwrap(), global), BTreeSet::new());

        let told = |address, known: &[u32]| {
            let known = known.iter().copied().collect();
            let peers = with_interfaces(Peers::from([(address, known)]), &own);
            assert!(peers.iter().all(|peer| peer.address == address));
            peers
                .into_iter()
                .map(|peer| peer.comes_in)
                .collect::<Vec<_>>()
        };
        assert_eq!(told(far, &[3]), [ComesIn::Over(3)]);
        assert_eq!(told(far, &[]), [3, 12].map(ComesIn::Perhaps));
        assert_eq!(told(global, &[]), [ComesIn::ByRoute]);
    }
}
