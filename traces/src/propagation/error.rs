//! Inputs for which a model says nothing.

/// An input outside of what a model was made for.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{quantity} is {value}; {model} holds for {expected}")]
pub struct PropagationError {
    /// The quantity with its unit, such as `frequency in GHz`.
    pub quantity: &'static str,
    /// Its value.
    pub value: f64,
    /// The model, with its recommendation.
    pub model: &'static str,
    /// What it may be.
    pub expected: &'static str,
}

/// Lets `value` through if it lies between `least` and `most`, both included.
pub(super) fn within(
    model: &'static str,
    quantity: &'static str,
    value: f64,
    (least, most, expected): (f64, f64, &'static str),
) -> Result<f64, PropagationError> {
    if value >= least && value <= most {
        Ok(value)
    } else {
        Err(PropagationError {
            quantity,
            value,
            model,
            expected,
        })
    }
}
