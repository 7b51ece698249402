//! A link by satellites in low orbit.

use serde::{Deserialize, Serialize};

use super::{Problems, RadioLink, expect};
use crate::ntn::Environment;
use crate::units::{Ratio, TimeSpan};

/// Which constellation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConstellationName {
    /// 600 km, 72 planes of 22.
    Low,
    /// 1200 km, 36 planes of 40.
    High,
}

/// What stands around the user: TR 38.811's environments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Surroundings {
    /// High buildings.
    DenseUrban,
    /// Buildings.
    Urban,
    /// Houses and fields.
    SuburbanRural,
}

impl Surroundings {
    /// The same for the satellite module.
    #[must_use]
    pub const fn environment(self) -> Environment {
        match self {
            Surroundings::DenseUrban => Environment::DenseUrban,
            Surroundings::Urban => Environment::Urban,
            Surroundings::SuburbanRural => Environment::SuburbanRural,
        }
    }
}

/// A link by satellites.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SatelliteSettings {
    /// The air interface; its base is the satellite.
    pub radio: RadioLink,
    /// Which satellites.
    pub constellation: ConstellationName,
    /// What stands around the user.
    pub surroundings: Surroundings,
    /// Where the user is, in degrees north.
    pub latitude_deg: f64,
    /// Lowest elevation of a satellite that serves, in degrees.
    #[serde(default = "usual_elevation")]
    pub least_elevation_deg: f64,
    /// Whether the satellite is a base station itself; else a gateway is, as far away again.
    #[serde(default)]
    pub regenerative: bool,
    /// Rain in mm/h.
    #[serde(default)]
    pub rain_mm_h: f64,
    /// Where there are base stations too: below this SINR of theirs the satellite serves.
    #[serde(default = "usual_leave")]
    pub leave_below: Ratio,
    /// And above this one they serve again.
    #[serde(default = "usual_return")]
    pub return_above: Ratio,
    /// For how long it must stay so.
    #[serde(default = "usual_trigger")]
    pub time_to_trigger: TimeSpan,
    /// How long nothing is sent meanwhile.
    #[serde(default = "usual_interruption")]
    pub interruption: TimeSpan,
}

const fn usual_elevation() -> f64 {
    25.0
}
const fn usual_leave() -> Ratio {
    Ratio { centi_db: -300 }
}
const fn usual_return() -> Ratio {
    Ratio { centi_db: 300 }
}
const fn usual_trigger() -> TimeSpan {
    TimeSpan::from_millis(500)
}
const fn usual_interruption() -> TimeSpan {
    TimeSpan::from_millis(150)
}

impl SatelliteSettings {
    pub(in crate::scenario) fn problems(&self, found: &mut Problems) {
        let mut of_radio = Problems::new();
        self.radio.problems(&mut of_radio);
        let below = |(key, problem)| (format!("satellite.{key}"), problem);
        found.extend(of_radio.into_iter().map(below));
        let carrier = (1_000_000_000..=100_000_000_000).contains(&self.radio.carrier.hz);
        expect(found, carrier, "satellite.radio.carrier", "1 to 100 GHz");
        let latitude = (-90.0..=90.0).contains(&self.latitude_deg);
        expect(
            found,
            latitude,
            "satellite.latitude_deg",
            "-90 to 90 degrees",
        );
        let elevation = (5.0..=90.0).contains(&self.least_elevation_deg);
        expect(
            found,
            elevation,
            "satellite.least_elevation_deg",
            "5 to 90 degrees",
        );
        let rain = (0.0..=200.0).contains(&self.rain_mm_h);
        expect(found, rain, "satellite.rain_mm_h", "0 to 200 mm/h");
        let order = self.leave_below.centi_db < self.return_above.centi_db;
        expect(
            found,
            order,
            "satellite.leave_below",
            "below `return_above`",
        );
    }
}
