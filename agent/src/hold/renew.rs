//! Another end of a lease: asked for in a file of the state directory, which only the owner of the
//! machine can write, and told to the holder by a signal. The holder answers in the same file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hexloop_traces::units::TimeSpan;
use hexloop_workloads::clock;
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

use super::clear::gone;
use super::{HoldError, system};
use crate::configuration::Configuration;
use crate::guardian::{GuardianError, HeldLink};
use crate::node::with_causes;

/// How long a holder may take to answer.
const ANSWER_LIMIT_NS: u64 = 5_000_000_000;

/// The signal that tells a holder to look.
pub(super) const LOOK: Signal = Signal::SIGUSR2;

/// What stands in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Renewal {
    /// The lease is to end that long from when the holder reads this.
    Ask { lease_ns: u64 },
    /// It ends then, in nanoseconds since the machine was started.
    Granted { until_boot_ns: u64 },
    /// It ends when it was to end before.
    Refused { why: String },
}

fn place(state: &Path, interface: &str) -> PathBuf {
    state.join("renewals").join(format!("{interface}.json"))
}

/// Written whole or not at all.
pub(super) fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let directory = path.parent().unwrap_or(path);
    fs::create_dir_all(directory)?;
    let fresh = path.with_extension("new");
    fs::write(&fresh, serde_json::to_vec(value)?)?;
    fs::rename(fresh, path)
}

fn read(path: &Path) -> io::Result<Renewal> {
    serde_json::from_slice(&fs::read(path)?).map_err(io::Error::other)
}

/// Has the lease of a held interface end that long from now. Returns when that is, in nanoseconds
/// since the machine was started.
///
/// # Errors
/// It is longer than the owner of the machine allows, or the holder is gone.
pub fn extend(held: &HeldLink, state: &Path, lease_ns: u64) -> Result<u64, HoldError> {
    let name = &held.held.interface.name;
    check_length(lease_ns)?;
    let path = place(state, name);
    let doing = format!("ask for a longer lease of {name}");
    write(&path, &Renewal::Ask { lease_ns }).map_err(system(&doing))?;
    let sent = held.owner.signal(LOOK).map_err(system(&doing))?;
    let deadline = clock::now() + ANSWER_LIMIT_NS;
    let mut answer = read(&path).map_err(system(&doing))?;
    while sent && matches!(answer, Renewal::Ask { .. }) && held.owner.is_alive() {
        if clock::now() >= deadline {
            break;
        }
        clock::sleep_until(clock::now() + 5_000_000);
        answer = read(&path).map_err(system(&doing))?;
    }
    fs::remove_file(&path).map_err(system(&doing))?;
    match answer {
        Renewal::Granted { until_boot_ns } => Ok(until_boot_ns),
        Renewal::Refused { why } => Err(HoldError::NotRenewed {
            interface: name.clone(),
            why,
        }),
        Renewal::Ask { .. } if !held.owner.is_alive() => Err(gone(held, state)),
        Renewal::Ask { .. } => Err(HoldError::NotRenewed {
            interface: name.clone(),
            why: "the process that holds it does not answer".to_owned(),
        }),
    }
}

fn check_length(lease_ns: u64) -> Result<(), HoldError> {
    let configuration = Configuration::load()?;
    let most_ns = configuration.host.max_lease_ns;
    if lease_ns <= most_ns {
        return Ok(());
    }
    let span = |ns| TimeSpan { ns };
    Err(HoldError::NotAllowed {
        what: format!("a lease of {}", span(lease_ns)),
        remedy: format!(
            "`max_lease` in {} is {}",
            configuration.path.display(),
            span(most_ns)
        ),
    })
}

/// The holder's side: reads what is asked for, has it noted and the guardian told, and answers.
/// Returns the new end of the lease, if there is one.
pub(super) fn grant(
    state: &Path,
    interface: &str,
    hold_until: impl FnOnce(u64) -> Result<(), GuardianError>,
) -> Option<u64> {
    let path = place(state, interface);
    // Whoever signals without asking is not answered.
    let Ok(Renewal::Ask { lease_ns }) = read(&path) else {
        return None;
    };
    let until_boot_ns = clock::since_boot_ns().saturating_add(lease_ns);
    let granted =
        check_length(lease_ns).and_then(|()| hold_until(until_boot_ns).map_err(HoldError::from));
    let answer = match &granted {
        Ok(()) => Renewal::Granted { until_boot_ns },
        Err(error) => Renewal::Refused {
            why: with_causes(error),
        },
    };
    // Who does not hear the answer sees what holds in `hexloop link show`.
    let _ = write(&path, &answer);
    granted.is_ok().then_some(until_boot_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_answered_in_the_same_place() {
        let state = tempfile::tempdir().unwrap();
        let path = place(state.path(), "eth9");
        assert_eq!(grant(state.path(), "eth9", |_| Ok(())), None);
        write(&path, &Renewal::Ask { lease_ns: 7 }).unwrap();
        let before = clock::since_boot_ns();
        let until = grant(state.path(), "eth9", |_| Ok(())).unwrap();
        assert!(until >= before + 7);
        let until_boot_ns = until;
        assert_eq!(read(&path).unwrap(), Renewal::Granted { until_boot_ns });
        // An answer is no question.
        assert_eq!(grant(state.path(), "eth9", |_| Ok(())), None);
    }

    #[test]
    fn what_cannot_be_noted_is_not_granted() {
        let state = tempfile::tempdir().unwrap();
        let path = place(state.path(), "eth9");
        write(&path, &Renewal::Ask { lease_ns: 7 }).unwrap();
        let refused = grant(state.path(), "eth9", |_| Err(GuardianError::NotReady));
        assert_eq!(refused, None);
        assert!(matches!(read(&path).unwrap(), Renewal::Refused { .. }));
    }
}
