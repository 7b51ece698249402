//! Traces of scenarios: from their section of the experiment file to the generator.

use std::fs;
use std::path::Path;

use hexloop_traces::scenario::{
    EventDirection, EventKind, Scenario, ScenarioError, ScriptedEvent, Variant, bundled_scenarios,
};
use hexloop_traces::units::{Share, TimeSpan};
use hexloop_traces::{Trace, TraceError};

use crate::check::Reporter;
use crate::experiment::{ScenarioSource, TraceSource};
use crate::problem::{listed, nearest};
use crate::section::Section;

/// Most rows of a generated trace: all of them are in memory, and in the plan.
const MOST_ROWS: u64 = 2_000_000;

/// Reads the section of a trace that names a scenario.
pub(crate) fn source(reporter: &mut Reporter<'_>, section: &Section<'_>) -> TraceSource {
    let mut settings = Vec::new();
    for key in ["step", "duration"] {
        if section.sound(key).is_some() {
            settings.push((key.to_owned(), section.text(key)));
        }
    }
    for (text, origin) in section.list("set") {
        match text.split_once('=') {
            Some((key, value)) => {
                settings.push((key.trim().to_owned(), value.trim().to_owned()));
            }
            None => {
                let message = format!("`{text}` sets nothing");
                let help = "write it like \"radio.carrier=15 GHz\"".to_owned();
                reporter.report(origin, message, Some(help));
            }
        }
    }
    let source = ScenarioSource {
        name: section.text("scenario"),
        settings,
        user: section.integer_u32("user"),
        events: events(reporter, section),
    };
    // A file is read when the experiment is resolved; what is bundled can be looked at now.
    if let Some(Err(error)) = bundled(&source) {
        reporter.report(section.place("scenario"), told(&error), None);
    }
    TraceSource::Scenario(source)
}

/// What is scripted on top of a trace, whatever its source.
pub(crate) fn events(reporter: &mut Reporter<'_>, section: &Section<'_>) -> Vec<ScriptedEvent> {
    let events = section.array("events");
    events
        .iter()
        .map(|event| scripted(reporter, event))
        .collect()
}

fn scripted(reporter: &mut Reporter<'_>, section: &Section<'_>) -> ScriptedEvent {
    let span = |ns| TimeSpan { ns };
    let event = ScriptedEvent {
        name: Some(section.text("name")),
        kind: match section.text("kind").as_str() {
            "maintenance" => EventKind::Maintenance,
            "load" => EventKind::Load,
            _ => EventKind::Outage,
        },
        at: span(section.time_ns("at")),
        length: span(section.time_ns("length").max(1)),
        every: section.optional_time_ns("every").map(span),
        direction: match section.text("direction").as_str() {
            "down" => EventDirection::Down,
            "up" => EventDirection::Up,
            _ => EventDirection::Both,
        },
        share: section.optional_share_ppb("share").map(Share::from_ppb),
        delay: section.optional_time_ns("delay").map(span),
    };
    // What is malformed was reported, and its placeholder says nothing about the rest.
    let sound = ["name", "kind", "at", "length", "every", "share", "delay"]
        .iter()
        .all(|key| section.written(key).is_none() || section.sound(key).is_some());
    if sound && let Some((key, problem)) = event.problem() {
        reporter.report(section.place(key), problem, None);
    }
    event
}

/// The bundled scenario of that name with its settings, if there is one.
fn bundled(source: &ScenarioSource) -> Option<Result<Scenario, ScenarioError>> {
    bundled_scenarios()
        .iter()
        .find(|known| known.name == source.name)
        .map(|known| known.scenario(&source.settings))
}

/// Every problem of a scenario on one line.
fn told(error: &ScenarioError) -> String {
    error.to_string().replace('\n', "; ")
}

/// Why there is no trace: what is wrong, and how to mend it.
pub(crate) type Failing = (String, Option<String>);

/// Generates the trace; a scenario that is not bundled is a file relative to `base_directory`.
pub(crate) fn trace(
    source: &ScenarioSource,
    seed: u64,
    base_directory: &Path,
) -> Result<Trace, Failing> {
    let read = match bundled(source) {
        Some(read) => read,
        None => Scenario::parse_with(
            &source.name,
            &text(source, base_directory)?,
            &source.settings,
        ),
    };
    let mut scenario = read.map_err(|error| (told(&error), None))?;
    if let Some(file) = scenario.track_file() {
        let beside = base_directory.join(&source.name);
        let path = beside.parent().unwrap_or(base_directory).join(file);
        let track = fs::read_to_string(&path).map_err(|error| {
            let message = format!("cannot read the track {}: {error}", path.display());
            (
                message,
                Some("the path is relative to the scenario file".to_owned()),
            )
        })?;
        scenario
            .set_track(&track)
            .map_err(|error| (format!("{}: {error}", path.display()), None))?;
    }
    scenario.events.extend(source.events.iter().cloned());
    if scenario.duration.ns / scenario.step.ns > MOST_ROWS {
        let message = format!("the trace would have more than {MOST_ROWS} rows");
        let help =
            "make `duration` shorter or `step` longer, or make the trace once with `hexloop \
                    trace gen --format arrow` and name its file, which may be of any length"
                .to_owned();
        return Err((message, Some(help)));
    }
    let variant = Variant {
        seed,
        user: source.user,
    };
    let rows = scenario.generate(variant);
    let failed = |error: TraceError| (error.to_string(), None);
    rows.and_then(hexloop_traces::scenario::Generator::into_trace)
        .map_err(failed)
}

fn text(source: &ScenarioSource, base_directory: &Path) -> Result<String, Failing> {
    let path = base_directory.join(&source.name);
    fs::read_to_string(&path).map_err(|error| {
        let names = bundled_scenarios().iter().map(|known| known.name);
        let near = nearest(&source.name, names.clone());
        let known = listed(names);
        let help = match near {
            Some(near) => format!("did you mean `{near}`? Bundled scenarios: {known}"),
            None => format!("bundled scenarios: {known}"),
        };
        let message = format!(
            "`{}` is neither a bundled scenario nor a file beside the experiment: {error}",
            source.name
        );
        (message, Some(help))
    })
}
