//! `hexloop trace gen`: makes the traces of a scenario, several users and seeds side by side.

use std::io::Stdout;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use hexloop_traces::format::{CsvWriter, FileFormat, TraceWriter};
use hexloop_traces::scenario::{Scenario, Variant, bundled_scenarios};
use hexloop_traces::{TraceError, TraceMetadata, TraceRow};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::cli::generate::TraceGenArguments;
use crate::command::{Voice, print_json};
use crate::exit_code::ExitCode;
use crate::failure::{Failure, OrFail, Outcome};

/// Most traces of one command: each is a file.
const MOST_TRACES: u64 = 1_000_000;

/// After so many rows the progress bar is told.
const ROWS_BETWEEN_REPORTS: u64 = 4096;

pub(super) fn generate(arguments: &TraceGenArguments, voice: Voice) -> Outcome {
    let scenario = scenario(arguments)?;
    let variants = variants(arguments)?;
    let Some(output) = &arguments.output else {
        let [only] = variants.as_slice() else {
            let message = format!("{} traces do not go to standard output", variants.len());
            return Err(
                Failure::message(ExitCode::Usage, message).remedy("name a directory with --output")
            );
        };
        write_rows(&scenario, *only, Goal::Output, &ProgressBar::hidden())?;
        return Ok(ExitCode::Done);
    };
    let files = files(
        &scenario,
        &variants,
        output,
        arguments.format.map(Into::into),
    )?;
    let progress = progress_bar(&scenario, files.len(), voice);
    let made = make_all(&scenario, &files, threads(arguments), &progress);
    progress.finish_and_clear();
    let made = made?;
    if voice.json {
        match made.as_slice() {
            [only] => print_json(only)?,
            several => print_json(&several)?,
        }
    }
    Ok(ExitCode::Done)
}

/// The scenario with what the command line puts over it.
fn scenario(arguments: &TraceGenArguments) -> Result<Scenario, Failure> {
    let mut settings = Vec::new();
    let mut set = |key: &str, value: String| settings.push((key.to_owned(), value));
    // The step first: a duration is not shorter than it.
    if let Some(step) = arguments.step {
        set("step", step.to_string());
    }
    if let Some(duration) = arguments.duration {
        set("duration", duration.to_string());
    }
    if let Some(spec) = &arguments.spec {
        set("channel.spec", format!("\"{}\"", spec.replace('"', "")));
    }
    settings.extend(arguments.settings.iter().cloned());
    let mut scenario = scenario_named(&arguments.scenario, &settings)?;
    if let Some(file) = scenario.track_file() {
        // Beside the scenario's own file.
        let path = Path::new(&arguments.scenario).with_file_name(file);
        let reading = || format!("cannot read the track {}", path.display());
        let track = std::fs::read_to_string(&path).or_fail(ExitCode::InvalidInput, reading)?;
        let told = scenario.set_track(&track);
        told.or_fail(ExitCode::InvalidInput, reading)?;
    }
    Ok(scenario)
}

/// A bundled scenario or one in a file, with settings over it.
pub(super) fn scenario_named(
    name: &str,
    settings: &[(String, String)],
) -> Result<Scenario, Failure> {
    let read = match bundled_scenarios().iter().find(|known| known.name == name) {
        Some(bundled) => bundled.scenario(settings),
        None => {
            let text = std::fs::read_to_string(name)
                .or_fail(ExitCode::InvalidInput, || {
                    format!("{name} is neither a bundled scenario nor a file that can be read")
                })
                .map_err(|failure| {
                    failure.remedy("`hexloop trace list` names the bundled scenarios")
                })?;
            Scenario::parse_with(name, &text, settings)
        }
    };
    read.map_err(|error| Failure::new(ExitCode::InvalidInput, error))
}

fn variants(arguments: &TraceGenArguments) -> Result<Vec<Variant>, Failure> {
    let (first, end) = match arguments.seeds {
        Some(range) => (range.first, range.end),
        None => (arguments.seed, arguments.seed.saturating_add(1)),
    };
    let users = arguments.users;
    let seeds = end.saturating_sub(first).max(1);
    if seeds.saturating_mul(u64::from(users)) > MOST_TRACES {
        let message = format!("{seeds} seeds of {users} users are more than {MOST_TRACES} traces");
        return Err(Failure::message(ExitCode::Usage, message));
    }
    let of_seed = |seed| (0..users).map(move |user| Variant { seed, user });
    Ok((0..seeds).flat_map(|more| of_seed(first + more)).collect())
}

fn threads(arguments: &TraceGenArguments) -> usize {
    let available = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    arguments.threads.map_or_else(available, NonZeroUsize::get)
}

/// Which trace goes where, and in which format.
type Place = (Variant, PathBuf, FileFormat);

/// A file for each variant.
fn files(
    scenario: &Scenario,
    variants: &[Variant],
    output: &Path,
    format: Option<FileFormat>,
) -> Result<Vec<Place>, Failure> {
    if let [only] = variants
        && !output.is_dir()
    {
        let format = format.unwrap_or_else(|| FileFormat::of_name(output));
        return Ok(vec![(*only, output.to_owned(), format)]);
    }
    let format = format.unwrap_or(FileFormat::Csv);
    std::fs::create_dir_all(output).or_fail(ExitCode::Failed, || {
        format!("cannot make the directory {}", output.display())
    })?;
    let file = |variant: &Variant| {
        let Variant { seed, user } = variant;
        let name = format!(
            "{}-seed{seed}-user{user}.{}",
            scenario.name,
            format.ending()
        );
        (*variant, output.join(name), format)
    };
    Ok(variants.iter().map(file).collect())
}

fn progress_bar(scenario: &Scenario, traces: usize, voice: Voice) -> ProgressBar {
    if voice.quiet || voice.json {
        return ProgressBar::hidden();
    }
    let traces = u64::try_from(traces).unwrap_or(u64::MAX);
    let milliseconds = (scenario.duration.ns / 1_000_000).max(1);
    let bar = ProgressBar::new(traces.saturating_mul(milliseconds));
    let style = ProgressStyle::with_template("{msg} [{wide_bar}] {percent} % {eta}");
    if let Ok(style) = style {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(format!("{} ({traces})", scenario.name));
    bar
}

/// What was made of one variant.
#[derive(Debug, Serialize)]
struct Made {
    file: PathBuf,
    seed: u64,
    user: u32,
    rows: u64,
    metadata: TraceMetadata,
}

/// Makes every trace; each worker takes the next one that nobody has begun. A trace depends on its
/// scenario and variant alone, so neither their number nor their order changes a byte.
fn make_all(
    scenario: &Scenario,
    files: &[Place],
    threads: usize,
    progress: &ProgressBar,
) -> Result<Vec<Made>, Failure> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Result<Made, Failure>)>> = Mutex::new(Vec::new());
    let keep = |index, made| {
        done.lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .push((index, made));
    };
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(place) = files.get(index) else {
                return;
            };
            let made = make(scenario, place, progress);
            if made.is_err() {
                // Nobody begins another one.
                next.store(files.len(), Ordering::Relaxed);
            }
            keep(index, made);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads.min(files.len()) {
            scope.spawn(work);
        }
        work();
    });
    let mut done = done
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, made)| made).collect()
}

fn make(scenario: &Scenario, place: &Place, progress: &ProgressBar) -> Result<Made, Failure> {
    let (variant, path, format) = place;
    let made = write_rows(scenario, *variant, Goal::File(path, *format), progress)?;
    Ok(Made {
        file: path.clone(),
        ..made
    })
}

/// Where rows go.
#[derive(Clone, Copy)]
enum Goal<'a> {
    /// A file in a format.
    File(&'a Path, FileFormat),
    /// Standard output, as text.
    Output,
}

/// Rows on their way.
enum Sink {
    File(Box<TraceWriter>),
    Output(CsvWriter<Stdout>),
}

impl Sink {
    fn open(goal: Goal<'_>, metadata: &TraceMetadata) -> Result<Sink, TraceError> {
        Ok(match goal {
            Goal::File(path, format) => {
                Sink::File(Box::new(TraceWriter::create_as(path, format, metadata)?))
            }
            Goal::Output => Sink::Output(CsvWriter::new(std::io::stdout(), metadata)),
        })
    }

    fn write_row(&mut self, row: &TraceRow) -> Result<(), TraceError> {
        match self {
            Sink::File(writer) => writer.write_row(row),
            Sink::Output(writer) => writer.write_row(row),
        }
    }

    fn finish(self) -> Result<(), TraceError> {
        match self {
            Sink::File(writer) => writer.finish(),
            Sink::Output(writer) => writer.finish().map(drop),
        }
    }
}

fn write_rows(
    scenario: &Scenario,
    variant: Variant,
    goal: Goal<'_>,
    progress: &ProgressBar,
) -> Result<Made, Failure> {
    let generated = || format!("cannot generate scenario {}", scenario.name);
    let written = || match goal {
        Goal::File(path, _) => format!("cannot write the trace to {}", path.display()),
        Goal::Output => "cannot write the trace".to_owned(),
    };
    let mut rows = scenario
        .generate(variant)
        .or_fail(ExitCode::InvalidInput, generated)?;
    let mut metadata = rows.metadata().clone();
    if let Some(revision) = crate::REVISION {
        metadata.generator = format!("{} at revision {revision}", metadata.generator);
    }
    let mut sink = Sink::open(goal, &metadata).or_fail(ExitCode::Failed, written)?;
    let mut count = 0_u64;
    let mut reported_ms = 0_u64;
    while let Some(row) = rows.next_row().or_fail(ExitCode::InvalidInput, generated)? {
        sink.write_row(&row).or_fail(ExitCode::Failed, written)?;
        count += 1;
        if count.is_multiple_of(ROWS_BETWEEN_REPORTS) {
            let now_ms = row.t_ns / 1_000_000;
            progress.inc(now_ms - reported_ms);
            reported_ms = now_ms;
        }
    }
    sink.finish().or_fail(ExitCode::Failed, written)?;
    progress.inc(metadata.duration_ns / 1_000_000 - reported_ms);
    Ok(Made {
        file: PathBuf::new(),
        seed: variant.seed,
        user: variant.user,
        rows: count,
        metadata,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::generate::TraceFormat;

    fn arguments(scenario: &str) -> TraceGenArguments {
        TraceGenArguments {
            scenario: scenario.to_owned(),
            seed: 1,
            seeds: None,
            users: 1,
            duration: Some("200 ms".parse().unwrap()),
            step: Some("10 ms".parse().unwrap()),
            spec: None,
            settings: Vec::new(),
            output: None,
            format: None,
            threads: None,
        }
    }

    const QUIET: Voice = Voice {
        json: false,
        quiet: true,
    };

    /// Name and content of every file of a directory.
    fn contents(directory: &Path) -> Vec<(String, Vec<u8>)> {
        let mut found: Vec<(String, Vec<u8>)> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let bytes = std::fs::read(entry.path()).unwrap();
                (entry.file_name().to_string_lossy().into_owned(), bytes)
            })
            .collect();
        found.sort();
        found
    }

    #[test]
    fn many_threads_make_the_same_traces_as_one() {
        let scratch = tempfile::tempdir().unwrap();
        let made = |threads: usize, format: Option<TraceFormat>| {
            let output = scratch.path().join(format!("{format:?}-with-{threads}"));
            let arguments = TraceGenArguments {
                users: 3,
                seeds: Some("4..6".parse().unwrap()),
                output: Some(output.clone()),
                format,
                threads: NonZeroUsize::new(threads),
                ..arguments("sawtooth")
            };
            assert_eq!(generate(&arguments, QUIET).unwrap(), ExitCode::Done);
            contents(&output)
        };
        for (format, ending) in [
            (None, "csv"),
            (Some(TraceFormat::Arrow), "arrow"),
            (Some(TraceFormat::Parquet), "parquet"),
        ] {
            let serial = made(1, format);
            assert_eq!(serial.len(), 6);
            assert_eq!(serial[0].0, format!("sawtooth-seed4-user0.{ending}"));
            assert_eq!(made(4, format), serial);
        }
    }

    #[test]
    fn a_file_gets_one_trace_with_what_the_command_line_sets() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("fast.csv");
        let arguments = TraceGenArguments {
            settings: vec![("control.rate".to_owned(), "1 Gbit/s".to_owned())],
            output: Some(path.clone()),
            ..arguments("ideal")
        };
        assert_eq!(generate(&arguments, QUIET).unwrap(), ExitCode::Done);
        let trace = hexloop_traces::format::read_file(&path).unwrap();
        assert_eq!(trace.duration_ns(), 200_000_000);
        assert_eq!(trace.rows()[0].down.rate_bps, 1_000_000_000);
        assert_eq!(contents(scratch.path()).len(), 1, "nothing else is left");
    }

    #[test]
    fn what_cannot_be_made_is_named() {
        let failure = generate(&arguments("nowhere.toml"), QUIET).unwrap_err();
        assert_eq!(failure.code, ExitCode::InvalidInput);
        assert!(failure.to_string().contains("trace list"), "{failure}");
        let wrong = TraceGenArguments {
            settings: vec![("control.rat".to_owned(), "1".to_owned())],
            ..arguments("ideal")
        };
        let failure = generate(&wrong, QUIET).unwrap_err();
        assert!(
            failure.to_string().contains("unknown field `rat`"),
            "{failure}"
        );
        let several = TraceGenArguments {
            users: 2,
            ..arguments("ideal")
        };
        assert_eq!(generate(&several, QUIET).unwrap_err().code, ExitCode::Usage);
    }
}
