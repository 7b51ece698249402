//! `hexloop agent`: the agent and the parts that it starts itself.

use std::io::{self, BufReader};

use hexloop_agent::behind::{hold, inhabit};
use hexloop_agent::process::SelfCommand;
use hexloop_agent::serve::{self, ServeOptions};
use hexloop_agent::{guardian, node, probe};
use hexloop_proto::LinkControl;
use hexloop_topologies::{HostMeter, link_change};

use super::{Voice, print, print_json};
use crate::cli::link::InhabitArguments;
use crate::cli::{AgentControlArguments, AgentPart, AgentServeArguments};
use crate::exit_code::ExitCode;
use crate::failure::{Failure, OrFail, Outcome};
use crate::format::milliseconds;
use crate::launch::{change_link, training};
use crate::paths::Paths;

pub(super) fn agent(part: &AgentPart, voice: Voice) -> Outcome {
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
            node::give_up_real_time_when_told();
            hexloop_workloads::serve::run_job(BufReader::new(io::stdin()), io::stdout())
                .or_fail(ExitCode::Failed, || "the job failed".to_owned())?;
            Ok(ExitCode::Done)
        }
        AgentPart::Bench => {
            hexloop_workloads::engine::bench::run_bench(io::stdin().lock(), io::stdout().lock())
                .or_fail(ExitCode::Failed, || {
                    "the engine cannot be measured".to_owned()
                })?;
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
        AgentPart::Control(arguments) => control(arguments, voice),
        AgentPart::Traffic => {
            node::give_up_real_time_when_told();
            hexloop_workloads::traffic::run_traffic(io::stdin().lock(), io::stdout())
                .or_fail(ExitCode::Failed, || "the traffic failed".to_owned())?;
            Ok(ExitCode::Done)
        }
        AgentPart::Study => {
            node::give_up_real_time_when_told();
            hexloop_workloads::serve::run_study(BufReader::new(io::stdin()), io::stdout())
                .or_fail(ExitCode::Failed, || "the study failed".to_owned())?;
            Ok(ExitCode::Done)
        }
        AgentPart::Load => {
            node::give_up_real_time_when_told();
            hexloop_workloads::load::run_load(BufReader::new(io::stdin()), io::stdout())
                .or_fail(ExitCode::Failed, || "the load failed".to_owned())?;
            Ok(ExitCode::Done)
        }
        AgentPart::Keep { state_directory } => {
            Ok(match hexloop_agent::hold::run(state_directory) {
                Ok(()) => ExitCode::Done,
                // Whoever started it was told, and says so.
                Err(error) => ExitCode::from_number(error.exit_code()),
            })
        }
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
        descriptors: arguments.descriptor.clone(),
        command: arguments.command.clone(),
    };
    inhabit::run(&options).or_fail(ExitCode::Failed, || {
        "the first process around the command failed".to_owned()
    })?;
    Ok(ExitCode::Done)
}

/// What was changed, for scripts.
#[derive(serde::Serialize)]
struct Changed<'a> {
    link: &'a str,
    phase: &'a str,
    /// From when on it holds, after the phase's T0.
    at_ns: u64,
    change: String,
}

fn control(arguments: &AgentControlArguments, voice: Voice) -> Outcome {
    let (directions, change) = link_change(&arguments.action, &arguments.settings)
        .or_fail(ExitCode::InvalidInput, || {
            "the change is refused".to_owned()
        })?;
    let control = LinkControl {
        link: arguments.link.clone(),
        directions,
        change,
    };
    let made = training::runtime()?.block_on(change_link(&arguments.socket, &control))?;
    let link = &arguments.link;
    if voice.json {
        print_json(&Changed {
            link,
            phase: &made.phase,
            at_ns: made.at_ns,
            change: change.to_string(),
        })?;
    } else {
        let at = milliseconds(made.at_ns);
        print(&format!(
            "{link} {change}, from {at} of phase {} on\n",
            made.phase
        ))?;
    }
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
        metrics: arguments.metering.metrics,
        meters: arguments
            .metering
            .sampling
            .meters
            .iter()
            .map(|argument| HostMeter::from_argument(argument))
            .collect::<Result<Vec<HostMeter>, String>>()
            .map_err(|why| Failure::message(ExitCode::Usage, format!("--meter: {why}")))?,
        rate_hz: arguments.metering.sampling.meter_rate,
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
