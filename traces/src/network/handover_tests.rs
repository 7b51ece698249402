use super::*;

fn settings(kind: HandoverKind) -> ConnectionSettings {
    ConnectionSettings {
        a3: A3 {
            offset_db: 3.0,
            hysteresis_db: 1.0,
            time_to_trigger_ns: 160_000_000,
        },
        filter_k: 0,
        measurement_period_ns: 40_000_000,
        preparation_ns: 50_000_000,
        interruption_ns: 80_000_000,
        kind,
        radio_link: RadioLinkSettings::default(),
        reestablishment_ns: 300_000_000,
    }
}

/// What happens, with its moment in ms, when cell 1 gets stronger by `db(t)` than cell 0.
fn play(
    settings: ConnectionSettings,
    db: impl Fn(f64) -> f64,
    sinr_db: impl Fn(f64, usize) -> f64,
) -> (Vec<(u32, ConnectionEvent)>, Connection, u32) {
    let mut connection = Connection::new(settings, &[-90.0, -100.0]);
    let mut events = Vec::new();
    let mut interrupted = 0;
    for ms in 0..5_000_u32 {
        let (now_ns, now_s) = (u64::from(ms) * 1_000_000, f64::from(ms) / 1e3);
        let rsrp = [-90.0, -90.0 + db(now_s)];
        if let Some(event) = connection.update(now_ns, &rsrp, |cell| sinr_db(now_s, cell)) {
            events.push((ms, event));
        }
        interrupted += u32::from(connection.interrupted());
    }
    (events, connection, interrupted)
}

use ConnectionEvent::{
    HandoverDone, HandoverFailed, HandoverStarted, RadioLinkFailed, Reestablished,
};

#[test]
fn a_stronger_neighbour_takes_over_after_the_time_to_trigger_and_the_preparation() {
    let step = |t_s: f64| if t_s < 1.0 { -10.0 } else { 4.5 };
    let legacy = settings(HandoverKind::Legacy);
    let (events, connection, interrupted) = play(legacy, step, |_, _| 10.0);
    assert_eq!(
        events,
        [(1_210, HandoverStarted), (1_290, HandoverDone)],
        "1 s + 160 ms + 50 ms, then 80 ms"
    );
    assert_eq!(connection.serving(), 1);
    assert_eq!(interrupted, 80);
    assert_eq!(connection.counts().handovers, 1);

    let (_, connection, interrupted) = play(settings(HandoverKind::Daps), step, |_, _| 10.0);
    assert_eq!(
        (connection.serving(), interrupted),
        (1, 0),
        "DAPS interrupts nothing"
    );
}

#[test]
fn a_neighbour_that_is_not_better_by_offset_and_hysteresis_or_not_for_long_is_left_alone() {
    let legacy = settings(HandoverKind::Legacy);
    for db in [(|_| 3.9) as fn(f64) -> f64, |t_s| {
        if (1.0..1.15).contains(&t_s) {
            9.0
        } else {
            -9.0
        }
    }] {
        let (events, ..) = play(legacy, db, |_, _| 10.0);
        assert_eq!(events, []);
    }
    // Once entered, the condition holds until the neighbour is worse by the hysteresis.
    let dip = |t_s: f64| {
        if t_s < 1.0 {
            -10.0
        } else if t_s < 1.05 {
            4.5
        } else {
            2.5
        }
    };
    assert_eq!(play(legacy, dip, |_, _| 10.0).0.len(), 2);
}

#[test]
fn back_within_a_second_is_a_ping_pong() {
    let swing = |t_s: f64| if (1.0..1.5).contains(&t_s) { 9.0 } else { -9.0 };
    let (_, connection, _) = play(settings(HandoverKind::Legacy), swing, |_, _| 10.0);
    assert_eq!(
        (
            connection.counts().handovers,
            connection.counts().ping_pongs
        ),
        (2, 1)
    );
}

#[test]
fn a_link_that_is_lost_is_established_again_in_the_strongest_cell() {
    let fades = |t_s: f64, cell: usize| if cell == 0 && t_s >= 1.0 { -20.0 } else { 10.0 };
    // The neighbour is better, but not by enough for a report.
    let (events, connection, interrupted) = play(settings(HandoverKind::Legacy), |_| 2.0, fades);
    assert_eq!(events, [(2_000, RadioLinkFailed), (2_300, Reestablished)]);
    assert_eq!((connection.serving(), interrupted), (1, 300));
    assert_eq!(connection.counts().radio_link_failures, 1);
}

#[test]
fn a_handover_fails_when_its_command_is_lost_or_its_target_is_not_there() {
    let step = |t_s: f64| if t_s < 1.0 { -10.0 } else { 9.0 };
    let source_lost = |t_s: f64, cell: usize| if cell == 0 && t_s >= 1.0 { -20.0 } else { 10.0 };
    let (events, ..) = play(settings(HandoverKind::Legacy), step, source_lost);
    assert_eq!(events, [(1_210, HandoverFailed), (1_510, Reestablished)]);
    let target_away = |t_s: f64, cell: usize| if cell == 1 && t_s < 1.4 { -20.0 } else { 10.0 };
    let (events, ..) = play(settings(HandoverKind::Legacy), step, target_away);
    assert_eq!(
        events,
        [
            (1_210, HandoverStarted),
            (1_290, HandoverFailed),
            (1_590, Reestablished)
        ]
    );
}

#[test]
fn with_a_command_beforehand_a_link_that_breaks_at_once_is_still_handed_over() {
    // The source is lost in the moment in which the neighbour gets better.
    let step = |t_s: f64| if t_s < 1.0 { -10.0 } else { 15.0 };
    let sinr = |t_s: f64, cell: usize| if cell == 0 && t_s >= 1.0 { -15.0 } else { 10.0 };
    let (events, ..) = play(settings(HandoverKind::Legacy), step, sinr);
    assert_eq!(events[0].1, HandoverFailed);
    let (events, _, interrupted) = play(settings(HandoverKind::Conditional), step, sinr);
    assert_eq!(events, [(1_160, HandoverStarted), (1_240, HandoverDone)]);
    assert_eq!(interrupted, 80);
}
