//! Showing every packet that a link lets through to somebody, such as a capture, without ever
//! waiting for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use hexloop_traces::Direction;
use hexloop_workloads::clock::MonotonicNs;

use super::checksum;
use crate::sys::packet::VirtioHeader;

/// A packet that a link has let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PassedPacket {
    /// Which way it went.
    pub direction: Direction,
    /// When it came in, by the kernel's stamp.
    pub arrival: MonotonicNs,
    /// When it was to leave; where nothing plays, when it came in; 0 if the end of the playback let
    /// it go.
    pub due: MonotonicNs,
    /// When it was sent.
    pub achieved: MonotonicNs,
    pub(crate) header: VirtioHeader,
    pub(crate) frame: Vec<u8>,
}

impl PassedPacket {
    /// Its bytes from the Ethernet header on, with the whole checksum in their place. (On the
    /// link itself a checksum may be left to whoever needs it.)
    #[must_use]
    pub fn into_frame(mut self) -> Vec<u8> {
        checksum::complete_checksum(&mut self.frame, self.header);
        self.frame
    }
}

/// The sending side of an observation. What finds no room is dropped and counted.
#[derive(Debug, Clone)]
pub struct Observer {
    packets: SyncSender<PassedPacket>,
    dropped: Arc<AtomicU64>,
    is_open: Arc<AtomicBool>,
}

impl Observer {
    /// An observer with room for so many packets between the link and the reader.
    #[must_use]
    pub fn new(room: usize) -> (Observer, Receiver<PassedPacket>) {
        let (packets, reader) = sync_channel(room);
        let observer = Observer {
            packets,
            dropped: Arc::new(AtomicU64::new(0)),
            is_open: Arc::new(AtomicBool::new(true)),
        };
        (observer, reader)
    }

    /// Lets it see packets from here on, or none. A new one sees them.
    pub fn set_open(&self, is_open: bool) {
        self.is_open.store(is_open, Ordering::Relaxed);
    }

    /// Packets that found no room so far.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Shows a packet, unless the reader is gone or behind.
    pub(super) fn show(&self, packet: impl FnOnce() -> PassedPacket) {
        if !self.is_open.load(Ordering::Relaxed) {
            return;
        }
        if self.packets.try_send(packet()).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(due: MonotonicNs) -> PassedPacket {
        PassedPacket {
            direction: Direction::Up,
            arrival: 1,
            due,
            achieved: due + 1,
            header: VirtioHeader::default(),
            frame: vec![7; 60],
        }
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_counted() {
        let (observer, reader) = Observer::new(2);
        for due in 0..5 {
            observer.show(|| packet(due));
        }
        let seen: Vec<MonotonicNs> = reader.try_iter().map(|packet| packet.due).collect();
        assert_eq!((seen, observer.dropped()), (vec![0, 1], 3));
    }

    #[test]
    fn what_passes_while_it_is_closed_is_neither_seen_nor_missed() {
        let (observer, reader) = Observer::new(2);
        for (due, is_open) in [(0, false), (1, true), (2, false), (3, false), (4, false)] {
            observer.set_open(is_open);
            observer.show(|| packet(due));
        }
        let seen: Vec<MonotonicNs> = reader.try_iter().map(|packet| packet.due).collect();
        assert_eq!((seen, observer.dropped()), (vec![1], 0));
    }

    #[test]
    fn a_packet_without_a_partial_checksum_is_shown_as_it_is() {
        assert_eq!(packet(0).into_frame(), vec![7; 60]);
    }
}
