//! Answering requests with the first layers on the device and the rest on the edge.
//!
//! One request after the other; for each token the hidden states go up and the token comes down.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender};

use super::broken;
use super::load::Sent;
use super::remote::receive_token;
use crate::clock;
use crate::job::Outcome;
use crate::serve::connection::{FrameReader, FrameWriter};
use crate::serve::error::JobError;
use crate::serve::part::Part;
use crate::serve::signal::{Signal, tell};
use crate::wire::{FrameKind, HEADER_BYTES, PayloadBytes};

/// The connection to the edge.
#[derive(Debug)]
pub(super) struct Link<R, W> {
    pub(super) reader: FrameReader<R>,
    pub(super) writer: FrameWriter<W>,
    pub(super) peer: SocketAddr,
}

/// Answers what arrives in `queue` until it closes.
pub(super) fn serve(
    part: &Part,
    queue: &Receiver<Sent>,
    mut link: Link<impl Read, impl Write>,
    signals: &Sender<Signal>,
) -> Result<(), JobError> {
    for sent in queue {
        answer(part, sent, &mut link, signals)?;
    }
    Ok(())
}

fn answer(
    part: &Part,
    Sent { request, prompt }: Sent,
    link: &mut Link<impl Read, impl Write>,
    signals: &Sender<Signal>,
) -> Result<(), JobError> {
    let id = request.id;
    let broken = broken(link.peer);
    let count = |payload| {
        tell(
            signals,
            Signal::Payload {
                request: id,
                payload,
            },
        );
    };
    let mut cache = part.new_cache();
    let mut input = prompt;
    for _ in 0..request.output_tokens {
        let position = cache.positions();
        let states = part.carry_tokens(&input, &mut cache)?;
        let states = part.bytes_of(&states)?;
        let up = link
            .writer
            .write(FrameKind::Hidden, id, position, &states)
            .map_err(broken)?;
        count(PayloadBytes { up, down: 0 });
        let (frame, token) = receive_token(&mut link.reader).map_err(broken)?;
        let at = clock::now();
        if frame.header.request != id || frame.header.position != cache.positions() {
            return Err(broken(frame.content_error("another token is expected")));
        }
        count(PayloadBytes {
            up: 0,
            down: HEADER_BYTES + frame.body.len() as u64,
        });
        tell(
            signals,
            Signal::Token {
                request: id,
                token,
                at,
            },
        );
        input = vec![token];
    }
    let up = link
        .writer
        .write(FrameKind::End, id, 0, &[])
        .map_err(broken)?;
    count(PayloadBytes { up, down: 0 });
    tell(
        signals,
        Signal::Ended {
            request: id,
            outcome: Outcome::Completed,
        },
    );
    Ok(())
}
