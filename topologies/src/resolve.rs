//! From a valid experiment to one whose traces are in memory: the only step that reads files.

mod load_files;
mod models;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use hexloop_traces::format::FileFormat;
use hexloop_traces::scenario::with_events;
use hexloop_traces::units::TimeSpan;
use hexloop_traces::{
    Direction, EndPolicy, LinkChange, LossBounds, PlaybackChange, Trace, TraceError, format,
};

use crate::experiment::{Experiment, TraceSource};
use crate::generated;
use crate::model::ModelShape;
use crate::problem::{Place, Problem, Problems, SourceText, quoted};
use crate::scenario;

/// The largest trace file that is read, in bytes.
const MAX_TRACE_BYTES: u64 = 256 << 20;

/// An experiment with everything it refers to.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedExperiment {
    /// The experiment; a model directory is now absolute or relative to the working directory.
    pub experiment: Experiment,
    /// Its traces by name.
    pub traces: BTreeMap<String, ResolvedTrace>,
    /// The shape of its model, if it has one.
    pub model: Option<ModelShape>,
    /// The shape of its second model, likewise.
    pub draft_model: Option<ModelShape>,
}

/// A trace, in memory or in its mapped file.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedTrace {
    /// The trace.
    pub trace: Trace,
    /// What agents and run directories get of it.
    pub content: TraceContent,
    /// SHA-256 of its canonical text, in hexadecimal.
    pub sha256: String,
}

/// What agents and run directories get of a trace.
#[derive(Debug, Clone, PartialEq)]
pub enum TraceContent {
    /// Its canonical text.
    Text(String),
    /// The Arrow IPC file that its rows stay in, as there are too many to hold in memory.
    File(PathBuf),
}

/// Reads or generates the traces and looks at the model. Paths in the experiment are relative to
/// `base_directory`, the directory of its file.
///
/// # Errors
/// Everything that is missing or wrong, at the line that names it or in the trace file itself.
pub fn resolve(
    mut experiment: Experiment,
    base_directory: &Path,
) -> Result<ResolvedExperiment, Problems> {
    let mut problems = Vec::new();
    let mut traces = BTreeMap::new();
    for (name, source) in &experiment.traces {
        match read_or_generate(&experiment, name, source, base_directory) {
            Ok(trace) => match content(&experiment, name, &trace, source, base_directory) {
                Ok((content, sha256)) => {
                    let resolved = ResolvedTrace {
                        trace,
                        content,
                        sha256,
                    };
                    traces.insert(name.clone(), resolved);
                }
                Err(problem) => problems.push(*problem),
            },
            Err(problem) => problems.push(*problem),
        }
    }
    check_lengths(&experiment, &traces, &mut problems);
    check_overrides(&experiment, &traces, &mut problems);
    load_files::read(&mut experiment, base_directory, &mut problems);
    let model = models::look_at_model(&mut experiment, base_directory, &mut problems);
    let draft_model =
        models::look_at_draft(&mut experiment, (model, base_directory), &mut problems);
    Problems::check(problems)?;
    if model.is_none() && experiment.model.is_some() {
        let message = "the model is not known".to_owned();
        let problem = experiment.document.problem(&["model"], message, None);
        return Err(problem.into());
    }
    Ok(ResolvedExperiment {
        experiment,
        traces,
        model,
        draft_model,
    })
}

/// What an agent gets of a trace, and the SHA-256 of its text.
fn content(
    experiment: &Experiment,
    name: &str,
    trace: &Trace,
    source: &TraceSource,
    base_directory: &Path,
) -> Result<(TraceContent, String), Box<Problem>> {
    if let TraceSource::File(relative, _) = source
        && trace.is_mapped()
    {
        let sha256 = format::text_sha256(trace).map_err(|error| {
            let message = format!("cannot use trace {}: {}", quoted(name), chain(&error));
            let place = ["traces", name, "file"];
            Box::new(experiment.document.problem(&place, message, None))
        })?;
        return Ok((TraceContent::File(base_directory.join(relative)), sha256));
    }
    let text = format::to_text(trace);
    if u64::try_from(text.len()).is_ok_and(|length| length > MAX_TRACE_BYTES) {
        return Err(Box::new(too_long(experiment, name, text.len())));
    }
    let sha256 = format::sha256_hex(&text);
    Ok((TraceContent::Text(text), sha256))
}

/// A columnar file may hold more rows than an agent is sent.
fn too_long(experiment: &Experiment, name: &str, length: usize) -> Problem {
    let message = format!(
        "trace {} is {} MiB of text, more than the {} MiB that an agent is sent",
        quoted(name),
        length >> 20,
        MAX_TRACE_BYTES >> 20
    );
    let help = "an Arrow IPC file of more than a million rows is mapped instead of sent \
                (`hexloop trace export --output NAME.arrow`); `--step` makes longer rows"
        .to_owned();
    experiment
        .document
        .problem(&["traces", name], message, Some(help))
}

/// An error and its causes on one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn read_or_generate(
    experiment: &Experiment,
    name: &str,
    source: &TraceSource,
    base_directory: &Path,
) -> Result<Trace, Box<Problem>> {
    match source {
        TraceSource::Scenario(source) => scenario::trace(source, experiment.seed, base_directory)
            .map_err(|(problem, help)| {
                let path = ["traces", name, "scenario"];
                let message = format!("cannot generate trace {}: {problem}", quoted(name));
                Box::new(experiment.document.problem(&path, message, help))
            }),
        TraceSource::Steps(steps, events) => generated::trace_of_steps(steps)
            .and_then(|trace| with_events(&trace, events))
            .map_err(|error| {
                let message = format!("cannot make trace {}: {}", quoted(name), chain(&error));
                Box::new(
                    experiment
                        .document
                        .problem(&["traces", name, "steps"], message, None),
                )
            }),
        TraceSource::File(relative, events) => {
            let scripted = |trace: Trace| {
                with_events(&trace, events).map_err(|error| {
                    let message = format!("cannot use trace {}: {}", quoted(name), chain(&error));
                    let place = ["traces", name, "events"];
                    Box::new(experiment.document.problem(&place, message, None))
                })
            };
            let path = base_directory.join(relative);
            let at_key = |message, help: Option<&str>| {
                let place = ["traces", name, "file"];
                let help = help.map(str::to_owned);
                Box::new(experiment.document.problem(&place, message, help))
            };
            if is_columnar(&path) {
                let read = format::read_file(&path).map_err(|error| {
                    let message = format!("cannot use trace {}: {}", quoted(name), chain(&error));
                    at_key(message, None)
                });
                return read.and_then(scripted);
            }
            let text = read_text(&path).map_err(|error| {
                let message = format!(
                    "cannot read trace {}: {error}",
                    quoted(&path.to_string_lossy())
                );
                let help = (error.kind() == ErrorKind::NotFound).then_some(
                    "the path is relative to the experiment file; `hexloop trace gen` makes traces",
                );
                at_key(message, help)
            })?;
            let parsed = format::parse(&text).map_err(|error| {
                let file = relative.to_string_lossy().into_owned();
                Box::new(in_trace_file(SourceText { file, text }, &error))
            });
            parsed.and_then(scripted)
        }
    }
}

/// Whether a file is Arrow IPC or Parquet. One that cannot be read is left to whoever reads it.
fn is_columnar(path: &Path) -> bool {
    FileFormat::of_path(path).is_ok_and(|format| format != FileFormat::Csv)
}

/// Reads a text file of bounded size.
fn read_text(path: &Path) -> Result<String, std::io::Error> {
    let mut text = String::new();
    let read = File::open(path)?
        .take(MAX_TRACE_BYTES + 1)
        .read_to_string(&mut text)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > MAX_TRACE_BYTES {
        let message = format!("it is larger than {} MiB", MAX_TRACE_BYTES >> 20);
        return Err(std::io::Error::new(ErrorKind::FileTooLarge, message));
    }
    Ok(text)
}

/// A problem in the trace file itself, at its line and column where the error knows them.
fn in_trace_file(source: SourceText, error: &TraceError) -> Problem {
    let (place, excerpt, message) = match error {
        TraceError::Syntax {
            line,
            column,
            problem,
        } => {
            let (place, excerpt) = source.locate_character(*line, *column);
            (place, excerpt, problem.clone())
        }
        error => (Place::WholeFile { file: source.file }, None, chain(error)),
    };
    Problem {
        place,
        message,
        help: None,
        excerpt,
    }
}

/// Values that stand in for some of a trace's must be possible beside those that it keeps.
fn check_overrides(
    experiment: &Experiment,
    traces: &BTreeMap<String, ResolvedTrace>,
    problems: &mut Vec<Problem>,
) {
    for event in &experiment.events {
        let LinkChange::Play(PlaybackChange::Override(over)) = &event.change else {
            continue;
        };
        // Most change no losses, and a trace may be long.
        if over.loss_ppb.is_none() && over.loss_burst_milli.is_none() {
            continue;
        }
        let mut links = experiment.links.iter();
        let Some(link) = links.find(|link| link.name == event.link) else {
            continue;
        };
        let Some(ResolvedTrace { trace, .. }) = traces.get(&link.trace) else {
            continue;
        };
        let reason = event.directions.iter().find_map(|direction| {
            let side = usize::from(*direction == Direction::Up);
            let states = trace.states().map(|(_, states)| states[side]);
            LossBounds::of(states).refuse(over)
        });
        if let Some(reason) = reason {
            let message = format!(
                "event {} cannot be put over trace {}: {reason}",
                quoted(&event.name),
                quoted(&link.trace)
            );
            let help = "give both `loss` and `loss_burst`".to_owned();
            let key = match over.loss_ppb {
                Some(_) => "loss",
                None => "loss_burst",
            };
            let path = ["events", event.name.as_str(), key];
            problems.push(experiment.document.problem(&path, message, Some(help)));
        }
    }
}

/// A trace that ends before a phase does must loop: nothing is emulated beyond its end.
fn check_lengths(
    experiment: &Experiment,
    traces: &BTreeMap<String, ResolvedTrace>,
    problems: &mut Vec<Problem>,
) {
    let traffic = experiment.traffic.iter().flat_map(|phase| {
        let links = std::iter::once(&phase.link).chain(&phase.beside);
        links.map(|link| ("traffic", &phase.name, link, phase.duration_ns))
    });
    let phases = experiment
        .phases
        .iter()
        .map(|phase| ("phases", &phase.name, &phase.link, phase.duration_ns));
    let loads = experiment.loads.iter();
    let loads = loads.map(|load| ("loads", &load.name, &load.link, load.duration_ns));
    for (kind, name, link, duration_ns) in traffic.chain(phases).chain(loads) {
        let Some(link) = experiment.links.iter().find(|known| known.name == *link) else {
            continue;
        };
        let Some(trace) = traces.get(&link.trace).map(|resolved| &resolved.trace) else {
            continue;
        };
        let what_follows = match trace.metadata().end {
            EndPolicy::Loop => continue,
            EndPolicy::Hold => "then keeps its last row",
            EndPolicy::Clear => "then lifts every limit",
        };
        if duration_ns <= trace.duration_ns() {
            continue;
        }
        let message = format!(
            "phase {} lasts {}, but trace {} ends after {} and {what_follows}",
            quoted(name),
            TimeSpan { ns: duration_ns },
            quoted(&link.trace),
            TimeSpan {
                ns: trace.duration_ns()
            }
        );
        let help = "make the phase shorter or the trace longer, or let the trace loop";
        let path = [kind, name, "duration"];
        problems.push(
            experiment
                .document
                .problem(&path, message, Some(help.to_owned())),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ExperimentFile, Overrides};

    #[test]
    fn a_trace_that_stays_in_its_file_is_named_by_its_text_and_not_sent() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("long.arrow");
        let short = hexloop_traces::generate::control::constant(5, 6, 7, 8).unwrap();
        format::write_file(&path, &short).unwrap();
        let long = format::read_mapped(&path).unwrap();
        let text = include_str!("../tests/valid/base.toml");
        let experiment = ExperimentFile::parse(text, "base.toml", &Overrides::default()).unwrap();
        let source = TraceSource::File(PathBuf::from("long.arrow"), Vec::new());
        let of = |trace| content(&experiment, "street", trace, &source, scratch.path()).unwrap();
        let (file, named) = of(&long);
        assert_eq!(file, TraceContent::File(path));
        let (sent, also_named) = of(&short);
        assert_eq!(sent, TraceContent::Text(format::to_text(&short)));
        assert_eq!(named, also_named, "it is the same trace");
    }
}
