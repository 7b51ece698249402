//! A ring of blocks that the kernel packs frames into (TPACKET_V3): no system call per frame,
//! and frames can be sent on from where they lie. A block is shown when it is full or a
//! millisecond (at least a tick of the kernel) old.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use super::mapping::{Mapping, half_word, word};
use super::{VirtioHeader, set};

const BLOCK_BYTES: usize = 1 << 18;
const BLOCKS: usize = 32;
/// The frame size only bounds what one frame may take; blocks are packed.
const FRAME_BYTES: usize = 1 << 11;
const RETIRE_MS: u32 = 1;

#[derive(Debug)]
pub(super) struct BlockRing {
    mapping: Mapping,
    next: usize,
}

impl BlockRing {
    pub(super) fn map(descriptor: &OwnedFd) -> io::Result<BlockRing> {
        let version: libc::c_int = 2; // TPACKET_V3
        set(descriptor, libc::PACKET_VERSION, &version)?;
        let as_u32 = |value: usize| u32::try_from(value).map_err(io::Error::other);
        let request = libc::tpacket_req3 {
            tp_block_size: as_u32(BLOCK_BYTES)?,
            tp_block_nr: as_u32(BLOCKS)?,
            tp_frame_size: as_u32(FRAME_BYTES)?,
            tp_frame_nr: as_u32(BLOCKS * BLOCK_BYTES / FRAME_BYTES)?,
            tp_retire_blk_tov: RETIRE_MS,
            tp_sizeof_priv: 0,
            tp_feature_req_word: 0,
        };
        set(descriptor, libc::PACKET_RX_RING, &request)?;
        Ok(BlockRing {
            mapping: Mapping::new(descriptor, BLOCKS * BLOCK_BYTES)?,
            next: 0,
        })
    }

    /// The next block that the kernel has finished.
    pub(super) fn next_block(&mut self, headers: bool) -> Option<Block<'_>> {
        let offset = self.next * BLOCK_BYTES;
        // struct tpacket_block_desc: version, offset to priv, then the status.
        let status = self.mapping.status(offset + 8);
        if status.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return None;
        }
        self.next = (self.next + 1) % BLOCKS;
        Some(Block {
            ring: self,
            offset,
            headers,
        })
    }
}

/// A block of frames. Dropping it gives it back to the kernel.
#[derive(Debug)]
pub(crate) struct Block<'a> {
    ring: &'a BlockRing,
    offset: usize,
    headers: bool,
}

impl Block<'_> {
    /// Its frames as they are to be sent: each with its virtio header where there is one. What
    /// the ring kept only a part of is left out.
    pub(crate) fn frames(&self) -> impl Iterator<Item = &[u8]> {
        #[expect(unsafe_code, reason = "the ring is shared memory")]
        // SAFETY: the block is ours until it is dropped, which the slice's lifetime precedes.
        let bytes = unsafe { self.ring.mapping.bytes(self.offset, BLOCK_BYTES) };
        // Behind the status: number of frames, offset of the first.
        let count = word(bytes, 12);
        let mut place = usize::try_from(word(bytes, 16)).unwrap_or(usize::MAX);
        let before = if self.headers { VirtioHeader::BYTES } else { 0 };
        (0..count).filter_map(move |_| {
            // struct tpacket3_hdr: next offset, sec, nsec, snaplen, len, status, mac (u16).
            let header = bytes.get(place..)?;
            let kept = usize::try_from(word(header, 12)).ok()?;
            let whole = usize::try_from(word(header, 16)).ok()?;
            let begin = usize::from(half_word(header, 24));
            let next = usize::try_from(word(header, 0)).ok()?;
            place = place.saturating_add(next);
            if kept != whole {
                return None;
            }
            header.get(begin.checked_sub(before)?..begin + kept)
        })
    }
}

impl Drop for Block<'_> {
    fn drop(&mut self) {
        let status = self.ring.mapping.status(self.offset + 8);
        status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
    }
}
