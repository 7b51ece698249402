//! What can be set about the street, and what is possible.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::generate::MOST_ROWS;
use crate::units::{
    ByteSize, Frequency, Length, PowerLevel, Ratio, Share, SpectralEfficiency, Speed, TimeSpan,
};
use crate::{EndPolicy, TraceError};

/// Whether buildings stand between base station and user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sight {
    /// The base station is in sight: `PL_UMi-LOS`.
    Clear,
    /// Around a corner for the whole walk: `PL_UMi-NLOS`. Table 7.4.1-1 then has a shadowing of
    /// 7.82 dB, table 7.5-6 a correlation distance of 13 m; set them too.
    Obstructed,
}

/// A walk past a base station in an urban street, and a blocker that interrupts it.
///
/// Every field has a default; the defaults give about 60 Mbit/s down and 20 Mbit/s up for 20 s,
/// with one outage of about 2.5 s at 8 s.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StreetSettings {
    /// Length of the trace.
    pub duration: TimeSpan,
    /// Time between rows.
    pub step: TimeSpan,
    /// What follows the end of the trace.
    pub end: EndPolicy,
    /// Carrier frequency, 0.5 GHz to 100 GHz.
    pub carrier: Frequency,
    /// Bandwidth of the cell's carrier.
    pub bandwidth: Frequency,
    /// Share of the cell's time that this user's downlink gets, after time division and the
    /// other users.
    pub downlink_share: Share,
    /// The same for the uplink.
    pub uplink_share: Share,
    /// How far along the street the base station is at the start; the user walks towards it.
    pub distance: Length,
    /// How far the user's line stays from the base station sideways; at least 10 m.
    pub street_offset: Length,
    /// The user's speed.
    pub speed: Speed,
    /// Height of the base station's antenna.
    pub base_height: Length,
    /// Height of the user's antenna, 1.5 m to 22.5 m.
    pub user_height: Length,
    /// Whether buildings stand in between.
    pub sight: Sight,
    /// Transmit power of the base station, antenna gains included.
    pub base_power: PowerLevel,
    /// Transmit power of the user, antenna gains included.
    pub user_power: PowerLevel,
    /// Noise figure of the base station's receiver.
    pub base_noise_figure: Ratio,
    /// Noise figure of the user's receiver.
    pub user_noise_figure: Ratio,
    /// How far interference lifts the noise in the downlink.
    pub downlink_interference: Ratio,
    /// How far interference lifts the noise in the uplink.
    pub uplink_interference: Ratio,
    /// Share of Shannon's capacity that the link reaches.
    pub efficiency: Share,
    /// Highest spectral efficiency.
    pub efficiency_cap: SpectralEfficiency,
    /// Signal to interference and noise ratio below which nothing gets through.
    pub lowest_sinr: Ratio,
    /// Standard deviation of the shadowing.
    pub shadowing: Ratio,
    /// Distance over which the shadowing's correlation falls to 1/e.
    pub shadowing_distance: Length,
    /// When the blocker stands fully in the path.
    pub blocker_at: TimeSpan,
    /// How long it stays fully in the path; `0 s` means no blocker.
    pub blocker_length: TimeSpan,
    /// How long it takes to move in before and out after that; the loss in dB changes linearly.
    pub blocker_edge: TimeSpan,
    /// What it takes from the signal while fully in the path.
    pub blocker_loss: Ratio,
    /// One-way delay of the downlink.
    pub downlink_delay: TimeSpan,
    /// One-way delay of the uplink; it waits for a scheduling grant too.
    pub uplink_delay: TimeSpan,
    /// Half-width of the uniform jitter added to both delays.
    pub jitter: TimeSpan,
    /// Queue before the bottleneck, each way.
    pub queue: ByteSize,
}

const fn millis(ms: u64) -> TimeSpan {
    TimeSpan::from_millis(ms)
}

const fn metres(m: u64) -> Length {
    Length { mm: m * 1_000 }
}

const fn db(db: i32) -> Ratio {
    Ratio { centi_db: db * 100 }
}

const fn percent(percent: u32) -> Share {
    Share::from_ppb(percent * 10_000_000)
}

impl Default for StreetSettings {
    fn default() -> StreetSettings {
        StreetSettings {
            duration: millis(20_000),
            step: millis(10),
            end: EndPolicy::Hold,
            carrier: Frequency { hz: 7_000_000_000 },
            bandwidth: Frequency { hz: 100_000_000 },
            downlink_share: percent(20),
            uplink_share: percent(8),
            distance: metres(120),
            street_offset: metres(10),
            speed: Speed {
                mm_per_h: 5_400_000,
            },
            base_height: metres(10),
            user_height: Length { mm: 1_500 },
            sight: Sight::Clear,
            base_power: PowerLevel { centi_dbm: 3_300 },
            user_power: PowerLevel { centi_dbm: 2_300 },
            base_noise_figure: db(5),
            user_noise_figure: db(9),
            downlink_interference: db(10),
            uplink_interference: db(6),
            efficiency: percent(60),
            efficiency_cap: SpectralEfficiency { milli: 7_400 },
            lowest_sinr: db(-6),
            shadowing: db(4),
            shadowing_distance: metres(10),
            blocker_at: millis(8_000),
            blocker_length: millis(2_500),
            blocker_edge: millis(100),
            blocker_loss: db(45),
            downlink_delay: millis(4),
            uplink_delay: millis(8),
            jitter: millis(0),
            queue: ByteSize { bytes: 300_000 },
        }
    }
}

impl StreetSettings {
    /// Every setting as text, for the trace's metadata.
    pub(super) fn resolved(&self) -> BTreeMap<String, String> {
        let Ok(serde_json::Value::Object(fields)) = serde_json::to_value(self) else {
            return BTreeMap::new();
        };
        let text = |value: serde_json::Value| match value {
            serde_json::Value::String(text) => text,
            other => other.to_string(),
        };
        fields
            .into_iter()
            .map(|(name, value)| (name, text(value)))
            .collect()
    }

    pub(super) fn check(&self) -> Result<(), TraceError> {
        let rows = self.duration.ns / self.step.ns.max(1);
        let ghz = 500_000_000_u64..=100_000_000_000;
        let fits_u32 = |value: u64| u32::try_from(value).is_ok();
        let rules: [(&'static str, bool, &str); 12] = [
            (
                "duration",
                self.duration.ns > 0,
                "must be longer than nothing",
            ),
            ("step", self.step.ns > 0, "must be longer than nothing"),
            (
                "step",
                rows < MOST_ROWS,
                "gives more than 10 million rows; take a longer step",
            ),
            (
                "carrier",
                ghz.contains(&self.carrier.hz),
                "must be from 0.5 GHz to 100 GHz",
            ),
            (
                "bandwidth",
                (1..=self.carrier.hz).contains(&self.bandwidth.hz),
                "must be more than nothing and at most the carrier",
            ),
            (
                "base_height",
                self.base_height.mm > 1_000,
                "must be more than 1 m",
            ),
            (
                "user_height",
                (1_500..=22_500).contains(&self.user_height.mm),
                "must be from 1.5 m to 22.5 m, where the path loss formula holds",
            ),
            (
                "street_offset",
                self.street_offset.mm >= 10_000,
                "must be at least 10 m, where the path loss formula holds",
            ),
            (
                "shadowing",
                self.shadowing.centi_db >= 0,
                "must not be negative",
            ),
            (
                "shadowing_distance",
                self.shadowing_distance.mm > 0,
                "must be more than nothing",
            ),
            (
                "jitter",
                fits_u32(self.jitter.ns),
                "must be less than 4.29 s",
            ),
            (
                "queue",
                fits_u32(self.queue.bytes),
                "must be less than 4.29 GB",
            ),
        ];
        match rules.into_iter().find(|(_, holds, _)| !holds) {
            Some((setting, _, problem)) => Err(TraceError::Generator {
                setting,
                problem: problem.to_owned(),
            }),
            None => Ok(()),
        }
    }
}
