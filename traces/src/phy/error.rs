//! What cannot be asked of the physical layer.

/// An argument or a setting outside what the specification or the data covers.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{what} is {value}; expected {expected}")]
pub struct PhyError {
    /// The argument or setting, such as `mcs_index`.
    pub what: &'static str,
    /// What it was.
    pub value: String,
    /// What it may be.
    pub expected: String,
}

impl PhyError {
    pub(crate) fn new(
        what: &'static str,
        value: &impl ToString,
        expected: impl Into<String>,
    ) -> PhyError {
        PhyError {
            what,
            value: value.to_string(),
            expected: expected.into(),
        }
    }

    /// An error unless `value` lies between `least` and `most`.
    pub(crate) fn check<T: PartialOrd + Copy + ToString>(
        what: &'static str,
        value: T,
        least: T,
        most: T,
    ) -> Result<T, PhyError> {
        if value >= least && value <= most {
            return Ok(value);
        }
        let expected = format!("{} to {}", least.to_string(), most.to_string());
        Err(PhyError::new(what, &value, expected))
    }
}
