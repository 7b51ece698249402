//! `hexloop schema` and `hexloop completions`: for editors, scripts and shells.

use clap::CommandFactory as _;

use super::{print, print_json};
use crate::cli::{Cli, SchemaArguments, SchemaDocument};
use crate::exit_code::ExitCode;
use crate::failure::Outcome;
use crate::summary::Summary;

pub(super) fn schema(arguments: &SchemaArguments) -> Outcome {
    match arguments.document {
        SchemaDocument::Experiment => print_json(&hexloop_topologies::json_schema())?,
        SchemaDocument::Summary => print_json(&Summary::json_schema())?,
    }
    Ok(ExitCode::Done)
}

pub(super) fn completions(shell: clap_complete::Shell) -> Outcome {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "hexloop", &mut text);
    print(&String::from_utf8_lossy(&text))?;
    Ok(ExitCode::Done)
}
