use hexloop_traces::{Direction, EndPolicy, LinkState};
use proptest::prelude::*;

use super::*;
use crate::link::testing::{MS, state, trace};

fn shaper(end: EndPolicy, rows: &[(u64, LinkState)], queue_bytes: u64) -> (Shaper, WindowBooks) {
    let curve = CapacityCurve::new(&trace(end, rows), Direction::Down);
    (
        Shaper::new(curve, queue_bytes, 10_000, 1, "test"),
        WindowBooks::new(10 * MS, 1000 * MS),
    )
}

const fn due(send_at_ns: u64) -> Fate {
    Fate::Due { send_at_ns }
}

#[test]
fn packets_queue_behind_each_other_and_arrive_a_delay_later() {
    // 1000 bytes at 8 Mbit/s take 1 ms.
    let (mut shaper, mut books) = shaper(
        EndPolicy::Hold,
        &[(1000 * MS, state(8_000_000, 5 * MS))],
        100_000,
    );
    assert_eq!(shaper.on_packet(0, 1000, &mut books), due(6 * MS));
    assert_eq!(shaper.on_packet(0, 1000, &mut books), due(7 * MS));
    assert_eq!(
        shaper.on_packet(10 * MS, 500, &mut books),
        due(15 * MS + MS / 2)
    );
}

#[test]
fn a_packet_in_flight_feels_a_rate_change_exactly() {
    let rows = [
        (MS / 2, state(8_000_000, 0)),
        (999 * MS, state(16_000_000, 0)),
    ];
    let (mut shaper, mut books) = shaper(EndPolicy::Hold, &rows, 100_000);
    assert_eq!(shaper.on_packet(0, 1000, &mut books), due(MS / 2 + MS / 4));
}

#[test]
fn an_outage_holds_packets_and_lets_them_go_in_order() {
    let rows = [
        (MS, state(8_000_000, 0)),
        (100 * MS, state(0, 0)),
        (MS * 900, state(8_000_000, 0)),
    ];
    let (mut shaper, mut books) = shaper(EndPolicy::Hold, &rows, 100_000);
    assert_eq!(shaper.on_packet(50 * MS, 1000, &mut books), due(102 * MS));
    assert_eq!(shaper.on_packet(60 * MS, 1000, &mut books), due(103 * MS));
}

#[test]
fn an_outage_without_end_keeps_its_packets() {
    let (mut shaper, mut books) = shaper(EndPolicy::Hold, &[(MS, state(0, 0))], 2000);
    assert_eq!(shaper.on_packet(0, 1000, &mut books), due(u64::MAX));
    assert_eq!(shaper.on_packet(0, 1000, &mut books), due(u64::MAX));
    assert_eq!(shaper.on_packet(0, 1000, &mut books), Fate::QueueFull);
}

#[test]
fn only_what_still_waits_counts_against_the_queue() {
    let (mut shaper, mut books) = shaper(
        EndPolicy::Hold,
        &[(1000 * MS, state(8_000_000, 50 * MS))],
        2000,
    );
    assert_eq!(shaper.on_packet(0, 1000, &mut books), due(51 * MS));
    assert_eq!(shaper.on_packet(0, 1000, &mut books), due(52 * MS));
    assert_eq!(shaper.on_packet(0, 1000, &mut books), Fate::QueueFull);
    assert_eq!(shaper.on_packet(MS, 1000, &mut books), due(53 * MS));
}

#[test]
fn the_trace_may_set_the_queue() {
    let limited = LinkState {
        queue_bytes: 1000,
        ..state(8_000_000, 0)
    };
    let (mut shaper, mut books) = shaper(EndPolicy::Hold, &[(1000 * MS, limited)], 100_000);
    assert_eq!(shaper.on_packet(0, 1000, &mut books), due(MS));
    assert_eq!(shaper.on_packet(0, 1000, &mut books), Fate::QueueFull);
}

#[test]
fn a_transparent_link_delivers_at_once_and_never_counts_as_backlogged() {
    let (mut shaper, mut books) = shaper(
        EndPolicy::Hold,
        &[(1000 * MS, LinkState::TRANSPARENT)],
        2000,
    );
    for moment in 0..100 {
        assert_eq!(shaper.on_packet(moment, 1500, &mut books), due(moment));
    }
    assert!(shaper.close_window(20 * MS, &mut books).unwrap().1.idle);
}

#[test]
fn a_window_is_backlogged_only_if_the_queue_never_ran_dry_in_it() {
    // Each packet takes 4 ms; they come every 4 ms from 2 ms to 30 ms, then no more.
    let (mut shaper, mut books) = shaper(
        EndPolicy::Hold,
        &[(1000 * MS, state(2_000_000, 0))],
        100_000,
    );
    for packet in 0..8 {
        shaper.on_packet((2 + 4 * packet) * MS, 1000, &mut books);
    }
    let mut idle = Vec::new();
    while let Some((_, book)) = shaper.close_window(60 * MS, &mut books) {
        idle.push(book.idle);
    }
    assert_eq!(idle, [true, false, false, true, true]);
}

#[test]
fn jitter_stays_within_its_width_and_keeps_order() {
    let jittery = LinkState {
        jitter_ns: 2_000_000,
        ..state(8_000_000_000, 10 * MS)
    };
    let (mut shaper, mut books) = shaper(EndPolicy::Hold, &[(10_000 * MS, jittery)], 100_000);
    let mut previous = 0;
    for packet in 0..2000 {
        let arrival = packet * 3 * MS;
        let Fate::Due { send_at_ns } = shaper.on_packet(arrival, 1000, &mut books) else {
            panic!("dropped");
        };
        let delay = send_at_ns - arrival;
        assert!((8 * MS..=12 * MS + 2000).contains(&delay), "{delay}");
        assert!(send_at_ns >= previous);
        previous = send_at_ns;
    }
}

fn rows() -> impl Strategy<Value = Vec<(u64, LinkState)>> {
    let rate = prop_oneof![Just(0_u64), 100_000_u64..200_000_000];
    let row = (1_000_u64..50_000_000, rate, 0_u64..30_000_000)
        .prop_map(|(length, rate, delay)| (length, state(rate, delay)));
    (
        prop::collection::vec(row, 1..12),
        1_000_000_u64..100_000_000,
    )
        .prop_map(|(mut rows, rate)| {
            rows.push((1_000_000, state(rate, 0)));
            rows
        })
}

proptest! {
    #[test]
    fn the_link_never_carries_more_than_the_integral_and_keeps_its_queue_and_order(
        rows in rows(),
        packets in prop::collection::vec((0_u64..3_000_000, 40_u64..1500), 1..300),
        queue_bytes in 1500_u64..60_000,
    ) {
        // Delays are put aside (all zero) so that due times are ends of serialisation.
        let rows: Vec<_> =
            rows.into_iter().map(|(length, s)| (length, state(s.rate_bps, 0))).collect();
        let trace = trace(EndPolicy::Hold, &rows);
        let curve = CapacityCurve::new(&trace, Direction::Down);
        let (mut shaper, mut books) = shaper(EndPolicy::Hold, &rows, queue_bytes);
        let (mut now, mut previous, mut run_start, mut run_bits) = (0, 0, 0, 0);
        let mut sent: Vec<(u64, u64)> = Vec::new();
        for (gap, bytes) in packets {
            now += gap;
            if let Fate::Due { send_at_ns } = shaper.on_packet(now, bytes, &mut books) {
                prop_assert!(send_at_ns >= previous && send_at_ns >= now);
                if now > previous {
                    (run_start, run_bits) = (now, 0);
                }
                run_bits += bytes * 8;
                let allowed = curve.bits_between(run_start, send_at_ns);
                // The due time is the first whole nanosecond at which the bits are through.
                prop_assert!(run_bits <= allowed, "{run_bits} > {allowed}");
                previous = send_at_ns;
                sent.push((send_at_ns, bytes));
                let waiting: u64 =
                    sent.iter().filter(|(finish, _)| *finish > now).map(|(_, bytes)| bytes).sum();
                prop_assert!(waiting <= queue_bytes.max(bytes));
            }
        }
    }

    #[test]
    fn a_backlogged_link_delivers_the_exact_total(rows in rows(), count in 2_u64..200) {
        let trace = trace(EndPolicy::Hold, &rows);
        let curve = CapacityCurve::new(&trace, Direction::Down);
        let (mut shaper, mut books) = shaper(EndPolicy::Hold, &rows, u64::MAX / 2);
        let mut finish = 0;
        for _ in 0..count {
            shaper.on_packet(0, 1250, &mut books);
            finish = shaper.finish_ns;
        }
        let ideal = curve.finish_ns(0, count * 10_000).unwrap();
        prop_assert_eq!(finish, ideal);
    }

    #[test]
    fn due_times_are_the_delay_after_the_end_of_serialisation_kept_in_order(
        rows in rows(),
        packets in prop::collection::vec((0_u64..3_000_000, 40_u64..1500), 1..200),
    ) {
        let curve = CapacityCurve::new(&trace(EndPolicy::Hold, &rows), Direction::Down);
        let (mut shaper, mut books) = shaper(EndPolicy::Hold, &rows, u64::MAX / 2);
        let (mut now, mut expected) = (0, 0);
        for (gap, bytes) in packets {
            now += gap;
            let fate = shaper.on_packet(now, bytes, &mut books);
            let finish = shaper.finish_ns;
            expected = expected.max(finish + curve.state_at(finish).delay_ns);
            prop_assert_eq!(fate, due(expected));
        }
    }
}
