//! One direction of the relay: the frames that wait, and their due times.

mod pool;
mod send;

use std::collections::VecDeque;
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
use pool::FramePool;

/// A frame that is due.
struct Ready {
    due: MonotonicNs,
    slot: u32,
    /// Whether the trace made it wait: only then lateness means something.
    shaped: bool,
}

struct Playing {
    t0: MonotonicNs,
    shaper: Shaper,
    books: WindowBooks,
}

/// One direction. After construction it allocates nothing per packet: where more packets wait than was
/// expected (small ones, or after a change of delay, rate or queue), it gets room for many more at once.
pub(super) struct Lane {
    direction: Direction,
    frames: FramePool,
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
        let frames = FramePool::new(sizes.mtu, sizes.held_bytes);
        Lane {
            direction,
            ready: VecDeque::with_capacity(frames.slots()),
            frames,
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
                    most_packets: self.frames.slots(),
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
        if !self.frames.fits(length) || length != frame.wire_bytes {
            self.trouble.note_too_long(frame.wire_bytes);
            return;
        }
        match &self.playing {
            Some(playing) if arrival >= playing.t0 => {
                self.shape(&frame, arrival, arrival - playing.t0);
            }
            _ => {
                let Some(slot) = self.frames.take() else {
                    return;
                };
                self.frames.fill(slot, &frame, arrival);
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
            let Some(slot) = self.frames.take() else {
                // The trace did not ask for that.
                self.trouble.overflow += 1;
                break;
            };
            let packet = Packet {
                slot,
                ip_bytes,
                arrival_ns,
                ecn_capable,
            };
            match playing.shaper.enqueue(packet, &mut playing.books) {
                Admission::Dropped => self.frames.give_back(slot),
                Admission::Taken { corrupt } => {
                    self.frames.fill(slot, frame, arrival);
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
                Edit::Discard { slot } => self.frames.give_back(slot),
                Edit::Mark { slot } => ecn::mark(self.frames.frame_mut(slot)),
            }
        }
    }

    /// Flips a bit. The checksum is finished first: one that is computed on the way would make
    /// the damage go unnoticed.
    fn corrupt(&mut self, slot: u32, draw: u32) {
        let header = self.frames.header(slot);
        complete_checksum(self.frames.frame_mut(slot), header);
        self.frames.set_header(slot, VirtioHeader::default());
        flip_bit(self.frames.frame_mut(slot), draw);
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
    use std::sync::mpsc::sync_channel;

    use hexloop_traces::{CapacityCurve, EndPolicy, LinkSettings};
    use proptest::prelude::*;

    use super::*;
    use crate::link::testing::{MS, state, trace};

    /// A lane for few full packets that plays 1 Mbit/s from moment 0 on, with a queue of 300 kB.
    fn playing_lane() -> Lane {
        let sizes = RelaySizes {
            mtu: 1500,
            held_bytes: 30_000,
        };
        let trace = trace(EndPolicy::Hold, &[(1000 * MS, state(1_000_000, 0))]);
        let (windows, _) = sync_channel(64);
        let mut lane = Lane::new(Direction::Up, sizes, None);
        lane.start(&Play {
            t0: 0,
            curves: Direction::BOTH.map(|direction| CapacityCurve::new(&trace, direction)),
            settings: LinkSettings::drop_tail(300_000),
            mtu: 1500,
            window_ns: 10 * MS,
            longest_delay_ns: 1000 * MS,
            seed: 1,
            windows,
            pause: None,
            shares_cell: false,
        });
        lane
    }

    /// A packet with this number, behind an Ethernet header, comes 1 ms after the start.
    fn bring(lane: &mut Lane, number: u32, ip_bytes: usize) {
        let mut bytes = vec![0; ETHERNET_HEADER_BYTES + ip_bytes];
        bytes[ETHERNET_HEADER_BYTES..][..4].copy_from_slice(&number.to_be_bytes());
        let frame = Frame {
            bytes: &bytes,
            wire_bytes: bytes.len(),
            realtime_ns: MS,
            virtio: VirtioHeader::default(),
        };
        let pair = ClockPair {
            monotonic_ns: MS,
            realtime_ns: MS,
        };
        lane.take_in(frame, pair);
    }

    #[test]
    fn a_queue_of_many_small_packets_is_held_as_it_was_asked_for() {
        const PACKETS: u32 = 5000;
        let mut lane = playing_lane();
        for number in 0..PACKETS {
            bring(&mut lane, number, 52);
        }
        lane.finish();
        assert_eq!(lane.take_trouble(), Trouble::default());
        let numbers: Vec<u32> = lane
            .ready
            .iter()
            .map(|ready| {
                let payload = &lane.frames.frame(ready.slot)[ETHERNET_HEADER_BYTES..];
                u32::from_be_bytes(payload[..4].try_into().unwrap())
            })
            .collect();
        assert!(numbers.into_iter().eq(0..PACKETS));
    }

    #[test]
    fn the_queue_drops_at_its_own_limit_alone() {
        let mut lane = playing_lane();
        for number in 0..300 {
            bring(&mut lane, number, 1500);
        }
        lane.finish();
        // 300 kB.
        assert_eq!(lane.ready.len(), 200);
        assert_eq!(lane.take_trouble(), Trouble::default());
    }

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
