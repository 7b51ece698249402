//! Quantities of radio and geometry: `7 GHz`, `43 dBm`, `-3.5 dB`, `1.5 m/s`, `7.4 bit/s/Hz`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{QuantityError, split, text_serde, write_exact};

/// Writes `value / 10^scale` as a decimal number without trailing zeros.
fn write_decimal(f: &mut fmt::Formatter<'_>, value: u64, scale: u32) -> fmt::Result {
    let size = 10_u64.pow(scale);
    let (mut fraction, mut digits) = (value % size, usize::try_from(scale).unwrap_or(0));
    write!(f, "{}", value / size)?;
    if fraction == 0 {
        return Ok(());
    }
    while fraction.is_multiple_of(10) {
        fraction /= 10;
        digits -= 1;
    }
    write!(f, ".{fraction:0digits$}")
}

/// A frequency or bandwidth in hertz.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Frequency {
    /// Hertz.
    pub hz: u64,
}

impl Frequency {
    /// The frequency in GHz, for formulas.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "exact below 2^53 Hz = 9 PHz")]
    pub fn as_ghz_f64(self) -> f64 {
        self.hz as f64 / 1e9
    }
}

impl FromStr for Frequency {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Frequency, QuantityError> {
        let parse = || {
            let (number, unit) = split(text)?;
            let factor = match unit {
                "Hz" => 1,
                "kHz" => 1_000,
                "MHz" => 1_000_000,
                "GHz" => 1_000_000_000,
                "THz" => 1_000_000_000_000,
                _ => return None,
            };
            number.times(factor)
        };
        parse()
            .map(|hz| Frequency { hz })
            .ok_or_else(|| QuantityError {
                text: text.to_owned(),
                what: "a frequency",
                examples: "`7 GHz` (units: Hz, kHz, MHz, GHz, THz)",
            })
    }
}

impl fmt::Display for Frequency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [
            (1_000_000_000, "GHz"),
            (1_000_000, "MHz"),
            (1_000, "kHz"),
            (1, "Hz"),
        ];
        write_exact(f, self.hz, &units)
    }
}

text_serde!(Frequency);

/// A length in millimetres.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Length {
    /// Millimetres.
    pub mm: u64,
}

impl Length {
    /// The length in metres, for formulas.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "exact below 2^53 mm")]
    pub fn as_metres_f64(self) -> f64 {
        self.mm as f64 / 1e3
    }
}

impl FromStr for Length {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Length, QuantityError> {
        let parse = || {
            let (number, unit) = split(text)?;
            let factor = match unit {
                "mm" => 1,
                "cm" => 10,
                "m" => 1_000,
                "km" => 1_000_000,
                _ => return None,
            };
            number.times(factor)
        };
        parse()
            .map(|mm| Length { mm })
            .ok_or_else(|| QuantityError {
                text: text.to_owned(),
                what: "a length of whole millimetres",
                examples: "`1.5 m` (units: mm, cm, m, km)",
            })
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_decimal(f, self.mm, 3)?;
        f.write_str(" m")
    }
}

text_serde!(Length);

/// A speed, kept in millimetres per hour, so that both m/s and km/h are exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Speed {
    /// Millimetres per hour.
    pub mm_per_h: u64,
}

impl Speed {
    /// The speed in m/s, for formulas.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "exact below 2^53 mm/h")]
    pub fn as_metres_per_second_f64(self) -> f64 {
        self.mm_per_h as f64 / 3.6e6
    }
}

impl FromStr for Speed {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Speed, QuantityError> {
        let parse = || {
            let (number, unit) = split(text)?;
            let factor = match unit {
                "m/s" => 3_600_000,
                "km/h" => 1_000_000,
                _ => return None,
            };
            number.times(factor)
        };
        parse()
            .map(|mm_per_h| Speed { mm_per_h })
            .ok_or_else(|| QuantityError {
                text: text.to_owned(),
                what: "a speed",
                examples: "`1.5 m/s` (units: m/s, km/h)",
            })
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.mm_per_h.is_multiple_of(3_600) {
            write_decimal(f, self.mm_per_h / 3_600, 3)?;
            f.write_str(" m/s")
        } else {
            write_decimal(f, self.mm_per_h, 6)?;
            f.write_str(" km/h")
        }
    }
}

text_serde!(Speed);

/// Spectral efficiency in thousandths of a bit per second and hertz.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SpectralEfficiency {
    /// Thousandths of a bit per second and hertz.
    pub milli: u32,
}

impl FromStr for SpectralEfficiency {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<SpectralEfficiency, QuantityError> {
        let parse = || {
            let (number, unit) = split(text)?;
            (unit == "bit/s/Hz")
                .then(|| u32::try_from(number.times(1_000)?).ok())
                .flatten()
        };
        parse()
            .map(|milli| SpectralEfficiency { milli })
            .ok_or_else(|| QuantityError {
                text: text.to_owned(),
                what: "a spectral efficiency of at most three decimals",
                examples: "`7.4 bit/s/Hz`",
            })
    }
}

impl fmt::Display for SpectralEfficiency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_decimal(f, u64::from(self.milli), 3)?;
        f.write_str(" bit/s/Hz")
    }
}

text_serde!(SpectralEfficiency);

/// Reads a number with an optional sign and at most two decimals, in hundredths.
fn signed_hundredths(text: &str, wanted: &str) -> Option<i32> {
    let text = text.trim();
    let (negative, magnitude) = match text.strip_prefix('-') {
        Some(magnitude) => (true, magnitude),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (number, unit) = split(magnitude)?;
    let hundredths = i32::try_from(number.times(100)?).ok()?;
    (unit == wanted && magnitude.starts_with(|c: char| c.is_ascii_digit())).then_some(if negative {
        -hundredths
    } else {
        hundredths
    })
}

fn write_signed_hundredths(f: &mut fmt::Formatter<'_>, value: i32) -> fmt::Result {
    if value < 0 {
        f.write_str("-")?;
    }
    write_decimal(f, u64::from(value.unsigned_abs()), 2)
}

/// A power in hundredths of a dBm (decibels over one milliwatt).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PowerLevel {
    /// Hundredths of a dBm; more than `i32::MIN`.
    pub centi_dbm: i32,
}

impl PowerLevel {
    /// The power in dBm, for formulas.
    #[must_use]
    pub fn as_dbm_f64(self) -> f64 {
        f64::from(self.centi_dbm) / 100.0
    }
}

impl FromStr for PowerLevel {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<PowerLevel, QuantityError> {
        signed_hundredths(text, "dBm")
            .map(|centi_dbm| PowerLevel { centi_dbm })
            .ok_or_else(|| QuantityError {
                text: text.to_owned(),
                what: "a power level of at most two decimals",
                examples: "`43 dBm`",
            })
    }
}

impl fmt::Display for PowerLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_signed_hundredths(f, self.centi_dbm)?;
        f.write_str(" dBm")
    }
}

text_serde!(PowerLevel);

/// A power ratio in hundredths of a decibel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ratio {
    /// Hundredths of a decibel; more than `i32::MIN`.
    pub centi_db: i32,
}

impl Ratio {
    /// The ratio in dB, for formulas.
    #[must_use]
    pub fn as_db_f64(self) -> f64 {
        f64::from(self.centi_db) / 100.0
    }
}

impl FromStr for Ratio {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Ratio, QuantityError> {
        signed_hundredths(text, "dB")
            .map(|centi_db| Ratio { centi_db })
            .ok_or_else(|| QuantityError {
                text: text.to_owned(),
                what: "a ratio in decibels of at most two decimals",
                examples: "`3 dB`",
            })
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_signed_hundredths(f, self.centi_db)?;
        f.write_str(" dB")
    }
}

text_serde!(Ratio);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quantities_are_read_and_written_as_people_write_them() {
        assert_eq!("7 GHz".parse::<Frequency>().unwrap().hz, 7_000_000_000);
        assert_eq!(
            "3.5 GHz".parse::<Frequency>().unwrap().to_string(),
            "3500 MHz"
        );
        assert_eq!("1.5 m".parse::<Length>().unwrap().to_string(), "1.5 m");
        assert_eq!("2 km".parse::<Length>().unwrap().to_string(), "2000 m");
        assert_eq!("1.5 m/s".parse::<Speed>().unwrap().to_string(), "1.5 m/s");
        assert_eq!("3 km/h".parse::<Speed>().unwrap().to_string(), "3 km/h");
        assert_eq!("-3.5 dBm".parse::<PowerLevel>().unwrap().centi_dbm, -350);
        assert_eq!("-0.05 dB".parse::<Ratio>().unwrap().to_string(), "-0.05 dB");
        assert_eq!(
            "7.4 bit/s/Hz".parse::<SpectralEfficiency>().unwrap().milli,
            7_400
        );
    }

    #[test]
    fn the_wrong_unit_or_too_fine_a_value_is_refused() {
        assert!("7".parse::<Frequency>().is_err());
        assert!("0.5 mm".parse::<Length>().is_err());
        assert!("1 mph".parse::<Speed>().is_err());
        assert!("43 dB".parse::<PowerLevel>().is_err());
        for text in [
            "3 dBm",
            "0.001 dB",
            "--3 dB",
            "- 3 dB",
            "+-3 dB",
            "dB",
            "30000000 dB",
        ] {
            assert!(text.parse::<Ratio>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_quantity_reads_back_what_it_prints(value: u64, small: u32, signed in -i32::MAX..) {
            let (hz, mm, mm_per_h) = (value, value, value);
            prop_assert_eq!(Frequency { hz }.to_string().parse(), Ok(Frequency { hz }));
            prop_assert_eq!(Length { mm }.to_string().parse(), Ok(Length { mm }));
            prop_assert_eq!(Speed { mm_per_h }.to_string().parse(), Ok(Speed { mm_per_h }));
            let efficiency = SpectralEfficiency { milli: small };
            prop_assert_eq!(efficiency.to_string().parse(), Ok(efficiency));
            let power = PowerLevel { centi_dbm: signed };
            prop_assert_eq!(power.to_string().parse(), Ok(power));
            let ratio = Ratio { centi_db: signed };
            prop_assert_eq!(ratio.to_string().parse(), Ok(ratio));
        }

        #[test]
        fn no_text_makes_a_parser_panic(text: String, number in "[-+0-9._]{0,60}") {
            for text in [text, format!("{number} dB"), format!("{number} m/s")] {
                let _ = text.parse::<Frequency>();
                let _ = text.parse::<Length>();
                let _ = text.parse::<Speed>();
                let _ = text.parse::<PowerLevel>();
                let _ = text.parse::<Ratio>();
                let _ = text.parse::<SpectralEfficiency>();
            }
        }
    }
}
