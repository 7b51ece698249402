//! Numbers with units, as recordings write them.

/// How a recording writes that it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// It never does.
    Never,
    /// Nothing or `-`.
    Dash,
    /// Nothing, `-` or -1.
    DashOrMinusOne,
}

impl Missing {
    fn is(self, text: &str) -> bool {
        match self {
            Missing::Never => false,
            Missing::Dash => matches!(text, "" | "-"),
            Missing::DashOrMinusOne => matches!(text, "" | "-" | "-1" | "-1.0"),
        }
    }
}

/// The unit of a rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateUnit {
    /// bit/s.
    Bit,
    /// kbit/s.
    Kilobit,
    /// Mbit/s.
    Megabit,
}

/// The largest rate that a recording may claim: 1 Tbit/s.
const LARGEST_RATE_BPS: f64 = 1e12;

/// The longest delay that a recording may claim: one hour.
const LONGEST_DELAY_NS: f64 = 3600e9;

/// A finite number, or `None` where the recording does not know.
///
/// # Errors
/// What is wrong with it: no number, NaN or infinite.
pub fn number(text: &str, missing: Missing) -> Result<Option<f64>, String> {
    if missing.is(text) {
        return Ok(None);
    }
    let value: f64 = text
        .parse()
        .map_err(|_error| "expected a number".to_owned())?;
    if value.is_finite() {
        Ok(Some(value))
    } else {
        Err("expected a finite number".to_owned())
    }
}

/// A rate in bit/s, or `None` where the recording does not know.
///
/// # Errors
/// What is wrong with it: no number, negative, or more than 1 Tbit/s, which means that the unit
/// is another.
pub fn rate_bps(text: &str, unit: RateUnit, missing: Missing) -> Result<Option<u64>, String> {
    let Some(value) = number(text, missing)? else {
        return Ok(None);
    };
    let (name, scale) = match unit {
        RateUnit::Bit => ("bit/s", 1.0),
        RateUnit::Kilobit => ("kbit/s", 1e3),
        RateUnit::Megabit => ("Mbit/s", 1e6),
    };
    within(value, scale, LARGEST_RATE_BPS)
        .ok_or_else(|| {
            format!(
                "{value} {name} cannot be true; expected 0 to {} {name}",
                LARGEST_RATE_BPS / scale
            )
        })
        .map(Some)
}

/// A delay in ns from a number of `unit_ns`, or `None` where the recording does not know.
///
/// # Errors
/// What is wrong with it: no number, negative, or more than an hour, which means that the unit is
/// another.
pub fn delay_ns(text: &str, unit_ns: u32, missing: Missing) -> Result<Option<u64>, String> {
    let Some(value) = number(text, missing)? else {
        return Ok(None);
    };
    within(value, f64::from(unit_ns), LONGEST_DELAY_NS)
        .ok_or_else(|| format!("{value} x {unit_ns} ns cannot be true; expected 0 to one hour"))
        .map(Some)
}

/// A loss in parts per 10^9 from a number of which `whole` is everything (1 for a share, 100 for
/// percent), or `None` where the recording does not know.
///
/// # Errors
/// What is wrong with it: no number, negative, or more than everything.
pub fn loss_ppb(text: &str, whole: u32, missing: Missing) -> Result<Option<u32>, String> {
    let Some(value) = number(text, missing)? else {
        return Ok(None);
    };
    within(value, 1e9 / f64::from(whole), 1e9)
        .and_then(|ppb| u32::try_from(ppb).ok())
        .ok_or_else(|| format!("a loss of {value} cannot be true; expected 0 to {whole}"))
        .map(Some)
}

/// `value` x `scale` as a whole number, if it is from 0 to `largest`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "within the bounds that were just checked"
)]
fn within(value: f64, scale: f64, largest: f64) -> Option<u64> {
    let scaled = libm::round(value * scale);
    (0.0..=largest).contains(&scaled).then_some(scaled as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_value_and_what_cannot_be_true_is_refused() {
        let mbit = |text| rate_bps(text, RateUnit::Megabit, Missing::DashOrMinusOne);
        assert_eq!(mbit("1.022096"), Ok(Some(1_022_096)));
        assert_eq!(mbit("-1"), Ok(None));
        assert_eq!(mbit("-"), Ok(None));
        for wrong in ["NaN", "inf", "-3", "2e6", "fast"] {
            assert!(mbit(wrong).is_err(), "{wrong}");
        }
        assert!(rate_bps("", RateUnit::Bit, Missing::Never).is_err());
        assert_eq!(
            delay_ns("12.5", 1_000_000, Missing::Never),
            Ok(Some(12_500_000))
        );
        assert!(delay_ns("4000000", 1_000_000, Missing::Never).is_err());
        assert_eq!(loss_ppb("12.5", 100, Missing::Dash), Ok(Some(125_000_000)));
        assert!(loss_ppb("1.5", 1, Missing::Dash).is_err());
    }
}
