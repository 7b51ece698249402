//! External meters: smart plugs, lab meters, anything that can print a line.
//!
//! The protocol is one reading per line: `TIMESTAMP WATTS [DEVICE]`. The timestamp is in seconds
//! since 1970, or `-` for "now"; the device is a word that names the meter, where several write
//! into one place. Empty lines and lines that start with `#` are skipped.

mod feed;

pub use feed::{ExternalFeed, ExternalMeter, ExternalSpec, FeedReport};

/// One reading of an external meter.
#[derive(Debug, Clone, PartialEq)]
pub struct LineReading {
    /// Seconds since 1970 as the meter saw it, in nanoseconds; `None` for "now".
    pub wall_clock_ns: Option<u64>,
    /// In microwatts.
    pub power_uw: u64,
    /// Which meter, if the line says it.
    pub device: Option<String>,
}

/// Why a line is not a reading.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}; expected `TIMESTAMP WATTS [DEVICE]`, such as `1767225600.25 41.8 plug-1`")]
pub struct LineError {
    problem: String,
}

/// No meter of a lab shows more.
const HIGHEST_W: f64 = 1e7;

/// Reads one line; `None` where it holds no reading.
///
/// # Errors
/// The line is not a reading: what is wrong with it.
pub fn parse_line(line: &str) -> Result<Option<LineReading>, LineError> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let error = |problem: String| LineError { problem };
    let shown = |word: &str| word.chars().take(40).collect::<String>();
    let mut words = line.split_ascii_whitespace();
    let stamp = words.next().unwrap_or_default();
    let wall_clock_ns = match stamp {
        "-" => None,
        _ => match seconds(stamp) {
            Some(nanoseconds) => Some(nanoseconds),
            None => return Err(error(format!("`{}` is no timestamp", shown(stamp)))),
        },
    };
    let watts = words
        .next()
        .ok_or_else(|| error("the line has no watts".to_owned()))?;
    let power_uw = match watts.parse::<f64>() {
        Ok(value) if (0.0..=HIGHEST_W).contains(&value) => microwatts(value),
        _ => return Err(error(format!("`{}` are no watts", shown(watts)))),
    };
    let device = words.next();
    let is_word = |word: &str| {
        word.len() <= 64
            && word
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
    };
    if let Some(device) = device.filter(|device| !is_word(device)) {
        return Err(error(format!("`{}` is no name of a device", shown(device))));
    }
    if let Some(more) = words.next() {
        return Err(error(format!("`{}` is one word too many", shown(more))));
    }
    Ok(Some(LineReading {
        wall_clock_ns,
        power_uw,
        device: device.map(str::to_owned),
    }))
}

/// `1767225600.25` in nanoseconds, without the rounding that a float of today's date has.
fn seconds(text: &str) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return None;
    }
    let fraction: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let nanoseconds: u64 = fraction.parse().ok()?;
    let whole: u64 = whole.parse().ok()?;
    whole.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and the highest power"
)]
fn microwatts(watts: f64) -> u64 {
    (watts * 1e6).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_timestamp_watts_and_perhaps_a_device() {
        let reading = parse_line("1767225600.25 41.8 plug-1\r\n")
            .unwrap()
            .unwrap();
        assert_eq!(reading.wall_clock_ns, Some(1_767_225_600_250_000_000));
        assert_eq!(
            (reading.power_uw, reading.device.as_deref()),
            (41_800_000, Some("plug-1"))
        );
        let now = parse_line("- 3").unwrap().unwrap();
        assert_eq!((now.wall_clock_ns, now.power_uw), (None, 3_000_000));
        assert_eq!(now.device, None);
        assert_eq!(parse_line("  # hello"), Ok(None));
        assert_eq!(parse_line(""), Ok(None));
    }

    #[test]
    fn a_line_that_is_no_reading_says_why() {
        for (line, expected) in [
            ("yesterday 3", "`yesterday` is no timestamp"),
            ("nan 3", "`nan` is no timestamp"),
            ("1", "the line has no watts"),
            ("1 -3", "`-3` are no watts"),
            ("1 inf", "`inf` are no watts"),
            ("1 3 a b", "`b` is one word too many"),
            ("1 3 a/b", "`a/b` is no name of a device"),
        ] {
            let error = parse_line(line).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{line}: {error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_line_makes_it_panic(line in "\\PC*") {
            let _reading_or_error = parse_line(&line);
        }
    }
}
