//! One request and its answer, from the moment that it is handed over to the stream's last byte.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode, header};
use tokio::sync::watch;

use super::answer::{Answer, shortened};
use super::conversation::Question;
use super::http::{Connection, Meter};
use super::record::{Ending, ExchangeRecord};
use super::sse::{EventStream, StreamFault};
use crate::clock::{self, MonotonicNs};
use crate::job::RequestRecord;
use crate::wire::PayloadBytes;

/// The most bytes of one event.
const EVENT_BYTES: usize = 1 << 20;

/// The most bytes of an answer.
const ANSWER_BYTES: u64 = 256 << 20;

/// The most bytes of an answer that is no stream which are read for the server's own words.
const WORDS_BYTES: usize = 4 << 10;

/// How long the end of an answer may take after the stream said that it was done.
const END_LIMIT: Duration = Duration::from_secs(1);

/// Where requests go, and the connections that are free.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) endpoint: SocketAddr,
    pub(super) path: String,
    pub(super) keep_connections: bool,
    pub(super) t0: MonotonicNs,
    pub(super) free: RefCell<Vec<Connection>>,
}

/// Which request it is, and when it must be over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) id: u32,
    pub(super) conversation: u32,
    pub(super) turn: u32,
    pub(super) scheduled: MonotonicNs,
    pub(super) deadline: MonotonicNs,
}

/// What came of a request.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) record: RequestRecord,
    pub(super) exchange: ExchangeRecord,
    /// What was answered.
    pub(super) text: String,
    /// When it was over for who sent it.
    pub(super) at: MonotonicNs,
}

/// What is known of a request while it is under way.
#[derive(Debug, Default)]
struct Progress {
    meter: Option<Rc<Meter>>,
    connected: Option<MonotonicNs>,
    status: Option<u16>,
    tokens: Vec<MonotonicNs>,
    answer: Answer,
    /// When the stream said that it was done.
    done: Option<MonotonicNs>,
}

/// Sends a request and follows its answer to the end, its deadline or the end of the phase.
pub(super) async fn carry_out(
    target: &Target,
    place: Place,
    question: Question,
    over: &mut watch::Receiver<bool>,
) -> Ended {
    let sent = clock::now();
    let mut progress = Progress::default();
    let patience = Duration::from_nanos(place.deadline.saturating_sub(sent));
    let words = question.words;
    let ending = tokio::select! {
        biased;
        ending = converse(target, question.body, &mut progress) => ending,
        () = tokio::time::sleep(patience) => Ending::Timeout,
        _ = over.wait_for(|over| *over) => Ending::PhaseOver,
    };
    let since = |moment: MonotonicNs| moment.saturating_sub(target.t0);
    let meter = progress.meter.unwrap_or_default();
    let Progress { answer, tokens, .. } = progress;
    let at = progress.done.unwrap_or_else(clock::now);
    Ended {
        record: RequestRecord {
            id: place.id,
            scheduled_ns: since(place.scheduled),
            sent_ns: since(sent),
            token_ns: tokens.into_iter().map(since).collect(),
            prompt_tokens: answer.prompt_tokens.unwrap_or(0),
            tokens: Vec::new(),
            ties: Vec::new(),
            outcome: ending.outcome(),
            payload: PayloadBytes {
                up: meter.up.get(),
                down: meter.down.get(),
            },
        },
        exchange: ExchangeRecord {
            id: place.id,
            conversation: place.conversation,
            turn: place.turn,
            ending,
            status: progress.status,
            connected_ns: progress.connected.map(since),
            first_byte_ns: meter.first_read.get().map(since),
            last_byte_ns: meter.last_read.get().map(since),
            bursts: meter.bursts.borrow().clone(),
            pieces: answer.pieces,
            text_bytes: u64::try_from(answer.text.len()).unwrap_or(0),
            prompt_words: words,
            prompt_tokens: answer.prompt_tokens,
            output_tokens: answer.output_tokens,
        },
        text: answer.text,
        at,
    }
}

async fn converse(target: &Target, body: Vec<u8>, progress: &mut Progress) -> Ending {
    let request = match request(target, Bytes::from(body)) {
        Ok(request) => request,
        Err(error) => return not_connected(error.to_string()),
    };
    let (connection, response) = match send(target, request, progress).await {
        Ok(answered) => answered,
        Err(ending) => return ending,
    };
    progress.status = Some(response.status().as_u16());
    let ending = read(response, progress).await;
    if ending == Ending::Completed && target.keep_connections && connection.sender.is_ready() {
        // Its meter goes on counting once the next request renews it, which is after this record.
        target.free.borrow_mut().push(connection);
    }
    ending
}

const fn not_connected(reason: String) -> Ending {
    Ending::NotConnected { reason }
}

fn request(target: &Target, body: Bytes) -> Result<Request<Full<Bytes>>, hyper::http::Error> {
    Request::builder()
        .method(Method::POST)
        .uri(&target.path)
        .header(header::HOST, target.endpoint.to_string())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "text/event-stream")
        .body(Full::new(body))
}

/// Sends a request over a connection that is free, or over a new one.
async fn send(
    target: &Target,
    mut request: Request<Full<Bytes>>,
    progress: &mut Progress,
) -> Result<(Connection, Response<Incoming>), Ending> {
    loop {
        let free = target.free.borrow_mut().pop();
        let was_free = free.is_some();
        let mut connection = match free {
            Some(connection) => connection,
            None => {
                let opened = Connection::open(target.endpoint).await;
                let opened = opened.map_err(not_connected)?;
                progress.connected = Some(clock::now());
                opened
            }
        };
        if !connection.renew().await {
            if was_free {
                continue;
            }
            return Err(not_connected("it was closed at once".to_owned()));
        }
        progress.meter = Some(Rc::clone(&connection.meter));
        let again = was_free.then(|| request.clone());
        match connection.sender.try_send_request(request).await {
            Ok(response) => return Ok((connection, response)),
            Err(error) => match again {
                // The server had closed it meanwhile: it answered nothing (RFC 9112, section 9.3.1).
                Some(unanswered) if connection.meter.down.get() == 0 => request = unanswered,
                _ => return Err(broken(&error.into_error())),
            },
        }
    }
}

/// What an error of the connection means for the answer.
fn broken(error: &hyper::Error) -> Ending {
    if error.is_parse_too_large() {
        let what = "the head of the answer".to_owned();
        return Ending::TooLarge { what };
    }
    if error.is_parse() {
        let reason = format!("the answer is no HTTP: {error}");
        return Ending::MalformedEvent { reason };
    }
    Ending::ClosedMidStream
}

/// Follows an answer to its end.
async fn read(response: Response<Incoming>, progress: &mut Progress) -> Ending {
    let status = response.status();
    let content_type = response.headers().get(header::CONTENT_TYPE);
    let content_type = content_type.map_or_else(String::new, |value| {
        shortened(&String::from_utf8_lossy(value.as_bytes()))
    });
    let mut body = response.into_body();
    if status != StatusCode::OK {
        let code = status.as_u16();
        let message = shortened(&words(&mut body).await);
        return Ending::Status { code, message };
    }
    if !content_type.starts_with("text/event-stream") {
        return Ending::NotAStream { content_type };
    }
    let mut stream = EventStream::new(EVENT_BYTES);
    let mut events = Vec::new();
    while !progress.answer.done {
        let frame = match body.frame().await {
            None => return progress.answer.ending(),
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                return match progress.answer.ending() {
                    Ending::Completed => Ending::Completed,
                    _ => broken(&error),
                };
            }
        };
        let Some(data) = frame.data_ref() else {
            continue;
        };
        let fault = stream.push(data, &mut events);
        if let Err(ending) = take(&mut events, progress) {
            return ending;
        }
        match fault {
            Ok(()) => {}
            Err(StreamFault::NotUtf8) => return Ending::NotUtf8,
            Err(StreamFault::TooLarge) => {
                let what = "an event".to_owned();
                return Ending::TooLarge { what };
            }
        }
        let read = progress.meter.as_ref().map_or(0, |meter| meter.down.get());
        if read > ANSWER_BYTES {
            let what = "the answer".to_owned();
            return Ending::TooLarge { what };
        }
    }
    // The rest of the framing, so that the connection can serve again.
    let rest = async { while let Some(Ok(_)) = body.frame().await {} };
    let _ = tokio::time::timeout(END_LIMIT, rest).await;
    Ending::Completed
}

/// Takes in events, all of which were whole at the last read.
fn take(events: &mut Vec<String>, progress: &mut Progress) -> Result<(), Ending> {
    let read = progress
        .meter
        .as_ref()
        .and_then(|meter| meter.last_read.get());
    let moment = read.unwrap_or_else(clock::now);
    for event in events.drain(..) {
        if progress.answer.take(&event)? {
            progress.tokens.push(moment);
        }
        if progress.answer.done {
            progress.done = Some(moment);
            break;
        }
    }
    Ok(())
}

/// The beginning of what a server says.
async fn words(body: &mut Incoming) -> String {
    let mut bytes = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        if bytes.len() >= WORDS_BYTES {
            break;
        }
    }
    bytes.truncate(WORDS_BYTES);
    String::from_utf8_lossy(&bytes).into_owned()
}
