//! Who controls this machine: the far ends of the connections that this process was started over, and of
//! those of the machine's SSH servers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nix::net::if_::if_nametoindex;

use super::{ComesIn, ControlPeer};
use crate::process::fields_after_name;

/// Addresses of peers, each with the numbers of the interfaces that it is known to come in over: only a
/// link-local one has any.
pub(super) type Peers = BTreeMap<IpAddr, BTreeSet<u32>>;

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
pub(super) fn with_interfaces(peers: Peers, own: &[(Ipv6Addr, u32)]) -> BTreeSet<ControlPeer> {
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
pub(super) fn ssh_peer(environment: &[u8]) -> Option<(IpAddr, Option<u32>)> {
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
pub(super) struct Connection {
    pub(super) local: IpAddr,
    pub(super) peer: IpAddr,
    pub(super) is_established: bool,
}

impl Connection {
    /// The interfaces that a link-local peer can belong to: those that have this end's address.
    pub(super) fn interfaces(&self, own: &[(Ipv6Addr, u32)]) -> BTreeSet<u32> {
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
pub(super) fn tcp_connections() -> io::Result<BTreeMap<u64, Connection>> {
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
pub(super) fn own_addresses() -> io::Result<Vec<(Ipv6Addr, u32)>> {
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
