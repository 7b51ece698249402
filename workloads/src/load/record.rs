//! What an exchange with the server was, beside what [`crate::job::RequestRecord`] says of every request.

use serde::{Deserialize, Serialize};

use crate::job::Outcome;

/// How an exchange ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// The stream said that it was done.
    Completed,
    /// It was given up at its deadline.
    Timeout,
    /// The phase was over.
    PhaseOver,
    /// No connection came about.
    NotConnected {
        /// Why.
        reason: String,
    },
    /// The server answered with another status than 200.
    Status {
        /// Which.
        code: u16,
        /// What it said of it, shortened.
        message: String,
    },
    /// The server answered with something else than a stream of events.
    NotAStream {
        /// Its content type.
        content_type: String,
    },
    /// The stream ended, or the connection broke, before the stream said that it was done.
    ClosedMidStream,
    /// An event was not what the interface says.
    MalformedEvent {
        /// Why.
        reason: String,
    },
    /// An event was not UTF-8.
    NotUtf8,
    /// An event, the head or the whole answer was larger than what is taken.
    TooLarge {
        /// Which of them.
        what: String,
    },
    /// An event told of an error.
    ServerError {
        /// What it said, shortened.
        message: String,
    },
}

impl Ending {
    /// A word for tables.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Ending::Completed => "completed",
            Ending::Timeout => "timeout",
            Ending::PhaseOver => "phase-over",
            Ending::NotConnected { .. } => "not-connected",
            Ending::Status { .. } => "http-status",
            Ending::NotAStream { .. } => "not-a-stream",
            Ending::ClosedMidStream => "closed-mid-stream",
            Ending::MalformedEvent { .. } => "malformed-event",
            Ending::NotUtf8 => "not-utf-8",
            Ending::TooLarge { .. } => "too-large",
            Ending::ServerError { .. } => "server-error",
        }
    }

    /// What it means for the request.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let failed = |reason: String| Outcome::Failed { reason };
        match self {
            Ending::Completed => Outcome::Completed,
            Ending::Timeout | Ending::PhaseOver => Outcome::Unfinished,
            Ending::NotConnected { reason } => failed(format!("no connection: {reason}")),
            Ending::Status { code, message } => failed(format!("HTTP status {code}: {message}")),
            Ending::NotAStream { content_type } => failed(format!(
                "the answer is no stream of events but {content_type}"
            )),
            Ending::ClosedMidStream => failed("the stream was closed before its end".to_owned()),
            Ending::MalformedEvent { reason } => failed(format!("a malformed event: {reason}")),
            Ending::NotUtf8 => failed("an event is not UTF-8".to_owned()),
            Ending::TooLarge { what } => failed(format!("{what} is too large")),
            Ending::ServerError { message } => failed(format!("the server says: {message}")),
        }
    }
}

/// What an exchange was. Times are offsets from T0 in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExchangeRecord {
    /// The request's number.
    pub id: u32,
    /// The conversation that it belongs to.
    pub conversation: u32,
    /// Its place in it, from 0.
    pub turn: u32,
    /// How it ended.
    pub ending: Ending,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// When the connection was there that was opened for it; `None` where one was kept.
    pub connected_ns: Option<u64>,
    /// When the first byte of the answer was read.
    pub first_byte_ns: Option<u64>,
    /// When the last one was.
    pub last_byte_ns: Option<u64>,
    /// Bytes of each burst of the answer: what was read with less than [`super::BURST_GAP_NS`]
    /// between one read and the next.
    pub bursts: Vec<u32>,
    /// Events that carried text.
    pub pieces: u32,
    /// Bytes of that text.
    pub text_bytes: u64,
    /// Words of the user's that it carried.
    pub prompt_words: u32,
    /// Tokens of the prompt, as the server counted; `None` where it did not say.
    pub prompt_tokens: Option<u32>,
    /// Tokens of the answer, as the server counted; `None` where it did not say.
    pub output_tokens: Option<u32>,
}
