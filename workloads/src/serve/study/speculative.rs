//! Speculative decoding as processes: the driver drafts with the small model, the stage verifies with
//! the large one. Both hold the small one: the stage computes with it what a draft's distribution was
//! where only ids cross, and how likely drafts are accepted.
//!
//! ```text
//! driver                                         stage
//! Open: how, and the prompt                   -> the prompt but its last token through the large model
//! drafts g tokens
//! Draft: their ids, perhaps distributions     -> the last token and the draft in one pass; what is
//!                                                rejected is cut from its key-value cache
//! cuts its own cache, drafts on               <- Verdict: how many are accepted, and the next token
//! End                                         -> Books
//! ```

mod body;
mod drafter;
mod driver;
#[cfg(test)]
mod lossless;
mod stage;
mod verifier;

pub(super) use driver::drive;
pub(super) use stage::serve;

use crate::serve::connection::Terms;
use crate::serve::error::JobError;
use crate::serve::part::Part;

/// What is said in a handshake of the large model's layers and of the small model.
fn terms(large: &Part, small: &Part) -> Result<Terms, JobError> {
    Ok(Terms {
        second: Some(small.fingerprint()?),
        ..large.terms(0..large.all_layers())?
    })
}
