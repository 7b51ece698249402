//! The link that what an interface receives is sent through. It is found by what it was made with: its
//! name, or, where somebody has given it another one, its hardware address.

use std::fs::File;
use std::io::{self, Read};

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkMessage};

use super::InterfacePlan;
use crate::link::LinkError;
use crate::link::netlink::{Mode, RouteSocket};
use crate::undo::network;

/// What the kernel calls its kind.
pub(crate) const KIND: &str = "ifb";

/// The name of the link that what an interface receives is sent through.
#[must_use]
pub fn ifb_name(index: u32) -> String {
    format!("hxi{index}")
}

/// A hardware address for a link that is made next, which nobody else has: locally administered, and
/// random as the kernel's own. The kernel takes it with the link, so that there is none without its mark.
///
/// # Errors
/// `/dev/urandom` cannot be read.
pub(crate) fn draw_address() -> io::Result<[u8; 6]> {
    let mut address = [0; 6];
    File::open("/dev/urandom")?.read_exact(&mut address)?;
    // The lowest bit of the first byte is that of groups, the next that of local administration.
    address[0] = (address[0] & !1) | 2;
    Ok(address)
}

/// A link that a step makes: it has a number only from then on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct MadeLink {
    pub(super) name: String,
    pub(super) address: [u8; 6],
}

impl MadeLink {
    /// That of an interface.
    pub(super) fn of(plan: &InterfacePlan) -> MadeLink {
        MadeLink {
            name: ifb_name(plan.index),
            address: plan.ifb_address,
        }
    }

    /// Makes it.
    pub(super) fn make(
        &self,
        socket: &mut RouteSocket,
        what: impl FnOnce() -> String,
    ) -> Result<(), LinkError> {
        let mut message = LinkMessage::default();
        message.attributes.extend([
            LinkAttribute::IfName(self.name.clone()),
            LinkAttribute::Address(self.address.to_vec()),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Ifb)]),
        ]);
        socket.request(RouteNetlinkMessage::NewLink(message), Mode::Create, what)
    }

    /// Its number in the socket's namespace; `None` where it is not, or not any more.
    pub(super) fn find(&self, socket: &mut RouteSocket) -> Result<Option<u32>, LinkError> {
        let found = network::made_link(socket, (&self.name, KIND), self.address);
        let found = found.map_err(|source| self.not_found(source))?;
        Ok(found.map(|link| link.header.index))
    }

    /// Its number, where there has to be one.
    pub(super) fn number(&self, socket: &mut RouteSocket) -> Result<u32, LinkError> {
        let found = self.find(socket)?;
        found.ok_or_else(|| self.not_found(io::ErrorKind::NotFound.into()))
    }

    fn not_found(&self, source: io::Error) -> LinkError {
        LinkError::Netlink {
            action: format!("find interface {}", self.name),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_that_is_drawn_is_another_one_and_that_of_a_single_link() {
        let drawn = [(); 8].map(|()| draw_address().unwrap());
        for (number, address) in drawn.iter().enumerate() {
            assert_eq!(address[0] & 3, 2, "{address:?}");
            assert!(!drawn[..number].contains(address), "{drawn:?}");
        }
    }
}
