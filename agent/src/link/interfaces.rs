//! The interfaces of a link: veth pairs with fixed addresses and neighbours, on which nothing
//! moves but what the jobs send.
//!
//! ```text
//! relay:  node A [interface]====[hxrNa] relay namespace [hxrNb]====[interface] node B
//! tc:     node A [interface]====[hxrNa] namespace between   [hxrNb]====[interface] node B
//!                            with [hxgNa]====[hxgNb] and [hxtNa]====[hxtNb]
//! ```

use std::fs;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use hexloop_topologies::plan::{LinkEnd, LinkPlan};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute,
    LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, link::Stats64};
use nix::net::if_::if_nametoindex;
use rtnetlink::LinkUnspec;

use super::LinkError;
use super::netlink::{Mode, RouteSocket};
use super::wrong::{Found, Wrong};
use crate::namespace::NetworkNamespace;
use crate::sys::ethtool::{self, Offload};
use crate::undo::network::{link_name, mtu_of};

const IPV4_PREFIX: u8 = 30;
const IPV6_PREFIX: u8 = 64;

/// Which offloads the interfaces of a link keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offloads {
    /// None: every packet crosses with its whole checksum and at most MTU bytes, because nobody
    /// behind them finishes a checksum or cuts a packet.
    None,
    /// Checksums are left to whoever needs them; packets are at most MTU bytes long.
    Checksum,
    /// All: whoever takes the packets knows how to cut them.
    All,
}

/// Names of the two ports in the relay's namespace.
pub(crate) fn relay_ports(link: u32) -> [String; 2] {
    [format!("hxr{link}a"), format!("hxr{link}b")]
}

/// Makes both pairs of a relayed link: the nodes' interfaces and the relay's ports.
pub(crate) fn build_relayed(
    plan: &LinkPlan,
    ends: [&NetworkNamespace; 2],
    relay: &NetworkNamespace,
    ports: &[String; 2],
    offloads: Offloads,
) -> Result<(), LinkError> {
    for ((end, namespace), port) in plan.ends.iter().zip(ends).zip(ports) {
        check_name(&end.interface)?;
        inside(plan, relay, || {
            make_pair(port, None, end, namespace, plan.mtu)
        })?;
        inside(plan, relay, || prepare_port(port, offloads))?;
    }
    configure_ends(plan, ends, offloads)
}

/// Makes one pair that joins the nodes directly.
fn make_direct(plan: &LinkPlan, ends: [&NetworkNamespace; 2]) -> Result<(), LinkError> {
    for end in &plan.ends {
        check_name(&end.interface)?;
    }
    let first = &plan.ends[0];
    inside(plan, ends[0], || {
        make_pair(
            &first.interface,
            Some(first.mac),
            &plan.ends[1],
            ends[1],
            plan.mtu,
        )
    })
}

/// Makes one pair that joins the nodes directly, with every offload that the kernel gives it: what
/// a link is compared with.
pub(crate) fn build_bare(plan: &LinkPlan, ends: [&NetworkNamespace; 2]) -> Result<(), LinkError> {
    make_direct(plan, ends)?;
    for (number, namespace) in ends.into_iter().enumerate() {
        let (own, other) = (&plan.ends[number], &plan.ends[1 - number]);
        inside(plan, namespace, || address_end(own, other))?;
    }
    Ok(())
}

/// Moves what the second end is into another namespace, behind a port here: the end itself
/// keeps its name and loses its addresses, so that no stack answers there.
pub(crate) fn move_far_end(
    plan: &LinkPlan,
    here: &NetworkNamespace,
    port: &str,
    there: &NetworkNamespace,
) -> Result<(), LinkError> {
    let (own, other) = (&plan.ends[1], &plan.ends[0]);
    inside(plan, here, || {
        // The machine's setting is inherited (net.core.devconf_inherit_init_net). Where it cannot
        // be changed, what is not local is only answered with an error that nobody gets.
        let _ = fs::write("/proc/sys/net/ipv4/ip_forward", "0");
        make_pair(port, None, own, there, plan.mtu)?;
        prepare_port(port, Offloads::None)?;
        let mut socket = open_socket()?;
        let index = index_of(&own.interface)?;
        for (address, prefix) in [(own.ipv4, IPV4_PREFIX), (own.ipv6, IPV6_PREFIX)] {
            let message = address_message(index, address, prefix);
            socket.request(
                RouteNetlinkMessage::DelAddress(message),
                Mode::Plain,
                || format!("take address {address} from interface {}", own.interface),
            )?;
        }
        Ok(())
    })?;
    inside(plan, there, || configure_end(own, other, Offloads::None))
}

/// Names of the pair between both ports of a link that tc shapes.
pub(crate) fn inner_ports(link: u16) -> [String; 2] {
    [format!("hxt{link}a"), format!("hxt{link}b")]
}

/// Names of the pair before that one, where packets of a link that tc shapes meet their fate.
pub(crate) fn gate_ports(link: u16) -> [String; 2] {
    [format!("hxg{link}a"), format!("hxg{link}b")]
}

/// Makes both pairs between both ports, in this thread's namespace.
pub(crate) fn build_inner_pairs(link: u16, mtu: u32) -> Result<(), LinkError> {
    build_pair_here(&gate_ports(link), mtu)?;
    build_pair_here(&inner_ports(link), mtu)
}

/// Makes the two ports of a link as a pair with nothing behind it, to try things out on.
pub(crate) fn build_lone_ports(link: u16, mtu: u32) -> Result<(), LinkError> {
    build_pair_here(&relay_ports(u32::from(link)), mtu)
}

fn build_pair_here([first, second]: &[String; 2], mtu: u32) -> Result<(), LinkError> {
    let mut pair = named(first, None, mtu);
    pair.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(named(second, None, mtu)))),
    ]));
    open_socket()?.request(RouteNetlinkMessage::NewLink(pair), Mode::Create, || {
        format!("make the veth pair of {first} and {second}")
    })?;
    prepare_port(first, Offloads::None)?;
    prepare_port(second, Offloads::None)
}

/// Takes an interface away, and its peer with it.
pub(crate) fn remove(interface: &str) -> Result<(), LinkError> {
    let mut socket = open_socket()?;
    let mut message = LinkMessage::default();
    message.header.index = index_of(interface)?;
    socket.request(RouteNetlinkMessage::DelLink(message), Mode::Plain, || {
        format!("remove interface {interface}")
    })
}

/// An interface at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Look {
    name: String,
    mtu: u32,
    /// Bytes and packets that it has received.
    pub(crate) received: (u64, u64),
    /// Packets that came and found no room.
    pub(crate) dropped: u64,
}

impl Look {
    /// Checks that the end of a link is what it was made as: with another name nobody who was told
    /// the old one finds it, with another MTU it sends other packets than the plan says.
    pub(crate) fn expect(&self, plan: &LinkPlan, end: &LinkEnd) -> Result<(), LinkError> {
        let found = Found {
            name: self.name.clone(),
            mtu: self.mtu,
            // One that is down is the business of whoever receives there.
            is_up: true,
        };
        match Wrong::all(Some(&found), plan, end).first() {
            Some(wrong) => Err(wrong.error(plan, end)),
            None => Ok(()),
        }
    }
}

/// What an interface of this thread's namespace has received: bytes and packets.
pub(crate) fn received(socket: &mut RouteSocket, index: u32) -> Result<(u64, u64), LinkError> {
    Ok(look(socket, index)?.received)
}

/// An interface of this thread's namespace as it is now.
pub(crate) fn look(socket: &mut RouteSocket, index: u32) -> Result<Look, LinkError> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    let action = || format!("read the counters of interface {index}");
    let answers = socket.query(RouteNetlinkMessage::GetLink(message), false, action)?;
    let found = answers.into_iter().find_map(|answer| match answer {
        RouteNetlinkMessage::NewLink(link) => Some((statistics(&link)?, link)),
        _ => None,
    });
    let Some((counters, link)) = found else {
        let source = std::io::ErrorKind::NotFound.into();
        return Err(LinkError::Netlink {
            action: action(),
            source,
        });
    };
    Ok(Look {
        name: link_name(&link),
        mtu: mtu_of(&link),
        received: (counters.rx_bytes, counters.rx_packets),
        dropped: counters.rx_dropped,
    })
}

fn statistics(link: &LinkMessage) -> Option<Stats64> {
    link.attributes
        .iter()
        .find_map(|attribute| match attribute {
            LinkAttribute::Stats64(statistics) => Some(*statistics),
            _ => None,
        })
}

/// The index of an interface of this thread's namespace.
pub(crate) fn index_of(interface: &str) -> Result<u32, LinkError> {
    if_nametoindex(interface).map_err(|source| LinkError::Netlink {
        action: format!("find interface {interface}"),
        source: source.into(),
    })
}

/// A netlink socket in this thread's namespace.
pub(crate) fn open_socket() -> Result<RouteSocket, LinkError> {
    RouteSocket::open().map_err(|source| LinkError::Socket {
        action: "open a netlink socket".to_owned(),
        source,
    })
}

fn check_name(interface: &str) -> Result<(), LinkError> {
    if interface.is_empty() || interface.len() > 15 {
        return Err(LinkError::InterfaceName {
            interface: interface.to_owned(),
        });
    }
    Ok(())
}

/// Runs `work` in a namespace.
pub(crate) fn inside<T: Send>(
    plan: &LinkPlan,
    namespace: &NetworkNamespace,
    work: impl FnOnce() -> Result<T, LinkError> + Send,
) -> Result<T, LinkError> {
    match namespace.run(work) {
        Ok(result) => result,
        Err(source) => Err(LinkError::Namespace {
            link: plan.name.clone(),
            source,
        }),
    }
}

/// Without link-local addresses an interface neither solicits routers nor reports groups.
fn without_link_local_address() -> LinkAttribute {
    LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(
        In6AddrGenMode::None,
    )])])
}

fn named(name: &str, mac: Option<[u8; 6]>, mtu: u32) -> LinkMessage {
    let builder = LinkUnspec::new_with_name(name).mtu(mtu);
    match mac {
        Some(mac) => builder.address(mac.to_vec()).build(),
        None => builder.build(),
    }
}

/// Makes a veth pair: one side here, the other in the namespace of the node.
fn make_pair(
    here: &str,
    mac: Option<[u8; 6]>,
    end: &LinkEnd,
    node: &NetworkNamespace,
    mtu: u32,
) -> Result<(), LinkError> {
    let mut peer = named(&end.interface, Some(end.mac), mtu);
    peer.attributes
        .push(LinkAttribute::NetNsFd(node.as_fd().as_raw_fd()));
    let mut pair = named(here, mac, mtu);
    pair.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    open_socket()?.request(RouteNetlinkMessage::NewLink(pair), Mode::Create, || {
        format!(
            "make the veth pair of {here} and {} for node {}",
            end.interface, end.node
        )
    })
}

/// Brings an interface up, `quiet` without an address of its own. Returns its number.
pub(crate) fn set_up(
    socket: &mut RouteSocket,
    interface: &str,
    quiet: bool,
) -> Result<u32, LinkError> {
    let index = index_of(interface)?;
    if quiet {
        let mut message = LinkUnspec::new_with_index(index).build();
        message.attributes.push(without_link_local_address());
        socket.request(RouteNetlinkMessage::SetLink(message), Mode::Plain, || {
            format!("keep interface {interface} from making itself a link-local address")
        })?;
    }
    // Without address resolution there are no solicited-node groups to report either; the
    // neighbours are entered by hand.
    let message = LinkUnspec::new_with_index(index).up();
    let message = if quiet {
        message.arp(false).build()
    } else {
        message.build()
    };
    socket.request(RouteNetlinkMessage::SetLink(message), Mode::Plain, || {
        format!("bring interface {interface} up")
    })?;
    Ok(index)
}

fn turn_offloads_off(interface: &str, keep: Offloads) -> Result<(), LinkError> {
    let off: &[Offload] = match keep {
        Offloads::None => &Offload::ALL,
        Offloads::Checksum => &Offload::CUTTING,
        Offloads::All => &[],
    };
    for &offload in off {
        ethtool::turn_off(interface, offload).map_err(|source| LinkError::Feature {
            interface: interface.to_owned(),
            feature: offload.name(),
            source,
        })?;
    }
    Ok(())
}

fn prepare_port(port: &str, offloads: Offloads) -> Result<(), LinkError> {
    // A refusal (a read-only /proc/sys) leaves a port that listens but has nothing to say.
    let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{port}/disable_ipv6"), "1");
    turn_offloads_off(port, offloads)?;
    set_up(&mut open_socket()?, port, true).map(|_| ())
}

fn configure_ends(
    plan: &LinkPlan,
    ends: [&NetworkNamespace; 2],
    offloads: Offloads,
) -> Result<(), LinkError> {
    for (number, namespace) in ends.into_iter().enumerate() {
        let (own, other) = (&plan.ends[number], &plan.ends[1 - number]);
        inside(plan, namespace, || configure_end(own, other, offloads))?;
    }
    Ok(())
}

fn configure_end(own: &LinkEnd, other: &LinkEnd, offloads: Offloads) -> Result<(), LinkError> {
    turn_offloads_off(&own.interface, offloads)?;
    address_end(own, other)
}

fn address_end(own: &LinkEnd, other: &LinkEnd) -> Result<(), LinkError> {
    let interface = &own.interface;
    // Without link-local addresses nothing is solicited anyway; a refusal changes nothing.
    let _ = fs::write(
        format!("/proc/sys/net/ipv6/conf/{interface}/accept_ra"),
        "0",
    );
    let mut socket = open_socket()?;
    set_up(&mut socket, "lo", false)?;
    let index = set_up(&mut socket, interface, true)?;
    for (address, prefix) in [(own.ipv4, IPV4_PREFIX), (own.ipv6, IPV6_PREFIX)] {
        let message = address_message(index, address, prefix);
        socket.request(
            RouteNetlinkMessage::NewAddress(message),
            Mode::Create,
            || format!("give interface {interface} the address {address}/{prefix}"),
        )?;
    }
    for address in [other.ipv4, other.ipv6] {
        let message = neighbour_message(index, address, other.mac);
        socket.request(
            RouteNetlinkMessage::NewNeighbour(message),
            Mode::Replace,
            || format!("enter {address} as a neighbour on interface {interface}"),
        )?;
    }
    Ok(())
}

const fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn address_message(index: u32, address: IpAddr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.prefix_len = prefix;
    message.header.index = index;
    if address.is_ipv6() {
        message.header.flags = AddressHeaderFlags::Nodad;
    }
    message.attributes.push(AddressAttribute::Local(address));
    message.attributes.push(AddressAttribute::Address(address));
    message
}

fn neighbour_message(index: u32, address: IpAddr, mac: [u8; 6]) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message
        .attributes
        .push(NeighbourAttribute::Destination(match address {
            IpAddr::V4(address) => NeighbourAddress::Inet(address),
            IpAddr::V6(address) => NeighbourAddress::Inet6(address),
        }));
    message
        .attributes
        .push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
    message
}
