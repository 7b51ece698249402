//! What the processes of a study are told.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::StudySpec;
use crate::device::ComputeSettings;
use crate::transport::Transport;

/// Everything that a process of a study needs to start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StudyJobSpec {
    /// Name of the study, for logs.
    pub name: String,
    /// This process's part.
    pub role: StudyRole,
    /// Directory with the model, as this process sees it.
    pub model_directory: PathBuf,
    /// Directory with the second, smaller model; `None` where the technique needs none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draft_directory: Option<PathBuf>,
    /// Threads of the tensor engine.
    pub threads: u32,
    /// Where the engine computes.
    #[serde(default, skip_serializing_if = "ComputeSettings::is_default")]
    pub compute: ComputeSettings,
    /// How many times as long as it really takes every computation lasts; `None` for once.
    pub slowdown: Option<u32>,
    /// How frames cross the links.
    #[serde(default, skip_serializing_if = "Transport::is_default")]
    pub transport: Transport,
    /// 64 hexadecimal digits that both ends of a connection must know.
    pub secret: String,
}

/// The part of one process of a study.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StudyRole {
    /// The first node of the path.
    Driver {
        /// What is done.
        study: StudySpec,
        /// What each prompt is drawn from, those that no trial asks at the end.
        prompt_seeds: Vec<u64>,
        /// Where the next node listens; `None` if it is alone.
        next: Option<SocketAddr>,
    },
    /// A further node.
    Stage {
        /// Its place in the path, 1 for the first after the driver.
        place: u32,
        /// What is done.
        study: StudySpec,
        /// Where to listen: an address of the node itself.
        listen: SocketAddr,
        /// Where the next node listens; `None` for the last.
        next: Option<SocketAddr>,
    },
    /// Several users, each on a link of its own.
    Users {
        /// What is done.
        study: StudySpec,
        /// What each prompt is drawn from.
        prompt_seeds: Vec<u64>,
        /// Where the edge listens, for each user.
        edges: Vec<SocketAddr>,
    },
    /// The edge that they share.
    Edge {
        /// What is done.
        study: StudySpec,
        /// Where to listen for each user: addresses of the node itself.
        listens: Vec<SocketAddr>,
    },
}
