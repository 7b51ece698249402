use super::*;
use crate::link::testing::{MS, state, trace};
use hexloop_traces::{CapacityCurve, Direction, EndPolicy};

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

fn steps(length_ns: u64) -> Schedule {
    let rows = [12, 48, 120, 300].map(|rate| (length_ns, state(rate * MBIT, 0)));
    CapacityCurve::new(&trace(EndPolicy::Loop, &rows), Direction::Up).into()
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
            steering.rate_bps(&curve, curve.state_at(now).rate_bps, now, until)
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
fn the_model_misses_the_trace_as_the_kernel_was_measured_to() {
    // Plain stepping: 1 ms steps lose a tenth, 10 ms steps one percent.
    let (share, _) = play(MS, false);
    assert!((0.88..0.93).contains(&share), "{share}");
    let (share, _) = play(10 * MS, false);
    assert!((0.985..0.995).contains(&share), "{share}");
}

#[test]
fn steered_bytes_stay_within_four_packets_of_the_trace_at_any_step() {
    for step_ms in [1, 2, 5, 10, 100] {
        let (share, largest) = play(step_ms * MS, true);
        assert!((share - 1.0).abs() < 0.0001, "{step_ms} ms: {share}");
        assert!(largest < 4.0, "{step_ms} ms: {largest} packets");
    }
}

fn seen(at_ns: u64, bytes: u64, backlog_bytes: u64) -> Seen {
    Seen {
        at_ns,
        bytes,
        backlog_bytes,
    }
}

#[test]
fn only_long_backlogs_tell_how_much_of_the_trace_was_sent() {
    let rows = [(1000 * MS, state(12 * MBIT, 0))];
    let curve = CapacityCurve::new(&trace(EndPolicy::Hold, &rows), Direction::Up).into();
    let mut steering = Steering::new(1500);
    // Ten packets that came at once, a millisecond each.
    for at in [
        seen(0, 0, 9000),
        seen(5 * MS, 7500, 1500),
        seen(10 * MS, 15_000, 0),
    ] {
        steering.look(&curve, at);
        assert_eq!(steering.backlogged(), Backlogged::default());
    }
    // Two hundred, of which the last is late.
    for look in 0..=20 {
        let late_bytes = if look == 20 { 1500 } else { 0 };
        let bytes = 15_000 + look * 15_000 - late_bytes;
        steering.look(&curve, seen((20 + look * 10) * MS, bytes, 300_000));
    }
    let long = Backlogged {
        length_ns: 200 * MS,
        trace_bits: 2_400_000,
        sent_bits: 2_388_000,
    };
    assert_eq!(steering.backlogged(), long);
    steering.let_go();
    assert_eq!((steering.backlogged(), steering.owed_bits()), (long, 0));
    // What was let through while there was no limit is not held against the trace.
    steering.look(&curve, seen(300 * MS, 9_000_000, 300_000));
    steering.look(&curve, seen(301 * MS, 9_001_500, 300_000));
    assert_eq!((steering.backlogged(), steering.owed_bits()), (long, 0));
}

#[test]
fn what_nobody_used_is_not_made_up_for() {
    let rows = [(1000 * MS, state(12 * MBIT, 0))];
    let curve = CapacityCurve::new(&trace(EndPolicy::Hold, &rows), Direction::Up).into();
    let mut steering = Steering::new(1500);
    steering.look(&curve, seen(0, 0, 0));
    steering.look(&curve, seen(100 * MS, 0, 0));
    assert_eq!(steering.owed_bits(), 0);
    assert_eq!(
        steering.rate_bps(&curve, 12 * MBIT, 100 * MS, 110 * MS),
        12 * MBIT
    );
    // Packets began to wait in between: the first one is under way.
    steering.look(&curve, seen(110 * MS, 3000, 9000));
    assert_eq!(steering.owed_bits(), -6000);
    let rate = steering.rate_bps(&curve, 12 * MBIT, 110 * MS, 120 * MS);
    assert_eq!(rate, 12 * MBIT - 6000 / 8 * 100);
}

#[test]
fn what_left_before_the_first_row_was_set_is_paid_back() {
    let rows = [(1000 * MS, state(12 * MBIT, 0))];
    let curve = CapacityCurve::new(&trace(EndPolicy::Hold, &rows), Direction::Up).into();
    let mut steering = Steering::new(1500);
    steering.look(&curve, seen(0, 0, 0));
    // 24 Mbit/s for 10 ms found no limit: nothing waited, and twice as much left as was allowed.
    steering.look(&curve, seen(10 * MS, 30_000, 0));
    assert_eq!(steering.owed_bits(), -120_000);
    // Then as much comes as the class lets through: it stays ahead.
    steering.look(&curve, seen(12 * MS, 32_250, 750));
    assert_eq!(steering.owed_bits(), -114_000);
    let rate = steering.rate_bps(&curve, 12 * MBIT, 12 * MS, 14 * MS);
    assert_eq!(rate, 6 * MBIT);
    // While less comes than is allowed it falls back to the trace, and no further.
    steering.look(&curve, seen(14 * MS, 35_250, 0));
    assert_eq!(steering.owed_bits(), -114_000);
    steering.look(&curve, seen(22 * MS, 35_250, 0));
    assert_eq!(steering.owed_bits(), -18_000);
    steering.look(&curve, seen(100 * MS, 35_250, 0));
    assert_eq!(steering.owed_bits(), 0);
}

#[test]
fn what_was_lost_while_packets_waited_is_made_up_for() {
    let rows = [(1000 * MS, state(12 * MBIT, 0))];
    let curve = CapacityCurve::new(&trace(EndPolicy::Hold, &rows), Direction::Up).into();
    let mut steering = Steering::new(1500);
    steering.look(&curve, seen(0, 0, 90_000));
    // 15000 bytes were allowed, 6000 left although all of them waited: 9000 are owed, and of one
    // packet's share of that an eighth is made up for at once.
    steering.look(&curve, seen(10 * MS, 6000, 84_000));
    assert_eq!(steering.owed_bits(), 72_000);
    let rate = steering.rate_bps(&curve, 12 * MBIT, 10 * MS, 20 * MS);
    assert_eq!(rate, 12 * MBIT + (72_000 - 7200 + 7200 / 8) * 100);
    // The queue may have been empty for a while: no more than a change of rate can cost.
    let mut steering = Steering::new(1500);
    steering.look(&curve, seen(0, 0, 1500));
    steering.look(&curve, seen(10 * MS, 6000, 1500));
    assert_eq!(steering.owed_bits(), 24_000);
}

#[test]
fn being_ahead_slows_down_but_never_below_half() {
    let rows = [(1000 * MS, state(12 * MBIT, 0))];
    let curve = CapacityCurve::new(&trace(EndPolicy::Hold, &rows), Direction::Up).into();
    let mut steering = Steering::new(1500);
    steering.look(&curve, seen(0, 0, 900_000));
    steering.look(&curve, seen(10 * MS, 60_000, 840_000));
    assert_eq!(steering.owed_bits(), -360_000);
    assert_eq!(
        steering.rate_bps(&curve, 12 * MBIT, 10 * MS, 20 * MS),
        6 * MBIT
    );
    assert_eq!(steering.largest_error_bytes(), 45_000);
}

/// 12 Mbit/s for 10 ms and then nothing, and a class that has sent what it may.
fn before_an_outage() -> (Schedule, Steering) {
    let rows = [(10 * MS, state(12 * MBIT, 0)), (90 * MS, state(0, 0))];
    let schedule = CapacityCurve::new(&trace(EndPolicy::Hold, &rows), Direction::Up).into();
    let mut steering = Steering::new(1500);
    steering.look(&schedule, seen(0, 0, 90_000));
    steering.look(&schedule, seen(4 * MS, 6000, 84_000));
    (schedule, steering)
}

#[test]
fn a_thread_that_comes_too_late_to_aim_sets_the_rows_rate_and_never_next_to_none() {
    let (schedule, steering) = before_an_outage();
    // The moment is gone by, is now, is a nanosecond away, or in an outage that has not been set yet.
    for (now_ns, until_ns) in [
        (5 * MS, 4 * MS),
        (5 * MS, 5 * MS),
        (5 * MS, 5 * MS + 1),
        (11 * MS, 12 * MS),
    ] {
        let rate = steering.rate_bps(&schedule, 12 * MBIT, now_ns, until_ns);
        assert_eq!(rate, 12 * MBIT, "{now_ns} to {until_ns}");
    }
}

#[test]
fn an_outage_that_is_near_takes_nothing_from_the_rate_before_it() {
    let (schedule, steering) = before_an_outage();
    for before_ns in [100, 10_000, 150_000, 400_000] {
        let now_ns = 10 * MS - before_ns;
        let rate = steering.rate_bps(&schedule, 12 * MBIT, now_ns, now_ns + MS / 2);
        assert_eq!(rate, 12 * MBIT, "{before_ns} ns before the outage");
    }
}
