use super::*;
use crate::UNLIMITED_RATE_BPS;

const SECOND: i64 = 1_000_000_000;
const DOWN: Quantity = Quantity::Rate(Direction::Down);
const HERE: Place<'static> = Place {
    file: "x",
    line: 1,
    column: 1,
};

fn facts() -> Facts<'static> {
    Facts {
        format: "test",
        recordings: &[],
        end: EndPolicy::Loop,
        sampled: true,
        end_ns: None,
        notes: Vec::new(),
    }
}

fn timeline(samples: &[(i64, u64)]) -> Timeline {
    let mut timeline = Timeline::new();
    for &(at_s, rate) in samples {
        timeline.moment(at_s * SECOND, HERE).unwrap();
        timeline.sample(DOWN, rate);
    }
    timeline
}

fn rates(trace: &Trace) -> Vec<(u64, u64)> {
    let row = |row: &TraceRow| (row.t_ns / 1_000_000_000, row.down.rate_bps);
    trace.rows().iter().map(row).collect()
}

#[test]
fn samples_hold_until_the_next_and_several_at_one_moment_are_their_mean() {
    let samples = [(100, 10), (101, 20), (101, 40), (102, 30), (103, 5)];
    let trace = timeline(&samples)
        .into_trace(facts(), &ImportOptions::default())
        .unwrap();
    assert_eq!(rates(&trace), [(0, 10), (1, 30), (3, 5)]);
    assert_eq!(trace.duration_ns(), 4_000_000_000);
    assert_eq!(trace.rows()[0].up.rate_bps, UNLIMITED_RATE_BPS);
    assert!(trace.metadata().notes[0].contains("1 samples"));
}

#[test]
fn a_gap_is_refused_or_becomes_what_was_told_and_a_short_one_is_counted() {
    let samples = [(0, 10), (1, 20), (2, 30), (4, 40), (20, 50), (21, 60)];
    let with = |gaps| {
        let options = ImportOptions {
            gaps,
            ..ImportOptions::default()
        };
        timeline(&samples).into_trace(facts(), &options)
    };
    let refusal = with(GapPolicy::Refuse).unwrap_err().to_string();
    assert!(refusal.contains("16.000 s from 4.000 s"), "{refusal}");
    let held = with(GapPolicy::Hold).unwrap();
    assert_eq!(
        rates(&held),
        [(0, 10), (1, 20), (2, 30), (4, 40), (20, 50), (21, 60)]
    );
    let out = with(GapPolicy::Outage).unwrap();
    assert_eq!(rates(&out)[3..], [(4, 40), (5, 0), (20, 50), (21, 60)]);
    let notes = out.metadata().notes.join("\n");
    assert!(
        notes.contains("1 times") && notes.contains("1 gaps"),
        "{notes}"
    );
}

#[test]
fn missing_samples_at_the_end_are_a_gap_as_well() {
    let mut timeline = timeline(&[(0, 10), (1, 20)]);
    for at_s in 2..10 {
        timeline.moment(at_s * SECOND, HERE).unwrap();
    }
    assert!(
        timeline
            .into_trace(facts(), &ImportOptions::default())
            .is_err()
    );
}

#[test]
fn time_that_goes_back_and_recordings_of_nothing_are_refused() {
    let mut timeline = timeline(&[(5, 1)]);
    let error = timeline.moment(3 * SECOND, HERE).unwrap_err().to_string();
    assert!(error.starts_with("x:1:1: time goes back"), "{error}");
    let nothing = Timeline::new().into_trace(facts(), &ImportOptions::default());
    assert!(nothing.unwrap_err().to_string().contains("no sample"));
}

#[test]
fn a_delay_that_is_known_only_later_holds_before_and_a_round_trip_is_halved() {
    let mut timeline = timeline(&[(0, 10), (1, 20)]);
    timeline.round_trip(40);
    let trace = timeline
        .into_trace(facts(), &ImportOptions::default())
        .unwrap();
    assert!(
        trace
            .rows()
            .iter()
            .all(|row| row.down.delay_ns == 20 && row.up.delay_ns == 20)
    );
}
