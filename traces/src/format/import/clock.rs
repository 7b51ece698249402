//! Moments, as recordings write them.

/// The nanoseconds of a decimal number of `unit_ns`, exactly: digits beyond a nanosecond are cut.
/// Epoch seconds with nine digits after the point do not fit in an `f64`.
///
/// # Errors
/// What is wrong with it.
pub fn decimal_ns(text: &str, unit_ns: u32) -> Result<i64, String> {
    let expected = || "expected a moment as a decimal number".to_owned();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if digits.contains(['e', 'E']) {
        // Few programs write moments so; none of them means nanoseconds.
        return float_ns(text, unit_ns).ok_or_else(expected);
    }
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let numeric = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !numeric(whole) || !numeric(fraction) {
        return Err(expected());
    }
    let too_far = || "the moment is more than 292 years from the origin".to_owned();
    let whole: i128 = if whole.is_empty() {
        0
    } else {
        whole.parse().map_err(|_error| too_far())?
    };
    let mut ns = whole.checked_mul(unit_ns.into()).ok_or_else(too_far)?;
    let mut scale = i128::from(unit_ns);
    let mut rest = 0_i128;
    let mut divisor = 1_i128;
    for byte in fraction.bytes().take(18) {
        rest = rest * 10 + i128::from(byte - b'0');
        divisor *= 10;
    }
    scale *= rest;
    ns += scale / divisor;
    i64::try_from(if negative { -ns } else { ns }).map_err(|_error| too_far())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "within the bounds that were just checked"
)]
fn float_ns(text: &str, unit_ns: u32) -> Option<i64> {
    let value: f64 = text.parse().ok()?;
    let ns = libm::round(value * f64::from(unit_ns));
    (ns.abs() < i64::MAX as f64).then_some(ns as i64)
}

/// The nanoseconds since 1970 of a civil date and time, and the name of its zone where that has
/// no offset that everybody agrees on: `2019.12.14_10.16.30`, `2020-01-31 23:59:59.5`,
/// `2020-01-31T23:59:59Z`, `2020-01-31T23:59:59+02:00`, `2023-06-01 12:00:00 CDT`.
///
/// A date without zone counts as UTC: a trace needs differences only.
///
/// # Errors
/// What is wrong with it.
pub fn civil_ns(text: &str) -> Result<(i64, Option<&str>), String> {
    let expected =
        || "expected a date and time such as 2020-01-31 23:59:59 or 2020.01.31_23.59.59".to_owned();
    let mut rest = text.trim();
    let mut part = |length: usize, ends: &[char]| -> Option<i64> {
        let digits = rest.get(..length)?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let value = digits.parse().ok()?;
        rest = &rest[length..];
        if !ends.is_empty() {
            rest = rest.strip_prefix(ends)?;
        }
        Some(value)
    };
    let date = ['-', '.', '/'];
    let clock = [':', '.'];
    let year = part(4, &date).ok_or_else(expected)?;
    let month = part(2, &date).ok_or_else(expected)?;
    let day = part(2, &['T', ' ', '_', '-']).ok_or_else(expected)?;
    let hour = part(2, &clock).ok_or_else(expected)?;
    let minute = part(2, &clock).ok_or_else(expected)?;
    let second = part(2, &[]).ok_or_else(expected)?;
    let is_possible = (1970..=2200).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    if !is_possible {
        return Err(format!("there is no such date and time; {}", expected()));
    }
    let seconds = days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    let mut ns = seconds * 1_000_000_000;
    if let Some(fraction) = rest.strip_prefix(['.', ',']) {
        let length = fraction.bytes().take_while(u8::is_ascii_digit).count();
        ns += decimal_ns(&format!("0.{}", &fraction[..length]), 1_000_000_000)?;
        rest = &fraction[length..];
    }
    let zone = rest.trim();
    match zone {
        "" => Ok((ns, None)),
        "Z" | "UTC" | "GMT" | "utc" => Ok((ns, None)),
        _ => match offset_ns(zone) {
            Some(offset) => Ok((ns - offset, None)),
            None if zone.len() <= 5 && zone.bytes().all(|byte| byte.is_ascii_alphabetic()) => {
                Ok((ns, Some(zone)))
            }
            None => Err(format!(
                "`{zone}` after the time is no zone; {}",
                expected()
            )),
        },
    }
}

/// `+02:00` or `-0530`.
fn offset_ns(zone: &str) -> Option<i64> {
    let (sign, rest) = match zone.as_bytes().first()? {
        b'+' => (1, &zone[1..]),
        b'-' => (-1, &zone[1..]),
        _ => return None,
    };
    let digits: String = rest.chars().filter(|&letter| letter != ':').collect();
    let numeric = digits.bytes().all(|byte| byte.is_ascii_digit());
    let (hours, minutes) = match digits.len() {
        2 if numeric => (digits.parse::<i64>().ok()?, 0),
        4 if numeric => (digits[..2].parse().ok()?, digits[2..].parse().ok()?),
        _ => return None,
    };
    (hours <= 14 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60_000_000_000)
}

/// Days from 1970-01-01 in the Gregorian calendar: whole eras of 400 years, with years that begin
/// in March so that the leap day comes last.
const fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

/// Watches that named zones do not change within a recording: `CST` and `CDT` are an hour apart,
/// and neither name says what it means.
#[derive(Debug, Clone, Default)]
pub struct ZoneCheck {
    first: Option<Option<String>>,
}

impl ZoneCheck {
    /// Accepts the zone of the next row.
    ///
    /// # Errors
    /// It is not the zone of the rows before.
    pub fn accept(&mut self, zone: Option<&str>) -> Result<(), String> {
        match &self.first {
            None => {
                self.first = Some(zone.map(str::to_owned));
                Ok(())
            }
            Some(first) if first.as_deref() == zone => Ok(()),
            Some(first) => Err(format!(
                "the time zone changes from {} to {}; write offsets such as +02:00 instead",
                first.as_deref().unwrap_or("none"),
                zone.unwrap_or("none")
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decimal_moments_are_exact() {
        assert_eq!(
            decimal_ns("1600000000.123456789", 1_000_000_000),
            Ok(1_600_000_000_123_456_789)
        );
        assert_eq!(decimal_ns("-0.5", 1_000_000), Ok(-500_000));
        assert_eq!(decimal_ns("3", 1), Ok(3));
        assert_eq!(decimal_ns("1.5e3", 1_000_000), Ok(1_500_000_000));
        for wrong in [
            "",
            ".",
            "1.2.3",
            "1s",
            "+1",
            "9999999999999999999999",
            "NaN",
            "1e400",
        ] {
            assert!(decimal_ns(wrong, 1_000_000_000).is_err(), "{wrong}");
        }
    }

    #[test]
    fn civil_moments_are_read_in_the_forms_of_the_recordings() {
        let second = 1_000_000_000;
        assert_eq!(civil_ns("1970-01-01 00:00:00"), Ok((0, None)));
        assert_eq!(
            civil_ns("2000-03-01T00:00:00Z"),
            Ok((951_868_800 * second, None))
        );
        assert_eq!(
            civil_ns("2019.12.14_10.16.30"),
            Ok((1_576_318_590 * second, None))
        );
        assert_eq!(civil_ns("1970-01-01T02:00:00+02:00"), Ok((0, None)));
        assert_eq!(
            civil_ns("1970-01-01 00:00:00.25 CDT"),
            Ok((second / 4, Some("CDT")))
        );
        for wrong in [
            "2020-13-01 00:00:00",
            "2020-01-01",
            "yesterday",
            "2020-01-01 00:00:00 +99",
        ] {
            assert!(civil_ns(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_zone_that_changes_on_the_way_is_refused() {
        let mut zones = ZoneCheck::default();
        assert!(zones.accept(Some("CDT")).is_ok());
        assert!(zones.accept(Some("CDT")).is_ok());
        let problem = zones.accept(Some("CST")).unwrap_err();
        assert!(problem.contains("CDT to CST"), "{problem}");
    }

    proptest! {
        #[test]
        fn no_text_makes_a_reader_of_moments_panic(text: String, near in "[0-9TZ:. _+-]{0,40}") {
            for text in [text.as_str(), near.as_str()] {
                let _ = decimal_ns(text, 1_000_000_000);
                let _ = civil_ns(text);
            }
        }
    }
}
