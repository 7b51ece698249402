//! The independent truth: what arrives at the receiving interfaces, and when, by the kernel's
//! own stamps. It shares nothing with the shaper but the clock.
//!
//! A tap is a packet socket on each node's interface that keeps only headers. One thread reads
//! those of all links a hundred times a second: the rings hold what comes between, so that
//! watching costs the jobs no wake-ups. A super-packet counts as the packets it stands for.

mod arrival;
mod station;

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError};

use hexloop_proto::LinkWindow;
use hexloop_traces::{Direction, UNLIMITED_RATE_BPS};
use hexloop_workloads::clock::{self, ClockPair, MonotonicNs};

use super::LinkError;
use super::reference::Reference;
use super::relay::{PortFailure, ShaperWindow, failure_of};
use crate::sys::packet::{Intake, PacketSocket, PacketSocketOptions, ReceiveBuffers};

pub(crate) use arrival::Arrival;
pub(crate) use station::{TapStation, Watching};

/// Ethernet, IPv6 with an extension or IPv4 with options, UDP, and the number in a probe.
const SNAP_BYTES: usize = 160;
/// Bounds on the frames that a ring holds; within them, what small packets at the link's highest
/// rate bring in 200 ms, and on slow links, of which there may be a thousand, in 50 ms.
const FEWEST_FRAMES: u64 = 256;
const MOST_FRAMES: u64 = 65_536;
const SLOW_BPS: u64 = 50_000_000;
const SMALL_PACKET_BITS: u64 = 8 * 128;
/// Twice the largest ring: a sender that never stops must not hold the reader up.
const READ_AT_MOST: usize = 131_072;
const TICK_NS: u64 = 10_000_000;

/// Stamps that the wall clock took a larger step than this beside are not to be believed. (A
/// disciplined clock is slewed by at most 5 us in a tick.)
const LARGEST_STEP_NS: u64 = 1_000_000;

/// Packet sockets on both receiving interfaces, in the order of [`Direction::BOTH`].
#[derive(Debug)]
pub(crate) struct Taps {
    pub(crate) sockets: [PacketSocket; 2],
    /// Not used by sockets with a ring.
    pub(crate) buffers: ReceiveBuffers,
}

/// What a tap recorded between two moments.
#[derive(Debug, Default)]
pub(crate) struct Recording {
    /// Everything that arrived, per direction in the order of [`Direction::BOTH`].
    pub(crate) arrivals: [Vec<Arrival>; 2],
    /// What the shaper said about its windows.
    pub(crate) windows: Vec<ShaperWindow>,
    /// Largest step of the wall clock between two readings.
    pub(crate) clock_step_ns: i64,
    /// Frames that the ring had no room for.
    pub(crate) missed: u64,
}

/// What a tap says after a phase.
#[derive(Debug)]
pub(crate) struct Watched {
    /// The sockets, for the next phase.
    pub(crate) taps: Taps,
    /// Windows that found no room on their way from the shaper or to the reader.
    pub(crate) windows_dropped: u64,
    /// Frames that the rings had no room for.
    pub(crate) missed: u64,
    /// Largest step of the wall clock between two looks.
    pub(crate) clock_step_ns: i64,
    /// What became of the receiving interfaces, in the order of [`Direction::BOTH`].
    pub(crate) failures: [Option<PortFailure>; 2],
    /// CPU time that the thread used for this link.
    pub(crate) cpu_ns: u64,
}

impl Taps {
    /// Opens a socket on an interface of this thread's namespace that gets at most so many bits
    /// per second.
    pub(crate) fn open_one(interface: &str, peak_bps: u64) -> Result<PacketSocket, LinkError> {
        let per_second = peak_bps / SMALL_PACKET_BITS;
        let frames = if peak_bps > SLOW_BPS {
            per_second / 5
        } else {
            per_second / 20
        };
        let frames = frames.clamp(FEWEST_FRAMES, MOST_FRAMES);
        let options = PacketSocketOptions {
            intake: Intake::Ring {
                snap_bytes: SNAP_BYTES,
                frames: usize::try_from(frames).unwrap_or(0),
            },
            headers: true,
        };
        PacketSocket::open(interface, options).map_err(|source| LinkError::Socket {
            action: format!("open a packet socket on interface {interface}"),
            source,
        })
    }

    /// Taps on both receiving interfaces, in the order of [`Direction::BOTH`].
    pub(crate) fn on(sockets: [PacketSocket; 2]) -> Taps {
        Taps {
            sockets,
            buffers: ReceiveBuffers::new(),
        }
    }

    /// Throws away what has come in so far.
    pub(crate) fn drain(&mut self) {
        for socket in &mut self.sockets {
            // What cannot be read now is met when it is read for the record.
            let _ = socket.receive(READ_AT_MOST, &mut self.buffers, |_| {});
            let _ = socket.take_drops();
        }
    }

    fn read(&mut self, pair: ClockPair, mut take: impl FnMut(usize, Arrival)) {
        for (side, socket) in self.sockets.iter_mut().enumerate() {
            // What cannot be read is missing in the windows, which tell of too little.
            let _ = socket.receive(READ_AT_MOST, &mut self.buffers, |frame| {
                let at = pair.to_monotonic(frame.realtime_ns);
                take(side, Arrival::of(&frame, at));
            });
        }
    }

    /// Records everything until the end, on the calling thread.
    pub(crate) fn record(
        &mut self,
        start: MonotonicNs,
        end: MonotonicNs,
        windows: &Receiver<ShaperWindow>,
    ) -> Recording {
        let mut recording = Recording::default();
        let mut steps = StepWatch::new();
        let mut tick = start;
        while tick < end {
            tick = (tick + TICK_NS).min(end);
            clock::sleep_until(tick);
            let (pair, step_ns) = steps.look();
            let certain = step_ns.unsigned_abs() <= LARGEST_STEP_NS;
            self.read(pair, |side, arrival| {
                recording.arrivals[side].push(Arrival { certain, ..arrival });
            });
            recording.windows.extend(windows.try_iter());
        }
        recording.clock_step_ns = steps.largest_ns;
        recording.missed = self.missed();
        recording
    }

    /// What became of the interfaces since the last call.
    fn failures(&self) -> [Option<PortFailure>; 2] {
        let [down, up] = &self.sockets;
        [down, up].map(|socket| failure_of(socket, socket.take_error().as_ref()))
    }

    /// Frames that the rings had no room for since the last call. Asking fails only once a socket is
    /// gone, which `failures` tells.
    fn missed(&self) -> u64 {
        let drops = self
            .sockets
            .iter()
            .map(|socket| socket.take_drops().unwrap_or(0));
        drops.sum()
    }
}

/// Looks for steps of the wall clock: one taken between a stamp and the pair that converts it
/// falsifies that stamp's moment.
#[derive(Debug)]
struct StepWatch {
    earlier: ClockPair,
    /// The largest so far, with its sign.
    largest_ns: i64,
}

impl StepWatch {
    fn new() -> StepWatch {
        StepWatch {
            earlier: ClockPair::read(),
            largest_ns: 0,
        }
    }

    /// The clocks now, and the step since the last look.
    fn look(&mut self) -> (ClockPair, i64) {
        let pair = ClockPair::read();
        (pair, self.note(pair))
    }

    fn note(&mut self, pair: ClockPair) -> i64 {
        let step_ns = pair.step_since(self.earlier);
        self.earlier = pair;
        if step_ns.unsigned_abs() > self.largest_ns.unsigned_abs() {
            self.largest_ns = step_ns;
        }
        step_ns
    }
}

/// Counts what arrives in each window of a phase, and sends the windows out.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) link: String,
    pub(crate) t0: MonotonicNs,
    pub(crate) window_ns: u64,
    /// In the order of [`Direction::BOTH`].
    pub(crate) references: [Reference; 2],
    pub(crate) from_shaper: Receiver<ShaperWindow>,
    pub(crate) windows: SyncSender<LinkWindow>,
    pub(crate) cpu: Option<u32>,
}

impl Watch {
    fn send(&self, window: ShaperWindow, counts: &mut [DeliveredWindows; 2]) -> bool {
        let side = usize::from(window.direction == Direction::Up);
        let reference = &self.references[side];
        let window = counts[side].window(&self.link, reference, window, self.window_ns);
        match self.windows.try_send(window) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => false,
        }
    }
}

/// Bytes and packets of the windows that are not yet closed.
#[derive(Debug, Default)]
pub(crate) struct DeliveredWindows {
    oldest: u64,
    windows: VecDeque<(u64, u64)>,
    /// Windows that the shaper said nothing about.
    pub(crate) skipped: u64,
}

impl DeliveredWindows {
    pub(crate) fn add(&mut self, window: u64, bytes: u64, packets: u64) {
        let Some(place) = window.checked_sub(self.oldest) else {
            return;
        };
        let Ok(place) = usize::try_from(place) else {
            return;
        };
        if place > 100_000 {
            return;
        }
        if place >= self.windows.len() {
            self.windows.resize(place + 1, (0, 0));
        }
        self.windows[place].0 += bytes;
        self.windows[place].1 += packets;
    }

    /// Takes a window out, and forgets those before it.
    fn take(&mut self, window: u64) -> (u64, u64) {
        let mut found = (0, 0);
        while self.oldest <= window {
            self.skipped += u64::from(self.oldest < window);
            found = self.windows.pop_front().unwrap_or_default();
            self.oldest += 1;
        }
        found
    }

    /// What there is to say about the shaper's next window.
    pub(crate) fn window(
        &mut self,
        link: &str,
        reference: &Reference,
        window: ShaperWindow,
        window_ns: u64,
    ) -> LinkWindow {
        let (delivered_bytes, delivered_packets) = self.take(window.index);
        let start_ns = window.index * window_ns;
        let end_ns = start_ns + window_ns;
        // An unlimited link has no queue and nothing to compare with.
        let departure_ns = reference.departure_ns(start_ns);
        let limited = window.book.granted.is_some()
            || reference.state_at(departure_ns).rate_bps != UNLIMITED_RATE_BPS;
        // On a link of a cell the trace is what it could carry, and its share what it may.
        let trace_bits = match window.book.granted {
            Some(granted) => granted.whole_bits(),
            None => reference.arriving_bits(start_ns, end_ns),
        };
        LinkWindow {
            link: link.to_owned(),
            direction: window.direction,
            start_ns,
            length_ns: window_ns,
            trace_bytes: trace_bits / 8,
            delivered_bytes,
            delivered_packets,
            backlogged: !window.book.idle && limited && !reference.jitters_in(start_ns, end_ns),
            queue_bytes: window.book.queue_bytes,
            dropped_packets: window.book.dropped,
            lost_packets: window.book.lost,
            marked_packets: window.book.marked,
            duplicated_packets: window.book.duplicated,
            corrupted_packets: window.book.corrupted,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_step_is_kept_with_its_sign_and_a_clock_that_stays_set_adds_none() {
        let pair = |monotonic_ns, realtime_ns| ClockPair {
            monotonic_ns,
            realtime_ns,
        };
        let mut steps = StepWatch {
            earlier: pair(0, 5_000),
            largest_ns: 0,
        };
        let found = [(100, 5_100), (200, 2_200), (300, 2_300), (400, 3_400)]
            .map(|(monotonic_ns, realtime_ns)| steps.note(pair(monotonic_ns, realtime_ns)));
        assert_eq!(found, [0, -3_000, 0, 1_000]);
        assert_eq!(steps.largest_ns, -3_000);
    }

    #[test]
    fn arrivals_are_counted_in_the_window_they_fall_into() {
        let mut windows = DeliveredWindows::default();
        windows.add(0, 100, 1);
        windows.add(2, 50, 1);
        windows.add(2, 50, 1);
        assert_eq!(windows.take(0), (100, 1));
        assert_eq!(windows.take(1), (0, 0));
        assert_eq!(windows.take(2), (100, 2));
        windows.add(1, 7, 1);
        assert_eq!(windows.take(3), (0, 0));
        assert_eq!(windows.skipped, 0);
        windows.take(6);
        assert_eq!(windows.skipped, 2);
    }
}
