//! One direction of the relay: the frames that wait, and their due times.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::mpsc::SyncSender;

use hexloop_traces::Direction;
use hexloop_workloads::clock::{self, ClockPair, MonotonicNs};

use super::{Play, RelaySizes, ShaperWindow};
use crate::link::ETHERNET_HEADER_BYTES;
use crate::link::books::WindowBooks;
use crate::link::histogram::NanosecondHistogram;
use crate::link::shaper::{Fate, Shaper};
use crate::sys::packet::{Frame, PacketSocket, SEND_BATCH};

/// Bounds on the frames that one direction can hold.
const FEWEST_SLOTS: u64 = 4096;
const MOST_SLOTS: u64 = 65_536;

/// Frames are assumed to be at least this long on average when the slots are counted.
const TYPICAL_FRAME_BYTES: u64 = 512;

struct Waiting {
    send_at: MonotonicNs,
    slot: u32,
    bytes: u32,
    /// Whether the trace made it wait: only then lateness means something.
    shaped: bool,
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
    free: Vec<u32>,
    waiting: VecDeque<Waiting>,
    playing: Option<Playing>,
    last_arrival: MonotonicNs,
    lateness: NanosecondHistogram,
}

impl Lane {
    pub(super) fn new(direction: Direction, sizes: RelaySizes) -> Lane {
        let frame_bytes = usize::try_from(sizes.mtu).unwrap_or(1500) + ETHERNET_HEADER_BYTES + 4;
        let slot_bytes = frame_bytes.next_multiple_of(64);
        let slots = sizes.held_bytes / TYPICAL_FRAME_BYTES;
        let slots = slots.clamp(FEWEST_SLOTS, MOST_SLOTS);
        let slots = u32::try_from(slots).unwrap_or(u32::MAX);
        let count = usize::try_from(slots).unwrap_or(0);
        Lane {
            direction,
            // Zeroed memory is untouched memory: pages appear as they are used.
            pool: vec![0; slot_bytes * count],
            slot_bytes,
            free: (0..slots).rev().collect(),
            waiting: VecDeque::with_capacity(count),
            playing: None,
            last_arrival: 0,
            lateness: NanosecondHistogram::new(),
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
        let most = self.waiting.capacity();
        self.lateness = NanosecondHistogram::new();
        self.playing = Some(Playing {
            t0: play.t0,
            shaper: Shaper::new(
                curve.clone(),
                play.settings.most_queue_bytes(play.mtu),
                most,
                play.seed,
                &purpose,
            ),
            books: WindowBooks::new(play.window_ns, play.longest_delay_ns),
        });
    }

    /// Ends the playback: what waits is due now.
    pub(super) fn finish(&mut self) -> NanosecondHistogram {
        self.playing = None;
        for waiting in &mut self.waiting {
            waiting.send_at = 0;
            waiting.shaped = false;
        }
        std::mem::replace(&mut self.lateness, NanosecondHistogram::new())
    }

    /// Takes in a frame that has arrived.
    pub(super) fn take_in(&mut self, frame: Frame<'_>, pair: ClockPair) {
        // Neither a step of the wall clock nor another CPU's clock may turn time back.
        let stamp = pair.to_monotonic(frame.realtime_ns).min(pair.monotonic_ns);
        let arrival = stamp.max(self.last_arrival);
        self.last_arrival = arrival;
        let (send_at, shaped) = match &mut self.playing {
            Some(playing) if arrival >= playing.t0 => {
                let arrival_ns = arrival - playing.t0;
                if self.free.is_empty() {
                    playing.books.dropped(arrival_ns);
                    return;
                }
                let ip_bytes = frame.wire_bytes.saturating_sub(ETHERNET_HEADER_BYTES);
                let ip_bytes = u64::try_from(ip_bytes).unwrap_or(0);
                match playing
                    .shaper
                    .on_packet(arrival_ns, ip_bytes, &mut playing.books)
                {
                    Fate::Due { send_at_ns } => (playing.t0.saturating_add(send_at_ns), true),
                    Fate::QueueFull | Fate::Lost => return,
                }
            }
            _ => (arrival, false),
        };
        let length = frame.bytes.len();
        if length > self.slot_bytes || length != frame.wire_bytes {
            return;
        }
        let Some(slot) = self.free.pop() else { return };
        let start = self.start_of(slot);
        self.pool[start..start + length].copy_from_slice(frame.bytes);
        let bytes = u32::try_from(length).unwrap_or(0);
        self.waiting.push_back(Waiting {
            send_at,
            slot,
            bytes,
            shaped,
        });
    }

    fn start_of(&self, slot: u32) -> usize {
        usize::try_from(slot).unwrap_or(0) * self.slot_bytes
    }

    /// When the next frame is due.
    pub(super) fn next_due(&self) -> Option<MonotonicNs> {
        self.waiting.front().map(|waiting| waiting.send_at)
    }

    /// Sends what is due.
    pub(super) fn send_due(&mut self, port: &PacketSocket) {
        loop {
            let now = clock::now();
            let mut batch = [IoSlice::new(&[]); SEND_BATCH];
            let mut count = 0;
            for waiting in self.waiting.iter().take(SEND_BATCH) {
                if waiting.send_at > now {
                    break;
                }
                let start = self.start_of(waiting.slot);
                let length = usize::try_from(waiting.bytes).unwrap_or(0);
                batch[count] = IoSlice::new(&self.pool[start..start + length]);
                count += 1;
            }
            if count == 0 {
                return;
            }
            // A frame that the interface refuses is lost, as on a real wire; the next may pass.
            let sent = port.send(&batch[..count]);
            for _ in 0..sent.as_ref().map_or(1, |&sent| sent.max(1)) {
                let Some(waiting) = self.waiting.pop_front() else {
                    break;
                };
                self.free.push(waiting.slot);
                if sent.is_err() {
                    self.note_refusal(now);
                } else if waiting.shaped {
                    self.lateness.record(now.saturating_sub(waiting.send_at));
                }
            }
        }
    }

    fn note_refusal(&mut self, now: MonotonicNs) {
        if let Some(playing) = &mut self.playing {
            playing.books.dropped(now.saturating_sub(playing.t0));
        }
    }

    /// Reports the windows that have ended.
    pub(super) fn close_windows(&mut self, now: MonotonicNs, windows: &SyncSender<ShaperWindow>) {
        let Some(playing) = &mut self.playing else {
            return;
        };
        let Some(now_ns) = now.checked_sub(playing.t0) else {
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
