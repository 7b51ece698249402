//! Programs of the experiment as planned.

use serde::{Deserialize, Serialize};

/// A program that runs on a node during every phase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandPlan {
    /// Its name.
    pub name: String,
    /// The node it runs on.
    pub node: String,
    /// Program and arguments; no shell sees them.
    pub argv: Vec<String>,
    /// Variables that it gets besides those that every program gets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment: Vec<(String, String)>,
    /// Where it is started; `None` stands for the root directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// When it counts as ready; `None` if nobody waits for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready: Option<ReadyPlan>,
    /// Whether it must go on until the phase is over.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lives: bool,
}

/// When a program counts as ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyPlan {
    /// What shows it.
    pub when: Readiness,
    /// How long it may take.
    pub within_ns: u64,
}

/// What shows that a program is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Readiness {
    /// It takes connections.
    Tcp {
        /// At this port of its node.
        port: u16,
    },
    /// It answers a GET.
    Http {
        /// At this port of its node.
        port: u16,
        /// Of this path.
        path: String,
        /// With this status.
        status: u16,
    },
    /// It has written a line with this text in it.
    Line {
        /// The text.
        text: String,
    },
}

impl Readiness {
    /// What is waited for, in words.
    #[must_use]
    pub fn in_words(&self) -> String {
        match self {
            Readiness::Tcp { port } => format!("a connection to port {port}"),
            Readiness::Http { port, path, status } => {
                format!("status {status} of GET {path} at port {port}")
            }
            Readiness::Line { text } => format!("a line with {text:?}"),
        }
    }
}
