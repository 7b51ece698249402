//! Undoes what a ledger notes, in the guardian or after it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hexloop_workloads::clock::{self, MonotonicNs};
use nix::fcntl::FlockArg;

use super::condition::unreadable;
use super::listing::ledgers;
use super::{GuardianError, UNDO_LIMIT_NS};
use crate::failpoint;
use crate::ledger::{self, LedgerContent, LedgerError};
use crate::undo::Undo;

/// How long a replay waits for a guardian that is still at work.
const GUARDIAN_LIMIT_NS: u64 = 3_000_000_000;

/// How long after one look at a locked ledger the next one comes.
const LOOK_AGAIN_NS: u64 = 20_000_000;

/// What became of one ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayReport {
    /// The ledger; it still exists if something failed.
    pub ledger: PathBuf,
    /// Who wrote it, such as `agent (process 4711)`.
    pub owner: String,
    /// What was undone now.
    pub undone: Vec<String>,
    /// What could not be undone, and why.
    pub failed: Vec<String>,
}

impl ReplayReport {
    /// Whether nothing is left.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.failed.is_empty()
    }
}

/// Undoes what earlier owners have left, for every ledger whose owner and guardian are gone. One that
/// somebody still holds although its owner is gone is reported as not undone.
/// If any report is not clean, this machine is dirty and must refuse runs.
///
/// # Errors
/// The directory of ledgers cannot be read.
pub fn replay_leftovers(state_directory: &Path) -> Result<Vec<ReplayReport>, GuardianError> {
    let mut reports = Vec::new();
    for path in ledgers(state_directory)? {
        let deadline = clock::now() + GUARDIAN_LIMIT_NS;
        let report = replay_if_abandoned(&path, deadline);
        reports.extend(match report {
            Err(GuardianError::Ledger(error)) if error.action == "read" => {
                Some(not_read(&path, &error))
            }
            report => report?,
        });
    }
    Ok(reports)
}

/// Replays a ledger unless its owner lives. Of one whose owner is gone, a guardian at work has until the
/// deadline.
fn replay_if_abandoned(
    path: &Path,
    deadline: MonotonicNs,
) -> Result<Option<ReplayReport>, GuardianError> {
    let mut seen_in_use = false;
    loop {
        if let Some(file) = ledger::open_locked(path, FlockArg::LockExclusiveNonblock)? {
            return replay_one(&file, path).map(Some);
        }
        let content = match LedgerContent::read(path) {
            Ok(content) => content,
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let in_use = content.owner.as_ref().is_none_or(|owner| {
            owner.pid_namespace != ledger::pid_namespace() || owner.process.goes_on()
        });
        // A killed owner shows nothing between taking its signal and beginning to exit: one look
        // alone proves nothing.
        if in_use && std::mem::replace(&mut seen_in_use, true) {
            return Ok(None);
        }
        // An owner that was killed a moment ago and a guardian at work get a moment to finish.
        if !in_use && clock::now() >= deadline {
            return Ok(Some(still_held(path, &content)));
        }
        clock::sleep_until(clock::now() + LOOK_AGAIN_NS);
    }
}

/// The report of a ledger that cannot be read.
fn not_read(path: &Path, error: &LedgerError) -> ReplayReport {
    ReplayReport {
        ledger: path.to_owned(),
        owner: "unknown".to_owned(),
        undone: Vec::new(),
        failed: vec![format!("{} ({})", unreadable(path), error.source)],
    }
}

/// Who wrote a ledger, in words.
fn owner_of(content: &LedgerContent) -> String {
    content.owner.as_ref().map_or_else(
        || "unknown".to_owned(),
        |owner| format!("{} (process {})", owner.name, owner.process.pid),
    )
}

/// The report of a ledger that nobody else can replay yet: what its owner did may still stand.
fn still_held(path: &Path, content: &LedgerContent) -> ReplayReport {
    let ledger = path.display();
    let holders: Vec<String> = ledger::holders(path)
        .iter()
        .map(|process| format!("process {process}"))
        .collect();
    let by = if holders.is_empty() {
        format!("a process that `fuser {ledger}` tells")
    } else {
        holders.join(" and ")
    };
    let failure = format!(
        "{ledger} is still held by {by}, its guardian most likely, although its owner is gone: what it \
         notes may not be undone yet; wait until that process has ended, or end it, then `hexloop undo`"
    );
    ReplayReport {
        ledger: path.to_owned(),
        owner: owner_of(content),
        undone: Vec::new(),
        failed: vec![failure],
    }
}

/// Undoes what the ledger in `file` notes, the last first; removes it if nothing is left to undo.
pub(super) fn replay_one(file: &fs::File, path: &Path) -> Result<ReplayReport, GuardianError> {
    let content = LedgerContent::read(path)?;
    // Nobody appends any more; what is written below starts on a line of its own.
    let whole = u64::try_from(content.whole_bytes).unwrap_or(u64::MAX);
    let torn = file.metadata().is_ok_and(|metadata| metadata.len() > whole);
    if torn {
        let path = path.to_owned();
        file.set_len(whole).map_err(|source| LedgerError {
            action: "mend",
            path,
            source,
        })?;
    }
    let same_boot = content
        .owner
        .as_ref()
        .is_none_or(|owner| owner.boot_id == ledger::boot_id());
    let same_pids = content
        .owner
        .as_ref()
        .is_none_or(|owner| owner.pid_namespace == ledger::pid_namespace());
    let mut report = ReplayReport {
        ledger: path.to_owned(),
        owner: owner_of(&content),
        undone: Vec::new(),
        failed: Vec::new(),
    };
    for (id, undo) in content.outstanding.iter().rev() {
        if undo.ends_with_the_boot() && !same_boot {
            continue;
        }
        if matches!(undo, Undo::KillProcess { .. }) && !same_pids {
            report.failed.push(format!(
                "{undo}: it was started in another process-id namespace"
            ));
            continue;
        }
        match undo.perform(clock::now() + UNDO_LIMIT_NS) {
            Ok(()) => {
                report.undone.push(undo.to_string());
                // Not being able to note it only means that it is undone once more.
                let _ = ledger::append_done(file, path, *id);
            }
            Err(error) => {
                let cause = std::error::Error::source(&error);
                let cause = cause.map_or_else(String::new, |cause| format!(": {cause}"));
                report.failed.push(format!("{error}{cause}"));
            }
        }
    }
    if content.foreign_lines > 0 {
        let lines = content.foreign_lines;
        let what = unreadable(path);
        report.failed.push(format!("{lines} lines of {what}"));
    }
    if report.is_clean() {
        failpoint::reach("ledger-remove");
        match fs::remove_file(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => {
                let path = path.to_owned();
                return Err(LedgerError {
                    action: "remove",
                    path,
                    source,
                }
                .into());
            }
        }
    }
    Ok(report)
}

#[cfg(test)]
mod tests;
