//! What no satellite link can be.

use crate::propagation::PropagationError;

/// A setting of a satellite link that cannot be.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NtnError {
    /// A number outside of what it can mean.
    #[error("{setting} is {value}; expected {expected}")]
    OutOfRange {
        /// What was set, with its unit.
        setting: &'static str,
        /// To what.
        value: f64,
        /// What it may be.
        expected: &'static str,
    },
    /// A model of attenuation refuses an input.
    #[error("the air on the way to the satellite")]
    Propagation(#[from] PropagationError),
}

/// Lets `value` through if it lies between `least` and `most`, both included.
pub(super) fn within(
    setting: &'static str,
    value: f64,
    (least, most, expected): (f64, f64, &'static str),
) -> Result<f64, NtnError> {
    if value >= least && value <= most {
        Ok(value)
    } else {
        Err(NtnError::OutOfRange {
            setting,
            value,
            expected,
        })
    }
}
