//! What a load is: when requests come and what they ask. A pure description, as plans carry it.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

/// Samples of one query in MLPerf's multi-stream scenario (LoadGen, `multi_stream_samples_per_query`
/// of mlperf.conf).
pub const MULTI_STREAM_SAMPLES: u32 = 8;

/// Everything about a load but where it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadSpec {
    /// Which of the two endpoints.
    pub api: Api,
    /// What stands before the endpoint's own path, such as `/v1`.
    pub path: String,
    /// The model that the server is asked for.
    pub model: String,
    /// When requests, or the conversations that they belong to, come.
    pub arrivals: Arrivals,
    /// How long they come, from T0.
    pub arrivals_for_ns: u64,
    /// A request that has not ended so long after its scheduled time is given up.
    pub deadline_ns: u64,
    /// What is asked.
    pub mix: Mix,
    /// Words of each prompt, or of what the user says in a turn. What that is in tokens is the
    /// server's to say.
    pub prompt_words: Length,
    /// Tokens that each request asks for (`max_tokens`).
    pub output_tokens: Length,
    /// Further members of every request's JSON body, as the text of an object; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// Whether a connection serves one request after another.
    pub keep_connections: bool,
}

/// An endpoint of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Api {
    /// `completions`: a prompt is continued.
    Completions,
    /// `chat/completions`: messages are answered.
    Chat,
}

impl Api {
    /// The end of its path.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Api::Completions => "/completions",
            Api::Chat => "/chat/completions",
        }
    }
}

/// When requests come. Rates are per 1000 seconds, so that plans compare exactly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arrivals {
    /// Open loop, exponential gaps.
    Poisson {
        /// Arrivals per 1000 s.
        per_kilosecond: u64,
    },
    /// Open loop, equal gaps; the first comes one gap after T0.
    Constant {
        /// Arrivals per 1000 s.
        per_kilosecond: u64,
    },
    /// Open loop, gamma-distributed gaps.
    Gamma {
        /// Arrivals per 1000 s.
        per_kilosecond: u64,
        /// Standard deviation of a gap over its mean, in percent: 100 is a Poisson process.
        variation_percent: u32,
    },
    /// Open loop, at recorded moments after T0, in ascending order.
    Recorded {
        /// Nanoseconds.
        moments_ns: Vec<u64>,
    },
    /// Closed loop: each user sends, waits for the answer, thinks, and sends again.
    Closed {
        /// How many.
        users: u32,
        /// How long one thinks.
        think: Think,
    },
    /// MLPerf's single-stream (LoadGen, `TestScenario::SingleStream`): the next query of one sample
    /// is sent as soon as the one before has completed.
    SingleStream,
    /// MLPerf's multi-stream (LoadGen, `TestScenario::MultiStream`): the next query of several
    /// samples is sent as soon as all of those before have completed.
    MultiStream {
        /// Samples of a query.
        samples: u32,
    },
    /// MLPerf's server (LoadGen, `TestScenario::Server`): queries of one sample, Poisson, drawn in
    /// advance; latency counts from the scheduled moment.
    Server {
        /// Arrivals per 1000 s.
        per_kilosecond: u64,
    },
    /// MLPerf's offline (LoadGen, `TestScenario::Offline`): all samples in one query at T0.
    Offline {
        /// Samples.
        samples: u32,
    },
}

impl Arrivals {
    /// Its name in experiment files.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Arrivals::Poisson { .. } => "poisson",
            Arrivals::Constant { .. } => "constant",
            Arrivals::Gamma { .. } => "gamma",
            Arrivals::Recorded { .. } => "recorded",
            Arrivals::Closed { .. } => "closed",
            Arrivals::SingleStream => "single-stream",
            Arrivals::MultiStream { .. } => "multi-stream",
            Arrivals::Server { .. } => "server",
            Arrivals::Offline { .. } => "offline",
        }
    }
}

/// How long a user of a closed loop thinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Think {
    /// The mean.
    pub mean_ns: u64,
    /// Whether it is drawn from an exponential distribution, or always the same.
    pub exponential: bool,
}

/// A number of words, tokens or turns.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Length {
    /// Always the same.
    Fixed {
        /// How many.
        count: u32,
    },
    /// Each number in between with the same probability, both ends included.
    Uniform {
        /// The smallest.
        least: u32,
        /// The largest.
        most: u32,
    },
    /// exp(N(ln median, sigma)), rounded, at least 1.
    Lognormal {
        /// The median.
        median: u32,
        /// Standard deviation of the logarithm, in percent.
        sigma_percent: u32,
        /// Draws beyond it become it.
        most: u32,
    },
    /// Those of a file, one after the other, round and round.
    Listed {
        /// The numbers.
        counts: Vec<u32>,
    },
}

impl Length {
    /// The largest that can come.
    #[must_use]
    pub fn largest(&self) -> u32 {
        match self {
            Length::Fixed { count } => *count,
            Length::Uniform { most, .. } | Length::Lognormal { most, .. } => *most,
            Length::Listed { counts } => counts.iter().copied().max().unwrap_or(0),
        }
    }
}

/// What requests ask. All but `plain` and `retrieval` need [`Api::Chat`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mix {
    /// A prompt of random words.
    Plain,
    /// Conversations: each turn carries everything said before, the server's own answers among it.
    Chat {
        /// Turns of a conversation.
        turns: Length,
        /// Time between an answer's end and the next turn.
        pause_ns: u64,
    },
    /// Loops of an agent: every answer is taken for a call of a tool, whose result goes back with
    /// everything before.
    Agent {
        /// Requests of a loop.
        turns: Length,
        /// Tools that every request declares.
        tools: u32,
        /// Words of a tool's result.
        result_words: Length,
        /// How long a tool takes.
        pause_ns: u64,
    },
    /// A question about an image that travels with it, as base64 in a data URL.
    Image {
        /// Bytes of the image file, before base64.
        bytes: u32,
    },
    /// A prompt stuffed with documents that a retriever found.
    Retrieval {
        /// How many.
        documents: u32,
        /// Words of each.
        document_words: Length,
    },
    /// Requests of a log, one after the other, round and round: each the JSON text of the body's
    /// members that are the request's own (`prompt` or `messages`, `max_tokens`).
    Recorded {
        /// The bodies.
        bodies: Vec<String>,
    },
}

impl Mix {
    /// Its name in experiment files.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Mix::Plain => "plain",
            Mix::Chat { .. } => "chat",
            Mix::Agent { .. } => "agent",
            Mix::Image { .. } => "image",
            Mix::Retrieval { .. } => "retrieval",
            Mix::Recorded { .. } => "recorded",
        }
    }
}

/// Everything a load process needs to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadJobSpec {
    /// Name of the load, for logs.
    pub name: String,
    /// Where the server listens.
    pub endpoint: SocketAddr,
    /// What is sent.
    pub load: LoadSpec,
    /// Everything random follows from it.
    pub seed: u64,
    /// Sends every request so much late: a fault injected to see that the verdict notices it;
    /// 0 in an honest run.
    #[serde(default)]
    pub send_delay_ns: u64,
}
