//! Senders of whole frames: one that keeps a rate, one that sends as fast as it can.

use std::hint;
use std::io::IoSlice;
use std::sync::atomic::{AtomicBool, Ordering};

use hexloop_workloads::clock::{self, MonotonicNs};

use crate::sys::packet::{PacketSocket, SEND_BATCH};

/// A paced flow sends what is due at steps of this length.
const TICK_NS: u64 = 1_000_000;

/// Before the first frame the sender spins so long, to begin on time.
const SPIN_NS: u64 = 100_000;

/// Packets that a paced flow is ahead of its rate, so that the queue is filled from T0 on.
const HEAD_START_PACKETS: u64 = 20;

/// What a paced flow did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Paced {
    /// Frames that the kernel took.
    pub(super) sent: u64,
    /// Frames that it refused.
    pub(super) refused: u64,
    /// The longest that the sender was behind its own pace: a queue that is drained meanwhile
    /// runs empty, which is no fault of the link.
    pub(super) longest_pause_ns: u64,
}

/// Sends one frame over and over at a rate, from `t0` until `end`.
pub(super) fn paced(
    socket: &mut PacketSocket,
    frame: &[u8],
    packets_per_s: u64,
    t0: MonotonicNs,
    end: MonotonicNs,
) -> Paced {
    let mut paced = Paced::default();
    clock::sleep_until(t0.saturating_sub(SPIN_NS));
    while clock::now() < t0 {
        hint::spin_loop();
    }
    let mut tick = t0;
    while tick < end {
        clock::sleep_until(tick);
        paced.longest_pause_ns = paced.longest_pause_ns.max(clock::now() - tick);
        let due = (tick - t0 + TICK_NS) * packets_per_s / 1_000_000_000 + HEAD_START_PACKETS;
        while paced.sent + paced.refused < due {
            let left = due - paced.sent - paced.refused;
            let count = usize::try_from(left).unwrap_or(SEND_BATCH).min(SEND_BATCH);
            let batch = [IoSlice::new(frame); SEND_BATCH];
            match socket.send(&batch[..count]) {
                Ok(sent) => paced.sent += u64::try_from(sent).unwrap_or(0),
                // What the kernel refuses is as good as dropped by a full queue.
                Err(_) => paced.refused += 1,
            }
        }
        tick += TICK_NS;
    }
    paced
}

/// Sends one frame over and over until it is told to end; returns how many the kernel took.
pub(super) fn flood(socket: &mut PacketSocket, frame: &[u8], end: &AtomicBool) -> u64 {
    let batch = [IoSlice::new(frame); SEND_BATCH];
    let mut sent = 0;
    while !end.load(Ordering::Relaxed) {
        sent += socket
            .send(&batch)
            .map_or(0, |count| u64::try_from(count).unwrap_or(0));
    }
    sent
}
