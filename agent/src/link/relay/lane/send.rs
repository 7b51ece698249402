//! How a lane's frames that are due leave: several in one system call, or together with those of other
//! lanes.

use std::io::{self, IoSlice};

use hexloop_workloads::clock::{self, MonotonicNs};

use super::Lane;
use crate::link::histogram::NanosecondHistogram;
use crate::link::relay::join::Batch;
use crate::link::relay::observer::PassedPacket;
use crate::sys::packet::{PacketSocket, SEND_BATCH, VirtioHeader};

/// Frames sent before the other lanes get their turn.
const SEND_AT_MOST: usize = 4 * SEND_BATCH;

/// Lateness is counted for so many frames at once: the counters of hundreds of lanes are never in the
/// cache.
pub(super) const LATE_BATCH: usize = 64;

/// How long a full socket is left alone: whoever empties it needs the CPU too.
const RETRY_NS: u64 = 50_000;

/// Counts how late frames were.
pub(super) fn count(lateness: &mut NanosecondHistogram, late_ns: &mut Vec<u64>) {
    for late_ns in late_ns.drain(..) {
        lateness.record(late_ns);
    }
}

impl Lane {
    /// Whether exactly one frame is due: then it may leave together with those of others.
    pub(in crate::link::relay) fn is_one_due(&mut self, now: MonotonicNs) -> bool {
        self.collect_due(now);
        self.ready.len() == 1 && now >= self.not_before
    }

    /// The first frame that is due, with its header before it.
    pub(in crate::link::relay) fn first_due(&self) -> Option<&[u8]> {
        let ready = self.ready.front()?;
        Some(self.frames.frame_with_header(ready.slot))
    }

    /// That frame was sent.
    pub(in crate::link::relay) fn first_was_sent(&mut self, now: MonotonicNs) {
        self.note_sent(now);
        self.forget_first();
    }

    /// Sends what is due, or as much of it as is this lane's turn, and returns how many frames
    /// that were. `joins` says whether segments that are due together leave as one.
    pub(in crate::link::relay) fn send_due(
        &mut self,
        port: &PacketSocket,
        batch: &mut Batch,
        joins: bool,
    ) -> usize {
        let mut all = 0;
        while all < SEND_AT_MOST {
            let now = clock::now();
            self.collect_due(now);
            if self.ready.is_empty() {
                break;
            }
            let several = self.ready.len() > 1;
            let joins = joins && several && port.has_headers() && !self.joined_refused;
            let sent = if joins {
                let ready = self.ready.iter().take(SEND_AT_MOST);
                batch.plan(ready.map(|ready| self.frame(ready.slot)), true);
                self.send_batch::<{ SEND_AT_MOST + SEND_BATCH }>(port, batch)
            } else if !several {
                // Most often, where there are many links.
                let ready = self.ready.iter();
                batch.plan(ready.map(|ready| self.frame(ready.slot)), false);
                self.send_batch::<1>(port, batch)
            } else {
                let ready = self.ready.iter().take(SEND_BATCH);
                batch.plan(ready.map(|ready| self.frame(ready.slot)), false);
                self.send_batch::<SEND_BATCH>(port, batch)
            };
            let sent = match sent {
                Ok(sent) => sent.max(1),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.not_before = now + RETRY_NS;
                    break;
                }
                // Each by itself may pass.
                Err(_) if batch.joined(0).is_some() => {
                    self.joined_refused = true;
                    continue;
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
            for (message, frames) in batch.frames().take(sent).enumerate() {
                for _ in 0..frames {
                    self.note_sent(now);
                    self.forget_first();
                }
                if let Some((_, payload_start)) = batch.joined(message) {
                    let others = u64::try_from(frames - 1).unwrap_or(0);
                    let header_bytes = u64::try_from(payload_start).unwrap_or(0);
                    self.joined.packets += others;
                    self.joined.header_bytes += others * header_bytes;
                }
                all += frames;
            }
            if self.ready.is_empty() {
                // What has become due meanwhile is looked at in the next turn.
                break;
            }
        }
        all
    }

    /// The frame of a slot with its header.
    fn frame(&self, slot: u32) -> (&[u8], VirtioHeader) {
        (self.frames.frame(slot), self.frames.header(slot))
    }

    /// Sends the frames that are first in line as the batch says; returns how many messages were
    /// taken.
    fn send_batch<const PARTS: usize>(
        &self,
        port: &PacketSocket,
        batch: &Batch,
    ) -> io::Result<usize> {
        let left_out = if port.has_headers() {
            0
        } else {
            VirtioHeader::BYTES
        };
        let mut parts = [IoSlice::new(&[]); PARTS];
        let mut lengths = [0; SEND_BATCH];
        let mut count = 0;
        let mut ready = self.ready.iter();
        for (message, frames) in batch.frames().enumerate() {
            let first = count;
            let joined = batch.joined(message);
            if let Some((headers, _)) = joined {
                parts[count] = IoSlice::new(headers);
                count += 1;
            }
            for ready in ready.by_ref().take(frames) {
                let frame = self.frames.frame_with_header(ready.slot);
                let start = joined.map_or(left_out, |(_, payload)| VirtioHeader::BYTES + payload);
                parts[count] = IoSlice::new(&frame[start..]);
                count += 1;
            }
            lengths[message] = count - first;
        }
        port.send_gathered(&parts[..count], &lengths[..batch.len()])
    }

    fn forget_first(&mut self) {
        if let Some(ready) = self.ready.pop_front() {
            self.frames.give_back(ready.slot);
        }
        if self.ready.is_empty() {
            // Back to the beginning of its memory, which is in the cache; with hundreds of lanes
            // the rest is not.
            self.ready.clear();
        }
    }

    /// Books that the first frame was sent.
    fn note_sent(&mut self, now: MonotonicNs) {
        let Some(ready) = self.ready.front() else {
            return;
        };
        if ready.shaped {
            self.late_ns.push(now.saturating_sub(ready.due));
            if self.late_ns.len() >= LATE_BATCH {
                count(&mut self.lateness, &mut self.late_ns);
            }
        }
        if let Some(observer) = &self.observer {
            observer.show(|link| PassedPacket {
                link,
                direction: self.direction,
                arrival: self.frames.arrival(ready.slot),
                due: ready.due,
                achieved: now,
                header: self.frames.header(ready.slot),
                frame: self.frames.frame(ready.slot).to_vec(),
            });
        }
    }

    fn note_refusal(&mut self, now: MonotonicNs) {
        if let Some(playing) = &mut self.playing {
            playing.books.dropped(now.saturating_sub(playing.t0));
        }
    }
}
