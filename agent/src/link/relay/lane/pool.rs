//! The memory of the frames that a lane holds.

use hexloop_workloads::clock::MonotonicNs;

use crate::link::ETHERNET_HEADER_BYTES;
use crate::sys::packet::{Frame, VirtioHeader};

/// Room is made for so many frames at a time. Each time takes one call for untouched memory, which is
/// nothing beside the thousand packets that have to come before the next.
const CHUNK_SLOTS: usize = 1024;

/// Most frames that room is made for before any comes.
const MOST_SLOTS_AT_FIRST: u64 = 65_536;

/// Most frames that one direction can hold: 400 MB at an MTU of 1500 bytes, of which only what packets
/// have touched is taken from the machine. That is 100 Mbit/s of packets of 52 bytes for a second, or
/// 1 Gbit/s of full ones for three.
const MOST_SLOTS: usize = 262_144;

/// Frames are assumed to be at least this long on average when the first slots are counted; where they
/// are shorter, room is made as they come.
const TYPICAL_FRAME_BYTES: u64 = 512;

/// Each slot begins with room for the virtio header, which ends where the frame begins.
const HEADER_ROOM_BYTES: usize = 16;

/// What is known of the frame in a slot.
#[derive(Clone, Copy, Default)]
struct Held {
    arrival: MonotonicNs,
    bytes: u32,
}

/// Slots of one length, each for a frame. It grows as packets wait and never shrinks.
pub(super) struct FramePool {
    /// Zeroed memory is untouched memory: pages appear as they are used.
    chunks: Vec<Vec<u8>>,
    slot_bytes: usize,
    held: Vec<Held>,
    /// What was given back last is taken first: its memory is in the cache.
    free: Vec<u32>,
}

impl FramePool {
    /// Room for packets of this MTU that have so many bytes together, as far as they are not small.
    pub(super) fn new(mtu: u32, held_bytes: u64) -> FramePool {
        let frame_bytes = usize::try_from(mtu).unwrap_or(1500) + ETHERNET_HEADER_BYTES + 4;
        let mut pool = FramePool {
            chunks: Vec::new(),
            slot_bytes: (HEADER_ROOM_BYTES + frame_bytes).next_multiple_of(64),
            held: Vec::new(),
            free: Vec::new(),
        };
        let slots = (held_bytes / TYPICAL_FRAME_BYTES).clamp(1, MOST_SLOTS_AT_FIRST);
        let slots = usize::try_from(slots).unwrap_or(CHUNK_SLOTS);
        for _ in 0..slots.div_ceil(CHUNK_SLOTS) {
            pool.grow();
        }
        pool
    }

    /// Makes room for a chunk of frames, unless there is as much as there may be.
    fn grow(&mut self) {
        let first = self.held.len();
        if first >= MOST_SLOTS {
            return;
        }
        let after = first + CHUNK_SLOTS;
        self.chunks.push(vec![0; self.slot_bytes * CHUNK_SLOTS]);
        self.held.resize(after, Held::default());
        let slots = (first..after).rev();
        self.free
            .extend(slots.filter_map(|slot| u32::try_from(slot).ok()));
    }

    /// Frames that there is room for now.
    pub(super) const fn slots(&self) -> usize {
        self.held.len()
    }

    /// Whether a frame of this length has room in a slot.
    pub(super) const fn fits(&self, frame_bytes: usize) -> bool {
        HEADER_ROOM_BYTES + frame_bytes <= self.slot_bytes
    }

    /// A slot without a frame; `None` when the pool holds as many as it may.
    pub(super) fn take(&mut self) -> Option<u32> {
        if self.free.is_empty() {
            self.grow();
        }
        self.free.pop()
    }

    /// The frame of a slot is not needed any more.
    pub(super) fn give_back(&mut self, slot: u32) {
        self.free.push(slot);
    }

    /// Puts a frame that fits into a slot, with its header.
    pub(super) fn fill(&mut self, slot: u32, frame: &Frame<'_>, arrival: MonotonicNs) {
        self.held[usize::try_from(slot).unwrap_or(0)] = Held {
            arrival,
            bytes: u32::try_from(frame.bytes.len()).unwrap_or(0),
        };
        self.set_header(slot, frame.virtio);
        self.frame_mut(slot).copy_from_slice(frame.bytes);
    }

    fn held(&self, slot: u32) -> Held {
        self.held[usize::try_from(slot).unwrap_or(0)]
    }

    /// When the frame of a slot arrived.
    pub(super) fn arrival(&self, slot: u32) -> MonotonicNs {
        self.held(slot).arrival
    }

    /// In which chunk the frame of a slot is, where it begins there, and where it ends.
    fn place(&self, slot: u32) -> (usize, usize, usize) {
        let number = usize::try_from(slot).unwrap_or(0);
        let start = number % CHUNK_SLOTS * self.slot_bytes + HEADER_ROOM_BYTES;
        let bytes = usize::try_from(self.held(slot).bytes).unwrap_or(0);
        (number / CHUNK_SLOTS, start, start + bytes)
    }

    pub(super) fn frame(&self, slot: u32) -> &[u8] {
        let (chunk, start, end) = self.place(slot);
        &self.chunks[chunk][start..end]
    }

    /// The frame with its header, of [`VirtioHeader::BYTES`], before it.
    pub(super) fn frame_with_header(&self, slot: u32) -> &[u8] {
        let (chunk, start, end) = self.place(slot);
        &self.chunks[chunk][start - VirtioHeader::BYTES..end]
    }

    pub(super) fn frame_mut(&mut self, slot: u32) -> &mut [u8] {
        let (chunk, start, end) = self.place(slot);
        &mut self.chunks[chunk][start..end]
    }

    pub(super) fn header(&self, slot: u32) -> VirtioHeader {
        let (chunk, start, _) = self.place(slot);
        self.chunks[chunk][start - VirtioHeader::BYTES..start]
            .try_into()
            .map_or_else(|_| VirtioHeader::default(), VirtioHeader::from_bytes)
    }

    pub(super) fn set_header(&mut self, slot: u32, header: VirtioHeader) {
        let (chunk, start, _) = self.place(slot);
        self.chunks[chunk][start - VirtioHeader::BYTES..start].copy_from_slice(&header.to_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_made_up_to_a_limit_and_each_slot_is_given_once() {
        // The shorter the frames, the less memory this takes.
        let mut pool = FramePool::new(60, 0);
        assert_eq!(pool.slots(), CHUNK_SLOTS);
        let mut taken: Vec<u32> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(pool.slots(), MOST_SLOTS);
        taken.sort_unstable();
        assert!(taken.into_iter().eq(0..u32::try_from(MOST_SLOTS).unwrap()));
        pool.give_back(4711);
        assert_eq!((pool.take(), pool.take()), (Some(4711), None));
    }

    #[test]
    fn what_is_expected_has_room_from_the_start() {
        assert_eq!(FramePool::new(60, 1024 * 512).slots(), 1024);
        assert_eq!(FramePool::new(60, 1025 * 512).slots(), 2048);
        assert_eq!(FramePool::new(60, u64::MAX).slots(), 65_536);
    }
}
