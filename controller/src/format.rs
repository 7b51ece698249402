//! Numbers as people read them: always with a unit, never with more digits than they carry.

/// A time in milliseconds with three decimals (microseconds).
#[must_use]
pub fn milliseconds(ns: u64) -> String {
    format!("{:.3} ms", ns_to_ms(ns))
}

/// Nanoseconds as milliseconds.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "for printing; below 104 days it is exact"
)]
pub fn ns_to_ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// Nanoseconds as seconds.
#[must_use]
#[expect(
    clippy::cast_precision_loss,
    reason = "for printing; below 104 days it is exact"
)]
pub fn ns_to_s(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// A count as a float.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
pub const fn count_to_f64(count: u64) -> f64 {
    count as f64
}

/// The length of a slice as a count.
#[must_use]
pub const fn length<T>(slice: &[T]) -> u64 {
    slice.len() as u64
}

/// Parts per million as percent.
#[must_use]
pub fn percent_of_ppm(ppm: u64) -> String {
    format!("{} %", trimmed(count_to_f64(ppm) / 1e4, 4))
}

/// One amount as percent of another.
#[must_use]
pub fn share_percent(part: u64, whole: u64) -> String {
    format!(
        "{:.3} %",
        100.0 * count_to_f64(part) / count_to_f64(whole.max(1))
    )
}

/// A ratio, or nothing when there is nothing to compare with.
#[must_use]
pub fn ratio(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| rounded(count_to_f64(part) / count_to_f64(whole), 9))
}

/// The middle of some numbers, the later of two; `None` of none.
pub(crate) fn median(numbers: impl Iterator<Item = u64>) -> Option<u64> {
    let mut numbers: Vec<u64> = numbers.collect();
    numbers.sort_unstable();
    numbers.get(numbers.len() / 2).copied()
}

/// A number with at most so many decimals. Short decimals read back from JSON exactly.
#[must_use]
pub fn rounded(value: f64, decimals: i32) -> f64 {
    let scale = 10_f64.powi(decimals);
    (value * scale).round() / scale
}

/// A number with at most so many decimals, without trailing zeros.
#[must_use]
pub fn trimmed(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    };
    if text == "-0" { "0".to_owned() } else { text }
}

/// A number with three significant digits.
#[must_use]
pub fn significant(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return "0".to_owned();
    }
    let magnitude = value.abs();
    if magnitude >= 100.0 {
        format!("{value:.0}")
    } else if magnitude >= 10.0 {
        format!("{value:.1}")
    } else if magnitude >= 1.0 {
        format!("{value:.2}")
    } else {
        trimmed(value, 4)
    }
}

/// A count with thin groups of three digits, as 1 234 567.
#[must_use]
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

/// A data rate in bit/s.
#[must_use]
pub fn bit_rate(bps: f64) -> String {
    let (value, unit) = if bps >= 1e9 {
        (bps / 1e9, "Gbit/s")
    } else if bps >= 1e6 {
        (bps / 1e6, "Mbit/s")
    } else if bps >= 1e3 {
        (bps / 1e3, "kbit/s")
    } else {
        (bps, "bit/s")
    };
    format!("{} {unit}", significant(value))
}

/// A moment in UTC from nanoseconds since 1970: `2026-11-21 00:15:56 UTC`.
#[must_use]
pub fn utc(ns: u64) -> String {
    let Utc {
        year,
        month,
        day,
        hour,
        minute,
        second,
    } = Utc::from_ns(ns);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

/// The same for file names: `20261121T001556Z`.
#[must_use]
pub fn utc_compact(ns: u64) -> String {
    let Utc {
        year,
        month,
        day,
        hour,
        minute,
        second,
    } = Utc::from_ns(ns);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

struct Utc {
    year: u64,
    month: u64,
    day: u64,
    hour: u64,
    minute: u64,
    second: u64,
}

impl Utc {
    /// Howard Hinnant's `civil_from_days`, for days after 1970.
    const fn from_ns(ns: u64) -> Utc {
        let seconds = ns / 1_000_000_000;
        let days = seconds / 86_400 + 719_468;
        let era = days / 146_097;
        let day_of_era = days % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
        let month = if shifted_month < 10 {
            shifted_month + 3
        } else {
            shifted_month - 9
        };
        let year = year_of_era + era * 400 + if month <= 2 { 1 } else { 0 };
        Utc {
            year,
            month,
            day,
            hour: seconds / 3_600 % 24,
            minute: seconds / 60 % 60,
            second: seconds % 60,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_carry_no_more_digits_than_they_mean() {
        assert_eq!(milliseconds(1_234_567), "1.235 ms");
        assert_eq!(percent_of_ppm(10_000), "1 %");
        assert_eq!(share_percent(1, 8), "12.500 %");
        assert_eq!(significant(1234.5), "1234");
        assert_eq!(significant(0.012_34), "0.0123");
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(bit_rate(120e6), "120 Mbit/s");
        assert_eq!(trimmed(-0.000_01, 2), "0");
    }

    #[test]
    fn moments_are_written_in_utc() {
        assert_eq!(utc(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(utc(1_709_210_096_000_000_000), "2024-02-29 12:34:56 UTC");
        assert_eq!(utc_compact(1_795_219_199_000_000_000), "20261120T235959Z");
    }
}
