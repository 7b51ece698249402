//! Hidden states as the bytes that cross a link: where they lie, if that is possible, so that a frame is written
//! from what the layers computed without a copy in between.

use std::ops::{Deref, Range};

use candle_core::{CpuStorage, DType, Storage, StorageRef, Tensor};

use super::error::EngineError;

#[cfg(not(target_endian = "little"))]
compile_error!("hidden states cross links as they lie in memory, and frames are little-endian");

/// The bytes of hidden states: of exact ones little-endian f32, token after token, else what their coding made.
#[derive(Debug)]
pub struct StateBytes<'a>(Held<'a>);

#[derive(Debug)]
enum Held<'a> {
    /// What a coding made.
    Coded(Vec<u8>),
    /// Values that were read out: of another precision, from another device, or not in order.
    Read(Vec<f32>),
    /// Values where the tensor library keeps them.
    InPlace {
        storage: StorageRef<'a>,
        values: Range<usize>,
    },
}

impl<'a> StateBytes<'a> {
    /// What a coding made of states.
    pub(super) const fn coded(bytes: Vec<u8>) -> StateBytes<'a> {
        StateBytes(Held::Coded(bytes))
    }

    /// The values of states as they are.
    pub(super) fn exact(states: &'a Tensor) -> Result<StateBytes<'a>, EngineError> {
        let (storage, layout) = states.storage_and_layout();
        if let Some((from, to)) = layout.contiguous_offsets()
            && in_place(&storage, from..to).is_some()
        {
            let values = from..to;
            return Ok(StateBytes(Held::InPlace { storage, values }));
        }
        drop(storage);
        read_out(states).map(|values| StateBytes(Held::Read(values)))
    }

    /// The same where the states do not live as long: copied, unless a coding made them.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        match self.0 {
            Held::Coded(bytes) => bytes,
            Held::Read(_) | Held::InPlace { .. } => self.to_vec(),
        }
    }
}

impl Deref for StateBytes<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Held::Coded(bytes) => bytes,
            Held::Read(values) => bytemuck::cast_slice(values),
            // They were there when this was made, and stay as they are while it holds them.
            Held::InPlace { storage, values } => {
                let values = in_place(storage, values.clone()).unwrap_or_default();
                bytemuck::cast_slice(values)
            }
        }
    }
}

/// Values of a tensor that holds f32 on the CPU; `None` of others.
fn in_place(storage: &Storage, values: Range<usize>) -> Option<&[f32]> {
    match storage {
        Storage::Cpu(CpuStorage::F32(all)) => all.get(values),
        _ => None,
    }
}

/// The values of a tensor, token after token.
pub(super) fn read_out(states: &Tensor) -> Result<Vec<f32>, EngineError> {
    let flat = states
        .flatten_all()
        .and_then(|flat| flat.to_dtype(DType::F32))
        .and_then(|flat| flat.to_vec1::<f32>());
    flat.map_err(EngineError::tensor("reading hidden states"))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    const VALUES: [f32; 6] = [1.0, -2.0, 3.5, -0.0, f32::MIN_POSITIVE, 6.0];

    fn matrix() -> Tensor {
        Tensor::from_slice(&VALUES, (3, 2), &Device::Cpu).expect("a matrix")
    }

    fn expected(values: &[f32]) -> Vec<u8> {
        values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect()
    }

    #[test]
    fn states_on_the_cpu_are_seen_where_they_lie_and_part_of_them_too() {
        let all = matrix();
        let part = all.narrow(0, 1, 2).expect("two rows");
        for (states, values) in [(&all, &VALUES[..]), (&part, &VALUES[2..])] {
            let bytes = StateBytes::exact(states).expect("on the CPU");
            assert!(matches!(bytes.0, Held::InPlace { .. }));
            assert_eq!(*bytes, *expected(values));
            assert_eq!(bytes.into_vec(), expected(values));
        }
    }

    #[test]
    fn states_in_other_numbers_or_out_of_order_are_read_out_first() {
        let half = matrix().to_dtype(DType::F16).expect("rounds");
        let back = half.to_dtype(DType::F32).expect("exact");
        let rounded = read_out(&back).expect("on the CPU");
        let turned = matrix().t().expect("a matrix");
        let [a, b, c, d, e, f] = VALUES;
        for (states, values) in [(&half, rounded), (&turned, vec![a, c, e, b, d, f])] {
            let bytes = StateBytes::exact(states).expect("on the CPU");
            assert!(matches!(bytes.0, Held::Read(_)));
            assert_eq!(*bytes, *expected(&values));
        }
    }
}
