//! What was captured of the links of a run.

use hexloop_traces::Direction;
use serde::{Deserialize, Serialize};

/// What was captured of one direction of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkCapture {
    /// The link.
    pub link: String,
    /// The direction.
    pub direction: Direction,
    /// What came of it.
    pub outcome: CaptureOutcome,
}

/// What came of the capture of one direction of a link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaptureOutcome {
    /// There is a file.
    Written {
        /// Its name in the directory of the captures.
        file: String,
        /// Packets in it.
        packets: u64,
        /// Packets that passed meanwhile and are not in it.
        missed_packets: u64,
        /// Why it ends early, if it does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cut_short: Option<String>,
    },
    /// There is none.
    Unavailable {
        /// Why, in words.
        why: String,
    },
}
