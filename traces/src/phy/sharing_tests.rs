use super::*;

fn cell(settings: SharingSettings) -> SharedCell {
    SharedCell::new(settings, 1, "cell").unwrap()
}

/// What the user of interest gets of each of `slots` slots, with the same rate everywhere.
fn shares(settings: SharingSettings, slots: u64) -> Vec<f64> {
    let mut cell = cell(settings);
    cell.report(Direction::Down, [5.0; GROUPS]);
    let grant = |slot| {
        cell.advance(slot);
        cell.grant(Direction::Down).share()
    };
    (0..slots).map(grant).collect()
}

fn share(settings: SharingSettings) -> f64 {
    shares(settings, 50_000).iter().sum::<f64>() / 50_000.0
}

#[test]
fn shares_add_up_to_the_cell_and_are_alike_in_the_long_run() {
    for scheduler in [Scheduler::ProportionalFair, Scheduler::RoundRobin] {
        let mut cell = cell(SharingSettings {
            scheduler,
            ..SharingSettings::full_buffer(9)
        });
        cell.report(Direction::Up, [3.0; GROUPS]);
        for slot in 0..50_000 {
            cell.advance(slot);
            cell.grant(Direction::Up);
        }
        let given: Vec<u64> = cell.given(Direction::Up).collect();
        assert_eq!(given.iter().sum::<u64>(), 50_000 * GROUPS as u64);
        assert_eq!(cell.given(Direction::Down).sum::<u64>(), 0);
        assert_eq!(given.len(), 10);
        for parts in given {
            assert!((27_000..68_000).contains(&parts), "{scheduler:?}: {parts}");
        }
    }
}

#[test]
fn alone_everything_is_ones_own_and_without_a_rate_nothing() {
    let alone = shares(SharingSettings::full_buffer(0), 100);
    assert!(alone.iter().all(|share| (share - 1.0).abs() < 1e-12));
    let mut deaf = cell(SharingSettings::full_buffer(3));
    deaf.report(Direction::Down, [0.0; GROUPS]);
    for slot in 0..100 {
        deaf.advance(slot);
        assert_eq!(deaf.grant(Direction::Down).count(), 0);
    }
}

#[test]
fn turns_give_equal_parts_and_leave_out_who_has_nothing_to_send() {
    let settings = SharingSettings {
        scheduler: Scheduler::RoundRobin,
        ..SharingSettings::full_buffer(4)
    };
    assert!((share(settings) - 0.2).abs() < 1e-3);
    let silent = SharingSettings {
        activity: 0.0,
        ..settings
    };
    assert!((share(silent) - 1.0).abs() < 1e-12);
}

#[test]
fn fairness_finds_better_moments_and_parts_than_turns_do() {
    let carried = |scheduler| {
        let mut cell = cell(SharingSettings {
            scheduler,
            report_slots: 1,
            ..SharingSettings::full_buffer(4)
        });
        let rng = CounterRng::new(2, "own", "fading");
        let (mut sum, mut parts) = (0.0, 0);
        for slot in 0..40_000_u64 {
            // Rayleigh fading that holds for ten slots.
            let power = |group| -libm::log(1.0 - rng.uniform(slot / 10 * 16 + group as u64));
            let rates: [f64; GROUPS] =
                core::array::from_fn(|group| scheduling_rate(10.0 * power(group)));
            cell.advance(slot);
            cell.report(Direction::Down, rates);
            let groups = cell.grant(Direction::Down);
            for (group, rate) in rates.iter().enumerate() {
                if groups.contains(group) {
                    sum += rate;
                    parts += 1;
                }
            }
        }
        sum / f64::from(parts)
    };
    let gain = carried(Scheduler::ProportionalFair) / carried(Scheduler::RoundRobin);
    assert!(gain > 1.2, "{gain}");
}

#[test]
fn users_that_come_and_go_leave_more() {
    let with = |activity| {
        share(SharingSettings {
            activity,
            mean_burst_slots: 300.0,
            ..SharingSettings::full_buffer(5)
        })
    };
    let (full, half, rare) = (with(1.0), with(0.5), with(0.05));
    assert!(
        full < 0.25 && half > full + 0.06 && rare > 0.7,
        "{full} {half} {rare}"
    );
    // The share of time is the one that was asked for.
    let mut cell = cell(SharingSettings {
        activity: 0.3,
        mean_burst_slots: 50.0,
        ..SharingSettings::full_buffer(20)
    });
    let mut active = 0.0;
    for slot in 0..20_000 {
        cell.advance(slot);
        active += f64::from(cell.active());
    }
    assert!((active / 20_000.0 - 6.0).abs() < 0.3, "{active}");
}

#[test]
fn nobody_waits_for_long() {
    let shares = shares(SharingSettings::full_buffer(10), 20_000);
    let longest = |limit: usize| {
        shares
            .split(|share| *share > 0.0)
            .all(|run| run.len() < limit)
    };
    assert!(longest(60));
}

#[test]
fn the_same_seed_gives_the_same_parts() {
    let run = |seed| {
        let mut cell = SharedCell::new(SharingSettings::full_buffer(5), seed, "c").unwrap();
        cell.report(Direction::Down, [4.0; GROUPS]);
        let grant = |slot| {
            cell.advance(slot);
            cell.grant(Direction::Down)
        };
        (0..1000).map(grant).collect::<Vec<Groups>>()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}
