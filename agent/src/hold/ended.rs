//! How the last shaping of an interface ended, kept for `hexloop link show`.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use hexloop_workloads::clock;
use serde::{Deserialize, Serialize};

use super::followed::Followed;
use super::wait::Ended;

/// How the last shaping of an interface ended, for `hexloop link show`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndedLink {
    /// The interface.
    pub interface: String,
    /// When, in nanoseconds since 1970.
    pub at_unix_ns: u64,
    /// Why.
    pub why: String,
    /// How well its trace was followed until then; `None` where it was never confirmed.
    #[serde(default)]
    pub followed: Option<Followed>,
}

pub(super) fn ended_path(state: &Path, interface: &str) -> PathBuf {
    state.join("ended").join(format!("{interface}.json"))
}

pub(super) fn write_ended(
    state: &Path,
    interface: &str,
    ended: &Ended,
    followed: Option<Followed>,
) {
    let ended = EndedLink {
        interface: interface.to_owned(),
        at_unix_ns: clock::wall_clock_ns(),
        why: ended.to_string(),
        followed,
    };
    let path = ended_path(state, interface);
    let write = || -> io::Result<()> {
        fs::create_dir_all(path.parent().unwrap_or(state))?;
        let mut file = fs::File::create(&path)?;
        file.write_all(serde_json::to_string(&ended)?.as_bytes())
    };
    // A courtesy: without it `show` only says that nothing is held.
    if write().is_err() {
        let _ = fs::remove_file(&path);
    }
}

/// How the last shaping of every interface ended, in the order of their names.
#[must_use]
pub fn last_ends(state: &Path) -> Vec<EndedLink> {
    let entries = fs::read_dir(state.join("ended")).into_iter().flatten();
    let texts = entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    let ends = texts.filter_map(|text| serde_json::from_str(&text).ok());
    let mut ends: Vec<EndedLink> = ends.collect();
    ends.sort_by(|one, other| one.interface.cmp(&other.interface));
    ends
}

/// How the last shaping of an interface ended; `None` when nobody wrote that.
#[must_use]
pub fn last_end(state: &Path, interface: &str) -> Option<EndedLink> {
    let text = fs::read_to_string(ended_path(state, interface)).ok()?;
    serde_json::from_str(&text).ok()
}
