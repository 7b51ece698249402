//! The verbs, one file each.

mod agent;
mod bench;
mod check;
mod doctor;
mod experiment;
mod link;
mod meter;
mod model;
mod plan;
mod report;
mod run;
mod schema;
mod trace;
mod undo;

use std::io::{self, Write};

use crate::cli::{Cli, Verb};
use crate::exit_code::ExitCode;
use crate::failure::{Failure, OrFail};
use crate::tell::tell;

/// How a command talks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Voice {
    /// One JSON document on standard output.
    pub(crate) json: bool,
    /// No progress.
    pub(crate) quiet: bool,
}

/// Does what the command line asks. No thread exists yet: an agent may have to enter a user
/// namespace first.
pub fn dispatch(cli: &Cli) -> std::process::ExitCode {
    let voice = Voice {
        json: cli.json(),
        quiet: cli.quiet,
    };
    let outcome = match &cli.verb {
        // The verbs whose status is somebody else's.
        Verb::Link(arguments) => return link::link(arguments, voice),
        Verb::Meter(arguments) => return meter::meter(arguments, voice),
        Verb::Run(arguments) => run::run(arguments, voice),
        Verb::Check(arguments) => check::check(arguments, voice),
        Verb::Plan(arguments) => plan::plan(arguments, voice),
        Verb::Doctor => doctor::doctor(voice),
        Verb::Bench { subject } => bench::bench(subject, voice),
        Verb::Report(arguments) => report::report(arguments, voice),
        Verb::Undo => undo::undo(voice),
        Verb::Schema(arguments) => schema::schema(arguments),
        Verb::Completions { shell } => schema::completions(*shell),
        Verb::Model { action } => model::model(action, voice),
        Verb::Trace { action } => trace::trace(action, voice),
        Verb::Agent { part } => agent::agent(part, voice),
    };
    match outcome {
        Ok(code) => code.into(),
        Err(failure) => {
            tell(&failure);
            failure.code.into()
        }
    }
}

/// Prints on standard output. A reader that has gone away is no failure of ours.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    match output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush())
    {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.or_fail(ExitCode::Failed, || {
            "cannot write to standard output".to_owned()
        }),
    }
}

/// Prints a JSON document on standard output.
pub(crate) fn print_json(document: &impl serde::Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(document).or_fail(ExitCode::Failed, || {
        "cannot write a JSON document".to_owned()
    })?;
    print(&(text + "\n"))
}
