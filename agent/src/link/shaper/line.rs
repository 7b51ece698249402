//! The packets that wait before the bottleneck, in the order in which they came.

use std::collections::VecDeque;

/// A packet as the shaper knows it. Its bytes are its owner's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packet {
    /// What its owner knows it by.
    pub(crate) slot: u32,
    /// Bytes of IP.
    pub(crate) ip_bytes: u32,
    /// When it came, after T0.
    pub(crate) arrival_ns: u64,
    /// It can carry a mark (RFC 3168).
    pub(crate) ecn_capable: bool,
}

#[derive(Debug)]
pub(super) struct WaitingLine {
    packets: VecDeque<Packet>,
    bytes: u64,
}

impl WaitingLine {
    pub(super) fn new(most_packets: usize) -> WaitingLine {
        WaitingLine {
            packets: VecDeque::with_capacity(most_packets),
            bytes: 0,
        }
    }

    pub(super) fn push(&mut self, packet: Packet) {
        self.bytes += u64::from(packet.ip_bytes);
        self.packets.push_back(packet);
    }

    pub(super) fn pop(&mut self) -> Option<Packet> {
        let packet = self.packets.pop_front()?;
        self.bytes -= u64::from(packet.ip_bytes);
        Some(packet)
    }

    pub(super) fn head(&self) -> Option<&Packet> {
        self.packets.front()
    }

    pub(super) fn packets(&self) -> usize {
        self.packets.len()
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of the packets that had come by a moment.
    pub(super) fn bytes_by(&self, t_ns: u64) -> u64 {
        let later = self.packets.iter().rev();
        let later = later.take_while(|packet| packet.arrival_ns > t_ns);
        let later_bytes: u64 = later.map(|packet| u64::from(packet.ip_bytes)).sum();
        self.bytes - later_bytes
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.packets.capacity()
    }
}
