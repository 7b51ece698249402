//! Hidden states into scores of the next token, and the best of those.

use candle_core::{D, DType, Tensor};
use candle_nn::ops::rms_norm;

use super::{Head, Model, epsilon};
use crate::engine::error::EngineError;
use crate::engine::hidden::Hidden;
use crate::engine::linear::Maps;
use crate::engine::threads;

impl Model {
    /// Scores of every token of the vocabulary to come after each of the given states.
    ///
    /// # Errors
    /// A part without the head, or states of another width.
    pub fn logits(&self, hidden: &Hidden) -> Result<Vec<Vec<f32>>, EngineError> {
        let scores = self.score(&hidden.states)?;
        scores
            .to_vec2::<f32>()
            .map_err(EngineError::tensor("reading scores"))
    }

    /// The most probable token after the last of the given states; of equals, the lowest id.
    ///
    /// # Errors
    /// A part without the head, states of another width, or scores that are not numbers.
    pub fn next_token(&self, hidden: &Hidden) -> Result<u32, EngineError> {
        let next = self.next_tokens(&hidden.last()?)?;
        next.first().copied().ok_or(EngineError::NoTokens)
    }

    /// The most probable token after each of the given states; of equals, the lowest id on CPUs and
    /// any on a GPU, where only ids leave the device.
    ///
    /// # Errors
    /// See [`Model::next_token`].
    pub fn next_tokens(&self, hidden: &Hidden) -> Result<Vec<u32>, EngineError> {
        let scores = self.score(&hidden.states)?;
        let reading = || EngineError::tensor("reading scores");
        let not_numbers = EngineError::NotNumbers {
            precision: self.compute.precision(),
        };
        if scores.device().is_cpu() {
            let scores = scores.to_vec2::<f32>().map_err(reading())?;
            let best = scores.iter().map(|scores| argmax(scores));
            return best.collect::<Option<_>>().ok_or(not_numbers);
        }
        // A sum is no number where one of its terms is none.
        let sums = scores.sum(D::Minus1).and_then(|sums| sums.to_vec1::<f32>());
        if sums.map_err(reading())?.iter().any(|sum| sum.is_nan()) {
            return Err(not_numbers);
        }
        let best = scores.argmax(D::Minus1);
        best.and_then(|best| best.to_vec1::<u32>())
            .map_err(reading())
    }

    /// The final norm and what scores the next token, where this part has them.
    pub(in super::super) fn head_weights(&self) -> Option<(&Tensor, &Maps)> {
        let head = self.head.as_ref();
        head.map(|head| (&head.norm, &head.scores))
    }

    fn head(&self) -> Result<&Head, EngineError> {
        let head = self.head.as_ref();
        head.ok_or(EngineError::MissingPart {
            piece: "output head",
        })
    }

    /// Scores of states that have been normed, as f32.
    pub(in super::super) fn score_normed(&self, states: &Tensor) -> Result<Tensor, EngineError> {
        let head = self.head()?;
        threads::run(|| {
            let scores = head.scores.apply_one(states);
            scores
                .and_then(|scores| scores.to_dtype(DType::F32))
                .map_err(EngineError::tensor("scoring the next token"))
        })
    }

    /// Scores, as f32.
    pub(in super::super) fn score(&self, states: &Tensor) -> Result<Tensor, EngineError> {
        let head = self.head()?;
        let (expected, found) = (self.config.width, states.dim(D::Minus1));
        let found = u32::try_from(found.unwrap_or(0)).unwrap_or(u32::MAX);
        if expected != found {
            return Err(EngineError::HiddenWidth { expected, found });
        }
        threads::run(|| {
            let states = states.contiguous();
            states
                .and_then(|states| self.compute.place(&states))
                .and_then(|states| rms_norm(&states, &head.norm, epsilon(&self.config)))
                .and_then(|states| head.scores.apply_one(&states))
                .and_then(|scores| scores.to_dtype(DType::F32))
                .map_err(EngineError::tensor("scoring the next token"))
        })
    }
}

/// Index of the largest score; of equals, the lowest. `None` where a score is not a number, or none
/// is more than minus infinity.
pub(crate) fn argmax(scores: &[f32]) -> Option<u32> {
    let mut best = (None, f32::NEG_INFINITY);
    for (index, score) in (0..).zip(scores) {
        if score.is_nan() {
            return None;
        }
        if *score > best.1 {
            best = (Some(index), *score);
        }
    }
    best.0
}
