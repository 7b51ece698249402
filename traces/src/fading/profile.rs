//! Delay and power of every tap, from the tables of the specifications.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use super::FadingError;
use super::shape::Shape;

/// A tapped or clustered delay line of the specifications.
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
    /// TR 38.901 Table 7.7.1-1, no line of sight; taps are clusters of rays with directions.
    CdlA,
    /// TR 38.901 Table 7.7.1-2, no line of sight.
    CdlB,
    /// TR 38.901 Table 7.7.1-3, no line of sight.
    CdlC,
    /// TR 38.901 Table 7.7.1-4, line of sight.
    CdlD,
    /// TR 38.901 Table 7.7.1-5, line of sight.
    CdlE,
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
    /// Many waves: from all around (Jakes spectrum), or of one cluster of rays.
    Rayleigh,
}

/// Where the rays of a cluster leave and arrive, in degrees: the table's coordinates, in which the
/// line of sight leaves at azimuth 0 and arrives from -180.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Directions {
    /// Azimuth and zenith angle of departure.
    pub departure_deg: [f64; 2],
    /// Azimuth and zenith angle of arrival.
    pub arrival_deg: [f64; 2],
    /// Root mean square spreads of the rays about them, departure.
    pub departure_spread_deg: [f64; 2],
    /// And arrival.
    pub arrival_spread_deg: [f64; 2],
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
    /// Directions, in clustered delay lines.
    pub directions: Option<Directions>,
}

static TABLE: LazyLock<Vec<(&'static str, Tap)>> = LazyLock::new(|| {
    [
        include_str!("../../data/fading/tr38901_tdl.csv"),
        include_str!("../../data/fading/tr38901_cdl.csv"),
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
    let angles: Vec<f64> = fields.filter_map(|field| field.parse().ok()).collect();
    let directions = match *angles.as_slice() {
        [aod, aoa, zod, zoa, c_asd, c_asa, c_zsd, c_zsa] => Some(Directions {
            departure_deg: [aod, zod],
            arrival_deg: [aoa, zoa],
            departure_spread_deg: [c_asd, c_zsd],
            arrival_spread_deg: [c_asa, c_zsa],
        }),
        _ => None,
    };
    let tap = Tap {
        number,
        kind,
        delay,
        power_db,
        directions,
    };
    Some((profile, tap))
}

impl Profile {
    /// All of them, in the order of the specifications.
    pub const ALL: [Profile; 17] = [
        Profile::TdlA,
        Profile::TdlB,
        Profile::TdlC,
        Profile::TdlD,
        Profile::TdlE,
        Profile::CdlA,
        Profile::CdlB,
        Profile::CdlC,
        Profile::CdlD,
        Profile::CdlE,
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
            Profile::CdlA => "CDL-A",
            Profile::CdlB => "CDL-B",
            Profile::CdlC => "CDL-C",
            Profile::CdlD => "CDL-D",
            Profile::CdlE => "CDL-E",
            Profile::TdlA30 => "TDLA30",
            Profile::TdlB100 => "TDLB100",
            Profile::TdlC300 => "TDLC300",
            Profile::TdlC60 => "TDLC60",
            Profile::TdlD30 => "TDLD30",
            Profile::TdlA10 => "TDLA10",
            Profile::TdlD10 => "TDLD10",
        }
    }

    /// Whether its taps are clusters of rays with directions (TR 38.901 clause 7.7.1).
    #[must_use]
    pub const fn is_clustered(self) -> bool {
        matches!(
            self,
            Profile::CdlA | Profile::CdlB | Profile::CdlC | Profile::CdlD | Profile::CdlE
        )
    }

    /// Whether delays are normalised and take an rms delay spread (TR 38.901 clause 7.7.3).
    #[must_use]
    pub const fn is_scalable(self) -> bool {
        matches!(
            self,
            Profile::TdlA | Profile::TdlB | Profile::TdlC | Profile::TdlD | Profile::TdlE
        ) || self.is_clustered()
    }

    /// Its taps in the order of the table.
    pub fn taps(self) -> impl Iterator<Item = Tap> {
        TABLE
            .iter()
            .filter(move |(profile, _)| *profile == self.name())
            .map(|(_, tap)| *tap)
    }

    /// The root mean square delay spread of the table, in the unit of its delays.
    #[must_use]
    pub fn rms_delay_spread(self) -> f64 {
        Shape::of(self).rms_delay_spread()
    }

    /// The K factor of the whole profile in dB: line of sight over the sum of all Rayleigh taps
    /// (TR 38.901 equation 7.7.6-2).
    #[must_use]
    pub fn k_factor_db(self) -> Option<f64> {
        Shape::of(self).k_factor_db()
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = FadingError;

    /// Reads `TDL-A`, `tdl-a`, `A`, `TDLA30`, `A30` or `CDL-A`.
    fn from_str(name: &str) -> Result<Profile, FadingError> {
        let plain = |text: &str| text.to_ascii_uppercase().replace('-', "");
        let wanted = plain(name.trim());
        Profile::ALL
            .into_iter()
            .find(|profile| {
                let known = plain(profile.name());
                known == wanted || known.strip_prefix("TDL") == Some(&wanted)
            })
            .ok_or_else(|| FadingError::UnknownProfile {
                name: name.to_owned(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_complete() {
        let counts = Profile::ALL.map(|profile| profile.taps().count());
        assert_eq!(
            counts,
            [
                23, 23, 24, 14, 15, 23, 23, 24, 14, 15, 12, 12, 12, 12, 11, 16, 11
            ]
        );
        for profile in Profile::ALL {
            for (tap, number) in profile.taps().zip(1..) {
                assert_eq!(tap.number, number, "{profile}");
            }
        }
        assert_eq!(TABLE.len(), 185 + 99);
        for profile in Profile::ALL {
            let directed = profile.taps().all(|tap| tap.directions.is_some());
            assert_eq!(directed, profile.is_clustered(), "{profile}");
        }
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
    fn names_are_read_as_people_write_them() {
        for (text, profile) in [
            ("A", Profile::TdlA),
            ("tdl-e", Profile::TdlE),
            ("TDLC300", Profile::TdlC300),
            ("d10", Profile::TdlD10),
            ("cdl-d", Profile::CdlD),
        ] {
            assert_eq!(text.parse(), Ok(profile));
        }
        assert!("TDL-F".parse::<Profile>().is_err());
        assert!("".parse::<Profile>().is_err());
    }
}
