//! What a link does at one moment, in one direction.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::losses::longer_burst_milli;
use crate::units::Share;

/// The rate that means "not limited".
pub const UNLIMITED_RATE_BPS: u64 = u64::MAX;

/// Which way bits flow on a link `between = [first, second]`.
///
/// `Up` goes from the first end (the user equipment) to the second (the network side).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// From the second end to the first.
    Down,
    /// From the first end to the second.
    Up,
}

impl Direction {
    /// Both directions, in the order of the file format.
    pub const BOTH: [Direction; 2] = [Direction::Down, Direction::Up];

    /// The name used in files and reports: `down` or `up`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Direction::Down => "down",
            Direction::Up => "up",
        }
    }

    /// The other direction.
    #[must_use]
    pub const fn reverse(self) -> Direction {
        match self {
            Direction::Down => Direction::Up,
            Direction::Up => Direction::Down,
        }
    }
}

/// The state of one direction of a link, constant until the next row of its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkState {
    /// Bits per second of IP packets (IP header included, Ethernet not). 0 is an outage,
    /// [`UNLIMITED_RATE_BPS`] no limit.
    pub rate_bps: u64,
    /// One-way delay without the link's own queue and serialisation, in nanoseconds.
    pub delay_ns: u64,
    /// Half-width of the uniform jitter added to `delay_ns`; packets stay in order.
    pub jitter_ns: u32,
    /// Residual packet loss, in parts per 10^9.
    pub loss_ppb: u32,
    /// Mean burst length of lost packets, in thousandths of a packet; 1000 is independent loss.
    pub loss_burst_milli: u32,
    /// Duplicated packets, in parts per 10^9.
    pub dup_ppb: u32,
    /// Packets with a flipped bit, in parts per 10^9.
    pub corrupt_ppb: u32,
    /// The queue before the bottleneck, in bytes of IP packets; 0 keeps the link's own setting.
    pub queue_bytes: u32,
}

impl LinkState {
    /// A link that neither limits, delays nor loses.
    pub const TRANSPARENT: LinkState = LinkState {
        rate_bps: UNLIMITED_RATE_BPS,
        delay_ns: 0,
        jitter_ns: 0,
        loss_ppb: 0,
        loss_burst_milli: 1000,
        dup_ppb: 0,
        corrupt_ppb: 0,
        queue_bytes: 0,
    };

    /// Whether it leaves every packet alone.
    #[must_use]
    pub const fn is_transparent(&self) -> bool {
        self.rate_bps == UNLIMITED_RATE_BPS
            && self.delay_ns == 0
            && self.jitter_ns == 0
            && self.loss_ppb == 0
            && self.dup_ppb == 0
            && self.corrupt_ppb == 0
    }
}

/// Why the link is in that state: what the generator knew. Never used for playback.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostics {
    /// Signal to interference and noise ratio of the downlink, in hundredths of a decibel.
    pub sinr_cdb: Option<i32>,
    /// Index of the downlink's modulation and coding scheme, in the table that the trace's
    /// configuration names.
    pub mcs: Option<u8>,
    /// The serving cell, beam or satellite, by the generator's or the recording's own number.
    pub cell_id: Option<u32>,
    /// Whether the direct path is clear of buildings.
    pub los: Option<bool>,
    /// Whether a blocker stands in the direct path.
    pub blocked: Option<bool>,
    /// The elevation of the serving satellite above the horizon, in hundredths of a degree.
    pub elevation_cdeg: Option<i32>,
    /// A named event that starts with this row, such as `outage`.
    pub event: Option<String>,
}

impl Diagnostics {
    /// Nothing is known.
    pub const UNKNOWN: Diagnostics = Diagnostics {
        sinr_cdb: None,
        mcs: None,
        cell_id: None,
        los: None,
        blocked: None,
        elevation_cdeg: None,
        event: None,
    };
}

/// The largest share: everything.
pub(crate) const LARGEST_PPB: u32 = 1_000_000_000;

/// The shortest mean burst of losses: one packet, which is independent loss.
pub(crate) const SMALLEST_BURST_MILLI: u32 = 1000;

/// How an event may be named.
pub(crate) const EVENT_NAME_RULE: &str =
    "a name of at most 64 letters, digits, `-`, `_` and `.`, such as `outage`";

/// Whether `name` may stand in a trace as the name of an event.
pub(crate) fn is_event_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=64).contains(&name.len()) && name.bytes().all(allowed)
}

impl LinkState {
    /// The first quantity that no link can have: its name, its value and what it may be.
    pub(crate) fn impossible(&self) -> Option<(&'static str, u32, Cow<'static, str>)> {
        let shares = [
            ("loss_ppb", self.loss_ppb),
            ("dup_ppb", self.dup_ppb),
            ("corrupt_ppb", self.corrupt_ppb),
        ];
        for (name, ppb) in shares {
            if ppb > LARGEST_PPB {
                return Some((name, ppb, "at most 1000000000".into()));
            }
        }
        let burst = |expected| Some(("loss_burst_milli", self.loss_burst_milli, expected));
        if self.loss_burst_milli < SMALLEST_BURST_MILLI {
            return burst("at least 1000".into());
        }
        let shortest = longer_burst_milli(self.loss_ppb, self.loss_burst_milli)?;
        let share = Share::from_ppb(self.loss_ppb);
        burst(Cow::Owned(format!(
            "at least {shortest} where {share} of all packets are lost, or 1000 (independent loss)"
        )))
    }
}
