//! The ledgers of a state directory, and the interfaces that they hold.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{GuardianError, trust};
use crate::ledger::{self, Held, LedgerContent, LedgerError};
use crate::process::ProcessIdentity;

/// The ledgers of a state directory, in the order of their names.
pub(super) fn ledgers(state_directory: &Path) -> Result<Vec<PathBuf>, GuardianError> {
    trust::check_directories(state_directory)?;
    let directory = ledger::ledger_directory(state_directory);
    let listed = |source| LedgerError {
        action: "list",
        path: directory.clone(),
        source,
    };
    let listing = match fs::read_dir(&directory) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(listed(source).into()),
    };
    let entries = listing.map(|entry| entry.map(|entry| entry.path()));
    let mut paths: Vec<PathBuf> = entries.collect::<Result<_, _>>().map_err(listed)?;
    paths.retain(|path| {
        path.extension()
            .is_some_and(|extension| extension == "ledger")
    });
    paths.sort();
    paths.iter().try_for_each(|path| trust::check(path))?;
    Ok(paths)
}

/// An interface that a ledger holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldLink {
    /// The ledger.
    pub ledger: PathBuf,
    /// The process that wrote it.
    pub owner: ProcessIdentity,
    /// Whether that process lives and can be told something.
    pub is_alive: bool,
    /// What it holds.
    pub held: Held,
    /// What will be undone.
    pub outstanding: Vec<String>,
}

/// The interfaces that the ledgers of a state directory hold in this boot.
///
/// # Errors
/// The directory of ledgers cannot be read.
pub fn held_links(state_directory: &Path) -> Result<Vec<HeldLink>, GuardianError> {
    let mut found = Vec::new();
    for ledger in ledgers(state_directory)? {
        let content = match LedgerContent::read(&ledger) {
            Ok(content) => content,
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => continue,
            // It is told with what cannot be understood.
            Err(_) => continue,
        };
        let (Some(owner), Some(held)) = (content.owner, content.held) else {
            continue;
        };
        if owner.boot_id != ledger::boot_id() {
            continue;
        }
        found.push(HeldLink {
            ledger,
            owner: owner.process,
            is_alive: owner.pid_namespace == ledger::pid_namespace() && owner.process.is_alive(),
            held,
            outstanding: content
                .outstanding
                .iter()
                .map(|(_, undo)| undo.to_string())
                .collect(),
        });
    }
    Ok(found)
}
