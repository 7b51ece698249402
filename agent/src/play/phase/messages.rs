//! What the nodes say while a phase plays: lines of processes, events of jobs, ends.

use std::sync::mpsc::RecvTimeoutError;

use hexloop_proto::{CommandExit, EventBody};
use hexloop_workloads::job::JobEvent;

use super::{Playing, Role, TICK};
use crate::node::{NodeError, NodeReply, Stream};
use crate::play::error::PlayError;

impl Playing<'_> {
    /// Takes one message of a node, if one comes within a tick.
    pub(super) fn hear(&mut self) -> Result<(), PlayError> {
        let message = match self.scene.messages.recv_timeout(TICK) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => return Ok(()),
            Err(RecvTimeoutError::Disconnected) => return Err(self.gone(0)),
        };
        let place = message.node;
        let Some(reply) = message.reply else {
            return Err(self.gone(place));
        };
        match reply {
            NodeReply::Line {
                id,
                stream,
                text,
                cut,
            } => self.note_line(place, id, stream, text, cut),
            NodeReply::Exited { id, status } => self.note_exit(place, id, status),
            NodeReply::NotStarted { id, message } => match self.processes.get(&id) {
                Some((_, Role::Command { name, .. })) => {
                    let reason = format!("program {name} cannot be started: {message}");
                    Err(self.failed(place, reason))
                }
                _ => {
                    let surroundings = &self.scene.surroundings[place];
                    let hint = match surroundings.realtime {
                        Some(_) => {
                            " (with `realtime`, which this kernel may not allow in control groups)"
                        }
                        None => "",
                    };
                    Err(self.failed(place, format!("it cannot be started: {message}{hint}")))
                }
            },
            NodeReply::Failed { message } => Err(self.failed(place, message)),
            NodeReply::Up { .. } | NodeReply::Started { .. } | NodeReply::AllKilled => Ok(()),
        }
    }

    pub(super) fn gone(&self, place: usize) -> PlayError {
        let node = self
            .scene
            .nodes
            .get(place)
            .map(|node| node.name.clone())
            .unwrap_or_default();
        NodeError::Gone { node }.into()
    }

    pub(super) fn failed(&self, place: usize, reason: String) -> PlayError {
        PlayError::JobFailed {
            phase: self.phase.name.to_owned(),
            node: self.scene.nodes[place].name.clone(),
            reason,
        }
    }

    pub(super) fn note_line(
        &mut self,
        place: usize,
        id: u32,
        stream: Stream,
        text: String,
        cut: bool,
    ) -> Result<(), PlayError> {
        let node = self.scene.nodes[place].name.clone();
        let name = match self.processes.get_mut(&id) {
            Some((_, Role::Job { .. })) if stream == Stream::Output && !cut => {
                if let Ok(event) = serde_json::from_str(&text) {
                    return self.note_job_event(place, id, event);
                }
                // Some library's remark.
                self.phase.name.to_owned()
            }
            Some((_, Role::Job { .. })) => self.phase.name.to_owned(),
            Some((
                _,
                Role::Command {
                    name,
                    said,
                    awaited,
                    ..
                },
            )) => {
                said.push(&text);
                if awaited.as_ref().is_some_and(|wanted| text.contains(wanted)) {
                    *awaited = None;
                }
                name.clone()
            }
            // A process of an earlier phase, or one whose end was already told.
            None => return Ok(()),
        };
        let line = if cut { text + " [cut]" } else { text };
        self.events.emit(EventBody::Log {
            node,
            job: name,
            line,
        });
        Ok(())
    }

    pub(super) fn note_job_event(
        &mut self,
        place: usize,
        id: u32,
        event: JobEvent,
    ) -> Result<(), PlayError> {
        let node = self.scene.nodes[place].name.clone();
        match event {
            JobEvent::Ready {
                weight_bytes,
                engine_path,
            } => {
                self.ready += 1;
                self.events.emit(EventBody::JobReady {
                    node,
                    weight_bytes,
                    engine_path,
                });
            }
            JobEvent::Request(record) => {
                self.events.emit(EventBody::Request { node, record });
            }
            JobEvent::Exchange(record) => {
                self.events.emit(EventBody::Exchange { node, record });
            }
            JobEvent::Traffic(record) => {
                let link = match self.processes.get(&id) {
                    Some((_, Role::Job { link, .. })) => link.clone(),
                    _ => None,
                };
                self.events.emit(EventBody::Traffic { node, link, record });
            }
            JobEvent::Study(finding) => {
                self.events.emit(EventBody::Study { node, finding });
            }
            JobEvent::SetLinks {
                round_trip_ns,
                rate_bps,
                ends_only,
            } => self.set_links(id, (round_trip_ns, rate_bps), ends_only)?,
            JobEvent::PlayTraces => self.play_traces(id)?,
            JobEvent::Warning { message } => {
                let phase = &self.phase.name;
                let message = format!("the job on {node} in phase {phase}: {message}");
                self.events.emit(EventBody::Warning { message });
            }
            JobEvent::Idle => {
                let role = self.processes.get(&id).map(|(_, role)| role);
                let sends = role.is_some_and(Role::sends_requests);
                self.busy = self.busy.saturating_sub(usize::from(sends));
            }
            JobEvent::Done(totals) => {
                let role = self.processes.get(&id).map(|(_, role)| role);
                if !matches!(
                    role,
                    Some(Role::Job {
                        is_beside: true,
                        ..
                    })
                ) {
                    match self.totals.get_mut(&place) {
                        Some(held) => held.add(&totals),
                        None => {
                            self.totals.insert(place, totals);
                        }
                    }
                }
            }
            JobEvent::Failed { reason } => {
                if !self.stopping {
                    return Err(self.failed(place, reason));
                }
                let message = format!("the job on {node} failed at its end: {reason}");
                self.events.emit(EventBody::Warning { message });
            }
        }
        Ok(())
    }

    pub(super) fn note_exit(
        &mut self,
        place: usize,
        id: u32,
        status: String,
    ) -> Result<(), PlayError> {
        match self.processes.remove(&id) {
            Some((_, Role::Job { .. })) if !self.stopping => {
                let reason = format!("it ended too early, with {status}");
                Err(self.failed(place, reason))
            }
            Some((
                _,
                Role::Command {
                    name,
                    lives: true,
                    said,
                    ..
                },
            )) if !self.stopping => {
                let told = said.told();
                let reason = format!("program {name} ended too early, with {status}{told}");
                Err(self.failed(place, reason))
            }
            Some((_, Role::Command { name, .. })) => {
                self.events.emit(EventBody::CommandExit(CommandExit {
                    command: name,
                    status,
                }));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
