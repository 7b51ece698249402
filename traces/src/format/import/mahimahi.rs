//! Mahimahi's packet delivery files, one or a pair of down and up.

use super::{ImportOptions, Importer, Recording};
use crate::format::mahimahi::{ImportSettings, parse};
use crate::{Direction, Provenance, Trace, TraceError};

pub(super) const IMPORTER: Importer = Importer {
    name: "mahimahi",
    about: "packet delivery times in ms, one per line: the downlink, or downlink and uplink",
    most_files: 2,
    detect,
    import,
};

fn detect(recording: &Recording<'_>) -> bool {
    let mut lines = recording.lines().take(50).peekable();
    lines.peek().is_some()
        && lines.all(|(_, line)| {
            !line.is_empty() && line.len() < 20 && line.bytes().all(|byte| byte.is_ascii_digit())
        })
}

/// Down and up by the files' endings, else in the order given.
fn import(recordings: &[Recording<'_>], options: &ImportOptions) -> Result<Trace, TraceError> {
    let settings = ImportSettings {
        scenario: options.scenario.clone(),
        delay_ns: options.delay_ns,
        queue_bytes: options.queue_bytes,
    };
    let (down, up) = match recordings {
        [first, second, ..] if first.name.ends_with(".up") && second.name.ends_with(".down") => {
            (*second, Some(*first))
        }
        [first, rest @ ..] => (*first, rest.first().copied()),
        [] => {
            let place = Recording { name: "", text: "" }.end();
            return Err(place.error("expected a file"));
        }
    };
    let parsed = parse(down.content(), up.map(Recording::content), &settings);
    let trace = parsed.map_err(|error| {
        let uplink = error.to_string().contains("(mahimahi uplink)");
        let recording = if uplink { up.unwrap_or(down) } else { down };
        match error {
            TraceError::Syntax {
                line,
                column,
                problem,
            } => recording.place(line, column).error(problem),
            other => recording.place(1, 1).error(other.to_string()),
        }
    })?;
    let trace = match options.direction {
        Direction::Up if up.is_none() => super::timeline::swapped(&trace)?,
        _ => trace,
    };
    let mut metadata = trace.metadata().clone();
    metadata.end = options.end.unwrap_or(metadata.end);
    metadata.provenance = Provenance {
        sources: recordings
            .iter()
            .map(|recording| recording.source(options.licence.as_deref()))
            .collect(),
        ..Provenance::default()
    };
    let rows = match options.step_ns {
        Some(step_ns) => super::resample(trace.rows(), trace.duration_ns(), step_ns)?,
        None => trace.rows().to_vec(),
    };
    Trace::new(metadata, rows)
}
