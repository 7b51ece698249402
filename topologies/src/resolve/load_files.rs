//! What loads take from files: recorded moments, lengths, requests of a log.

use std::fs;
use std::path::Path;

use hexloop_workloads::load::{Arrivals, Length, LoadSpec, Mix};

use crate::experiment::{Experiment, Load};
use crate::fields::load::MOST;
use crate::problem::{Problem, quoted};
use crate::references::loads::parsed_lengths;

/// The largest file: what is in it travels in the plan.
const MOST_BYTES: u64 = 4 << 20;

/// Reads all of them into the loads.
pub(super) fn read(experiment: &mut Experiment, base: &Path, problems: &mut Vec<Problem>) {
    let mut loads = std::mem::take(&mut experiment.loads);
    for load in &mut loads {
        for (key, path) in std::mem::take(&mut load.files) {
            let taken = text(&base.join(&path)).and_then(|text| take(load, key, &text));
            if let Err(why) = taken {
                let shown = quoted(&path.display().to_string());
                let message = format!("cannot use {shown} as `{key}`: {why}");
                let place = ["loads", load.name.as_str(), key];
                problems.push(experiment.document.problem(&place, message, None));
            }
            load.files.push((key, path));
        }
    }
    experiment.loads = loads;
}

fn text(path: &Path) -> Result<String, String> {
    let bytes = fs::metadata(path).map_err(|error| error.to_string())?.len();
    if bytes > MOST_BYTES {
        return Err(format!(
            "it has {bytes} bytes; at most {MOST_BYTES} are read"
        ));
    }
    fs::read_to_string(path).map_err(|error| error.to_string())
}

fn take(load: &mut Load, key: &str, text: &str) -> Result<(), String> {
    let at_line = |(line, why): (usize, String)| format!("line {line}: {why}");
    match key {
        "arrivals_file" => {
            let mut moments_ns = parsed_lengths(text, moment_ns).map_err(at_line)?;
            moments_ns.sort_unstable();
            load.load.arrivals = Arrivals::Recorded { moments_ns };
        }
        "log" => {
            let bodies = bodies(text)?;
            load.load.mix = Mix::Recorded { bodies };
        }
        key => {
            let count = |line: &str| {
                let count: u32 = line.parse().ok()?;
                (1..=MOST).contains(&u64::from(count)).then_some(count)
            };
            let counts = parsed_lengths(text, count).map_err(at_line)?;
            if let Some(length) = length_of(&mut load.load, key) {
                *length = Length::Listed { counts };
            }
        }
    }
    Ok(())
}

/// The length that a key stands for.
fn length_of<'a>(load: &'a mut LoadSpec, key: &str) -> Option<&'a mut Length> {
    match (key, &mut load.mix) {
        ("prompt_words", _) => Some(&mut load.prompt_words),
        ("output_tokens", _) => Some(&mut load.output_tokens),
        ("turns", Mix::Chat { turns, .. } | Mix::Agent { turns, .. }) => Some(turns),
        ("result_words", Mix::Agent { result_words, .. }) => Some(result_words),
        ("document_words", Mix::Retrieval { document_words, .. }) => Some(document_words),
        _ => None,
    }
}

/// Seconds with up to nine decimals, as nanoseconds. The first column of a table will do.
fn moment_ns(line: &str) -> Option<u64> {
    let number = line.split(',').next()?.trim();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 9 {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let billionths: u64 = format!("{fraction:0<9}").parse().ok()?;
    whole.checked_mul(1_000_000_000)?.checked_add(billionths)
}

/// The requests of a log, checked to be objects that ask something.
fn bodies(text: &str) -> Result<Vec<String>, String> {
    let mut bodies = Vec::new();
    for (place, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() {
            continue;
        }
        let body: Result<serde_json::Map<String, serde_json::Value>, _> =
            serde_json::from_str(line);
        let body = body.map_err(|error| format!("line {place} is no JSON object: {error}"))?;
        if !body.contains_key("prompt") && !body.contains_key("messages") {
            return Err(format!("line {place} has neither `prompt` nor `messages`"));
        }
        bodies.push(line.trim().to_owned());
    }
    if bodies.is_empty() {
        return Err("there is no request".to_owned());
    }
    Ok(bodies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_exact_to_the_nanosecond() {
        assert_eq!(moment_ns("1.5"), Some(1_500_000_000));
        assert_eq!(moment_ns("0.000000001, ignored"), Some(1));
        for wrong in ["", "-1", "1.5e3", "at", "1.0000000001"] {
            assert_eq!(moment_ns(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn lists_have_a_heading_or_none_and_name_the_line_that_is_wrong() {
        let count = |line: &str| line.parse::<u32>().ok();
        assert_eq!(parsed_lengths("tokens\n1\n\n2\n", count), Ok(vec![1, 2]));
        assert_eq!(parsed_lengths("3\n", count), Ok(vec![3]));
        assert_eq!(parsed_lengths("1\nx\n", count).unwrap_err().0, 2);
        assert!(parsed_lengths("tokens\n", count).is_err());
        assert!(bodies("{\"prompt\":\"a\"}\n").is_ok());
        assert!(
            bodies("{\"max_tokens\":1}\n")
                .unwrap_err()
                .contains("line 1")
        );
    }
}
