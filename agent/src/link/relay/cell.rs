//! A radio cell whose links are served in one logical order: slot by slot, each divided over what
//! waits at its start.
//!
//! A slot is divided once everything that arrived before it has been taken in, and what it
//! carries is due at its end, a slot later. Waking up late therefore changes lateness alone, as
//! long as it is less than a slot. While nothing waits, no slot is looked at.

use std::sync::Arc;

use hexloop_traces::{
    CapacityCurve, Carried, CellScheduler, CellSettings, Direction, Schedule, SlotShare, Trace,
};
use hexloop_workloads::clock::MonotonicNs;

/// The directions by the side of a link that their frames come in on.
pub(super) const SIDES: [Direction; 2] = [Direction::Up, Direction::Down];

/// A cell that several links of one engine share.
#[derive(Debug)]
pub struct SharedCell {
    /// Who gets how much of a slot, and how long that is.
    pub settings: CellSettings,
    /// What the cell carries at most; without it, each user's own channel is the only limit.
    pub capacity: Option<Arc<Trace>>,
}

/// The place of a link in its cell.
#[derive(Debug, Clone)]
pub struct CellSeat {
    /// The cell: the same one for all its links.
    pub cell: Arc<SharedCell>,
    /// The link's weight, where the policy asks for one.
    pub weight: u32,
}

/// One direction of a link of a cell.
pub(super) trait CellUser {
    /// What it could carry between two moments, and what waits at the first.
    fn demand(&mut self, start: MonotonicNs, end: MonotonicNs) -> (Carried, Carried);
    /// What it may send between the moments that it was asked about last.
    fn grant(&mut self, start: MonotonicNs, end: MonotonicNs, granted: Carried);
}

/// Those who share cells, by link and side.
pub(super) trait CellUsers {
    /// One of them, unless it is gone.
    fn user(&mut self, link: usize, side: usize) -> Option<&mut dyn CellUser>;
}

/// A cell with its users.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) shared: Arc<SharedCell>,
    /// Links and their weights.
    members: Vec<(usize, u32)>,
    /// By side.
    capacity: Option<[Schedule; 2]>,
    schedulers: [CellScheduler; 2],
    shares: Vec<SlotShare>,
    /// The start of the first slot, and how many users play from then on.
    epoch: MonotonicNs,
    playing: usize,
    next_slot: u64,
}

impl Cell {
    pub(super) fn new(shared: Arc<SharedCell>) -> Cell {
        let capacity = shared.capacity.as_ref().map(|trace| {
            SIDES.map(|direction| Schedule::new(CapacityCurve::new(trace, direction)))
        });
        let scheduler = || CellScheduler::new(shared.settings, &[]);
        Cell {
            schedulers: [scheduler(), scheduler()],
            shared,
            members: Vec::new(),
            capacity,
            shares: Vec::new(),
            epoch: 0,
            playing: 0,
            next_slot: 0,
        }
    }

    pub(super) fn members(&self) -> impl Iterator<Item = usize> {
        self.members.iter().map(|(link, _)| *link)
    }

    pub(super) fn join(&mut self, link: usize, weight: u32) {
        self.members.push((link, weight));
        self.begin();
    }

    pub(super) fn leave(&mut self, link: usize) {
        self.members.retain(|(member, _)| *member != link);
        self.begin();
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Nobody has got anything yet.
    fn begin(&mut self) {
        let weights: Vec<u32> = self.members.iter().map(|(_, weight)| *weight).collect();
        let scheduler = || CellScheduler::new(self.shared.settings, &weights);
        self.schedulers = [scheduler(), scheduler()];
        self.shares = vec![SlotShare::default(); weights.len()];
    }

    /// One of its links plays from `t0` on. The first one's T0 is the cell's.
    pub(super) fn play(&mut self, t0: MonotonicNs) {
        if self.playing == 0 {
            self.begin();
            (self.epoch, self.next_slot) = (t0, 0);
        }
        self.playing += 1;
    }

    /// One of its links plays no longer.
    pub(super) const fn stop(&mut self) {
        self.playing = self.playing.saturating_sub(1);
    }

    fn slot_ns(&self) -> u64 {
        self.shared.settings.slot_ns.max(1)
    }

    /// When the next slot begins.
    pub(super) fn next_start(&self) -> MonotonicNs {
        self.epoch + self.next_slot * self.slot_ns()
    }

    /// When the first slot begins that something can be sent in that has waited for so long.
    /// Those before it are passed over: nothing waited.
    pub(super) fn start_for(&self, since: MonotonicNs) -> MonotonicNs {
        let slot = since.saturating_sub(self.epoch).div_ceil(self.slot_ns());
        self.epoch + slot.max(self.next_slot) * self.slot_ns()
    }

    /// Divides the slot that begins at `start`, which is not before the next one.
    pub(super) fn divide(&mut self, start: MonotonicNs, users: &mut (impl CellUsers + ?Sized)) {
        let slot = start.saturating_sub(self.epoch) / self.slot_ns();
        let end = start + self.slot_ns();
        let passed_over = slot.saturating_sub(self.next_slot);
        for (side, scheduler) in self.schedulers.iter_mut().enumerate() {
            if passed_over > 0 {
                scheduler.skip(passed_over);
            }
            let most = self.capacity.as_ref().map(|capacity| {
                let carried = |at: MonotonicNs| capacity[side].carried_by(at - self.epoch);
                carried(end).since(carried(start))
            });
            for (&(link, _), share) in self.members.iter().zip(&mut self.shares) {
                let user = users.user(link, side);
                let (channel, backlog) =
                    user.map_or_else(Default::default, |user| user.demand(start, end));
                *share = SlotShare {
                    channel: most.map_or(channel, |most| channel.min(most)),
                    backlog,
                    granted: Carried::default(),
                };
            }
            scheduler.divide(&mut self.shares);
            for (&(link, _), share) in self.members.iter().zip(&self.shares) {
                if let Some(user) = users.user(link, side) {
                    user.grant(start, end, share.granted);
                }
            }
        }
        self.next_slot = slot + 1;
    }
}

#[cfg(test)]
mod tests;
