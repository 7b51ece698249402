//! What speculative decoding is to be tried with.

use hexloop_workloads::study::speculative::{Crossing, DraftLength, Drawing, MOST_DRAFTED};

use crate::check::Reporter;
use crate::experiment::Speculations;
use crate::problem::quoted;
use crate::section::Section;

/// The keys that mean something to it alone.
pub(super) const KEYS: [&str; 4] = ["drafts", "crossing", "drawing", "held_out_prompts"];

pub(super) fn read(reporter: &mut Reporter<'_>, section: &Section<'_>) -> Speculations {
    let length = |text: &str| match text {
        "adaptive" => Some(DraftLength::Adaptive),
        _ => {
            let tokens = text.parse().ok()?;
            (1..=MOST_DRAFTED)
                .contains(&tokens)
                .then_some(DraftLength::Fixed(tokens))
        }
    };
    let drawing = |text: &str| match text {
        "greedy" => Some(Drawing::Greedy),
        "sampled" => Some(Drawing::Sampled),
        _ => None,
    };
    let lengths = format!("write a number from 1 to {MOST_DRAFTED}, or `adaptive`");
    let crossings = "write `ids`, `distributions-f16`, `distributions-f32` or `top-` and a number";
    let drawings = "write `greedy` or `sampled`";
    Speculations {
        lengths: listed(reporter, section, ("drafts", &lengths), length)
            .unwrap_or_else(|| (1..=8).map(DraftLength::Fixed).collect()),
        crossings: listed(
            reporter,
            section,
            ("crossing", crossings),
            Crossing::by_name,
        )
        .unwrap_or_else(|| vec![Crossing::Ids]),
        drawings: listed(reporter, section, ("drawing", drawings), drawing)
            .unwrap_or_else(|| vec![Drawing::Greedy]),
    }
}

/// The values of a list; `None` if it was not written. What is no such value, or comes twice, is
/// reported.
pub(super) fn listed<T: PartialEq>(
    reporter: &mut Reporter<'_>,
    section: &Section<'_>,
    (key, help): (&str, &str),
    read: impl Fn(&str) -> Option<T>,
) -> Option<Vec<T>> {
    section.written(key)?;
    let mut values = Vec::new();
    for (text, origin) in section.list(key) {
        match read(text) {
            Some(value) if values.contains(&value) => {
                let message = format!("{} comes twice", quoted(text));
                reporter.report(origin, message, None);
            }
            Some(value) => values.push(value),
            None => {
                let message = format!("{} is no value of `{key}`", quoted(text));
                reporter.report(origin, message, Some(help.to_owned()));
            }
        }
    }
    Some(values)
}
