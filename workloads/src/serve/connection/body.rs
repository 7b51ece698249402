//! What a frame holds behind its header.

use std::fmt;
use std::ops::Deref;

/// The bytes of a frame's body, in memory that values of hidden states may have: exact states, which are most of what
/// a split model sends, need no copy to be computed with.
#[derive(Default)]
pub(in crate::serve) struct Body {
    /// As many as hold the bytes, which are little-endian.
    values: Vec<f32>,
    bytes: usize,
}

impl Body {
    /// So many bytes that are nothing.
    pub(super) fn zeroed(bytes: usize) -> Body {
        Body {
            values: vec![0.0; bytes.div_ceil(size_of::<f32>())],
            bytes,
        }
    }

    /// The bytes, to be filled.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        let all: &mut [u8] = bytemuck::cast_slice_mut(&mut self.values);
        &mut all[..self.bytes]
    }

    /// The values that the bytes are; `None` if they are not a whole number of them.
    pub(in crate::serve) fn into_values(self) -> Option<Vec<f32>> {
        let is_whole = self.bytes.is_multiple_of(size_of::<f32>());
        is_whole.then_some(self.values)
    }
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let all: &[u8] = bytemuck::cast_slice(&self.values);
        &all[..self.bytes]
    }
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Body {
    fn eq(&self, other: &Body) -> bool {
        **self == **other
    }
}

impl Eq for Body {}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(bytes: &[u8]) -> Body {
        let mut body = Body::zeroed(bytes.len());
        body.bytes_mut().copy_from_slice(bytes);
        body
    }

    #[test]
    fn a_body_is_the_bytes_that_it_was_filled_with_however_many() {
        let bytes: Vec<u8> = (1..=9).collect();
        for length in 0..=bytes.len() {
            assert_eq!(*body(&bytes[..length]), bytes[..length]);
        }
        assert_ne!(body(&[1, 2, 3]), body(&[1, 2, 3, 0]));
        assert_eq!(format!("{:?}", body(&[1, 2, 3])), "[1, 2, 3]");
    }

    #[test]
    fn a_body_of_whole_values_becomes_them_bit_for_bit_and_another_does_not() {
        let bits = [0x3f80_0001_u32, 0x8000_0000, 0x7fc0_1234];
        let bytes: Vec<u8> = bits.iter().flat_map(|bits| bits.to_le_bytes()).collect();
        let values = body(&bytes).into_values().unwrap();
        let again: Vec<u32> = values.iter().map(|value| value.to_bits()).collect();
        assert_eq!(again, bits);
        assert_eq!(body(&bytes[..11]).into_values(), None);
    }
}
