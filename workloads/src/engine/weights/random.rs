//! Weights that were never trained, in the shape of any config.json: for measuring how fast and with
//! how much energy a shape computes where its checkpoint cannot be had.
//!
//! A weight depends on the seed, its tensor's name and its place in it alone, so every part of a
//! split model, on every machine, holds the same.

use std::path::{Path, PathBuf};

use candle_core::Tensor;
use half::{bf16, f16};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{CONFIG_FILE, MOST_CONFIG_BYTES};
use crate::device::Precision;
use crate::engine::compute::Compute;
use crate::engine::error::EngineError;
use crate::engine::input;
use crate::engine::model::size;
use crate::engine::tensors::NamedShape;
use crate::engine::text::TextTokenizer;
use crate::engine::threads;
use crate::model_config::ModelConfig;

/// Name of the file that stands for the weights.
pub(crate) const RANDOM_FILE: &str = "random-weights.json";

/// Longest such file, in bytes: it holds one number.
const MOST_BYTES: u64 = 1 << 12;

/// Hugging Face's `initializer_range` of the whole family.
const STANDARD_DEVIATION: f32 = 0.02;

/// The bytes, and the separator of texts.
const BYTE_VOCABULARY: u32 = 257;

/// So many weights are made in one go.
const PIECE: usize = 1 << 16;

/// What stands in a model's directory in place of weights.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RandomWeights {
    /// What the weights are drawn from.
    seed: u64,
    #[serde(skip)]
    path: PathBuf,
}

impl RandomWeights {
    /// The description in a model's directory; `None` if there is none.
    pub(super) fn find(directory: &Path) -> Result<Option<RandomWeights>, EngineError> {
        let path = directory.join(RANDOM_FILE);
        let Some(text) = input::read_text_if_there(&path, MOST_BYTES)? else {
            return Ok(None);
        };
        let read: Result<RandomWeights, _> = serde_json::from_str(&text);
        match read {
            Ok(random) => Ok(Some(RandomWeights { path, ..random })),
            Err(error) => Err(EngineError::Unsuitable {
                path,
                reason: format!("it is to hold {{\"seed\": 1}} or another number: {error}"),
            }),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What the weights follow from: the shape and the seed.
    pub(super) fn paths(&self) -> Vec<PathBuf> {
        vec![self.path.with_file_name(CONFIG_FILE), self.path.clone()]
    }

    /// A norm of ones; a matrix of numbers that are evenly spread around 0 with the family's
    /// standard deviation; biases of 0.
    pub(super) fn tensor(
        &self,
        (name, shape): &NamedShape,
        compute: &Compute,
    ) -> Result<Tensor, EngineError> {
        let sizes: Vec<usize> = shape.iter().map(|length| size(*length)).collect();
        let making = EngineError::tensor("making random weights");
        let count = sizes.iter().product();
        if sizes.len() < 2 {
            let value = if name.ends_with("bias") { 0.0_f32 } else { 1.0 };
            let made = Tensor::from_vec(vec![value; count], sizes, &candle_core::Device::Cpu);
            return made.and_then(|made| compute.place(&made)).map_err(making);
        }
        let (key, device) = (key(self.seed, name), compute.device());
        let made = match compute.precision() {
            Precision::F32 => Tensor::from_vec(draw(key, count, |value| value)?, sizes, device),
            Precision::F16 => Tensor::from_vec(draw(key, count, f16::from_f32)?, sizes, device),
            Precision::Bf16 => Tensor::from_vec(draw(key, count, bf16::from_f32)?, sizes, device),
        };
        made.map_err(making)
    }
}

/// So many weights, in the numbers that they are kept in.
fn draw<T: Send + Clone + Default>(
    key: u64,
    count: usize,
    number: impl Fn(f32) -> T + Sync + Send,
) -> Result<Vec<T>, EngineError> {
    let mut values = vec![T::default(); count];
    threads::run(|| {
        let pieces = values.par_chunks_mut(PIECE).zip(0..usize::MAX / PIECE);
        pieces.for_each(|(piece, place)| {
            for (value, place) in piece.iter_mut().zip(place * PIECE..) {
                *value = number(weight(key, u64::try_from(place).unwrap_or(u64::MAX)));
            }
        });
        Ok(())
    })?;
    Ok(values)
}

/// The first 64 bits of a hash of the seed and a tensor's name.
fn key(seed: u64, name: &str) -> u64 {
    let mut hasher = Sha256::new();
    hasher.update(seed.to_le_bytes());
    hasher.update(name.as_bytes());
    let hash = hasher.finalize();
    let (words, _) = hash.as_slice().as_chunks::<8>();
    words.first().map_or(0, |word| u64::from_le_bytes(*word))
}

/// One weight: the output function of SplitMix64 (Steele, Lea and Flood, 2014, figure 15) at that
/// place of its sequence, its upper 24 bits spread evenly over plus and minus the root of three
/// standard deviations.
fn weight(key: u64, place: u64) -> f32 {
    const GOLDEN_GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;
    let state = key.wrapping_add(GOLDEN_GAMMA.wrapping_mul(place.wrapping_add(1)));
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let mixed = mixed ^ (mixed >> 31);
    #[expect(
        clippy::cast_precision_loss,
        reason = "24 bits fit into an f32 exactly"
    )]
    let unit = (mixed >> 40) as u32 as f32 / (1_u32 << 24) as f32;
    let half_width = STANDARD_DEVIATION * 3.0_f32.sqrt();
    (2.0 * unit - 1.0) * half_width
}

/// Makes a model's directory of a config.json alone: weights that are drawn from the seed, and a
/// tokenizer that takes bytes for tokens.
///
/// # Errors
/// A shape that is not of the family or has fewer tokens than bytes, or files that cannot be
/// written.
pub fn write_random(config: &Path, seed: u64, output: &Path) -> Result<ModelConfig, EngineError> {
    let text = input::read_text(config, MOST_CONFIG_BYTES)?;
    let shape =
        ModelConfig::from_hugging_face_json(&text).map_err(|source| EngineError::Config {
            path: config.to_owned(),
            source,
        })?;
    let write = |name: &str, bytes: &[u8]| {
        let path = output.join(name);
        std::fs::write(&path, bytes).map_err(|source| EngineError::Write { path, source })
    };
    let tokenizer = TextTokenizer::train(&[], BYTE_VOCABULARY)?;
    if shape.vocabulary < tokenizer.vocabulary() {
        return Err(EngineError::Unsuitable {
            path: config.to_owned(),
            reason: format!(
                "a vocabulary of {} has no room for the {} tokens of a tokenizer of bytes",
                shape.vocabulary,
                tokenizer.vocabulary()
            ),
        });
    }
    std::fs::create_dir_all(output).map_err(|source| EngineError::Write {
        path: output.to_owned(),
        source,
    })?;
    write(CONFIG_FILE, text.as_bytes())?;
    tokenizer.save(output)?;
    let random = RandomWeights {
        seed,
        path: PathBuf::new(),
    };
    // Of a number and no path: there is nothing in it that JSON cannot hold.
    let random = serde_json::to_vec_pretty(&random).unwrap_or_default();
    write(RANDOM_FILE, &random)?;
    Ok(shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_have_the_spread_of_the_family_and_depend_on_seed_name_and_place() {
        let named = |name: &str| (name.to_owned(), vec![300, 400]);
        let drawn = |seed, name| {
            let random = RandomWeights {
                seed,
                path: PathBuf::new(),
            };
            let tensor = random.tensor(&named(name), &Compute::cpu()).unwrap();
            tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let one = drawn(1, "a.weight");
        assert_eq!(one, drawn(1, "a.weight"));
        assert_ne!(one, drawn(2, "a.weight"));
        assert_ne!(one, drawn(1, "b.weight"));
        let count = 120_000.0;
        let mean = one.iter().map(|value| f64::from(*value)).sum::<f64>() / count;
        let square = one
            .iter()
            .map(|value| f64::from(*value).powi(2))
            .sum::<f64>()
            / count;
        // Five standard errors of the mean, and a per cent.
        assert!(mean.abs() < 5.0 * 0.02 / count.sqrt(), "{mean}");
        assert!((square.sqrt() - 0.02).abs() < 0.0002, "{}", square.sqrt());
    }
}
