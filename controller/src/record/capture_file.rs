//! How far a capture goes whose writer gave no account of it, because it was killed: counted from the
//! file's blocks (pcapng: draft-ietf-opsawg-pcapng, section 3.1), of which only the lengths are read.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// The kind of a block that holds a packet.
const ENHANCED_PACKET: u32 = 6;

/// The kind of a section's header, the same in either byte order, and what tells that.
const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const BYTE_ORDER_MAGIC: u32 = 0x1a2b_3c4d;

/// A block's kind and its two lengths.
const SMALLEST_BLOCK_BYTES: u32 = 12;

/// What a capture file has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaptureFile {
    /// Its length.
    pub bytes: u64,
    /// Packets in its whole blocks; `None` where it does not begin as a capture does.
    pub packets: Option<u64>,
    /// Bytes behind its last whole block.
    pub cut_bytes: u64,
}

impl CaptureFile {
    /// Looks at a file; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn look(path: &Path) -> io::Result<Option<CaptureFile>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let bytes = file.metadata()?.len();
        count(BufReader::new(file), bytes).map(Some)
    }
}

fn count(mut file: impl Read + Seek, bytes: u64) -> io::Result<CaptureFile> {
    let (mut at, mut packets, mut is_swapped) = (0, 0, None);
    while bytes - at >= u64::from(SMALLEST_BLOCK_BYTES) {
        file.seek(SeekFrom::Start(at))?;
        let mut words = [[0; 4]; 3];
        for word in &mut words {
            file.read_exact(word)?;
        }
        let [kind, length, magic] = words.map(u32::from_ne_bytes);
        if kind == SECTION_HEADER {
            is_swapped = [(magic, false), (magic.swap_bytes(), true)]
                .into_iter()
                .find_map(|(magic, swapped)| (magic == BYTE_ORDER_MAGIC).then_some(swapped));
        }
        let Some(is_swapped) = is_swapped else {
            break;
        };
        let own = |word: u32| if is_swapped { word.swap_bytes() } else { word };
        let length = own(length);
        let end = at + u64::from(length);
        if length < SMALLEST_BLOCK_BYTES || end > bytes {
            break;
        }
        let mut again = [0; 4];
        file.seek(SeekFrom::Start(end - 4))?;
        file.read_exact(&mut again)?;
        if own(u32::from_ne_bytes(again)) != length {
            break;
        }
        packets += u64::from(own(kind) == ENHANCED_PACKET);
        at = end;
    }
    Ok(CaptureFile {
        bytes,
        packets: is_swapped.map(|_| packets),
        cut_bytes: bytes - at,
    })
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 12).unwrap().to_ne_bytes();
        [&kind.to_ne_bytes()[..], &length, body, &length].concat()
    }

    /// A section, an interface and so many packets.
    fn capture(packets: usize) -> Vec<u8> {
        let mut file = block(SECTION_HEADER, &BYTE_ORDER_MAGIC.to_ne_bytes());
        file.extend(block(1, &[0; 8]));
        for _ in 0..packets {
            file.extend(block(ENHANCED_PACKET, &[0; 40]));
        }
        file
    }

    fn counted(file: &[u8]) -> (Option<u64>, u64) {
        let bytes = u64::try_from(file.len()).unwrap();
        let found = count(Cursor::new(file), bytes).unwrap();
        assert_eq!(found.bytes, bytes);
        (found.packets, found.cut_bytes)
    }

    #[test]
    fn packets_are_counted_up_to_the_last_whole_block_wherever_a_file_ends() {
        let file = capture(3);
        assert_eq!(counted(&file), (Some(3), 0));
        let third = file.len() - 52;
        for end in third + 1..file.len() {
            let cut_bytes = u64::try_from(end - third).unwrap();
            assert_eq!(counted(&file[..end]), (Some(2), cut_bytes), "{end}");
        }
    }

    #[test]
    fn a_file_of_a_machine_of_the_other_byte_order_is_counted_alike() {
        let mut swapped = capture(2);
        // Kinds, lengths and the magic, which all its words are.
        for word in swapped.chunks_exact_mut(4) {
            word.reverse();
        }
        assert_eq!(counted(&swapped), (Some(2), 0));
    }

    #[test]
    fn what_is_no_capture_has_no_packets_to_count() {
        assert_eq!(counted(b""), (None, 0));
        assert_eq!(counted(&[7; 100]), (None, 100));
        // A length that leads nowhere ends what can be read.
        let mut file = capture(2);
        let last = file.len() - 52;
        file[last + 4..last + 8].fill(0);
        assert_eq!(counted(&file), (Some(1), 52));
    }

    #[test]
    fn a_file_that_is_not_there_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("radio-up.pcapng");
        assert_eq!(CaptureFile::look(&path).unwrap(), None);
        std::fs::write(&path, capture(1)).unwrap();
        let found = CaptureFile::look(&path).unwrap().unwrap();
        assert_eq!(found.packets, Some(1));
    }
}
