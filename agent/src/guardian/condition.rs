//! What of a state directory's ledgers somebody has to see to, found out without undoing anything.

use std::io;
use std::path::{Path, PathBuf};

use super::GuardianError;
use super::listing::ledgers;
use crate::ledger::{self, LedgerContent};

/// What there is to say of a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Its owner lives, or nobody can tell that it does not.
    InUse,
    /// Its owner is gone, and what it notes is not undone.
    Abandoned,
    /// It cannot be read or understood: nobody can undo what it notes, and the machine is dirty.
    Unreadable,
}

/// The ledgers of a state directory, each with what there is to say of it.
///
/// # Errors
/// The directory of ledgers cannot be read, or is not to be believed.
pub fn conditions(state_directory: &Path) -> Result<Vec<(PathBuf, Condition)>, GuardianError> {
    let mut found = Vec::new();
    for path in ledgers(state_directory)? {
        let condition = match LedgerContent::read(&path) {
            Ok(content) => condition_of(&content),
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => continue,
            Err(_) => Condition::Unreadable,
        };
        found.push((path, condition));
    }
    Ok(found)
}

/// What to say and do about ledgers that cannot be read or understood.
#[must_use]
pub fn unreadable(ledger: &Path) -> String {
    format!(
        "{} cannot be understood: look at it, put right by hand what it notes (a change on each line), and \
         then remove the file",
        ledger.display()
    )
}

fn condition_of(content: &LedgerContent) -> Condition {
    let Some(owner) = &content.owner else {
        // One that is being begun has no line yet.
        return if content.foreign_lines > 0 {
            Condition::Unreadable
        } else {
            Condition::InUse
        };
    };
    let is_gone = owner.boot_id != ledger::boot_id()
        || (owner.pid_namespace == ledger::pid_namespace() && !owner.process.is_alive());
    match (content.foreign_lines, is_gone) {
        (1.., _) => Condition::Unreadable,
        (0, true) => Condition::Abandoned,
        (0, false) => Condition::InUse,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::ledger::LedgerWriter;

    #[test]
    fn ledgers_of_the_living_the_dead_and_those_that_are_not_understood_are_told_apart() {
        let state = tempfile::tempdir().unwrap();
        let path = LedgerWriter::choose(state.path(), "test").unwrap();
        let writer = LedgerWriter::create(&path, "test").unwrap();
        let now = || conditions(state.path()).unwrap();
        assert_eq!(now(), [(path.clone(), Condition::InUse)]);
        let text = fs::read_to_string(&path).unwrap();
        drop(writer);
        fs::write(&path, text.replace(&ledger::boot_id(), "an-earlier-boot")).unwrap();
        assert_eq!(now()[0].1, Condition::Abandoned);
        for torn in ["no line of ours\n".to_owned(), format!("{text}nor this\n")] {
            fs::write(&path, torn).unwrap();
            assert_eq!(now()[0].1, Condition::Unreadable);
        }
        let told = unreadable(&path);
        assert!(
            told.contains("by hand") && told.contains("remove"),
            "{told}"
        );
    }
}
