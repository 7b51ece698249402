//! `hexloop undo`: takes away what an earlier run that was killed has left.

use std::path::Path;

use hexloop_agent::guardian::{self, Condition, GuardianError, ReplayReport};
use serde::Serialize;

use super::{Voice, print, print_json};
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::paths::Paths;

#[derive(Serialize)]
struct Undone {
    owner: String,
    undone: Vec<String>,
    failed: Vec<String>,
}

pub(super) fn undo(voice: Voice) -> Outcome {
    let paths = Paths::of_this_user()?;
    let reports = replay(&paths.state)?;
    let clean = reports.iter().all(ReplayReport::is_clean);
    if voice.json {
        let document: Vec<Undone> = reports
            .iter()
            .map(|report| Undone {
                owner: report.owner.clone(),
                undone: report.undone.clone(),
                failed: report.failed.clone(),
            })
            .collect();
        print_json(&document)?;
    } else if reports.is_empty() {
        print("nothing to undo\n")?;
    } else {
        for report in &reports {
            print(&describe(report))?;
        }
    }
    Ok(if clean {
        ExitCode::Done
    } else {
        ExitCode::Dirty
    })
}

fn replay(state: &Path) -> Result<Vec<ReplayReport>, Failure> {
    guardian::replay_leftovers(state).map_err(|error| {
        of_ledgers(error).context(format!(
            "cannot look for what earlier runs left in {}",
            state.display()
        ))
    })
}

/// The failure of whoever cannot read the ledgers of a state directory.
pub(super) fn of_ledgers(error: GuardianError) -> Failure {
    let code = if error.is_dirty() {
        ExitCode::Dirty
    } else {
        ExitCode::Preflight
    };
    let remedy = error.remedy();
    let failure = Failure::new(code, error);
    match remedy {
        Some(remedy) => failure.remedy(remedy),
        None => failure,
    }
}

/// Refuses where a ledger cannot be read or understood: nobody knows what is left of a run then.
pub(super) fn check_understood(state: &Path) -> Result<(), Failure> {
    let conditions = guardian::conditions(state).map_err(of_ledgers)?;
    let unreadable = conditions
        .iter()
        .filter(|(_, condition)| *condition == Condition::Unreadable);
    let left: Vec<String> = unreadable
        .map(|(path, _)| guardian::unreadable(path))
        .collect();
    if left.is_empty() {
        return Ok(());
    }
    let message = format!("this machine is dirty: {}", left.join("; "));
    Err(Failure::message(ExitCode::Dirty, message).remedy("until then runs are refused"))
}

fn describe(report: &ReplayReport) -> String {
    let mut text = format!("left by {}:\n", report.owner);
    for undone in &report.undone {
        text.push_str("  done: ");
        text.push_str(undone);
        text.push('\n');
    }
    for failed in &report.failed {
        text.push_str("  FAILED: ");
        text.push_str(failed);
        text.push('\n');
    }
    text
}

/// Undoes leftovers before a run, and refuses to go on when something remains.
pub(super) fn clean_up_before(state: &Path) -> Result<(), Failure> {
    let reports = replay(state)?;
    for report in &reports {
        eprint!("{}", describe(report));
    }
    let failed: Vec<String> = reports
        .iter()
        .flat_map(|report| report.failed.clone())
        .collect();
    if failed.is_empty() {
        return Ok(());
    }
    let message = format!("this machine is dirty: {}", failed.join("; "));
    Err(Failure::message(ExitCode::Dirty, message)
        .remedy("put right what it says, then `hexloop undo`; until then runs are refused"))
}
