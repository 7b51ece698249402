//! Frames of the bench's own flows, made whole: Ethernet, IPv4 and UDP.

use std::net::IpAddr;

use hexloop_topologies::plan::LinkEnd;

/// Ethernet, IPv4 and UDP headers.
const HEADER_BYTES: usize = 14 + 20 + 8;

/// An Ethernet type for local experiments (IEEE Std 802): no protocol takes the frame in, so
/// that the receiver's stack costs least.
const LOCAL_EXPERIMENT: [u8; 2] = [0x88, 0xb5];

/// A UDP datagram from one end of a link to the other, with an IP packet of `ip_bytes`. Its
/// payload is zeros and it has no UDP checksum (RFC 768 allows that over IPv4).
pub(super) fn datagram(from: &LinkEnd, to: &LinkEnd, port: u16, ip_bytes: u16) -> Vec<u8> {
    let ip_bytes = usize::from(ip_bytes).max(HEADER_BYTES - 14);
    let mut frame = ethernet(from, to, [0x08, 0x00], 14 + ip_bytes);
    let total = u16::try_from(ip_bytes).unwrap_or(u16::MAX);
    let ip = &mut frame[14..34];
    ip[0] = 0x45;
    ip[2..4].copy_from_slice(&total.to_be_bytes());
    ip[6] = 0x40; // may not be cut
    ip[8] = 64; // hops
    ip[9] = 17; // UDP
    ip[12..16].copy_from_slice(&ipv4(from.ipv4));
    ip[16..20].copy_from_slice(&ipv4(to.ipv4));
    let sum = checksum(ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    frame[34..36].copy_from_slice(&port.to_be_bytes());
    frame[36..38].copy_from_slice(&port.to_be_bytes());
    frame[38..40].copy_from_slice(&(total - 20).to_be_bytes());
    frame
}

/// The shortest Ethernet frame: 64 bytes with its check sequence, 60 without.
pub(super) fn shortest(from: &LinkEnd, to: &LinkEnd) -> Vec<u8> {
    ethernet(from, to, LOCAL_EXPERIMENT, 60)
}

fn ethernet(from: &LinkEnd, to: &LinkEnd, kind: [u8; 2], bytes: usize) -> Vec<u8> {
    let mut frame = vec![0; bytes];
    frame[..6].copy_from_slice(&to.mac);
    frame[6..12].copy_from_slice(&from.mac);
    frame[12..14].copy_from_slice(&kind);
    frame
}

fn ipv4(address: IpAddr) -> [u8; 4] {
    match address {
        IpAddr::V4(address) => address.octets(),
        // The bench's links have IPv4 addresses.
        IpAddr::V6(_) => [0; 4],
    }
}

/// The Internet checksum (RFC 1071).
fn checksum(header: &[u8]) -> u16 {
    let mut sum = 0_u32;
    for pair in header.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([pair[0], low]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_a_known_header() {
        // The example of RFC 1071's errata and many textbooks: 192.168.0.1 to 192.168.0.199.
        let header = [
            0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0, 0, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0,
            0xc7,
        ];
        assert_eq!(checksum(&header), 0xb861);
    }

    #[test]
    fn a_datagram_is_as_long_as_asked_and_its_header_sums_to_nothing() {
        let end = |last: u8| LinkEnd {
            node: String::new(),
            interface: String::new(),
            ipv4: [198, 18, 0, last].into(),
            ipv6: [0_u16; 8].into(),
            mac: [2, 0, 0, 0, 0, last],
        };
        let frame = datagram(&end(1), &end(2), 47_003, 1500);
        assert_eq!(frame.len(), 1514);
        assert_eq!(&frame[..6], &[2, 0, 0, 0, 0, 2]);
        assert_eq!(checksum(&frame[14..34]), 0);
        assert_eq!(shortest(&end(1), &end(2)).len(), 60);
    }
}
