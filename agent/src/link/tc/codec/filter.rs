//! Filters that pick the packets of a peer: flower, else u32, and the action that sends what
//! came in to an ifb (linux/pkt_cls.h, linux/tc_act/tc_mirred.h).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::table::Bucket;
use super::{HEADER_BYTES, KIND, OPTIONS, Place};
use crate::link::tc::handle::Handle;
use crate::link::tc::wire::{self, Attributes, Writer, big_u16_at, i32_at, u32_at, words};

const FLOWER_CLASS: u16 = 1;
const FLOWER_ACT: u16 = 3;
const FLOWER_ETH_TYPE: u16 = 8;
const FLOWER_IP_PROTO: u16 = 9;
const FLOWER_IPV4_SRC: u16 = 10; // its mask, then destination and mask
const FLOWER_IPV6_SRC: u16 = 14;
const FLOWER_TCP_SRC: u16 = 18;
const FLOWER_UDP_SRC: u16 = 20;

const U32_CLASS: u16 = 1;
const U32_HASH: u16 = 2;
const U32_SELECTOR: u16 = 5;
const U32_ACT: u16 = 7;

const ACT_KIND: u16 = 1;
const ACT_OPTIONS: u16 = 2;
const MIRRED_PARMS: u16 = 2;

/// Protocols above IP that have ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// Protocol 6.
    Tcp,
    /// Protocol 17.
    Udp,
}

impl Transport {
    const fn number(self) -> u8 {
        match self {
            Transport::Tcp => 6,
            Transport::Udp => 17,
        }
    }

    const fn from_number(number: u8) -> Option<Transport> {
        match number {
            6 => Some(Transport::Tcp),
            17 => Some(Transport::Udp),
            _ => None,
        }
    }
}

/// Which end of a packet is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Source,
    Destination,
}

/// The packets of one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Match {
    pub(crate) side: Side,
    pub(crate) address: IpAddr,
    pub(crate) prefix_bits: u8,
    pub(crate) transport: Option<Transport>,
    /// Only with a transport.
    pub(crate) port: Option<u16>,
}

/// Where a packet goes that matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Class(Handle),
    /// Out of the interface with this index, and no further here.
    Redirect(u32),
}

/// How the kernel looks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Classifier {
    Flower,
    U32,
}

impl Classifier {
    pub(crate) const fn kind(self) -> &'static str {
        match self {
            Classifier::Flower => "flower",
            Classifier::U32 => "u32",
        }
    }
}

/// A filter at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) place: Place,
    pub(crate) classifier: Classifier,
    /// `None` takes every packet of the protocol in the place.
    pub(crate) packets: Option<Match>,
    pub(crate) target: Target,
    /// Of u32: in which bucket of which table of its own it is (see [`super::table`]).
    pub(crate) bucket: Option<Bucket>,
}

/// The Ethernet types of IP and of everything (linux/if_ether.h).
pub(crate) const ETH_P_IP: u16 = 0x0800;
pub(crate) const ETH_P_IPV6: u16 = 0x86dd;
pub(crate) const ETH_P_ALL: u16 = 0x0003;

/// Priority and protocol as `tcm_info` has them.
pub(crate) const fn info(priority: u16, ethernet_type: u16) -> u32 {
    (priority as u32) << 16 | ethernet_type.to_be() as u32
}

/// The Ethernet type of an address.
pub(crate) const fn ethernet_type(address: IpAddr) -> u16 {
    match address {
        IpAddr::V4(_) => ETH_P_IP,
        IpAddr::V6(_) => ETH_P_IPV6,
    }
}

/// The bytes of an address and of the mask of its prefix.
fn address_and_mask(address: IpAddr, prefix_bits: u8) -> (Vec<u8>, Vec<u8>) {
    let bytes = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let mask_byte = |place: usize| {
        let bits = usize::from(prefix_bits).saturating_sub(place * 8).min(8);
        u8::try_from(0xff00_u16 >> bits & 0xff).unwrap_or(0xff)
    };
    let mask: Vec<u8> = (0..bytes.len()).map(mask_byte).collect();
    let masked = bytes.iter().zip(&mask).map(|(byte, mask)| byte & mask);
    (masked.collect(), mask)
}

fn address_from(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(four));
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

fn prefix_bits(mask: &[u8]) -> Option<u8> {
    u8::try_from(mask.iter().map(|byte| byte.count_ones()).sum::<u32>()).ok()
}

/// One action that sends the packet out of another interface and keeps it from going on here.
fn write_redirect(writer: &mut Writer, index: u32) {
    writer.nested(1, |action| {
        action.text(ACT_KIND, "mirred");
        action.nested(ACT_OPTIONS, |options| {
            // struct tc_mirred: index, capab, action (4: stolen), refcnt, bindcnt, eaction
            // (1: redirect to egress), ifindex.
            options.attribute(MIRRED_PARMS, &words(&[0, 0, 4, 0, 0, 1, index]));
        });
    });
}

fn read_redirect(actions: &[u8]) -> Option<u32> {
    let action = Attributes::find(actions, 1)?;
    if wire::text(Attributes::find(action, ACT_KIND)?) != "mirred" {
        return None;
    }
    let parameters = Attributes::find(Attributes::find(action, ACT_OPTIONS)?, MIRRED_PARMS)?;
    (u32_at(parameters, 20)? == 1).then_some(u32_at(parameters, 24)?)
}

impl Filter {
    /// `struct tcmsg` and its attributes.
    pub(crate) fn message(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        self.place.write(&mut writer);
        writer.text(KIND, self.classifier.kind());
        writer.nested(OPTIONS, |options| match self.classifier {
            Classifier::Flower => self.write_flower(options),
            Classifier::U32 => self.write_u32(options),
        });
        writer.into_bytes()
    }

    fn write_target(&self, options: &mut Writer, class: u16, action: u16) {
        match self.target {
            Target::Class(handle) => options.u32(class, handle.raw()),
            Target::Redirect(index) => {
                options.nested(action, |actions| write_redirect(actions, index))
            }
        };
    }

    fn write_flower(&self, options: &mut Writer) {
        if let Some(packets) = &self.packets {
            options.big_u16(FLOWER_ETH_TYPE, ethernet_type(packets.address));
            if let Some(transport) = packets.transport {
                options.u8(FLOWER_IP_PROTO, transport.number());
            }
            let first = match packets.address {
                IpAddr::V4(_) => FLOWER_IPV4_SRC,
                IpAddr::V6(_) => FLOWER_IPV6_SRC,
            };
            let destination = u16::from(packets.side == Side::Destination);
            let (address, mask) = address_and_mask(packets.address, packets.prefix_bits);
            options.attribute(first + 2 * destination, &address);
            options.attribute(first + 2 * destination + 1, &mask);
            if let (Some(transport), Some(port)) = (packets.transport, packets.port) {
                let first = match transport {
                    Transport::Tcp => FLOWER_TCP_SRC,
                    Transport::Udp => FLOWER_UDP_SRC,
                };
                options.big_u16(first + destination, port);
            }
        }
        self.write_target(options, FLOWER_CLASS, FLOWER_ACT);
    }

    fn write_u32(&self, options: &mut Writer) {
        if let Some(bucket) = self.bucket {
            options.u32(U32_HASH, bucket.raw());
        }
        self.write_target(options, U32_CLASS, U32_ACT);
        let keys = self.packets.as_ref().map_or_else(
            || {
                vec![Key {
                    mask: [0; 4],
                    value: [0; 4],
                    offset: 0,
                }]
            },
            keys,
        );
        // struct tc_u32_sel: flags (1: terminal), offshift, nkeys, padding, offmask, off,
        // offoff, hoff, hmask; then struct tc_u32_key: mask, val, off, offmask.
        let count = u8::try_from(keys.len()).unwrap_or(u8::MAX);
        let mut selector = vec![1, 0, count, 0];
        selector.extend([0; 12]);
        for key in keys {
            selector.extend(key.mask);
            selector.extend(key.value);
            selector.extend(key.offset.to_ne_bytes());
            selector.extend([0; 4]);
        }
        options.attribute(U32_SELECTOR, &selector);
    }

    /// From a message of type RTM_NEWTFILTER; `None` if it is not one that we make.
    pub(crate) fn read(message: &[u8]) -> Option<Filter> {
        let place = Place::read(message)?;
        let attributes = message.get(HEADER_BYTES..)?;
        let kind = wire::text(Attributes::find(attributes, KIND)?);
        let options = Attributes::find(attributes, OPTIONS)?;
        let (classifier, packets, class, action) = match kind.as_str() {
            "flower" => {
                let packets = read_flower(options)?;
                (Classifier::Flower, packets, FLOWER_CLASS, FLOWER_ACT)
            }
            "u32" => {
                let packets = read_u32(Attributes::find(options, U32_SELECTOR)?)?;
                (Classifier::U32, packets, U32_CLASS, U32_ACT)
            }
            _ => return None,
        };
        let target = match Attributes::find(options, action).and_then(read_redirect) {
            Some(index) => Target::Redirect(index),
            None => Target::Class(Handle::from_raw(u32_at(
                Attributes::find(options, class)?,
                0,
            )?)),
        };
        let bucket = match classifier {
            Classifier::U32 => Attributes::find(options, U32_HASH),
            Classifier::Flower => None,
        };
        let bucket = bucket.and_then(|payload| u32_at(payload, 0));
        Some(Filter {
            place,
            classifier,
            packets,
            target,
            bucket: bucket.and_then(Bucket::from_raw),
        })
    }
}

fn read_flower(options: &[u8]) -> Option<Option<Match>> {
    let find = |kind| Attributes::find(options, kind);
    let transport = find(FLOWER_IP_PROTO).and_then(|payload| payload.first().copied());
    let transport = transport.and_then(Transport::from_number);
    for first in [FLOWER_IPV4_SRC, FLOWER_IPV6_SRC] {
        for (offset, side) in [(0, Side::Source), (1, Side::Destination)] {
            let Some(address) = find(first + 2 * offset) else {
                continue;
            };
            let port = |transport| match transport {
                Transport::Tcp => find(FLOWER_TCP_SRC + offset),
                Transport::Udp => find(FLOWER_UDP_SRC + offset),
            };
            return Some(Some(Match {
                side,
                address: address_from(address)?,
                prefix_bits: prefix_bits(find(first + 2 * offset + 1)?)?,
                transport,
                port: transport
                    .and_then(port)
                    .and_then(|payload| big_u16_at(payload, 0)),
            }));
        }
    }
    Some(None)
}

/// One comparison of u32: four bytes at an offset behind the start of the IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    mask: [u8; 4],
    value: [u8; 4],
    offset: i32,
}

/// Where things are in a header without options or extensions.
pub(super) struct Layout {
    pub(super) addresses: [i32; 2],
    protocol: (i32, usize),
    ports: i32,
}

pub(super) const fn layout(ipv6: bool) -> Layout {
    if ipv6 {
        Layout {
            addresses: [8, 24],
            protocol: (4, 2),
            ports: 40,
        }
    } else {
        Layout {
            addresses: [12, 16],
            protocol: (8, 1),
            ports: 20,
        }
    }
}

fn keys(packets: &Match) -> Vec<Key> {
    let layout = layout(packets.address.is_ipv6());
    let side = usize::from(packets.side == Side::Destination);
    let (address, mask) = address_and_mask(packets.address, packets.prefix_bits);
    let mut keys = Vec::new();
    let mut offset = layout.addresses[side];
    for (value, mask) in address.chunks_exact(4).zip(mask.chunks_exact(4)) {
        if let (Ok(value), Ok(mask)) = (value.try_into(), mask.try_into())
            && (mask != [0; 4] || packets.prefix_bits == 0)
        {
            keys.push(Key {
                mask,
                value,
                offset,
            });
        }
        offset += 4;
    }
    if let Some(transport) = packets.transport {
        let (offset, place) = layout.protocol;
        let (mut mask, mut value) = ([0; 4], [0; 4]);
        mask[place] = 0xff;
        value[place] = transport.number();
        keys.push(Key {
            mask,
            value,
            offset,
        });
        if let Some(port) = packets.port {
            let [high, low] = port.to_be_bytes();
            let (mut mask, mut value) = ([0; 4], [0; 4]);
            mask[side * 2..side * 2 + 2].copy_from_slice(&[0xff, 0xff]);
            value[side * 2..side * 2 + 2].copy_from_slice(&[high, low]);
            keys.push(Key {
                mask,
                value,
                offset: layout.ports,
            });
        }
    }
    keys
}

fn read_u32(selector: &[u8]) -> Option<Option<Match>> {
    let count = usize::from(*selector.get(2)?);
    let mut found = Vec::new();
    for number in 0..count {
        let at = 16 + number * 16;
        found.push(Key {
            mask: selector.get(at..at + 4)?.try_into().ok()?,
            value: selector.get(at + 4..at + 8)?.try_into().ok()?,
            offset: i32_at(selector, at + 8)?,
        });
    }
    if let [
        Key {
            mask: [0, 0, 0, 0],
            offset: 0,
            ..
        },
    ] = found.as_slice()
    {
        return Some(None);
    }
    // The kernel keeps keys as they were given: the one match that gives these is the one.
    for ipv6 in [false, true] {
        let layout = layout(ipv6);
        for (side, start) in [Side::Source, Side::Destination]
            .into_iter()
            .zip(layout.addresses)
        {
            let length = if ipv6 { 16_u8 } else { 4 };
            let inside = |key: &&Key| (start..start + i32::from(length)).contains(&key.offset);
            let mut address = vec![0; usize::from(length)];
            let mut mask = address.clone();
            for key in found.iter().filter(inside) {
                let at = usize::try_from(key.offset - start).ok()?;
                address.get_mut(at..at + 4)?.copy_from_slice(&key.value);
                mask.get_mut(at..at + 4)?.copy_from_slice(&key.mask);
            }
            let (protocol_offset, place) = layout.protocol;
            let transport = found
                .iter()
                .find(|key| key.offset == protocol_offset && key.mask[place] == 0xff);
            let transport = transport.and_then(|key| Transport::from_number(key.value[place]));
            let port_at = if side == Side::Source { 0 } else { 2 };
            let port = found
                .iter()
                .find(|key| key.offset == layout.ports && key.mask[port_at] == 0xff);
            let candidate = Match {
                side,
                address: address_from(&address)?,
                prefix_bits: prefix_bits(&mask)?,
                transport,
                port: port
                    .map(|key| u16::from_be_bytes([key.value[port_at], key.value[port_at + 1]])),
            };
            if keys(&candidate) == found {
                return Some(Some(candidate));
            }
        }
    }
    None
}
