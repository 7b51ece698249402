//! A ring of equal slots that the kernel fills with one frame each (TPACKET_V2).

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use super::mapping::{Mapping, half_word, word};
use super::{Frame, VirtioHeader, set};

/// Size of one block of the ring; frames never cross blocks.
const BLOCK_BYTES: usize = 65536;

/// Where the frame's bytes begin: header, address and padding of TPACKET_V2 precede them, and
/// the virtio header where there is one.
const FRAME_OVERHEAD_BYTES: usize = 96;

#[derive(Debug)]
pub(super) struct Ring {
    mapping: Mapping,
    frame_bytes: usize,
    frames: usize,
    next: usize,
}

impl Ring {
    pub(super) fn map(
        descriptor: &OwnedFd,
        snap_bytes: usize,
        ring_frames: usize,
    ) -> io::Result<Ring> {
        let version: libc::c_int = 1; // TPACKET_V2
        set(descriptor, libc::PACKET_VERSION, &version)?;
        let frame_bytes = (snap_bytes + FRAME_OVERHEAD_BYTES).next_power_of_two();
        let block_bytes = BLOCK_BYTES.max(frame_bytes);
        let frames_per_block = block_bytes / frame_bytes;
        let blocks = ring_frames.div_ceil(frames_per_block).max(1);
        let as_u32 = |value: usize| u32::try_from(value).map_err(io::Error::other);
        let request = libc::tpacket_req {
            tp_block_size: as_u32(block_bytes)?,
            tp_block_nr: as_u32(blocks)?,
            tp_frame_size: as_u32(frame_bytes)?,
            tp_frame_nr: as_u32(blocks * frames_per_block)?,
        };
        set(descriptor, libc::PACKET_RX_RING, &request)?;
        Ok(Ring {
            mapping: Mapping::new(descriptor, blocks * block_bytes)?,
            frame_bytes,
            frames: blocks * frames_per_block,
            next: 0,
        })
    }

    /// Hands one frame to `take` and gives its place back to the kernel; false if none is there.
    pub(super) fn take_one(&mut self, headers: bool, take: &mut impl FnMut(Frame<'_>)) -> bool {
        let offset = self.next * self.frame_bytes;
        let status = self.mapping.status(offset);
        if status.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return false;
        }
        #[expect(unsafe_code, reason = "the ring is shared memory")]
        // SAFETY: the status says that the frame is ours; it is given back after the last use.
        let bytes = unsafe { self.mapping.bytes(offset, self.frame_bytes) };
        // struct tpacket2_hdr: status, len, snaplen, mac (u16), net (u16), sec, nsec.
        let begin = usize::from(half_word(bytes, 12)).min(bytes.len());
        let kept = usize::try_from(word(bytes, 8)).unwrap_or(0);
        let end = begin.saturating_add(kept).min(bytes.len());
        let virtio = if headers {
            header_before(bytes, begin)
        } else {
            VirtioHeader::default()
        };
        take(Frame {
            bytes: &bytes[begin..end],
            wire_bytes: usize::try_from(word(bytes, 4)).unwrap_or(0),
            realtime_ns: u64::from(word(bytes, 16)) * 1_000_000_000 + u64::from(word(bytes, 20)),
            virtio,
        });
        status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
        self.next = (self.next + 1) % self.frames;
        true
    }
}

/// The virtio header that ends where the frame begins.
fn header_before(bytes: &[u8], begin: usize) -> VirtioHeader {
    let found = begin
        .checked_sub(VirtioHeader::BYTES)
        .and_then(|start| bytes.get(start..begin))
        .and_then(|header| header.try_into().ok());
    found.map_or_else(VirtioHeader::default, VirtioHeader::from_bytes)
}
