use super::*;
use crate::scenario::Variant;
use crate::{Direction, Trace, TraceStatistics, TraceStatus, format};

fn settings(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn trace(name: &str, pairs: &[(&str, &str)], seed: u64) -> Trace {
    let bundled = bundled_scenarios().iter().find(|known| known.name == name);
    let scenario = match bundled.unwrap().scenario(&settings(pairs)) {
        Ok(scenario) => scenario,
        Err(error) => panic!("{error}"),
    };
    let variant = Variant { seed, user: 0 };
    scenario.generate(variant).unwrap().into_trace().unwrap()
}

/// The hash of a trace's rows; its metadata name the program's version.
fn hash_of_rows(trace: &Trace) -> String {
    let text = format::to_text(trace);
    let rows: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    format::sha256_hex(&rows.join("\n"))
}

#[test]
fn the_first_seconds_of_every_bundled_scenario_are_the_recorded_ones() {
    let expected = include_str!("bundled.sha256");
    let mut found = String::new();
    for bundled in bundled_scenarios() {
        // The controls are short, and their first seconds alike.
        let is_control = ["ideal", "step", "sawtooth", "outage"].contains(&bundled.name);
        let settings: &[(&str, &str)] = match is_control {
            true => &[],
            false => &[("duration", "5 s")],
        };
        let trace = trace(bundled.name, settings, 1);
        found.push_str(&hash_of_rows(&trace));
        found.push_str("  ");
        found.push_str(bundled.name);
        found.push('\n');
    }
    assert!(found == expected, "the traces have changed; now:\n{found}");
}

#[test]
fn every_bundled_scenario_can_be_read_and_is_named_after_its_file() {
    for bundled in bundled_scenarios() {
        match bundled.scenario(&[]) {
            Ok(scenario) => assert_eq!(scenario.name, bundled.name),
            Err(error) => panic!("{error}"),
        }
    }
}

/// What a scenario must look like: mean rates down and up in Mbit/s, the most of its time without
/// a rate, and the median one-way delay of the downlink in ms.
struct Expected {
    name: &'static str,
    duration: &'static str,
    down: [f64; 2],
    up: [f64; 2],
    outage: f64,
    delay_ms: [f64; 2],
}

const EXPECTED: [Expected; 12] = [
    expected(
        "inh-fr3-office",
        "20 s",
        ([100.0, 900.0], [15.0, 60.0]),
        0.01,
        [2.0, 8.0],
    ),
    expected(
        "umi-fr3-street",
        "20 s",
        ([80.0, 165.0], [15.0, 35.0]),
        0.0,
        [2.0, 8.0],
    ),
    expected(
        "umi-fr2-vehicular-blockage",
        "60 s",
        ([80.0, 500.0], [20.0, 110.0]),
        0.4,
        [2.0, 6.0],
    ),
    expected(
        "subthz-hotspot",
        "5 s",
        ([2_000.0, 5_600.0], [400.0, 1_000.0]),
        0.05,
        [2.0, 5.0],
    ),
    expected(
        "subthz-xhaul-rain",
        "10 s",
        ([6_000.0, 12_000.0], [2_000.0, 4_500.0]),
        0.01,
        [0.2, 2.0],
    ),
    expected(
        "leo-600-backhaul",
        "40 s",
        ([100.0, 400.0], [300.0, 700.0]),
        0.02,
        [8.0, 20.0],
    ),
    expected(
        "uma-handover-drive",
        "60 s",
        ([10.0, 80.0], [2.0, 15.0]),
        0.1,
        [2.0, 8.0],
    ),
    expected(
        "rma-train",
        "30 s",
        ([10.0, 80.0], [1.0, 15.0]),
        0.2,
        [2.0, 8.0],
    ),
    expected(
        "inf-dh-robot",
        "20 s",
        ([200.0, 650.0], [80.0, 200.0]),
        0.0,
        [0.5, 3.0],
    ),
    expected(
        "tn-ntn-switch",
        "60 s",
        ([5.0, 30.0], [1.0, 15.0]),
        0.05,
        [2.0, 40.0],
    ),
    expected(
        "cell-edge",
        "20 s",
        ([0.5, 10.0], [0.3, 5.0]),
        0.05,
        [2.0, 16.0],
    ),
    expected(
        "imt2030-like",
        "20 s",
        ([300.0, 500.0], [100.0, 200.0]),
        0.0,
        [0.5, 2.0],
    ),
];

const fn expected(
    name: &'static str,
    duration: &'static str,
    (down, up): ([f64; 2], [f64; 2]),
    outage: f64,
    delay_ms: [f64; 2],
) -> Expected {
    Expected {
        name,
        duration,
        down,
        up,
        outage,
        delay_ms,
    }
}

#[test]
#[expect(
    clippy::cast_precision_loss,
    reason = "rates and delays lie far below 2^53"
)]
fn every_channel_has_the_rates_and_delays_that_its_name_promises() {
    for expected in &EXPECTED {
        let name = expected.name;
        let trace = trace(name, &[("duration", expected.duration)], 1);
        let of = |direction| TraceStatistics::of(&trace, direction);
        let (down, up) = (of(Direction::Down), of(Direction::Up));
        for (what, value, [least, most]) in [
            (
                "Mbit/s down",
                down.rate_mean_bps as f64 / 1e6,
                expected.down,
            ),
            ("Mbit/s up", up.rate_mean_bps as f64 / 1e6, expected.up),
            ("of outage", down.outage_fraction, [0.0, expected.outage]),
            ("ms", down.delay_median_ns as f64 / 1e6, expected.delay_ms),
        ] {
            assert!((least..=most).contains(&value), "{name}: {value} {what}");
        }
        let metadata = trace.metadata();
        assert_ne!(metadata.status, TraceStatus::Control, "{name}");
        assert!(
            metadata
                .notes
                .iter()
                .any(|note| note.contains("no 6G air interface yet"))
        );
        assert!(metadata.provenance.radio.is_some(), "{name}");
    }
}

#[test]
fn a_trace_begins_alike_however_long_it_is_and_differs_by_seed_and_user() {
    let short = trace("umi-fr3-street", &[("duration", "500 ms")], 3);
    let long = trace("umi-fr3-street", &[("duration", "1 s")], 3);
    assert_eq!(short.rows(), &long.rows()[..short.rows().len()]);
    let other = trace("umi-fr3-street", &[("duration", "500 ms")], 4);
    assert_ne!(short.rows(), other.rows());
    let scenario = Scenario::bundled("umi-fr3-street").unwrap();
    let user = |user| {
        let variant = Variant { seed: 3, user };
        let rows = scenario.generate(variant).unwrap();
        rows.take(50).collect::<Result<Vec<_>, _>>().unwrap()
    };
    assert_eq!(user(0), short.rows());
    assert_ne!(user(1), user(0));
}

#[test]
fn a_drive_past_three_sites_is_handed_over_and_data_stop_meanwhile() {
    let trace = trace("uma-handover-drive", &[("duration", "60 s")], 1);
    let start = trace
        .rows()
        .iter()
        .position(|row| row.diagnostics.event.as_deref() == Some("handover"))
        .unwrap();
    let after = &trace.rows()[start + 2];
    assert_eq!(
        (after.down.rate_bps, after.up.rate_bps),
        (0, 0),
        "{after:?}"
    );
    let cells: std::collections::BTreeSet<_> = trace
        .rows()
        .iter()
        .filter_map(|row| row.diagnostics.cell_id)
        .collect();
    assert!(cells.len() >= 3, "{cells:?}");
}

#[test]
fn a_satellite_is_replaced_every_15_s_and_its_delay_drifts_in_between() {
    let trace = trace("leo-600-backhaul", &[("duration", "40 s")], 1);
    let changes: Vec<u64> = trace
        .rows()
        .iter()
        .filter(|row| row.diagnostics.event.as_deref() == Some("satellite-change"))
        .map(|row| row.t_ns)
        .collect();
    assert!(!changes.is_empty());
    assert!(
        changes
            .windows(2)
            .all(|pair| (pair[1] - pair[0]).is_multiple_of(15_000_000_000))
    );
    let elevations = trace
        .rows()
        .iter()
        .map(|row| row.diagnostics.elevation_cdeg);
    assert!(
        elevations
            .flatten()
            .all(|elevation| (2_000..=9_000).contains(&elevation))
    );
    let delays: std::collections::BTreeSet<u64> = trace.rows()[..1_000]
        .iter()
        .map(|row| row.down.delay_ns / 10_000)
        .collect();
    assert!(delays.len() > 5, "it drifts: {delays:?}");
}

#[test]
fn a_channel_makes_no_step_where_its_large_scale_state_is_looked_at() {
    // Rows of 1 ms; places, losses and blockers are looked at every fifth.
    let pairs = [
        ("duration", "20 s"),
        ("step", "1 ms"),
        ("radio.numerology", "0"),
        ("radio.duplex", "FDD"),
        ("radio.bandwidth", "20 MHz"),
    ];
    let trace = trace("umi-fr3-street", &pairs, 1);
    let sinr: Vec<f64> = trace
        .rows()
        .iter()
        .map(|row| f64::from(row.diagnostics.sinr_cdb.unwrap()) / 100.0)
        .collect();
    let mean_step = |phase: usize| {
        let steps = sinr.windows(2).skip(phase).step_by(5);
        let steps: Vec<f64> = steps.map(|pair| (pair[1] - pair[0]).abs()).collect();
        steps.iter().sum::<f64>() / f64::from(u32::try_from(steps.len()).unwrap())
    };
    let across = mean_step(4);
    let within = (mean_step(1) + mean_step(2)) / 2.0;
    assert!(
        (across / within - 1.0).abs() < 0.25,
        "{across} against {within} dB"
    );
}

#[test]
#[expect(clippy::cast_precision_loss, reason = "rates lie far below 2^53")]
fn a_car_at_28_ghz_has_the_variability_that_was_measured_on_the_road() {
    // Lumos5G, driving: CoV 1.09, autocorrelation 0.88 / 0.39 / -0.02 at 1 / 5 / 20 s, 6.3 % of the
    // seconds below 10 Mbit/s; walking: 0.90, 0.92 / 0.71 / 0.29, 6.9 %, outages of 2 s in the median.
    // From one site to halfway to the next takes 24 s: at 20 s there is less correlation than on a
    // road, between -0.3 and 0 over the seeds.
    let trace = trace("umi-fr2-vehicular-blockage", &[], 1);
    let seconds: Vec<f64> = trace
        .rows()
        .chunks(100)
        .map(|rows| rows.iter().map(|row| row.down.rate_bps as f64).sum::<f64>() / 1e8)
        .collect();
    let n = seconds.len() as f64;
    let mean = seconds.iter().sum::<f64>() / n;
    let variance = seconds.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
    let correlation = |lag: usize| {
        let pairs = seconds.windows(lag + 1);
        let sum: f64 = pairs
            .map(|pair| (pair[0] - mean) * (pair[lag] - mean))
            .sum();
        sum / (n - lag as f64) / variance
    };
    let variation = libm::sqrt(variance) / mean;
    let slow = seconds.iter().filter(|rate| **rate < 10.0).count() as f64 / n;
    assert!((0.7..1.4).contains(&variation), "CoV {variation}");
    assert!((0.75..0.97).contains(&correlation(1)), "{}", correlation(1));
    assert!((0.15..0.8).contains(&correlation(5)), "{}", correlation(5));
    assert!(
        (-0.3..0.4).contains(&correlation(20)),
        "{}",
        correlation(20)
    );
    assert!((0.02..0.2).contains(&slow), "{slow}");
}
