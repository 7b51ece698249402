//! `hexloop report`: the report of a run again, from its records alone.

use std::path::Path;

use super::{Voice, print, print_json};
use crate::cli::ReportArguments;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, OrFail, Outcome};
use crate::record::{RunRecords, write_file};
use crate::report::render;

pub(super) fn report(arguments: &ReportArguments, voice: Voice) -> Outcome {
    let run = &arguments.run;
    let records = read(run)?;
    let summary = records.summary(run);
    let html = render(&records, &summary)
        .or_fail(ExitCode::Failed, || "cannot draw the report".to_owned())?;
    let path = arguments
        .output
        .clone()
        .unwrap_or_else(|| run.join("report.html"));
    write_file(&path, html.as_bytes()).or_fail(ExitCode::Failed, || {
        format!("cannot write the report to {}", path.display())
    })?;
    let beside = run.join("summary.json");
    if arguments.output.is_none() && !beside.exists() {
        let doing = || format!("cannot write {}", beside.display());
        let json = summary.to_json().or_fail(ExitCode::Failed, doing)?;
        write_file(&beside, json.as_bytes()).or_fail(ExitCode::Failed, doing)?;
    }
    if voice.json {
        print_json(&summary)?;
    } else {
        print(&format!("{}\n", path.display()))?;
    }
    Ok(ExitCode::Done)
}

fn read(run: &Path) -> Result<RunRecords, Failure> {
    let doing = || format!("{} cannot be read as a run", run.display());
    RunRecords::read(run)
        .or_fail(ExitCode::InvalidInput, doing)
        .map_err(|failure| {
            failure.remedy("name a directory that `hexloop run` has made; it holds plan.json")
        })
}
