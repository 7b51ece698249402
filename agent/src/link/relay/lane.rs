//! One direction of the relay: the frames that wait, and their due times.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::sync::mpsc::SyncSender;

use hexloop_traces::Direction;
use hexloop_workloads::clock::{self, ClockPair, MonotonicNs};

use super::observer::{Observer, PassedPacket};
use super::trouble::Trouble;
use super::{Play, RelaySizes, ShaperWindow};
use crate::link::ETHERNET_HEADER_BYTES;
use crate::link::books::WindowBooks;
use crate::link::histogram::NanosecondHistogram;
use crate::link::shaper::{Fate, Shaper};
use crate::sys::packet::{Frame, PacketSocket, SEND_BATCH, VirtioHeader};

/// Bounds on the frames that one direction can hold.
const FEWEST_SLOTS: u64 = 1024;
const MOST_SLOTS: u64 = 65_536;

/// Frames are assumed to be at least this long on average when the slots are counted.
const TYPICAL_FRAME_BYTES: u64 = 512;

/// Each slot begins with room for the virtio header, which ends where the frame begins.
const HEADER_ROOM_BYTES: usize = 16;

/// Frames sent before the other lanes get their turn.
const SEND_AT_MOST: usize = 4 * SEND_BATCH;

/// How long a full socket is left alone: whoever empties it needs the CPU too.
const RETRY_NS: u64 = 50_000;

struct Waiting {
    arrival: MonotonicNs,
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
    trouble: Trouble,
    observer: Option<Observer>,
    /// Nothing is sent before, because the socket was full.
    not_before: MonotonicNs,
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
            free: (0..slots).rev().collect(),
            waiting: VecDeque::with_capacity(count),
            playing: None,
            last_arrival: 0,
            lateness: NanosecondHistogram::new(),
            trouble: Trouble::default(),
            observer,
            not_before: 0,
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

    /// What went wrong since the last call.
    pub(super) fn take_trouble(&mut self) -> Trouble {
        std::mem::take(&mut self.trouble)
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
        if HEADER_ROOM_BYTES + length > self.slot_bytes || length != frame.wire_bytes {
            self.trouble.note_too_long(frame.wire_bytes);
            return;
        }
        let Some(slot) = self.free.pop() else { return };
        let start = self.start_of(slot);
        self.pool[start - VirtioHeader::BYTES..start].copy_from_slice(&frame.virtio.to_bytes());
        self.pool[start..start + length].copy_from_slice(frame.bytes);
        let bytes = u32::try_from(length).unwrap_or(0);
        self.waiting.push_back(Waiting {
            arrival,
            send_at,
            slot,
            bytes,
            shaped,
        });
    }

    /// Where the frame of a slot begins.
    fn start_of(&self, slot: u32) -> usize {
        usize::try_from(slot).unwrap_or(0) * self.slot_bytes + HEADER_ROOM_BYTES
    }

    /// When the next frame is due.
    pub(super) fn next_due(&self) -> Option<MonotonicNs> {
        let front = self.waiting.front()?;
        Some(front.send_at.max(self.not_before))
    }

    /// Sends what is due, or as much of it as is this lane's turn, and returns how many frames
    /// that were.
    pub(super) fn send_due(&mut self, port: &PacketSocket) -> usize {
        let before = if port.has_headers() {
            VirtioHeader::BYTES
        } else {
            0
        };
        let mut all = 0;
        while all < SEND_AT_MOST {
            let now = clock::now();
            let mut batch = [IoSlice::new(&[]); SEND_BATCH];
            let mut count = 0;
            for waiting in self.waiting.iter().take(SEND_BATCH) {
                if waiting.send_at > now {
                    break;
                }
                let start = self.start_of(waiting.slot);
                let length = usize::try_from(waiting.bytes).unwrap_or(0);
                batch[count] = IoSlice::new(&self.pool[start - before..start + length]);
                count += 1;
            }
            if count == 0 {
                break;
            }
            let sent = match port.send(&batch[..count]) {
                Ok(sent) => sent.max(1),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.not_before = now + RETRY_NS;
                    break;
                }
                // A frame that the interface refuses is lost, as on a real wire; the next may
                // pass.
                Err(error) => {
                    self.trouble.note_refusal(&error);
                    self.note_refusal(now);
                    self.forget_first();
                    all += 1;
                    continue;
                }
            };
            for _ in 0..sent {
                self.note_sent(now);
                self.forget_first();
            }
            all += sent;
        }
        all
    }

    fn forget_first(&mut self) {
        if let Some(waiting) = self.waiting.pop_front() {
            self.free.push(waiting.slot);
        }
    }

    /// Books that the first frame was sent.
    fn note_sent(&mut self, now: MonotonicNs) {
        let Some(waiting) = self.waiting.front() else {
            return;
        };
        if waiting.shaped {
            self.lateness.record(now.saturating_sub(waiting.send_at));
        }
        if let Some(observer) = &self.observer {
            let start = self.start_of(waiting.slot);
            let length = usize::try_from(waiting.bytes).unwrap_or(0);
            let header = &self.pool[start - VirtioHeader::BYTES..start];
            observer.show(|| PassedPacket {
                direction: self.direction,
                arrival: waiting.arrival,
                due: waiting.send_at,
                achieved: now,
                header: header
                    .try_into()
                    .map_or_else(|_| VirtioHeader::default(), VirtioHeader::from_bytes),
                frame: self.pool[start..start + length].to_vec(),
            });
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
