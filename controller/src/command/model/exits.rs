//! `hexloop model exits`: early exits of a user's checkpoint.

use hexloop_workloads::engine::train::exits::{CheckpointExits, CheckpointSpec, ExitAgreement};
use hexloop_workloads::recipe::Recipe;

use super::directory_of;
use crate::cli::ModelExitsArguments;
use crate::command::{Voice, print, print_json};
use crate::exit_code::ExitCode;
use crate::failure::{Failure, OrFail, Outcome};
use crate::launch::training;

pub(super) fn exits(arguments: &ModelExitsArguments, voice: Voice) -> Outcome {
    let model = &arguments.model;
    if arguments.output.is_none() && Recipe::by_name(model).is_some() {
        let message =
            format!("the exits of the built-in model {model} are trained when a run needs them");
        return Err(Failure::message(ExitCode::InvalidInput, message).remedy(
            "name a checkpoint's directory, or another place for the exits with --output",
        ));
    }
    let directory = directory_of(model)?;
    let output = arguments.output.as_ref().unwrap_or(&directory);
    let spec = CheckpointSpec {
        directory: directory.clone(),
        text: arguments.text.clone(),
        layers: arguments.layers.clone(),
        steps: arguments.steps,
        sequence: arguments.sequence,
        output: output.clone(),
    };
    let wanted = CheckpointExits::prepare(spec).or_fail(ExitCode::InvalidInput, || {
        format!("no exits can be trained for {}", directory.display())
    })?;
    let report = training::train_exits_alone(wanted, voice.quiet)?;
    if voice.json {
        print_json(&report)?;
        return Ok(ExitCode::Done);
    }
    let mut text = format!(
        "exits       {}\nheld out    {} tokens, which no exit has learnt from\n",
        output.display(),
        report.held_out_tokens
    );
    text.extend(report.exits.iter().map(line));
    print(&text)?;
    Ok(ExitCode::Done)
}

/// How an exit agrees with the last layer.
fn line(exit: &ExitAgreement) -> String {
    let percent = |share: f64| format!("{:.1} %", share * 100.0);
    let sure = exit.agreement_where_confident.map_or_else(
        || "sure of none".to_owned(),
        |agreement| {
            format!(
                "sure of {} and right about {} of those",
                percent(exit.confident),
                percent(agreement)
            )
        },
    );
    format!(
        "after {:5} says what the last layer says of {}; {sure}\n",
        exit.layer,
        percent(exit.agreement)
    )
}
