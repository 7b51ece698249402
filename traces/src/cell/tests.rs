use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;
const ENDLESS: u64 = 1 << 60;

const fn bits(bits: u64) -> Carried {
    Carried::of_bits(bits)
}

fn share(channel_bits: u64, backlog_bits: u64) -> SlotShare {
    SlotShare {
        channel: bits(channel_bits),
        backlog: bits(backlog_bits),
        granted: Carried::default(),
    }
}

fn cell(policy: CellPolicy, weights: &[u32]) -> CellScheduler {
    CellScheduler::new(CellSettings::new(policy), weights)
}

/// What users that always have something to send get over so many slots, in bits.
fn totals(
    policy: CellPolicy,
    weights: &[u32],
    slots: u64,
    channel: impl Fn(usize, u64) -> u64,
) -> Vec<f64> {
    let mut cell = cell(policy, weights);
    let mut totals = vec![0.0; weights.len()];
    for slot in 0..slots {
        let mut shares: Vec<SlotShare> = (0..weights.len())
            .map(|user| share(channel(user, slot), ENDLESS))
            .collect();
        cell.divide(&mut shares);
        for (total, share) in totals.iter_mut().zip(&shares) {
            *total += share.granted.as_f64() / 1e9;
        }
    }
    totals
}

/// Jain's index: 1 where all are equal, 1/n where one has everything.
fn fairness(totals: &[f64]) -> f64 {
    let sum: f64 = totals.iter().sum();
    let squares: f64 = totals.iter().map(|total| total * total).sum();
    sum * sum / (squares * f64::from(u32::try_from(totals.len()).unwrap()))
}

const POLICIES: [CellPolicy; 3] = [
    CellPolicy::PROPORTIONAL_FAIR,
    CellPolicy::RoundRobin,
    CellPolicy::FixedShare,
];

#[test]
fn equal_users_get_equal_shares_of_everything() {
    for policy in POLICIES {
        let got = totals(policy, &[1; 7], 7000, |_, _| 10_000);
        assert!(fairness(&got) > 0.9999, "{policy:?}: {got:?}");
        let sum: f64 = got.iter().sum();
        assert!((sum - 7000.0 * 10_000.0).abs() < 100.0, "{policy:?}: {sum}");
    }
}

#[test]
fn users_on_unequal_channels_share_time_and_not_bits() {
    for policy in POLICIES {
        let got = totals(policy, &[1; 2], 40_000, |user, _| [10_000, 40_000][user]);
        let ratio = got[1] / got[0];
        assert!((ratio - 4.0).abs() < 0.1, "{policy:?}: {ratio}");
    }
}

#[test]
fn fixed_shares_follow_the_weights() {
    let got = totals(CellPolicy::FixedShare, &[1, 2, 5], 1000, |_, _| 80_000);
    assert_eq!(got, [10_000_000.0, 20_000_000.0, 50_000_000.0]);
}

#[test]
fn proportional_fair_gains_where_channels_are_good_at_different_times() {
    // Each channel is good half of the time, and never when the other is.
    let channel = |user: usize, slot: u64| {
        let first_is_good = (slot / 50).is_multiple_of(2);
        if first_is_good == (user == 0) {
            20_000
        } else {
            4_000
        }
    };
    let fair = totals(CellPolicy::PROPORTIONAL_FAIR, &[1; 2], 20_000, channel);
    let turns = totals(CellPolicy::RoundRobin, &[1; 2], 20_000, channel);
    let sum = |totals: &[f64]| totals.iter().sum::<f64>();
    assert!(sum(&fair) > 1.5 * sum(&turns), "{fair:?} {turns:?}");
    assert!(fairness(&fair) > 0.99);
}

#[test]
fn round_robin_passes_over_who_has_nothing_to_send_or_no_channel() {
    let mut cell = cell(CellPolicy::RoundRobin, &[1; 4]);
    let mut order = Vec::new();
    for _ in 0..4 {
        let mut shares = [
            share(1000, ENDLESS),
            share(1000, 0),
            share(0, ENDLESS),
            share(1000, ENDLESS),
        ];
        cell.divide(&mut shares);
        order.push(shares.map(|share| share.granted == bits(1000)));
    }
    let first = [true, false, false, false];
    let last = [false, false, false, true];
    assert_eq!(order, [first, last, first, last]);
}

#[test]
fn what_one_does_not_need_goes_to_the_next_in_the_same_slot() {
    for policy in POLICIES {
        let mut cell = cell(policy, &[1; 2]);
        let mut shares = [share(1000, 250), share(4000, ENDLESS)];
        cell.divide(&mut shares);
        let got = shares.map(|share| share.granted);
        let possible = [
            // The first a quarter of the slot, or nothing yet.
            [bits(250), bits(3000)],
            [bits(0), bits(4000)],
        ];
        assert!(possible.contains(&got), "{policy:?}: {got:?}");
    }
}

proptest! {
    #[test]
    fn no_time_is_lost_while_anybody_waits_and_none_is_given_twice(
        policy in prop::sample::select(&POLICIES[..]),
        slot_ns in 62_500_u64..2_000_000,
        slots in prop::collection::vec(
            prop::collection::vec((0_u64..50_000, prop_oneof![0_u64..20_000, Just(ENDLESS)]), 5),
            1..30,
        ),
        weights in prop::collection::vec(1_u32..9, 5),
    ) {
        let settings = CellSettings { policy, slot_ns };
        let mut cell = CellScheduler::new(settings, &weights);
        for users in slots {
            let mut shares: Vec<SlotShare> =
                users.iter().map(|&(channel, backlog)| share(channel, backlog)).collect();
            cell.divide(&mut shares);
            let mut used_ns = 0.0;
            let mut waits = false;
            for share in &shares {
                prop_assert!(share.granted <= share.backlog && share.granted <= share.channel);
                if share.channel > Carried::default() {
                    let of_slot = share.granted.as_f64() / share.channel.as_f64();
                    used_ns += of_slot * f64::from(u32::try_from(slot_ns).unwrap());
                    waits |= share.granted < share.backlog;
                }
            }
            // Each user's time is a whole number of nanoseconds, rounded up.
            let slot = f64::from(u32::try_from(slot_ns).unwrap());
            prop_assert!(used_ns <= slot + 0.001);
            prop_assert!(!waits || used_ns >= slot - 10.0, "{} of {}", used_ns, slot);
        }
    }
}

#[test]
fn time_constant_of_the_average_is_the_one_stated() {
    // A user that had everything alone for long is behind one that comes, until their averages
    // meet: R1 = exp(-t/T), R2 = 1 - exp(-t/T), at t = T ln 2.
    let mut cell = cell(CellPolicy::PROPORTIONAL_FAIR, &[1; 2]);
    for _ in 0..20_000 {
        cell.divide(&mut [share(1000, ENDLESS), share(1000, 0)]);
    }
    let mut until = 0;
    loop {
        let mut shares = [share(1000, ENDLESS), share(1000, ENDLESS)];
        cell.divide(&mut shares);
        if shares[0].granted > Carried::default() {
            break;
        }
        until += 1;
    }
    assert_eq!(until, 693, "ln 2 of 1000 slots of {MS} ns");
}

#[test]
fn slots_that_are_passed_over_count_in_the_averages() {
    let mut passed = cell(CellPolicy::PROPORTIONAL_FAIR, &[1; 2]);
    let mut divided = passed.clone();
    for cell in [&mut passed, &mut divided] {
        for _ in 0..500 {
            cell.divide(&mut [share(1000, ENDLESS), share(1000, 0)]);
        }
    }
    passed.skip(700);
    for _ in 0..700 {
        divided.divide(&mut [share(1000, 0), share(1000, 0)]);
    }
    let (a, b) = (passed.users[0].average, divided.users[0].average);
    assert!((a / b - 1.0).abs() < 1e-9, "{a} {b}");
    assert_eq!(passed.slot, divided.slot);
}
