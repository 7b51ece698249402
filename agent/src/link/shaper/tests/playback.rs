//! Interventions and changes of settings while packets are under way.

use hexloop_traces::{PlaybackChange, StateOverride};

use super::*;

fn rate(rate_bps: u64) -> PlaybackChange {
    PlaybackChange::Override(StateOverride {
        rate_bps: Some(rate_bps),
        ..StateOverride::NONE
    })
}

#[test]
fn a_packet_in_service_is_rescaled_exactly_and_those_behind_it_follow() {
    let rows = [(1000 * MS, state(8_000_000, 3 * MS))];
    let mut bench = bench(EndPolicy::Hold, &rows, ENDLESS);
    for _ in 0..3 {
        bench.send(0, 1000);
    }
    bench.run(MS / 4);
    // A quarter is through; the rest takes a quarter of the time.
    assert_eq!(bench.intervene(MS / 4, rate(32_000_000)), MS / 4);
    let first_ns = MS / 4 + 3 * MS / 16;
    let expected = [first_ns, first_ns + MS / 4, first_ns + MS / 2];
    assert_eq!(
        bench.due_times(),
        expected.map(|finish_ns| finish_ns + 3 * MS)
    );
}

#[test]
fn an_outage_by_hand_holds_the_packet_in_service_until_it_is_lifted() {
    let rows = [(1000 * MS, state(8_000_000, 0))];
    let mut bench = bench(EndPolicy::Hold, &rows, ENDLESS);
    bench.send(0, 1000);
    bench.run(MS / 2);
    bench.intervene(MS / 2, rate(0));
    assert_eq!(bench.shaper.next_look_ns(), Some(u64::MAX));
    bench.run(40 * MS);
    let lifted = PlaybackChange::Override(StateOverride::NONE);
    bench.intervene(40 * MS, lifted);
    assert_eq!(bench.due_times(), [40 * MS + MS / 2]);
}

#[test]
fn what_is_through_the_bottleneck_keeps_its_delay() {
    let rows = [(1000 * MS, state(8_000_000, 20 * MS))];
    let mut bench = bench(EndPolicy::Hold, &rows, ENDLESS);
    bench.send(0, 1000);
    bench.send(0, 1000);
    bench.run(3 * MS / 2);
    let delay = StateOverride {
        delay_ns: Some(30 * MS),
        ..StateOverride::NONE
    };
    bench.intervene(3 * MS / 2, PlaybackChange::Override(delay));
    assert_eq!(bench.due_times(), [21 * MS, 32 * MS]);
}

#[test]
fn what_is_done_too_late_holds_from_now_on() {
    let rows = [(1000 * MS, state(8_000_000, 0))];
    let mut bench = bench(EndPolicy::Hold, &rows, ENDLESS);
    bench.send(0, 1000);
    bench.run(5 * MS);
    assert_eq!(bench.intervene(2 * MS, PlaybackChange::Pause), 5 * MS);
    let change = LinkChange::Set(SettingsChange::default());
    assert_eq!(bench.shaper.change(2 * MS, change), 5 * MS);
}

#[test]
fn settings_change_at_their_moment_also_when_nobody_looks() {
    let rows = [(1000 * MS, state(8_000_000, 0))];
    let mut bench = bench(EndPolicy::Hold, &rows, drop_tail(10_000));
    for (at_ns, bytes) in [(20 * MS, 3000), (10 * MS, 1000)] {
        let queue = Some(QueueLimit::Bytes(bytes));
        let change = SettingsChange {
            queue,
            ..SettingsChange::default()
        };
        bench.shaper.change(at_ns, LinkChange::Set(change));
    }
    for arrival_ns in [
        9 * MS,
        9 * MS,
        15 * MS,
        15 * MS,
        25 * MS,
        25 * MS,
        25 * MS,
        25 * MS,
    ] {
        bench.send(arrival_ns, 1000);
    }
    assert_eq!((bench.taken.len(), bench.dropped), (6, 2));
}

proptest! {
    #[test]
    fn interventions_as_they_come_are_played_as_if_they_had_been_known(
        rows in rows(),
        packets in packets(120),
        settings in settings(),
        changes in prop::collection::vec((0_usize..120, 0_u64..6, 0_u64..40_000_000), 0..6),
    ) {
        let mut live = bench(EndPolicy::Loop, &rows, settings);
        let mut known = bench(EndPolicy::Loop, &rows, settings);
        let mut now_ns = 0;
        let mut arrivals = Vec::new();
        for (index, (gap_ns, bytes)) in packets.into_iter().enumerate() {
            now_ns += gap_ns;
            for &(at, kind, value) in changes.iter().filter(|change| change.0 == index) {
                let at_ns = now_ns;
                live.run(at_ns.saturating_sub(1));
                let change = match kind {
                    0 => PlaybackChange::Pause,
                    1 => PlaybackChange::Resume,
                    2 => PlaybackChange::Jump { to_ns: value },
                    3 => rate(value + 1_000_000),
                    4 => rate(0),
                    _ => PlaybackChange::Override(StateOverride::NONE),
                };
                prop_assert_eq!(at, index);
                prop_assert_eq!(live.intervene(at_ns, change), at_ns);
                known.intervene(at_ns, change);
            }
            live.send(now_ns, bytes);
            arrivals.push((now_ns, bytes));
        }
        for shaper in [&mut live.shaper, &mut known.shaper] {
            // Whatever was done to it, the link works again in the end.
            shaper.change(now_ns + MS, LinkChange::Play(rate(10_000_000)));
        }
        for (at_ns, bytes) in arrivals {
            known.send(at_ns, bytes);
        }
        live.run(u64::MAX - 1);
        known.run(u64::MAX - 1);
        prop_assert_eq!(live.left, known.left);
        prop_assert_eq!(live.taken, known.taken);
    }
}
