//! Requests that the edge answers alone: prompts go up, tokens stream back.
//!
//! Several may be under way; one thread sends and another receives, so that a link in outage
//! delays neither the load generator nor the stamps.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender};

use super::broken;
use super::load::Sent;
use crate::clock;
use crate::job::Outcome;
use crate::serve::connection::{ConnectionError, Frame, FrameReader, FrameWriter, token_bytes};
use crate::serve::error::JobError;
use crate::serve::signal::{Signal, tell};
use crate::wire::{FrameKind, HEADER_BYTES, PayloadBytes};

/// The answer that a request must get.
#[derive(Debug)]
pub(super) struct Expected {
    request: u32,
    next_position: u32,
    tokens_left: u32,
}

impl Expected {
    pub(super) fn of(due: &Sent) -> Expected {
        let request = &due.request;
        Expected {
            request: request.id,
            next_position: request.prompt_tokens,
            tokens_left: request.output_tokens,
        }
    }
}

/// Sends the prompt of every request that arrives in `queue` until it closes.
pub(super) fn send(
    queue: &Receiver<Sent>,
    mut writer: FrameWriter<impl Write>,
    peer: SocketAddr,
    signals: &Sender<Signal>,
) -> Result<(), JobError> {
    for Sent { request, prompt } in queue {
        let body = token_bytes(&prompt);
        // Told before it is sent: the answer must not overtake it in the books.
        let payload = PayloadBytes {
            up: HEADER_BYTES + body.len() as u64,
            down: 0,
        };
        tell(
            signals,
            Signal::Payload {
                request: request.id,
                payload,
            },
        );
        let written = writer.write(FrameKind::Prompt, request.id, request.output_tokens, &body);
        written.map_err(broken(peer))?;
    }
    Ok(())
}

/// Receives tokens until every answer is complete.
pub(super) fn receive(
    answers: Vec<Expected>,
    mut reader: FrameReader<impl Read>,
    peer: SocketAddr,
    signals: &Sender<Signal>,
) -> Result<(), JobError> {
    let key = |expected: Expected| (expected.request, expected);
    let mut answers: BTreeMap<u32, Expected> = answers.into_iter().map(key).collect();
    while !answers.is_empty() {
        let (frame, token) = receive_token(&mut reader).map_err(broken(peer))?;
        let at = clock::now();
        let request = frame.header.request;
        let expected = answers.get_mut(&request);
        let expected = expected.filter(|one| one.next_position == frame.header.position);
        let Some(expected) = expected else {
            let why = "no token is expected there";
            return Err(broken(peer)(frame.content_error(why)));
        };
        expected.next_position += 1;
        expected.tokens_left -= 1;
        let finished = expected.tokens_left == 0;
        let payload = PayloadBytes {
            up: 0,
            down: HEADER_BYTES + frame.body.len() as u64,
        };
        tell(signals, Signal::Payload { request, payload });
        tell(signals, Signal::Token { request, token, at });
        if finished {
            answers.remove(&request);
            tell(
                signals,
                Signal::Ended {
                    request,
                    outcome: Outcome::Completed,
                },
            );
        }
    }
    Ok(())
}

/// The next frame from the edge, which must be a token.
pub(super) fn receive_token(
    reader: &mut FrameReader<impl Read>,
) -> Result<(Frame, u32), ConnectionError> {
    let frame = reader.read(&|kind| (kind == FrameKind::Token).then_some(4))?;
    let frame = frame.ok_or(ConnectionError::Closed)?;
    match frame.token_ids().as_deref() {
        Some([token]) => {
            let token = *token;
            Ok((frame, token))
        }
        _ => Err(frame.content_error("it does not hold one token")),
    }
}
