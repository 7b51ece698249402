//! The edge's engine: answers prompts whole, and hidden states token by token.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;

use crate::engine::KeyValueCache;
use crate::job::Placement;
use crate::serve::connection::{ConnectionError, Frame, FrameWriter, Stream, token_bytes};
use crate::serve::error::JobError;
use crate::serve::part::Part;
use crate::serve::signal::Socket;
use crate::wire::FrameKind;

/// Requests of one connection whose caches are kept at a time.
const MAX_OPEN_REQUESTS: usize = 64;

/// Something to do for a connection.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) connection: u64,
    pub(super) kind: WorkKind,
}

/// What there is to do.
#[derive(Debug)]
pub(super) enum WorkKind {
    /// A client has shown the secret.
    Opened {
        /// Where its tokens go.
        writer: FrameWriter<Stream>,
        /// Ends its reader when dropped.
        socket: Socket,
        /// For logs.
        peer: SocketAddr,
        /// Becomes true when the client has gone, so that its work is not finished in vain.
        ended: Arc<AtomicBool>,
    },
    /// It sent a frame.
    Frame(Frame),
    /// It has gone.
    Gone,
}

/// A connected client.
#[derive(Debug)]
struct Client {
    writer: FrameWriter<Stream>,
    caches: BTreeMap<u32, KeyValueCache>,
    peer: SocketAddr,
    ended: Arc<AtomicBool>,
    /// Dropped with the client, which ends the thread that reads for it.
    _socket: Socket,
}

/// Why a frame was not served.
enum Refusal {
    /// The client's fault, or its connection's: it alone is dropped.
    Client(ConnectionError),
    /// The model cannot go on.
    Job(JobError),
}

impl From<ConnectionError> for Refusal {
    fn from(error: ConnectionError) -> Refusal {
        Refusal::Client(error)
    }
}

impl From<JobError> for Refusal {
    fn from(error: JobError) -> Refusal {
        Refusal::Job(error)
    }
}

/// Serves frames in the order they arrive, until nobody can connect any more.
pub(super) fn serve(
    part: &Part,
    placement: Placement,
    work: &Receiver<Work>,
) -> Result<(), JobError> {
    let mut clients: BTreeMap<u64, Client> = BTreeMap::new();
    for Work { connection, kind } in work {
        match kind {
            WorkKind::Opened {
                writer,
                socket,
                peer,
                ended,
            } => {
                let caches = BTreeMap::new();
                let client = Client {
                    writer,
                    caches,
                    peer,
                    ended,
                    _socket: socket,
                };
                clients.insert(connection, client);
            }
            WorkKind::Gone => {
                clients.remove(&connection);
            }
            WorkKind::Frame(mut frame) => {
                // A client that was dropped may still have frames in the queue.
                let Some(client) = clients.get_mut(&connection) else {
                    continue;
                };
                let served = match placement {
                    Placement::Split { .. } => client.advance(part, &mut frame),
                    Placement::Edge | Placement::Device => client.answer(part, &frame),
                };
                match served {
                    Ok(()) => {}
                    Err(Refusal::Job(error)) => return Err(error),
                    Err(Refusal::Client(error)) => {
                        eprintln!("edge: dropping {}: {error}", client.peer);
                        clients.remove(&connection);
                    }
                }
            }
        }
    }
    Ok(())
}

impl Client {
    /// Answers a prompt with as many tokens as it asks for, each sent as soon as it is there.
    fn answer(&mut self, part: &Part, frame: &Frame) -> Result<(), Refusal> {
        let request = frame.header.request;
        let output_tokens = frame.header.position;
        let wrong = |why: String| Refusal::Client(frame.content_error(why));
        let mut input = frame
            .token_ids()
            .ok_or_else(|| wrong("half a token".to_owned()))?;
        let prompt_tokens = u32::try_from(input.len()).unwrap_or(u32::MAX);
        part.check_length(prompt_tokens, output_tokens)
            .map_err(wrong)?;
        part.check_tokens(&input).map_err(wrong)?;
        let mut cache = part.new_cache();
        for _ in 0..output_tokens {
            if self.ended.load(Ordering::Relaxed) {
                return Ok(());
            }
            let token = part.next_token(&part.carry_tokens(&input, &mut cache)?)?;
            let body = token_bytes(&[token]);
            self.writer
                .write(FrameKind::Token, request, cache.positions(), &body)?;
            input = vec![token];
        }
        Ok(())
    }

    /// Carries hidden states through the edge's layers and answers with the token that follows;
    /// or forgets a request that is over.
    fn advance(&mut self, part: &Part, frame: &mut Frame) -> Result<(), Refusal> {
        let request = frame.header.request;
        if frame.header.kind == FrameKind::End {
            return match self.caches.remove(&request) {
                Some(_) => Ok(()),
                None => Err(frame.content_error("no such request is open").into()),
            };
        }
        if !self.caches.contains_key(&request) && self.caches.len() >= MAX_OPEN_REQUESTS {
            let why = format!("{MAX_OPEN_REQUESTS} requests are open already");
            return Err(frame.content_error(why).into());
        }
        let cache = self
            .caches
            .entry(request)
            .or_insert_with(|| part.new_cache());
        if cache.positions() != frame.header.position {
            let why = format!(
                "it starts at position {}, and {} are cached",
                frame.header.position,
                cache.positions()
            );
            return Err(frame.content_error(why).into());
        }
        let states = part.read_hidden(std::mem::take(&mut frame.body));
        let states = states.map_err(|why| frame.content_error(why))?;
        part.check_length(cache.positions().saturating_add(states.tokens()), 1)
            .map_err(|why| frame.content_error(why))?;
        let token = part.next_token(&part.carry_hidden(&states, cache)?)?;
        let body = token_bytes(&[token]);
        self.writer
            .write(FrameKind::Token, request, cache.positions(), &body)?;
        Ok(())
    }
}
