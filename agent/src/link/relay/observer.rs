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
    /// Which link: the number of the observer that it was shown to.
    pub link: usize,
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
    /// `None` is the end.
    packets: SyncSender<Option<PassedPacket>>,
    link: usize,
    /// In the order of [`Direction::BOTH`].
    dropped: Arc<[AtomicU64; 2]>,
    is_open: Arc<AtomicBool>,
}

impl Observer {
    /// An observer, number 0, with room for so many packets between the link and the reader.
    #[must_use]
    pub fn new(room: usize) -> (Observer, PassedPackets) {
        let (packets, reader) = sync_channel(room);
        let observer = Observer {
            packets,
            link: 0,
            dropped: Arc::default(),
            is_open: Arc::new(AtomicBool::new(true)),
        };
        let reader = PassedPackets {
            packets: reader,
            has_ended: false,
        };
        (observer, reader)
    }

    /// One of another link, with the same room and reader, open when this one is.
    #[must_use]
    pub fn of_link(&self, link: usize) -> Observer {
        Observer {
            link,
            dropped: Arc::default(),
            ..self.clone()
        }
    }

    /// Lets it see packets from here on, or none. A new one sees them.
    pub fn set_open(&self, is_open: bool) {
        self.is_open.store(is_open, Ordering::Relaxed);
    }

    /// Packets of a direction that found no room so far.
    #[must_use]
    pub fn dropped(&self, direction: Direction) -> u64 {
        self.dropped_in(direction).load(Ordering::Relaxed)
    }

    fn dropped_in(&self, direction: Direction) -> &AtomicU64 {
        &self.dropped[usize::from(direction == Direction::Up)]
    }

    /// Tells the reader that nothing more will come, whatever links still hold an observer. Waits
    /// for room.
    pub fn end(&self) {
        // A reader that is gone needs no telling.
        let _ = self.packets.send(None);
    }

    /// Shows a packet, made for its link's number, unless the reader is gone or behind.
    pub(crate) fn show(&self, packet: impl FnOnce(usize) -> PassedPacket) {
        if !self.is_open.load(Ordering::Relaxed) {
            return;
        }
        let packet = packet(self.link);
        let direction = packet.direction;
        if self.packets.try_send(Some(packet)).is_err() {
            self.dropped_in(direction).fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The reading side: waits for packets until there will be no more.
#[derive(Debug)]
pub struct PassedPackets {
    packets: Receiver<Option<PassedPacket>>,
    has_ended: bool,
}

impl PassedPackets {
    /// The next packet, if one waits.
    pub fn waiting(&mut self) -> Option<PassedPacket> {
        if self.has_ended {
            return None;
        }
        let packet = self.packets.try_recv().ok()?;
        self.has_ended = packet.is_none();
        packet
    }
}

impl Iterator for PassedPackets {
    type Item = PassedPacket;

    fn next(&mut self) -> Option<PassedPacket> {
        if self.has_ended {
            return None;
        }
        let packet = self.packets.recv().ok().flatten();
        self.has_ended = packet.is_none();
        packet
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet of 60 bytes.
    fn packet(link: usize, direction: Direction, due: MonotonicNs) -> PassedPacket {
        PassedPacket {
            link,
            direction,
            arrival: 1,
            due,
            achieved: due + 1,
            header: VirtioHeader::default(),
            frame: vec![7; 60],
        }
    }

    fn show(observer: &Observer, due: MonotonicNs) {
        observer.show(|link| packet(link, Direction::Up, due));
    }

    fn due(packets: &mut PassedPackets) -> Vec<MonotonicNs> {
        std::iter::from_fn(|| packets.waiting().map(|packet| packet.due)).collect()
    }

    #[test]
    fn what_finds_no_room_is_dropped_and_counted() {
        let (observer, mut reader) = Observer::new(2);
        for due in 0..5 {
            show(&observer, due);
        }
        let dropped = Direction::BOTH.map(|direction| observer.dropped(direction));
        assert_eq!((due(&mut reader), dropped), (vec![0, 1], [0, 3]));
    }

    #[test]
    fn what_passes_while_it_is_closed_is_neither_seen_nor_missed() {
        let (observer, mut reader) = Observer::new(2);
        for (due, is_open) in [(0, false), (1, true), (2, false), (3, false), (4, false)] {
            observer.set_open(is_open);
            show(&observer, due);
        }
        assert_eq!(
            (due(&mut reader), observer.dropped(Direction::Up)),
            (vec![1], 0)
        );
    }

    #[test]
    fn links_share_the_room_and_have_their_own_numbers_and_counts() {
        let (first, mut reader) = Observer::new(2);
        let second = first.of_link(7);
        show(&second, 1);
        show(&first, 2);
        show(&second, 3);
        let dropped = [&first, &second].map(|observer| observer.dropped(Direction::Up));
        assert_eq!(dropped, [0, 1]);
        let links = std::iter::from_fn(|| reader.waiting().map(|packet| packet.link));
        assert_eq!(links.collect::<Vec<_>>(), [7, 0]);
        first.set_open(false);
        show(&second, 4);
        assert_eq!(reader.waiting(), None);
    }

    #[test]
    fn the_reader_ends_when_it_is_told_so_although_a_link_could_go_on() {
        let (observer, mut reader) = Observer::new(4);
        let of_a_link = observer.of_link(1);
        show(&of_a_link, 1);
        observer.end();
        show(&of_a_link, 2);
        let seen: Vec<_> = reader.by_ref().map(|packet| packet.due).collect();
        assert_eq!((seen, reader.waiting()), (vec![1], None));
    }

    #[test]
    fn a_packet_without_a_partial_checksum_is_shown_as_it_is() {
        assert_eq!(packet(0, Direction::Up, 0).into_frame(), vec![7; 60]);
    }
}
