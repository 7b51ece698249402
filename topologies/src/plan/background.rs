//! Traffic beside phases, as planned.

use std::net::SocketAddr;

use hexloop_traces::Direction;
use hexloop_workloads::traffic::BackgroundSpec;
use serde::{Deserialize, Serialize};

/// Traffic that a link carries beside phases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackgroundPlan {
    /// The link.
    pub link: String,
    /// Which way it is sent.
    pub direction: Direction,
    /// Where the other end listens.
    pub address: SocketAddr,
    /// What is sent.
    pub background: BackgroundSpec,
    /// The phases that it is beside; empty for all.
    pub phases: Vec<String>,
}

impl BackgroundPlan {
    /// Whether it is beside the phase of that name.
    #[must_use]
    pub fn is_beside(&self, phase: &str) -> bool {
        self.phases.is_empty() || self.phases.iter().any(|name| name == phase)
    }
}
