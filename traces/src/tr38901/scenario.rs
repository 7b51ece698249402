//! Which of the report's scenarios, which state of the link, and which version of the report.

use std::fmt;
use std::str::FromStr;

/// A deployment scenario of clause 7.2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// Urban microcell, street canyon.
    Umi,
    /// Urban macrocell.
    Uma,
    /// Rural macrocell.
    Rma,
    /// Suburban macrocell, new in Release 19.
    Sma,
    /// Indoor hotspot, open office.
    InhOpen,
    /// Indoor hotspot, mixed office.
    InhMixed,
    /// Indoor factory, sparse clutter, low base station.
    InfSl,
    /// Indoor factory, dense clutter, low base station.
    InfDl,
    /// Indoor factory, sparse clutter, high base station.
    InfSh,
    /// Indoor factory, dense clutter, high base station.
    InfDh,
    /// Indoor factory, both antennas above the clutter: always in line of sight.
    InfHh,
}

/// A name that stands for nothing here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name} is no {kind}; expected one of {expected}")]
pub struct UnknownName {
    kind: &'static str,
    name: String,
    /// The names that there are.
    pub expected: String,
}

/// The one of that name, in any case.
pub(super) fn find<T: Copy>(
    kind: &'static str,
    name: &str,
    all: &[T],
    name_of: impl Fn(T) -> &'static str,
) -> Result<T, UnknownName> {
    let found = all
        .iter()
        .copied()
        .find(|one| name_of(*one).eq_ignore_ascii_case(name));
    found.ok_or_else(|| UnknownName {
        kind,
        name: name.to_owned(),
        expected: all
            .iter()
            .map(|one| name_of(*one))
            .collect::<Vec<_>>()
            .join(", "),
    })
}

impl Scenario {
    /// Every scenario.
    pub const ALL: [Scenario; 11] = [
        Scenario::Umi,
        Scenario::Uma,
        Scenario::Rma,
        Scenario::Sma,
        Scenario::InhOpen,
        Scenario::InhMixed,
        Scenario::InfSl,
        Scenario::InfDl,
        Scenario::InfSh,
        Scenario::InfDh,
        Scenario::InfHh,
    ];

    /// Its name in files, such as `inh-open`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Scenario::Umi => "umi",
            Scenario::Uma => "uma",
            Scenario::Rma => "rma",
            Scenario::Sma => "sma",
            Scenario::InhOpen => "inh-open",
            Scenario::InhMixed => "inh-mixed",
            Scenario::InfSl => "inf-sl",
            Scenario::InfDl => "inf-dl",
            Scenario::InfSh => "inf-sh",
            Scenario::InfDh => "inf-dh",
            Scenario::InfHh => "inf-hh",
        }
    }

    /// One of the two indoor offices.
    #[must_use]
    pub const fn is_office(self) -> bool {
        matches!(self, Scenario::InhOpen | Scenario::InhMixed)
    }

    /// One of the five indoor factories.
    #[must_use]
    pub const fn is_factory(self) -> bool {
        matches!(
            self,
            Scenario::InfSl | Scenario::InfDl | Scenario::InfSh | Scenario::InfDh | Scenario::InfHh
        )
    }

    /// Whether the base station is outdoors, so that a user may be indoors behind a wall.
    #[must_use]
    pub const fn is_outdoor(self) -> bool {
        !self.is_office() && !self.is_factory()
    }

    /// The heights of base station and user that the scenario usually has: tables 7.2-1 to 7.2-5,
    /// and of the factories those of the calibration, table 7.8-7.
    #[must_use]
    pub const fn usual_heights_m(self) -> (f64, f64) {
        match self {
            Scenario::Umi => (10.0, 1.5),
            Scenario::Uma => (25.0, 1.5),
            Scenario::Rma | Scenario::Sma => (35.0, 1.5),
            Scenario::InhOpen | Scenario::InhMixed => (3.0, 1.0),
            Scenario::InfSl | Scenario::InfDl => (1.5, 1.5),
            Scenario::InfSh | Scenario::InfDh => (8.0, 1.5),
            Scenario::InfHh => (8.0, 8.0),
        }
    }
}

impl FromStr for Scenario {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Scenario, UnknownName> {
        find("scenario", name, &Scenario::ALL, Scenario::name)
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The propagation condition of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Condition {
    /// In line of sight.
    Los,
    /// Not in line of sight.
    Nlos,
    /// From outdoors to indoors.
    O2i,
}

impl Condition {
    /// Every state.
    pub const ALL: [Condition; 3] = [Condition::Los, Condition::Nlos, Condition::O2i];

    /// Its name in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Condition::Los => "LOS",
            Condition::Nlos => "NLOS",
            Condition::O2i => "O2I",
        }
    }
}

impl FromStr for Condition {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Condition, UnknownName> {
        find("state", name, &Condition::ALL, Condition::name)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Whose parameter tables hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum SpecVersion {
    /// TR 38.901 v16.1.0.
    V16_1,
    /// TR 38.901 v19.4.0, equal to v19.2 in the tables used.
    #[default]
    V19_4,
}

impl SpecVersion {
    /// Its name in files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            SpecVersion::V16_1 => "16.1",
            SpecVersion::V19_4 => "19.4",
        }
    }
}

impl FromStr for SpecVersion {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<SpecVersion, UnknownName> {
        if name == "19.2" {
            return Ok(SpecVersion::V19_4);
        }
        find(
            "version of TR 38.901",
            name,
            &[SpecVersion::V19_4, SpecVersion::V16_1],
            SpecVersion::name,
        )
    }
}

impl fmt::Display for SpecVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_stands_for_itself_in_any_case() {
        for scenario in Scenario::ALL {
            assert_eq!(scenario.name().parse(), Ok(scenario));
            assert_eq!(scenario.name().to_uppercase().parse(), Ok(scenario));
        }
        for state in Condition::ALL {
            assert_eq!(state.name().to_lowercase().parse(), Ok(state));
        }
        let unknown = "umj".parse::<Scenario>().unwrap_err().to_string();
        assert!(unknown.contains("umj is no scenario"), "{unknown}");
        assert!(unknown.contains("inf-hh"), "{unknown}");
    }

    #[test]
    fn version_19_2_is_19_4_and_others_are_refused() {
        assert_eq!("19.2".parse(), Ok(SpecVersion::V19_4));
        assert_eq!("16.1".parse(), Ok(SpecVersion::V16_1));
        assert!("17.0".parse::<SpecVersion>().is_err());
    }
}
