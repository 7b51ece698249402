//! Windows put together are what is played.

use super::*;
use crate::link::testing::{MS, state, trace};
use hexloop_traces::{Intervention, PlaybackChange, StateOverride};

const QUEUE_BYTES: u64 = 250_000;

fn schedule(trace: &Trace) -> Schedule {
    Schedule::new(CapacityCurve::new(trace, Direction::Up))
}

fn first(trace: &Trace) -> Table {
    Table::first_window(trace, Direction::Up, QUEUE_BYTES).unwrap()
}

/// The window that takes over, when the one before says so, and from when on it holds.
fn next(table: &Table, schedule: &Schedule) -> (u64, Table) {
    let window = table.window.unwrap();
    let from_ns = window.next_ns - MS;
    let next = table.next_window(window, schedule, from_ns, QUEUE_BYTES);
    (from_ns, next.unwrap())
}

/// 50 seconds of rows of a millisecond, among them outages.
fn varied(end: EndPolicy) -> Trace {
    let rate = |row: u64| match row % 11 {
        0 | 1 => 0,
        part => part * 1_234_567,
    };
    let rows: Vec<_> = (0..50_000)
        .map(|row| (MS, state(rate(row), row % 5)))
        .collect();
    trace(end, &rows)
}

/// Checks a window against the integral of what is played, as long as the window serves.
fn expect_integral(table: &Table, schedule: &Schedule, from_ns: u64, rounded_bits: u64) {
    let until_ns = table.window.unwrap().until_ns;
    for t_ns in (0..2000).map(|step| from_ns + step * (until_ns - from_ns) / 2000) {
        let bits = schedule.bits_between(0, t_ns);
        let found = table.integral_at(t_ns) >> table.unit_bits;
        assert!(
            found.abs_diff(bits) <= rounded_bits,
            "{t_ns}: {found} {bits}"
        );
    }
}

#[test]
fn windows_go_on_where_the_one_before_was_through_every_end() {
    for end in [EndPolicy::Loop, EndPolicy::Hold] {
        let trace = varied(end);
        let schedule = schedule(&trace);
        let (mut from_ns, mut table) = (0, first(&trace));
        for _ in 0..8 {
            expect_integral(&table, &schedule, from_ns, 1);
            let (next_from_ns, next) = next(&table, &schedule);
            for t_ns in [0, MS, 77 * MS].map(|after_ns| next_from_ns + after_ns) {
                let (old, new) = (table.integral_at(t_ns), next.integral_at(t_ns));
                assert!(old.abs_diff(new) <= 2, "{end:?} {t_ns}: {old} {new}");
            }
            (from_ns, table) = (next_from_ns, next);
        }
        assert!(from_ns > 100_000 * MS, "{from_ns}");
    }
}

#[test]
fn what_is_asked_for_meanwhile_is_in_every_later_window() {
    let trace = varied(EndPolicy::Loop);
    let mut schedule = schedule(&trace);
    let mut table = first(&trace);
    let slower = StateOverride {
        rate_bps: Some(3_000_000),
        ..StateOverride::NONE
    };
    let changes = [
        PlaybackChange::Override(slower),
        PlaybackChange::Override(StateOverride::NONE),
        PlaybackChange::Pause,
        PlaybackChange::Resume,
        PlaybackChange::Jump { to_ns: 7 * MS },
    ];
    for change in changes {
        let at_ns = table.window.unwrap().next_ns + 100 * MS;
        schedule.apply(Intervention { at_ns, change });
        let (from_ns, next) = next(&table, &schedule);
        expect_integral(&next, &schedule, from_ns, 1);
        table = next;
    }
}

#[test]
fn a_window_reaches_to_where_a_full_queue_has_left() {
    // 250 kB and a packet take 315 s.
    let rows = [(MS, state(8_000, 0)), (MS, state(8_000, 1))];
    let trace = trace(EndPolicy::Loop, &rows);
    let table = first(&trace);
    let until_ns = table.window.unwrap().until_ns;
    assert_eq!(until_ns, 30_000 * MS);
    let ahead = table.lead_units - table.integral_at(until_ns);
    assert!(ahead >> table.unit_bits >= QUEUE_BYTES * 8 + (8 << 16));
    assert!(table.lead_ns > 340_000 * MS, "{}", table.lead_ns);
}

#[test]
fn a_queue_that_takes_too_many_rows_to_leave_is_refused_before_anything_plays() {
    let rows = [(MS, state(4_000, 0)), (MS, state(4_000, 1))];
    let refused = Table::first_window(&trace(EndPolicy::Loop, &rows), Direction::Up, QUEUE_BYTES);
    assert!(matches!(refused, Err(TableError::Ahead { at_ns }) if at_ns == MS));
    // Rows that ask for the same are one.
    let alike = [(MS, state(4_000, 0)), (MS, state(4_000, 0))];
    let taken = Table::first_window(&trace(EndPolicy::Loop, &alike), Direction::Up, QUEUE_BYTES);
    assert!(taken.is_ok_and(|table| table.entries.len() < 10_000));
}

#[test]
fn a_window_ends_also_where_nothing_ever_changes_and_where_nothing_is_let_through() {
    for rate_bps in [0, 8_000_000, UNLIMITED_RATE_BPS] {
        for end in [EndPolicy::Loop, EndPolicy::Hold, EndPolicy::Clear] {
            let trace = trace(end, &[(MS, state(rate_bps, 0))]);
            let schedule = schedule(&trace);
            let (from_ns, table) = next(&first(&trace), &schedule);
            let window = table.window.unwrap();
            assert!(window.until_ns > from_ns && window.next_ns > from_ns);
            assert!(table.entries.len() < MOST_ENTRIES);
        }
    }
}

#[test]
fn a_window_that_begins_without_a_limit_goes_on_with_the_rates_after_it() {
    let mut rows = vec![(20_000 * MS, state(UNLIMITED_RATE_BPS, 0))];
    rows.extend((0..40_000).map(|row| (MS, state(8_000_000, row % 2))));
    let trace = trace(EndPolicy::Loop, &rows);
    let table = first(&trace);
    let window = table.window.unwrap();
    let table = table
        .next_window(window, &schedule(&trace), 10_000 * MS, QUEUE_BYTES)
        .unwrap();
    let bits = |t_ns| table.integral_at(t_ns) >> table.unit_bits;
    let jumped = bits(10_000 * MS + 1) - bits(10_000 * MS);
    assert!(jumped > QUEUE_BYTES * 8, "{jumped}");
    let passed = bits(21_000 * MS) - bits(20_000 * MS);
    assert!(passed.abs_diff(8_000_000) <= 1, "{passed}");
}

#[test]
fn beyond_its_end_a_window_lets_nothing_through() {
    let table = first(&varied(EndPolicy::Loop));
    assert_eq!(table.body_units, 0);
    let end = table.integral_at(table.lead_ns);
    assert_eq!(table.integral_at(table.lead_ns + 1_000_000 * MS), end);
}
