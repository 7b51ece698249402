//! Delay and power of every tap, from the tables of the specifications.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use super::FadingError;

/// A tapped delay line of the specifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Profile {
    /// TR 38.901 Table 7.7.2-1, no line of sight; delays to be scaled.
    TdlA,
    /// TR 38.901 Table 7.7.2-2, no line of sight; delays to be scaled.
    TdlB,
    /// TR 38.901 Table 7.7.2-3, no line of sight; delays to be scaled.
    TdlC,
    /// TR 38.901 Table 7.7.2-4, line of sight; delays to be scaled.
    TdlD,
    /// TR 38.901 Table 7.7.2-5, line of sight; delays to be scaled.
    TdlE,
    /// TS 38.101-4, 30 ns, no line of sight.
    TdlA30,
    /// TS 38.101-4, 100 ns, no line of sight.
    TdlB100,
    /// TS 38.101-4, 300 ns, no line of sight.
    TdlC300,
    /// TS 38.101-4, 60 ns, no line of sight.
    TdlC60,
    /// TS 38.101-4, 30 ns, line of sight.
    TdlD30,
    /// TS 38.101-4, 10 ns, no line of sight.
    TdlA10,
    /// TS 38.101-4, 10 ns, line of sight.
    TdlD10,
}

/// What a tap is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TapKind {
    /// One wave that arrives straight.
    LineOfSight,
    /// Many waves from all around (Jakes spectrum).
    Rayleigh,
}

/// A tap as it stands in the table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tap {
    /// Its number in the table, from 1.
    pub number: u32,
    /// What it is made of.
    pub kind: TapKind,
    /// Delay: in multiples of the rms delay spread for the profiles of TR 38.901, in nanoseconds
    /// for those of TS 38.101-4.
    pub delay: f64,
    /// Mean power in dB, not normalised.
    pub power_db: f64,
}

/// A tap with its delay in seconds and its share of the power.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct ScaledTap {
    pub(super) kind: TapKind,
    pub(super) delay_s: f64,
    pub(super) power: f64,
}

static TABLE: LazyLock<Vec<(&'static str, Tap)>> = LazyLock::new(|| {
    [
        include_str!("../../data/fading/tr38901_tdl.csv"),
        include_str!("../../data/fading/ts38101_4_tdl.csv"),
    ]
    .into_iter()
    .flat_map(str::lines)
    .filter_map(row)
    .collect()
});

/// Reads a row; comments and headings are none. Tests hold the number of rows.
fn row(line: &'static str) -> Option<(&'static str, Tap)> {
    let mut fields = line.split(',');
    let profile = fields.next()?;
    let number = fields.next()?.parse().ok()?;
    let kind = match fields.next()? {
        "los" => TapKind::LineOfSight,
        "rayleigh" => TapKind::Rayleigh,
        _ => return None,
    };
    let delay = fields.next()?.parse().ok()?;
    let power_db = fields.next()?.parse().ok()?;
    let tap = Tap {
        number,
        kind,
        delay,
        power_db,
    };
    Some((profile, tap))
}

impl Profile {
    /// All of them, in the order of the specifications.
    pub const ALL: [Profile; 12] = [
        Profile::TdlA,
        Profile::TdlB,
        Profile::TdlC,
        Profile::TdlD,
        Profile::TdlE,
        Profile::TdlA30,
        Profile::TdlB100,
        Profile::TdlC300,
        Profile::TdlC60,
        Profile::TdlD30,
        Profile::TdlA10,
        Profile::TdlD10,
    ];

    /// Its name in the specifications.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Profile::TdlA => "TDL-A",
            Profile::TdlB => "TDL-B",
            Profile::TdlC => "TDL-C",
            Profile::TdlD => "TDL-D",
            Profile::TdlE => "TDL-E",
            Profile::TdlA30 => "TDLA30",
            Profile::TdlB100 => "TDLB100",
            Profile::TdlC300 => "TDLC300",
            Profile::TdlC60 => "TDLC60",
            Profile::TdlD30 => "TDLD30",
            Profile::TdlA10 => "TDLA10",
            Profile::TdlD10 => "TDLD10",
        }
    }

    /// Whether delays are normalised and take an rms delay spread (TR 38.901 clause 7.7.3).
    #[must_use]
    pub const fn is_scalable(self) -> bool {
        matches!(
            self,
            Profile::TdlA | Profile::TdlB | Profile::TdlC | Profile::TdlD | Profile::TdlE
        )
    }

    /// Its taps in the order of the table.
    pub fn taps(self) -> impl Iterator<Item = Tap> {
        TABLE
            .iter()
            .filter(move |(profile, _)| *profile == self.name())
            .map(|(_, tap)| *tap)
    }

    /// Whether its first tap has a line of sight.
    #[must_use]
    pub fn has_line_of_sight(self) -> bool {
        self.taps().any(|tap| tap.kind == TapKind::LineOfSight)
    }

    /// The root mean square delay spread of the table, in the unit of its delays.
    #[must_use]
    pub fn rms_delay_spread(self) -> f64 {
        let taps: Vec<_> = self
            .taps()
            .map(|tap| (tap.delay, linear(tap.power_db)))
            .collect();
        rms(&taps)
    }

    /// The K factor of the whole profile in dB: line of sight over the sum of all Rayleigh taps
    /// (TR 38.901 equation 7.7.6-2).
    #[must_use]
    pub fn k_factor_db(self) -> Option<f64> {
        let sight = self.taps().find(|tap| tap.kind == TapKind::LineOfSight)?;
        let scattered: f64 = self
            .taps()
            .filter(|tap| tap.kind == TapKind::Rayleigh)
            .map(|tap| linear(tap.power_db))
            .sum();
        Some(sight.power_db - 10.0 * libm::log10(scattered))
    }

    /// The taps with delays in seconds and powers that sum to 1.
    ///
    /// Delays are multiplied by `rms_delay_spread_s` (clause 7.7.3). With `k_factor_db` the
    /// Rayleigh taps are weighted against the line of sight until the profile has that K factor,
    /// and its delays are normalised again before they are scaled (clause 7.7.6).
    ///
    /// # Errors
    ///
    /// A delay spread that is missing, superfluous or not positive; a K factor without a line of
    /// sight.
    pub(super) fn scaled(
        self,
        rms_delay_spread_s: Option<f64>,
        k_factor_db: Option<f64>,
    ) -> Result<Vec<ScaledTap>, FadingError> {
        let unit_s = match (self.is_scalable(), rms_delay_spread_s) {
            (true, Some(value)) if value.is_finite() && value >= 0.0 => value,
            (true, Some(value)) => {
                return Err(FadingError::OutOfRange {
                    setting: "the rms delay spread in seconds",
                    value,
                    expected: "a number from 0",
                });
            }
            (true, None) => return Err(FadingError::DelaySpreadMissing { profile: self }),
            (false, Some(_)) => return Err(FadingError::DelaySpreadFixed { profile: self }),
            (false, None) => 1e-9,
        };
        let shift_db = match k_factor_db {
            None => 0.0,
            Some(wanted) if wanted.is_finite() => {
                let model = self
                    .k_factor_db()
                    .ok_or(FadingError::NoLineOfSight { profile: self })?;
                model - wanted
            }
            Some(value) => {
                return Err(FadingError::OutOfRange {
                    setting: "the K factor in dB",
                    value,
                    expected: "a finite number",
                });
            }
        };
        let power = |tap: &Tap| match tap.kind {
            TapKind::LineOfSight => linear(tap.power_db),
            TapKind::Rayleigh => linear(tap.power_db + shift_db),
        };
        let sum: f64 = self.taps().map(|tap| power(&tap)).sum();
        let normalise = if k_factor_db.is_some() {
            let taps: Vec<_> = self.taps().map(|tap| (tap.delay, power(&tap))).collect();
            self.rms_delay_spread() / rms(&taps)
        } else {
            1.0
        };
        Ok(self
            .taps()
            .map(|tap| ScaledTap {
                kind: tap.kind,
                delay_s: tap.delay * normalise * unit_s,
                power: power(&tap) / sum,
            })
            .collect())
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = FadingError;

    /// Reads `TDL-A`, `tdl-a`, `A`, `TDLA30` or `A30`.
    fn from_str(name: &str) -> Result<Profile, FadingError> {
        let plain = |text: &str| text.to_ascii_uppercase().replace('-', "");
        let wanted = plain(name.trim());
        let wanted = wanted.strip_prefix("TDL").unwrap_or(&wanted);
        Profile::ALL
            .into_iter()
            .find(|profile| plain(profile.name()).strip_prefix("TDL") == Some(wanted))
            .ok_or_else(|| FadingError::UnknownProfile {
                name: name.to_owned(),
            })
    }
}

fn linear(power_db: f64) -> f64 {
    libm::exp10(power_db / 10.0)
}

/// The root mean square spread of delays weighted by power.
fn rms(taps: &[(f64, f64)]) -> f64 {
    let sum: f64 = taps.iter().map(|(_, power)| power).sum();
    let mean = taps.iter().map(|(delay, power)| delay * power).sum::<f64>() / sum;
    let square: f64 = taps
        .iter()
        .map(|(delay, power)| (delay - mean) * (delay - mean) * power)
        .sum();
    libm::sqrt(square / sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_complete() {
        let counts = Profile::ALL.map(|profile| profile.taps().count());
        assert_eq!(counts, [23, 23, 24, 14, 15, 12, 12, 12, 12, 11, 16, 11]);
        for profile in Profile::ALL {
            for (tap, number) in profile.taps().zip(1..) {
                assert_eq!(tap.number, number, "{profile}");
            }
        }
        assert_eq!(TABLE.len(), 185);
    }

    #[test]
    fn the_delay_spreads_of_the_normalised_profiles_are_one() {
        let expected = [1.0001, 1.0000, 1.0000, 0.9937, 1.0002];
        for (profile, expected) in Profile::ALL.into_iter().zip(expected) {
            let spread = profile.rms_delay_spread();
            assert!((spread - expected).abs() < 5e-5, "{profile}: {spread}");
        }
    }

    #[test]
    fn the_fixed_profiles_have_the_delay_spread_in_their_name() {
        for profile in Profile::ALL.into_iter().filter(|p| !p.is_scalable()) {
            let named: f64 = profile.name()[4..].parse().unwrap();
            let spread = profile.rms_delay_spread();
            assert!((spread / named - 1.0).abs() < 0.03, "{profile}: {spread}");
        }
    }

    #[test]
    fn the_first_taps_of_d_and_e_have_the_k_factors_of_the_tables() {
        for (profile, expected) in [(Profile::TdlD, 13.3), (Profile::TdlE, 22.0)] {
            let powers: Vec<f64> = profile.taps().map(|tap| tap.power_db).collect();
            assert!((powers[0] - powers[1] - expected).abs() < 1e-9);
        }
    }

    #[test]
    fn scaling_keeps_unit_power_and_gives_the_delay_spread_that_was_asked_for() {
        for (k_factor_db, profile) in [
            (None, Profile::TdlA),
            (Some(3.0), Profile::TdlD),
            (Some(15.0), Profile::TdlE),
        ] {
            let taps = profile.scaled(Some(250e-9), k_factor_db).unwrap();
            let sum: f64 = taps.iter().map(|tap| tap.power).sum();
            assert!((sum - 1.0).abs() < 1e-12);
            let spread = rms(&taps
                .iter()
                .map(|tap| (tap.delay_s, tap.power))
                .collect::<Vec<_>>());
            let expected = 250e-9 * profile.rms_delay_spread();
            assert!((spread / expected - 1.0).abs() < 1e-9);
            if let Some(wanted) = k_factor_db {
                let sight = taps[0].power;
                let k = 10.0 * libm::log10(sight / (1.0 - sight));
                assert!((k - wanted).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn settings_that_mean_nothing_are_refused() {
        assert_eq!(
            Profile::TdlA.scaled(None, None),
            Err(FadingError::DelaySpreadMissing {
                profile: Profile::TdlA
            })
        );
        assert_eq!(
            Profile::TdlC60.scaled(Some(1e-9), None),
            Err(FadingError::DelaySpreadFixed {
                profile: Profile::TdlC60
            })
        );
        assert_eq!(
            Profile::TdlB.scaled(Some(1e-9), Some(3.0)),
            Err(FadingError::NoLineOfSight {
                profile: Profile::TdlB
            })
        );
        assert!(Profile::TdlB.scaled(Some(f64::NAN), None).is_err());
        assert!(Profile::TdlD.scaled(Some(1e-9), Some(f64::NAN)).is_err());
    }

    #[test]
    fn names_are_read_as_people_write_them() {
        for (text, profile) in [
            ("A", Profile::TdlA),
            ("tdl-e", Profile::TdlE),
            ("TDLC300", Profile::TdlC300),
            ("d10", Profile::TdlD10),
        ] {
            assert_eq!(text.parse(), Ok(profile));
        }
        assert!("TDL-F".parse::<Profile>().is_err());
        assert!("".parse::<Profile>().is_err());
    }
}
