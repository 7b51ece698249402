//! What the columns of well-known datasets are.

use super::super::{ImportOptions, Missing};
use super::map::{Column, Role, Unit};
use crate::Direction;

/// A dataset's columns. Names and units are those of its authors.
#[derive(Debug)]
pub(in super::super) struct Preset {
    pub(super) name: &'static str,
    /// Columns by which a file is known for this dataset's.
    pub(super) signature: &'static [&'static str],
    pub(super) missing: Missing,
    /// The column that tells runs apart, each of which has a time of its own.
    pub(super) run: Option<&'static str>,
    columns: &'static [(Role, &'static str, Unit, Need)],
    notes: &'static [&'static str],
}

/// Whether a dataset's files always have a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Always,
    Sometimes,
}

use Need::{Always, Sometimes};

const DOWN: Role = Role::Rate(Direction::Down);
const UP: Role = Role::Rate(Direction::Up);

/// Any table.
pub(in super::super) const GENERIC: Preset = Preset {
    name: "table",
    signature: &[],
    missing: Missing::DashOrMinusOne,
    run: None,
    columns: &[],
    notes: &[],
};

/// D. Raca et al., "Beyond throughput, the next generation: a 5G dataset with channel and context
/// metrics", MMSys 2020.
pub(in super::super) const UCC_5G: Preset = Preset {
    name: "ucc-5g",
    signature: &["Timestamp", "DL_bitrate", "UL_bitrate", "NetworkMode"],
    missing: Missing::Dash,
    run: None,
    columns: &[
        (Role::Time, "Timestamp", Unit::Date, Always),
        (DOWN, "DL_bitrate", Unit::Kilobit, Always),
        (UP, "UL_bitrate", Unit::Kilobit, Always),
        (Role::RoundTrip, "PINGAVG", Unit::Millisecond, Sometimes),
        (Role::Snr, "SNR", Unit::Decibel, Sometimes),
        (Role::Cell, "RAWCELLID", Unit::Plain, Sometimes),
    ],
    notes: &["rates are what an application used, not what the link could have carried"],
};

/// A. Narayanan et al., "Lumos5G: Mapping and predicting commercial mmWave 5G throughput", IMC
/// 2020.
pub(in super::super) const LUMOS5G: Preset = Preset {
    name: "lumos5g",
    signature: &["run_num", "seq_num", "Throughput", "nrStatus"],
    missing: Missing::Dash,
    run: Some("run_num"),
    columns: &[
        (Role::Time, "seq_num", Unit::Second, Always),
        (DOWN, "Throughput", Unit::Megabit, Always),
        (Role::Snr, "nr_ssSinr", Unit::Decibel, Sometimes),
        (Role::Cell, "tower_id", Unit::Plain, Sometimes),
    ],
    notes: &[],
};

/// B. Hu et al., "LEO satellite vs. cellular networks", CoNEXT 2023, recorded with 5GTracker.
pub(in super::super) const SATELLITE_VS_CELLULAR: Preset = Preset {
    name: "5gtracker",
    signature: &["time", "throughput", "area_type"],
    missing: Missing::DashOrMinusOne,
    run: None,
    columns: &[
        (Role::Time, "time", Unit::Date, Always),
        (DOWN, "throughput", Unit::Megabit, Always),
    ],
    notes: &[],
};

/// LEONetEM's tables of pings.
pub(in super::super) const STARLINK_RTT: Preset = Preset {
    name: "starlink-rtt",
    signature: &["timestamp", "relative", "rtt"],
    missing: Missing::DashOrMinusOne,
    run: None,
    columns: &[
        (Role::Time, "timestamp", Unit::Second, Always),
        (Role::RoundTrip, "rtt", Unit::Millisecond, Always),
    ],
    notes: &[],
};

/// LENS: a LEO satellite network measurement dataset, MMSys 2024.
pub(in super::super) const LENS: Preset = Preset {
    name: "lens-irtt",
    signature: &["timestamp", "rtt", "uplink", "downlink"],
    missing: Missing::DashOrMinusOne,
    run: None,
    columns: &[
        (Role::Time, "timestamp", Unit::Nanosecond, Always),
        (Role::RoundTrip, "rtt", Unit::Millisecond, Always),
    ],
    notes: &[
        "delays are halves of round trips: the one-way times of the recording need clocks that \
         agree",
    ],
};

impl Preset {
    /// Its columns, with those that the options name in their place.
    pub(super) fn columns(&self, options: &ImportOptions) -> Result<Vec<Column>, String> {
        let told: Vec<Column> = options
            .columns
            .iter()
            .map(|(role, text)| Column::read(role, text))
            .collect::<Result<_, _>>()?;
        let own = self
            .columns
            .iter()
            .filter(|(role, ..)| told.iter().all(|column| column.role != *role))
            .map(|&(role, name, unit, need)| Column {
                // One rate that is the other direction's, as told.
                role: match role {
                    DOWN if !self.has_both() => Role::Rate(options.direction),
                    role => role,
                },
                name: name.to_owned(),
                unit,
                is_optional: need == Sometimes,
            });
        let mut columns: Vec<Column> = own.collect();
        columns.extend(told);
        if columns.iter().all(|column| column.role == Role::Time) {
            return Err(
                "nothing says what the columns are; say so as in --column time=timestamp:s \
                 --column down=rate:Mbit/s"
                    .to_owned(),
            );
        }
        Ok(columns)
    }

    fn has_both(&self) -> bool {
        self.columns.iter().any(|(role, ..)| *role == UP)
    }

    pub(super) fn notes(&self) -> Vec<String> {
        self.notes.iter().map(|note| (*note).to_owned()).collect()
    }
}
