//! What networks are to carry for inference and learning at their edge, as flows: 3GPP TS 22.261 clause 7.10.
//!
//! A row asks for a payload within a latency, and thereby for a rate of payload * 8 / latency. Each row is sent
//! over a link at some percentages of that rate: above it, it is to be in time, below it late. Where the link follows its
//! trace, that says of each transmission what it carries in time.

use serde::{Deserialize, Serialize};

use super::HopBytes;
use crate::wire::{HEADER_BYTES, MAX_BODY_BYTES};

/// Which way a row's payload goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From the first node of the path.
    Up,
    /// To it.
    Down,
}

/// A row of the tables of TS 22.261 clause 7.10 (version 20.1.0; read from a published copy of its text).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KpiRow {
    /// The table.
    pub table: &'static str,
    /// What it is for.
    pub use_case: &'static str,
    /// Which way it goes. Rows for both ways, and those between devices, stand here as one up.
    pub way: Way,
    /// The most that it may take, in milliseconds; of a range the least.
    pub latency_ms: Option<u32>,
    /// The rate that the table lists, in kbit/s. It is not always payload over latency.
    pub listed_kbps: Option<u32>,
    /// Payload in kB.
    pub payload_kb: Option<u32>,
}

const fn row(
    (table, use_case, way): (&'static str, &'static str, Way),
    latency_ms: Option<u32>,
    listed_kbps: Option<u32>,
    payload_kb: Option<u32>,
) -> KpiRow {
    KpiRow {
        table,
        use_case,
        way,
        latency_ms,
        listed_kbps,
        payload_kb,
    }
}

const T1: &str = "7.10.1-1";
const T2: &str = "7.10.1-2";
const T3: &str = "7.10.1-3";
const T4: &str = "7.10.2-1";
const T5: &str = "7.10.2-2";
const T6: &str = "7.10.2-3";

use Way::{Down, Up};

/// The rows.
pub const ROWS: [KpiRow; 22] = [
    row(
        (T1, "split image recognition", Up),
        Some(15),
        Some(144_000),
        Some(270),
    ),
    row(
        (T1, "enhanced media recognition, up", Up),
        Some(100),
        Some(1_500),
        None,
    ),
    row(
        (T1, "enhanced media recognition", Down),
        Some(100),
        Some(150_000),
        Some(1_500),
    ),
    row(
        (T1, "split control of robots, up", Up),
        None,
        Some(4_700),
        None,
    ),
    row(
        (T1, "split control of robots", Down),
        Some(12),
        Some(320_000),
        Some(40),
    ),
    row(
        (T2, "model for image recognition", Down),
        Some(1_000),
        Some(1_100_000),
        Some(138_000),
    ),
    row(
        (T2, "model for speech recognition", Down),
        Some(1_000),
        Some(640_000),
        Some(80_000),
    ),
    row(
        (T2, "model for editing of media", Down),
        Some(1_000),
        Some(512_000),
        Some(64_000),
    ),
    row(
        (T2, "model management as a service", Down),
        Some(1_000),
        None,
        Some(536_000),
    ),
    row(
        (T2, "automotive systems", Down),
        Some(1_000),
        Some(22_000),
        Some(2_400),
    ),
    row(
        (T2, "shared monitoring of models", Down),
        Some(1_000),
        None,
        Some(500_000),
    ),
    row(
        (T2, "media quality", Down),
        Some(3_000),
        Some(450_000),
        Some(170_000),
    ),
    row(
        (T3, "federated learning, uncompressed", Up),
        Some(1_000),
        Some(1_000_000),
        Some(132_000),
    ),
    row(
        (T3, "federated learning, compressed", Up),
        Some(1_000),
        Some(80_880),
        Some(10_000),
    ),
    row(
        (T3, "learning of several agents", Up),
        Some(1_000),
        None,
        Some(10_000),
    ),
    row(
        (T4, "offloading to a device nearby", Up),
        Some(10),
        Some(720_000),
        Some(1_500),
    ),
    row(
        (T4, "factory robots, 8 bits", Up),
        Some(10),
        Some(1_280_000),
        Some(1_600),
    ),
    row(
        (T4, "factory robots, 32 bits", Up),
        Some(10),
        Some(1_500_000),
        Some(6_400),
    ),
    row(
        (T5, "model from device to device", Up),
        Some(1_000),
        Some(1_920_000),
        Some(240_000),
    ),
    row(
        (T5, "transfer learning of trajectories", Up),
        Some(3_000),
        Some(650_600),
        Some(244_000),
    ),
    row(
        (T6, "federated learning over devices", Up),
        Some(2_000),
        Some(528_000),
        Some(132_000),
    ),
    row(
        (T6, "federated learning, asynchronous", Up),
        Some(1_000),
        Some(220_000),
        Some(50_000),
    ),
];

/// What such a study does beyond what all do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KpiSpec {
    /// The tables whose rows are looked at; all of them if empty.
    pub tables: Vec<String>,
    /// Rates in percent of payload * 8 / latency; none if rows are sent on the traces alone.
    pub percents: Vec<u32>,
    /// Payload and rate are divided by this, so that the latency stays.
    pub scale: u32,
    /// The highest rate that the machine is trusted with.
    pub most_rate_bps: u64,
}

/// What a row comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// What is sent, after scaling.
    pub payload_bytes: u64,
    /// Within how long.
    pub latency_ns: u64,
    /// Payload * 8 / latency, after scaling.
    pub rate_bps: u64,
}

impl KpiRow {
    /// Payload * 8 / latency as the table has them.
    #[must_use]
    pub fn implied_bps(&self) -> Option<u64> {
        let bits = 8000 * u64::from(self.payload_kb?);
        Some(bits * 1000 / u64::from(self.latency_ms?))
    }
}

impl KpiSpec {
    /// The rows that are looked at, by their places in [`ROWS`].
    pub fn rows(&self) -> impl Iterator<Item = (u32, &'static KpiRow)> + '_ {
        let rows = (0..).zip(&ROWS);
        rows.filter(move |(_, row)| {
            self.tables.is_empty() || self.tables.iter().any(|it| it == row.table)
        })
    }

    /// What a row comes to.
    ///
    /// # Errors
    /// Why it is not tried.
    pub fn flow(&self, row: &KpiRow) -> Result<Flow, String> {
        let scale = u64::from(self.scale.max(1));
        let kilobytes = row.payload_kb.ok_or("the table has no payload")?;
        let milliseconds = row.latency_ms.ok_or("the table has no latency")?;
        let implied = row.implied_bps().ok_or("the table has no rate")?;
        let flow = Flow {
            payload_bytes: 1000 * u64::from(kilobytes) / scale,
            latency_ns: 1_000_000 * u64::from(milliseconds),
            rate_bps: implied / scale,
        };
        let most_percent = self.percents.iter().copied().max().unwrap_or(100);
        let needed = flow.rate_bps * u64::from(most_percent) / 100;
        let mbps = |bps: u64| format!("{}.{}", bps / 1_000_000, bps / 100_000 % 10);
        if needed > self.most_rate_bps {
            return Err(format!(
                "it needs {} Mbit/s at a scale of 1:{scale}, and `most_rate` is {}",
                mbps(needed),
                mbps(self.most_rate_bps)
            ));
        }
        if flow.payload_bytes > u64::from(MAX_BODY_BYTES) {
            return Err(format!(
                "{} bytes at a scale of 1:{scale} are more than one frame holds",
                flow.payload_bytes
            ));
        }
        if flow.payload_bytes < STAMP_BYTES {
            return Err(format!("nothing is left of it at a scale of 1:{scale}"));
        }
        Ok(flow)
    }
}

/// The name of a row.
#[must_use]
pub fn row_name(row: u32) -> &'static str {
    let known = usize::try_from(row).ok().and_then(|row| ROWS.get(row));
    known.map_or("unknown", |row| row.use_case)
}

/// The name of a row at a rate.
#[must_use]
pub fn arm_name(row: u32, percent: u32) -> String {
    format!("{} at {percent} %", row_name(row))
}

/// Bytes of a moment.
pub const STAMP_BYTES: u64 = 8;

/// Bytes of the frame that a payload crosses the link in. Headers of TCP and IP, some 4 % of these, are not among them:
/// the margins of both claims, by rate and by trace, are for those too.
#[must_use]
pub const fn payload_frame_bytes(payload_bytes: u64) -> u64 {
    HEADER_BYTES + payload_bytes
}

/// What sending a row puts on the link: the payload and the moment at which it came; or a question of how much is
/// to be sent, and the payload.
#[must_use]
pub const fn hop_bytes(way: Way, payload_bytes: u64) -> HopBytes {
    let (long, short) = (
        payload_frame_bytes(payload_bytes),
        payload_frame_bytes(STAMP_BYTES),
    );
    let (up, down) = match way {
        Up => (long, short),
        Down => (short, long),
    };
    HopBytes {
        up,
        down,
        frames_up: 1,
        frames_down: 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(scale: u32) -> KpiSpec {
        KpiSpec {
            tables: Vec::new(),
            percents: vec![125, 90],
            scale,
            most_rate_bps: 200_000_000,
        }
    }

    #[test]
    fn the_first_row_asks_for_the_rate_that_the_table_lists() {
        let flow = spec(1).flow(&ROWS[0]).unwrap();
        assert_eq!(flow.payload_bytes, 270_000);
        assert_eq!(flow.latency_ns, 15_000_000);
        assert_eq!(flow.rate_bps, 144_000_000);
        assert_eq!(ROWS[0].listed_kbps, Some(144_000));
    }

    #[test]
    fn scaling_divides_payload_and_rate_and_leaves_the_latency() {
        let flow = spec(10).flow(&ROWS[0]).unwrap();
        assert_eq!((flow.payload_bytes, flow.rate_bps), (27_000, 14_400_000));
        assert_eq!(flow.latency_ns, 15_000_000);
    }

    #[test]
    fn a_frame_is_its_header_and_the_payload() {
        // The header has 16 bytes, a moment 8.
        let bytes = hop_bytes(Up, 27_000);
        assert_eq!((bytes.up, bytes.down), (27_016, 24));
        assert_eq!(payload_frame_bytes(27_000), bytes.up);
        let bytes = hop_bytes(Down, 800);
        assert_eq!((bytes.up, bytes.down), (24, 816));
    }

    #[test]
    fn rows_that_are_sent_on_the_traces_alone_are_tried_by_what_they_need() {
        let on_traces = KpiSpec {
            percents: Vec::new(),
            most_rate_bps: 144_000_000,
            ..spec(1)
        };
        assert_eq!(on_traces.flow(&ROWS[0]).unwrap().rate_bps, 144_000_000);
        let at_rates = KpiSpec {
            most_rate_bps: 144_000_000,
            ..spec(1)
        };
        assert!(at_rates.flow(&ROWS[0]).is_err());
    }

    #[test]
    fn rows_that_are_not_tried_say_why() {
        let why = |row: usize| spec(1).flow(&ROWS[row]).unwrap_err();
        assert!(why(1).contains("no payload"), "{}", why(1));
        assert!(why(5).contains("1380.0 Mbit/s"), "{}", why(5));
        assert!(spec(1_000_000).flow(&ROWS[4]).is_err());
        assert_eq!(spec(10).rows().count(), ROWS.len());
    }
}
