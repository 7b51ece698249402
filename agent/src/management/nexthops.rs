//! Nexthop objects (`ip nexthop`): a route may name one by its number alone, and says nothing then of
//! the interfaces that it leads over.

use std::collections::{BTreeMap, BTreeSet};

use crate::link::LinkError;
use crate::link::netlink::RouteSocket;

/// Messages of linux/rtnetlink.h.
const NEW_NEXTHOP: u16 = 104;
const GET_NEXTHOP: u16 = 106;

/// The length of `struct nhmsg` of linux/nexthop.h, which comes before the attributes.
const HEADER_BYTES: usize = 8;

/// Attributes of linux/nexthop.h.
const NHA_ID: u16 = 1;
const NHA_GROUP: u16 = 2;
const NHA_OIF: u16 = 5;

/// The upper bits of an attribute's type are flags (`NLA_TYPE_MASK` of linux/netlink.h).
const TYPE_MASK: u16 = 0x3fff;

/// The length of `struct nexthop_grp`, which begins with the number of a member.
const MEMBER_BYTES: usize = 8;

/// The nexthop objects of a network namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Nexthops(BTreeMap<u32, Nexthop>);

/// One of them: over an interface, or a group of others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Nexthop {
    interface: Option<u32>,
    members: Vec<u32>,
}

impl Nexthops {
    /// Asks the kernel for all of them.
    ///
    /// # Errors
    /// It does not tell.
    pub(super) fn read(socket: &mut RouteSocket) -> Result<Nexthops, LinkError> {
        let mut found = Nexthops::default();
        let take = |kind, payload: &[u8]| {
            if kind == NEW_NEXTHOP {
                found.note(payload);
            }
        };
        socket.list(GET_NEXTHOP, &[0; HEADER_BYTES], take, || {
            "list the nexthop objects that routes name".to_owned()
        })?;
        Ok(found)
    }

    fn note(&mut self, payload: &[u8]) {
        let mut number = None;
        let mut nexthop = Nexthop::default();
        for (kind, value) in attributes(payload.get(HEADER_BYTES..).unwrap_or_default()) {
            match kind {
                NHA_ID => number = word(value),
                NHA_OIF => nexthop.interface = word(value),
                NHA_GROUP => {
                    nexthop.members = value.chunks(MEMBER_BYTES).filter_map(word).collect();
                }
                _ => {}
            }
        }
        if let Some(number) = number {
            self.0.insert(number, nexthop);
        }
    }

    /// The interfaces that one leads over, through its members if it is a group.
    pub(super) fn interfaces(&self, number: u32) -> BTreeSet<u32> {
        let nexthop = |number| self.0.get(&number);
        // The kernel puts no group into another.
        let members = nexthop(number).into_iter().flat_map(|one| &one.members);
        let all = std::iter::once(number).chain(members.copied());
        all.filter_map(|number| nexthop(number)?.interface)
            .collect()
    }
}

/// The attributes of a message, each with its type.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let half = |at: usize| {
            let half = bytes.get(at..at + 2)?.try_into().ok()?;
            Some(u16::from_ne_bytes(half))
        };
        let (length, kind) = (usize::from(half(0)?), half(2)? & TYPE_MASK);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn word(bytes: &[u8]) -> Option<u32> {
    let word = bytes.get(..4)?.try_into().ok()?;
    Some(u32::from_ne_bytes(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![2, 0, 3, 0, 0, 0, 0, 0];
        bytes.extend(attributes.iter().flatten());
        bytes
    }

    #[test]
    fn a_nexthop_leads_over_its_interface_and_a_group_over_those_of_its_members() {
        let mut nexthops = Nexthops::default();
        let single = |number: u32, interface: u32| {
            message(&[
                attribute(NHA_ID, &number.to_ne_bytes()),
                // A flag of the kernel's in the type, and a value that is no multiple of four long.
                attribute(0x8000 | 9, &[1]),
                attribute(NHA_OIF, &interface.to_ne_bytes()),
            ])
        };
        nexthops.note(&single(1, 7));
        nexthops.note(&single(2, 9));
        let member = |number: u32| [number.to_ne_bytes(), [3, 0, 0, 0]].concat();
        let members = [member(1), member(2)].concat();
        let number = attribute(NHA_ID, &5_u32.to_ne_bytes());
        nexthops.note(&message(&[number, attribute(NHA_GROUP, &members)]));
        // A black hole has no interface.
        nexthops.note(&message(&[attribute(NHA_ID, &6_u32.to_ne_bytes())]));
        let over = |number| nexthops.interfaces(number).into_iter().collect::<Vec<_>>();
        assert_eq!([over(1), over(2)], [[7], [9]]);
        assert_eq!(over(5), [7, 9]);
        assert!(over(6).is_empty() && over(8).is_empty());
    }

    #[test]
    fn a_message_that_is_cut_anywhere_is_read_without_harm() {
        let whole = message(&[
            attribute(NHA_ID, &1_u32.to_ne_bytes()),
            attribute(NHA_OIF, &7_u32.to_ne_bytes()),
        ]);
        for length in 0..whole.len() {
            let mut nexthops = Nexthops::default();
            nexthops.note(&whole[..length]);
            assert!(nexthops.interfaces(1).is_empty(), "{length}");
        }
    }
}
