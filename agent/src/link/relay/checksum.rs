//! The Internet checksum (RFC 1071), whole and partial.

use crate::sys::packet::VirtioHeader;

/// The ones' complement sum of 16-bit words, not yet folded. An odd last byte counts as the
/// high half of a word.
pub(super) fn sum(bytes: &[u8]) -> u64 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let words: u64 = pairs
        .iter()
        .map(|pair| u64::from(u16::from_be_bytes(*pair)))
        .sum();
    words + rest.first().map_or(0, |&last| u64::from(last) << 8)
}

/// Folds a sum into 16 bits.
pub(super) fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(0)
}

/// Finishes the checksum of a frame whose header says that it is partial: its field holds the
/// sum of the pseudo-header (RFC 9293, 3.1; RFC 768; RFC 8200, 8.1). Nothing else is changed.
pub(crate) fn complete_checksum(frame: &mut [u8], header: VirtioHeader) {
    if !header.needs_checksum() {
        return;
    }
    let start = usize::from(header.checksum_start);
    let field = start + usize::from(header.checksum_offset);
    let Some(part) = frame.get(start..) else {
        return;
    };
    let sum = !fold(sum(part));
    // In UDP zero means that there is none; both zeros are the same to those who check.
    let sum = if sum == 0 { 0xffff } else { sum };
    if let Some(place) = frame.get_mut(field..field + 2) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_sums_up() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(sum(&bytes)), 0xddf2);
        assert_eq!(fold(sum(&bytes[..7])), 0xdcfb);
    }

    #[test]
    fn a_completed_checksum_makes_the_datagram_sum_up_with_its_pseudo_header() {
        // UDP from 10.0.0.1 to 10.0.0.2 behind an Ethernet and an IPv4 header.
        let mut frame = vec![0; 14 + 20];
        let addresses = [10, 0, 0, 1, 10, 0, 0, 2];
        let datagram = [0x13, 0x89, 0x13, 0x8a, 0, 11, 0, 0, b'a', b'b', b'c'];
        frame.extend(datagram);
        let pseudo = sum(&addresses) + 17 + 11;
        frame[40..42].copy_from_slice(&fold(pseudo).to_be_bytes());
        let header = VirtioHeader {
            flags: 1,
            checksum_start: 34,
            checksum_offset: 6,
            ..VirtioHeader::default()
        };
        complete_checksum(&mut frame, header);
        assert_eq!(fold(pseudo + sum(&frame[34..])), 0xffff);
        let whole = frame.clone();
        complete_checksum(&mut frame, VirtioHeader::default());
        assert_eq!(frame, whole);
    }

    #[test]
    fn places_beyond_the_frame_are_left_alone() {
        let header = VirtioHeader {
            flags: 1,
            checksum_start: 50,
            checksum_offset: 16,
            ..VirtioHeader::default()
        };
        let mut frame = vec![3; 60];
        complete_checksum(&mut frame, header);
        assert_eq!(frame, vec![3; 60]);
    }
}
