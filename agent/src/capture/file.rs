//! One file of a capture. Whole blocks alone reach it, so that it can be read up to its end
//! whatever happens to who writes it, and it ends before it takes room that others need.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statvfs::fstatvfs;

use super::pcapng::PcapngWriter;

/// Blocks wait until they are so many bytes, or until nothing else is to be done.
const AT_ONCE_BYTES: usize = 1 << 16;

/// Bytes that are written between two looks at what the disk has left.
const LOOK_EVERY_BYTES: u64 = 1 << 20;

/// What the files of a capture may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    /// Bytes of the file system that are to stay free.
    pub(crate) keep_free_bytes: u64,
    /// The largest that a file may get: who writes beyond that is killed (RLIMIT_FSIZE).
    pub(crate) largest_file_bytes: u64,
}

impl Room {
    /// As much as this process may write, with so many bytes of the file system left free.
    ///
    /// # Errors
    /// The kernel does not tell its limits.
    pub(crate) fn leaving(keep_free_bytes: u64) -> io::Result<Room> {
        let (largest_file_bytes, _) = getrlimit(Resource::RLIMIT_FSIZE)?;
        Ok(Room {
            keep_free_bytes,
            largest_file_bytes,
        })
    }
}

/// What one file has of the packets of its direction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Captured {
    /// Packets in the file.
    pub packets: u64,
    /// Packets that passed and are not in it.
    pub missed: u64,
    /// Why it ends early, if it does.
    pub cut_short: Option<String>,
}

/// A file that is being written.
#[derive(Debug)]
pub(crate) struct CaptureFile {
    file: File,
    /// Whole blocks that are still to be written, and how many of them are packets.
    blocks: PcapngWriter<Vec<u8>>,
    waiting_packets: u64,
    room: Room,
    written_bytes: u64,
    /// At how many bytes the disk is looked at again.
    look_at_bytes: u64,
    captured: Captured,
}

impl CaptureFile {
    /// Makes the file, with all that comes before its packets.
    ///
    /// # Errors
    /// It cannot be made, or there is no room for it.
    pub(crate) fn create(path: &Path, interface: &str, room: Room) -> io::Result<CaptureFile> {
        let mut made = CaptureFile {
            file: File::create(path)?,
            blocks: PcapngWriter::new(Vec::with_capacity(AT_ONCE_BYTES), interface)?,
            waiting_packets: 0,
            room,
            written_bytes: 0,
            look_at_bytes: 0,
            captured: Captured::default(),
        };
        made.write()?;
        Ok(made)
    }

    /// Takes a packet, or counts it where the file has ended.
    pub(crate) fn take(&mut self, realtime_ns: u64, frame: &[u8], comment: &str) {
        let is_open = self.captured.cut_short.is_none();
        if !is_open || self.blocks.packet(realtime_ns, frame, comment).is_err() {
            self.captured.missed += 1;
            return;
        }
        self.waiting_packets += 1;
        if self.blocks.output().len() >= AT_ONCE_BYTES {
            self.flush();
        }
    }

    /// Writes what waits. If that fails, the file ends behind its last whole block.
    pub(crate) fn flush(&mut self) {
        if let Err(error) = self.write() {
            self.captured.cut_short = Some(error.to_string());
            self.captured.missed += self.waiting_packets;
            // Readers can do without what is left of a block, should it stay.
            let _ = self.file.set_len(self.written_bytes);
            self.blocks.output().clear();
            self.waiting_packets = 0;
        }
    }

    fn write(&mut self) -> io::Result<()> {
        let blocks = self.blocks.output();
        if blocks.is_empty() {
            return Ok(());
        }
        let bytes = u64::try_from(blocks.len()).map_err(io::Error::other)?;
        let after_bytes = self.written_bytes.saturating_add(bytes);
        if after_bytes > self.room.largest_file_bytes {
            let limit = self.room.largest_file_bytes;
            let message = format!("files may have {limit} bytes (`ulimit -f`)");
            return Err(io::Error::other(message));
        }
        if after_bytes >= self.look_at_bytes {
            let space = fstatvfs(&self.file)?;
            let free = space
                .blocks_available()
                .saturating_mul(space.fragment_size());
            if free < self.room.keep_free_bytes.saturating_add(bytes) {
                let kept = self.room.keep_free_bytes;
                let message =
                    format!("the disk has no more left than {kept} bytes, which are kept free");
                return Err(io::Error::other(message));
            }
            self.look_at_bytes = after_bytes + LOOK_EVERY_BYTES;
        }
        self.file.write_all(blocks)?;
        blocks.clear();
        self.written_bytes = after_bytes;
        self.captured.packets += std::mem::take(&mut self.waiting_packets);
        Ok(())
    }

    /// Writes what waits, and says what the file has.
    pub(crate) fn finish(mut self) -> Captured {
        self.flush();
        self.captured
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn file(path: &Path, room: Room) -> CaptureFile {
        CaptureFile::create(path, "x", room).unwrap()
    }

    #[test]
    fn a_file_that_may_not_grow_ends_behind_a_whole_block_and_counts_what_it_lacks() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x.pcapng");
        let mut room = Room::leaving(0).unwrap();
        let begun = file(&path, room);
        let header_bytes = begun.written_bytes;
        drop(begun);
        // Room for one packet of those that follow: 28 bytes, the frame, the comment, 12 bytes.
        room.largest_file_bytes = header_bytes + 28 + 60 + 4 + 4 + 4 + 4;
        let mut begun = file(&path, room);
        for _ in 0..3 {
            begun.take(1, &[7; 60], "abcd");
            begun.flush();
        }
        let captured = begun.finish();
        assert_eq!((captured.packets, captured.missed), (1, 2));
        let why = captured.cut_short.unwrap();
        assert!(why.contains("ulimit -f"), "{why}");
        let length = fs::metadata(&path).unwrap().len();
        assert_eq!(length, room.largest_file_bytes);
    }

    #[test]
    fn room_that_is_kept_for_others_is_not_taken() {
        let root = tempfile::tempdir().unwrap();
        let room = Room::leaving(u64::MAX).unwrap();
        let refused = CaptureFile::create(&root.path().join("x.pcapng"), "x", room).unwrap_err();
        assert!(refused.to_string().contains("kept free"), "{refused}");
    }

    #[test]
    fn what_was_flushed_is_there_while_the_rest_is_still_to_come() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("x.pcapng");
        let mut begun = file(&path, Room::leaving(0).unwrap());
        begun.take(1, &[7; 60], "abcd");
        begun.flush();
        let flushed = fs::metadata(&path).unwrap().len();
        begun.take(2, &[7; 60], "abcd");
        assert_eq!(fs::metadata(&path).unwrap().len(), flushed);
        let expected = Captured {
            packets: 2,
            ..Captured::default()
        };
        assert_eq!(begun.finish(), expected);
        assert!(fs::metadata(&path).unwrap().len() > flushed);
    }
}
