//! The formula on both sides of its ridge, and what is told where a ceiling is missing.

use super::super::no_window;
use super::*;

/// A thousand bytes and five hundred products; of each position ten bytes and two products.
const WORK: PassWork = PassWork {
    weight_bytes: 1_000,
    token_products: 500,
    position_bytes: 10,
    position_products: 2,
    of_numbers: true,
};

/// 10 kB/s and 50 000 products/s: reading the weights takes as long as the products of ten tokens.
const ROOF: Roof = Roof {
    work: WORK,
    bandwidth_bytes_per_s: 10_000.0,
    peak_products_per_s: 50_000.0,
};

fn near(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= 1e-9 * expected.abs()
}

#[test]
fn below_the_ridge_reading_bounds_a_batch_and_above_it_multiplying() {
    let (tokens, bound) = ROOF.tokens_per_s(1.0, 0.0);
    assert!(near(tokens, 10.0) && bound == Bound::Memory, "{tokens}");
    let (tokens, bound) = ROOF.tokens_per_s(5.0, 0.0);
    assert!(near(tokens, 50.0) && bound == Bound::Memory, "{tokens}");
    let (tokens, bound) = ROOF.tokens_per_s(20.0, 0.0);
    assert!(
        near(tokens, 100.0) && bound == Bound::Arithmetic,
        "{tokens}"
    );
    let (tokens, _) = ROOF.tokens_per_s(40.0, 0.0);
    assert!(near(tokens, 100.0), "{tokens}");
}

#[test]
fn at_the_ridge_both_take_as_long() {
    let ridge = ROOF.ridge_batch(0.0).unwrap();
    assert!(near(ridge, 10.0), "{ridge}");
    let [reading_s, multiplying_s] = ROOF.pass_s(ridge, 0.0);
    assert!(near(reading_s, multiplying_s));
}

#[test]
fn keys_and_values_are_read_for_each_sequence_and_move_the_ridge() {
    // 1000 bytes and 4 times 20 positions of 10 bytes each.
    let (tokens, bound) = ROOF.tokens_per_s(4.0, 20.0);
    assert!(
        near(tokens, 4.0 / 0.18) && bound == Bound::Memory,
        "{tokens}"
    );
    // 540 products and 50 bytes of a sequence: 10.8 ms against 5 ms beside the 100 ms of the weights.
    let ridge = ROOF.ridge_batch(5.0).unwrap();
    assert!(near(ridge, 0.1 / (0.0102 - 0.005)), "{ridge}");
    // 620 products take 12.4 ms and 600 bytes 60 ms: however many sequences, reading takes longer.
    assert_eq!(ROOF.ridge_batch(60.0), None);
    assert_eq!(ROOF.tokens_per_s(1e6, 60.0).1, Bound::Memory);
}

fn row(phase: BenchPhase, batch: u32, tokens_per_s: f64) -> EngineRow {
    EngineRow {
        phase,
        batch,
        seconds: 1.0,
        passes: 1,
        tokens: 1,
        tokens_per_s,
        cache_bytes: 0,
        weight_bytes_per_s: 0.0,
        positions_per_sequence: 0.0,
        roofline: RowRoof::unavailable("not drawn"),
        power_w: no_window(),
        j_per_token: no_window(),
        active_j_per_token: no_window(),
    }
}

fn ceilings() -> Ceilings {
    let rate = |count| {
        Some(Rate {
            count,
            ns: 1_000_000_000,
        })
    };
    Ceilings {
        work: WORK,
        last_level_cache_bytes: Some(4_000),
        reading: rate(10_000),
        buffer_bytes: 1_000,
        multiplying: rate(50_000),
        unavailable: None,
    }
}

/// Rows of these batches, each of so many tokens per second.
fn drawn(speeds: &[(u32, f64)]) -> (Roofline, Vec<EngineRow>) {
    let decode = |(batch, speed): &(u32, f64)| row(BenchPhase::Decode, *batch, *speed);
    let mut rows: Vec<EngineRow> = speeds.iter().map(decode).collect();
    rows.insert(0, row(BenchPhase::Prefill, 1, 1_000.0));
    (draw(Some(&ceilings()), &mut rows), rows)
}

#[test]
fn each_batch_is_told_what_it_reached_of_its_roof_and_a_prompt_is_not() {
    let (roofline, rows) = drawn(&[(1, 8.0), (40, 50.0)]);
    let reached: Vec<Option<f64>> = rows
        .iter()
        .map(|row| row.roofline.reached.value())
        .collect();
    assert_eq!(reached[0], None);
    assert!(
        near(reached[1].unwrap(), 0.8) && near(reached[2].unwrap(), 0.5),
        "{reached:?}"
    );
    assert_eq!(rows[1].roofline.bound, Some(Bound::Memory));
    assert_eq!(rows[2].roofline.bound, Some(Bound::Arithmetic));
    assert!(near(roofline.ridge_batch.value().unwrap(), 10.0));
    assert_eq!(roofline.weights_fit_cache, Some(true));
}

#[test]
fn growth_is_judged_up_to_the_ridge_alone() {
    for (eight, expected, words) in [
        (75.0, Some(true), ", as the roofline says"),
        (40.0, Some(false), ", less than"),
        (99.0, Some(false), ", more than"),
    ] {
        // What forty sequences do is beyond the ridge.
        let (roofline, _) = drawn(&[(1, 10.0), (8, eight), (40, 10.0)]);
        let growth = &roofline.growth;
        assert_eq!((growth.from_batch, growth.to_batch), (Some(1), Some(8)));
        assert!(near(growth.by_roofline.value().unwrap(), 8.0));
        assert_eq!(growth.is_as_roofline_says, expected, "{}", growth.told());
        assert!(growth.told().contains(words), "{}", growth.told());
    }
    let (roofline, _) = drawn(&[(1, 10.0), (40, 90.0)]);
    assert_eq!(roofline.growth.is_as_roofline_says, None);
    assert!(roofline.growth.told().contains("no two batches up to that"));
}

#[test]
fn without_a_ceiling_there_is_no_roof_and_the_reason_is_told() {
    let mut rows = vec![row(BenchPhase::Decode, 1, 1.0)];
    let missing = Ceilings {
        multiplying: None,
        unavailable: Some("measured on CPUs alone".to_owned()),
        ..ceilings()
    };
    for (ceilings, why) in [(Some(&missing), "CPUs alone"), (None, "did not measure")] {
        rows[0].roofline = RowRoof::unavailable("the process that computes did not measure it");
        let roofline = draw(ceilings, &mut rows);
        assert_eq!(rows[0].roofline.reached.value(), None);
        assert_eq!(roofline.growth.is_as_roofline_says, None);
        assert!(
            roofline.growth.told().contains(why),
            "{}",
            roofline.growth.told()
        );
        let json = serde_json::to_value(&roofline).unwrap();
        let peak = &json["peak_products_per_s"]["unavailable"]["why"];
        assert!(peak.as_str().unwrap().contains(why), "{json}");
    }
}
