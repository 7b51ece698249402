//! The header that packet sockets put before a frame when asked to (`PACKET_VNET_HDR`,
//! `struct virtio_net_hdr` of linux/virtio_net.h): what is left to do for its checksum, and
//! where it is to be cut.

/// A checksum is still partial: only the pseudo-header's sum stands in its field.
const NEEDS_CHECKSUM: u8 = 1;

/// What a frame that is longer than the MTU is cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// It is one packet.
    Not,
    /// TCP segments over IPv4 or IPv6.
    Tcp,
    /// UDP datagrams of equal length but for the last.
    Udp,
    /// Something that is not cut here, such as fragments.
    Other,
}

/// The header of one frame. All zero means: one packet with its whole checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct VirtioHeader {
    pub(crate) flags: u8,
    pub(crate) gso_type: u8,
    /// Length of all headers up to the payload, as a hint.
    pub(crate) header_bytes: u16,
    /// Payload of each segment.
    pub(crate) segment_bytes: u16,
    /// Where the checksummed part begins, from the Ethernet header on.
    pub(crate) checksum_start: u16,
    /// Where the checksum stands, from there on.
    pub(crate) checksum_offset: u16,
}

impl VirtioHeader {
    /// Its length before a frame.
    pub(crate) const BYTES: usize = 10;

    /// Reads it; packet sockets use the machine's byte order.
    pub(crate) fn from_bytes(bytes: [u8; VirtioHeader::BYTES]) -> VirtioHeader {
        let [flags, gso_type, a, b, c, d, e, f, g, h] = bytes;
        VirtioHeader {
            flags,
            gso_type,
            header_bytes: u16::from_ne_bytes([a, b]),
            segment_bytes: u16::from_ne_bytes([c, d]),
            checksum_start: u16::from_ne_bytes([e, f]),
            checksum_offset: u16::from_ne_bytes([g, h]),
        }
    }

    /// Writes it.
    pub(crate) fn to_bytes(self) -> [u8; VirtioHeader::BYTES] {
        let [a, b] = self.header_bytes.to_ne_bytes();
        let [c, d] = self.segment_bytes.to_ne_bytes();
        let [e, f] = self.checksum_start.to_ne_bytes();
        let [g, h] = self.checksum_offset.to_ne_bytes();
        [self.flags, self.gso_type, a, b, c, d, e, f, g, h]
    }

    /// Whether the checksum is still partial.
    pub(crate) const fn needs_checksum(&self) -> bool {
        self.flags & NEEDS_CHECKSUM != 0
    }

    /// How it is to be cut. (0x80 is the mark of ECN beside the type.)
    pub(crate) const fn cut(&self) -> Cut {
        match self.gso_type & 0x7f {
            0 => Cut::Not,
            1 | 4 => Cut::Tcp,
            5 => Cut::Udp,
            _ => Cut::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_survives_being_written_and_read() {
        let header = VirtioHeader {
            flags: 1,
            gso_type: 0x81,
            header_bytes: 66,
            segment_bytes: 1448,
            checksum_start: 34,
            checksum_offset: 16,
        };
        assert_eq!(VirtioHeader::from_bytes(header.to_bytes()), header);
        assert_eq!(header.cut(), Cut::Tcp);
        assert!(header.needs_checksum());
    }
}
