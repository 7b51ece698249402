//! Vision encoders (technique 21 of the surveys): an image becomes visual tokens, states as wide as those in front of a
//! language model's first layer.
//!
//! The encoder is `SigLIP`'s (arXiv 2303.15343; a vision transformer, arXiv 2010.11929), the projector that of `LLaVA`
//! (arXiv 2304.08485, 2310.03744): two maps with a GELU between. In front of the projector, squares of neighbouring
//! patches may be merged into their mean. Names of tensors and of config.json's entries are Hugging Face's.

mod config;
mod files;
pub(crate) mod network;

use std::path::Path;

use candle_core::{DType, Device, Tensor};

pub use self::config::VisionConfig;
pub(crate) use self::files::{config_text, shapes};
use self::network::Network;
use super::compute::Compute;
use super::error::EngineError;
use super::hidden::Hidden;
use super::model::Model;
use super::threads;
use super::weights::CONFIG_FILE;
use crate::device::Precision;
use crate::recipe::VISION_DIRECTORY;

/// Channels of an image: red, green and blue, a byte each, pixel after pixel.
pub(crate) const CHANNELS: usize = 3;

/// An encoder with the projector to one language model.
#[derive(Debug)]
pub struct VisionEncoder {
    network: Network,
    device: Device,
    weight_bytes: u64,
}

impl VisionEncoder {
    /// Loads the encoder of a language model from its directory (`vision/config.json`, `vision/model.safetensors`),
    /// in f32.
    ///
    /// # Errors
    /// Files that are missing or damaged, a config of something else, a projector to another width, or more memory
    /// than is left.
    pub fn load(directory: &Path, model: &Model) -> Result<VisionEncoder, EngineError> {
        let directory = directory.join(VISION_DIRECTORY);
        let config = VisionConfig::read(&directory.join(CONFIG_FILE))?;
        let name = model.compute().device_name();
        let compute = match name {
            crate::device::ComputeDevice::Cpu => Compute::cpu(),
            name => Compute::open(name, Precision::F32)?,
        };
        let tensors = files::read(&directory, &config, (model.config().width, &compute))?;
        let weight_bytes = tensors.values().map(super::linear::bytes).sum();
        Ok(VisionEncoder {
            network: Network::new(config, tensors),
            device: compute.device().clone(),
            weight_bytes,
        })
    }

    /// Its shape.
    #[must_use]
    pub const fn config(&self) -> &VisionConfig {
        self.network.config()
    }

    /// Memory that its weights occupy.
    #[must_use]
    pub const fn weight_bytes(&self) -> u64 {
        self.weight_bytes
    }

    /// The visual tokens of an image: `patches / merge` states of the language model's width, on the CPU.
    ///
    /// # Errors
    /// Another number of bytes than the image has, or a merging that does not divide its patches into squares.
    pub fn encode(&self, image: &[u8], merge: u32) -> Result<Hidden, EngineError> {
        let config = self.network.config();
        let expected = config.image_bytes();
        if u64::try_from(image.len()) != Ok(expected) {
            return Err(EngineError::ImageBytes {
                bytes: image.len(),
                expected,
            });
        }
        let side = config
            .merged_side(merge)
            .ok_or(EngineError::Merge { merge })?;
        let states = threads::run(|| {
            let encoding = EngineError::tensor("encoding an image");
            let encoded = || -> candle_core::Result<Tensor> {
                let pixels = network::patches(config, &[image])?.to_device(&self.device)?;
                let states = self.network.encode(&pixels)?;
                let tokens = self.network.project(&states, side)?;
                tokens.to_dtype(DType::F32)?.to_device(&Device::Cpu)
            };
            encoded().map_err(encoding)
        })?;
        Ok(Hidden { states })
    }
}

#[cfg(test)]
mod tests;
