//! `hexloop report`: the report of a run again, from its records alone.

use std::path::Path;

use super::{Voice, print, print_json};
use crate::cli::ReportArguments;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, OrFail, Outcome};
use crate::record::{ReadError, RunRecords, tables, write_file};
use crate::report::render;
use crate::summary::Summary;

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
    if arguments.output.is_none() {
        complete(run, &records, &summary)?;
    }
    if voice.json {
        print_json(&summary)?;
    } else {
        print(&format!("{}\n", path.display()))?;
    }
    Ok(ExitCode::Done)
}

/// Writes what a run that was killed could not write any more.
fn complete(run: &Path, records: &RunRecords, summary: &Summary) -> Result<(), Failure> {
    let doing = || "cannot write the tables".to_owned();
    let json = summary.to_json().or_fail(ExitCode::Failed, doing)?;
    let tables = tables(&records.results).or_fail(ExitCode::Failed, doing)?;
    let files = [("summary.json", json.into_bytes())]
        .into_iter()
        .chain(tables);
    for (name, bytes) in files {
        let path = run.join(name);
        if !path.exists() {
            write_file(&path, &bytes).or_fail(ExitCode::Failed, || {
                format!("cannot write {}", path.display())
            })?;
        }
    }
    Ok(())
}

fn read(run: &Path) -> Result<RunRecords, Failure> {
    let doing = || format!("{} cannot be read as a run", run.display());
    RunRecords::read(run).map_err(|error| {
        let remedy = match &error {
            ReadError::Version { .. } => "use the version of hexloop that made the run",
            _ => "name a directory that `hexloop run` has made; it holds plan.json",
        };
        let failure = Failure::new(ExitCode::InvalidInput, error);
        failure.context(doing()).remedy(remedy)
    })
}
