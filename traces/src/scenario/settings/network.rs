//! Where cells stand and when the user is handed over.

use serde::{Deserialize, Serialize};

use super::{Problems, expect};
use crate::network::{
    A3, ConnectionSettings, HandoverKind, Layout, LayoutKind, RadioLinkSettings, SectorAntenna,
};
use crate::units::{Length, Ratio, Share, TimeSpan};

/// How sites are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayoutName {
    /// One site at the origin.
    #[default]
    Single,
    /// Sites beside the x axis.
    Line,
    /// Rings of sites, with wrap-around.
    Hexagonal,
}

/// The sites and their antennas.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkSettings {
    /// How sites are laid out.
    pub layout: LayoutName,
    /// Sites of a line.
    pub sites: u32,
    /// Rings of a hexagonal layout.
    pub rings: u32,
    /// Distance between neighbouring sites.
    pub distance: Length,
    /// How far the sites of a line stand beside the x axis.
    pub offset: Length,
    /// Sectors of a site, 1 (in all directions) or 3.
    pub sectors: u32,
    /// Height of the antennas; by default the scenario's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<Length>,
    /// How far the sectors point below the horizon, in degrees.
    pub downtilt_deg: f64,
    /// Gain of an antenna that is no sector's.
    pub antenna_gain: Ratio,
    /// The share of its time for which each other cell transmits.
    pub load: Share,
    /// How long, on average, another cell transmits in one go; with 0 s each disturbs all the time
    /// with its share of power.
    pub load_burst: TimeSpan,
}

impl Default for NetworkSettings {
    fn default() -> NetworkSettings {
        NetworkSettings {
            layout: LayoutName::Single,
            sites: 3,
            rings: 1,
            distance: Length { mm: 200_000 },
            offset: Length { mm: 10_000 },
            sectors: 1,
            height: None,
            downtilt_deg: 8.0,
            antenna_gain: Ratio { centi_db: 500 },
            load: Share::from_ppb(500_000_000),
            load_burst: TimeSpan::from_millis(20),
        }
    }
}

impl NetworkSettings {
    /// The layout, with antennas at `height_m` unless the file says otherwise.
    #[must_use]
    pub fn layout(&self, height_m: f64) -> Layout {
        let height_m = self.height.map_or(height_m, Length::as_metres_f64);
        let distance_m = self.distance.as_metres_f64();
        let kind = match self.layout {
            LayoutName::Single => LayoutKind::Single,
            LayoutName::Line => LayoutKind::Line {
                count: self.sites,
                distance_m,
                offset_m: self.offset.as_metres_f64(),
            },
            LayoutName::Hexagonal => LayoutKind::Hexagonal {
                rings: self.rings,
                distance_m,
            },
        };
        let antenna = if self.sectors == 3 {
            SectorAntenna::sector(self.downtilt_deg)
        } else {
            SectorAntenna::omnidirectional(self.antenna_gain.as_db_f64())
        };
        Layout::new(kind, height_m, self.sectors, antenna)
    }

    pub(in crate::scenario) fn problems(&self, found: &mut Problems) {
        let sectors = matches!(self.sectors, 1 | 3);
        expect(found, sectors, "network.sectors", "1 or 3 sectors");
        let sites = (1..=1_000).contains(&self.sites);
        expect(found, sites, "network.sites", "1 to 1000 sites");
        expect(
            found,
            self.rings <= 3,
            "network.rings",
            "at most 3 rings (37 sites)",
        );
        let distance = (1_000..=100_000_000).contains(&self.distance.mm);
        expect(found, distance, "network.distance", "1 m to 100 km");
        let burst =
            self.load_burst.ns == 0 || (100_000..=1_000_000_000_000).contains(&self.load_burst.ns);
        expect(
            found,
            burst,
            "network.load_burst",
            "0 s, or 100 us to 1000 s",
        );
        let tilt = (-90.0..=90.0).contains(&self.downtilt_deg);
        expect(found, tilt, "network.downtilt_deg", "-90 to 90 degrees");
    }
}

/// When and how the user is handed over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HandoverSettings {
    /// Whether data flow meanwhile: dual active protocol stacks.
    pub daps: bool,
    /// Whether the user has its command beforehand and goes by itself: conditional handover.
    pub conditional: bool,
    /// Offset of event A3.
    pub offset: Ratio,
    /// Hysteresis of event A3.
    pub hysteresis: Ratio,
    /// Time to trigger.
    pub time_to_trigger: TimeSpan,
    /// Coefficient k of the layer 3 filter.
    pub filter_k: u32,
    /// Time between measurements.
    pub measurement_period: TimeSpan,
    /// From the report to the command.
    pub preparation: TimeSpan,
    /// How long data are interrupted.
    pub interruption: TimeSpan,
    /// Below this SINR the link is out of sync.
    pub q_out: Ratio,
    /// Above this SINR it is in sync again.
    pub q_in: Ratio,
    /// How long it may be out of sync.
    pub t310: TimeSpan,
    /// From a failure until data flow again.
    pub reestablishment: TimeSpan,
}

impl Default for HandoverSettings {
    fn default() -> HandoverSettings {
        HandoverSettings {
            daps: false,
            conditional: false,
            offset: Ratio { centi_db: 200 },
            hysteresis: Ratio { centi_db: 100 },
            time_to_trigger: TimeSpan::from_millis(160),
            filter_k: 4,
            measurement_period: TimeSpan::from_millis(40),
            preparation: TimeSpan::from_millis(50),
            interruption: TimeSpan::from_millis(80),
            q_out: Ratio { centi_db: -800 },
            q_in: Ratio { centi_db: -600 },
            t310: TimeSpan::from_millis(1_000),
            reestablishment: TimeSpan::from_millis(300),
        }
    }
}

impl HandoverSettings {
    /// The same for the network module.
    #[must_use]
    pub fn connection(&self) -> ConnectionSettings {
        ConnectionSettings {
            a3: A3 {
                offset_db: self.offset.as_db_f64(),
                hysteresis_db: self.hysteresis.as_db_f64(),
                time_to_trigger_ns: self.time_to_trigger.ns,
            },
            filter_k: self.filter_k,
            measurement_period_ns: self.measurement_period.ns,
            preparation_ns: self.preparation.ns,
            interruption_ns: self.interruption.ns,
            kind: match (self.daps, self.conditional) {
                (true, _) => HandoverKind::Daps,
                (false, true) => HandoverKind::Conditional,
                (false, false) => HandoverKind::Legacy,
            },
            radio_link: RadioLinkSettings {
                q_out_db: self.q_out.as_db_f64(),
                q_in_db: self.q_in.as_db_f64(),
                t310_ns: self.t310.ns,
                ..RadioLinkSettings::default()
            },
            reestablishment_ns: self.reestablishment.ns,
        }
    }

    pub(in crate::scenario) fn problems(&self, found: &mut Problems) {
        expect(found, self.filter_k <= 19, "handover.filter_k", "0 to 19");
        let period = (1_000_000..=10_000_000_000).contains(&self.measurement_period.ns);
        expect(found, period, "handover.measurement_period", "1 ms to 10 s");
        let one = !(self.daps && self.conditional);
        expect(
            found,
            one,
            "handover.conditional",
            "not together with `daps`",
        );
        let order = self.q_out.centi_db < self.q_in.centi_db;
        expect(found, order, "handover.q_out", "below `q_in`");
    }
}
