//! The cells that some of the links share.

use hexloop_workloads::clock::{ClockPair, MonotonicNs};

use super::{ExactWorker, ITEMS, Sending, Served};
use crate::link::relay::cell::{Cell, CellSeat, CellUser, CellUsers};

impl CellUsers for [Option<Box<Served>>] {
    fn user(&mut self, link: usize, side: usize) -> Option<&mut dyn CellUser> {
        let served = self.get_mut(link)?.as_mut()?;
        served.in_cell?;
        Some(&mut served.lanes[side])
    }
}

impl ExactWorker {
    /// Gives a link its place in a cell, and returns the number of that.
    pub(super) fn join(&mut self, link: usize, seat: &CellSeat) -> usize {
        let same = |cell: &Option<Cell>| {
            let cell = cell.as_ref();
            cell.is_some_and(|cell| std::ptr::eq(&*cell.shared, &*seat.cell))
        };
        let number = self.cells.iter().position(same).unwrap_or_else(|| {
            let free = self.cells.iter().position(Option::is_none);
            let number = free.unwrap_or(self.cells.len());
            if free.is_none() {
                self.cells.push(None);
            }
            self.cells[number] = Some(Cell::new(seat.cell.clone()));
            number
        });
        if let Some(cell) = &mut self.cells[number] {
            cell.join(link, seat.weight);
        }
        number
    }

    /// Takes a link out of its cell.
    pub(super) fn leave(&mut self, link: usize, number: usize) {
        let Some(place) = self.cells.get_mut(number) else {
            return;
        };
        if let Some(cell) = place {
            cell.leave(link);
        }
        if place.as_ref().is_some_and(Cell::is_empty) {
            *place = None;
            self.cell_agenda.set(number, None);
        }
    }

    /// Sees to it that the cell is looked at when the next slot begins after something came.
    pub(super) fn wake_cell(&mut self, number: usize, since: MonotonicNs) {
        if let Some(Some(cell)) = self.cells.get(number) {
            self.cell_agenda
                .bring_forward(number, cell.start_for(since));
        }
    }

    /// Divides the slots that have begun.
    pub(super) fn divide_slots(&mut self, now: MonotonicNs) {
        let mut due = std::mem::take(&mut self.due);
        self.cell_agenda.take_due(now, &mut due);
        for &number in &due {
            self.divide_slots_of(number);
        }
        self.due = due;
    }

    fn divide_slots_of(&mut self, number: usize) {
        // Out of its place, so that nothing that is taken in wakes it.
        let Some(mut cell) = self.cells.get_mut(number).and_then(Option::take) else {
            return;
        };
        let pair = ClockPair::read();
        for link in cell.members() {
            for side in 0..2 {
                self.serve(link, side, pair, Sending::Now);
            }
        }
        let (mut first, mut seen) = (None, pair.monotonic_ns);
        for lane in self.lanes_of(&cell) {
            seen = seen.min(lane.seen_until());
            first = first.into_iter().chain(lane.waiting_since()).min();
        }
        if let Some(since) = first {
            let mut start = cell.start_for(since);
            while start <= seen {
                cell.divide(start, self.links.as_mut_slice());
                start = cell.next_start();
            }
        }
        for link in cell.members() {
            let Some(Some(served)) = self.links.get(link) else {
                continue;
            };
            for (side, lane) in served.lanes.iter().enumerate() {
                if let Some(due) = lane.next_due() {
                    self.agenda.bring_forward(link * ITEMS + side, due);
                }
            }
        }
        // A lane that is not watched has to be looked at before every slot.
        let busy = first.is_some() || self.lanes_are_unwatched(&cell);
        let next = busy.then(|| {
            cell.start_for(seen.saturating_add(1))
                .max(cell.next_start())
        });
        self.cell_agenda.set(number, next);
        self.cells[number] = Some(cell);
    }

    fn served_of(&self, cell: &Cell) -> impl Iterator<Item = &Served> {
        cell.members().filter_map(|link| {
            let served = self.links.get(link)?.as_deref()?;
            served.in_cell.map(|_| served)
        })
    }

    fn lanes_of(&self, cell: &Cell) -> impl Iterator<Item = &super::Lane> {
        self.served_of(cell).flat_map(|served| &served.lanes)
    }

    fn lanes_are_unwatched(&self, cell: &Cell) -> bool {
        self.served_of(cell)
            .any(|served| served.watched != [true; 2])
    }
}
