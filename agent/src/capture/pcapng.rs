//! The pcapng format (draft-ietf-opsawg-pcapng), as much of it as a capture of one link needs:
//! one section, one Ethernet interface, packets with comments. Times are in nanoseconds.

use std::io::{self, Write};

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const ENHANCED_PACKET: u32 = 6;

/// Tells the byte order: this machine's.
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;

/// LINKTYPE_ETHERNET.
const ETHERNET: u16 = 1;

const OPTION_END: u16 = 0;
const OPTION_COMMENT: u16 = 1;
const OPTION_APPLICATION: u16 = 4;
const OPTION_INTERFACE_NAME: u16 = 2;
const OPTION_TIME_RESOLUTION: u16 = 9;

/// Nanoseconds: a power of ten.
const NANOSECONDS: u8 = 9;

/// Writes one file.
#[derive(Debug)]
pub(crate) struct PcapngWriter<W> {
    output: W,
    block: Vec<u8>,
}

impl<W: Write> PcapngWriter<W> {
    /// Writes what comes before the packets.
    ///
    /// # Errors
    /// Of the output.
    pub(crate) fn new(output: W, interface: &str) -> io::Result<PcapngWriter<W>> {
        let mut writer = PcapngWriter {
            output,
            block: Vec::with_capacity(2048),
        };
        writer.write_block(SECTION_HEADER, |block| {
            block.extend(BYTE_ORDER_MAGIC.to_ne_bytes());
            block.extend(1_u16.to_ne_bytes());
            block.extend(0_u16.to_ne_bytes());
            // The section's length is not known before its end.
            block.extend(u64::MAX.to_ne_bytes());
            option(block, OPTION_APPLICATION, b"hexloop");
            option(block, OPTION_END, b"");
        })?;
        writer.write_block(INTERFACE_DESCRIPTION, |block| {
            block.extend(ETHERNET.to_ne_bytes());
            block.extend(0_u16.to_ne_bytes());
            // No limit to a packet's length.
            block.extend(0_u32.to_ne_bytes());
            option(block, OPTION_INTERFACE_NAME, interface.as_bytes());
            option(block, OPTION_TIME_RESOLUTION, &[NANOSECONDS]);
            option(block, OPTION_END, b"");
        })?;
        Ok(writer)
    }

    /// Writes one packet, taken at `realtime_ns` since 1970.
    ///
    /// # Errors
    /// Of the output, or a packet longer than 4 GiB.
    pub(crate) fn packet(
        &mut self,
        realtime_ns: u64,
        frame: &[u8],
        comment: &str,
    ) -> io::Result<()> {
        let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
        self.write_block(ENHANCED_PACKET, |block| {
            // The only interface.
            block.extend(0_u32.to_ne_bytes());
            let [high, low] = [realtime_ns >> 32, realtime_ns & 0xffff_ffff];
            for half in [high, low] {
                let half = u32::try_from(half).unwrap_or(u32::MAX);
                block.extend(half.to_ne_bytes());
            }
            // All of it was kept.
            block.extend(length.to_ne_bytes());
            block.extend(length.to_ne_bytes());
            padded(block, frame);
            option(block, OPTION_COMMENT, comment.as_bytes());
            option(block, OPTION_END, b"");
        })
    }

    /// Where it writes to.
    pub(crate) const fn output(&mut self) -> &mut W {
        &mut self.output
    }

    fn write_block(&mut self, kind: u32, fill: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        self.block.clear();
        self.block.extend(kind.to_ne_bytes());
        self.block.extend(0_u32.to_ne_bytes());
        fill(&mut self.block);
        // Type and both lengths are part of the length.
        let length = u32::try_from(self.block.len() + 4).map_err(io::Error::other)?;
        self.block[4..8].copy_from_slice(&length.to_ne_bytes());
        self.block.extend(length.to_ne_bytes());
        self.output.write_all(&self.block)
    }
}

fn padded(block: &mut Vec<u8>, bytes: &[u8]) {
    block.extend(bytes);
    block.resize(block.len().next_multiple_of(4), 0);
}

/// An option; what is longer than an option can be is cut.
fn option(block: &mut Vec<u8>, code: u16, value: &[u8]) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    block.extend(code.to_ne_bytes());
    block.extend(length.to_ne_bytes());
    padded(block, &value[..usize::from(length)]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn word(bytes: &[u8], at: usize) -> u32 {
        u32::from_ne_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    /// Takes a file apart: type and body of each block. Both lengths must agree.
    fn blocks(mut bytes: &[u8]) -> Vec<(u32, &[u8])> {
        let mut found = Vec::new();
        while !bytes.is_empty() {
            let length = usize::try_from(word(bytes, 4)).unwrap();
            assert!(length.is_multiple_of(4) && length >= 12);
            assert_eq!(word(bytes, length - 4), word(bytes, 4));
            found.push((word(bytes, 0), &bytes[8..length - 4]));
            bytes = &bytes[length..];
        }
        found
    }

    /// The options of a body from an offset on: code and value.
    fn options(body: &[u8], mut at: usize) -> Vec<(u16, &[u8])> {
        let half = |at: usize| u16::from_ne_bytes(body[at..at + 2].try_into().unwrap());
        let mut found = Vec::new();
        loop {
            let (code, length) = (half(at), usize::from(half(at + 2)));
            if code == OPTION_END {
                assert_eq!((length, at + 4), (0, body.len()));
                return found;
            }
            found.push((code, &body[at + 4..at + 4 + length]));
            at += 4 + length.next_multiple_of(4);
        }
    }

    #[test]
    fn a_file_begins_with_its_section_and_an_ethernet_interface_in_nanoseconds() {
        let mut writer = PcapngWriter::new(Vec::new(), "link down").unwrap();
        let blocks = blocks(writer.output());
        assert_eq!(blocks[0].0, SECTION_HEADER);
        assert_eq!(word(blocks[0].1, 0), BYTE_ORDER_MAGIC);
        let (kind, body) = blocks[1];
        assert_eq!(
            (kind, body[..2].to_vec()),
            (1, ETHERNET.to_ne_bytes().to_vec())
        );
        let expected: [(u16, &[u8]); 2] = [(2, b"link down"), (9, &[9])];
        assert_eq!(options(body, 8), expected);
        assert_eq!(blocks.len(), 2);
    }

    proptest! {
        #[test]
        fn every_packet_reads_back_with_its_time_and_comment(
            packets in proptest::collection::vec(
                (any::<u64>(), proptest::collection::vec(any::<u8>(), 0..200), ".{0,40}"),
                0..6,
            ),
        ) {
            let mut writer = PcapngWriter::new(Vec::new(), "x").unwrap();
            for (at, frame, comment) in &packets {
                writer.packet(*at, frame, comment).unwrap();
            }
            let read: Vec<_> = blocks(writer.output())[2..]
                .iter()
                .map(|(kind, body)| {
                    assert_eq!(*kind, ENHANCED_PACKET);
                    let at = (u64::from(word(body, 4)) << 32) | u64::from(word(body, 8));
                    let length = usize::try_from(word(body, 12)).unwrap();
                    assert_eq!(word(body, 12), word(body, 16));
                    let frame = body[20..20 + length].to_vec();
                    let options = options(body, 20 + length.next_multiple_of(4));
                    assert_eq!(options.len(), 1);
                    assert_eq!(options[0].0, OPTION_COMMENT);
                    (at, frame, String::from_utf8(options[0].1.to_vec()).unwrap())
                })
                .collect();
            prop_assert_eq!(read, packets);
        }
    }
}
