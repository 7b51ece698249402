//! A task's own full model: the adapter in the weights of the backbone, `W + s B A`.

use std::path::Path;

use candle_core::{DType, Tensor};

use super::files::{Config, Half, tensor_name};
use crate::engine::compute::Compute;
use crate::engine::error::EngineError;
use crate::engine::memory;
use crate::engine::tensors::all_shapes;
use crate::engine::train::serialise;
use crate::engine::weights::{Weights, WeightsFile, read_config};
use crate::recipe::ADAPTER_WEIGHTS_FILE;

/// Whether there is memory for the model in `backbone` with an adapter merged into its weights: as tensors, as the bytes
/// of each, and as the bytes of the file, which stays.
///
/// # Errors
/// A model that cannot be read, or more memory than is left.
pub fn check_room_to_merge(backbone: &Path) -> Result<(), EngineError> {
    let (shapes, compute) = (all_shapes(&read_config(backbone)?), Compute::cpu());
    let (weights, reading) = memory::tensor_bytes(&shapes, &compute);
    let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
    let what = format!(
        "a full model with an adapter merged into its weights ({} MB in f32, three times while it is made, and {} MB \
         while weights are read)",
        megabytes(weights),
        megabytes(reading),
    );
    let needed = weights.saturating_mul(3).saturating_add(reading);
    memory::check(what, needed, compute.memory_left())
}

/// The weights of the model in `backbone` with the adapter in `adapter` merged into them, as the bytes of a
/// safetensors file in f32.
///
/// # Errors
/// A model or an adapter that cannot be read, or does not fit the other; more memory than is left.
pub fn merged_weights(backbone: &Path, adapter: &Path) -> Result<Vec<u8>, EngineError> {
    check_room_to_merge(backbone)?;
    let model = read_config(backbone)?;
    let config = Config::read(adapter)?;
    let mut weights = Weights::open(backbone)?;
    let path = adapter.join(ADAPTER_WEIGHTS_FILE);
    let mut file = WeightsFile::open(path.clone())?;
    let compute = Compute::cpu();
    let mut all = Vec::new();
    for named in all_shapes(&model) {
        let merging = || EngineError::tensor("merging an adapter");
        let stored = weights.vector(&named)?;
        let stored = stored.to_dtype(DType::F32).map_err(merging())?;
        let merged = match (adapted(&named.0), named.1.as_slice()) {
            (Some((layer, target)), &[outputs, _]) => {
                let mut half = |half: Half, shape: [u32; 2]| {
                    file.tensor(
                        &(tensor_name(layer, target, half), shape.to_vec()),
                        &compute,
                    )
                };
                let down = half(Half::Down, [config.r, model.width])?;
                let up = half(Half::Up, [outputs, config.r])?;
                add(&stored, (&up, &down), config.scale()).map_err(merging())?
            }
            _ => stored,
        };
        all.push((named.0, merged));
    }
    serialise(all.iter().map(|(name, tensor)| (name, tensor)), &path)
}

fn add(stored: &Tensor, (up, down): (&Tensor, &Tensor), scale: f64) -> candle_core::Result<Tensor> {
    let delta = up
        .to_dtype(DType::F32)?
        .matmul(&down.to_dtype(DType::F32)?)?;
    stored + (delta * scale)?
}

/// The layer and the map whose weight has that name, if adapters change it.
fn adapted(name: &str) -> Option<(u32, &str)> {
    let rest = name.strip_prefix("model.layers.")?;
    let (layer, rest) = rest.split_once('.')?;
    let target = rest.strip_prefix("self_attn.")?.strip_suffix(".weight")?;
    matches!(target, "q_proj" | "v_proj").then_some((layer.parse().ok()?, target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_and_values_alone_are_adapted() {
        let name = |map: &str| format!("model.layers.12.self_attn.{map}.weight");
        assert_eq!(adapted(&name("q_proj")), Some((12, "q_proj")));
        assert_eq!(adapted(&name("v_proj")), Some((12, "v_proj")));
        assert_eq!(adapted(&name("k_proj")), None);
        assert_eq!(adapted("model.layers.1.mlp.gate_proj.weight"), None);
    }
}
