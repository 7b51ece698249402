//! Statistics at n >= 1e5 with fixed seeds.

use super::*;
use crate::tr38901::large_scale::{LargeScale, Parameter};
use crate::tr38901::los::{Clutter, LineOfSight, Vegetation};
use crate::tr38901::normal::cumulative;
use crate::tr38901::o2i::Building;
use crate::tr38901::path_loss::Geometry;
use crate::tr38901::{Condition, Scenario, SpecVersion};

const COUNT: usize = 200_000;

fn wander(seed: u64, distance_m: f64) -> Wander {
    Wander::new(CounterRng::new(seed, "user", "test"), distance_m)
}

fn count(values: usize) -> f64 {
    f64::from(u32::try_from(values).unwrap())
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / count(values.len())
}

fn deviation(values: &[f64]) -> f64 {
    let mean = mean(values);
    let squares: f64 = values
        .iter()
        .map(|value| (value - mean) * (value - mean))
        .sum();
    libm::sqrt(squares / count(values.len()))
}

fn correlation(one: &[f64], other: &[f64]) -> f64 {
    let (mean_one, mean_other) = (mean(one), mean(other));
    let pairs = one.iter().zip(other);
    let product: f64 = pairs.map(|(a, b)| (a - mean_one) * (b - mean_other)).sum();
    product / count(one.len()) / deviation(one) / deviation(other)
}

/// Whether Kolmogorov and Smirnov would reject at the 1 % level.
fn differs(mut values: Vec<f64>, distribution: impl Fn(f64) -> f64) -> bool {
    values.sort_by(f64::total_cmp);
    let n = count(values.len());
    let mut widest = 0.0_f64;
    for (at, value) in values.iter().enumerate() {
        let expected = distribution(*value);
        widest = widest
            .max(expected - count(at) / n)
            .max((count(at) + 1.0) / n - expected);
    }
    widest * libm::sqrt(n) > 1.628
}

fn percentile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index"
    )]
    let at = (share * count(values.len())) as usize;
    values[at]
}

fn track(scenario: Scenario, condition: Condition, entity: &str) -> LargeScaleTrack {
    let spec = SpecVersion::V19_4;
    let model = LargeScale::new(scenario, condition, spec, 3.5, None).unwrap();
    LargeScaleTrack::new(model, 11, entity)
}

#[test]
fn autocorrelation_falls_exponentially_with_the_distance() {
    for (seed, distance_m) in [(1, 10.0), (2, 37.0), (3, 120.0)] {
        let mut wander = wander(seed, distance_m);
        let step_m = distance_m / 8.0;
        let values: Vec<f64> = (0..4 * COUNT).map(|_| wander.advance(step_m)).collect();
        assert!((deviation(&values) - 1.0).abs() < 0.02);
        for (lag, distances) in [(4, 0.5), (8, 1.0), (16, 2.0)] {
            let got = correlation(&values[lag..], &values[..values.len() - lag]);
            let expected = libm::exp(-distances);
            assert!(
                (got - expected).abs() <= 0.03,
                "{distance_m} {distances}: {got}"
            );
        }
    }
}

#[test]
fn steps_off_the_knots_have_the_same_autocorrelation_and_variance() {
    let mut wander = wander(4, 10.0);
    // A golden share of a knot: every place between two knots is visited.
    let step_m = 0.5 * 0.618_033_988_75;
    let values: Vec<f64> = (0..5 * COUNT).map(|_| wander.advance(step_m)).collect();
    assert!((deviation(&values) - 1.0).abs() < 0.02);
    for (lag, step) in [(16, 16.0), (32, 32.0), (65, 65.0)] {
        let got = correlation(&values[lag..], &values[..values.len() - lag]);
        let expected = libm::exp(-step * step_m / 10.0);
        assert!((got - expected).abs() <= 0.03, "{lag}: {got} {expected}");
    }
}

#[test]
fn the_value_depends_on_the_distance_and_not_on_the_steps() {
    let (mut coarse, mut fine) = (wander(5, 13.0), wander(5, 13.0));
    for _ in 0..500 {
        let far = coarse.advance(1.0);
        let mut near = 0.0;
        for _ in 0..64 {
            near = fine.advance(1.0 / 64.0);
        }
        assert!((far - near).abs() < 1e-9);
    }
}

#[test]
fn nothing_jumps_where_knots_are_passed() {
    let mut wander = wander(6, 10.0);
    let mut last = wander.value();
    let (mut inside, mut across) = (0.0_f64, 0.0_f64);
    for step in 1..=200_000_u32 {
        let value = wander.advance(0.001);
        let change = (value - last).abs();
        // Knots are half a metre apart.
        if step % 500 <= 1 {
            across = across.max(change);
        } else {
            inside = inside.max(change);
        }
        last = value;
    }
    assert!(across <= inside && inside < 0.004, "{across} {inside}");
}

#[test]
fn a_user_who_stands_keeps_the_value_and_a_jump_forgets_it() {
    let mut wander = wander(7, 10.0);
    let first = wander.advance(3.3);
    for _ in 0..10 {
        assert!((wander.advance(0.0) - first).abs() <= 0.0);
    }
    let values: Vec<f64> = (0..COUNT).map(|_| wander.advance(510.0)).collect();
    assert!(correlation(&values[1..], &values[..COUNT - 1]).abs() < 0.01);
    assert!(!differs(values, cumulative));
}

#[test]
fn shadowing_and_delay_spread_have_their_distributions() {
    for (scenario, condition, sigma_db) in [
        (Scenario::Umi, Condition::Los, 4.0),
        (Scenario::Umi, Condition::Nlos, 7.82),
        (Scenario::Uma, Condition::Nlos, 6.0),
        (Scenario::Rma, Condition::O2i, 8.0),
        (Scenario::InhMixed, Condition::Nlos, 8.03),
    ] {
        let mut track = track(scenario, condition, "drops");
        let (base_m, user_m) = scenario.usual_heights_m();
        let geometry = Geometry::new(scenario, 100.0, base_m, user_m);
        let (mut shadowing, mut spread) = (Vec::new(), Vec::new());
        for _ in 0..COUNT / 2 {
            track.advance(60.0 * 120.0);
            let sample = track.sample(&geometry);
            shadowing.push(sample.shadowing_db);
            spread.push(sample.delay_spread_s);
        }
        let got = deviation(&shadowing);
        assert!(
            (got / sigma_db - 1.0).abs() <= 0.02,
            "{scenario} {condition}: {got}"
        );
        assert!(!differs(shadowing, |db| cumulative(db / sigma_db)));
        let (mean, sigma) = track.model().delay_spread();
        for (share, quantile) in [(0.05, -1.644_853_627), (0.5, 0.0), (0.95, 1.644_853_627)] {
            let got = percentile(&mut spread, share);
            let expected = libm::exp10(mean + sigma * quantile);
            assert!(
                (got / expected - 1.0).abs() <= 0.03,
                "{scenario} {condition} {share}"
            );
        }
        assert!(!differs(spread, |s| cumulative(
            (libm::log10(s) - mean) / sigma
        )));
    }
}

#[test]
fn spreads_are_those_of_the_sample_whichever_way_the_track_was_moved() {
    for condition in [Condition::Los, Condition::Nlos] {
        let geometry = Geometry::new(Scenario::Umi, 100.0, 10.0, 1.5);
        let [mut one, mut other] = [(); 2].map(|()| track(Scenario::Umi, condition, "spreads"));
        for step in 0..1000 {
            other.advance_shadowing_db(0.25, &geometry);
            if step % 7 == 0 {
                one.advance(0.25 * 7.0_f64.min(f64::from(step) + 1.0));
                let sample = one.sample(&geometry);
                let (delay_spread_s, k_db) = other.spreads();
                assert!((delay_spread_s / sample.delay_spread_s - 1.0).abs() < 1e-9);
                assert_eq!(k_db.is_some(), condition == Condition::Los);
                assert!((k_db.unwrap_or(0.0) - sample.k_db.unwrap_or(0.0)).abs() < 1e-9);
            }
        }
    }
}

#[test]
fn parameters_depend_on_each_other_as_the_table_says() {
    let mut track = track(Scenario::Umi, Condition::Los, "cross");
    let geometry = Geometry::new(Scenario::Umi, 100.0, 10.0, 1.5);
    let (mut sf, mut k, mut ds, mut asa) = (vec![], vec![], vec![], vec![]);
    for _ in 0..COUNT / 2 {
        track.advance(60.0 * 15.0);
        let sample = track.sample(&geometry);
        sf.push(sample.shadowing_db);
        k.push(sample.k_db.unwrap());
        ds.push(libm::log10(sample.delay_spread_s));
        if sample.asa_deg < 104.0 {
            asa.push(libm::log10(sample.asa_deg));
        }
    }
    for (one, other, expected) in [(&ds, &sf, -0.4), (&k, &sf, 0.5), (&ds, &k, -0.7)] {
        let got = correlation(one, other);
        assert!((got - expected).abs() < 0.01, "{got} {expected}");
    }
    assert!(
        asa.len() < sf.len(),
        "the widest spreads are cut off at 104 degrees"
    );
    let (mean_k, sigma_k) = track.model().distribution(Parameter::K, &geometry);
    assert!((mean(&k) - mean_k).abs() < 0.1 && (deviation(&k) / sigma_k - 1.0).abs() < 0.02);
}

#[test]
fn conditions_and_entities_are_not_correlated() {
    let geometry = Geometry::new(Scenario::Umi, 100.0, 10.0, 1.5);
    let mut tracks = [
        track(Scenario::Umi, Condition::Los, "a"),
        track(Scenario::Umi, Condition::Nlos, "a"),
        track(Scenario::Umi, Condition::Los, "b"),
    ];
    let mut values = [vec![], vec![], vec![]];
    for _ in 0..COUNT {
        for (track, values) in tracks.iter_mut().zip(&mut values) {
            values.push(track.advance_shadowing_db(900.0, &geometry));
        }
    }
    let [los, nlos, other] = values;
    assert!(correlation(&los, &nlos).abs() < 0.01 && correlation(&los, &other).abs() < 0.01);
}

/// Probability that two standard normal numbers with that correlation lie on the same side of a
/// threshold that the first exceeds with probability `share`.
fn same_side(share: f64, correlation: f64) -> f64 {
    let threshold = -crate::tr38901::normal::quantile(share);
    let rest = libm::sqrt(1.0 - correlation * correlation);
    let step = 0.001;
    let mut same = 0.0;
    for at in -8000..8000_i32 {
        let x = (f64::from(at) + 0.5) * step;
        let density = libm::exp(-x * x / 2.0) * 0.398_942_280_401_432_7;
        let above = cumulative((correlation * x - threshold) / rest);
        same += step * density * if x > threshold { above } else { 1.0 - above };
    }
    same
}

#[test]
fn lines_of_sight_come_as_often_as_they_should_and_stay_as_long() {
    let clutter = Clutter::usual(Scenario::InfSl);
    for (scenario, clutter, d2d_m, distance_m) in [
        (Scenario::Umi, None, 80.0, 50.0),
        (Scenario::Rma, None, 700.0, 60.0),
        (Scenario::InhOpen, None, 60.0, 10.0),
        (Scenario::InfSl, clutter, 40.0, 5.0),
    ] {
        let (base_m, user_m) = scenario.usual_heights_m();
        let probability = LineOfSight::new(scenario, base_m, user_m, clutter, Vegetation::None)
            .probability(d2d_m);
        let mut sight = Sight::new(scenario, clutter, 21, "link");
        let mut states = Vec::new();
        for _ in 0..5 * COUNT {
            sight.advance(distance_m / 4.0);
            states.push(sight.is_los(probability));
            let soft = sight.soft(probability, 0.1);
            assert_eq!(soft > 0.5, sight.is_los(probability));
        }
        let share = count(states.iter().filter(|los| **los).count()) / count(states.len());
        assert!(
            (share - probability).abs() <= 0.01,
            "{scenario} {share} {probability}"
        );
        for (lag, distances) in [(2, 0.5), (4, 1.0), (8, 2.0)] {
            let pairs = states[lag..].iter().zip(&states);
            let same = count(pairs.filter(|(one, other)| one == other).count())
                / count(states.len() - lag);
            let expected = same_side(probability, libm::exp(-distances));
            assert!(
                (same - expected).abs() <= 0.02,
                "{scenario} {distances}: {same} {expected}"
            );
        }
    }
}

#[test]
fn certain_states_are_certain_and_soft_losses_lie_between_the_hard_ones() {
    let mut sight = Sight::new(Scenario::Umi, None, 3, "link");
    for _ in 0..1000 {
        sight.advance(20.0);
        assert!(sight.is_los(1.0) && !sight.is_los(0.0));
        assert!((sight.soft(1.0, 0.1) - 1.0).abs() < 1e-12 && sight.soft(0.0, 0.1).abs() < 1e-12);
    }
    assert!(Sight::new(Scenario::InfHh, None, 3, "link").is_los(0.0));
    assert!((soft_loss_db(1.0, 90.0, 110.0) - 90.0).abs() < 1e-12);
    assert!((soft_loss_db(0.0, 90.0, 110.0) - 110.0).abs() < 1e-12);
    let half = soft_loss_db(0.5, 90.0, 110.0);
    assert!(half > 90.0 && half < 110.0);
}

#[test]
fn users_indoors_are_as_deep_as_the_smaller_of_two_uniform_numbers() {
    for (scenario, farthest_m) in [(Scenario::Umi, 25.0), (Scenario::Rma, 10.0)] {
        let mut indoors = Indoors::new(scenario, 5, "user");
        let (mut depths, mut low, mut losses) = (Vec::new(), 0_u32, Vec::new());
        for _ in 0..COUNT {
            indoors.advance(51.0 * 50.0);
            depths.push(indoors.distance_m());
            let building = indoors.building(0.2);
            low += u32::from(building == Building::LowLoss);
            let loss_db = indoors.loss_db(Building::HighLoss, 3.5, SpecVersion::V19_4);
            losses.push(loss_db - 0.5 * indoors.distance_m());
        }
        assert!((f64::from(low) / count(COUNT) - 0.2).abs() < 0.01);
        assert!((deviation(&losses) / 6.5 - 1.0).abs() < 0.02);
        let rest = |depth_m: f64| 1.0 - depth_m / farthest_m;
        assert!(!differs(depths, |depth_m| 1.0 - rest(depth_m) * rest(depth_m)));
    }
}

#[test]
fn cars_cost_what_they_should() {
    let losses: Vec<f64> = (0..COUNT)
        .map(|user| car_loss_db(false, 1, &format!("user {user}")))
        .collect();
    assert!((mean(&losses) - 9.0).abs() < 0.05 && (deviation(&losses) / 5.0 - 1.0).abs() < 0.02);
}

#[test]
fn blockers_are_everywhere_and_move_with_the_user_and_with_time() {
    let place = (Scenario::Umi, Condition::Los);
    let mut blockers = Blockers::new(place, 4, 2.0, None, (9, "user"));
    assert_eq!(blockers.regions().len(), 4);
    for region in blockers.regions() {
        assert!((5.0..=15.0).contains(&region.x_deg) && (region.y_deg - 5.0).abs() <= 0.0);
    }
    let mut angles = Vec::new();
    for _ in 0..COUNT / 2 {
        blockers.advance(0.0, 300.0);
        angles.push(blockers.regions()[2].phi_deg);
    }
    assert!(!differs(angles, |angle| angle / 360.0));
    // Five seconds of blockers at 2 m/s are as far as ten metres of the user: one distance.
    for (moved_m, passed_s) in [(10.0, 0.0), (0.0, 5.0), (5.0, 2.5)] {
        let mut blockers = Blockers::new(place, 1, 2.0, None, (9, "user"));
        let mut numbers = Vec::new();
        for _ in 0..COUNT {
            blockers.advance(moved_m, passed_s);
            let share = blockers.regions()[0].phi_deg / 360.0;
            numbers.push(crate::tr38901::normal::quantile(share));
        }
        let got = correlation(&numbers[1..], &numbers[..COUNT - 1]);
        assert!((got - libm::exp(-1.0)).abs() <= 0.03, "{got}");
    }
}
