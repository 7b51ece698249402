//! Configuration files of netem-trace, which rattan plays too: JSON and TOML.
//!
//! Models of bandwidth, delay and loss, one in a file, are played together. Those that draw random
//! numbers are refused by name: only netem-trace can make the same numbers again. Models per
//! packet have no time and are refused as well.

mod model;
mod value;

use model::{Kind, Model, Step};

use super::{Facts, ImportOptions, Importer, Quantity, Recording, Timeline};
use crate::generate::MOST_ROWS;
use crate::{EndPolicy, Trace, TraceError};

pub(super) const IMPORTER: Importer = Importer {
    name: "netem-trace",
    about: "netem-trace and rattan: JSON or TOML; a file each for bandwidth, delay and loss of one direction",
    most_files: 3,
    detect,
    import,
};

fn detect(recording: &Recording<'_>) -> bool {
    let start = recording.content().trim_start();
    let is_form = start.starts_with('{') || start.starts_with('[');
    let head: String = start.chars().take(200).collect();
    is_form
        && [
            "BwConfig",
            "BwPatternConfig",
            "DelayConfig",
            "DelayPatternConfig",
            "LossConfig",
            "LossPatternConfig",
        ]
        .iter()
        .any(|name| head.contains(name))
}

fn parse(recording: Recording<'_>) -> Result<Model, TraceError> {
    if recording.content().trim_start().starts_with('{') {
        return serde_json::from_str(recording.content()).map_err(|error| {
            let message = error.to_string();
            let bare = message
                .rfind(" at line ")
                .map_or(message.as_str(), |at| &message[..at]);
            recording
                .place(error.line().max(1), error.column().max(1))
                .error(bare)
        });
    }
    toml::from_str(recording.content()).map_err(|error: toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start);
        let before = recording.content().get(..at).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .chars()
            .count()
            + 1;
        recording.place(line, column).error(error.message())
    })
}

fn import(recordings: &[Recording<'_>], options: &ImportOptions) -> Result<Trace, TraceError> {
    let direction = options.direction;
    let mut tracks: Vec<(Kind, Vec<Step>, bool)> = Vec::new();
    for recording in recordings {
        let place = recording.place(1, 1);
        let model = parse(*recording)?;
        let kind = model.kind();
        if tracks.iter().any(|(known, ..)| *known == kind) {
            return Err(place.error(format!("this is a second model of {kind:?}")));
        }
        let steps = model.steps().map_err(|problem| place.error(problem))?;
        if steps.is_empty() {
            return Err(place.error("the model ends at once"));
        }
        tracks.push((kind, steps, model.repeats()));
    }
    let length = |steps: &[Step]| {
        let mut lengths = steps.iter().map(|step| step.length_ns);
        lengths
            .try_fold(0_u64, u64::checked_add)
            .and_then(|ns| i64::try_from(ns).ok())
    };
    let lengths = tracks.iter().map(|(_, steps, _)| length(steps));
    let end_ns = lengths
        .map(|length| length.unwrap_or(i64::MAX))
        .max()
        .unwrap_or(0);
    let mut notes = vec![format!(
        "imported from netem-trace; the {}link only",
        direction.name()
    )];
    if tracks.iter().any(|(kind, ..)| *kind == Kind::Loss) {
        notes.push("losses are independent, with the mean of the model's chain".to_owned());
    }
    let mut changes = Vec::new();
    let mut repeats = true;
    for (kind, steps, forever) in &tracks {
        let quantity = match kind {
            Kind::Bandwidth => Quantity::Rate(direction),
            Kind::Delay => Quantity::Delay(direction),
            Kind::Loss => Quantity::Loss(direction),
        };
        repeats &= forever;
        let cut = add(&mut changes, quantity, steps, *forever, end_ns)
            .map_err(|problem| Recording::first(recordings).place(1, 1).error(problem))?;
        if cut {
            notes.push(format!(
                "the model of {kind:?} repeats on its own and was cut at the end of the longest"
            ));
        }
    }
    Timeline::of_steps(changes, recordings)?.into_trace(
        Facts {
            format: IMPORTER.name,
            recordings,
            end: if repeats {
                EndPolicy::Loop
            } else {
                EndPolicy::Hold
            },
            sampled: false,
            end_ns: Some(end_ns),
            notes,
        },
        options,
    )
}

/// Adds a model's steps until `end_ns`, again and again if it repeats; whether a repetition was
/// cut.
fn add(
    changes: &mut Vec<(i64, Quantity, u64)>,
    quantity: Quantity,
    steps: &[Step],
    forever: bool,
    end_ns: i64,
) -> Result<bool, String> {
    let mut at_ns = 0_i64;
    loop {
        for step in steps {
            if at_ns >= end_ns {
                return Ok(true);
            }
            changes.push((at_ns, quantity, step.value));
            let length = i64::try_from(step.length_ns).unwrap_or(i64::MAX);
            at_ns = at_ns.saturating_add(length);
            if u64::try_from(changes.len()).is_ok_and(|rows| rows > MOST_ROWS) {
                return Err(format!(
                    "the models together have more than {MOST_ROWS} steps"
                ));
            }
        }
        if !forever || at_ns >= end_ns {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BANDWIDTH: &str = r#"{"RepeatedBwPatternConfig":{"pattern":[
        {"StaticBwConfig":{"bw":"12Mbps","duration":"100ms"}},
        {"StaticBwConfig":{"bw":{"gbps":0,"bps":24000000},"duration":{"secs":0,"nanos":50000000}}},
        {"TraceBwConfig":[[1.0,[2.0,4.0]]]}],"count":0}}"#;
    const DELAY: &str = "[RepeatedDelayPatternConfig]\ncount = 1\n\
        [[RepeatedDelayPatternConfig.pattern]]\nStaticDelayConfig = { delay = \"10ms\", duration = \"30ms\" }\n\
        [[RepeatedDelayPatternConfig.pattern]]\nStaticDelayConfig = { delay = \"20ms\", duration = \"30ms\" }\n";

    fn recording(text: &str) -> Recording<'_> {
        Recording { name: "n", text }
    }

    #[test]
    fn json_and_toml_models_play_together() {
        assert!(detect(&recording(BANDWIDTH)) && detect(&recording(DELAY)));
        let trace = import(
            &[recording(BANDWIDTH), recording(DELAY)],
            &ImportOptions::default(),
        )
        .unwrap();
        let rows: Vec<_> = trace
            .rows()
            .iter()
            .map(|row| {
                (
                    row.t_ns / 1_000_000,
                    row.down.rate_bps / 1_000_000,
                    row.down.delay_ns / 1_000_000,
                )
            })
            .collect();
        assert_eq!(
            rows,
            [
                (0, 12, 10),
                (30, 12, 20),
                (100, 24, 20),
                (150, 2, 20),
                (151, 4, 20)
            ]
        );
        assert_eq!(trace.duration_ns(), 152_000_000);
        assert_eq!(trace.metadata().end, EndPolicy::Hold);
        let alone = import(&[recording(BANDWIDTH)], &ImportOptions::default()).unwrap();
        assert_eq!(alone.metadata().end, EndPolicy::Loop);
    }

    #[test]
    fn a_sawtooth_rises_and_falls_as_it_is_documented() {
        let text = r#"{"SawtoothBwConfig":{"bottom":"12Mbps","top":"16Mbps","duration":"1s",
            "step":"100ms","interval":"500ms","duty_ratio":0.8}}"#;
        let trace = import(&[recording(text)], &ImportOptions::default()).unwrap();
        let rates: Vec<u64> = trace
            .rows()
            .iter()
            .map(|row| row.down.rate_bps / 1_000_000)
            .collect();
        assert_eq!(rates, [12, 13, 14, 15, 16, 12, 13, 14, 15, 16]);
    }

    #[test]
    fn what_cannot_be_imported_is_named_with_its_place() {
        for (text, place, problem) in [
            (
                "{\"StaticBwConfig\":{\"bw\":\"12MB\"}}",
                "n:1:",
                "no bandwidth",
            ),
            ("{\n\"OtherConfig\":{}}", "n:2:", "unknown variant"),
            ("[StaticBwConfig]\nbw = 5\n", "n:", "expected a bandwidth"),
            (
                "{\"NormalizedBwConfig\":{\"std_dev\":\"1Mbps\"}}",
                "n:1:1",
                "random numbers",
            ),
            (
                "{\"StaticBwConfig\":{\"duration\":\"0s\"}}",
                "n:1:1",
                "ends at once",
            ),
            (
                "{\"RepeatedBwPatternConfig\":{\"pattern\":[{\"RepeatedBwPatternConfig\":{\"pattern\":[],\"count\":0}}],\"count\":2}}",
                "n:1:1",
                "for ever",
            ),
            (
                "{\"RepeatedBwPatternConfig\":{\"pattern\":[{\"StaticBwConfig\":{}}],\"count\":99999999999}}",
                "n:1:1",
                "more than",
            ),
            ("{\"StaticLossConfig\":{\"loss\":[2.0]}}", "n:1:1", "shares"),
            ("", "n:1:1", ""),
        ] {
            let error = import(&[recording(text)], &ImportOptions::default())
                .unwrap_err()
                .to_string();
            assert!(
                error.starts_with(place) && error.contains(problem),
                "{text}: {error}"
            );
        }
    }
}
