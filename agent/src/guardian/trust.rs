//! Whose ledgers are carried out: what they note is done with all rights of whoever reads them.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::GuardianError;
use crate::ledger::{LedgerError, ledger_directory};

/// Whether this process may do what the ledgers of a state directory note: of those that root reads
/// nobody else may have written a word.
///
/// # Errors
/// Somebody else could have written there, or the kernel does not tell.
pub(super) fn check_directories(state_directory: &Path) -> Result<(), GuardianError> {
    check(state_directory)?;
    check(&ledger_directory(state_directory))
}

/// The same for one of them. What is not there is nobody's.
pub(super) fn check(path: &Path) -> Result<(), GuardianError> {
    if !is_root() {
        return Ok(());
    }
    match fs::metadata(path) {
        Ok(found) => match why_not(found.uid(), found.mode()) {
            None => Ok(()),
            Some(why) => Err(GuardianError::Untrusted {
                path: path.to_owned(),
                why,
            }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(LedgerError {
            action: "look at",
            path: PathBuf::from(path),
            source,
        }
        .into()),
    }
}

/// Whether this process is root, and not an ordinary user in a namespace in which he alone is mapped, as root.
fn is_root() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    nix::unistd::geteuid().is_root() && map.split_whitespace().nth(2) != Some("1")
}

/// Why root does not believe what stands in a file of this owner and mode, or in a directory.
fn why_not(owner: u32, mode: u32) -> Option<String> {
    if owner != 0 {
        return Some(format!("it belongs to user {owner}"));
    }
    (mode & 0o022 != 0).then(|| "others can write it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_believes_what_is_its_own_and_nobody_else_can_write() {
        assert_eq!(why_not(0, 0o100_600), None);
        assert_eq!(why_not(0, 0o040_755), None);
        for (owner, mode, why) in [
            (1000, 0o040_700, "belongs to user 1000"),
            (0, 0o040_777, "others can write it"),
            (0, 0o100_620, "others can write it"),
        ] {
            let told = why_not(owner, mode).unwrap();
            assert!(told.contains(why), "{told}");
        }
    }
}
