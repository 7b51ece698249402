//! The columns of a trace file: their names, what they may hold, how they are written.

use crate::state::{LARGEST_PPB, SMALLEST_BURST_MILLI};
use crate::{Direction, LinkState, TraceRow, UNLIMITED_RATE_BPS};

/// One column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    Time,
    Link(Direction, Field),
    Sinr,
    Mcs,
    Cell,
    Los,
    Blocked,
    Elevation,
    Event,
}

/// One quantity of a link's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Field {
    Rate,
    Delay,
    Jitter,
    Loss,
    LossBurst,
    Duplicates,
    Corruption,
    Queue,
}

const FIELDS: [(Field, &str); 8] = [
    (Field::Rate, "rate_bps"),
    (Field::Delay, "delay_ns"),
    (Field::Jitter, "jitter_ns"),
    (Field::Loss, "loss_ppb"),
    (Field::LossBurst, "loss_burst_milli"),
    (Field::Duplicates, "dup_ppb"),
    (Field::Corruption, "corrupt_ppb"),
    (Field::Queue, "queue_bytes"),
];

/// What a number that does not fit was expected to be.
type Expected = &'static str;

const WHOLE_U64: Expected = "a whole number from 0 to 18446744073709551615";
const WHOLE_U32: Expected = "a whole number from 0 to 4294967295";

impl Column {
    /// Every column, in the order in which they are written.
    pub(super) fn all() -> impl Iterator<Item = Column> {
        let links = Direction::BOTH.into_iter().flat_map(|direction| {
            FIELDS
                .into_iter()
                .map(move |(field, _)| Column::Link(direction, field))
        });
        std::iter::once(Column::Time).chain(links).chain([
            Column::Sinr,
            Column::Mcs,
            Column::Cell,
            Column::Los,
            Column::Blocked,
            Column::Elevation,
            Column::Event,
        ])
    }

    pub(super) fn name(self) -> String {
        match self {
            Column::Time => "t_ns".to_owned(),
            Column::Link(direction, field) => {
                let name = FIELDS
                    .iter()
                    .find(|(known, _)| *known == field)
                    .map_or("", |f| f.1);
                format!("{}_{name}", direction.name())
            }
            Column::Sinr => "sinr_cdb".to_owned(),
            Column::Mcs => "mcs".to_owned(),
            Column::Cell => "cell_id".to_owned(),
            Column::Los => "los".to_owned(),
            Column::Blocked => "blocked".to_owned(),
            Column::Elevation => "elevation_cdeg".to_owned(),
            Column::Event => "event".to_owned(),
        }
    }

    /// The unit of its values; 1 where they are counts or names.
    pub(super) const fn unit(self) -> &'static str {
        match self {
            Column::Time | Column::Link(_, Field::Delay | Field::Jitter) => "ns",
            Column::Link(_, Field::Rate) => "bit/s of IP packets",
            Column::Link(_, Field::Loss | Field::Duplicates | Field::Corruption) => "10^-9",
            Column::Link(_, Field::LossBurst) => "10^-3 packets",
            Column::Link(_, Field::Queue) => "byte",
            Column::Sinr => "10^-2 dB",
            Column::Elevation => "10^-2 degrees",
            Column::Mcs | Column::Cell | Column::Los | Column::Blocked | Column::Event => "1",
        }
    }

    /// The column of that name; the error lists those that there are.
    pub(super) fn named(name: &str) -> Result<Column, String> {
        Column::all()
            .find(|column| column.name() == name)
            .ok_or_else(|| {
                let shown: String = name.chars().take(40).collect();
                let known: Vec<String> = Column::all().map(Column::name).collect();
                format!(
                    "unknown column `{shown}`; the columns are {}",
                    known.join(", ")
                )
            })
    }

    pub(super) const fn is_required(self) -> bool {
        matches!(self, Column::Time | Column::Link(_, Field::Rate))
    }

    /// Reads one field into its place in the row; the error says what was expected.
    pub(super) fn read(self, row: &mut TraceRow, text: &str) -> Result<(), Expected> {
        match self {
            Column::Time => row.t_ns = whole(text).ok_or(WHOLE_U64)?,
            Column::Link(direction, field) => {
                let state = match direction {
                    Direction::Down => &mut row.down,
                    Direction::Up => &mut row.up,
                };
                field.read(state, text)?;
            }
            Column::Sinr => {
                let expected = "hundredths of a decibel as a whole number, or nothing";
                row.diagnostics.sinr_cdb = known(text, expected)?;
            }
            Column::Mcs => {
                row.diagnostics.mcs = known(text, "a whole number from 0 to 255, or nothing")?;
            }
            Column::Cell => {
                let expected = "a whole number from 0 to 4294967295, or nothing";
                row.diagnostics.cell_id = known(text, expected)?;
            }
            Column::Elevation => {
                let expected = "hundredths of a degree as a whole number, or nothing";
                row.diagnostics.elevation_cdeg = known(text, expected)?;
            }
            Column::Los => row.diagnostics.los = flag(text)?,
            Column::Blocked => row.diagnostics.blocked = flag(text)?,
            Column::Event => {
                row.diagnostics.event = if text.is_empty() {
                    None
                } else if crate::state::is_event_name(text) {
                    Some(text.to_owned())
                } else {
                    return Err(crate::state::EVENT_NAME_RULE);
                };
            }
        }
        Ok(())
    }
}

impl Field {
    fn read(self, state: &mut LinkState, text: &str) -> Result<(), Expected> {
        match self {
            Field::Rate => {
                state.rate_bps = if text == "max" {
                    UNLIMITED_RATE_BPS
                } else {
                    let expected = "bits per second as a whole number (0 is an outage), or `max`";
                    whole(text).ok_or(expected)?
                };
            }
            Field::Delay => state.delay_ns = whole(text).ok_or(WHOLE_U64)?,
            Field::Jitter => state.jitter_ns = whole_u32(text).ok_or(WHOLE_U32)?,
            Field::Loss => state.loss_ppb = share(text)?,
            Field::LossBurst => {
                let expected = "thousandths of a packet, 1000 (independent loss) or more";
                let burst = whole_u32(text).filter(|&burst| burst >= SMALLEST_BURST_MILLI);
                state.loss_burst_milli = burst.ok_or(expected)?;
            }
            Field::Duplicates => state.dup_ppb = share(text)?,
            Field::Corruption => state.corrupt_ppb = share(text)?,
            Field::Queue => state.queue_bytes = whole_u32(text).ok_or(WHOLE_U32)?,
        }
        Ok(())
    }
}

fn whole(text: &str) -> Option<u64> {
    // Rust would also take a leading `+`.
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

/// A number that may be missing.
fn known<T: std::str::FromStr>(text: &str, expected: Expected) -> Result<Option<T>, Expected> {
    if text.is_empty() {
        return Ok(None);
    }
    let written = !text.starts_with('+');
    let value = written.then(|| text.parse().ok()).flatten();
    value.map(Some).ok_or(expected)
}

fn whole_u32(text: &str) -> Option<u32> {
    u32::try_from(whole(text)?).ok()
}

fn share(text: &str) -> Result<u32, Expected> {
    whole_u32(text)
        .filter(|&ppb| ppb <= LARGEST_PPB)
        .ok_or("parts per 10^9, a whole number from 0 to 1000000000")
}

fn flag(text: &str) -> Result<Option<bool>, Expected> {
    match text {
        "" => Ok(None),
        "0" => Ok(Some(false)),
        "1" => Ok(Some(true)),
        _ => Err("0, 1 or nothing"),
    }
}

impl Column {
    /// Appends the field of `row` as it is written.
    pub(super) fn write(self, row: &TraceRow, text: &mut Vec<u8>) {
        let diagnostics = &row.diagnostics;
        match self {
            Column::Time => push_whole(text, row.t_ns),
            Column::Link(direction, field) => {
                let state = row.direction(direction);
                match field {
                    Field::Rate if state.rate_bps == UNLIMITED_RATE_BPS => {
                        text.extend_from_slice(b"max");
                    }
                    Field::Rate => push_whole(text, state.rate_bps),
                    Field::Delay => push_whole(text, state.delay_ns),
                    Field::Jitter => push_whole(text, state.jitter_ns.into()),
                    Field::Loss => push_whole(text, state.loss_ppb.into()),
                    Field::LossBurst => push_whole(text, state.loss_burst_milli.into()),
                    Field::Duplicates => push_whole(text, state.dup_ppb.into()),
                    Field::Corruption => push_whole(text, state.corrupt_ppb.into()),
                    Field::Queue => push_whole(text, state.queue_bytes.into()),
                }
            }
            Column::Sinr => push_known(text, diagnostics.sinr_cdb),
            Column::Mcs => push_known(text, diagnostics.mcs),
            Column::Cell => push_known(text, diagnostics.cell_id),
            Column::Los => push_known(text, diagnostics.los),
            Column::Blocked => push_known(text, diagnostics.blocked),
            Column::Elevation => push_known(text, diagnostics.elevation_cdeg),
            Column::Event => {
                text.extend_from_slice(diagnostics.event.as_deref().unwrap_or("").as_bytes());
            }
        }
    }

    /// Reads one field as nearly all are written. `None` leaves it to [`Column::read`] to say
    /// what is wrong or unusual about it.
    pub(super) fn read_plain(self, row: &mut TraceRow, field: &[u8]) -> Option<()> {
        match self {
            Column::Time => row.t_ns = plain(field)?,
            Column::Link(direction, kind) => {
                let state = match direction {
                    Direction::Down => &mut row.down,
                    Direction::Up => &mut row.up,
                };
                match kind {
                    Field::Rate if field == b"max" => state.rate_bps = UNLIMITED_RATE_BPS,
                    Field::Rate => state.rate_bps = plain(field)?,
                    Field::Delay => state.delay_ns = plain(field)?,
                    Field::Jitter => state.jitter_ns = u32::try_from(plain(field)?).ok()?,
                    Field::Queue => state.queue_bytes = u32::try_from(plain(field)?).ok()?,
                    Field::Loss => state.loss_ppb = plain_share(field)?,
                    Field::Duplicates => state.dup_ppb = plain_share(field)?,
                    Field::Corruption => state.corrupt_ppb = plain_share(field)?,
                    Field::LossBurst => {
                        let burst = u32::try_from(plain(field)?).ok()?;
                        state.loss_burst_milli =
                            (burst >= SMALLEST_BURST_MILLI).then_some(burst)?;
                    }
                }
            }
            _ if field.is_empty() => {}
            Column::Los | Column::Blocked => {
                let flag = match field {
                    b"0" => false,
                    b"1" => true,
                    _ => return None,
                };
                match self {
                    Column::Los => row.diagnostics.los = Some(flag),
                    _ => row.diagnostics.blocked = Some(flag),
                }
            }
            _ => self.read(row, std::str::from_utf8(field).ok()?).ok()?,
        }
        Some(())
    }
}

/// A whole number of at most 19 digits, which cannot overflow.
fn plain(field: &[u8]) -> Option<u64> {
    if field.is_empty() || field.len() > 19 {
        return None;
    }
    let mut value = 0_u64;
    for &byte in field {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = value * 10 + u64::from(digit);
    }
    Some(value)
}

fn plain_share(field: &[u8]) -> Option<u32> {
    let ppb = u32::try_from(plain(field)?).ok()?;
    (ppb <= LARGEST_PPB).then_some(ppb)
}

fn push_whole(text: &mut Vec<u8>, mut value: u64) {
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        // The remainder is a digit.
        digits[start] = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
        if value == 0 {
            break;
        }
    }
    text.extend_from_slice(&digits[start..]);
}

fn push_known<T: Into<i64>>(text: &mut Vec<u8>, value: Option<T>) {
    let Some(value) = value.map(Into::into) else {
        return;
    };
    if value < 0 {
        text.push(b'-');
    }
    push_whole(text, value.unsigned_abs());
}
