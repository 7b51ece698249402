//! `hexloop agent`: the agent and the parts that it starts itself.

use std::io::{self, BufReader};

use hexloop_agent::behind::{hold, inhabit};
use hexloop_agent::process::SelfCommand;
use hexloop_agent::serve::{self, ServeOptions};
use hexloop_agent::{guardian, node, probe};

use super::print_json;
use crate::cli::link::InhabitArguments;
use crate::cli::{AgentPart, AgentServeArguments};
use crate::exit_code::ExitCode;
use crate::failure::{Failure, OrFail, Outcome};
use crate::paths::Paths;

pub(super) fn agent(part: &AgentPart) -> Outcome {
    match part {
        AgentPart::Serve(arguments) => serve_agent(arguments),
        AgentPart::Probe => {
            print_json(&probe::needed())?;
            Ok(ExitCode::Done)
        }
        AgentPart::Init => {
            node::init::run().or_fail(ExitCode::Failed, || {
                "the first process of a node failed".to_owned()
            })?;
            Ok(ExitCode::Done)
        }
        AgentPart::Job => {
            hexloop_workloads::serve::run_job(BufReader::new(io::stdin()), io::stdout())
                .or_fail(ExitCode::Failed, || "the job failed".to_owned())?;
            Ok(ExitCode::Done)
        }
        AgentPart::Hold(of) => {
            hold::run(of.user, of.group, of.own_user_namespace)
                .or_fail(ExitCode::Failed, || {
                    "the namespaces of the command cannot be made".to_owned()
                })?;
            Ok(ExitCode::Done)
        }
        AgentPart::Inhabit(arguments) => inhabit_command(arguments),
        AgentPart::Guard { ledger } => {
            let clean = guardian::run(ledger)
                .or_fail(ExitCode::Failed, || "the guardian failed".to_owned())?;
            Ok(if clean {
                ExitCode::Done
            } else {
                ExitCode::Dirty
            })
        }
    }
}

fn inhabit_command(arguments: &InhabitArguments) -> Outcome {
    let user = arguments.user.zip(arguments.group);
    let options = inhabit::InhabitOptions {
        control: arguments.control,
        user_namespace: arguments.user_namespace,
        credentials: user.map(|(user, group)| (user, group, arguments.also_group.clone())),
        command: arguments.command.clone(),
    };
    inhabit::run(&options).or_fail(ExitCode::Failed, || {
        "the first process around the command failed".to_owned()
    })?;
    Ok(ExitCode::Done)
}

fn serve_agent(arguments: &AgentServeArguments) -> Outcome {
    let state_directory = match &arguments.state_directory {
        Some(directory) => directory.clone(),
        None => Paths::of_this_user()?.state,
    };
    let state_directory = std::path::absolute(&state_directory).or_fail(ExitCode::Usage, || {
        format!("{} is no path", state_directory.display())
    })?;
    let options = ServeOptions {
        socket: arguments.socket.clone(),
        state_directory,
        lease_on_stdin: arguments.lease_on_stdin,
        program: SelfCommand::hexloop(),
    };
    match serve::run(&options) {
        Ok(()) => Ok(ExitCode::Done),
        Err(error) => {
            let code = ExitCode::from_number(error.exit_code());
            let remedy = error.remedy().map(str::to_owned);
            let failure = Failure::new(code, error).context("the agent cannot serve");
            Err(match remedy {
                Some(remedy) => failure.remedy(remedy),
                None => failure,
            })
        }
    }
}
