use super::*;
use crate::format::TraceRows;
use crate::generate::control::{self, Link as ControlLink};
use crate::{Radio, Trace};

const SECOND: u64 = 1_000_000_000;

fn of(trace: &Trace) -> LongStatistics {
    long_statistics(|| Ok(TraceRows::new(trace))).unwrap()
}

fn close(value: f64, expected: f64) {
    assert!(
        (value - expected).abs() < 1e-9 * expected.abs().max(1.0),
        "{value} {expected}"
    );
}

#[test]
fn figures_of_steps_are_those_worked_out_by_hand() {
    let steps = [
        (4 * SECOND, 0),
        (SECOND, 800),
        (SECOND, 1600),
        (94 * SECOND, 8000),
    ];
    let trace = control::step(ControlLink::new(0, 3, 0), &steps).unwrap();
    let found = of(&trace);
    let down = &found.directions[0];
    assert_eq!(down.bytes, 100 + 200 + 94_000);
    close(down.rate_mean_bps, 8.0 * 94_300.0 / 100.0);
    let square = (800.0_f64 * 800.0 + 1600.0 * 1600.0 + 94.0 * 8000.0 * 8000.0) / 100.0;
    let deviation = (square - down.rate_mean_bps * down.rate_mean_bps).sqrt();
    close(down.rate_variation.unwrap(), deviation / down.rate_mean_bps);
    assert_eq!((down.rate_bps.p5, down.rate_bps.p50), (800, 8000));
    close(down.outage_share, 0.04);
    let runs = down.outage_runs;
    assert_eq!(
        (runs.count, runs.median_ns, runs.max_ns),
        (1, 4 * SECOND, 4 * SECOND)
    );
    assert_eq!(found.outages_ns, [[0, 4 * SECOND]]);
    close(down.median_crossings.per_second, 0.01);
    assert_eq!((down.delay_ns.min, down.delay_ns.p99), (3, 3));
    assert_eq!(
        (found.rows, found.sinr, found.coherence.time_ns),
        (4, None, None)
    );
}

#[test]
fn a_rate_that_alternates_is_correlated_at_whole_periods_and_opposed_at_half() {
    let steps: Vec<(u64, u64)> = (0..200)
        .map(|index| (SECOND, 10 + index % 2 * 10))
        .collect();
    let trace = control::step(ControlLink::new(0, 0, 0), &steps).unwrap();
    let down = &of(&trace).directions[0];
    let at = |index: usize| down.rate_autocorrelation[index].correlation.unwrap();
    close(at(0), -199.0 / 200.0);
    close(at(1), -195.0 / 200.0);
    close(at(2), 180.0 / 200.0);
    close(down.median_crossings.level as f64, 10.0);
    close(down.fade_crossings.per_second, 0.0);
    let constant = control::constant(10, 0, 0, 200 * SECOND).unwrap();
    assert_eq!(
        of(&constant).directions[0].rate_autocorrelation[0].correlation,
        None
    );
    let short = control::step(ControlLink::new(0, 0, 0), &steps[..10]).unwrap();
    assert_eq!(
        of(&short).directions[0].rate_autocorrelation[2].correlation,
        None
    );
}

#[test]
fn outages_that_touch_are_one_and_an_unlimited_rate_has_no_variation() {
    let steps = [(5, 1), (5, 0), (5, 0), (5, 1), (5, 0)];
    let trace = control::step(ControlLink::new(0, 0, 0), &steps).unwrap();
    let down = &of(&trace).directions[0];
    assert_eq!((down.outage_runs.count, down.outage_runs.max_ns), (2, 10));
    let free = control::constant(UNLIMITED_RATE_BPS, 0, 0, SECOND).unwrap();
    let up = &of(&free).directions[1];
    close(up.unlimited_share, 1.0);
    assert_eq!((up.rate_variation, up.bytes), (None, 0));
}

#[test]
fn the_coherence_time_follows_from_carrier_and_speed_where_they_are_known() {
    let trace = control::constant(10, 0, 0, SECOND).unwrap();
    let mut metadata = trace.metadata().clone();
    metadata.provenance.radio = Some(Radio {
        carrier_hz: 299_792_458,
        speed_mm_s: Some(1_000),
        ..Radio::default()
    });
    let found = of(&Trace::new(metadata, trace.rows().to_vec()).unwrap());
    assert_eq!(found.coherence.time_ns, Some(423_000_000));
    assert!(found.coherence.how.contains("carrier and speed"));
}

#[test]
fn sinr_cells_and_events_are_counted() {
    let trace = control::step(ControlLink::new(0, 0, 0), &[(SECOND, 1); 40]).unwrap();
    let mut rows = trace.rows().to_vec();
    for (index, row) in rows.iter_mut().enumerate() {
        let half = i32::from(index >= 20);
        row.diagnostics.sinr_cdb = Some(half * 1000 - 500);
        row.diagnostics.cell_id = Some(u32::from(index >= 10) + u32::from(index >= 30));
        row.diagnostics.event = (index == 10).then(|| "handover".to_owned());
    }
    let found = of(&Trace::new(trace.metadata().clone(), rows).unwrap());
    let sinr = found.sinr.unwrap();
    assert_eq!(
        (sinr.min_cdb, sinr.p50_cdb, sinr.max_cdb),
        (-500, -500, 500)
    );
    assert_eq!(found.cell_changes, Some(2));
    assert_eq!(found.events.get("handover"), Some(&1));
    // A step in the middle: 1 - 3 x lag / length, below one half after 20 s / 3.
    let decay_s = found.coherence.time_ns.unwrap() / SECOND;
    assert!((6..=7).contains(&decay_s), "{decay_s}");
}

#[test]
fn a_trace_without_rows_is_refused() {
    struct Nothing(TraceMetadata);
    impl RowSource for Nothing {
        fn metadata(&self) -> &TraceMetadata {
            &self.0
        }
        fn next_row(&mut self) -> Result<Option<TraceRow>, TraceError> {
            Ok(None)
        }
    }
    let metadata = control::constant(1, 0, 0, 1).unwrap().metadata().clone();
    let found = long_statistics(|| Ok(Nothing(metadata.clone())));
    assert!(matches!(found, Err(TraceError::Empty)));
}
