//! When each packet of one direction is due: the trace as exact arithmetic on arrival times.
//!
//! Nothing here reads a clock. A packet that arrives at `a` is through the bottleneck at
//! `f = C^-1(C(max(a, f of the packet before)) + bits)`, where C is the integral of the rate,
//! and is due at the receiver at `f + delay(f)`, never before the packet ahead of it. Losses
//! are drawn on arrival, before the queue: a lost packet takes no capacity, so what is
//! delivered follows the trace whatever the loss.

mod loss;

use std::collections::VecDeque;

use hexloop_traces::{CapacityCurve, UNLIMITED_RATE_BPS, stream};
use rand_chacha::ChaCha12Rng;
use rand_core::Rng;

use super::books::WindowBooks;
use loss::LossModel;

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It leaves the link at this offset from the start of the trace; `u64::MAX` if the trace
    /// ends in an outage that holds it for ever.
    Due {
        /// Nanoseconds from the start of the trace.
        send_at_ns: u64,
    },
    /// The queue had no room for it.
    QueueFull,
    /// Lost, as the trace asks.
    Lost,
}

/// One direction of a link, playing its trace.
#[derive(Debug)]
pub(crate) struct Shaper {
    curve: CapacityCurve,
    default_queue_bytes: u64,
    /// The present run of packets without a gap between them: when its first one came, and the
    /// bits of all. The end of each is computed from there, so that no rounding adds up.
    run_start_ns: u64,
    run_bits: u64,
    /// End of serialisation of the last packet that was taken in.
    finish_ns: u64,
    /// When that packet would be at the receiver without jitter, kept in order.
    arrival_ns: u64,
    /// The same with jitter.
    send_at_ns: u64,
    waiting: VecDeque<(u64, u64)>,
    waiting_limit: usize,
    waiting_bytes: u64,
    loss: LossModel,
    random: ChaCha12Rng,
}

impl Shaper {
    /// A shaper with an empty queue at the start of the trace. `purpose` names its stream of
    /// randomness; at most `most_packets` wait at a time.
    pub(crate) fn new(
        curve: CapacityCurve,
        default_queue_bytes: u64,
        most_packets: usize,
        seed: u64,
        purpose: &str,
    ) -> Shaper {
        Shaper {
            curve,
            default_queue_bytes,
            run_start_ns: 0,
            run_bits: 0,
            finish_ns: 0,
            arrival_ns: 0,
            send_at_ns: 0,
            waiting: VecDeque::with_capacity(most_packets),
            waiting_limit: most_packets,
            waiting_bytes: 0,
            loss: LossModel::default(),
            random: stream(seed, purpose),
        }
    }

    /// Takes a packet of `ip_bytes` in that arrived at `arrival_ns`, and books what happens.
    /// Arrivals must not go back in time.
    pub(crate) fn on_packet(
        &mut self,
        arrival_ns: u64,
        ip_bytes: u64,
        books: &mut WindowBooks,
    ) -> Fate {
        self.forget_finished(arrival_ns);
        let state = self.curve.state_at(arrival_ns);
        if self
            .loss
            .loses(state.loss_ppb, state.loss_burst_milli, &mut self.random)
        {
            books.lost(arrival_ns);
            return Fate::Lost;
        }
        let limit = match state.queue_bytes {
            0 => self.default_queue_bytes,
            bytes => u64::from(bytes),
        };
        let full = self.waiting_bytes + ip_bytes > limit && !self.waiting.is_empty();
        if full || self.waiting.len() >= self.waiting_limit {
            books.dropped(arrival_ns);
            return Fate::QueueFull;
        }
        if arrival_ns > self.finish_ns || state.rate_bps == UNLIMITED_RATE_BPS {
            // The receiver sees the gap a delay later.
            books.idle(self.arrival_ns, arrival_ns.saturating_add(state.delay_ns));
        }
        if arrival_ns > self.finish_ns {
            (self.run_start_ns, self.run_bits) = (arrival_ns, 0);
        }
        self.run_bits += ip_bytes * 8;
        let finish_ns = self.curve.finish_ns(self.run_start_ns, self.run_bits);
        self.finish_ns = finish_ns.unwrap_or(u64::MAX).max(arrival_ns);
        if self.finish_ns > arrival_ns {
            self.waiting.push_back((self.finish_ns, ip_bytes));
            self.waiting_bytes += ip_bytes;
            books.queue(arrival_ns, self.waiting_bytes);
        }
        if self.finish_ns == u64::MAX {
            self.arrival_ns = u64::MAX;
            self.send_at_ns = u64::MAX;
            return Fate::Due {
                send_at_ns: u64::MAX,
            };
        }
        let state = self.curve.state_at(self.finish_ns);
        let undisturbed_ns = self.finish_ns.saturating_add(state.delay_ns);
        self.arrival_ns = self.arrival_ns.max(undisturbed_ns);
        let jittered_ns = self
            .jittered(undisturbed_ns, state.jitter_ns)
            .max(self.finish_ns);
        self.send_at_ns = self.send_at_ns.max(jittered_ns);
        Fate::Due {
            send_at_ns: self.send_at_ns,
        }
    }

    /// Closes the books of the next window if all of it lies before `now_ns`.
    pub(crate) fn close_window(
        &mut self,
        now_ns: u64,
        books: &mut WindowBooks,
    ) -> Option<(u64, super::books::WindowBook)> {
        self.forget_finished(now_ns);
        // Were a packet to come now, the receiver would have seen a gap since the last one.
        let idle_since = (self.finish_ns < now_ns).then_some(self.arrival_ns);
        books.close(now_ns, idle_since, self.waiting_bytes)
    }

    fn jittered(&mut self, moment_ns: u64, half_width_ns: u32) -> u64 {
        if half_width_ns == 0 {
            return moment_ns;
        }
        let width = 2 * u64::from(half_width_ns) + 1;
        let drawn = (u64::from(self.random.next_u32()) * width) >> 32;
        (moment_ns + drawn).saturating_sub(u64::from(half_width_ns))
    }

    fn forget_finished(&mut self, now_ns: u64) {
        while let Some(&(finish_ns, bytes)) = self.waiting.front() {
            if finish_ns > now_ns {
                break;
            }
            self.waiting_bytes -= bytes;
            self.waiting.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
