//! Multimodal splits as processes: the driver has images and a vision encoder, the stage the language model and an
//! encoder of its own.
//!
//! ```text
//! driver                                            stage
//! Look: the question, and the image or its       -> encodes the image, or decodes visual tokens; then they and the
//!       visual tokens, merged and coded             question pass through the model
//!                                                <- Token, as each is made
//! End                                            -> Books
//! ```

mod driver;
mod stage;

pub(super) use driver::drive;
pub(super) use stage::serve;

use crate::serve::connection::Terms;
use crate::serve::error::JobError;
use crate::serve::part::Part;
use crate::study::StudySpec;
use crate::study::multimodal::Encoder;

/// Whether images come to the stage as they are; else it needs no encoder.
fn images_come(study: &StudySpec) -> bool {
    let looks = study.looks();
    looks.iter().any(|look| look.encoder == Encoder::Edge)
}

/// What is said in a handshake of the language model, and of the encoder where both nodes have it.
fn terms(part: &Part, study: &StudySpec) -> Result<Terms, JobError> {
    let encoder = images_come(study).then(|| part.vision_fingerprint());
    Ok(Terms {
        second: encoder.transpose()?,
        ..part.terms(0..part.all_layers())?
    })
}
