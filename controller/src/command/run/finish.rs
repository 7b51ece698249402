//! The end of a run: records, summary, report, and the exit code that follows.

use std::path::Path;

use super::super::{Voice, print};
use super::table;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, OrFail, Outcome};
use crate::launch::Played;
use crate::record::end_to_end::EndToEnd;
use crate::record::environment::Machine;
use crate::record::{Manifest, RunDirectory, RunRecords, tables};
use crate::report::render;
use crate::results::Results;
use crate::summary::{ExpectationOutcome, Summary};
use crate::tell::tell;

/// How a run is brought to its end.
pub(super) struct Ending<'a> {
    pub(super) directory: RunDirectory,
    /// Where the latest end-to-end calibration is kept.
    pub(super) state: &'a Path,
    pub(super) strict: bool,
    pub(super) voice: Voice,
}

/// Writes what came out and gives the run directory its name.
pub(super) fn finish(ending: Ending<'_>, played: Result<Played, Failure>) -> Outcome {
    let doing = || "cannot write the results".to_owned();
    let full = |failure: Failure| failure.remedy("is the disk full? what was recorded is kept");
    let whole = played
        .as_ref()
        .is_ok_and(|played| played.interrupted.is_none() && played.results.is_complete());
    let directory = ending.directory;
    let target = if whole {
        directory.finished_path()
    } else {
        directory.interrupted_path()
    };
    let written = write_results(&directory, &target, whole);
    let kept = directory.finish(whole && written.is_ok());
    // What went wrong first is what the user is told.
    // What is on the disk says what is left over, even where the agent was lost after that.
    let recorded = written.as_ref().map(|summary| &summary.leftovers);
    let leftovers = match &played {
        Ok(played) => played.results.taken_down.as_ref(),
        Err(_) => recorded.ok(),
    };
    let leftovers = leftovers.cloned().unwrap_or_default();
    let stopped = |failure| kept_in(dirty(failure, &leftovers), &target);
    let played = played.map_err(stopped)?;
    if let Some(failure) = why_not_whole(&played) {
        return Err(stopped(failure));
    }
    let summary = written.or_fail(ExitCode::Failed, doing).map_err(full)?;
    let path = kept.or_fail(ExitCode::Failed, doing).map_err(full)?;
    keep_end_to_end(&summary, ending.state);
    show(&summary, &path, ending.voice)?;
    Ok(code_of(&summary, &played.results, ending.strict))
}

/// Notes what the calibrating experiment found, for later runs to cite.
fn keep_end_to_end(summary: &Summary, state: &Path) {
    if let Some(found) = EndToEnd::of(summary, &Machine::look())
        && let Err(error) = found.keep(state)
    {
        tell(&format_args!(
            "note: this calibration cannot be kept for later reports: {error}"
        ));
    }
}

/// Why a run that was played did not come to its end, if it did not.
fn why_not_whole(played: &Played) -> Option<Failure> {
    if let Some(why) = played.interrupted {
        let message = format!("the run was stopped: {why}");
        return Some(Failure::message(ExitCode::Interrupted, message));
    }
    if let Some((message, code)) = &played.results.failure {
        return Some(Failure::message(ExitCode::from_number(*code), message));
    }
    let message = "the agent ended before it had taken everything down";
    let lost = played.results.taken_down.is_none();
    lost.then(|| Failure::message(ExitCode::Failed, message))
}

/// The same failure on a machine that could not be put back, which matters more than its cause.
fn dirty(failure: Failure, leftovers: &[String]) -> Failure {
    if leftovers.is_empty() {
        return failure;
    }
    let left = leftovers.join("; ");
    let failure = Failure {
        code: ExitCode::Dirty,
        ..failure
    };
    failure
        .context(format!("this machine could not be put back: {left}"))
        .remedy("`hexloop undo` tries again; runs are refused until then")
}

fn kept_in(failure: Failure, target: &Path) -> Failure {
    tell(&format_args!(
        "what was recorded is in {}",
        target.display()
    ));
    failure
}

fn write_results(
    directory: &RunDirectory,
    target: &Path,
    whole: bool,
) -> Result<Summary, anyhow::Error> {
    // From what is on the disk, as `hexloop report` does it again.
    let mut records = RunRecords::read(&directory.path())?;
    let made = records.results.links.iter();
    records.environment.datapaths = made
        .map(|(link, facts)| (link.clone(), facts.datapath.clone()))
        .collect();
    let environment = serde_json::to_string_pretty(&records.environment)? + "\n";
    directory.write("environment.json", environment.as_bytes())?;
    let summary = records.summary(target);
    for (name, bytes) in tables(&records.results)? {
        directory.write(name, &bytes)?;
    }
    directory.write("summary.json", summary.to_json()?.as_bytes())?;
    directory.write("report.html", render(&records, &summary)?.as_bytes())?;
    if whole {
        let manifest = Manifest::of(&directory.path())?;
        directory.write("manifest.json", manifest.to_json()?.as_bytes())?;
    }
    Ok(summary)
}

fn show(summary: &Summary, path: &Path, voice: Voice) -> Result<(), Failure> {
    if voice.json {
        let json = summary
            .to_json()
            .or_fail(ExitCode::Failed, || "cannot write the summary".to_owned())?;
        return print(&json);
    }
    print(&table::summary_table(summary))?;
    print(&format!("{}\n", path.join("report.html").display()))
}

fn code_of(summary: &Summary, results: &Results, strict: bool) -> ExitCode {
    let dirty = results
        .taken_down
        .as_ref()
        .is_some_and(|leftovers| !leftovers.is_empty());
    let broken = |e: &crate::summary::ExpectationSummary| e.outcome == ExpectationOutcome::NotHeld;
    if dirty {
        ExitCode::Dirty
    } else if !summary.verdict.is_valid() {
        ExitCode::InvalidVerdict
    } else if strict && summary.expectations.iter().any(broken) {
        ExitCode::ExpectationNotHeld
    } else {
        ExitCode::Done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_over_outweighs_why_the_run_ended() {
        let played = Played {
            results: Results::default(),
            interrupted: Some("SIGINT"),
        };
        let failure = || why_not_whole(&played).unwrap();
        assert_eq!(dirty(failure(), &[]).code, ExitCode::Interrupted);
        let failure = dirty(failure(), &["control group hx1".to_owned()]);
        assert_eq!(failure.code, ExitCode::Dirty);
        let text = failure.to_string();
        for part in [
            "control group hx1",
            "the run was stopped: SIGINT",
            "hexloop undo",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
