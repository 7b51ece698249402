//! Undoing what was made in a network namespace: only what carries our mark goes, and it is
//! looked at again before it counts as gone.
//!
//! Marks: qdiscs have the handle [`HANDLE`], filters a priority of [`PRIORITIES`], links a name
//! that starts with `hx` when they are made, and a hardware address that nothing else has.

use std::io;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkInfo, LinkMessage};
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use super::place::InterfaceIdentity;
use crate::link::LinkError;
use crate::link::netlink::{Mode, RouteSocket};
use crate::sys::ethtool::{self, Offload};

/// The handle of every root qdisc that we put on an interface that is not ours: "he" in ASCII.
pub const HANDLE: TcHandle = TcHandle {
    major: 0x6865,
    minor: 0,
};

/// Priorities of the filters that we put on an interface that is not ours.
pub const PRIORITIES: RangeInclusive<u16> = 0x6865..=0x68ff;

/// Where filters on arriving packets come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IngressKind {
    /// `clsact`, for both directions.
    Clsact,
    /// `ingress`, for arriving packets alone.
    Ingress,
}

impl IngressKind {
    /// Its name in the kernel.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            IngressKind::Clsact => "clsact",
            IngressKind::Ingress => "ingress",
        }
    }

    /// Where its filters hang.
    const fn parents(self) -> &'static [TcHandle] {
        const fn at(minor: u16) -> TcHandle {
            TcHandle {
                major: u16::MAX,
                minor,
            }
        }
        match self {
            IngressKind::Clsact => &const { [at(TcHandle::MIN_INGRESS), at(TcHandle::MIN_EGRESS)] },
            IngressKind::Ingress => &const { [at(0)] },
        }
    }
}

fn refused(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, what)
}

/// The kernel's own answer.
fn answer(error: LinkError) -> io::Error {
    match error {
        LinkError::Netlink { source, .. } | LinkError::Socket { source, .. } => source,
        other => io::Error::other(other),
    }
}

fn is(error: &io::Error, codes: &[Errno]) -> bool {
    error
        .raw_os_error()
        .is_some_and(|code| codes.contains(&Errno::from_raw(code)))
}

/// Whatever says that the object is not there (any more).
const NOT_THERE: &[Errno] = &[
    Errno::ENODEV,
    Errno::ENOENT,
    Errno::ENXIO,
    Errno::EADDRNOTAVAIL,
    Errno::EINVAL,
];

/// An interface by number or name; `None` when there is none.
pub(crate) fn link(socket: &mut RouteSocket, ask: LinkMessage) -> io::Result<Option<LinkMessage>> {
    let query = socket.query(RouteNetlinkMessage::GetLink(ask), false, || {
        "find an interface".to_owned()
    });
    match query.map_err(answer) {
        Ok(answers) => Ok(answers.into_iter().find_map(|message| match message {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        })),
        Err(error) if is(&error, &[Errno::ENODEV]) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The question for the interface of that number.
pub(crate) fn numbered(index: u32) -> LinkMessage {
    let mut ask = LinkMessage::default();
    ask.header.index = index;
    ask
}

/// The question for the interface of that name.
pub(crate) fn called(name: &str) -> LinkMessage {
    let mut ask = LinkMessage::default();
    ask.attributes.push(LinkAttribute::IfName(name.to_owned()));
    ask
}

/// What kind of link it is, such as `ifb`; empty for hardware.
pub(crate) fn link_kind(link: &LinkMessage) -> String {
    let infos = link.attributes.iter().find_map(|one| match one {
        LinkAttribute::LinkInfo(infos) => Some(infos),
        _ => None,
    });
    let kind = infos.into_iter().flatten().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    });
    kind.unwrap_or_default()
}

/// Its name.
pub(crate) fn link_name(link: &LinkMessage) -> String {
    let name = link.attributes.iter().find_map(|one| match one {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    });
    name.unwrap_or_default()
}

/// Its hardware address; empty where it has none.
fn link_address(link: &LinkMessage) -> &[u8] {
    let address = link.attributes.iter().find_map(|one| match one {
        LinkAttribute::Address(address) => Some(address.as_slice()),
        _ => None,
    });
    address.unwrap_or_default()
}

/// The link that was made with this name, kind and hardware address, whatever it is called by now; `None`
/// when it is gone.
pub(crate) fn made_link(
    socket: &mut RouteSocket,
    (name, kind): (&str, &str),
    address: [u8; 6],
) -> io::Result<Option<LinkMessage>> {
    let is_it = |link: &LinkMessage| link_kind(link) == kind && link_address(link) == address;
    let named = link(socket, called(name))?.filter(is_it);
    if named.is_some() {
        return Ok(named);
    }
    let ask = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let answers = socket.query(ask, true, || "list the interfaces".to_owned());
    let links = answers.map_err(answer)?.into_iter();
    let mut links = links.filter_map(|message| match message {
        RouteNetlinkMessage::NewLink(link) => Some(link),
        _ => None,
    });
    Ok(links.find(is_it))
}

/// Its MTU in bytes.
pub(crate) fn mtu_of(link: &LinkMessage) -> u32 {
    let mtu = link.attributes.iter().find_map(|one| match one {
        LinkAttribute::Mtu(mtu) => Some(*mtu),
        _ => None,
    });
    mtu.unwrap_or(1500)
}

/// The least that offloads join into one packet where the kernel does not say (`GSO_LEGACY_MAX_SIZE` of
/// linux/netdevice.h), and room for the headers of the link.
const JOINED_BYTES: u32 = 65_536;
const LINK_HEADER_BYTES: u32 = 64;

/// The longest packet that offloads join on what it sends or receives, with the header of the link.
pub(crate) fn longest_packet_of(link: &LinkMessage) -> u32 {
    let sizes = link.attributes.iter().filter_map(|one| match one {
        LinkAttribute::GsoMaxSize(bytes)
        | LinkAttribute::GroMaxSize(bytes)
        | LinkAttribute::GsoIpv4MaxSize(bytes)
        | LinkAttribute::GroIpv4MaxSize(bytes) => Some(*bytes),
        _ => None,
    });
    let longest = sizes.max().unwrap_or(0).max(JOINED_BYTES);
    longest.saturating_add(LINK_HEADER_BYTES)
}

/// What kind of qdisc it is.
pub(crate) fn tc_kind(message: &TcMessage) -> &str {
    let kind = message.attributes.iter().find_map(|one| match one {
        TcAttribute::Kind(kind) => Some(kind.as_str()),
        _ => None,
    });
    kind.unwrap_or("")
}

/// The qdiscs of an interface.
pub(crate) fn qdiscs(socket: &mut RouteSocket, index: u32) -> io::Result<Vec<TcMessage>> {
    let ask = TcMessage::with_index(signed(index)?);
    let answers = socket.query(RouteNetlinkMessage::GetQueueDiscipline(ask), true, || {
        "list qdiscs".to_owned()
    });
    let answers = answers.map_err(answer)?;
    // The kernel lists those of every interface.
    Ok(answers
        .into_iter()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewQueueDiscipline(qdisc) => Some(qdisc),
            _ => None,
        })
        .filter(|qdisc| u32::try_from(qdisc.header.index) == Ok(index))
        .collect())
}

fn signed(index: u32) -> io::Result<i32> {
    i32::try_from(index).map_err(io::Error::other)
}

fn delete_qdisc(
    socket: &mut RouteSocket,
    index: u32,
    handle: TcHandle,
    parent: TcHandle,
) -> io::Result<()> {
    let mut message = TcMessage::with_index(signed(index)?);
    message.header.handle = handle;
    message.header.parent = parent;
    let request = RouteNetlinkMessage::DelQueueDiscipline(message);
    let deleted = socket.request(request, Mode::Plain, || "delete a qdisc".to_owned());
    gone_is_fine(deleted.map_err(answer))
}

fn gone_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if is(&error, NOT_THERE) => Ok(()),
        result => result,
    }
}

/// Whether an interface has a root qdisc that is ours.
pub(crate) fn has_our_root(socket: &mut RouteSocket, index: u32) -> io::Result<bool> {
    let found = qdiscs(socket, index)?;
    Ok(found
        .iter()
        .any(|qdisc| qdisc.header.handle == HANDLE && qdisc.header.parent == TcHandle::ROOT))
}

/// Deletes our root qdisc, and what hangs below it goes with it.
pub(super) fn remove_root_qdisc(interface: &InterfaceIdentity) -> io::Result<bool> {
    let mut socket = RouteSocket::open()?;
    let index = interface.index;
    if link(&mut socket, numbered(index))?.is_none() || !has_our_root(&mut socket, index)? {
        return Ok(true);
    }
    delete_qdisc(&mut socket, index, HANDLE, TcHandle::ROOT)?;
    Ok(!has_our_root(&mut socket, index)?)
}

fn has_ingress(socket: &mut RouteSocket, index: u32, kind: IngressKind) -> io::Result<bool> {
    let found = qdiscs(socket, index)?;
    Ok(found
        .iter()
        .any(|qdisc| qdisc.header.parent == TcHandle::INGRESS && tc_kind(qdisc) == kind.name()))
}

/// The filters that hang at one place of an interface.
fn filters(socket: &mut RouteSocket, index: u32, parent: TcHandle) -> io::Result<Vec<TcMessage>> {
    let mut ask = TcMessage::with_index(signed(index)?);
    ask.header.parent = parent;
    let answers = socket.query(RouteNetlinkMessage::GetTrafficFilter(ask), true, || {
        "list filters".to_owned()
    });
    let answers = match answers.map_err(answer) {
        Err(error) if is(&error, NOT_THERE) => return Ok(Vec::new()),
        answers => answers?,
    };
    Ok(answers
        .into_iter()
        .filter_map(|message| match message {
            RouteNetlinkMessage::NewTrafficFilter(filter) => Some(filter),
            _ => None,
        })
        .collect())
}

/// The upper half of a filter's info is its priority (`TC_H_MAKE` of linux/pkt_sched.h).
pub(crate) fn priority(filter: &TcMessage) -> u16 {
    u16::try_from(filter.header.info >> 16).unwrap_or(u16::MAX)
}

/// Deletes the qdisc of arriving packets that we made, with our filters; somebody else's filters
/// in it forbid that.
pub(super) fn remove_ingress(interface: &InterfaceIdentity, kind: IngressKind) -> io::Result<bool> {
    let mut socket = RouteSocket::open()?;
    let index = interface.index;
    if link(&mut socket, numbered(index))?.is_none() || !has_ingress(&mut socket, index, kind)? {
        return Ok(true);
    }
    for parent in kind.parents() {
        for filter in filters(&mut socket, index, *parent)? {
            let number = priority(&filter);
            if !PRIORITIES.contains(&number) {
                return Err(refused(format!(
                    "somebody else's filter of priority {number} hangs on it"
                )));
            }
        }
    }
    let handle = TcHandle {
        major: u16::MAX,
        minor: 0,
    };
    delete_qdisc(&mut socket, index, handle, TcHandle::INGRESS)?;
    Ok(!has_ingress(&mut socket, index, kind)?)
}

/// Deletes the filters of one of our priorities at one place.
pub(super) fn remove_filters(
    interface: &InterfaceIdentity,
    parent: u32,
    number: u16,
) -> io::Result<bool> {
    if !PRIORITIES.contains(&number) {
        return Err(refused(format!("priority {number} is none of ours")));
    }
    let mut socket = RouteSocket::open()?;
    let index = interface.index;
    if link(&mut socket, numbered(index))?.is_none() {
        return Ok(true);
    }
    let parent = TcHandle::from(parent);
    let ours = |socket: &mut RouteSocket| -> io::Result<Vec<TcMessage>> {
        let mut found = filters(socket, index, parent)?;
        found.retain(|filter| priority(filter) == number);
        Ok(found)
    };
    for filter in ours(&mut socket)? {
        let mut message = TcMessage::with_index(signed(index)?);
        message.header.parent = parent;
        // Priority and protocol without a handle: the whole list.
        message.header.info = filter.header.info;
        let request = RouteNetlinkMessage::DelTrafficFilter(message);
        let deleted = socket.request(request, Mode::Plain, || "delete filters".to_owned());
        gone_is_fine(deleted.map_err(answer))?;
    }
    Ok(ours(&mut socket)?.is_empty())
}

/// Deletes a link that we made with this name, kind and hardware address. One that has its name and not
/// the rest is left, and told: it is somebody else's, or no longer known as ours.
pub(super) fn remove_link(
    (name, kind): (&str, &str),
    address: Option<[u8; 6]>,
) -> io::Result<bool> {
    let mut socket = RouteSocket::open()?;
    let ours = match address {
        Some(address) => made_link(&mut socket, (name, kind), address)?,
        None => None,
    };
    let found = match ours {
        Some(ours) => ours,
        None => match link(&mut socket, called(name))? {
            Some(named) => {
                check_named(&named, (name, kind), address)?;
                named
            }
            None => return Ok(true),
        },
    };
    let index = found.header.index;
    let request = RouteNetlinkMessage::DelLink(numbered(index));
    let deleted = socket.request(request, Mode::Plain, || "delete a link".to_owned());
    gone_is_fine(deleted.map_err(answer))?;
    Ok(link(&mut socket, numbered(index))?.is_none())
}

/// Whether a link that has nothing but the name of ours may be taken for it.
fn check_named(
    named: &LinkMessage,
    (name, kind): (&str, &str),
    address: Option<[u8; 6]>,
) -> io::Result<()> {
    let is_kind = link_kind(named);
    if is_kind != kind {
        return Err(refused(format!(
            "link {name} is of kind `{is_kind}`, ours was of kind `{kind}`"
        )));
    }
    if address.is_some() {
        return Err(refused(format!(
            "link {name} has another address than ours was made with; if nobody needs it, `ip link del \
             {name}` takes it away"
        )));
    }
    Ok(())
}

/// The message that names an address of an interface.
pub(crate) fn address_message(index: u32, address: IpAddr, prefix: u8) -> AddressMessage {
    use netlink_packet_route::address::AddressAttribute;
    let mut message = AddressMessage::default();
    message.header.family = match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.prefix_len = prefix;
    message.header.index = index;
    message.attributes.push(AddressAttribute::Local(address));
    message.attributes.push(AddressAttribute::Address(address));
    message
}

/// Takes an address off an interface.
pub(super) fn remove_address(
    interface: &InterfaceIdentity,
    address: IpAddr,
    prefix: u8,
) -> io::Result<bool> {
    let mut socket = RouteSocket::open()?;
    let message = address_message(interface.index, address, prefix);
    let request = RouteNetlinkMessage::DelAddress(message);
    let deleted = socket.request(request, Mode::Plain, || "delete an address".to_owned());
    gone_is_fine(deleted.map_err(answer))?;
    Ok(!has_address(&mut socket, interface.index, address, prefix)?)
}

/// Whether an interface has an address with a prefix of that length.
fn has_address(
    socket: &mut RouteSocket,
    index: u32,
    address: IpAddr,
    prefix: u8,
) -> io::Result<bool> {
    use netlink_packet_route::address::AddressAttribute;
    let mut ask = AddressMessage::default();
    ask.header.family = address_message(index, address, prefix).header.family;
    let answers = socket.query(RouteNetlinkMessage::GetAddress(ask), true, || {
        "list addresses".to_owned()
    });
    let answers = answers.map_err(answer)?;
    // The kernel lists those of every interface. On Ethernet the address itself is the local one.
    let is_it = |message: &AddressMessage| {
        let is_named = message.attributes.iter().any(|one| match one {
            AddressAttribute::Local(found) | AddressAttribute::Address(found) => *found == address,
            _ => false,
        });
        message.header.index == index && message.header.prefix_len == prefix && is_named
    };
    Ok(answers.iter().any(|message| match message {
        RouteNetlinkMessage::NewAddress(message) => is_it(message),
        _ => false,
    }))
}

/// Sets an offload back, unless somebody else has set it since.
pub(super) fn restore_offload(
    interface: &InterfaceIdentity,
    feature: &str,
    on: bool,
) -> io::Result<bool> {
    let offload = Offload::named(feature)
        .ok_or_else(|| refused(format!("offload `{feature}` is none that we change")))?;
    let mut socket = RouteSocket::open()?;
    let Some(found) = link(&mut socket, numbered(interface.index))? else {
        return Ok(true);
    };
    // It may have been renamed.
    let name = link_name(&found);
    if ethtool::is_on(&name, offload)? != on {
        ethtool::set(&name, offload, on)?;
    }
    Ok(ethtool::is_on(&name, offload)? == on)
}
