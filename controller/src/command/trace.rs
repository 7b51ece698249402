//! `hexloop trace`: channel traces.

mod eval;
mod generate;
mod list;

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use hexloop_traces::format::mahimahi::{self, ImportSettings};
use hexloop_traces::stats::TraceStatistics;
use hexloop_traces::{Direction, Trace, UNLIMITED_RATE_BPS, format};
use serde::Serialize;

use super::{Voice, print, print_json};
use crate::cli::{TraceAction, TraceImportArguments};
use crate::exit_code::ExitCode;
use crate::failure::{Failure, OrFail, Outcome};
use crate::format::{bit_rate, count_to_f64, milliseconds, ns_to_s};
use crate::record::write_file;
use crate::summary::outages;

pub(super) fn trace(action: &TraceAction, voice: Voice) -> Outcome {
    match action {
        TraceAction::Gen(arguments) => generate::generate(arguments, voice),
        TraceAction::List => list::list(voice),
        TraceAction::Import(arguments) => import(arguments, voice),
        TraceAction::Eval(arguments) => eval::eval(arguments, voice),
        TraceAction::Show { trace, rows } => show(&read(trace)?, *rows, voice),
        TraceAction::Stats { trace } => statistics(&read(trace)?, voice),
    }
}

fn read(path: &Path) -> Result<Trace, Failure> {
    format::read_file(path).or_fail(ExitCode::InvalidInput, || {
        format!("{} is not a trace", path.display())
    })
}

/// The text of a recording, not longer than a trace file may be.
fn recording(path: &Path) -> Result<String, Failure> {
    let doing = || format!("cannot read the recording {}", path.display());
    let mut text = String::new();
    File::open(path)
        .and_then(|file| {
            file.take(format::LARGEST_FILE_BYTES + 1)
                .read_to_string(&mut text)
        })
        .or_fail(ExitCode::InvalidInput, doing)?;
    if u64::try_from(text.len()).is_ok_and(|length| length > format::LARGEST_FILE_BYTES) {
        let message = format!(
            "{} is larger than {} bytes",
            path.display(),
            format::LARGEST_FILE_BYTES
        );
        return Err(Failure::message(ExitCode::InvalidInput, message));
    }
    Ok(text)
}

fn import(arguments: &TraceImportArguments, voice: Voice) -> Outcome {
    let down = recording(&arguments.mahimahi_down)?;
    let up = arguments
        .mahimahi_up
        .as_deref()
        .map(recording)
        .transpose()?;
    let queue_bytes = arguments.queue.map_or(0, |queue| queue.bytes);
    let queue_bytes = u32::try_from(queue_bytes).or_fail(ExitCode::Usage, || {
        format!("--queue: {queue_bytes} bytes are more than a trace can say")
    })?;
    let name = arguments.mahimahi_down.file_stem();
    let settings = ImportSettings {
        scenario: name.map_or_else(
            || "mahimahi".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        ),
        delay_ns: arguments.delay.ns,
        queue_bytes,
    };
    let trace = mahimahi::parse(&down, up.as_deref(), &settings)
        .or_fail(ExitCode::InvalidInput, || {
            let down = arguments.mahimahi_down.display();
            match &arguments.mahimahi_up {
                Some(up) => format!("{down} and {} cannot be imported", up.display()),
                None => format!("{down} cannot be imported"),
            }
        })
        .map_err(|failure| {
            failure.remedy("a recording holds one whole number of milliseconds per line")
        })?;
    let path = &arguments.output;
    write_file(path, format::to_text(&trace).as_bytes()).or_fail(ExitCode::Failed, || {
        format!("cannot write the trace to {}", path.display())
    })?;
    if voice.json {
        print_json(trace.metadata())?;
    }
    Ok(ExitCode::Done)
}

fn show(trace: &Trace, rows: usize, voice: Voice) -> Outcome {
    if voice.json {
        let shown: Vec<_> = trace.rows().iter().take(rows).collect();
        print_json(&serde_json::json!({ "metadata": trace.metadata(), "rows": shown }))?;
        return Ok(ExitCode::Done);
    }
    let metadata = trace.metadata();
    let mut text = format!(
        "{} ({} rows, {:.3} s, made by {})\n",
        metadata.scenario,
        trace.rows().len(),
        ns_to_s(metadata.duration_ns),
        metadata.generator
    );
    for note in &metadata.notes {
        text.push_str("  note: ");
        text.push_str(note);
        text.push('\n');
    }
    text.push_str("       t, s           down             up   delay down     delay up\n");
    for row in trace.rows().iter().take(rows) {
        let line = format!(
            "{:11.6} {:>14} {:>14} {:>12} {:>12}  {}\n",
            ns_to_s(row.t_ns),
            rate(row.down.rate_bps),
            rate(row.up.rate_bps),
            milliseconds(row.down.delay_ns),
            milliseconds(row.up.delay_ns),
            row.diagnostics.event.as_deref().unwrap_or_default()
        );
        text.push_str(&line);
    }
    if trace.rows().len() > rows {
        text.push_str("  ... (--rows shows more)\n");
    }
    print(&text)?;
    Ok(ExitCode::Done)
}

fn rate(bps: u64) -> String {
    if bps == UNLIMITED_RATE_BPS {
        "unlimited".to_owned()
    } else {
        bit_rate(count_to_f64(bps))
    }
}

#[derive(Serialize)]
struct Statistics {
    scenario: String,
    status: hexloop_traces::TraceStatus,
    rows: usize,
    duration_s: f64,
    outages_s: Vec<[f64; 2]>,
    directions: Vec<DirectionStatistics>,
}

#[derive(Serialize)]
struct DirectionStatistics {
    direction: &'static str,
    mean_bps: u64,
    smallest_bps: u64,
    median_bps: u64,
    largest_bps: u64,
    outage_share: f64,
    smallest_delay_ns: u64,
    largest_delay_ns: u64,
}

fn of_direction(trace: &Trace, direction: Direction) -> DirectionStatistics {
    let found = TraceStatistics::of(trace, direction);
    DirectionStatistics {
        direction: direction.name(),
        mean_bps: found.rate_mean_bps,
        smallest_bps: found.rate_min_bps,
        median_bps: found.rate_p50_bps,
        largest_bps: found.rate_max_bps,
        outage_share: found.outage_fraction,
        smallest_delay_ns: found.delay_min_ns,
        largest_delay_ns: found.delay_max_ns,
    }
}

fn statistics(trace: &Trace, voice: Voice) -> Outcome {
    let outages = outages(trace, trace.duration_ns());
    let statistics = Statistics {
        scenario: trace.metadata().scenario.clone(),
        status: trace.metadata().status,
        rows: trace.rows().len(),
        duration_s: ns_to_s(trace.duration_ns()),
        outages_s: outages
            .iter()
            .map(|(from, to)| [ns_to_s(*from), ns_to_s(*to)])
            .collect(),
        directions: Direction::BOTH
            .map(|direction| of_direction(trace, direction))
            .into(),
    };
    if voice.json {
        print_json(&statistics)?;
        return Ok(ExitCode::Done);
    }
    let mut text = format!(
        "{}: {} rows over {:.3} s\n",
        statistics.scenario, statistics.rows, statistics.duration_s
    );
    for direction in &statistics.directions {
        let line = format!(
            "  {:4}  mean {}, {} to {}; delay {} to {}\n",
            direction.direction,
            rate(direction.mean_bps),
            rate(direction.smallest_bps),
            rate(direction.largest_bps),
            milliseconds(direction.smallest_delay_ns),
            milliseconds(direction.largest_delay_ns)
        );
        text.push_str(&line);
    }
    for [from, to] in &statistics.outages_s {
        let line = format!("  outage from {from:.3} s to {to:.3} s\n");
        text.push_str(&line);
    }
    print(&text)?;
    Ok(ExitCode::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_imported_recording_is_a_trace_with_the_delay_and_queue_that_were_given() {
        let directory = tempfile::tempdir().unwrap();
        let arguments = TraceImportArguments {
            mahimahi_down: directory.path().join("tram.down"),
            mahimahi_up: None,
            delay: "20 ms".parse().unwrap(),
            queue: Some("300 kB".parse().unwrap()),
            output: directory.path().join("tram.csv"),
        };
        let voice = Voice {
            json: false,
            quiet: true,
        };
        std::fs::write(&arguments.mahimahi_down, "1\n2\n2\n10\n").unwrap();
        assert_eq!(import(&arguments, voice).unwrap(), ExitCode::Done);
        let trace = read(&arguments.output).unwrap();
        assert_eq!(trace.metadata().scenario, "tram");
        assert_eq!(trace.duration_ns(), 10_000_000);
        let first = &trace.rows()[0].down;
        assert_eq!(first.rate_bps, 12_000_000);
        assert_eq!((first.delay_ns, first.queue_bytes), (20_000_000, 300_000));

        std::fs::write(&arguments.mahimahi_down, "2\n1\n").unwrap();
        let failure = import(&arguments, voice).unwrap_err();
        assert_eq!(failure.code, ExitCode::InvalidInput);
        assert!(failure.to_string().contains("line 2"), "{failure}");
    }
}
