//! `hexloop check`: every problem of experiment files at once.

use serde::Serialize;

use super::{Voice, experiment, print, print_json};
use crate::cli::CheckArguments;
use crate::exit_code::ExitCode;
use crate::failure::Outcome;

#[derive(Serialize)]
struct Checked {
    file: String,
    valid: bool,
    problems: Option<String>,
}

pub(super) fn check(arguments: &CheckArguments, voice: Voice) -> Outcome {
    let overrides = arguments.changes.overrides();
    let mut code = ExitCode::Done;
    let mut documents = Vec::new();
    for path in &arguments.experiments {
        let file = path.display().to_string();
        let problems = match experiment::prepare(path, &overrides) {
            Ok(prepared) => {
                if !voice.json {
                    let experiment = &prepared.resolved.experiment;
                    let (nodes, links) = (experiment.nodes.len(), experiment.links.len());
                    let phases = experiment.phases.len();
                    print(&format!(
                        "{file}: valid ({nodes} nodes, {links} links, {phases} phases)\n"
                    ))?;
                }
                None
            }
            Err(failure) => {
                eprintln!("{failure}");
                code = failure.code;
                Some(failure.to_string())
            }
        };
        documents.push(Checked {
            file,
            valid: problems.is_none(),
            problems,
        });
    }
    if voice.json {
        print_json(&documents)?;
    }
    Ok(code)
}
