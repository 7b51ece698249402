use proptest::prelude::*;

use super::*;
use crate::{Direction, EndPolicy, TRACE_SCHEMA, Trace, TraceMetadata, TraceRow, TraceStatus};

const GBIT: u64 = 1_000_000_000;

/// A curve of (length, Gbit/s, delay) steps: at 1 Gbit/s, a bit takes a nanosecond.
fn curve(end: EndPolicy, steps: &[(u64, u64, u64)]) -> CapacityCurve {
    let mut t_ns = 0;
    let mut rows = Vec::new();
    for &(length_ns, gbit, delay_ns) in steps {
        let state = LinkState {
            rate_bps: gbit * GBIT,
            delay_ns,
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
        schema: TRACE_SCHEMA,
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
    CapacityCurve::new(&Trace::new(metadata, rows).unwrap(), Direction::Down)
}

const fn at(at_ns: u64, change: PlaybackChange) -> Intervention {
    Intervention { at_ns, change }
}

fn rate(gbit: u64) -> PlaybackChange {
    PlaybackChange::Override(StateOverride {
        rate_bps: Some(gbit * GBIT),
        ..StateOverride::NONE
    })
}

#[test]
fn a_paused_trace_stays_where_it_is_and_goes_on_from_there() {
    let steps = [(100, 1, 5), (100, 2, 7)];
    let changes = [
        at(50, PlaybackChange::Pause),
        at(300, PlaybackChange::Resume),
    ];
    let schedule = Schedule::with(curve(EndPolicy::Hold, &steps), &changes);
    assert_eq!(schedule.position_ns(200), 50);
    assert_eq!(schedule.state_at(349).rate_bps, GBIT);
    assert_eq!(schedule.state_at(350).rate_bps, 2 * GBIT);
    assert_eq!(schedule.bits_between(0, 360), 350 + 20);
    assert_eq!(schedule.finish_ns(340, 30), Some(360));
}

#[test]
fn a_packet_under_way_feels_an_override_exactly() {
    let mut schedule = Schedule::new(curve(EndPolicy::Hold, &[(1000, 1, 0)]));
    assert_eq!(schedule.finish_ns(0, 1500), Some(1500));
    // 500 bits are through by 500 ns; the other 1000 take 250 ns at four times the rate.
    schedule.apply(at(500, rate(4)));
    assert_eq!(schedule.finish_ns(0, 1500), Some(750));
    schedule.apply(at(600, PlaybackChange::Override(StateOverride::NONE)));
    assert_eq!(schedule.finish_ns(0, 1500), Some(1200));
}

#[test]
fn an_override_with_an_outage_holds_packets_until_it_is_lifted() {
    let mut schedule = Schedule::new(curve(EndPolicy::Loop, &[(1000, 1, 0)]));
    schedule.apply(at(10, rate(0)));
    assert_eq!(schedule.finish_ns(0, 20), None);
    schedule.apply(at(110, PlaybackChange::Override(StateOverride::NONE)));
    assert_eq!(schedule.finish_ns(0, 20), Some(120));
}

#[test]
fn a_jump_moves_the_trace_also_while_it_stands() {
    let steps = [(100, 1, 0), (100, 3, 0)];
    let changes = [
        at(10, PlaybackChange::Jump { to_ns: 190 }),
        at(20, PlaybackChange::Pause),
        at(30, PlaybackChange::Jump { to_ns: 150 }),
        at(50, PlaybackChange::Resume),
    ];
    let schedule = Schedule::with(curve(EndPolicy::Loop, &steps), &changes);
    assert_eq!(schedule.bits_between(0, 20), 10 + 30);
    assert_eq!(
        schedule.state_at(20).rate_bps,
        GBIT,
        "looped round to the start"
    );
    assert_eq!(schedule.bits_between(20, 50), 10 + 60);
    assert_eq!(schedule.position_ns(60), 160);
}

#[test]
fn changes_at_one_moment_add_up() {
    let changes = [
        at(40, PlaybackChange::Pause),
        at(40, PlaybackChange::Jump { to_ns: 5 }),
        at(40, rate(2)),
    ];
    let schedule = Schedule::with(curve(EndPolicy::Loop, &[(100, 1, 0)]), &changes);
    assert_eq!(schedule.position_ns(39), 39);
    assert_eq!(schedule.position_ns(90), 5);
    assert_eq!(schedule.bits_between(39, 41), 1 + 2);
}

#[test]
fn an_unlimited_override_takes_no_time() {
    let mut schedule = Schedule::new(curve(EndPolicy::Hold, &[(100, 1, 0)]));
    let unlimited = StateOverride {
        rate_bps: Some(UNLIMITED_RATE_BPS),
        ..StateOverride::NONE
    };
    schedule.apply(at(10, PlaybackChange::Override(unlimited)));
    assert_eq!(schedule.finish_ns(10, 12_000), Some(10));
    assert_eq!(schedule.finish_ns(9, 12_000), Some(11));
}

#[test]
fn an_override_is_written_with_nothing_but_what_it_sets() {
    let overrides = StateOverride {
        delay_ns: Some(7),
        ..StateOverride::NONE
    };
    let text = serde_json::to_string(&PlaybackChange::Override(overrides)).unwrap();
    assert_eq!(text, r#"{"override":{"delay_ns":7}}"#);
    let back: PlaybackChange = serde_json::from_str(&text).unwrap();
    assert_eq!(back, PlaybackChange::Override(overrides));
    assert!(serde_json::from_str::<StateOverride>(r#"{"delay":7}"#).is_err());
}

#[test]
fn jitter_reaches_as_far_as_what_left_while_it_held_can_be_moved() {
    // 2 ns of delay; from 100 to 110 ns somebody asks for 50 ns of delay and 30 of jitter.
    let asked = |at_ns, overrides| Intervention {
        at_ns,
        change: PlaybackChange::Override(overrides),
    };
    let shaken = StateOverride {
        delay_ns: Some(50),
        jitter_ns: Some(30),
        ..StateOverride::NONE
    };
    let changes = [asked(100, shaken), asked(110, StateOverride::NONE)];
    let schedule = Schedule::with(curve(EndPolicy::Hold, &[(1000, 1, 2)]), &changes);
    let jitters = |from_ns, to_ns| schedule.jitters_between(from_ns, to_ns, 20);
    // What left at 100 arrives from 120 on, and what left before 110 until 190.
    assert!(!jitters(0, 120));
    assert!(jitters(0, 121));
    assert!(jitters(189, 500));
    assert!(!jitters(190, 500));
    assert!(!schedule.jitters_between(0, 500, 30), "so much is allowed");
    let outage = StateOverride {
        rate_bps: Some(0),
        ..shaken
    };
    let changes = [asked(100, outage), asked(110, StateOverride::NONE)];
    let schedule = Schedule::with(curve(EndPolicy::Hold, &[(1000, 1, 2)]), &changes);
    assert!(!schedule.jitters_between(0, 500, 20), "nothing leaves");
}

fn change() -> impl Strategy<Value = PlaybackChange> {
    prop_oneof![
        Just(PlaybackChange::Pause),
        Just(PlaybackChange::Resume),
        (0_u64..300).prop_map(|to_ns| PlaybackChange::Jump { to_ns }),
        (prop::option::of(0_u64..4), prop::option::of(0_u64..90)).prop_map(|(gbit, delay_ns)| {
            PlaybackChange::Override(StateOverride {
                rate_bps: gbit.map(|gbit| gbit * GBIT),
                delay_ns,
                ..StateOverride::NONE
            })
        }),
    ]
}

fn interventions() -> impl Strategy<Value = Vec<Intervention>> {
    prop::collection::vec((0_u64..60, change()), 0..8).prop_map(|changes| {
        let mut at_ns = 0;
        let place = |(gap, change)| {
            at_ns += gap;
            at(at_ns, change)
        };
        changes.into_iter().map(place).collect()
    })
}

fn steps() -> impl Strategy<Value = Vec<(u64, u64, u64)>> {
    prop::collection::vec((1_u64..40, 0_u64..4, 0_u64..90), 1..6)
}

/// What is in force at every nanosecond, found by walking through them.
fn walk(curve: &CapacityCurve, changes: &[Intervention], until_ns: u64) -> Vec<LinkState> {
    let (mut position_ns, mut running, mut overrides) = (0, true, StateOverride::NONE);
    let mut walked = Vec::new();
    for now_ns in 0..until_ns {
        for intervention in changes.iter().filter(|change| change.at_ns == now_ns) {
            match intervention.change {
                PlaybackChange::Pause => running = false,
                PlaybackChange::Resume => running = true,
                PlaybackChange::Jump { to_ns } => position_ns = to_ns,
                PlaybackChange::Override(new) => overrides = new,
            }
        }
        walked.push(overrides.over(curve.state_at(position_ns)));
        position_ns += u64::from(running);
    }
    walked
}

proptest! {
    #[test]
    fn the_order_in_which_interventions_are_told_does_not_matter(
        steps in steps(),
        changes in interventions(),
        order in prop::collection::vec(any::<prop::sample::Index>(), 8),
        start_ns in 0_u64..400,
        bits in 1_u64..300,
    ) {
        let mut changes = changes;
        changes.dedup_by_key(|change| change.at_ns);
        let curve = curve(EndPolicy::Loop, &steps);
        let in_order = Schedule::with(curve.clone(), &changes);
        let mut left = changes.clone();
        let mut told = Schedule::new(curve);
        for index in order {
            if !left.is_empty() {
                told.apply(left.remove(index.index(left.len())));
            }
        }
        prop_assert_eq!(told.interventions(), &changes[..]);
        prop_assert_eq!(told.finish_ns(start_ns, bits), in_order.finish_ns(start_ns, bits));
        prop_assert_eq!(told.state_at(start_ns), in_order.state_at(start_ns));
    }

    #[test]
    fn without_interventions_the_answers_are_those_of_the_curve(
        steps in steps(),
        loops: bool,
        from_ns in 0_u64..400,
        length_ns in 0_u64..400,
        bits in 0_u64..2000,
    ) {
        let curve = curve(if loops { EndPolicy::Loop } else { EndPolicy::Hold }, &steps);
        let schedule = Schedule::new(curve.clone());
        let to_ns = from_ns + length_ns;
        prop_assert_eq!(schedule.state_at(from_ns), curve.state_at(from_ns));
        prop_assert_eq!(schedule.finish_ns(from_ns, bits), curve.finish_ns(from_ns, bits));
        prop_assert_eq!(schedule.bits_between(from_ns, to_ns), curve.bits_between(from_ns, to_ns));
        prop_assert_eq!(
            schedule.arrivals_between(from_ns, to_ns),
            curve.arrivals_between(from_ns, to_ns)
        );
    }

    #[test]
    fn every_answer_is_that_of_a_walk_through_the_nanoseconds(
        steps in steps(),
        changes in interventions(),
        loops: bool,
        start_ns in 0_u64..400,
        bits in 1_u64..300,
        t_ns in 0_u64..600,
    ) {
        let curve = curve(if loops { EndPolicy::Loop } else { EndPolicy::Hold }, &steps);
        let schedule = Schedule::with(curve.clone(), &changes);
        let walked = walk(&curve, &changes, 5000);
        let at = |t_ns: u64| walked[usize::try_from(t_ns).unwrap()];
        prop_assert_eq!(schedule.state_at(t_ns), at(t_ns));

        // At whole multiples of 1 Gbit/s every nanosecond carries whole bits.
        let mut sent = 0;
        let mut finish_ns = None;
        for now_ns in start_ns..5000 {
            sent += at(now_ns).rate_bps / GBIT;
            if sent >= bits {
                finish_ns = Some(now_ns + 1);
                break;
            }
        }
        let found = schedule.finish_ns(start_ns, bits);
        if finish_ns.is_some() || found.is_none_or(|found| found < 5000) {
            prop_assert_eq!(found, finish_ns);
        }

        let left_ns = (0_u64..).find(|&s| s + at(s).delay_ns >= t_ns).unwrap();
        prop_assert_eq!(schedule.left_by(t_ns), left_ns);
        let carried: u64 = (0..left_ns).map(|s| at(s).rate_bps / GBIT).sum();
        prop_assert_eq!(schedule.arrivals_between(0, t_ns), carried);
    }
}
