//! Loads: requests to a server that speaks the streaming part of OpenAI's interface.

use super::Need::{Default as Usually, Optional, Required};
use super::{DAY, Field, Kind, field, time};

/// The most words, tokens, turns or the like of one request.
pub(crate) const MOST: u64 = 1 << 20;

const fn count(most: u64) -> Kind {
    Kind::Integer { least: 1, most }
}

pub(super) const LENGTH: &[Field] = &[
    field("fixed", count(MOST), Optional, "Always this number."),
    field(
        "from",
        count(MOST),
        Optional,
        "Drawn evenly from this number on ...",
    ),
    field("to", count(MOST), Optional, "... up to this one."),
    field(
        "median",
        count(MOST),
        Optional,
        "Drawn from a lognormal distribution of this median ...",
    ),
    field(
        "sigma_percent",
        Kind::Integer {
            least: 1,
            most: 500,
        },
        Optional,
        "... whose logarithm has this standard deviation, in percent ...",
    ),
    field(
        "most",
        count(MOST),
        Optional,
        "... where what is drawn beyond this becomes this.",
    ),
    field(
        "file",
        Kind::Text { longest: 4096 },
        Optional,
        "A file with one number a line, relative to this file: taken one after the other, round and round.",
    ),
];

pub(super) const LOAD: &[Field] = &[
    field("name", Kind::Identifier, Required, "Its name."),
    field(
        "node",
        Kind::Name,
        Optional,
        "The node that the requests come from: the link's first end.",
    ),
    field(
        "server",
        Kind::Name,
        Optional,
        "The node that the server listens on: the link's second end. A program of [[commands]] serves there.",
    ),
    field(
        "link",
        Kind::Identifier,
        Optional,
        "The link between them, if there is more than one.",
    ),
    field(
        "family",
        Kind::Choice(&["ipv4", "ipv6"]),
        Usually("ipv4"),
        "The address family.",
    ),
    field(
        "port",
        count(65_535),
        Required,
        "The port that the server listens at.",
    ),
    field(
        "path",
        Kind::Text { longest: 256 },
        Usually("/v1"),
        "What stands before `/completions` or `/chat/completions`.",
    ),
    field(
        "api",
        Kind::Choice(&["completions", "chat"]),
        Usually("completions"),
        "Which of the two endpoints is asked.",
    ),
    field(
        "model",
        Kind::Text { longest: 256 },
        Required,
        "The model that the server is asked for.",
    ),
    field(
        "arrivals",
        Kind::Choice(&[
            "poisson",
            "constant",
            "gamma",
            "recorded",
            "closed",
            "single-stream",
            "multi-stream",
            "server",
            "offline",
        ]),
        Required,
        "When requests (the first turns of conversations) come. Open loops, whose moments are drawn in \
         advance and kept whatever became of the requests before: poisson, constant, gamma (all at \
         `rate`), recorded (`arrivals_file`). closed: each of `users` waits for the answer, thinks, and \
         asks again. As MLPerf's LoadGen defines them: single-stream (the next query when the one before \
         has completed), multi-stream (the next `samples` when all before have), server (poisson at \
         `rate`), offline (`samples`, all at once).",
    ),
    field(
        "rate",
        Kind::PerSecond,
        Optional,
        "Mean rate of an open loop.",
    ),
    field(
        "variation_percent",
        Kind::Integer {
            least: 1,
            most: 1000,
        },
        Optional,
        "With arrivals `gamma`: standard deviation of a gap over its mean; 100 is a Poisson process.",
    ),
    field(
        "arrivals_file",
        Kind::Text { longest: 4096 },
        Optional,
        "With arrivals `recorded`: a file with one moment a line, in seconds after the phase's start, \
         relative to this file.",
    ),
    field(
        "users",
        count(10_000),
        Optional,
        "With arrivals `closed`: how many.",
    ),
    field(
        "think",
        time(0, DAY),
        Optional,
        "With arrivals `closed`: how long a user thinks before each conversation; not at all unless given.",
    ),
    field(
        "think_law",
        Kind::Choice(&["fixed", "exponential"]),
        Optional,
        "With arrivals `closed`: whether that is always so long, or drawn with that mean; fixed unless \
         given.",
    ),
    field(
        "samples",
        count(1_000_000),
        Optional,
        "With arrivals `multi-stream`: requests of a query, 8 unless given. With `offline`: of the load.",
    ),
    field(
        "mix",
        Kind::Choice(&["plain", "chat", "agent", "image", "retrieval", "recorded"]),
        Usually("plain"),
        "What requests ask. plain: random words. chat: conversations of `turns`, each turn with all that \
         was said before. agent: loops of `turns`, in which every answer counts as the call of one of \
         `tools`, whose result of `result_words` goes back. image: an image of `image` travels along. \
         retrieval: `documents` of `document_words` stand before the question. recorded: those of `log`. \
         chat, agent and image need `api = \"chat\"`.",
    ),
    field(
        "prompt_words",
        Kind::Table(LENGTH),
        Optional,
        "Words of the prompt, or of what a user says.",
    ),
    field(
        "output_tokens",
        Kind::Table(LENGTH),
        Required,
        "Tokens that a request asks for at most.",
    ),
    field(
        "turns",
        Kind::Table(LENGTH),
        Optional,
        "With mix `chat` and `agent`: requests of a conversation.",
    ),
    field(
        "pause",
        time(0, DAY),
        Optional,
        "With mix `chat` and `agent`: from an answer's end to the next turn; none unless given.",
    ),
    field(
        "tools",
        count(128),
        Optional,
        "With mix `agent`: tools that every request declares; 4 unless given.",
    ),
    field(
        "result_words",
        Kind::Table(LENGTH),
        Optional,
        "With mix `agent`: words of a tool's result.",
    ),
    field(
        "image",
        Kind::Size {
            least: 1_000,
            most: 20_000_000,
        },
        Optional,
        "With mix `image`: size of the image file; as base64 it is a third larger.",
    ),
    field(
        "documents",
        count(1_000),
        Optional,
        "With mix `retrieval`: how many.",
    ),
    field(
        "document_words",
        Kind::Table(LENGTH),
        Optional,
        "With mix `retrieval`: words of each.",
    ),
    field(
        "log",
        Kind::Text { longest: 4096 },
        Optional,
        "With mix `recorded`: a file of JSON lines, relative to this file, each an object with what is \
         the request's own (`prompt` or `messages`, `max_tokens`, ...).",
    ),
    field(
        "body",
        Kind::Text { longest: 4096 },
        Usually(""),
        "Further members of every request's body, as a JSON object, such as `{\"ignore_eos\": true}`.",
    ),
    field(
        "keep_connections",
        Kind::Boolean,
        Usually("true"),
        "Whether a connection serves one request after another.",
    ),
    field(
        "arrive_for",
        time(1, DAY),
        Required,
        "How long conversations keep beginning.",
    ),
    field(
        "deadline",
        time(1_000_000, DAY),
        Required,
        "A request that has not ended so long after its scheduled time is given up.",
    ),
    field(
        "duration",
        time(1_000_000, DAY),
        Required,
        "Length of the phase; requests still under way then are unfinished.",
    ),
];
