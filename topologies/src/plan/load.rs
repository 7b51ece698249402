//! Loads as planned.

use std::net::SocketAddr;

use hexloop_workloads::load::LoadSpec;
use rand_core::Rng as _;
use serde::{Deserialize, Serialize};

/// A phase in which requests go to a server that is no part of this program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadPlan {
    /// Its name.
    pub name: String,
    /// The node that the requests come from.
    pub node: String,
    /// The node that the server listens on.
    pub server: String,
    /// The link between them; `up` goes to the server.
    pub link: String,
    /// Where the server listens.
    pub endpoint: SocketAddr,
    /// What is sent.
    pub load: LoadSpec,
    /// Length of the phase from its T0; requests still under way then are unfinished.
    pub duration_ns: u64,
}

impl LoadPlan {
    /// What everything random about it follows from: the same for every load of a plan, so that loads
    /// with the same description send the same.
    #[must_use]
    pub fn seed(seed: u64) -> u64 {
        hexloop_traces::stream(seed, "loads").next_u64()
    }

    /// When its conversations begin, if that is known before anything is sent.
    #[must_use]
    pub fn schedule(&self, seed: u64) -> Option<Vec<u64>> {
        self.load.schedule(LoadPlan::seed(seed))
    }
}
