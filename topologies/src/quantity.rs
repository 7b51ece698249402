//! Rates of events, as people write them: `1.5 /s`.

/// Reads `1.5 /s` as events per 1000 seconds, so that plans compare exactly.
pub(crate) fn per_kilosecond(text: &str) -> Option<u64> {
    let number = text.trim().strip_suffix("/s")?.trim_end();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 3 {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let thousandths: u64 = format!("{fraction:0<3}").parse().ok()?;
    let value = whole.checked_mul(1000)?.checked_add(thousandths)?;
    (1..=1_000_000_000).contains(&value).then_some(value)
}

/// How a rate of events is written.
pub(crate) const PER_SECOND_EXAMPLES: &str = "`1.5 /s` (at most three decimals, above 0)";

#[cfg(test)]
mod tests {
    use super::per_kilosecond;

    #[test]
    fn a_rate_of_events_is_read_exactly_and_needs_its_unit() {
        assert_eq!(per_kilosecond("1.5 /s"), Some(1_500));
        assert_eq!(per_kilosecond("20/s"), Some(20_000));
        for text in [
            "1.5",
            "/s",
            "0 /s",
            "-1 /s",
            "1.2345 /s",
            "1.5 /min",
            "1e3 /s",
            "1. 5 /s",
        ] {
            assert_eq!(per_kilosecond(text), None, "{text}");
        }
    }
}
