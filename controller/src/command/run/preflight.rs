//! What can be known to fail before anything is made.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use hexloop_agent::probe::{Check, Outcome};
use hexloop_agent::process::SelfCommand;
use hexloop_topologies::plan::Plan;
use hexloop_workloads::traffic::Carrier;
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};

use crate::exit_code::ExitCode;
use crate::failure::{Failure, OrFail};
use crate::format::{count_to_f64, trimmed};

/// What a run may write, in bytes.
pub(in crate::command) const NEEDED_BYTES: u64 = 64 << 20;

/// Whether this user may do here what an agent does. A process of its own tries it: it may have
/// to enter a user namespace, and this one must stay where it is.
pub(super) fn privilege() -> Result<(), Failure> {
    let doing = || "cannot find out what this machine allows".to_owned();
    let tried = SelfCommand::hexloop()
        .part("probe")
        .stdin(Stdio::null())
        .output()
        .or_fail(ExitCode::Preflight, doing)?;
    if !tried.status.success() {
        let words = String::from_utf8_lossy(&tried.stderr);
        let error = io::Error::other(format!("{}: {}", tried.status, words.trim()));
        return Err(error).or_fail(ExitCode::Preflight, doing);
    }
    let checks: Vec<Check> =
        serde_json::from_slice(&tried.stdout).or_fail(ExitCode::Preflight, doing)?;
    match checks
        .iter()
        .find(|check| check.outcome == Outcome::Missing)
    {
        Some(missing) => Err(refusal(missing)),
        None => Ok(()),
    }
}

fn refusal(missing: &Check) -> Failure {
    let message = format!(
        "this machine does not let this user run experiments: {}: {}",
        missing.name, missing.detail
    );
    let failure = Failure::message(ExitCode::Preflight, message);
    let remedy = missing.remedy.as_deref();
    failure.remedy(remedy.unwrap_or("`hexloop doctor` tells what else is missing"))
}

/// Where the kernel lists the congestion controls that programs without privileges may use.
const ALLOWED_CONTROLS: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";

/// Whether connections may be controlled as a plan asks. A kernel that does not tell is asked again when the
/// connection is made.
pub(super) fn congestion_controls(plan: &Plan) -> Result<(), Failure> {
    let asked =
        plan.background
            .iter()
            .filter_map(|background| match &background.background.carrier {
                Carrier::Tcp { congestion_control } => Some(congestion_control.as_str()),
                Carrier::Udp { .. } => None,
            });
    match fs::read_to_string(ALLOWED_CONTROLS) {
        Ok(allowed) => allowed_controls(&asked.collect(), &allowed),
        Err(_) => Ok(()),
    }
}

fn allowed_controls(asked: &BTreeSet<&str>, allowed: &str) -> Result<(), Failure> {
    let known: Vec<&str> = allowed.split_whitespace().collect();
    let Some(missing) = asked.iter().find(|name| !known.contains(name)) else {
        return Ok(());
    };
    let known = known.join(" ");
    let message = format!("jobs may not use congestion control {missing} here, only {known}");
    let remedy = format!(
        "`modprobe tcp_{missing}`, then `sysctl net.ipv4.tcp_allowed_congestion_control=\"{known} {missing}\"`"
    );
    Err(Failure::message(ExitCode::Preflight, message).remedy(&remedy))
}

/// Bytes that this user may still write into a directory.
pub(in crate::command) fn free_bytes(directory: &Path) -> nix::Result<u64> {
    let space = statvfs(directory)?;
    Ok(space
        .blocks_available()
        .saturating_mul(space.fragment_size()))
}

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
    let free = free_bytes(&output).or_fail(ExitCode::Preflight, doing)?;
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

    #[test]
    fn what_is_missing_is_refused_with_its_cause_and_remedy() {
        let missing = Check::new("packet sockets", Outcome::Missing, "EAFNOSUPPORT");
        let text = refusal(&missing).to_string();
        assert!(text.contains("packet sockets: EAFNOSUPPORT"), "{text}");
        assert!(text.contains("hexloop doctor"), "{text}");
        let failure = refusal(&missing.with_remedy("load af_packet"));
        assert_eq!(failure.code, ExitCode::Preflight);
        assert!(failure.to_string().contains("remedy: load af_packet"));
    }

    #[test]
    fn a_congestion_control_that_jobs_may_not_use_is_refused_with_the_commands_that_allow_it() {
        let asked = BTreeSet::from(["bbr", "cubic"]);
        assert!(allowed_controls(&asked, "reno cubic bbr\n").is_ok());
        let failure = allowed_controls(&asked, "reno cubic\n").unwrap_err();
        assert_eq!(failure.code, ExitCode::Preflight);
        let text = failure.to_string();
        assert!(text.contains("control bbr here, only reno cubic"), "{text}");
        assert!(text.contains("modprobe tcp_bbr"), "{text}");
        assert!(text.contains("=\"reno cubic bbr\""), "{text}");
    }
}
