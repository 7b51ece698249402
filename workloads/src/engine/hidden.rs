//! Hidden states: what flows between the layers, and over the link when a model is split.

use candle_core::{DType, Device, Tensor};

use super::error::EngineError;
use super::state_bytes::{StateBytes, read_out};

/// The hidden states of some tokens, in the numbers and on the device of the model that made them.
#[derive(Debug, Clone)]
pub struct Hidden {
    /// tokens x width
    pub(crate) states: Tensor,
}

impl Hidden {
    /// States of that many tokens that are nothing, on the CPU.
    ///
    /// # Errors
    /// Memory that does not suffice.
    pub fn zeros(tokens: u32, width: u32) -> Result<Hidden, EngineError> {
        let size = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
        let states = Tensor::zeros((size(tokens), size(width)), DType::F32, &Device::Cpu);
        let states = states.map_err(EngineError::tensor("making empty hidden states"))?;
        Ok(Hidden { states })
    }

    /// How many tokens.
    #[must_use]
    pub fn tokens(&self) -> u32 {
        self.states
            .dims()
            .first()
            .map_or(0, |tokens| u32::try_from(*tokens).unwrap_or(u32::MAX))
    }

    /// The last of them alone.
    ///
    /// # Errors
    /// States of no tokens.
    pub fn last(&self) -> Result<Hidden, EngineError> {
        let last = self.tokens().checked_sub(1).ok_or(EngineError::NoTokens)?;
        self.part(last..self.tokens())
    }

    /// Those of some of the tokens.
    ///
    /// # Errors
    /// Tokens that are not among them.
    pub fn part(&self, tokens: std::ops::Range<u32>) -> Result<Hidden, EngineError> {
        let size = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
        let length = tokens.end.saturating_sub(tokens.start);
        let states = self.states.narrow(0, size(tokens.start), size(length));
        let states = states.map_err(EngineError::tensor("taking some of the states"))?;
        Ok(Hidden { states })
    }

    /// These and others behind them, in f32 on the CPU.
    ///
    /// # Errors
    /// States of another width.
    pub fn followed_by(&self, others: &Hidden) -> Result<Hidden, EngineError> {
        let here = |states: &Tensor| states.to_dtype(DType::F32)?.to_device(&Device::Cpu);
        let joined = || Tensor::cat(&[here(&self.states)?, here(&others.states)?], 0);
        let states = joined().map_err(EngineError::tensor("putting states behind others"))?;
        Ok(Hidden { states })
    }

    /// Width of one state.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.states
            .dims()
            .last()
            .map_or(0, |width| u32::try_from(*width).unwrap_or(u32::MAX))
    }

    /// The values, token after token.
    ///
    /// # Errors
    /// Failures of the tensor library.
    pub fn values(&self) -> Result<Vec<f32>, EngineError> {
        read_out(&self.states)
    }

    /// The values as they go on the link: little-endian f32, token after token. Where the states are such on the
    /// CPU, nothing is copied.
    ///
    /// # Errors
    /// Failures of the tensor library.
    pub fn le_bytes(&self) -> Result<StateBytes<'_>, EngineError> {
        StateBytes::exact(&self.states)
    }

    /// Reads what [`Hidden::le_bytes`] tells, bit for bit.
    ///
    /// # Errors
    /// No bytes, or not a whole number of states.
    pub fn from_le_bytes(bytes: &[u8], width: u32) -> Result<Hidden, EngineError> {
        let wrong = || EngineError::HiddenBytes {
            bytes: bytes.len(),
            width,
        };
        let width_values = usize::try_from(width).ok().filter(|width| *width > 0);
        let width_values = width_values.ok_or_else(wrong)?;
        if bytes.is_empty() || !bytes.len().is_multiple_of(4 * width_values) {
            return Err(wrong());
        }
        let (values, _) = bytes.as_chunks::<4>();
        let values: Vec<f32> = values
            .iter()
            .map(|value| f32::from_le_bytes(*value))
            .collect();
        Hidden::from_values(values, width)
    }

    /// Takes values, token after token, on the CPU.
    ///
    /// # Errors
    /// No values, or not a whole number of states.
    pub fn from_values(values: Vec<f32>, width: u32) -> Result<Hidden, EngineError> {
        let wide = usize::try_from(width).unwrap_or(usize::MAX);
        if values.is_empty() || wide == 0 || !values.len().is_multiple_of(wide) {
            let bytes = 4 * values.len();
            return Err(EngineError::HiddenBytes { bytes, width });
        }
        let tokens = values.len() / wide;
        let states = Tensor::from_vec(values, (tokens, wide), &Device::Cpu)
            .map_err(EngineError::tensor("taking hidden states"))?;
        Ok(Hidden { states })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_states_survive_the_link_bit_for_bit() {
        let bits = [0x3f80_0001_u32, 0x0000_0001, 0x8000_0000, 0x7f7f_ffff, 1, 2];
        let bytes: Vec<u8> = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
        let hidden = Hidden::from_le_bytes(&bytes, 3).expect("two states of width three");
        assert_eq!((hidden.tokens(), hidden.width()), (2, 3));
        assert_eq!(*hidden.le_bytes().expect("on the CPU"), *bytes);
    }

    #[test]
    fn a_broken_number_of_bytes_is_refused() {
        for (bytes, width) in [(0, 4), (15, 4), (20, 4), (16, 0)] {
            assert!(
                Hidden::from_le_bytes(&vec![0; bytes], width).is_err(),
                "{bytes} / {width}"
            );
        }
    }
}
