//! `hexloop check`: every problem of experiment files at once.

use hexloop_topologies::{Place, Problem, Problems};
use serde::Serialize;

use super::{Voice, experiment, print, print_json};
use crate::cli::CheckArguments;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, Outcome};
use crate::tell::tell;

#[derive(Serialize)]
struct Checked {
    file: String,
    valid: bool,
    problems: Vec<Problem>,
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
                    let phases =
                        experiment.phases.len() + experiment.traffic.len() + experiment.loads.len();
                    print(&format!(
                        "{file}: valid ({nodes} nodes, {links} links, {phases} phases)\n"
                    ))?;
                }
                Vec::new()
            }
            Err(failure) => {
                tell(&failure);
                code = failure.code;
                problems_of(&failure, &file)
            }
        };
        documents.push(Checked {
            file,
            valid: problems.is_empty(),
            problems,
        });
    }
    if voice.json {
        print_json(&documents)?;
    }
    Ok(code)
}

/// The problems of a file one by one; what is no such list is one problem of the whole file.
fn problems_of(failure: &Failure, file: &str) -> Vec<Problem> {
    if let Some(problems) = failure.error.downcast_ref::<Problems>() {
        return problems.as_slice().to_vec();
    }
    vec![Problem {
        place: Place::WholeFile {
            file: file.to_owned(),
        },
        message: format!("{:#}", failure.error),
        help: failure.remedy.clone(),
        excerpt: None,
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use hexloop_topologies::Overrides;

    fn found_in(path: &std::path::Path) -> Vec<Problem> {
        let failure = experiment::prepare(path, &Overrides::default())
            .err()
            .unwrap();
        assert_eq!(failure.code, ExitCode::InvalidInput);
        problems_of(&failure, "x.toml")
    }

    #[test]
    fn every_problem_is_an_object_with_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.toml");
        std::fs::write(&path, "nonsense = 1\n").unwrap();
        let problems = serde_json::to_value(found_in(&path)).unwrap();
        let first = &problems[0];
        assert!(
            first["line"].is_u64() && first["message"].is_string(),
            "{problems}"
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_named_with_their_place() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.toml");
        std::fs::write(&path, b"a = 1\nb = \"\xc3\xa9\xff\"\n").unwrap();
        let problems = found_in(&path);
        assert_eq!(problems.len(), 1);
        let Place::File { line, column, .. } = &problems[0].place else {
            panic!("{problems:?}");
        };
        assert_eq!((*line, *column), (2, 7));
        assert!(problems[0].help.is_some());
    }

    #[test]
    fn a_directory_is_no_experiment_file_and_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let problems = found_in(directory.path());
        assert!(
            problems[0].message.contains("is a directory"),
            "{problems:?}"
        );
    }
}
