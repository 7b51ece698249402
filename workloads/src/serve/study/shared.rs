//! Several users and one edge: the driver is all users, each with a connection of its own over its own link; the
//! stage is the edge, which batches what they ask.
//!
//! ```text
//! users, in one process                            edge
//!   hx-engine  at its moment: Ask or Prompt          hx-client (one each): hears a frame, and has the desk decide
//!   hx-send    (one each) writes it      -> link ->  desk: who may upload, who is refused
//!   hx-reader  (one each) Grant, Refused, Token <-   hx-engine: prompts and passes over the batch, between them
//! ```

mod desk;
mod edge;
mod users;

use serde::{Deserialize, Serialize};

use crate::study::shared::BatchCost;
use crate::study::shared::policy::Policy;

pub(super) use edge::serve;
pub(super) use users::drive;

/// How a round is to be played.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Order {
    number: u32,
    policy: Policy,
    batch: u32,
    /// What each user's upload takes alone.
    upload_ns: Vec<u64>,
    /// What an empty frame takes to each user and back.
    echo_ns: Vec<u64>,
}

/// What computing costs the edge; moments on its clock.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct EdgeCosts {
    prefill_ns: u64,
    batches: Vec<BatchCost>,
}

/// The number on the wire of a request of a round: what comes of an earlier one is told from it.
const fn wire_id(round: u32, id: u32) -> u32 {
    (round << 16) | (id & 0xffff)
}

/// Which request of its round a number on the wire is.
const fn request_of(wire_id: u32) -> u32 {
    wire_id & 0xffff
}

/// The number on the wire of what is asked before the first round, for no one else to be beside it: a round of that
/// number would end later than any study.
const ALONE: u32 = u16::MAX as u32;

/// The most requests of a round.
const MOST_REQUESTS: usize = 1 << 16;

/// Bytes of orders, costs and books.
const MOST_JSON_BYTES: u64 = 1 << 20;
