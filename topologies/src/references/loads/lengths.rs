//! Numbers of words, tokens and turns.

use std::path::PathBuf;

use hexloop_workloads::load::Length;

use super::Files;
use crate::check::Reporter;
use crate::section::Section;

/// Where nothing is to be drawn.
pub(super) const NONE: Length = Length::Fixed { count: 0 };

/// The most numbers of a file.
const MOST_NUMBERS: usize = 1_000_000;

/// Reads one; a file's numbers come later.
pub(super) fn read(
    reporter: &mut Reporter<'_>,
    section: &Section<'_>,
    key: &'static str,
    files: &mut Files,
) -> Length {
    let has = |key: &str| section.written(key).is_some();
    let number = |key: &str| section.integer_u32(key);
    let ways: [&[&str]; 4] = [
        &["fixed"],
        &["from", "to"],
        &["median", "sigma_percent", "most"],
        &["file"],
    ];
    let written: Vec<&str> = ways
        .iter()
        .flat_map(|way| way.iter().copied())
        .filter(|key| has(key))
        .collect();
    let way = ways.iter().position(|way| written == *way);
    match way {
        Some(0) => Length::Fixed {
            count: number("fixed"),
        },
        Some(1) => {
            let (least, most) = (number("from"), number("to"));
            if least > most {
                let message = "`from` is larger than `to`".to_owned();
                reporter.report(section.place("from"), message, None);
            }
            Length::Uniform { least, most }
        }
        Some(2) => Length::Lognormal {
            median: number("median"),
            sigma_percent: number("sigma_percent"),
            most: number("most"),
        },
        Some(3) => {
            files.push((key, PathBuf::from(section.text("file"))));
            Length::Listed { counts: Vec::new() }
        }
        _ => {
            let message = format!("`{key}` is none of a number, a span, a distribution and a file");
            let help = "write `{ fixed = 128 }`, `{ from = 64, to = 256 }`, `{ median = 128, \
                        sigma_percent = 80, most = 2048 }` or `{ file = \"lengths.csv\" }`";
            reporter.report(section.origin, message, Some(help.to_owned()));
            NONE
        }
    }
}

/// The numbers of a file, one a line; a first line that is no number is its heading.
///
/// # Errors
/// The line (from 1) that is none, or why there are none.
pub(crate) fn parsed<T>(
    text: &str,
    number: impl Fn(&str) -> Option<T>,
) -> Result<Vec<T>, (usize, String)> {
    let mut numbers = Vec::new();
    for (place, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        match number(line) {
            _ if line.is_empty() => {}
            Some(value) => numbers.push(value),
            None if place == 1 => {}
            None => {
                return Err((
                    place,
                    format!("{line:?} is not a number that may stand here"),
                ));
            }
        }
        if numbers.len() > MOST_NUMBERS {
            return Err((place, format!("there are more than {MOST_NUMBERS} numbers")));
        }
    }
    if numbers.is_empty() {
        return Err((1, "there is no number".to_owned()));
    }
    Ok(numbers)
}
