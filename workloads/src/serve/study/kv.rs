//! Keys and values as processes: the stage holds contexts and what its layers made of them, the driver
//! goes on from there.
//!
//! ```text
//! driver                                       stage
//! Deposit: the tokens of each context       -> computes and keeps its keys and values
//! Probe                                     -> a mark, and a train of bytes behind it: the rate
//! Fetch: which context, how, from where     -> cuts out and codes all layers
//! decodes them all, or computes the tokens  <- KeyValues, a frame for each layer; or Context, tokens
//! its question, and token after token
//! End                                       -> Books
//! ```
//!
//! Nothing overlaps: all is coded before the first byte is sent, and all has come before anything is
//! decoded, so that the time is a sum.

mod driver;
mod loss;
mod stage;

pub(super) use driver::drive;
pub(super) use stage::serve;

use serde::{Deserialize, Serialize};

use crate::clock;
use crate::coding::kv::KvCoding;

/// A train whose dispersion tells the rate of a link.
const PROBE: [u8; 4096] = [0; 4096];
const PROBE_BYTES: u64 = PROBE.len() as u64;

/// Passes that medians of costs are over.
pub(super) const PASSES: u32 = 3;

/// Time without work in front of a pass, as a node has between requests.
const PAUSE_NS: u64 = 12_000_000;

/// What a context costs the stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StageCosts {
    prefill_ns: u64,
    encode_ns: Vec<(KvCoding, u64)>,
}

/// The median time of some passes.
pub(super) fn timed<E>(mut pass: impl FnMut() -> Result<(), E>) -> Result<u64, E> {
    let mut times = Vec::new();
    for _ in 0..PASSES {
        clock::sleep_until(clock::now().saturating_add(PAUSE_NS));
        let began = clock::now();
        pass()?;
        times.push(clock::now().saturating_sub(began));
    }
    Ok(super::costs::median(&mut times))
}
