use super::*;
use crate::Direction;
use crate::format::{parse, sha256_hex, to_text};
use crate::stats::{TraceStatistics, outages};
use crate::units::{Length, TimeSpan};

fn default_trace(seed: u64) -> Trace {
    generate(&StreetSettings::default(), seed).unwrap()
}

#[test]
fn the_same_settings_and_seed_give_the_same_bytes_on_every_machine() {
    let text = to_text(&default_trace(1));
    assert_eq!(
        sha256_hex(&text),
        "acf2d8835042e4ad0baaaf2879e48063b47c1801470c765a63db17b4dce69824"
    );
    assert_eq!(parse(&text).unwrap(), default_trace(1));
    assert_ne!(to_text(&default_trace(2)), text);
}

#[test]
fn the_default_link_has_the_rates_that_the_quickstart_counts_on() {
    for seed in 1..=20 {
        let trace = default_trace(seed);
        let down = TraceStatistics::of(&trace, Direction::Down);
        let up = TraceStatistics::of(&trace, Direction::Up);
        assert!(
            (30_000_000..100_000_000).contains(&down.rate_p50_bps),
            "{seed}: {down:?}"
        );
        assert!(
            (9_000_000..35_000_000).contains(&up.rate_p50_bps),
            "{seed}: {up:?}"
        );
        assert_eq!(down.delay_median_ns, 4_000_000);
        assert_eq!(up.delay_median_ns, 8_000_000);
        assert!(
            trace
                .rows()
                .iter()
                .all(|row| row.down.loss_ppb == 0 && row.up.loss_ppb == 0)
        );
    }
}

#[test]
fn there_is_one_outage_exactly_where_the_script_puts_it_and_the_path_recovers() {
    let (start_ns, end_ns, edge_ns) = (8_000_000_000, 10_500_000_000, 100_000_000);
    for seed in 1..=20 {
        let trace = default_trace(seed);
        for row in trace.rows() {
            let out = row.down.rate_bps == 0;
            assert_eq!(out, row.up.rate_bps == 0);
            if (start_ns..end_ns).contains(&row.t_ns) {
                assert!(out, "{row:?}");
            }
            if row.t_ns <= start_ns - edge_ns || row.t_ns >= end_ns + edge_ns {
                assert!(!out, "{row:?}");
                assert_eq!(row.diagnostics.blocked, Some(false));
            }
            assert_eq!(row.diagnostics.los, Some(true));
        }
        assert_eq!(outages(&trace, Direction::Down).len(), 1);
        assert_eq!(
            outages(&trace, Direction::Down),
            outages(&trace, Direction::Up)
        );
        let events: Vec<_> = trace
            .rows()
            .iter()
            .filter_map(|row| row.diagnostics.event.as_deref())
            .collect();
        assert_eq!(events, ["outage", "recovered"]);
    }
}

#[test]
fn without_blocker_and_shadowing_the_rate_is_the_formula() {
    let settings = StreetSettings {
        blocker_length: TimeSpan { ns: 0 },
        shadowing: Ratio { centi_db: 0 },
        speed: crate::units::Speed { mm_per_h: 0 },
        distance: Length { mm: 0 },
        street_offset: Length { mm: 100_000 },
        ..StreetSettings::default()
    };
    let trace = generate(&settings, 1).unwrap();
    // 33 dBm - 91.33 dB - (-174 + 80 + 9 + 10) dBm = 16.67 dB at 100 m.
    let first = &trace.rows()[0];
    assert_eq!(first.diagnostics.sinr_cdb, Some(1667));
    // 100 MHz x 20 % x 60 % x log2(1 + 10^1.667) = 66.8 Mbit/s.
    assert!(
        first.down.rate_bps.abs_diff(66_800_000) < 200_000,
        "{}",
        first.down.rate_bps
    );
    assert!(
        trace
            .rows()
            .iter()
            .all(|row| row.down == first.down && row.up == first.up)
    );
    assert!(outages(&trace, Direction::Down).is_empty());
}

#[test]
fn a_better_signal_never_passes_the_cap_and_a_shallow_blocker_is_no_outage() {
    let settings = StreetSettings {
        base_power: crate::units::PowerLevel { centi_dbm: 9_000 },
        blocker_loss: Ratio { centi_db: 500 },
        ..StreetSettings::default()
    };
    let trace = generate(&settings, 1).unwrap();
    assert!(
        trace
            .rows()
            .iter()
            .all(|row| row.down.rate_bps == 148_000_000)
    );
    assert!(outages(&trace, Direction::Up).is_empty());
    let blocked = trace
        .rows()
        .iter()
        .filter(|row| row.diagnostics.blocked == Some(true))
        .count();
    assert_eq!(
        blocked,
        250 + 9 + 10,
        "fully blocked for 2.5 s, partly in the edges"
    );
}

#[test]
fn shadowing_along_a_long_walk_has_the_sigma_and_correlation_asked_for() {
    // Without movement in the mean (far along a line at 5 cm per step) the SINR's changes are
    // shadowing alone; path loss is subtracted where the user stands.
    let settings = StreetSettings {
        duration: TimeSpan::from_millis(600_000),
        blocker_length: TimeSpan { ns: 0 },
        shadowing_distance: "1 m".parse().unwrap(),
        speed: "10 m/s".parse().unwrap(),
        distance: "3 km".parse().unwrap(),
        ..StreetSettings::default()
    };
    let trace = generate(&settings, 7).unwrap();
    let radio = Radio::new(&settings);
    let values: Vec<f64> = trace
        .rows()
        .iter()
        .map(|row| {
            let sinr_db = f64::from(row.diagnostics.sinr_cdb.unwrap()) / 100.0;
            radio
                .down
                .sinr_db(path_loss_db(&settings, row.t_ns).unwrap())
                - sinr_db
        })
        .collect();
    let n = f64::from(u32::try_from(values.len()).unwrap());
    let sigma = libm::sqrt(values.iter().map(|x| x * x).sum::<f64>() / n);
    assert!((sigma / 4.0 - 1.0).abs() < 0.04, "{sigma}");
    for (lag, expected) in [
        (5, libm::exp(-0.5)),
        (10, libm::exp(-1.0)),
        (20, libm::exp(-2.0)),
    ] {
        let products: f64 = values
            .windows(lag + 1)
            .map(|pair| pair[0] * pair[lag])
            .sum();
        let correlation = products / n / (sigma * sigma);
        assert!(
            (correlation - expected).abs() < 0.04,
            "{lag}: {correlation}"
        );
    }
}

#[test]
fn settings_that_make_no_sense_are_named() {
    let check = |change: fn(&mut StreetSettings), name: &str| {
        let mut settings = StreetSettings::default();
        change(&mut settings);
        let error = generate(&settings, 1).unwrap_err().to_string();
        assert!(error.contains(name), "{error}");
    };
    check(|s| s.step.ns = 0, "step");
    check(|s| s.duration.ns = 0, "duration");
    check(|s| s.step.ns = 1, "10 million");
    check(|s| s.carrier.hz = 1, "carrier");
    check(|s| s.bandwidth.hz = 0, "bandwidth");
    check(|s| s.base_height.mm = 1_000, "base_height");
    check(|s| s.user_height.mm = 1_000, "user_height");
    check(|s| s.street_offset.mm = 9_999, "street_offset");
    check(|s| s.shadowing.centi_db = -1, "shadowing");
    check(|s| s.shadowing_distance.mm = 0, "shadowing_distance");
    check(|s| s.jitter.ns = u64::MAX, "jitter");
    check(|s| s.queue.bytes = u64::MAX, "queue");
    check(|s| s.distance.mm = 6_000_000, "distance");
}

#[test]
fn settings_are_read_from_text_with_units_and_unknown_ones_refused() {
    let read = |json: &str| serde_json::from_str::<StreetSettings>(json);
    let settings = read(r#"{"carrier": "15 GHz", "speed": "3 km/h", "end": "loop"}"#).unwrap();
    assert_eq!(settings.carrier.hz, 15_000_000_000);
    assert_eq!(settings.bandwidth, StreetSettings::default().bandwidth);
    assert!(
        read(r#"{"carier": "15 GHz"}"#)
            .unwrap_err()
            .to_string()
            .contains("unknown field")
    );
    assert!(
        read(r#"{"carrier": "15"}"#)
            .unwrap_err()
            .to_string()
            .contains("`7 GHz`")
    );
    assert_eq!(read("{}").unwrap(), StreetSettings::default());
}

#[test]
fn the_metadata_says_what_was_set_and_how_far_to_trust_it() {
    let trace = default_trace(1);
    let metadata = trace.metadata();
    assert_eq!(metadata.status, TraceStatus::Simplified);
    assert_eq!(metadata.scenario, "street-fr3-blockage");
    assert_eq!(metadata.seed, Some(1));
    assert_eq!(metadata.configuration["carrier"], "7 GHz");
    assert_eq!(metadata.configuration["blocker_at"], "8 s");
    assert_eq!(metadata.configuration["lowest_sinr"], "-6 dB");
    assert_eq!(metadata.configuration.len(), 32);
    let json = serde_json::to_string(&metadata.configuration).unwrap();
    let again: StreetSettings = serde_json::from_str(&json).unwrap();
    assert_eq!(
        again,
        StreetSettings::default(),
        "the configuration makes the trace again"
    );
}
