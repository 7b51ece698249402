//! What can be known to fail before anything is made.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};

use crate::exit_code::ExitCode;
use crate::failure::{Failure, OrFail};
use crate::format::{count_to_f64, trimmed};

/// What a run may write, in bytes.
const NEEDED_BYTES: u64 = 64 << 20;

/// The directory of the results: made if it is missing, writable, with room for a run.
pub(super) fn results_directory(output: &Path) -> Result<PathBuf, Failure> {
    let doing = || format!("cannot use {} for results", output.display());
    let remedy = |failure: Failure| failure.remedy("choose another directory with --output DIR");
    fs::create_dir_all(output)
        .or_fail(ExitCode::Preflight, doing)
        .map_err(remedy)?;
    let output = fs::canonicalize(output)
        .or_fail(ExitCode::Preflight, doing)
        .map_err(remedy)?;
    access(&output, AccessFlags::W_OK | AccessFlags::X_OK)
        .or_fail(ExitCode::Preflight, doing)
        .map_err(remedy)?;
    let space = statvfs(&output).or_fail(ExitCode::Preflight, doing)?;
    let free = space
        .blocks_available()
        .saturating_mul(space.fragment_size());
    if free < NEEDED_BYTES {
        let megabytes = |bytes: u64| trimmed(count_to_f64(bytes) / 1e6, 1);
        let message = format!(
            "{} has {} MB left and a run may need {} MB",
            output.display(),
            megabytes(free),
            megabytes(NEEDED_BYTES)
        );
        return Err(Failure::message(ExitCode::Preflight, message)
            .remedy("free some space, or choose another directory with --output DIR"));
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_results_directory_is_made() {
        let root = tempfile::tempdir().unwrap();
        let made = results_directory(&root.path().join("a/b")).unwrap();
        assert!(made.is_dir() && made.is_absolute());
    }

    #[test]
    fn a_file_in_its_place_is_a_preflight_failure_with_a_remedy() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("f");
        fs::write(&file, "").unwrap();
        let failure = results_directory(&file).unwrap_err();
        assert_eq!(failure.code, ExitCode::Preflight);
        assert!(failure.to_string().contains("--output"), "{failure}");
    }
}
