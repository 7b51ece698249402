//! A recorded way: a scenario's channel, cells and air interface make a trace of it.

use super::{ImportOptions, Importer, Recording};
use crate::generate::MOST_ROWS;
use crate::mobility::{RecordedTrack, TrackFormat};
use crate::scenario::{MobilityKind, Variant};
use crate::units::TimeSpan;
use crate::{Trace, TraceError};

pub(super) const IMPORTER: Importer = Importer {
    name: "positions",
    about: "where a user went: CSV with the columns t,x,y and z (s, m), or GPX; the channel and the \
            air interface are those of --around SCENARIO, with --set KEY=VALUE over it",
    most_files: 1,
    detect,
    import,
};

fn format_of(recording: &Recording<'_>) -> TrackFormat {
    if recording.content().contains("<gpx") {
        TrackFormat::Gpx
    } else {
        TrackFormat::Csv
    }
}

fn detect(recording: &Recording<'_>) -> bool {
    if format_of(recording) == TrackFormat::Gpx {
        return true;
    }
    let mut lines = recording.lines().map(|(_, line)| line.trim());
    let header = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
    header.is_some_and(|header| {
        let names: Vec<&str> = header.split(',').map(str::trim).collect();
        ["t", "x", "y"].iter().all(|name| names.contains(name))
    })
}

fn import(recordings: &[Recording<'_>], options: &ImportOptions) -> Result<Trace, TraceError> {
    let recording = Recording::first(recordings);
    let format = format_of(&recording);
    // Mistakes in the recording first: where it is played is the next question.
    let track = RecordedTrack::parse(recording.content(), format, 1.5).map_err(|error| {
        recording
            .place(error.line, error.column)
            .error(error.problem)
    })?;
    let place = recording.place(1, 1);
    let mut scenario = options.around.clone().ok_or_else(|| {
        place.error("positions alone make no link; say in which scenario they are, with --around")
    })?;
    if scenario.radio.is_none() && scenario.satellite.is_none() {
        return Err(place.error(format!(
            "scenario {} has no radio channel, so that it does not matter where its user is",
            scenario.name
        )));
    }
    if let Some(step_ns) = options.step_ns {
        scenario.step = TimeSpan { ns: step_ns };
    }
    let end = if format == TrackFormat::Gpx {
        "gpx"
    } else {
        "csv"
    };
    scenario.mobility.kind = MobilityKind::Track;
    scenario.mobility.file = Some(format!("recording.{end}"));
    scenario.name.clone_from(&options.scenario);
    scenario.end = options.end.unwrap_or(scenario.end);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "seconds of a recording; what is too long is refused"
    )]
    let milliseconds = libm::floor(track.duration_s() * 1e3) as u64;
    scenario.duration = TimeSpan {
        ns: milliseconds.saturating_mul(1_000_000),
    };
    if scenario.duration.ns / scenario.step.ns.max(1) > MOST_ROWS {
        let problem =
            format!("the trace would have more than {MOST_ROWS} rows; use a longer --step");
        return Err(place.error(problem));
    }
    if let Some((key, problem)) = scenario.problems().into_iter().next() {
        return Err(place.error(format!("{key}: {problem}")));
    }
    scenario.set_track(recording.content()).map_err(|error| {
        recording
            .place(error.line, error.column)
            .error(error.problem)
    })?;
    let failed = |error: TraceError| place.error(error.to_string());
    let rows = scenario.generate(Variant::default()).map_err(failed)?;
    let trace = rows.into_trace().map_err(failed)?;
    Ok(trace.with_said(|metadata| {
        let source = recording.source(options.licence.as_deref());
        metadata.provenance.sources.push(source);
        metadata.notes.push(
            "where the user was is recorded; all else is the scenario's, and straight between the \
             recorded points"
                .to_owned(),
        );
    }))
}

#[cfg(test)]
mod tests {
    use super::super::detect as detect_any;
    use super::*;
    use crate::scenario::Scenario;
    use proptest::prelude::*;

    fn imported(text: &str, around: &str) -> Result<Trace, String> {
        let recording = Recording {
            name: "walk.csv",
            text,
        };
        let options = ImportOptions {
            scenario: "walk".to_owned(),
            step_ns: Some(100_000_000),
            licence: Some("CC0-1.0".to_owned()),
            around: Scenario::bundled(around),
            ..ImportOptions::default()
        };
        import(&[recording], &options).map_err(|error| error.to_string())
    }

    const WALK: &str = "t,x,y\n0,30,0\n2,30,10\n4,400,10\n";

    #[test]
    fn a_recorded_way_is_played_in_a_scenario_and_the_trace_names_both() {
        let recording = Recording {
            name: "walk.csv",
            text: WALK,
        };
        let names: Vec<&str> = detect_any(&recording)
            .iter()
            .map(|found| found.name)
            .collect();
        assert_eq!(names, ["positions"]);
        let trace = imported(WALK, "umi-fr3-street").unwrap();
        assert_eq!(
            (trace.row_count(), trace.duration_ns()),
            (40, 4_000_000_000)
        );
        let metadata = trace.metadata();
        assert_eq!(metadata.scenario, "walk");
        assert_eq!(
            metadata.provenance.sources[0].licence.as_deref(),
            Some("CC0-1.0")
        );
        assert_eq!(metadata.configuration["mobility.kind"], "track");
        let stays = imported("t,x,y\n0,30,0\n2,30,10\n4,30,10\n", "umi-fr3-street").unwrap();
        let ratio = |trace: &Trace, row: usize| trace.rows()[row].diagnostics.sinr_cdb;
        assert_eq!(
            ratio(&trace, 10),
            ratio(&stays, 10),
            "as long as the ways are one"
        );
        assert_ne!(ratio(&trace, 39), ratio(&stays, 39));
    }

    #[test]
    fn what_is_no_way_or_goes_through_nothing_is_refused_with_its_place() {
        for (text, around, expected) in [
            ("", "umi-fr3-street", "walk.csv:1:1: "),
            ("t,x,y\n0,1,2\n", "umi-fr3-street", "one point"),
            ("t,x,y\n0,1,2\n0,1,2\n", "umi-fr3-street", "walk.csv:3:1: "),
            (
                "t,x,y\n0,1,2\n1,NaN,2\n",
                "umi-fr3-street",
                "walk.csv:3:3: ",
            ),
            ("t,x,y\n0,1,2\n1e12,1,2\n", "umi-fr3-street", "--step"),
            (WALK, "nowhere", "--around"),
            (WALK, "ideal", "no radio channel"),
        ] {
            let problem = imported(text, around).unwrap_err();
            assert!(problem.contains(expected), "{text}: {problem}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn no_text_makes_it_panic(text: String, rows in "([0-9]{1,2}\\.?[0-9]?,-?[0-9.e]{1,4},[0-9-]{1,2}\\n){0,4}") {
            for text in [text, format!("t,x,y\n{rows}"), format!("<gpx>{rows}</gpx>")] {
                let recording = Recording { name: "fuzzed", text: &text };
                let _ = detect(&recording);
                let _ = import(&[recording], &ImportOptions::default());
            }
        }
    }
}
