//! Where a trace comes from: the specifications it follows, the carrier, and the recordings it
//! was made of with their hashes and licences.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a trace follows and what it was made of. All of it may be unknown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// The versions of the specifications that were followed, such as `3GPP TR 38.901` to `19.4`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub spec_versions: BTreeMap<String, String>,
    /// The carrier, where the trace stands for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub radio: Option<Radio>,
    /// The recordings that it was made of.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<Source>,
}

impl Provenance {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Provenance::default()
    }
}

/// The carrier of a trace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Radio {
    /// Centre frequency of the downlink, in Hz.
    pub carrier_hz: u64,
    /// Bandwidth of the carrier, in Hz.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_hz: Option<u64>,
    /// Numerology mu of TS 38.211, clause 4.2: subcarriers are 15 kHz x 2^mu apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub numerology: Option<u8>,
    /// Speed of the user equipment, in mm/s; none where it changes on the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed_mm_s: Option<u64>,
}

/// A recording that a trace was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The file's name, without its directory.
    pub file: String,
    /// SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
    /// The licence of the recording, as whoever imported it named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
}
