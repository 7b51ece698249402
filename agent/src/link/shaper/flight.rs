//! The packets that are through the bottleneck and under way to the receiver.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// A packet and when it is to leave the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Departure {
    /// What its owner knows it by.
    pub(crate) slot: u32,
    /// After T0.
    pub(crate) due_ns: u64,
}

/// Two structures, as the order of service is that of departure unless jitter may reorder. Both
/// have room for as many packets as are expected from the start.
#[derive(Debug)]
pub(super) struct Flight {
    /// In the order of their due times.
    in_order: VecDeque<Departure>,
    /// Due time, number of the packet (so that equal due times keep their order), slot.
    any_order: BinaryHeap<Reverse<(u64, u64, u32)>>,
    number: u64,
}

impl Flight {
    pub(super) fn new(most_packets: usize) -> Flight {
        Flight {
            in_order: VecDeque::with_capacity(most_packets),
            any_order: BinaryHeap::with_capacity(most_packets),
            number: 0,
        }
    }

    /// Adds a packet that is due no earlier than any other.
    pub(super) fn push_last(&mut self, departure: Departure) {
        self.in_order.push_back(departure);
    }

    /// Adds a packet that may overtake others.
    pub(super) fn push(&mut self, departure: Departure) {
        let entry = (departure.due_ns, self.number, departure.slot);
        self.number += 1;
        self.any_order.push(Reverse(entry));
    }

    pub(super) fn next_due_ns(&self) -> Option<u64> {
        let in_order = self.in_order.front().map(|departure| departure.due_ns);
        let any_order = self.any_order.peek().map(|Reverse((due_ns, ..))| *due_ns);
        in_order.into_iter().chain(any_order).min()
    }

    /// The next packet that is due by `now_ns`.
    pub(super) fn pop_due(&mut self, now_ns: u64) -> Option<Departure> {
        let due_ns = self.next_due_ns().filter(|&due_ns| due_ns <= now_ns)?;
        if let Some(first) = self.in_order.front()
            && first.due_ns == due_ns
        {
            return self.in_order.pop_front();
        }
        let Reverse((due_ns, _, slot)) = self.any_order.pop()?;
        Some(Departure { slot, due_ns })
    }

    #[cfg(test)]
    pub(super) fn capacities(&self) -> [usize; 2] {
        [self.in_order.capacity(), self.any_order.capacity()]
    }
}
