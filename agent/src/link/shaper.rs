//! When each packet of one direction is due, and what else becomes of it: the trace as exact
//! arithmetic on arrival times.
//!
//! Nothing here reads a clock. Everything happens at a logical moment that follows from arrivals,
//! trace and settings alone; [`Shaper::advance`] does what is to happen by a moment, and whoever
//! calls it late changes nothing but lateness.
//!
//! - On arrival the packet may be lost or duplicated (before the queue: a lost packet takes no
//!   capacity, a duplicate takes its own), then it finds room in the queue or not.
//! - The packet at the head begins its service at `s`, the later of its arrival and the end `f`
//!   of the packet before; there the discipline may drop or mark it. It is through at
//!   `f = C^-1(C(s) + bits)`, where C is the integral of the rate. In opportunities, C(s) counts
//!   from the start of the slot in which it came, and `f` is the end of a slot.
//! - It is due at the receiver at `f + delay(f)` and some jitter; unless reordering is asked for,
//!   never before the packet ahead of it.
//!
//! On a link of a cell, what the trace gives is only what the link could carry; what counts is
//! what the cell grants it, slot by slot.
//!
//! The queue holds what has not been sent wholly, the packet in service included.

mod codel;
mod discipline;
pub(super) mod ecn;
mod fates;
mod flight;
mod grants;
mod line;
mod loss;
mod outcome;
mod pie;
mod service;

use std::collections::VecDeque;

use hexloop_traces::{
    Carried, Intervention, LinkChange, LinkSettings, LinkState, QueueLimit, Schedule, Service,
    SettingsChange, UNLIMITED_RATE_BPS,
};

use super::books::{WindowBook, WindowBooks};
use codel::Action;
use discipline::Discipline;
use fates::Fates;
use flight::Flight;
use grants::Grants;
use line::WaitingLine;
use service::{Server, Serving, Supply};

pub(crate) use flight::Departure;
pub(crate) use grants::Slot;
pub(crate) use line::Packet;
pub(crate) use outcome::{Admission, Arrival, Edit, ShaperSetup};

/// The shortest slot of 5G NR below its numerology 5: 62.5 us (3GPP TS 38.211, table 4.3.2-1).
const SHORTEST_SLOT_NS: u64 = 62_500;

/// One direction of a link, playing its trace.
#[derive(Debug)]
pub(crate) struct Shaper {
    schedule: Schedule,
    /// Where a cell divides the capacity.
    grants: Option<Grants>,
    settings: LinkSettings,
    mtu: u32,
    seed: u64,
    purpose: String,
    line: WaitingLine,
    /// When the head of the line begins its service, as things stand; `u64::MAX` if never.
    head_start_ns: u64,
    server: Server,
    /// When the last packet that was served would be at the receiver without jitter, in order.
    arrival_ns: u64,
    /// The latest due time so far.
    last_due_ns: u64,
    flight: Flight,
    discipline: Discipline,
    fates: Fates,
    /// What is still to change, and when, in order.
    changes: VecDeque<(u64, SettingsChange)>,
    edits: Vec<Edit>,
    /// Everything before this moment is done.
    now_ns: u64,
}

impl Shaper {
    /// A shaper with an empty queue at T0.
    pub(crate) fn new(
        schedule: Schedule,
        settings: LinkSettings,
        setup: ShaperSetup<'_>,
    ) -> Shaper {
        let ShaperSetup {
            mtu,
            most_packets,
            seed,
            purpose,
            granted,
        } = setup;
        let settings = possible(settings);
        Shaper {
            schedule,
            grants: granted.then_some(Grants::NONE),
            settings,
            mtu,
            seed,
            purpose: purpose.to_owned(),
            line: WaitingLine::new(most_packets),
            head_start_ns: u64::MAX,
            server: Server::default(),
            arrival_ns: 0,
            last_due_ns: 0,
            flight: Flight::new(most_packets),
            discipline: Discipline::new(settings.discipline, mtu, 0, seed, purpose),
            fates: Fates::new(seed, purpose),
            changes: VecDeque::new(),
            // Every packet is marked and discarded once at most.
            edits: Vec::with_capacity(2 * most_packets),
            now_ns: 0,
        }
    }

    /// Whether marks are asked for, so that packets need be looked at.
    pub(crate) const fn marks(&self) -> bool {
        self.settings.ecn
    }

    /// A packet comes at `arrival_ns`. Arrivals must not go back in time.
    pub(crate) fn arrive(&mut self, arrival_ns: u64, books: &mut WindowBooks) -> Arrival {
        self.advance(arrival_ns, books);
        let state = self.schedule.state_at(arrival_ns);
        if self.fates.loses(&state) {
            books.lost(arrival_ns);
            return Arrival::Lost;
        }
        let duplicated = self.fates.duplicates(&state);
        if duplicated {
            books.duplicated(arrival_ns);
        }
        Arrival::Arrives { duplicated }
    }

    /// A packet that was not lost comes to the queue.
    pub(crate) fn enqueue(&mut self, packet: Packet, books: &mut WindowBooks) -> Admission {
        let arrival_ns = packet.arrival_ns;
        self.advance(arrival_ns, books);
        let state = self.schedule.state_at(arrival_ns);
        if !self.make_room(&packet, &state, books) {
            self.discipline.on_overflow();
            books.dropped(arrival_ns);
            return Admission::Dropped;
        }
        let bytes = self.line.bytes();
        match self
            .discipline
            .on_arrival(&packet, bytes, self.settings.ecn)
        {
            Some(Action::Drop) => {
                books.dropped(arrival_ns);
                return Admission::Dropped;
            }
            Some(Action::Mark) => {
                books.marked(arrival_ns);
                self.edits.push(Edit::Mark { slot: packet.slot });
            }
            None => {}
        }
        let corrupt = self.fates.corrupts(&state);
        if corrupt.is_some() {
            books.corrupted(arrival_ns);
        }
        self.line.push(packet);
        if self.line.packets() == 1 {
            self.look_at_head();
        }
        self.advance(arrival_ns, books);
        if self.held_bytes() > 0 {
            books.queue(arrival_ns, self.held_bytes());
        }
        Admission::Taken { corrupt }
    }

    /// Whether there is room for the packet; with drop-head, older ones go for it.
    fn make_room(&mut self, packet: &Packet, state: &LinkState, books: &mut WindowBooks) -> bool {
        let limit = match state.queue_bytes {
            0 => self.settings.queue,
            bytes => QueueLimit::Bytes(u64::from(bytes)),
        };
        let mut dropped_any = false;
        let fits = loop {
            let held = self.line.packets() + usize::from(self.server.serving().is_some());
            let fits = match limit {
                // However small the queue, one packet can pass.
                _ if held == 0 => true,
                QueueLimit::Bytes(most) => self.held_bytes() + u64::from(packet.ip_bytes) <= most,
                QueueLimit::Packets(most) => {
                    u64::try_from(held).unwrap_or(u64::MAX) < u64::from(most)
                }
            };
            if fits || !matches!(self.discipline, Discipline::DropHead) {
                break fits;
            }
            let Some(oldest) = self.line.pop() else {
                break false;
            };
            dropped_any = true;
            books.dropped(packet.arrival_ns);
            self.edits.push(Edit::Discard { slot: oldest.slot });
        };
        if dropped_any {
            self.look_at_head();
        }
        fits
    }

    /// Bytes that have not been sent wholly.
    fn held_bytes(&self) -> u64 {
        let serving = self.server.serving();
        self.line.bytes() + serving.map_or(0, |serving| u64::from(serving.ip_bytes))
    }

    /// Does everything that is to happen by `to_ns`.
    pub(crate) fn advance(&mut self, to_ns: u64, books: &mut WindowBooks) {
        self.now_ns = self.now_ns.max(to_ns);
        loop {
            if let Some(serving) = self.server.serving() {
                if serving.finish_ns > to_ns {
                    break;
                }
                self.server.end();
                self.send_off(serving);
                if self.line.packets() == 0 {
                    self.discipline.on_idle();
                }
            }
            if self.head_start_ns > to_ns || self.line.packets() == 0 {
                break;
            }
            if !self.change_settings_by(self.head_start_ns) {
                self.serve_head(books);
            }
        }
        while self.change_settings_by(to_ns) {}
        self.discipline.update_until(to_ns);
    }

    /// Lets the packet at the head begin, unless the discipline takes another.
    fn serve_head(&mut self, books: &mut WindowBooks) {
        let start_ns = self.head_start_ns;
        let ecn = self.settings.ecn;
        let edits = &mut self.edits;
        let mut act = |action, packet: Packet| {
            let slot = packet.slot;
            match action {
                Action::Drop => {
                    books.dropped(start_ns);
                    edits.push(Edit::Discard { slot });
                }
                Action::Mark => {
                    books.marked(start_ns);
                    edits.push(Edit::Mark { slot });
                }
            }
        };
        let packet = self
            .discipline
            .take(start_ns, &mut self.line, ecn, &mut act);
        if let Some(packet) = packet {
            let draw = self.fates.jitter();
            let free_ns = self.server.free_ns();
            let supply = Supply {
                schedule: &self.schedule,
                service: self.settings.service,
                grants: self.grants.as_ref(),
            };
            let state = self.server.begin(&packet, start_ns, draw, supply);
            let unlimited = state.rate_bps == UNLIMITED_RATE_BPS && self.grants.is_none();
            if let Some(gap_end_ns) = service::gap_before(&packet, start_ns, free_ns, unlimited) {
                // The receiver sees the gap a delay later.
                books.idle(self.arrival_ns, gap_end_ns.saturating_add(state.delay_ns));
            }
            self.find_due();
        }
        self.look_at_head();
    }

    const fn supply(&self) -> Supply<'_> {
        Supply {
            schedule: &self.schedule,
            service: self.settings.service,
            grants: self.grants.as_ref(),
        }
    }

    /// Computes anew what is in service, and when the head of the line begins.
    fn rescale(&mut self) {
        self.server.rescale(Supply {
            schedule: &self.schedule,
            service: self.settings.service,
            grants: self.grants.as_ref(),
        });
        self.find_due();
        self.look_at_head();
    }

    /// What this direction brings to a slot of its cell: what it could carry in all of it, and
    /// what waits at its start. Slots must follow one another.
    pub(crate) fn demand(&mut self, slot: Slot, books: &mut WindowBooks) -> (Carried, Carried) {
        self.advance(slot.start_ns, books);
        let Some(grants) = &self.grants else {
            return (Carried::default(), Carried::default());
        };
        let carried = |t_ns| self.schedule.carried_by(t_ns);
        let channel = carried(slot.end_ns).since(carried(slot.start_ns));
        let begun = self
            .server
            .wanted()
            .map_or(Carried::default(), |target| grants.missing(target));
        let backlog = begun.and_bits(self.line.bytes_by(slot.start_ns) * 8);
        (channel, backlog)
    }

    /// What the cell grants in the slot that was asked for last.
    pub(crate) fn grant(&mut self, slot: Slot, granted: Carried, books: &mut WindowBooks) {
        let Some(grants) = &mut self.grants else {
            return;
        };
        grants.add(slot, granted);
        let delay_ns = self.schedule.state_at(slot.end_ns).delay_ns;
        books.granted(slot.end_ns.saturating_add(delay_ns), granted);
        self.rescale();
    }

    /// Since when something has waited to be sent, if anything does.
    pub(crate) fn waiting_since_ns(&self) -> Option<u64> {
        if self.server.serving().is_some() {
            return Some(0);
        }
        self.line.head().map(|head| head.arrival_ns)
    }

    /// Computes anew when the head of the line begins.
    fn look_at_head(&mut self) {
        self.head_start_ns = match self.line.head() {
            Some(head) => self.server.start_ns(head, self.supply()),
            None => u64::MAX,
        };
    }

    /// Computes when the packet in service is due.
    fn find_due(&mut self) {
        let Some(serving) = self.server.serving() else {
            return;
        };
        if serving.finish_ns == u64::MAX {
            self.server.set_due(u64::MAX, u64::MAX);
            return;
        }
        let state = self.schedule.state_at(serving.finish_ns);
        let undisturbed_ns = serving.finish_ns.saturating_add(state.delay_ns);
        let jittered_ns = jittered(undisturbed_ns, state.jitter_ns, serving.draw);
        let earliest_ns = if self.settings.reorder {
            serving.finish_ns
        } else {
            serving.finish_ns.max(self.last_due_ns)
        };
        self.server
            .set_due(undisturbed_ns, jittered_ns.max(earliest_ns));
    }

    /// A packet is through the bottleneck.
    fn send_off(&mut self, serving: Serving) {
        self.arrival_ns = self.arrival_ns.max(serving.undisturbed_ns);
        let departure = Departure {
            slot: serving.slot,
            due_ns: serving.due_ns,
        };
        if serving.due_ns >= self.last_due_ns {
            self.flight.push_last(departure);
            self.last_due_ns = serving.due_ns;
        } else {
            self.flight.push(departure);
        }
    }

    /// The next packet that is due by `now_ns`, to which the shaper has advanced.
    pub(crate) fn pop_due(&mut self, now_ns: u64) -> Option<Departure> {
        self.flight.pop_due(now_ns)
    }

    /// When to look again. No packet is due earlier; where packets stay in order, that is when
    /// the next one is due, or the one before the next.
    pub(crate) fn next_look_ns(&self) -> Option<u64> {
        let serving = self.server.serving();
        let last_due_ns = serving.map_or(self.last_due_ns, |serving| serving.due_ns);
        let head_ns = (self.line.packets() > 0).then(|| {
            if self.settings.reorder {
                self.head_start_ns
            } else {
                self.head_start_ns.max(last_due_ns)
            }
        });
        let due_ns = serving.map(|serving| serving.due_ns);
        let flight_ns = self.flight.next_due_ns();
        due_ns.into_iter().chain(head_ns).chain(flight_ns).min()
    }

    /// What the owner of the packets has to do, one by one.
    pub(crate) fn next_edit(&mut self) -> Option<Edit> {
        self.edits.pop()
    }

    /// Takes out every packet in the order in which they would leave; calls must go on until
    /// there is none.
    pub(crate) fn give_up_next(&mut self) -> Option<u32> {
        if let Some(departure) = self.flight.pop_due(u64::MAX) {
            return Some(departure.slot);
        }
        if let Some(serving) = self.server.serving() {
            self.server.end();
            return Some(serving.slot);
        }
        self.line.pop().map(|packet| packet.slot)
    }

    /// Changes what is played or how, from `at_ns` on or, if that is gone by, from now on. What
    /// is in service is rescaled. Returns from when on the change holds.
    pub(crate) fn change(&mut self, at_ns: u64, change: LinkChange) -> u64 {
        let at_ns = at_ns.max(self.now_ns);
        match change {
            LinkChange::Play(change) => {
                self.schedule.apply(Intervention { at_ns, change });
                self.rescale();
            }
            LinkChange::Set(change) => {
                let index = self.changes.partition_point(|(at, _)| *at <= at_ns);
                self.changes.insert(index, (at_ns, change));
            }
        }
        at_ns
    }

    /// Makes the next change of settings if it is due by `by_ns`.
    fn change_settings_by(&mut self, by_ns: u64) -> bool {
        let Some(&(at_ns, change)) = self.changes.front() else {
            return false;
        };
        if at_ns > by_ns {
            return false;
        }
        self.changes.pop_front();
        let settings = change.over(self.settings);
        if settings.discipline != self.settings.discipline {
            let (asked, purpose) = (settings.discipline, &self.purpose);
            self.discipline = Discipline::new(asked, self.mtu, at_ns, self.seed, purpose);
        }
        self.settings = settings;
        self.find_due();
        true
    }

    /// Closes the books of the next window if all of it lies before `now_ns`.
    pub(crate) fn close_window(
        &mut self,
        now_ns: u64,
        books: &mut WindowBooks,
    ) -> Option<(u64, WindowBook)> {
        self.advance(now_ns, books);
        // Were a packet to come now, the receiver would have seen a gap since the last one.
        let idle = self.server.serving().is_none() && self.line.packets() == 0;
        let idle = idle && self.server.free_ns() < now_ns;
        books.close(now_ns, idle.then_some(self.arrival_ns), self.held_bytes())
    }

    #[cfg(test)]
    fn capacities(&self) -> [usize; 5] {
        let [in_order, any_order] = self.flight.capacities();
        [
            self.line.capacity(),
            in_order,
            any_order,
            self.changes.capacity(),
            self.edits.capacity(),
        ]
    }
}

/// The settings with a slot no shorter than can be served.
fn possible(settings: LinkSettings) -> LinkSettings {
    let service = match settings.service {
        Service::Fluid => Service::Fluid,
        Service::Opportunities { slot_ns } => Service::Opportunities {
            slot_ns: slot_ns.max(SHORTEST_SLOT_NS),
        },
    };
    LinkSettings {
        service,
        ..settings
    }
}

/// A moment moved by what was drawn, within half the width before and after it.
fn jittered(moment_ns: u64, half_width_ns: u32, draw: u32) -> u64 {
    if half_width_ns == 0 {
        return moment_ns;
    }
    let width = 2 * u64::from(half_width_ns) + 1;
    let drawn = (u64::from(draw) * width) >> 32;
    moment_ns
        .saturating_add(drawn)
        .saturating_sub(u64::from(half_width_ns))
}

#[cfg(test)]
mod tests;
