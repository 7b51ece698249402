use super::*;
use crate::{Diagnostics, LinkState, TRACE_SCHEMA, TraceMetadata, TraceRow};
use crate::{EndPolicy, TraceStatus, UNLIMITED_RATE_BPS};
use proptest::prelude::*;

const METADATA: &str = r##"# {"schema":1,"scenario":"test","status":"control","duration_ns":1000,"end":"hold","seed":null,"generator":"hand"}"##;

fn with_rows(rows: &str) -> String {
    format!("{METADATA}\nt_ns,down_rate_bps,up_rate_bps\n{rows}")
}

fn error(text: &str) -> (usize, usize, String) {
    match parse(text).unwrap_err() {
        TraceError::Syntax {
            line,
            column,
            problem,
        } => (line, column, problem),
        other => panic!("{other}"),
    }
}

#[test]
fn a_short_file_written_by_hand_is_a_trace() {
    let trace = parse(&with_rows(
        "# a comment\r\n0,max,1000\r\n\r\n500, 0 ,2000\n",
    ))
    .unwrap();
    assert_eq!(trace.rows().len(), 2);
    assert_eq!(trace.rows()[0].down.rate_bps, UNLIMITED_RATE_BPS);
    assert_eq!(trace.rows()[1].down.rate_bps, 0);
    assert_eq!(trace.rows()[1].up.delay_ns, 0);
    assert_eq!(trace.metadata().end, EndPolicy::Hold);
}

#[test]
fn a_file_of_the_first_schema_is_read_and_written_as_the_newest() {
    let old = with_rows("0,max,1000");
    assert!(old.contains("\"schema\":1"));
    let trace = parse(&old).unwrap();
    assert_eq!(trace.metadata().schema, TRACE_SCHEMA);
    assert_eq!(trace.metadata().provenance, crate::Provenance::default());
    assert_eq!(parse(&to_text(&trace)).unwrap(), trace);
}

#[test]
fn canonical_text_has_all_columns_in_the_documented_order() {
    let trace = parse(&with_rows("0,max,1000")).unwrap();
    let text = to_text(&trace);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("# {\"schema\":2,\"scenario\":\"test\","));
    assert_eq!(
        lines[1],
        "t_ns,down_rate_bps,down_delay_ns,down_jitter_ns,down_loss_ppb,down_loss_burst_milli,\
         down_dup_ppb,down_corrupt_ppb,down_queue_bytes,up_rate_bps,up_delay_ns,up_jitter_ns,\
         up_loss_ppb,up_loss_burst_milli,up_dup_ppb,up_corrupt_ppb,up_queue_bytes,sinr_cdb,mcs,\
         cell_id,los,blocked,elevation_cdeg,event"
    );
    assert_eq!(
        lines[2],
        "0,max,0,0,0,1000,0,0,0,1000,0,0,0,1000,0,0,0,,,,,,,"
    );
}

#[test]
fn time_that_goes_back_is_reported_with_its_line() {
    let (line, column, problem) = error(&with_rows("0,1,1\n# between\n700,1,1\n300,1,1\n"));
    assert_eq!((line, column), (6, 1));
    assert!(
        problem.contains("time goes back from 700 ns to 300 ns"),
        "{problem}"
    );
    assert!(error(&with_rows("0,1,1\n0,1,1\n")).2.contains("repeated"));
    assert!(error(&with_rows("5,1,1\n")).2.contains("expected 0"));
    assert!(
        error(&with_rows("0,1,1\n1000,1,1\n"))
            .2
            .contains("duration_ns, 1000")
    );
}

#[test]
fn every_mistake_is_reported_with_line_column_and_what_was_expected() {
    let cases = [
        (with_rows("0,1,1\n 5,fast,1\n"), 4, 4, "or `max`"),
        (with_rows("0,-1,1\n"), 3, 3, "bits per second"),
        (with_rows("0,+1,1\n"), 3, 3, "bits per second"),
        (with_rows("0,1\n"), 3, 4, "expected up_rate_bps"),
        (with_rows("0,1,1,1\n"), 3, 7, "more fields"),
        (
            with_rows("99999999999999999999,1,1\n"),
            3,
            1,
            "whole number",
        ),
        (with_rows(""), 2, 1, "at least one row"),
        (
            format!("{METADATA}\nt_ns,down_rate_bps\n0,1\n"),
            2,
            1,
            "`up_rate_bps` is missing",
        ),
        (
            format!("{METADATA}\nt_ns,down_rate\n0,1\n"),
            2,
            6,
            "unknown column `down_rate`",
        ),
        (
            format!("{METADATA}\nt_ns,t_ns\n0,1\n"),
            2,
            6,
            "appears twice",
        ),
        (
            "t_ns,down_rate_bps,up_rate_bps\n0,1,1\n".to_owned(),
            1,
            1,
            "metadata",
        ),
        (String::new(), 1, 1, "metadata"),
        (
            "# {\"schema\":1,\"scenari\":\"x\"}".to_owned(),
            1,
            23,
            "unknown field `scenari`",
        ),
        ("# {\"schema\":1".to_owned(), 1, 0, "EOF"),
        (
            METADATA.replace("\"schema\":1", "\"schema\":3"),
            1,
            3,
            "schema 3",
        ),
        (
            METADATA.replace("control", "sure"),
            1,
            0,
            "unknown variant `sure`",
        ),
    ];
    for (text, line, column, problem) in cases {
        let found = error(&text);
        assert_eq!(found.0, line, "{text}: {found:?}");
        assert!(column == 0 || found.1 == column, "{text}: {found:?}");
        assert!(found.2.contains(problem), "{text}: {found:?}");
    }
}

#[test]
fn values_that_no_link_can_have_are_refused() {
    for (column, value, expected) in [
        ("down_loss_ppb", "1000000001", "parts per 10^9"),
        ("up_loss_burst_milli", "999", "1000 (independent loss)"),
        ("down_jitter_ns", "4294967296", "4294967295"),
        ("los", "2", "0, 1 or nothing"),
        ("sinr_cdb", "1.5", "hundredths of a decibel"),
        ("event", "two words", "letters, digits"),
    ] {
        let header = format!("t_ns,down_rate_bps,up_rate_bps,{column}");
        let (line, at, problem) = error(&format!("{METADATA}\n{header}\n0,1,1,{value}\n"));
        assert_eq!((line, at), (3, 7));
        assert!(
            problem.contains(column) && problem.contains(expected),
            "{problem}"
        );
    }
}

#[test]
fn bursts_too_short_for_what_is_lost_are_refused_at_their_place() {
    let header = "t_ns,down_rate_bps,up_rate_bps,up_loss_burst_milli,up_loss_ppb";
    let file =
        |burst| format!("{METADATA}\n{header}\n0,1,1,1000,900000000\n5,1,1,{burst},900000000\n");
    let (line, column, problem) = error(&file("2000"));
    assert_eq!((line, column), (4, 7));
    for part in [
        "up_loss_burst_milli is `2000`",
        "at least 9000",
        "90 %",
        "1000",
    ] {
        assert!(problem.contains(part), "{problem}");
    }
    assert!(parse(&file("9000")).is_ok());
}

fn link_state() -> impl Strategy<Value = LinkState> {
    let rate = prop_oneof![Just(0), Just(UNLIMITED_RATE_BPS), any::<u64>()];
    let ppb = || 0_u32..=1_000_000_000;
    (
        rate,
        any::<u64>(),
        any::<u32>(),
        ppb(),
        1000_u32..,
        ppb(),
        ppb(),
        any::<u32>(),
    )
        .prop_map(
            |(
                rate_bps,
                delay_ns,
                jitter_ns,
                loss_ppb,
                loss_burst_milli,
                dup_ppb,
                corrupt_ppb,
                queue_bytes,
            )| {
                LinkState {
                    rate_bps,
                    delay_ns,
                    jitter_ns,
                    loss_ppb,
                    loss_burst_milli,
                    dup_ppb,
                    corrupt_ppb,
                    queue_bytes,
                }
            },
        )
        .prop_filter("bursts long enough for what is lost", |state| {
            state.impossible().is_none()
        })
}

fn diagnostics() -> impl Strategy<Value = Diagnostics> {
    (
        any::<Option<i32>>(),
        any::<Option<u8>>(),
        any::<Option<u32>>(),
        any::<Option<bool>>(),
        any::<Option<bool>>(),
        any::<Option<i32>>(),
        prop::option::of("[a-z][a-z0-9_-]{0,20}"),
    )
        .prop_map(
            |(sinr_cdb, mcs, cell_id, los, blocked, elevation_cdeg, event)| Diagnostics {
                sinr_cdb,
                mcs,
                cell_id,
                los,
                blocked,
                elevation_cdeg,
                event,
            },
        )
}

pub(in crate::format) fn any_trace() -> impl Strategy<Value = Trace> {
    let row = (
        1_u64..1_000_000_000_000,
        link_state(),
        link_state(),
        diagnostics(),
    );
    let configuration = prop::collection::btree_map(any::<String>(), any::<String>(), 0..4);
    (
        prop::collection::vec(row, 1..12),
        any::<String>(),
        configuration,
        any::<Option<u64>>(),
    )
        .prop_map(|(steps, scenario, configuration, seed)| {
            let mut t_ns = 0;
            let mut rows = Vec::new();
            for (length_ns, down, up, diagnostics) in steps {
                rows.push(TraceRow {
                    t_ns,
                    down,
                    up,
                    diagnostics,
                });
                t_ns += length_ns;
            }
            let metadata = TraceMetadata {
                schema: TRACE_SCHEMA,
                notes: vec![scenario.clone()],
                generator: scenario.clone(),
                scenario,
                status: TraceStatus::Recorded,
                duration_ns: t_ns,
                end: EndPolicy::Clear,
                seed,
                configuration,
                provenance: Default::default(),
            };
            Trace::new(metadata, rows).unwrap()
        })
}

proptest! {
    #[test]
    fn a_trace_survives_writing_and_reading_exactly(trace in any_trace()) {
        let text = to_text(&trace);
        let read = parse(&text).unwrap();
        prop_assert_eq!(&read, &trace);
        prop_assert_eq!(to_text(&read), text);
    }

    #[test]
    fn the_short_way_through_a_row_is_the_long_way(
        line in "[-0-9max+ ,]{0,60}",
        whole in "[0-9]{1,21}(,[0-9]{0,20}){20,26}",
    ) {
        let columns: Vec<_> = super::super::column::Column::all().collect();
        for text in [line.as_str(), whole.as_str()] {
            for columns in [&columns[..3], &columns[..]] {
                if let Some(row) = header::plain_row(text.as_bytes(), columns) {
                    let place = header::Place { line: 1, text };
                    prop_assert_eq!(header::parse_row(place, columns).unwrap(), row);
                }
            }
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>()) {
        let _ = parse(&text);
        let _ = parse(&with_rows(&text));
        let _ = parse(&format!("{METADATA}\n{text}"));
        let _ = parse(&format!("# {{{text}"));
    }

    #[test]
    fn no_csv_like_text_makes_the_parser_panic(text in "[0-9,#{}\":a-z\n\r max\u{e9}-]{0,200}") {
        let _ = parse(&text);
        let _ = parse(&with_rows(&text));
    }
}
