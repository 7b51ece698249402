//! What a column is and its unit.

use super::super::RateUnit;
use crate::Direction;

/// What a column tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// When.
    Time,
    /// How fast.
    Rate(Direction),
    /// How long there and back.
    RoundTrip,
    /// How long one way.
    Delay(Direction),
    /// How much is lost.
    Loss(Direction),
    /// Signal to noise, in dB.
    Snr,
    /// The number of the serving cell.
    Cell,
}

/// In what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Second,
    Millisecond,
    Microsecond,
    Nanosecond,
    /// A civil date and time.
    Date,
    Bit,
    Kilobit,
    Megabit,
    /// Of 1.
    Share,
    /// Of 100.
    Percent,
    Decibel,
    /// A number without unit.
    Plain,
}

/// A column of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) role: Role,
    pub(super) name: String,
    pub(super) unit: Unit,
    /// Whether recordings without it are all right.
    pub(super) is_optional: bool,
}

const ROLES: [(&str, Role); 11] = [
    ("time", Role::Time),
    ("down", Role::Rate(Direction::Down)),
    ("up", Role::Rate(Direction::Up)),
    ("rtt", Role::RoundTrip),
    ("delay-down", Role::Delay(Direction::Down)),
    ("delay-up", Role::Delay(Direction::Up)),
    ("loss-down", Role::Loss(Direction::Down)),
    ("loss-up", Role::Loss(Direction::Up)),
    ("snr", Role::Snr),
    ("sinr", Role::Snr),
    ("cell", Role::Cell),
];

const TIMES: &[(&str, Unit)] = &[
    ("s", Unit::Second),
    ("ms", Unit::Millisecond),
    ("us", Unit::Microsecond),
    ("ns", Unit::Nanosecond),
    ("date", Unit::Date),
];
const RATES: &[(&str, Unit)] = &[
    ("bit/s", Unit::Bit),
    ("kbit/s", Unit::Kilobit),
    ("Mbit/s", Unit::Megabit),
];
const SHARES: &[(&str, Unit)] = &[("share", Unit::Share), ("%", Unit::Percent)];
const DECIBELS: &[(&str, Unit)] = &[("dB", Unit::Decibel)];

impl Role {
    fn units(self) -> &'static [(&'static str, Unit)] {
        match self {
            Role::Time => TIMES,
            // All but the date.
            Role::RoundTrip | Role::Delay(_) => &TIMES[..4],
            Role::Rate(_) => RATES,
            Role::Loss(_) => SHARES,
            Role::Snr => DECIBELS,
            Role::Cell => &[],
        }
    }
}

impl Unit {
    /// Nanoseconds of one; of a date none.
    pub(super) const fn nanoseconds(self) -> u32 {
        match self {
            Unit::Millisecond => 1_000_000,
            Unit::Microsecond => 1000,
            Unit::Nanosecond => 1,
            _ => 1_000_000_000,
        }
    }

    pub(super) const fn rate(self) -> RateUnit {
        match self {
            Unit::Kilobit => RateUnit::Kilobit,
            Unit::Megabit => RateUnit::Megabit,
            _ => RateUnit::Bit,
        }
    }

    /// What is everything.
    pub(super) const fn whole(self) -> u32 {
        match self {
            Unit::Percent => 100,
            _ => 1,
        }
    }
}

impl Column {
    /// Reads `NAME:UNIT` of a role; rates, times, delays and losses need their unit.
    pub(super) fn read(role: &str, text: &str) -> Result<Column, String> {
        let known = || ROLES.map(|(name, _)| name).join(", ");
        let &(_, role) = ROLES
            .iter()
            .find(|(name, _)| *name == role)
            .ok_or_else(|| format!("--column {role}={text}: expected one of {}", known()))?;
        let units = role.units();
        let (name, unit) = match text.rsplit_once(':') {
            Some((name, unit)) => (name, units.iter().find(|(known, _)| *known == unit)),
            None => (text, None),
        };
        let unit = match (unit, role) {
            (Some((_, unit)), _) => Some((name, *unit)),
            // A name may hold colons itself.
            (None, Role::Snr) => Some((text, Unit::Decibel)),
            (None, Role::Cell) => Some((text, Unit::Plain)),
            (None, _) => None,
        };
        let (name, unit) = unit.ok_or_else(|| {
            let names: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
            format!(
                "--column {text}: expected NAME:UNIT with one of the units {}",
                names.join(", ")
            )
        })?;
        Ok(Column {
            role,
            name: name.to_owned(),
            unit,
            is_optional: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_column_is_named_with_its_unit() {
        let read = |role, text| Column::read(role, text);
        let down = read("down", "DL: rate:kbit/s").unwrap();
        assert_eq!((down.name.as_str(), down.unit), ("DL: rate", Unit::Kilobit));
        assert_eq!(read("snr", "a:b").unwrap().name, "a:b");
        assert_eq!(read("time", "t:date").unwrap().unit, Unit::Date);
        for (role, text) in [
            ("down", "rate"),
            ("down", "rate:ms"),
            ("rtt", "rtt:date"),
            ("speed", "v:m/s"),
        ] {
            assert!(read(role, text).is_err(), "{role} {text}");
        }
    }
}
