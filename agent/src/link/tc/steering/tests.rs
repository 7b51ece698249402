use super::*;
use crate::link::testing::{MS, state, trace};
use hexloop_traces::{Direction, EndPolicy};

/// One class of htb as net/sched/sch_htb.c works it, with a queue that is never empty and a
/// timer that is late by a fixed time.
struct Htb {
    rate_bps: u64,
    buffer_ns: i64,
    tokens_ns: i64,
    checkpoint_ns: u64,
    wake_ns: u64,
    sent_bytes: u64,
    packet_bytes: u64,
    late_ns: u64,
}

impl Htb {
    fn new(rate_bps: u64, packet_bytes: u64) -> Htb {
        Htb {
            rate_bps,
            buffer_ns: 200_000,
            tokens_ns: 200_000,
            checkpoint_ns: 0,
            wake_ns: 0,
            sent_bytes: 0,
            packet_bytes,
            late_ns: 10_000,
        }
    }

    /// Sends what it may until a moment, which is not included.
    fn run_until(&mut self, end_ns: u64) {
        while self.wake_ns < end_ns {
            let now = self.wake_ns;
            let elapsed = i64::try_from(now - self.checkpoint_ns).unwrap();
            if self.tokens_ns + elapsed < 0 {
                let wait = u64::try_from(-(self.tokens_ns + elapsed)).unwrap();
                self.wake_ns = now + wait + self.late_ns;
                continue;
            }
            let cost = self.packet_bytes * 8 * 1_000_000_000 / self.rate_bps;
            self.tokens_ns =
                (self.tokens_ns + elapsed).min(self.buffer_ns) - i64::try_from(cost).unwrap();
            self.checkpoint_ns = now;
            self.sent_bytes += self.packet_bytes;
            if self.tokens_ns < 0 {
                // The event is set now; a later change of the rate does not move it.
                self.wake_ns = now + u64::try_from(-self.tokens_ns).unwrap() + self.late_ns;
            }
        }
    }
}

const MBIT: u64 = 1_000_000;

fn steps(length_ns: u64) -> CapacityCurve {
    let rows = [12, 48, 120, 300].map(|rate| (length_ns, state(rate * MBIT, 0)));
    CapacityCurve::new(&trace(EndPolicy::Loop, &rows), Direction::Up)
}

/// Plays on the model; returns bytes sent over bytes allowed, and the largest distance of both
/// at the edges of steps, in packets.
fn play(step_ns: u64, steered: bool) -> (f64, f64) {
    const PACKET_BYTES: u64 = 1314;
    let curve = steps(step_ns);
    let mut htb = Htb::new(100_000 * MBIT, PACKET_BYTES);
    htb.wake_ns = 1;
    let mut steering = Steering::new(1500);
    let mut largest: f64 = 0.0;
    let mut now = 0;
    let end = 10_000 * MS;
    // The queue of 200 packets of the flow that never stops.
    while now < end {
        htb.run_until(now);
        let seen = Seen {
            at_ns: now,
            bytes: htb.sent_bytes,
            backlog_bytes: 300_000,
        };
        steering.look(&curve, seen);
        let until = (now / step_ns + 1) * step_ns;
        let until = until.min(now + 2 * MS);
        htb.rate_bps = if steered {
            steering.rate_bps(&curve, now, until)
        } else {
            curve.state_at(now).rate_bps
        };
        let error = htb.sent_bytes as f64 - curve.bits_between(0, now) as f64 / 8.0;
        largest = largest.max(error.abs() / PACKET_BYTES as f64);
        now = until;
    }
    htb.run_until(end);
    let allowed = curve.bits_between(0, end) as f64 / 8.0;
    (htb.sent_bytes as f64 / allowed, largest)
}

#[test]
fn the_model_misses_the_trace_as_the_kernel_does() {
    for ms in [1, 2, 5, 10, 100] {
        eprintln!(
            "{ms} plain {:?} steered {:?}",
            play(ms * MS, false),
            play(ms * MS, true)
        );
    }
}
