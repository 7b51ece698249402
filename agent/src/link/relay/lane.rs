//! One direction of the relay: the frames that wait, and their due times.

mod send;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::mpsc::SyncSender;

use hexloop_traces::{Carried, Direction, LinkChange, Schedule};
use hexloop_workloads::clock::{self, ClockPair, MonotonicNs};

use super::cell::CellUser;
use super::checksum::complete_checksum;
use super::observer::Observer;
use super::trouble::Trouble;
use super::{Joined, Play, RelaySizes, ShaperWindow};
use crate::link::ETHERNET_HEADER_BYTES;
use crate::link::books::WindowBooks;
use crate::link::histogram::NanosecondHistogram;
use crate::link::shaper::{Admission, Arrival, Edit, Packet, Shaper, ShaperSetup, Slot, ecn};
use crate::sys::packet::{Frame, VirtioHeader};

/// Bounds on the frames that one direction can hold.
const FEWEST_SLOTS: u64 = 1024;
const MOST_SLOTS: u64 = 65_536;

/// Frames are assumed to be at least this long on average when the slots are counted.
const TYPICAL_FRAME_BYTES: u64 = 512;

/// Each slot begins with room for the virtio header, which ends where the frame begins.
const HEADER_ROOM_BYTES: usize = 16;

/// A frame that is due.
struct Ready {
    due: MonotonicNs,
    slot: u32,
    /// Whether the trace made it wait: only then lateness means something.
    shaped: bool,
}

/// What is known of the frame in a slot.
#[derive(Clone, Copy, Default)]
struct Held {
    arrival: MonotonicNs,
    bytes: u32,
}

struct Playing {
    t0: MonotonicNs,
    shaper: Shaper,
    books: WindowBooks,
}

/// One direction. After construction it allocates nothing per packet.
pub(super) struct Lane {
    direction: Direction,
    pool: Vec<u8>,
    slot_bytes: usize,
    held: Vec<Held>,
    free: Vec<u32>,
    /// Frames that are due, in the order of their departure. What waits is the shaper's.
    ready: VecDeque<Ready>,
    playing: Option<Playing>,
    last_arrival: MonotonicNs,
    /// Every frame that arrived before has been taken in.
    seen_until: MonotonicNs,
    lateness: NanosecondHistogram,
    /// Of the last frames, not counted yet.
    late_ns: Vec<u64>,
    trouble: Trouble,
    observer: Option<Observer>,
    /// Nothing is sent before, because the socket was full.
    not_before: MonotonicNs,
    joined: Joined,
    /// The interface takes no super-packets.
    joined_refused: bool,
}

impl Lane {
    pub(super) fn new(direction: Direction, sizes: RelaySizes, observer: Option<Observer>) -> Lane {
        let frame_bytes = usize::try_from(sizes.mtu).unwrap_or(1500) + ETHERNET_HEADER_BYTES + 4;
        let slot_bytes = (HEADER_ROOM_BYTES + frame_bytes).next_multiple_of(64);
        let slots = sizes.held_bytes / TYPICAL_FRAME_BYTES;
        let slots = slots.clamp(FEWEST_SLOTS, MOST_SLOTS);
        let slots = u32::try_from(slots).unwrap_or(u32::MAX);
        let count = usize::try_from(slots).unwrap_or(0);
        Lane {
            direction,
            // Zeroed memory is untouched memory: pages appear as they are used.
            pool: vec![0; slot_bytes * count],
            slot_bytes,
            held: vec![Held::default(); count],
            free: (0..slots).rev().collect(),
            ready: VecDeque::with_capacity(count),
            playing: None,
            last_arrival: 0,
            seen_until: 0,
            lateness: NanosecondHistogram::new(),
            late_ns: Vec::with_capacity(send::LATE_BATCH),
            trouble: Trouble::default(),
            observer,
            not_before: 0,
            joined: Joined::default(),
            joined_refused: false,
        }
    }

    /// Plays a trace from its beginning.
    pub(super) fn start(&mut self, play: &Play) {
        let [down, up] = &play.curves;
        let curve = if self.direction == Direction::Down {
            down
        } else {
            up
        };
        let purpose = format!("link {}", self.direction.name());
        self.lateness = NanosecondHistogram::new();
        self.late_ns.clear();
        self.joined = Joined::default();
        self.playing = Some(Playing {
            t0: play.t0,
            shaper: Shaper::new(
                Schedule::new(curve.clone()),
                play.settings,
                ShaperSetup {
                    mtu: play.mtu,
                    most_packets: self.held.len(),
                    seed: play.seed,
                    purpose: &purpose,
                    granted: play.shares_cell,
                },
            ),
            books: if play.shares_cell {
                WindowBooks::of_a_cell(play.window_ns, play.longest_delay_ns)
            } else {
                WindowBooks::new(play.window_ns, play.longest_delay_ns)
            },
        });
    }

    /// What went wrong since the last call.
    pub(super) fn take_trouble(&mut self) -> Trouble {
        std::mem::take(&mut self.trouble)
    }

    /// Ends the playback: what waits is due now.
    pub(super) fn finish(&mut self) -> NanosecondHistogram {
        if let Some(mut playing) = self.playing.take() {
            while let Some(slot) = playing.shaper.give_up_next() {
                self.ready.push_back(Ready {
                    due: 0,
                    slot,
                    shaped: false,
                });
            }
        }
        send::count(&mut self.lateness, &mut self.late_ns);
        std::mem::replace(&mut self.lateness, NanosecondHistogram::new())
    }

    /// Takes in a frame that has arrived.
    pub(super) fn take_in(&mut self, frame: Frame<'_>, pair: ClockPair) {
        // Neither a step of the wall clock nor another CPU's clock may turn time back.
        let stamp = pair.to_monotonic(frame.realtime_ns).min(pair.monotonic_ns);
        let arrival = stamp.max(self.last_arrival);
        self.last_arrival = arrival;
        let length = frame.bytes.len();
        if HEADER_ROOM_BYTES + length > self.slot_bytes || length != frame.wire_bytes {
            self.trouble.note_too_long(frame.wire_bytes);
            return;
        }
        match &self.playing {
            Some(playing) if arrival >= playing.t0 => {
                self.shape(&frame, arrival, arrival - playing.t0);
            }
            _ => {
                let Some(slot) = self.free.pop() else { return };
                self.fill(slot, &frame, arrival);
                self.ready.push_back(Ready {
                    due: arrival,
                    slot,
                    shaped: false,
                });
            }
        }
    }

    /// To be called after frames were taken in, with the clocks as they read before that, and
    /// whether more may wait. What is decided about packets must not run ahead of those that
    /// nobody has looked at yet: then being late changes nothing but lateness.
    pub(super) fn has_received(&mut self, pair: ClockPair, more: bool) {
        self.seen_until = if more {
            self.last_arrival
        } else {
            pair.monotonic_ns
        };
    }

    /// Until when every frame that arrived has been taken in.
    pub(super) const fn seen_until(&self) -> MonotonicNs {
        self.seen_until
    }

    /// Since when something has waited to be sent, if anything does.
    pub(super) fn waiting_since(&self) -> Option<MonotonicNs> {
        let playing = self.playing.as_ref()?;
        Some(playing.t0 + playing.shaper.waiting_since_ns()?)
    }

    /// Hands a frame to the shaper, once for each copy of it.
    fn shape(&mut self, frame: &Frame<'_>, arrival: MonotonicNs, arrival_ns: u64) {
        let Some(playing) = &mut self.playing else {
            return;
        };
        let ip_bytes = frame.bytes.len().saturating_sub(ETHERNET_HEADER_BYTES);
        let ip_bytes = u32::try_from(ip_bytes).unwrap_or(0);
        let copies = match playing.shaper.arrive(arrival_ns, &mut playing.books) {
            Arrival::Lost => 0,
            Arrival::Arrives { duplicated } => 1 + u8::from(duplicated),
        };
        let ecn_capable = playing.shaper.marks() && ecn::is_capable(frame.bytes);
        for _ in 0..copies {
            let Some(playing) = &mut self.playing else {
                return;
            };
            let Some(slot) = self.free.pop() else {
                playing.books.dropped(arrival_ns);
                break;
            };
            let packet = Packet {
                slot,
                ip_bytes,
                arrival_ns,
                ecn_capable,
            };
            match playing.shaper.enqueue(packet, &mut playing.books) {
                Admission::Dropped => self.free.push(slot),
                Admission::Taken { corrupt } => {
                    self.fill(slot, frame, arrival);
                    if let Some(draw) = corrupt {
                        self.corrupt(slot, draw);
                    }
                }
            }
            self.obey_edits();
        }
        self.obey_edits();
    }

    /// Does to the frames what the shaper has decided about them.
    fn obey_edits(&mut self) {
        while let Some(playing) = &mut self.playing
            && let Some(edit) = playing.shaper.next_edit()
        {
            match edit {
                Edit::Discard { slot } => self.free.push(slot),
                Edit::Mark { slot } => ecn::mark(self.frame_mut(slot)),
            }
        }
    }

    fn held(&self, slot: u32) -> Held {
        self.held[usize::try_from(slot).unwrap_or(0)]
    }

    /// Where the frame of a slot begins, and where it ends.
    fn range_of(&self, slot: u32) -> Range<usize> {
        let start = usize::try_from(slot).unwrap_or(0) * self.slot_bytes + HEADER_ROOM_BYTES;
        start..start + usize::try_from(self.held(slot).bytes).unwrap_or(0)
    }

    fn frame_mut(&mut self, slot: u32) -> &mut [u8] {
        let range = self.range_of(slot);
        &mut self.pool[range]
    }

    fn header(&self, slot: u32) -> VirtioHeader {
        let start = self.range_of(slot).start;
        self.pool[start - VirtioHeader::BYTES..start]
            .try_into()
            .map_or_else(|_| VirtioHeader::default(), VirtioHeader::from_bytes)
    }

    fn set_header(&mut self, slot: u32, header: VirtioHeader) {
        let start = self.range_of(slot).start;
        self.pool[start - VirtioHeader::BYTES..start].copy_from_slice(&header.to_bytes());
    }

    fn fill(&mut self, slot: u32, frame: &Frame<'_>, arrival: MonotonicNs) {
        self.held[usize::try_from(slot).unwrap_or(0)] = Held {
            arrival,
            bytes: u32::try_from(frame.bytes.len()).unwrap_or(0),
        };
        self.set_header(slot, frame.virtio);
        self.frame_mut(slot).copy_from_slice(frame.bytes);
    }

    /// Flips a bit. The checksum is finished first: one that is computed on the way would make
    /// the damage go unnoticed.
    fn corrupt(&mut self, slot: u32, draw: u32) {
        let header = self.header(slot);
        complete_checksum(self.frame_mut(slot), header);
        self.set_header(slot, VirtioHeader::default());
        flip_bit(self.frame_mut(slot), draw);
    }

    /// When there is something to do: no frame is due earlier.
    pub(super) fn next_due(&self) -> Option<MonotonicNs> {
        let due = match (self.ready.front(), &self.playing) {
            (Some(ready), _) => ready.due,
            (None, Some(playing)) => playing.t0.saturating_add(playing.shaper.next_look_ns()?),
            (None, None) => return None,
        };
        Some(due.max(self.not_before))
    }

    /// Gets from the shaper what is due by `now`.
    fn collect_due(&mut self, now: MonotonicNs) {
        let Some(playing) = &mut self.playing else {
            return;
        };
        let Some(now_ns) = now.checked_sub(playing.t0) else {
            return;
        };
        let seen_ns = self.seen_until.min(now).saturating_sub(playing.t0);
        playing.shaper.advance(seen_ns, &mut playing.books);
        while let Some(departure) = playing.shaper.pop_due(now_ns) {
            self.ready.push_back(Ready {
                due: playing.t0.saturating_add(departure.due_ns),
                slot: departure.slot,
                shaped: true,
            });
        }
        self.obey_edits();
    }

    /// What the receiving interface did not count since the last call.
    pub(super) fn take_joined(&mut self) -> Joined {
        std::mem::take(&mut self.joined)
    }

    /// Changes what is played or how, from `at` on or, if that is gone by, from now on. Returns
    /// the offset from T0 at which it takes hold; `None` while nothing plays.
    pub(super) fn change(&mut self, at: MonotonicNs, change: LinkChange) -> Option<u64> {
        let now = clock::now();
        self.collect_due(now);
        let playing = self.playing.as_mut()?;
        let at_ns = at.saturating_sub(playing.t0);
        Some(playing.shaper.change(at_ns, change))
    }

    /// Reports the windows that have ended.
    pub(super) fn close_windows(&mut self, now: MonotonicNs, windows: &SyncSender<ShaperWindow>) {
        let Some(playing) = &mut self.playing else {
            return;
        };
        let Some(now_ns) = self.seen_until.min(now).checked_sub(playing.t0) else {
            return;
        };
        while let Some((index, book)) = playing.shaper.close_window(now_ns, &mut playing.books) {
            // A window that finds no room is missing in the record, which counts it.
            let _ = windows.try_send(ShaperWindow {
                direction: self.direction,
                index,
                book,
            });
        }
    }

    /// When the next window can be closed.
    pub(super) fn next_close(&self) -> Option<MonotonicNs> {
        let playing = self.playing.as_ref()?;
        Some(playing.t0 + playing.books.next_close_ns())
    }
}

impl CellUser for Lane {
    fn demand(&mut self, start: MonotonicNs, end: MonotonicNs) -> (Carried, Carried) {
        match &mut self.playing {
            Some(playing) if start >= playing.t0 => {
                let slot = slot(playing.t0, start, end);
                playing.shaper.demand(slot, &mut playing.books)
            }
            _ => (Carried::default(), Carried::default()),
        }
    }

    fn grant(&mut self, start: MonotonicNs, end: MonotonicNs, granted: Carried) {
        if let Some(playing) = &mut self.playing
            && start >= playing.t0
        {
            let slot = slot(playing.t0, start, end);
            playing.shaper.grant(slot, granted, &mut playing.books);
        }
    }
}

const fn slot(t0: MonotonicNs, start: MonotonicNs, end: MonotonicNs) -> Slot {
    Slot {
        start_ns: start - t0,
        end_ns: end - t0,
    }
}

/// Flips one bit behind the Ethernet header, as netem does.
fn flip_bit(frame: &mut [u8], draw: u32) {
    let payload = frame.get_mut(ETHERNET_HEADER_BYTES..).unwrap_or_default();
    let bits = u64::try_from(payload.len()).unwrap_or(0) * 8;
    let bit = usize::try_from((u64::from(draw) * bits) >> 32).unwrap_or(0);
    if let Some(byte) = payload.get_mut(bit / 8) {
        *byte ^= 1 << (bit % 8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn damage_is_one_bit_behind_the_ethernet_header(length in 15_usize..200, draw: u32) {
            let mut frame = vec![0; length];
            flip_bit(&mut frame, draw);
            let flipped: u32 = frame.iter().map(|byte: &u8| byte.count_ones()).sum();
            prop_assert_eq!(flipped, 1);
            prop_assert!(frame[..ETHERNET_HEADER_BYTES].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn damage_can_hit_the_first_bit_and_the_last_and_spares_what_is_too_short() {
        let mut frame = vec![0; 20];
        flip_bit(&mut frame, 0);
        flip_bit(&mut frame, u32::MAX);
        assert_eq!((frame[14], frame[19]), (1, 0x80));
        let mut short = vec![0; 14];
        flip_bit(&mut short, 7);
        assert_eq!(short, vec![0; 14]);
    }
}
