//! Explicit congestion notification (RFC 3168) in the IP header of an Ethernet frame.

const ETHERTYPE_IPV4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const ETHERTYPE_VLAN: [u8; 2] = [0x81, 0x00];

/// Both bits set: congestion experienced.
const CONGESTION_EXPERIENCED: u8 = 0b11;

enum IpHeader {
    /// Offset of the header.
    V4(usize),
    V6(usize),
}

fn ip_header(frame: &[u8]) -> Option<IpHeader> {
    let mut offset = 12;
    if frame.get(offset..offset + 2)? == ETHERTYPE_VLAN {
        offset += 4;
    }
    let header = offset + 2;
    let kind = frame.get(offset..header)?;
    if kind == ETHERTYPE_IPV4 && frame.len() >= header + 20 {
        Some(IpHeader::V4(header))
    } else if kind == ETHERTYPE_IPV6 && frame.len() >= header + 40 {
        Some(IpHeader::V6(header))
    } else {
        None
    }
}

/// Whether the frame holds an IP packet of an ECN-capable transport.
pub(crate) fn is_capable(frame: &[u8]) -> bool {
    match ip_header(frame) {
        Some(IpHeader::V4(header)) => frame[header + 1] & 0b11 != 0,
        Some(IpHeader::V6(header)) => (frame[header + 1] >> 4) & 0b11 != 0,
        None => false,
    }
}

/// Marks the packet, if it can carry a mark. The checksum of an IPv4 header follows (RFC 1624,
/// equation 3).
pub(crate) fn mark(frame: &mut [u8]) {
    if !is_capable(frame) {
        return;
    }
    match ip_header(frame) {
        Some(IpHeader::V4(header)) => {
            let word = |frame: &[u8], at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
            let old = word(frame, header);
            frame[header + 1] |= CONGESTION_EXPERIENCED;
            let new = word(frame, header);
            let checksum = word(frame, header + 10);
            let mut sum = u32::from(!checksum) + u32::from(!old) + u32::from(new);
            sum = (sum & 0xffff) + (sum >> 16);
            sum = (sum & 0xffff) + (sum >> 16);
            let folded = u16::try_from(sum).unwrap_or(0);
            frame[header + 10..header + 12].copy_from_slice(&(!folded).to_be_bytes());
        }
        Some(IpHeader::V6(header)) => frame[header + 1] |= CONGESTION_EXPERIENCED << 4,
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn internet_checksum(header: &[u8]) -> u16 {
        let mut sum: u32 = header
            .chunks(2)
            .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
            .sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !u16::try_from(sum).unwrap()
    }

    /// A frame with a header of chance, its checksum right.
    fn ipv4(noise: [u8; 20], tos: u8, vlan: bool) -> (Vec<u8>, usize) {
        let mut header = noise;
        header[0] = 0x45;
        header[1] = tos;
        header[10..12].fill(0);
        let checksum = internet_checksum(&header);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        let mut frame = vec![2; 12];
        if vlan {
            frame.extend([0x81, 0x00, 0x00, 0x07]);
        }
        frame.extend(ETHERTYPE_IPV4);
        let at = frame.len();
        frame.extend(header);
        (frame, at)
    }

    proptest! {
        #[test]
        fn a_mark_sets_both_bits_and_keeps_the_checksum_right(
            noise: [u8; 20],
            tos: u8,
            vlan: bool,
        ) {
            let (mut frame, at) = ipv4(noise, tos, vlan);
            let before = frame.clone();
            prop_assert_eq!(is_capable(&frame), tos & 3 != 0);
            mark(&mut frame);
            if tos & 3 == 0 {
                prop_assert_eq!(frame, before);
            } else {
                prop_assert_eq!(frame[at + 1], tos | 3);
                prop_assert_eq!(internet_checksum(&frame[at..at + 20]), 0);
                for (index, (new, old)) in frame.iter().zip(&before).enumerate() {
                    let may_change = [at + 1, at + 10, at + 11].contains(&index);
                    prop_assert!(new == old || may_change);
                }
            }
        }
    }

    #[test]
    fn a_mark_in_ipv6_touches_two_bits_of_the_traffic_class() {
        for (second, capable) in [(0x0f, false), (0x1f, true), (0x2f, true), (0x3f, true)] {
            let mut frame = vec![0; 54];
            frame[12..14].copy_from_slice(&ETHERTYPE_IPV6);
            frame[14] = 0x6a;
            frame[15] = second;
            assert_eq!(is_capable(&frame), capable);
            mark(&mut frame);
            assert_eq!(frame[14], 0x6a);
            assert_eq!(frame[15], if capable { 0x3f } else { second });
        }
    }

    #[test]
    fn what_is_not_ip_or_is_cut_off_is_left_alone() {
        let mut arp = vec![0xff; 60];
        arp[12..14].copy_from_slice(&[0x08, 0x06]);
        let mut short = ipv4([0xff; 20], 3, false).0;
        short.truncate(33);
        for mut frame in [arp, short, Vec::new(), vec![0x81, 0x00]] {
            let before = frame.clone();
            assert!(!is_capable(&frame));
            mark(&mut frame);
            assert_eq!(frame, before);
        }
    }
}
