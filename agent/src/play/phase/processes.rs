//! The processes of a phase: started, told what to do, ended.

use std::sync::mpsc::RecvTimeoutError;

use hexloop_topologies::plan::{Plan, Readiness};
use hexloop_workloads::clock;
use hexloop_workloads::device::ComputeDevice;
use hexloop_workloads::job::JobCommand;

use super::ready::LastLines;
use super::{DONE_LIMIT_NS, Playing, Role, TICK};
use crate::node::{NodeMessage, NodeReply, NodeRequest, Program};
use crate::play::Stage;
use crate::play::error::PlayError;
use crate::play::jobs::{NodeJob, Orders};
use crate::play::scene::check;

/// How long a job may take to load its model, also on a node that is slowed down, or on a GPU whose
/// driver compiles code for it with one CPU.
const READY_LIMIT_NS: u64 = 180_000_000_000;

/// The number of the first command; jobs have smaller ones.
const FIRST_COMMAND: u32 = 1000;

impl Playing<'_> {
    pub(super) fn start_job(
        &mut self,
        stage: &Stage,
        id: u32,
        job: &NodeJob,
    ) -> Result<(), PlayError> {
        let node = &mut self.scene.nodes[job.place];
        let (part, threads, device, line) = match &job.orders {
            Orders::Model(spec) => ("job", spec.threads, spec.compute.device, json_line(spec)?),
            Orders::Study(spec) => ("study", spec.threads, spec.compute.device, json_line(spec)?),
            Orders::Traffic(spec) => ("traffic", 1, ComputeDevice::Cpu, json_line(spec)?),
            Orders::Load(spec) => ("load", 1, ComputeDevice::Cpu, json_line(spec)?),
        };
        let program = match device {
            ComputeDevice::Cpu => {
                let arguments = stage.program.arguments_of_part(part);
                let arguments = arguments
                    .into_iter()
                    .map(|word| word.to_string_lossy().into_owned())
                    .collect();
                Program::Itself { arguments, threads }
            }
            ComputeDevice::Cuda(_) => Program::EngineCuda {
                part: part.to_owned(),
                threads,
            },
        };
        node.ask(&NodeRequest::Start {
            id,
            program,
            credentials: stage.credentials,
            surroundings: self.scene.surroundings[job.place].clone(),
        })?;
        node.ask(&NodeRequest::Write { id, line })?;
        let role = Role::Job {
            sends_requests: job.sends_requests,
            is_beside: job.is_beside,
            link: job.link.clone(),
        };
        self.processes.insert(id, (job.place, role));
        let wanted = self.ready + 1;
        let deadline = clock::now() + READY_LIMIT_NS;
        while self.ready < wanted {
            check(self.stop)?;
            if clock::now() >= deadline {
                return Err(PlayError::JobNotReady {
                    phase: self.phase.name.to_owned(),
                    node: self.scene.nodes[job.place].name.clone(),
                    seconds: READY_LIMIT_NS / 1_000_000_000,
                });
            }
            self.hear()?;
        }
        Ok(())
    }

    /// Starts the programs that somebody waits for, or the others.
    pub(super) fn start_commands(
        &mut self,
        stage: &Stage,
        plan: &Plan,
        waited_for: bool,
    ) -> Result<(), PlayError> {
        let commands = (FIRST_COMMAND..).zip(&plan.commands);
        for (id, command) in commands.filter(|(_, it)| it.ready.is_some() == waited_for) {
            let place = plan.nodes.iter().position(|node| node.name == command.node);
            let place = place.ok_or_else(|| {
                PlayError::Plan(format!("command {} names a node it lacks", command.name))
            })?;
            let surroundings = self.scene.surroundings[place].clone();
            self.scene.nodes[place].ask(&NodeRequest::Start {
                id,
                program: Program::Other {
                    argv: command.argv.clone(),
                    environment: command.environment.clone(),
                    directory: command.directory.clone(),
                },
                credentials: stage.credentials,
                surroundings,
            })?;
            let role = Role::Command {
                name: command.name.clone(),
                lives: command.lives || waited_for,
                said: LastLines::default(),
                awaited: match command.ready.as_ref().map(|ready| &ready.when) {
                    Some(Readiness::Line { text }) => Some(text.clone()),
                    _ => None,
                },
            };
            self.processes.insert(id, (place, role));
            if let Some(ready) = &command.ready {
                self.await_command(id, place, command, ready)?;
                if !command.lives
                    && let Some((_, Role::Command { lives, .. })) = self.processes.get_mut(&id)
                {
                    *lives = false;
                }
            }
        }
        Ok(())
    }

    pub(super) fn tell_jobs(
        &mut self,
        command: JobCommand,
        which: impl Fn(&Role) -> bool,
    ) -> Result<(), PlayError> {
        let line = json_line(&command)?;
        for (id, (place, role)) in &self.processes {
            if which(role) {
                let request = NodeRequest::Write {
                    id: *id,
                    line: line.clone(),
                };
                self.scene.nodes[*place].ask(&request)?;
            }
        }
        Ok(())
    }

    /// Ends every process of every node, so that the next phase finds none.
    pub(super) fn kill_all(&mut self) -> Result<(), PlayError> {
        for place in 0..self.scene.nodes.len() {
            self.scene.nodes[place].ask(&NodeRequest::KillAll)?;
            let deadline = clock::now() + DONE_LIMIT_NS;
            loop {
                let message = self.scene.messages.recv_timeout(TICK);
                match message {
                    Ok(NodeMessage {
                        node,
                        reply: Some(NodeReply::AllKilled),
                    }) if node == place => {
                        break;
                    }
                    Ok(NodeMessage {
                        node,
                        reply: Some(NodeReply::Exited { id, status }),
                    }) => {
                        self.note_exit(node, id, status)?;
                    }
                    Ok(NodeMessage { node, reply: None }) => return Err(self.gone(node)),
                    Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return Err(self.gone(place)),
                }
                if clock::now() >= deadline {
                    return Err(self.gone(place));
                }
            }
        }
        Ok(())
    }
}

pub(super) fn json_line(value: &impl serde::Serialize) -> Result<String, PlayError> {
    serde_json::to_string(value).map_err(|error| PlayError::System {
        action: "write a message as JSON",
        source: error.into(),
    })
}
