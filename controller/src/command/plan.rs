//! `hexloop plan`: what a run would do.

use super::{Voice, experiment, print, print_json};
use crate::cli::ExperimentArguments;
use crate::exit_code::ExitCode;
use crate::failure::Outcome;
use crate::tell::tell;

pub(super) fn plan(arguments: &ExperimentArguments, voice: Voice) -> Outcome {
    let prepared = experiment::prepare(&arguments.experiment, &arguments.changes.overrides())?;
    let planned = experiment::plan_here(&prepared.resolved)?;
    if voice.json {
        print_json(&planned.plan)?;
    } else {
        let text = hexloop_topologies::describe(&planned.plan, &prepared.resolved.traces);
        print(&format!("{text}\n"))?;
    }
    for note in &planned.notes {
        tell(&format_args!("note: {note}"));
    }
    Ok(ExitCode::Done)
}
