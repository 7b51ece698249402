//! Runs of uplink rates over 5G mmWave as NUWiNS published them: blocks of comma-separated lists.
//!
//! A block begins with a line of `####` and one of `Run N`. One list is a static run: a rate in
//! Mbit/s every 100 ms. Of two or more lists the first are moments in seconds and the second
//! the rates at them; what follows is a second pair that nobody explains, and is left out.

use super::{
    Cell, Delimiter, Facts, ImportOptions, Importer, Missing, Quantity, RateUnit, Record,
    Recording, Timeline, decimal_ns, rate_bps, records,
};
use crate::{Direction, EndPolicy, Trace, TraceError};

const STATIC_STEP_NS: i64 = 100_000_000;

pub(super) const IMPORTER: Importer = Importer {
    name: "nuwins",
    about: "runs of uplink Mbit/s over 5G mmWave (NUWiNS): blocks of `####`, `Run N` and lists; \
            select one run with --select run=N",
    most_files: 1,
    detect,
    import,
};

fn detect(recording: &Recording<'_>) -> bool {
    let mut lines = recording.lines().map(|(_, line)| line.trim());
    let has_mark = lines.by_ref().take(20).any(|line| line.starts_with("####"));
    has_mark && lines.next().is_some_and(|line| line.starts_with("Run "))
}

/// A run's lists.
struct Run<'a> {
    name: &'a str,
    lists: Vec<Record<'a>>,
}

fn runs<'a>(recording: Recording<'a>) -> Result<Vec<Run<'a>>, TraceError> {
    let mut runs: Vec<Run<'a>> = Vec::new();
    for record in records(recording, Delimiter::Comma) {
        let first = record.cell(0, "a list")?.text;
        if first.starts_with('#') {
            continue;
        }
        if let Some(name) = first.strip_prefix("Run ") {
            runs.push(Run {
                name: name.trim(),
                lists: Vec::new(),
            });
            continue;
        }
        match runs.last_mut() {
            Some(run) => run.lists.push(record),
            None => return Err(record.place.error("expected `Run N` before the first list")),
        }
    }
    Ok(runs)
}

fn import(recordings: &[Recording<'_>], options: &ImportOptions) -> Result<Trace, TraceError> {
    let Some(&recording) = recordings.first() else {
        let nothing = Recording { name: "", text: "" };
        return Err(nothing.end().error("expected a file"));
    };
    let runs = runs(recording)?;
    let names: Vec<&str> = runs.iter().take(40).map(|run| run.name).collect();
    let run = match options.select.get("run") {
        Some(wanted) => runs.iter().find(|run| run.name == wanted),
        None if runs.len() == 1 => runs.first(),
        None => None,
    };
    let run = run.ok_or_else(|| {
        recording.place(1, 1).error(format!(
            "select one of the runs {}, as in --select run=1",
            names.join(", ")
        ))
    })?;
    let mut timeline = Timeline::new();
    match run.lists.as_slice() {
        [] => {
            return Err(recording
                .end()
                .error(format!("run {} has no list", run.name)));
        }
        [rates] => {
            for (cell, index) in filled(rates).zip(0_i64..) {
                timeline.moment(index.saturating_mul(STATIC_STEP_NS), cell.place)?;
                sample(&mut timeline, &cell)?;
            }
        }
        [moments, rates, ..] => {
            let (times, speeds) = (filled(moments).count(), filled(rates).count());
            if times != speeds {
                return Err(rates.place.error(format!(
                    "run {} has {times} moments and {speeds} rates",
                    run.name
                )));
            }
            for (moment, cell) in filled(moments).zip(filled(rates)) {
                let at_ns =
                    decimal_ns(moment.text, 1_000_000_000).map_err(|why| moment.error(why))?;
                timeline.moment(at_ns, moment.place)?;
                sample(&mut timeline, &cell)?;
            }
        }
    }
    let left_out = run.lists.len().saturating_sub(2);
    let facts = Facts {
        format: IMPORTER.name,
        recordings: &recordings[..1],
        end: EndPolicy::Loop,
        sampled: true,
        end_ns: None,
        notes: if left_out > 0 {
            vec![format!("{left_out} further lists of the run were left out")]
        } else {
            Vec::new()
        },
    };
    timeline.into_trace(facts, options)
}

/// The fields of a list; a comma at its end adds none.
fn filled<'r, 'a>(record: &'r Record<'a>) -> impl Iterator<Item = Cell<'a>> + 'r {
    record
        .cells
        .iter()
        .copied()
        .filter(|cell| !cell.text.is_empty())
}

fn sample(timeline: &mut Timeline, cell: &Cell<'_>) -> Result<(), TraceError> {
    let rate = rate_bps(cell.text, RateUnit::Megabit, Missing::DashOrMinusOne)
        .map_err(|why| cell.error(why))?;
    if let Some(rate) = rate {
        timeline.sample(Quantity::Rate(Direction::Up), rate);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::detect as detect_any;
    use super::*;
    use proptest::prelude::*;

    const RUNS: &str = "####\nRun 1\n10.5,20,0,\n####\nRun 2\n5.0,5.1,5.2\n1,2,3\n9,9\n8,8\n";

    fn imported(text: &str, run: Option<&str>) -> Result<Trace, String> {
        let recording = Recording {
            name: "runs.txt",
            text,
        };
        let options = ImportOptions {
            select: run
                .map(|run| ("run".to_owned(), run.to_owned()))
                .into_iter()
                .collect(),
            ..ImportOptions::default()
        };
        import(&[recording], &options).map_err(|error| error.to_string())
    }

    #[test]
    fn a_static_run_has_a_rate_every_100_ms_and_a_moving_one_its_own_moments() {
        let recording = Recording {
            name: "runs.txt",
            text: RUNS,
        };
        let names: Vec<&str> = detect_any(&recording)
            .iter()
            .map(|found| found.name)
            .collect();
        assert_eq!(names, ["nuwins"]);
        let rates = |run| {
            let trace = imported(RUNS, Some(run)).unwrap();
            let row = |row: &crate::TraceRow| (row.t_ns / 1_000_000, row.up.rate_bps);
            trace.rows().iter().map(row).collect::<Vec<_>>()
        };
        assert_eq!(rates("1"), [(0, 10_500_000), (100, 20_000_000), (200, 0)]);
        assert_eq!(
            rates("2"),
            [(0, 1_000_000), (100, 2_000_000), (200, 3_000_000)]
        );
    }

    #[test]
    fn a_run_must_be_selected_and_lists_must_fit() {
        let problem = imported(RUNS, None).unwrap_err();
        assert!(problem.contains("--select run=1"), "{problem}");
        assert!(imported(RUNS, Some("7")).is_err());
        assert!(imported("####\nRun 1\n1,2\n1\n", None).is_err());
        assert!(imported("1,2,3\n", None).is_err());
        assert!(imported("####\nRun 1\n", None).is_err());
        assert!(imported("####\nRun 1\n1,fast\n", None).is_err());
        assert!(imported("", None).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text: String, lists in "[0-9.,\\nRun #-]{0,200}") {
            for text in [text, format!("####\nRun 1\n{lists}"), format!("{RUNS}{lists}")] {
                let _ = imported(&text, None);
                let _ = imported(&text, Some("1"));
            }
        }
    }
}
