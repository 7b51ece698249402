//! What a tap keeps of a frame.

use hexloop_workloads::clock::MonotonicNs;

use crate::link::ETHERNET_HEADER_BYTES;
use crate::link::relay::on_the_wire;
use crate::sys::packet::Frame;

const UDP: u8 = 17;

/// One packet, or one super-packet, at the receiving interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// When.
    pub(crate) at: MonotonicNs,
    /// How many packets it stands for: more than one if it is a super-packet.
    pub(crate) packets: u64,
    /// Their lengths without the Ethernet headers.
    pub(crate) ip_bytes: u64,
    /// Destination port, for UDP over IPv4 without fragments.
    pub(crate) udp_port: Option<u16>,
    /// The first eight bytes of that datagram as a number, if it has them.
    pub(crate) number: u64,
    /// Whether the wall clock stood still against the monotonic one around its stamp.
    pub(crate) certain: bool,
}

impl Arrival {
    /// Reads the headers of a frame.
    pub(crate) fn of(frame: &Frame<'_>, at: MonotonicNs) -> Arrival {
        let (packets, ip_bytes) = on_the_wire(frame.bytes, frame.wire_bytes, frame.virtio);
        let (udp_port, number) = match datagram(frame.bytes) {
            Some((port, number)) => (Some(port), number),
            None => (None, 0),
        };
        Arrival {
            at,
            packets,
            ip_bytes,
            udp_port,
            number,
            certain: true,
        }
    }
}

fn datagram(frame: &[u8]) -> Option<(u16, u64)> {
    if frame.get(12..14)? != [0x08, 0x00] {
        return None;
    }
    let packet = frame.get(ETHERNET_HEADER_BYTES..)?;
    if *packet.get(9)? != UDP {
        return None;
    }
    let header_bytes = usize::from(packet.first()? & 0x0f) * 4;
    let datagram = packet.get(header_bytes..)?;
    let port = u16::from_be_bytes([*datagram.get(2)?, *datagram.get(3)?]);
    let number = datagram.get(8..16).and_then(|bytes| bytes.try_into().ok());
    Some((port, number.map_or(0, u64::from_be_bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_and_number_of_a_datagram_are_found() {
        let mut bytes = vec![0; 14 + 20 + 8 + 8];
        bytes[12] = 0x08;
        bytes[14] = 0x45;
        bytes[23] = 17;
        bytes[36..38].copy_from_slice(&4711_u16.to_be_bytes());
        bytes[42..50].copy_from_slice(&99_u64.to_be_bytes());
        let frame = Frame {
            bytes: &bytes,
            wire_bytes: 1514,
            realtime_ns: 0,
            virtio: Default::default(),
        };
        let arrival = Arrival::of(&frame, 5);
        let expected = Arrival {
            at: 5,
            packets: 1,
            ip_bytes: 1500,
            udp_port: Some(4711),
            number: 99,
            certain: true,
        };
        assert_eq!(arrival, expected);
    }

    #[test]
    fn a_cut_frame_is_only_counted() {
        let frame = Frame {
            bytes: &[0; 13],
            wire_bytes: 60,
            realtime_ns: 0,
            virtio: Default::default(),
        };
        assert_eq!(Arrival::of(&frame, 0).udp_port, None);
    }
}
