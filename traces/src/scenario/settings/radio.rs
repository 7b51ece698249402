//! Carrier, powers, slots: what the air interface is set to.

use serde::{Deserialize, Serialize};

use super::{Problems, expect};
use crate::Direction;
use crate::phy::{DuplexPattern, McsTable, Numerology, RadioSettings, UplinkAccess};
use crate::units::{Frequency, PowerLevel, Ratio, Share, TimeSpan};

/// Who decides which user of a cell gets what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum SchedulerName {
    /// Whoever is better off than usual, in each part of the band.
    #[default]
    #[serde(rename = "proportional-fair", alias = "pf")]
    ProportionalFair,
    /// Everybody by turns.
    #[serde(rename = "round-robin", alias = "rr")]
    RoundRobin,
}

/// The air interface between user and base station.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RadioLink {
    /// Carrier frequency.
    pub carrier: Frequency,
    /// Bandwidth of the carrier.
    pub bandwidth: Frequency,
    /// Numerology mu of TS 38.211: subcarriers are 15 kHz x 2^mu apart, slots 1 ms / 2^mu long.
    pub numerology: u8,
    /// Whose the slots are: `D`, `S` and `U` for time division, or `FDD`.
    #[serde(default = "usual_duplex")]
    pub duplex: String,
    /// Transmit power of a cell over the whole carrier, without antenna gain.
    pub base_power: PowerLevel,
    /// Transmit power of the user.
    #[serde(default = "usual_user_power")]
    pub user_power: PowerLevel,
    /// What beams add to the gain of the cell's antenna element.
    #[serde(default = "no_gain")]
    pub base_beam_gain: Ratio,
    /// Gain of the user's antenna.
    #[serde(default = "no_gain")]
    pub user_gain: Ratio,
    /// Of the base station's receiver.
    #[serde(default = "usual_base_noise_figure")]
    pub base_noise_figure: Ratio,
    /// Of the user's receiver.
    #[serde(default = "usual_user_noise_figure")]
    pub user_noise_figure: Ratio,
    /// How far the users of other cells lift the noise in the uplink.
    #[serde(default = "usual_uplink_interference")]
    pub uplink_interference: Ratio,
    /// MCS table of TS 38.214, 1 to 4.
    #[serde(default = "usual_table")]
    pub mcs_table: u8,
    /// Most layers of the downlink.
    #[serde(default = "usual_rank")]
    pub downlink_layers: u8,
    /// Most layers of the uplink.
    #[serde(default = "usual_uplink_rank")]
    pub uplink_layers: u8,
    /// Receive antennas of the user whose signals are combined.
    #[serde(default = "usual_branches")]
    pub receive_branches: u8,
    /// Other users of the cell.
    #[serde(default)]
    pub background_users: u32,
    /// The share of time for which each of them has something to send.
    #[serde(default = "usual_activity")]
    pub background_activity: Share,
    /// How long, on average, each of them then has something to send.
    #[serde(default = "usual_burst")]
    pub background_burst: TimeSpan,
    /// Who decides which of the cell's users gets what: `proportional-fair` or `round-robin`.
    #[serde(default)]
    pub scheduler: SchedulerName,
    /// Whether the uplink is granted all the time, and need not be asked for.
    #[serde(default)]
    pub configured_grant: bool,
    /// Time between channel reports, as long as two of them old when used.
    #[serde(default = "usual_report_period")]
    pub report_period: TimeSpan,
    /// Half-power width of the cell's beam in degrees; without it the beam always points right.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beam_width_deg: Option<f64>,
    /// How often the beam is pointed anew.
    #[serde(default = "usual_beam_period")]
    pub beam_period: TimeSpan,
    /// One-way delay between the base station and the edge server.
    #[serde(default = "usual_core_delay")]
    pub core_delay: TimeSpan,
}

fn usual_duplex() -> String {
    "DDDSU".to_owned()
}
const fn usual_user_power() -> PowerLevel {
    PowerLevel { centi_dbm: 2_300 }
}
const fn no_gain() -> Ratio {
    Ratio { centi_db: 0 }
}
const fn usual_base_noise_figure() -> Ratio {
    Ratio { centi_db: 500 }
}
const fn usual_user_noise_figure() -> Ratio {
    Ratio { centi_db: 900 }
}
const fn usual_uplink_interference() -> Ratio {
    Ratio { centi_db: 300 }
}
const fn usual_table() -> u8 {
    2
}
const fn usual_rank() -> u8 {
    2
}
const fn usual_uplink_rank() -> u8 {
    1
}
const fn usual_branches() -> u8 {
    2
}
const fn usual_activity() -> Share {
    Share::ONE
}
const fn usual_burst() -> TimeSpan {
    TimeSpan::from_millis(1_000)
}
const fn usual_report_period() -> TimeSpan {
    TimeSpan::from_millis(10)
}
const fn usual_beam_period() -> TimeSpan {
    TimeSpan::from_millis(80)
}
const fn usual_core_delay() -> TimeSpan {
    TimeSpan::from_millis(2)
}

impl RadioLink {
    /// Subcarrier spacing and slot length.
    ///
    /// # Errors
    /// A numerology that NR does not have, in words.
    pub fn numerology(&self) -> Result<Numerology, String> {
        Numerology::new(self.numerology).map_err(|error| error.to_string())
    }

    /// Whose the slots are.
    ///
    /// # Errors
    /// A pattern that cannot be, in words.
    pub fn pattern(&self) -> Result<DuplexPattern, String> {
        if self.duplex.eq_ignore_ascii_case("fdd") {
            return Ok(DuplexPattern::frequency_division());
        }
        DuplexPattern::time_division(&self.duplex, 10, 2).map_err(|error| error.to_string())
    }

    /// The table of coding schemes.
    ///
    /// # Errors
    /// A table that TS 38.214 does not have, in words.
    pub fn table(&self) -> Result<McsTable, String> {
        McsTable::of_number(u64::from(self.mcs_table)).map_err(|error| error.to_string())
    }

    /// What link adaptation needs of it in one direction.
    ///
    /// # Errors
    /// A numerology, pattern or table that cannot be, in words.
    pub fn adapter_settings(&self, direction: Direction) -> Result<RadioSettings, String> {
        let (numerology, pattern) = (self.numerology()?, self.pattern()?);
        let mut settings =
            RadioSettings::new(direction, numerology, pattern).with_bandwidth(self.bandwidth.hz);
        settings.mcs_table = self.table()?;
        settings.maximum_rank = match direction {
            Direction::Down => self.downlink_layers,
            Direction::Up => self.uplink_layers,
        };
        let slots = (self.report_period.ns / numerology.slot_ns()).clamp(1, 100_000);
        let slots = u32::try_from(slots).unwrap_or(1);
        settings.reports.period_slots = slots;
        settings.reports.age_slots = slots;
        if self.configured_grant {
            let period = settings.pattern.period();
            settings.timing.uplink_access = UplinkAccess::ConfiguredGrant {
                period_slots: u32::try_from(period).unwrap_or(1),
            };
        }
        Ok(settings)
    }

    pub(crate) fn problems(&self, found: &mut Problems) {
        if let Err(problem) = self.numerology() {
            found.push(("radio.numerology".to_owned(), problem));
        }
        if let Err(problem) = self.pattern() {
            found.push(("radio.duplex".to_owned(), problem));
        }
        if let Err(problem) = self.table() {
            found.push(("radio.mcs_table".to_owned(), problem));
        }
        let carrier = (500_000_000..=1_000_000_000_000).contains(&self.carrier.hz);
        expect(found, carrier, "radio.carrier", "0.5 GHz to 1 THz");
        let bandwidth = self.bandwidth.hz >= 1_000_000 && self.bandwidth.hz < self.carrier.hz;
        expect(
            found,
            bandwidth,
            "radio.bandwidth",
            "1 MHz to less than the carrier",
        );
        for (key, layers) in [
            ("radio.downlink_layers", self.downlink_layers),
            ("radio.uplink_layers", self.uplink_layers),
        ] {
            expect(found, (1..=4).contains(&layers), key, "1 to 4 layers");
        }
        let branches = (1..=8).contains(&self.receive_branches);
        expect(found, branches, "radio.receive_branches", "1 to 8 antennas");
        let others = self.background_users <= 1_000;
        expect(
            found,
            others,
            "radio.background_users",
            "at most 1000 other users",
        );
        let width = self
            .beam_width_deg
            .is_none_or(|width| width > 0.1 && width <= 180.0);
        expect(found, width, "radio.beam_width_deg", "0.1 to 180 degrees");
        let periods = [
            ("radio.report_period", self.report_period),
            ("radio.beam_period", self.beam_period),
            ("radio.background_burst", self.background_burst),
        ];
        for (key, period) in periods {
            let sane = (100_000..=10_000_000_000).contains(&period.ns);
            expect(found, sane, key, "100 us to 10 s");
        }
        let near = self.core_delay.ns <= 10_000_000_000;
        expect(found, near, "radio.core_delay", "at most 10 s");
    }
}
