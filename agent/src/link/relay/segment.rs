//! Cutting super-packets (TCP and UDP segments that travel as one) into the packets that they
//! stand for, as the kernel would (net/ipv4/tcp_offload.c, udp_offload.c): pure code on bytes.
//!
//! Every segment gets its own lengths, sequence number, IPv4 identification and header checksum.
//! Its TCP or UDP checksum stays partial: the field holds the sum of the pseudo-header and the
//! virtio header says so, as on the way in, so that no payload is summed up.

use super::checksum::{fold, sum};
use crate::link::ETHERNET_HEADER_BYTES;
use crate::sys::packet::{Cut, VirtioHeader};

const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
const IPV6_HEADER_BYTES: usize = 40;
pub(super) const TCP: u8 = 6;
const UDP: u8 = 17;
const UDP_HEADER_BYTES: usize = 8;

/// TCP flags that only the last segment keeps: FIN and PSH.
const LAST_ONLY: u8 = 0x01 | 0x08;
/// The flag that only the first segment keeps: CWR.
const FIRST_ONLY: u8 = 0x80;

/// A super-packet that cannot be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a packet of several segments is neither TCP nor UDP over IPv4 or IPv6, or is damaged")]
pub(crate) struct CannotCut;

/// Where the parts of a packet begin, from the Ethernet header on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) ipv6: bool,
    pub(super) protocol: u8,
    pub(super) transport: usize,
    pub(super) payload: usize,
}

impl Layout {
    pub(super) fn of(frame: &[u8]) -> Option<Layout> {
        let network = ETHERNET_HEADER_BYTES;
        let kind: [u8; 2] = frame.get(12..network)?.try_into().ok()?;
        let (ipv6, protocol, transport) = match kind {
            IPV4 => {
                let words = usize::from(frame.get(network)? & 0x0f);
                (false, *frame.get(network + 9)?, network + words.max(5) * 4)
            }
            IPV6 => {
                let (protocol, transport) = behind_extensions(frame, network)?;
                (true, protocol, transport)
            }
            _ => return None,
        };
        let header = match protocol {
            TCP => usize::from(frame.get(transport + 12)? >> 4).max(5) * 4,
            UDP => UDP_HEADER_BYTES,
            _ => return None,
        };
        let payload = transport + header;
        (frame.len() >= payload).then_some(Layout {
            ipv6,
            protocol,
            transport,
            payload,
        })
    }

    /// The sum of the pseudo-header without the length.
    pub(super) fn pseudo_sum(self, frame: &[u8]) -> u64 {
        let network = ETHERNET_HEADER_BYTES;
        let addresses = if self.ipv6 {
            &frame[network + 8..network + 40]
        } else {
            &frame[network + 12..network + 20]
        };
        sum(addresses) + u64::from(self.protocol)
    }

    pub(super) const fn checksum_offset(self) -> u16 {
        if self.protocol == TCP { 16 } else { 6 }
    }
}

/// The transport protocol of an IPv6 packet, behind its extension headers.
fn behind_extensions(frame: &[u8], network: usize) -> Option<(u8, usize)> {
    let mut next = *frame.get(network + 6)?;
    let mut place = network + IPV6_HEADER_BYTES;
    loop {
        match next {
            // Hop-by-hop options, routing, destination options: length in units of 8 bytes.
            0 | 43 | 60 => {
                next = *frame.get(place)?;
                place += (usize::from(*frame.get(place + 1)?) + 1) * 8;
            }
            _ => return Some((next, place)),
        }
    }
}

pub(super) fn put(bytes: &mut [u8], place: usize, value: u16) {
    bytes[place..place + 2].copy_from_slice(&value.to_be_bytes());
}

fn length(bytes: usize) -> Result<u16, CannotCut> {
    // A length that does not fit in its field is no packet.
    u16::try_from(bytes).map_err(|_too_long| CannotCut)
}

/// Hands the packets that a frame stands for to `take`, in order, each with its own header. A
/// frame that is one packet is handed on as it is. `scratch` is where segments are put together.
pub(super) fn cut(
    frame: &[u8],
    header: VirtioHeader,
    scratch: &mut Vec<u8>,
    take: &mut impl FnMut(&[u8], VirtioHeader),
) -> Result<(), CannotCut> {
    match header.cut() {
        Cut::Not => {
            take(frame, header);
            return Ok(());
        }
        Cut::Other => return Err(CannotCut),
        Cut::Tcp | Cut::Udp => {}
    }
    let layout = Layout::of(frame).ok_or(CannotCut)?;
    let expected = if header.cut() == Cut::Tcp { TCP } else { UDP };
    let size = usize::from(header.segment_bytes);
    if layout.protocol != expected || size == 0 {
        return Err(CannotCut);
    }
    let (headers, payload) = frame.split_at(layout.payload);
    let header = VirtioHeader {
        flags: 1,
        gso_type: 0,
        header_bytes: length(layout.payload)?,
        segment_bytes: 0,
        checksum_start: length(layout.transport)?,
        checksum_offset: layout.checksum_offset(),
    };
    let pseudo = layout.pseudo_sum(frame);
    let count = payload.len().div_ceil(size).max(1);
    for (number, part) in payload.chunks(size).enumerate() {
        scratch.clear();
        scratch.extend_from_slice(headers);
        scratch.extend_from_slice(part);
        let place = Place {
            number,
            size,
            last: number + 1 == count,
        };
        mend(scratch, layout, place, pseudo)?;
        take(scratch, header);
    }
    Ok(())
}

/// Which segment of how many.
#[derive(Debug, Clone, Copy)]
struct Place {
    number: usize,
    size: usize,
    last: bool,
}

/// Makes the copied headers those of one segment.
fn mend(packet: &mut [u8], layout: Layout, place: Place, pseudo: u64) -> Result<(), CannotCut> {
    let network = ETHERNET_HEADER_BYTES;
    let ip_bytes = length(packet.len() - network)?;
    let transport_bytes = length(packet.len() - layout.transport)?;
    if layout.ipv6 {
        let behind = packet.len() - network - IPV6_HEADER_BYTES;
        put(packet, network + 4, length(behind)?);
    } else {
        put(packet, network + 2, ip_bytes);
        let first = u16::from_be_bytes([packet[network + 4], packet[network + 5]]);
        // The identification counts up and may wrap.
        let number = u16::try_from(place.number & 0xffff).unwrap_or(0);
        put(packet, network + 4, first.wrapping_add(number));
        put(packet, network + 10, 0);
        let whole = !fold(sum(&packet[network..layout.transport]));
        put(packet, network + 10, whole);
    }
    let transport = layout.transport;
    if layout.protocol == TCP {
        let field = &mut packet[transport + 4..transport + 8];
        let first = u32::from_be_bytes([field[0], field[1], field[2], field[3]]);
        let sent = u32::try_from(place.number * place.size).map_err(|_far| CannotCut)?;
        field.copy_from_slice(&first.wrapping_add(sent).to_be_bytes());
        let flags = &mut packet[transport + 13];
        if !place.last {
            *flags &= !LAST_ONLY;
        }
        if place.number > 0 {
            *flags &= !FIRST_ONLY;
        }
    } else {
        put(packet, transport + 4, transport_bytes);
    }
    let partial = fold(pseudo + u64::from(transport_bytes));
    let field = transport + usize::from(layout.checksum_offset());
    put(packet, field, partial);
    Ok(())
}

/// How many packets a frame stands for, and their IP bytes together, from its first bytes.
pub(crate) fn on_the_wire(bytes: &[u8], wire_bytes: usize, header: VirtioHeader) -> (u64, u64) {
    let whole = wire_bytes.saturating_sub(ETHERNET_HEADER_BYTES);
    let size = usize::from(header.segment_bytes);
    let (packets, ip_bytes) = match (header.cut(), Layout::of(bytes)) {
        (Cut::Tcp | Cut::Udp, Some(layout)) if size > 0 => {
            let packets = wire_bytes.saturating_sub(layout.payload).div_ceil(size);
            let again = packets.saturating_sub(1) * (layout.payload - ETHERNET_HEADER_BYTES);
            (packets.max(1), whole + again)
        }
        _ => (1, whole),
    };
    let count = |number| u64::try_from(number).unwrap_or(0);
    (count(packets), count(ip_bytes))
}

#[cfg(test)]
mod tests;
