//! The network around the link: which block of addresses is free, and the routes by which the
//! stages reach each other.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use netlink_packet_route::AddressFamily;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};

use super::address::{Block, RANGE};
use crate::link::LinkError;
use crate::link::interfaces::{index_of, open_socket};
use crate::link::netlink::Mode;

/// A block that no other link of this network has. Its mark lasts as long as this process: an
/// abstract socket, of which the kernel lets one exist per network and name.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) block: Block,
    /// The number of the block among its neighbours.
    pub(crate) number: u8,
    /// Whether those behind are reached from beyond this network too.
    pub(crate) composes: bool,
    _mark: UnixListener,
}

/// Claims a free block in the network of the calling thread.
///
/// # Errors
/// The network cannot be asked, or every block is taken.
pub(crate) fn claim() -> Result<Claim, LinkError> {
    let used = used_networks()?;
    let handed_down = used.iter().find_map(|used| used.handed_down);
    // Behind the last stage there is no room of its own left: such a link works, but only the
    // network that it was started from can be reached through it.
    let above = handed_down.filter(|block| block.has_room());
    let taken = |block: Block| {
        used.iter()
            .filter(|used| used.handed_down.is_none())
            .any(|used| block.overlaps(used.address, used.prefix))
    };
    let choose = |above: Block| {
        above
            .within()
            .filter(|(_, block)| !taken(*block) && Some(*block) != handed_down)
            .find_map(|(number, block)| {
                let mark = mark(block).ok()?;
                Some(Claim {
                    block,
                    number,
                    composes: true,
                    _mark: mark,
                })
            })
    };
    let found = match above {
        Some(above) => choose(above),
        None => choose(RANGE).map(|claim| Claim {
            composes: handed_down.is_none(),
            ..claim
        }),
    };
    found.ok_or_else(|| LinkError::Socket {
        action: format!(
            "find a free block of addresses in {}: end another link first",
            above.unwrap_or(RANGE)
        ),
        source: io::ErrorKind::AddrInUse.into(),
    })
}

fn mark(block: Block) -> io::Result<UnixListener> {
    let name = format!("hexloop-link-{block}");
    UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)
}

/// A network that something here has or has a route to.
#[derive(Debug, Clone, Copy)]
struct UsedNetwork {
    address: Ipv4Addr,
    prefix: u8,
    /// The block that the link around this network has handed down for further links.
    handed_down: Option<Block>,
}

fn used_networks() -> Result<Vec<UsedNetwork>, LinkError> {
    let mut socket = open_socket()?;
    let mut addresses = AddressMessage::default();
    addresses.header.family = AddressFamily::Inet;
    let mut routes = RouteMessage::default();
    routes.header.address_family = AddressFamily::Inet;
    let mut found = Vec::new();
    for (message, what) in [
        (RouteNetlinkMessage::GetAddress(addresses), "addresses"),
        (RouteNetlinkMessage::GetRoute(routes), "routes"),
    ] {
        let action = || format!("list the {what} of this network");
        for answer in socket.query(message, true, action)? {
            found.extend(match &answer {
                RouteNetlinkMessage::NewAddress(address) => network_of_address(address),
                RouteNetlinkMessage::NewRoute(route) => network_of_route(route),
                _ => None,
            });
        }
    }
    Ok(found)
}

fn network_of_address(message: &AddressMessage) -> Option<UsedNetwork> {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Address(IpAddr::V4(address)) => Some(UsedNetwork {
                address: *address,
                prefix: message.header.prefix_len,
                handed_down: None,
            }),
            _ => None,
        })
}

fn network_of_route(message: &RouteMessage) -> Option<UsedNetwork> {
    let prefix = message.header.destination_prefix_length;
    let address = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(*address),
            _ => None,
        })?;
    let handed_down = (message.header.kind == RouteType::Unreachable)
        .then(|| Block::of(address, prefix))
        .flatten();
    Some(UsedNetwork {
        address,
        prefix,
        handed_down,
    })
}

/// Where a route leads.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way<'a> {
    /// Through a neighbour on an interface.
    Through(IpAddr, &'a str),
    /// Nowhere, which is said to who tries.
    Nowhere,
    /// To this machine itself.
    Here,
}

/// Enters a route in the network of the calling thread.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn add_route(network: IpAddr, prefix: u8, way: Way<'_>) -> Result<(), LinkError> {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = match network {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    header.destination_prefix_length = prefix;
    header.table = RouteHeader::RT_TABLE_MAIN;
    header.protocol = RouteProtocol::Static;
    header.kind = RouteType::Unicast;
    let attributes = &mut message.attributes;
    if prefix > 0 {
        attributes.push(RouteAttribute::Destination(network.into()));
    }
    match way {
        Way::Through(neighbour, interface) => {
            attributes.push(RouteAttribute::Gateway(neighbour.into()));
            attributes.push(RouteAttribute::Oif(index_of(interface)?));
        }
        Way::Nowhere => header.kind = RouteType::Unreachable,
        Way::Here => {
            header.kind = RouteType::Local;
            header.scope = RouteScope::Host;
            attributes.push(RouteAttribute::Oif(index_of("lo")?));
        }
    }
    open_socket()?.request(RouteNetlinkMessage::NewRoute(message), Mode::Create, || {
        format!("enter a route to {network}/{prefix}")
    })
}

/// Makes the command's network: everything is reached through the gateway, what was handed down
/// and is not in use is nowhere, and packets of links further in pass. Returns what did not work
/// and does not matter for this link alone.
///
/// # Errors
/// The kernel refuses a route.
pub(crate) fn furnish_inner(block: Block, interface: &str) -> Result<Vec<String>, LinkError> {
    let everything: [IpAddr; 2] = [
        Ipv4Addr::UNSPECIFIED.into(),
        std::net::Ipv6Addr::UNSPECIFIED.into(),
    ];
    for (everything, gateway) in everything.into_iter().zip(block.gateway()) {
        add_route(everything, 0, Way::Through(gateway, interface))?;
    }
    if block.has_room() {
        for (network, prefix) in block.network().into_iter().zip(block.prefixes()) {
            add_route(network, prefix, Way::Nowhere)?;
        }
    }
    let mut notes = Vec::new();
    for setting in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
        if let Err(error) = fs::write(format!("/proc/sys/net/{setting}"), "1") {
            notes.push(format!(
                "links inside this one reach only it: net/{setting} cannot be set ({error})"
            ));
        }
    }
    // Echo requests without privileges. A user namespace knows only groups that it maps.
    let range = "/proc/sys/net/ipv4/ping_group_range";
    if fs::write(range, "0 2147483647").is_err() && fs::write(range, "0 0").is_err() {
        notes.push("ping may be refused: net/ipv4/ping_group_range cannot be set".to_owned());
    }
    Ok(notes)
}

/// Lets the network at the far end reach links that are made behind this one.
///
/// # Errors
/// The kernel refuses a route.
pub(crate) fn furnish_far(block: Block, interface: &str) -> Result<(), LinkError> {
    if !block.has_room() {
        return Ok(());
    }
    let networks = block.network().into_iter().zip(block.prefixes());
    for ((network, prefix), inner) in networks.zip(block.inner()) {
        add_route(network, prefix, Way::Through(inner, interface))?;
    }
    Ok(())
}
