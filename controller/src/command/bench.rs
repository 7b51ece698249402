//! `hexloop bench`: measures what this machine can do.

mod document;
mod engine;
mod estimate;
mod table;
mod target;

use hexloop_agent::bench::{self, Ask, BenchError, ROWS, Row, Scale};
use hexloop_agent::privilege::{self, Privilege};
use hexloop_proto::{LateHistogram, LinkWindow};
use hexloop_topologies::plan::VerdictBounds;
use hexloop_traces::Direction;
use hexloop_workloads::clock;

use super::undo::clean_up_before;
use super::{Voice, print, print_json};
use crate::cli::bench::{BenchLinkArguments, BenchPreset, BenchSubject};
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::format::count_to_f64;
use crate::paths::Paths;
use crate::tell::tell;
use crate::verdict::{Grain, StatedBounds, backlogged_totals};
use document::{Document, Facts, Outcome as RowOutcome, RowResult};

pub(super) fn bench(subject: &BenchSubject, voice: Voice) -> Outcome {
    match subject {
        BenchSubject::Link(arguments) => link(arguments, voice),
        BenchSubject::Engine(arguments) => engine::engine(arguments, voice),
    }
}

fn link(arguments: &BenchLinkArguments, voice: Voice) -> Outcome {
    let rows = chosen(&arguments.only)?;
    if arguments.list {
        return list(&rows, voice);
    }
    clean_up_before(&Paths::of_this_user()?.state)?;
    // No thread exists yet: without root this process enters a user namespace of its own.
    let privilege = privilege::acquire().map_err(|error| {
        let remedy = error.remedy().to_owned();
        Failure::new(ExitCode::Preflight, error)
            .context("links cannot be measured here")
            .remedy(remedy)
    })?;
    let full = arguments.preset == BenchPreset::Full;
    let bounds = StatedBounds::read()?.bounds;
    let believe = |windows: &[LinkWindow], late: &LateHistogram| believed(&bounds, windows, late);
    let ask = Ask {
        scale: if full { Scale::Full } else { Scale::Smoke },
        believe: &believe,
        most_late_ns: count_to_f64(bounds.shaper_lateness_ns),
        largest_rate_error: count_to_f64(bounds.rate_error_ppm) / 1e6,
    };
    let facts = Facts::look(privilege == Privilege::Root, full);
    let mut results = Vec::new();
    for row in rows {
        if !voice.quiet {
            tell(&format_args!("{}: {}", row.name, row.what));
        }
        results.push(measured(row, &ask));
    }
    let document = Document::new(full, facts, results);
    if voice.json {
        print_json(&document)?;
    } else {
        print(&table::table(&document))?;
    }
    Ok(exit_code(&document, arguments.strict))
}

/// The rows that were asked for, in the order of the table.
fn chosen(only: &[String]) -> Result<Vec<&'static Row>, Failure> {
    let is_called = |row: &Row, name: &String| row.name.starts_with(name.as_str());
    if let Some(unknown) = only
        .iter()
        .find(|name| !ROWS.iter().any(|row| is_called(row, name)))
    {
        let message = format!("no row is called {unknown}");
        return Err(Failure::message(ExitCode::Usage, message)
            .remedy("`hexloop bench link --list` tells the names"));
    }
    let wanted = |row: &&Row| only.is_empty() || only.iter().any(|name| is_called(row, name));
    Ok(ROWS.iter().filter(wanted).collect())
}

fn list(rows: &[&Row], voice: Voice) -> Outcome {
    if voice.json {
        print_json(&document::listed(rows))?;
    } else {
        for row in rows {
            print(&format!("{:22} {}\n", row.name, row.what))?;
            for target in target::described(row.name) {
                print(&format!("{:22}   target: {target}\n", ""))?;
            }
        }
    }
    Ok(ExitCode::Done)
}

fn measured(row: &Row, ask: &Ask<'_>) -> RowResult {
    let (began, before) = (clock::now(), bench::busy());
    let result = bench::measure(row, ask);
    let seconds = crate::format::ns_to_s(clock::now() - began);
    let others = before.and_then(|before| bench::busy()?.since(before));
    let full = ask.scale == Scale::Full;
    let result = match result {
        Ok(measured) => RowResult::measured(row, &measured, full),
        Err(BenchError::Unavailable { why }) => {
            RowResult::without(row, RowOutcome::Unavailable, why)
        }
        Err(error) => {
            let why = format!("{:#}", anyhow::Error::new(error));
            RowResult::without(row, RowOutcome::Failed, why)
        }
    };
    result.beside(seconds, others)
}

/// Whether the verdict would believe a run in which the uplink had these windows and lateness.
fn believed(bounds: &VerdictBounds, windows: &[LinkWindow], lateness: &LateHistogram) -> bool {
    let Some(link) = windows.first().map(|window| window.link.as_str()) else {
        return false;
    };
    // Its links have far more than a packet to a window.
    let grain = Grain {
        packet_bytes: 0,
        rate_error_ppm: bounds.rate_error_ppm,
    };
    let totals = backlogged_totals(windows.iter(), link, Direction::Up, grain);
    let difference = u128::from(totals.delivered_bytes.abs_diff(totals.trace_bytes));
    let allowed = u128::from(bounds.rate_error_ppm) * u128::from(totals.trace_bytes);
    let exact = totals.trace_bytes > 0 && difference * 1_000_000 <= allowed;
    let punctual = lateness
        .p99_ns
        .is_some_and(|late| late <= bounds.shaper_lateness_ns);
    totals.windows >= bounds.backlogged_windows && exact && punctual
}

/// A bench that measured has done its work, whatever came out; a row that failed has not.
fn exit_code(document: &Document, strict: bool) -> ExitCode {
    let has = |outcome: RowOutcome| document.rows.iter().any(|row| row.outcome == outcome);
    if has(RowOutcome::Failed) {
        ExitCode::Failed
    } else if strict && (has(RowOutcome::Missed) || has(RowOutcome::Spoilt)) {
        ExitCode::ExpectationNotHeld
    } else {
        ExitCode::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_chosen_by_the_beginning_of_their_names() {
        let names = |only: &[&str]| {
            let only: Vec<String> = only.iter().map(|&name| name.to_owned()).collect();
            let rows = chosen(&only);
            rows.map(|rows| rows.iter().map(|row| row.name).collect::<Vec<_>>())
        };
        assert_eq!(names(&["tc-1"]).unwrap(), ["tc-10ms", "tc-1ms"]);
        assert_eq!(names(&[]).unwrap().len(), ROWS.len());
        assert_eq!(names(&["nothing"]).unwrap_err().code, ExitCode::Usage);
    }

    #[test]
    fn a_run_is_believed_by_the_bounds_of_the_verdict() {
        let bounds = StatedBounds::read().unwrap().bounds;
        let window = |delivered_bytes| LinkWindow {
            link: "air".to_owned(),
            direction: Direction::Up,
            start_ns: 0,
            length_ns: 10_000_000,
            trace_bytes: 10_000,
            delivered_bytes,
            delivered_packets: 10,
            backlogged: true,
            queue_bytes: 0,
            dropped_packets: 0,
            lost_packets: 0,
            marked_packets: 0,
            duplicated_packets: 0,
            corrupted_packets: 0,
        };
        let late = |p99_ns| LateHistogram {
            count: 1000,
            p50_ns: Some(1),
            p99_ns: Some(p99_ns),
            max_ns: Some(p99_ns),
            v2_base64: String::new(),
        };
        let judge = |delivered, late_ns, count| {
            believed(&bounds, &vec![window(delivered); count], &late(late_ns))
        };
        assert!(judge(10_050, 900_000, 60));
        assert!(!judge(10_150, 900_000, 60));
        assert!(!judge(10_050, 1_100_000, 60));
        assert!(!judge(10_050, 900_000, 40));
        assert!(!judge(10_050, 900_000, 0));
    }

    #[test]
    fn only_failures_fail_unless_it_is_strict() {
        let document = |outcome| {
            let row = RowResult::without(&ROWS[0], outcome, "because".to_owned());
            Document::new(false, Facts::default(), vec![row])
        };
        assert_eq!(
            exit_code(&document(RowOutcome::Missed), false),
            ExitCode::Done
        );
        let strict = exit_code(&document(RowOutcome::Missed), true);
        assert_eq!(strict, ExitCode::ExpectationNotHeld);
        assert_eq!(
            exit_code(&document(RowOutcome::Unavailable), true),
            ExitCode::Done
        );
        assert_eq!(
            exit_code(&document(RowOutcome::Failed), false),
            ExitCode::Failed
        );
    }
}
