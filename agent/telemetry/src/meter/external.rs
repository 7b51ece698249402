//! External meters: smart plugs, lab meters, anything that can print a line.
//!
//! The protocol is one reading per line: `TIMESTAMP WATTS [DEVICE]`. The timestamp is in seconds
//! since 1970, or `-` for "now"; the device is a word, `external` where it is left out. Empty
//! lines and lines that start with `#` are skipped.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Meter, Reading};
use crate::{Channel, Origin, Quality, Quantity, Scope, Trouble};

/// One reading of an external meter.
#[derive(Debug, Clone, PartialEq)]
pub struct LineReading {
    /// Seconds since 1970 as the meter saw it, in nanoseconds; `None` for "now".
    pub wall_clock_ns: Option<u64>,
    /// In microwatts.
    pub power_uw: u64,
    /// Which meter.
    pub device: String,
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
    let device = words.next().unwrap_or("external");
    let is_word = device.len() <= 64
        && device
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte));
    if !is_word {
        return Err(error(format!("`{}` is no name of a device", shown(device))));
    }
    if let Some(more) = words.next() {
        return Err(error(format!("`{}` is one word too many", shown(more))));
    }
    Ok(Some(LineReading {
        wall_clock_ns,
        power_uw,
        device: device.to_owned(),
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

/// What the readers of lines and the meter share.
type Latest = Arc<Mutex<BTreeMap<String, (u64, u64)>>>;

/// An external meter: whoever reads its lines calls [`ExternalMeter::feeder`]'s function.
#[derive(Debug)]
pub struct ExternalMeter {
    channels: Vec<Channel>,
    latest: Latest,
    now: fn() -> u64,
}

/// A reading older than this is none: the meter has stopped.
const STALE_NS: u64 = 10_000_000_000;

impl ExternalMeter {
    /// A meter of these devices; `now` is the clock that readings are stamped with.
    #[must_use]
    pub fn new(devices: &[String], origin: Origin, now: fn() -> u64) -> ExternalMeter {
        let channels = devices
            .iter()
            .map(|device| Channel {
                device: device.clone(),
                scope: Scope::Machine,
                quantity: Quantity::AveragePower { window_ns: None },
                quality: Quality::Measured,
                source: "external meter".to_owned(),
                counted: false,
                origin,
            })
            .collect();
        ExternalMeter {
            channels,
            latest: Latest::default(),
            now,
        }
    }

    /// A function that takes a reading of a device at a moment of the same clock.
    pub fn feeder(&self) -> impl Fn(&str, u64, u64) + Send + 'static {
        let latest = Arc::clone(&self.latest);
        move |device: &str, at_ns: u64, power_uw: u64| {
            let mut latest = latest.lock().unwrap_or_else(PoisonError::into_inner);
            latest.insert(device.to_owned(), (at_ns, power_uw));
        }
    }
}

impl Meter for ExternalMeter {
    fn name(&self) -> &str {
        "external meter"
    }

    fn channels(&self) -> &[Channel] {
        &self.channels
    }

    fn read(&mut self, readings: &mut Vec<Reading>) {
        readings.clear();
        let now_ns = (self.now)();
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        for channel in &self.channels {
            let failed = |reason: String| Trouble::Failed {
                what: format!("external meter {}", channel.device),
                reason,
            };
            readings.push(match latest.get(&channel.device) {
                None => Err(failed("it has sent no reading yet".to_owned())),
                Some((at_ns, _)) if now_ns.saturating_sub(*at_ns) > STALE_NS => {
                    let age_s = now_ns.saturating_sub(*at_ns) / 1_000_000_000;
                    Err(failed(format!("its last reading is {age_s} s old")))
                }
                Some((_, power_uw)) => Ok(*power_uw),
            });
        }
    }
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
            (reading.power_uw, reading.device.as_str()),
            (41_800_000, "plug-1")
        );
        let now = parse_line("- 3").unwrap().unwrap();
        assert_eq!((now.wall_clock_ns, now.power_uw), (None, 3_000_000));
        assert_eq!(now.device, "external");
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

    #[test]
    fn a_meter_that_has_stopped_gives_no_value() {
        fn twenty_seconds() -> u64 {
            20_000_000_000
        }
        let devices = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        let mut meter = ExternalMeter::new(&devices, Origin::Stub, twenty_seconds);
        let feed = meter.feeder();
        feed("a", 19_000_000_000, 7);
        feed("b", 1_000_000_000, 8);
        let mut readings = Vec::new();
        meter.read(&mut readings);
        assert_eq!(readings[0], Ok(7));
        let old = readings[1].clone().unwrap_err().to_string();
        assert!(old.ends_with("its last reading is 19 s old"), "{old}");
        assert!(readings[2].is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_line_makes_it_panic(line in "\\PC*") {
            let _reading_or_error = parse_line(&line);
        }
    }
}
