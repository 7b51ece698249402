//! What a cell has granted the user of a shared link.
//!
//! A slot is divided over what waits at its start. What it carries is through at its end, and a
//! packet may span slots. What a packet that is dropped meanwhile leaves of a grant is used by
//! those behind it that waited too, and lost otherwise.

use hexloop_traces::Carried;

use super::line::Packet;

/// A slot of a cell, as offsets from T0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
}

/// What was granted so far, in slots that follow one another.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grants {
    /// In all slots before the present one, and with it.
    before: Carried,
    total: Carried,
    slot: Slot,
}

impl Grants {
    pub(super) const NONE: Grants = Grants {
        before: Carried::of_bits(0),
        total: Carried::of_bits(0),
        slot: Slot {
            start_ns: 0,
            end_ns: 0,
        },
    };

    pub(super) const fn add(&mut self, slot: Slot, granted: Carried) {
        self.before = self.total;
        self.total = self.total.and(granted);
        self.slot = slot;
    }

    /// What of `target` has not been granted.
    pub(super) const fn missing(&self, target: Carried) -> Carried {
        target.since(self.total)
    }

    /// What has to have been granted before anything of this packet is, if all that was served
    /// before it needs `target`.
    pub(super) fn before(&self, packet: &Packet, target: Carried) -> Carried {
        if packet.arrival_ns > self.slot.start_ns {
            target.max(self.total)
        } else {
            target.max(self.before)
        }
    }

    /// When the last slot that `target` needs ends; `None` as long as more must be granted.
    pub(super) fn moment_of(&self, target: Carried) -> Option<u64> {
        (target <= self.total).then_some(self.slot.end_ns)
    }
}
