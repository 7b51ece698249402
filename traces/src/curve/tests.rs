use super::*;
use crate::{TraceMetadata, TraceRow, TraceStatus};
use proptest::prelude::*;

fn trace(end: EndPolicy, steps: &[(u64, u64)]) -> Trace {
    let mut t_ns = 0;
    let mut rows = Vec::new();
    for &(length_ns, rate_bps) in steps {
        let state = LinkState {
            rate_bps,
            ..LinkState::TRANSPARENT
        };
        rows.push(TraceRow {
            t_ns,
            down: state,
            up: state,
            diagnostics: Default::default(),
        });
        t_ns += length_ns;
    }
    let metadata = TraceMetadata {
        schema: crate::TRACE_SCHEMA,
        scenario: "test".to_owned(),
        status: TraceStatus::Control,
        duration_ns: t_ns,
        end,
        seed: None,
        generator: "test".to_owned(),
        configuration: Default::default(),
        notes: Vec::new(),
        provenance: Default::default(),
    };
    Trace::new(metadata, rows).unwrap()
}

const PER_GBIT: u64 = 1_000_000_000;

fn curve(end: EndPolicy, steps: &[(u64, u64)]) -> CapacityCurve {
    CapacityCurve::new(&trace(end, steps), Direction::Down)
}

#[test]
fn a_packet_across_a_rate_change_takes_the_exact_time() {
    // 1000 ns at 1 Gbit/s carry 1000 bits; the other 500 take 250 ns at 2 Gbit/s.
    let curve = curve(
        EndPolicy::Hold,
        &[(1000, 1_000_000_000), (1000, 2_000_000_000)],
    );
    assert_eq!(curve.finish_ns(0, 1500), Some(1250));
    assert_eq!(curve.bits_between(0, 1250), 1500);
}

#[test]
fn an_outage_holds_packets_until_it_ends() {
    let curve = curve(
        EndPolicy::Hold,
        &[(100, 1_000_000_000), (500, 0), (1, 1_000_000_000)],
    );
    assert_eq!(curve.finish_ns(50, 100), Some(650));
    assert_eq!(curve.finish_ns(100, 1), Some(601));
    assert_eq!(curve.finish_ns(300, 1), Some(601));
}

#[test]
fn a_trace_that_ends_in_an_outage_never_sends_the_rest() {
    assert_eq!(
        curve(EndPolicy::Hold, &[(100, 8), (100, 0)]).finish_ns(150, 8),
        None
    );
    assert_eq!(curve(EndPolicy::Loop, &[(100, 0)]).finish_ns(0, 8), None);
}

#[test]
fn a_looping_trace_wraps_and_a_cleared_one_lifts_the_limit() {
    let steps = [(1000, 1_000_000_000), (1000, 0)];
    assert_eq!(
        curve(EndPolicy::Loop, &steps).finish_ns(0, 1500),
        Some(2500)
    );
    assert_eq!(
        curve(EndPolicy::Loop, &steps).finish_ns(0, 1000),
        Some(1000)
    );
    assert_eq!(
        curve(EndPolicy::Clear, &steps).state_at(2000),
        LinkState::TRANSPARENT
    );
    assert_eq!(
        curve(EndPolicy::Clear, &steps).finish_ns(2500, 1500),
        Some(2500)
    );
}

#[test]
fn no_bits_take_no_time() {
    for end in [EndPolicy::Loop, EndPolicy::Hold] {
        assert_eq!(curve(end, &[(100, 0), (100, 8)]).finish_ns(0, 0), Some(0));
    }
}

#[test]
fn the_largest_rates_and_times_do_not_overflow() {
    for end in [EndPolicy::Loop, EndPolicy::Hold, EndPolicy::Clear] {
        let curve = curve(
            end,
            &[
                (1, UNLIMITED_RATE_BPS),
                (u64::MAX - 1, UNLIMITED_RATE_BPS - 1),
            ],
        );
        assert_eq!(curve.bits_between(0, u64::MAX), u64::MAX);
        assert_eq!(curve.arrivals_between(0, u64::MAX), u64::MAX);
        assert_eq!(
            curve.finish_ns(u64::MAX, u64::MAX),
            if end == EndPolicy::Hold {
                None
            } else {
                Some(u64::MAX)
            }
        );
        assert!(curve.finish_ns(2, u64::MAX).is_some());
    }
    let slow = curve(EndPolicy::Loop, &[(u64::MAX, 1)]);
    assert_eq!(slow.finish_ns(5, u64::MAX), None, "beyond the end of time");
}

/// A trace with (length, rate, delay) steps.
fn delayed(end: EndPolicy, steps: &[(u64, u64, u64)]) -> CapacityCurve {
    let rates: Vec<(u64, u64)> = steps
        .iter()
        .map(|&(length, rate, _)| (length, rate))
        .collect();
    let trace = trace(end, &rates);
    let mut rows = trace.rows().to_vec();
    for (row, &(_, _, delay_ns)) in rows.iter_mut().zip(steps) {
        row.down.delay_ns = delay_ns;
    }
    CapacityCurve::new(
        &Trace::new(trace.metadata().clone(), rows).unwrap(),
        Direction::Down,
    )
}

#[test]
fn bits_arrive_after_their_delay_and_in_order() {
    let g = 1_000_000_000;
    let constant = delayed(EndPolicy::Hold, &[(100, g, 30)]);
    assert_eq!(constant.arrivals_between(0, 30), 0);
    assert_eq!(constant.arrivals_between(0, 50), 20);
    assert_eq!(constant.arrivals_between(40, 200), 160);
    // The delay rises by 20: nothing arrives for 20 ns.
    let rising = delayed(EndPolicy::Hold, &[(100, g, 30), (100, g, 50)]);
    assert_eq!(rising.arrivals_between(0, 130), 100);
    assert_eq!(rising.arrivals_between(130, 150), 0);
    assert_eq!(rising.arrivals_between(150, 160), 10);
    // The delay falls by 20: the bits that would have overtaken arrive together.
    let falling = delayed(EndPolicy::Hold, &[(100, g, 50), (100, g, 30)]);
    assert_eq!(falling.arrivals_between(0, 149), 99);
    assert_eq!(falling.arrivals_between(149, 150), 21);
    assert_eq!(falling.arrivals_between(150, 160), 10);
}

#[test]
fn what_is_sent_from_a_moment_on_arrives_within_a_time_less_the_delay() {
    let g = 1_000_000_000;
    // Whatever the start: 50 ns less the delay of 30 at a bit each ns, and nothing within the delay.
    let constant = delayed(EndPolicy::Hold, &[(100, g, 30)]);
    assert_eq!(constant.bits_within(0, 50), 20);
    assert_eq!(constant.bits_within(70, 50), 20);
    assert_eq!(constant.bits_within(70, 30), 0);
    assert_eq!(constant.bits_within(70, 0), 0);
    // From 50 to 140: 50 ns at one bit each, and 40 at two.
    let faster = delayed(EndPolicy::Hold, &[(100, g, 10), (100, 2 * g, 10)]);
    assert_eq!(faster.bits_within(50, 100), 50 + 80);
    // From 80 to 170: 20 ns, an outage of 50, and 20 again.
    let out = delayed(EndPolicy::Hold, &[(100, g, 10), (50, 0, 10), (100, g, 10)]);
    assert_eq!(out.bits_within(80, 100), 20 + 20);
    assert_eq!(out.bits_within(100, 60), 0);
    // What is sent from 100 on arrives at 150 and later, after the end at 140: 10 bits have left before.
    let rising = delayed(EndPolicy::Hold, &[(100, g, 30), (100, g, 50)]);
    assert_eq!(rising.bits_within(90, 50), 10);
    // From 150 to 300, of which the first 50 are an outage and the rest begins the trace anew.
    let looping = delayed(EndPolicy::Loop, &[(100, g, 10), (100, 0, 10)]);
    assert_eq!(looping.bits_within(150, 160), 100);
}

proptest! {
    #[test]
    fn what_was_asked_before_does_not_change_an_answer(
        steps in prop::collection::vec((1_u64..40, 0_u64..3), 1..12),
        questions in prop::collection::vec((0_u64..600, 1_u64..300), 1..40),
        loops: bool,
    ) {
        let end = if loops { EndPolicy::Loop } else { EndPolicy::Clear };
        let steps: Vec<_> =
            steps.into_iter().map(|(ns, gbit)| (ns, gbit * PER_GBIT)).collect();
        let asked = curve(end, &steps);
        for (at_ns, bits) in questions {
            let fresh = asked.clone();
            prop_assert_eq!(asked.state_at(at_ns), fresh.state_at(at_ns));
            prop_assert_eq!(asked.finish_ns(at_ns, bits), fresh.finish_ns(at_ns, bits));
            prop_assert_eq!(asked.change_after(at_ns), fresh.change_after(at_ns));
        }
    }

    #[test]
    fn what_has_arrived_is_what_left_before_the_first_bit_under_way(
        steps in prop::collection::vec((1_u64..40, 0_u64..3, 0_u64..90), 1..6),
        t_ns in 0_u64..400,
        loops: bool,
    ) {
        let end = if loops { EndPolicy::Loop } else { EndPolicy::Hold };
        let steps: Vec<_> =
            steps.into_iter().map(|(ns, gbit, delay)| (ns, gbit * PER_GBIT, delay)).collect();
        let curve = delayed(end, &steps);
        let left = (0..).find(|&s| s + curve.state_at(s).delay_ns >= t_ns).unwrap();
        prop_assert_eq!(curve.left_by(t_ns), left);
        prop_assert_eq!(curve.arrivals_between(0, t_ns), curve.bits_between(0, left));
    }

    #[test]
    fn the_finish_time_is_the_first_moment_with_enough_capacity(
        steps in prop::collection::vec((1_u64..10_000, 0_u64..20_000_000_000), 1..8),
        start_ns in 0_u64..50_000,
        bits in 1_u64..200_000,
        loops: bool,
    ) {
        let end = if loops { EndPolicy::Loop } else { EndPolicy::Hold };
        let curve = curve(end, &steps);
        match curve.finish_ns(start_ns, bits) {
            Some(finish) => {
                let target = curve.integral_at(start_ns) + u128::from(bits) * PER_BIT;
                prop_assert!(curve.integral_at(finish) >= target);
                prop_assert!(finish == start_ns || curve.integral_at(finish - 1) < target);
            }
            None => prop_assert!(curve.state_at(u64::MAX / 4).rate_bps == 0 || curve.period == 0),
        }
    }
}
