//! A checkpoint's weights in fewer bits, as a GGUF file.

use std::fmt;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::str::FromStr;

use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};

use super::keys::{FREQUENCY_DIVISORS, architecture_name, describe};
use super::vocabulary;
use crate::engine::chat::Template;
use crate::engine::error::EngineError;
use crate::engine::model::size;
use crate::engine::tensors::{EMBEDDING, HEAD, NamedShape, all_shapes, gguf_name};
use crate::engine::text::TOKENIZER_FILE;
use crate::engine::weights::{CONFIG_FILE, Weights, read_config};
use crate::model_config::{ModelConfig, RopeScaling};

/// Name of the weights in the directory that is made.
pub(crate) const GGUF_FILE: &str = "model.gguf";

/// How the matrices are stored; norms and biases stay f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockType {
    /// 32 bits.
    F32,
    /// 16 bits.
    F16,
    /// 8.5 bits: blocks of 32 with a scale.
    Q8_0,
    /// 6.6 bits: K-quants, blocks of 256.
    Q6K,
    /// 4.5 bits: K-quants, blocks of 256.
    Q4K,
    /// 4.5 bits: blocks of 32 with a scale.
    Q4_0,
}

impl BlockType {
    /// All of them, from the widest.
    pub const ALL: [BlockType; 6] = [
        BlockType::F32,
        BlockType::F16,
        BlockType::Q8_0,
        BlockType::Q6K,
        BlockType::Q4K,
        BlockType::Q4_0,
    ];

    /// llama.cpp's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            BlockType::F32 => "F32",
            BlockType::F16 => "F16",
            BlockType::Q8_0 => "Q8_0",
            BlockType::Q6K => "Q6_K",
            BlockType::Q4K => "Q4_K",
            BlockType::Q4_0 => "Q4_0",
        }
    }

    const fn stored(self) -> GgmlDType {
        match self {
            BlockType::F32 => GgmlDType::F32,
            BlockType::F16 => GgmlDType::F16,
            BlockType::Q8_0 => GgmlDType::Q8_0,
            BlockType::Q6K => GgmlDType::Q6K,
            BlockType::Q4K => GgmlDType::Q4K,
            BlockType::Q4_0 => GgmlDType::Q4_0,
        }
    }

    /// llama.cpp's `general.file_type` (`LLAMA_FTYPE_...`).
    const fn file_type(self) -> u32 {
        match self {
            BlockType::F32 => 0,
            BlockType::F16 => 1,
            BlockType::Q4_0 => 2,
            BlockType::Q8_0 => 7,
            BlockType::Q4K => 14,
            BlockType::Q6K => 18,
        }
    }

    /// How the matrix that scores the next token is stored: errors there cost most, so it has 6
    /// bits where the others have 4, as llama.cpp does it.
    const fn of_head(self) -> BlockType {
        match self {
            BlockType::Q4K | BlockType::Q4_0 => BlockType::Q6K,
            other => other,
        }
    }
}

impl fmt::Display for BlockType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for BlockType {
    type Err = String;

    fn from_str(text: &str) -> Result<BlockType, String> {
        let mut known = BlockType::ALL.into_iter();
        let found = known.find(|one| one.name().eq_ignore_ascii_case(text));
        found.ok_or_else(|| {
            let names = BlockType::ALL.map(BlockType::name).join(", ");
            format!("{text} is none of {names}")
        })
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantised {
    /// Bytes of all tensors.
    pub bytes: u64,
    /// Matrices whose rows are no whole number of blocks, stored as F16 instead.
    pub kept_f16: Vec<String>,
    /// Why the tokenizer is not in the file, if it is not; it is beside the file in any case.
    pub without_tokenizer: Option<String>,
}

fn computing() -> impl FnOnce(candle_core::Error) -> EngineError {
    EngineError::tensor("quantising weights")
}

/// Stores the checkpoint in `directory` in blocks of that type in the new directory `into`:
/// config.json, tokenizer.json and `model.gguf`.
///
/// # Errors
/// A checkpoint that cannot be read, or one that is in blocks already; a directory that cannot be
/// made or written.
pub fn quantise(
    directory: &Path,
    block_type: BlockType,
    into: &Path,
) -> Result<Quantised, EngineError> {
    let config = read_config(directory)?;
    let mut weights = Weights::open(directory)?;
    if weights.is_in_blocks() {
        return Err(EngineError::Unsuitable {
            path: directory.to_owned(),
            reason: "its weights are a GGUF file, in blocks already; start from the safetensors \
                     checkpoint"
                .to_owned(),
        });
    }
    let (mut tensors, mut kept_f16) = (Vec::new(), Vec::new());
    for named in all_shapes(&config) {
        let tensor = weights.vector(&named)?;
        let tensor = permuted(&config, &named.0, tensor).map_err(computing())?;
        let (stored, is_whole) = store(&named.0, &config, &tensor, block_type)?;
        if !is_whole {
            kept_f16.push(named.0.clone());
        }
        tensors.push((gguf_name(&named.0).unwrap_or(named.0), stored));
    }
    if let Some(divisors) = divisors(&config) {
        let stored = Tensor::from_vec(divisors.clone(), divisors.len(), &Device::Cpu)
            .and_then(|tensor| QTensor::quantize(&tensor, GgmlDType::F32))
            .map_err(computing())?;
        tensors.push((FREQUENCY_DIVISORS.to_owned(), stored));
    }
    let mut metadata = describe(&config);
    let name = directory
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    metadata.extend([
        (
            "general.name".to_owned(),
            Value::String(
                name.unwrap_or_else(|| architecture_name(config.architecture).to_owned()),
            ),
        ),
        (
            "general.file_type".to_owned(),
            Value::U32(block_type.file_type()),
        ),
    ]);
    let tokenizer = vocabulary::entries(directory, config.vocabulary)?;
    metadata.extend(tokenizer.metadata);
    write(directory, into, &metadata, &tensors)?;
    let bytes = tensors
        .iter()
        .map(|(_, tensor)| tensor.storage_size_in_bytes());
    Ok(Quantised {
        bytes: u64::try_from(bytes.sum::<usize>()).unwrap_or(u64::MAX),
        kept_f16,
        without_tokenizer: tokenizer.without,
    })
}

/// The rows of Llama's queries and keys in the order that llama.cpp turns them: 2 i and 2 i + 1
/// where Hugging Face has i and i + half.
fn permuted(config: &ModelConfig, name: &str, tensor: Tensor) -> candle_core::Result<Tensor> {
    let heads = if name.contains("q_proj") {
        config.heads
    } else if name.contains("k_proj") {
        config.kv_heads
    } else {
        return Ok(tensor);
    };
    if architecture_name(config.architecture) != "llama" {
        return Ok(tensor);
    }
    let [heads, half] = [heads, config.head_width / 2].map(size);
    let shape = tensor.shape().clone();
    tensor
        .reshape((heads, 2, half, ()))?
        .transpose(1, 2)?
        .contiguous()?
        .reshape(shape)
}

/// A tensor as it is stored, and whether in the type asked for.
pub(crate) fn store(
    name: &str,
    config: &ModelConfig,
    tensor: &Tensor,
    block_type: BlockType,
) -> Result<(QTensor, bool), EngineError> {
    let shape = tensor
        .dims()
        .iter()
        .map(|size| u32::try_from(*size).unwrap_or(u32::MAX));
    let (stored, is_whole) = stored_type(&(name.to_owned(), shape.collect()), config, block_type);
    let stored = QTensor::quantize(tensor, stored).map_err(computing())?;
    Ok((stored, is_whole))
}

/// How a tensor is stored, and whether that is what was wanted: rows that are no whole number of blocks
/// stay F16.
pub(crate) fn stored_type(
    (name, shape): &NamedShape,
    config: &ModelConfig,
    block_type: BlockType,
) -> (GgmlDType, bool) {
    let is_head = name == HEAD || (name == EMBEDDING && config.tie_embeddings);
    let wanted = match shape.as_slice() {
        [_, _] if is_head => block_type.of_head().stored(),
        [_, _] => block_type.stored(),
        _ => GgmlDType::F32,
    };
    let is_whole = shape
        .last()
        .is_some_and(|row| size(*row).is_multiple_of(wanted.block_size()));
    (if is_whole { wanted } else { GgmlDType::F16 }, is_whole)
}

/// Factors of the rotary frequencies, which is how llama.cpp takes Llama 3's stretching.
fn divisors(config: &ModelConfig) -> Option<Vec<f32>> {
    let Some(RopeScaling::Llama3 { .. }) = config.rope_scaling else {
        return None;
    };
    let plain = ModelConfig {
        rope_scaling: None,
        ..*config
    };
    let pairs = plain.rotary_frequencies().into_iter();
    let pairs = pairs.zip(config.rotary_frequencies());
    #[expect(clippy::cast_possible_truncation, reason = "GGUF keeps these as f32")]
    let divisors = pairs.map(|(plain, stretched)| (plain / stretched) as f32);
    Some(divisors.collect())
}

fn write(
    from: &Path,
    into: &Path,
    metadata: &[(String, Value)],
    tensors: &[(String, QTensor)],
) -> Result<(), EngineError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| EngineError::Write { path, source }
    };
    std::fs::create_dir(into).map_err(failed(into))?;
    for file in [CONFIG_FILE, TOKENIZER_FILE] {
        let to = into.join(file);
        std::fs::copy(from.join(file), &to).map_err(failed(&to))?;
    }
    if let Some((_, template)) = Template::find(from)? {
        template.save(into)?;
    }
    let path = into.join(GGUF_FILE);
    let mut file = BufWriter::new(File::create(&path).map_err(failed(&path))?);
    let metadata: Vec<(&str, &Value)> = metadata
        .iter()
        .map(|(key, value)| (key.as_str(), value))
        .collect();
    let tensors: Vec<(&str, &QTensor)> = tensors
        .iter()
        .map(|(name, tensor)| (name.as_str(), tensor))
        .collect();
    gguf_file::write(&mut file, &metadata, &tensors)
        .map_err(EngineError::tensor("writing the GGUF file"))?;
    let file = file.into_inner().map_err(|error| error.into_error());
    file.and_then(|file| file.sync_all()).map_err(failed(&path))
}
