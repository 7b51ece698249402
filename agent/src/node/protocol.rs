//! What the agent and the first process of a node say to each other: JSON lines over a socket
//! pair. End of file from the agent ends the node.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::isolation::node::Surroundings;

/// What the agent asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub(crate) enum NodeRequest {
    /// Make the node habitable; the first request. Answered by `Up` or `Failed`.
    SetUp {
        /// What the node calls itself.
        host_name: String,
        /// What of the host its processes are to see.
        shown: Shown,
        /// What is to control the congestion of its TCP connections.
        #[serde(default)]
        congestion_control: Option<String>,
    },
    /// Start a process without privileges. Answered by `Started` or `NotStarted`.
    Start {
        /// Names the process from here on.
        id: u32,
        /// What to run.
        program: Program,
        /// The user and group to run it as; `None` stays with the node's own user.
        credentials: Option<(u32, u32)>,
        /// What it is started with besides.
        #[serde(default)]
        surroundings: Surroundings,
    },
    /// Write a line to a process's standard input.
    Write {
        /// The process.
        id: u32,
        /// The line, without its end.
        line: String,
    },
    /// Kill every process of the node but the first. Answered by `AllKilled` when they are gone.
    KillAll,
}

/// What a node shows of the host, read-only, whatever covers it there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shown {
    /// A directory, as [`super::MODEL_DIRECTORY`].
    pub(crate) model_directory: Option<String>,
    /// A directory, as [`super::DRAFT_MODEL_DIRECTORY`].
    #[serde(default)]
    pub(crate) draft_model_directory: Option<String>,
    /// A program, as [`super::ENGINE_CUDA`].
    pub(crate) engine_cuda: Option<PathBuf>,
}

/// What is to be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Program {
    /// This program itself.
    Itself {
        /// Its arguments.
        arguments: Vec<String>,
        /// Threads that its tensor library may use.
        threads: u32,
    },
    /// The program that computes on GPUs, which the node shows.
    EngineCuda {
        /// What it is to do.
        part: String,
        /// Threads that its tensor library may use.
        threads: u32,
    },
    /// Another program.
    Other {
        /// It and its arguments.
        argv: Vec<String>,
        /// Variables that it gets besides.
        environment: Vec<(String, String)>,
        /// Where it is started; `None` stands for where its node is.
        directory: Option<String>,
    },
}

/// Where a line comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// What the node's first process says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub(crate) enum NodeReply {
    /// The node is habitable.
    Up {
        /// What could not be done and does not matter much.
        warnings: Vec<String>,
        /// What controls the congestion of its TCP connections.
        congestion_control: String,
    },
    /// The node is not habitable.
    Failed {
        /// Why.
        message: String,
    },
    /// A process runs.
    Started {
        /// Which.
        id: u32,
    },
    /// A process could not be started.
    NotStarted {
        /// Which.
        id: u32,
        /// Why.
        message: String,
    },
    /// A process wrote a line.
    Line {
        /// Which.
        id: u32,
        /// Where to.
        stream: Stream,
        /// The line, without its end.
        text: String,
        /// Whether it was longer than what is kept.
        cut: bool,
    },
    /// A process has ended.
    Exited {
        /// Which.
        id: u32,
        /// `exit status 0`, or `signal SIGKILL`.
        status: String,
    },
    /// No process is left but the first.
    AllKilled,
}
