//! The channel model, what stands in the way, and the weather.

use serde::{Deserialize, Serialize};

use super::{Problems, expect};
use crate::propagation::{CloseIn, CloseInScenario};
use crate::scenario::text;
use crate::tr38901::o2i::Building;
use crate::tr38901::{Scenario, SpecVersion, validity};
use crate::units::{Frequency, Share};

/// Which model gives the path loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ChannelModel {
    /// 3GPP TR 38.901.
    #[default]
    #[serde(rename = "38.901")]
    Tr38901,
    /// The close-in model with NYUSIM's parameters, beyond 100 GHz.
    #[serde(rename = "close-in")]
    CloseIn,
}

/// What the signal fades by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FadingModel {
    /// Tapped delay lines: waves arrive from all around.
    #[default]
    Tdl,
    /// Clustered delay lines: rays have directions, and the cell's beam (`radio.beam_width_deg`)
    /// meets some of them only.
    Cdl,
}

/// Whether buildings stand in the direct path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SightChoice {
    /// As the model's probability says, and changing along the way.
    #[default]
    Drawn,
    /// Never.
    Clear,
    /// Always.
    Obstructed,
}

/// The channel between user and base stations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelSettings {
    /// Which model.
    #[serde(default)]
    pub model: ChannelModel,
    /// Scenario of TR 38.901, such as `umi`.
    #[serde(with = "text")]
    pub scenario: Scenario,
    /// Whose tables.
    #[serde(default, with = "text")]
    pub spec: SpecVersion,
    /// Whether buildings stand in the direct path.
    #[serde(default)]
    pub sight: SightChoice,
    /// What the signal fades by: `tdl` or `cdl`.
    #[serde(default)]
    pub fading: FadingModel,
    /// The user is indoors behind a wall of this building: `low`, `high` or `low-a`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub indoor: Option<String>,
    /// The user sits in a car or train: its loss in dB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vehicle_loss_db: Option<f64>,
    /// Go on outside of what the model was made for, and say so in the trace.
    #[serde(default)]
    pub extrapolate: bool,
}

/// What the air does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weather {
    /// Median rain rate in mm/h; 0 for none.
    #[serde(default)]
    pub rain_mm_h: f64,
    /// Standard deviation of the rain rate's natural logarithm; 0 keeps it steady.
    #[serde(default)]
    pub rain_spread: f64,
    /// Over how many seconds the rain rate's correlation falls to 1/e.
    #[serde(default = "usual_rain_time_s")]
    pub rain_time_s: f64,
    /// Water vapour in g/m3.
    #[serde(default = "usual_vapour")]
    pub vapour_g_m3: f64,
    /// Temperature in degrees Celsius.
    #[serde(default = "usual_temperature")]
    pub temperature_c: f64,
}

const fn usual_rain_time_s() -> f64 {
    300.0
}
const fn usual_vapour() -> f64 {
    7.5
}
const fn usual_temperature() -> f64 {
    15.0
}

impl Default for Weather {
    /// Dry, 15 degrees, 7.5 g/m3.
    fn default() -> Weather {
        Weather {
            rain_mm_h: 0.0,
            rain_spread: 0.0,
            rain_time_s: usual_rain_time_s(),
            vapour_g_m3: usual_vapour(),
            temperature_c: usual_temperature(),
        }
    }
}

/// How the user holds the device: blockage model A.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holding {
    /// Upright.
    Portrait,
    /// Sideways, with both hands.
    Landscape,
}

/// What stands in the direct path from time to time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BlockageSettings {
    /// The user's own body: model A of TR 38.901 clause 7.6.4.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holding: Option<Holding>,
    /// People who move about: screens of model B, clause 7.6.4.2.
    #[serde(default)]
    pub people: u32,
    /// Cars that do.
    #[serde(default)]
    pub vehicles: u32,
    /// Driverless vehicles of a factory that do.
    #[serde(default)]
    pub agvs: u32,
    /// Within how many metres of the user they do.
    #[serde(default = "usual_reach_m")]
    pub reach_m: f64,
    /// Their speed in m/s; by default that of their kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed_m_s: Option<f64>,
    /// The share of a blocked path's power that reaches the user by other ways.
    #[serde(default = "usual_leak")]
    pub leak: Share,
}

const fn usual_reach_m() -> f64 {
    10.0
}
const fn usual_leak() -> Share {
    Share::from_ppb(1_000_000)
}

impl ChannelSettings {
    /// The building that the user is in.
    #[must_use]
    pub fn building(&self) -> Option<Building> {
        self.indoor.as_deref().and_then(|name| name.parse().ok())
    }

    /// The close-in model's name of the scenario.
    #[must_use]
    pub const fn close_in(&self) -> Option<CloseInScenario> {
        match self.scenario {
            Scenario::Umi => Some(CloseInScenario::UrbanMicro),
            Scenario::Uma => Some(CloseInScenario::UrbanMacro),
            Scenario::InhOpen | Scenario::InhMixed => Some(CloseInScenario::Indoor),
            _ => None,
        }
    }

    /// Whether the carrier lies outside of what the model was made for.
    #[must_use]
    pub fn is_extrapolated(&self, carrier: Frequency) -> bool {
        let carrier_ghz = carrier.as_ghz_f64();
        match self.model {
            ChannelModel::Tr38901 => !validity::carrier(self.scenario, carrier_ghz).is_empty(),
            ChannelModel::CloseIn => {
                let [lowest, highest] = CloseIn::MEASURED_GHZ;
                !(lowest..=highest).contains(&carrier_ghz)
            }
        }
    }

    /// What of the antennas' heights in metres the model does not cover, in words.
    #[must_use]
    pub fn heights_outside(&self, base_height_m: f64, user_height_m: f64) -> Option<String> {
        let outside = match self.model {
            ChannelModel::Tr38901 => validity::heights(self.scenario, base_height_m, user_height_m),
            ChannelModel::CloseIn => Vec::new(),
        };
        outside.first().map(ToString::to_string)
    }

    pub(in crate::scenario) fn problems(&self, carrier: Frequency, found: &mut Problems) {
        if !self.extrapolate && self.is_extrapolated(carrier) {
            let problem = format!(
                "the model is not made for {carrier}; `extrapolate = true` goes on, and the trace says so"
            );
            found.push(("channel.scenario".to_owned(), problem));
        }
        if self.model == ChannelModel::CloseIn && self.close_in().is_none() {
            let problem = "the close-in model has umi, uma and inh-open or inh-mixed";
            found.push(("channel.scenario".to_owned(), problem.to_owned()));
        }
        if self.spec == SpecVersion::V16_1 && self.scenario == Scenario::Sma {
            let problem = "version 16.1 has no scenario sma";
            found.push(("channel.spec".to_owned(), problem.to_owned()));
        }
        let known = self.indoor.is_none() || self.building().is_some();
        expect(found, known, "channel.indoor", "`low`, `high` or `low-a`");
        let outdoor = self.indoor.is_none() || self.scenario.is_outdoor();
        expect(
            found,
            outdoor,
            "channel.indoor",
            "this scenario's base station is indoors",
        );
        let sane = self
            .vehicle_loss_db
            .is_none_or(|db| (0.0..=60.0).contains(&db));
        expect(found, sane, "channel.vehicle_loss_db", "0 to 60 dB");
    }
}

impl Weather {
    pub(in crate::scenario) fn problems(&self, found: &mut Problems) {
        for (key, value, most) in [
            ("weather.rain_mm_h", self.rain_mm_h, 200.0),
            ("weather.rain_spread", self.rain_spread, 3.0),
            ("weather.vapour_g_m3", self.vapour_g_m3, 50.0),
        ] {
            let problem = format!("0 to {most}");
            expect(found, (0.0..=most).contains(&value), key, &problem);
        }
        let time = self.rain_time_s >= 1.0 && self.rain_time_s <= 1e6;
        expect(found, time, "weather.rain_time_s", "1 to 1000000 s");
        let warm = (-60.0..=60.0).contains(&self.temperature_c);
        expect(found, warm, "weather.temperature_c", "-60 to 60 degrees");
    }
}

impl BlockageSettings {
    pub(in crate::scenario) fn problems(&self, found: &mut Problems) {
        for (key, count) in [
            ("blockage.people", self.people),
            ("blockage.vehicles", self.vehicles),
            ("blockage.agvs", self.agvs),
        ] {
            expect(found, count <= 1_000, key, "at most 1000 blockers");
        }
        let reach = self.reach_m >= 1.0 && self.reach_m <= 1_000.0;
        expect(found, reach, "blockage.reach_m", "1 to 1000 m");
        let speed = self
            .speed_m_s
            .is_none_or(|speed| (0.0..=100.0).contains(&speed));
        expect(found, speed, "blockage.speed_m_s", "0 to 100 m/s");
    }
}
