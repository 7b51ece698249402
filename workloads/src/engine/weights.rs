//! Reading the weights that a part of a model needs, and nothing else, from model.safetensors.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, tensor::Metadata};
use sha2::{Digest, Sha256};

use super::error::EngineError;
use crate::recipe::{ModelConfig, hexadecimal};

/// Name of the weights in a model's directory.
pub(crate) const WEIGHTS_FILE: &str = "model.safetensors";
/// Name of the shape's description in a model's directory.
pub(crate) const CONFIG_FILE: &str = "config.json";

/// The safetensors library's own bound on a header.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// An open safetensors file whose length agrees with its header.
#[derive(Debug)]
pub(crate) struct WeightsFile {
    path: PathBuf,
    file: File,
    metadata: Metadata,
    data_start: u64,
}

fn read_error(path: &Path) -> impl FnOnce(std::io::Error) -> EngineError {
    let path = path.to_owned();
    move |source| EngineError::Read { path, source }
}

impl WeightsFile {
    /// Opens and checks the weights in a model's directory.
    pub(crate) fn open(directory: &Path) -> Result<WeightsFile, EngineError> {
        let path = directory.join(WEIGHTS_FILE);
        let mut file = File::open(&path).map_err(read_error(&path))?;
        let found_bytes = file.metadata().map_err(read_error(&path))?.len();
        let truncated = |expected_bytes| EngineError::Truncated {
            path: path.clone(),
            expected_bytes,
            found_bytes,
        };
        let damaged = |reason: String| EngineError::Damaged {
            path: path.clone(),
            reason,
        };
        if found_bytes < 8 {
            return Err(truncated(8));
        }
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(read_error(&path))?;
        let header_bytes = u64::from_le_bytes(length);
        if header_bytes > MAX_HEADER_BYTES {
            return Err(damaged(format!(
                "it claims a header of {header_bytes} bytes"
            )));
        }
        let data_start = 8 + header_bytes;
        if found_bytes < data_start {
            return Err(truncated(data_start));
        }
        let mut header = Vec::new();
        (&mut file)
            .take(header_bytes)
            .read_to_end(&mut header)
            .map_err(read_error(&path))?;
        let metadata: Metadata =
            serde_json::from_slice(&header).map_err(|error| damaged(error.to_string()))?;
        let data_bytes = metadata
            .tensors()
            .values()
            .map(|tensor| tensor.data_offsets.1)
            .max();
        let data_bytes = u64::try_from(data_bytes.unwrap_or(0)).unwrap_or(u64::MAX);
        let expected_bytes = data_start.saturating_add(data_bytes);
        if found_bytes < expected_bytes {
            return Err(truncated(expected_bytes));
        }
        if found_bytes > expected_bytes {
            let surplus = found_bytes - expected_bytes;
            return Err(damaged(format!("{surplus} bytes after its last tensor")));
        }
        Ok(WeightsFile {
            path,
            file,
            metadata,
            data_start,
        })
    }

    /// Reads one tensor, as f32, and checks its shape.
    pub(crate) fn tensor(&mut self, name: &str, shape: &[u32]) -> Result<Tensor, EngineError> {
        let damaged = |reason: String| EngineError::Damaged {
            path: self.path.clone(),
            reason,
        };
        let Some(info) = self.metadata.info(name) else {
            return Err(damaged(format!("it has no tensor {name}")));
        };
        let same = info.shape.len() == shape.len()
            && info
                .shape
                .iter()
                .zip(shape)
                .all(|(a, b)| u32::try_from(*a) == Ok(*b));
        if !same {
            let found = &info.shape;
            return Err(damaged(format!(
                "{name} is {found:?}, and config.json implies {shape:?}"
            )));
        }
        let dtype = match info.dtype {
            Dtype::F32 => DType::F32,
            Dtype::F16 => DType::F16,
            Dtype::BF16 => DType::BF16,
            other => return Err(damaged(format!("{name} is of type {other:?}"))),
        };
        let (start, end) = info.data_offsets;
        let mut bytes = vec![0; end.saturating_sub(start)];
        let offset = self.data_start + u64::try_from(start).unwrap_or(u64::MAX);
        self.file
            .seek(SeekFrom::Start(offset))
            .map_err(read_error(&self.path))?;
        self.file
            .read_exact(&mut bytes)
            .map_err(read_error(&self.path))?;
        Tensor::from_raw_buffer(&bytes, dtype, &info.shape, &Device::Cpu)
            .and_then(|tensor| tensor.to_dtype(DType::F32))
            .map_err(EngineError::tensor("reading weights"))
    }
}

/// Reads a model's config.json.
pub(crate) fn read_config(directory: &Path) -> Result<ModelConfig, EngineError> {
    let path = directory.join(CONFIG_FILE);
    let text = std::fs::read_to_string(&path).map_err(read_error(&path))?;
    ModelConfig::from_hugging_face_json(&text)
        .map_err(|source| EngineError::Config { path, source })
}

/// Names and shapes of one layer's tensors, as Hugging Face names them.
pub(crate) fn layer_shapes(config: &ModelConfig, layer: u32) -> [(String, Vec<u32>); 9] {
    let ModelConfig {
        width,
        feed_forward,
        ..
    } = *config;
    let queries = config.heads * config.head_width;
    let keys = config.kv_heads * config.head_width;
    [
        ("input_layernorm", vec![width]),
        ("self_attn.q_proj", vec![queries, width]),
        ("self_attn.k_proj", vec![keys, width]),
        ("self_attn.v_proj", vec![keys, width]),
        ("self_attn.o_proj", vec![width, queries]),
        ("post_attention_layernorm", vec![width]),
        ("mlp.gate_proj", vec![feed_forward, width]),
        ("mlp.up_proj", vec![feed_forward, width]),
        ("mlp.down_proj", vec![width, feed_forward]),
    ]
    .map(|(name, shape)| (format!("model.layers.{layer}.{name}.weight"), shape))
}

/// Name of the embedding table.
pub(crate) const EMBEDDING: &str = "model.embed_tokens.weight";
/// Name of the last norm.
pub(crate) const FINAL_NORM: &str = "model.norm.weight";
/// Name of the output head, where it is not the embedding table.
pub(crate) const HEAD: &str = "lm_head.weight";

/// Names and shapes of all tensors of a model.
pub(crate) fn all_shapes(config: &ModelConfig) -> Vec<(String, Vec<u32>)> {
    let table = vec![config.vocabulary, config.width];
    let mut shapes = vec![(EMBEDDING.to_owned(), table.clone())];
    shapes.extend((0..config.layers).flat_map(|layer| layer_shapes(config, layer)));
    shapes.push((FINAL_NORM.to_owned(), vec![config.width]));
    if !config.tie_embeddings {
        shapes.push((HEAD.to_owned(), table));
    }
    shapes
}

/// Checks that a model's directory holds a config, a tokenizer and all the weights, each whole.
///
/// # Errors
/// The first file that is missing, truncated or damaged, with the remedy.
pub fn verify(directory: &Path) -> Result<ModelConfig, EngineError> {
    let config = read_config(directory)?;
    super::text::TextTokenizer::load(directory)?;
    let weights = WeightsFile::open(directory)?;
    for (name, shape) in all_shapes(&config) {
        let found = weights.metadata.info(&name).map(|info| &info.shape);
        let same = found.is_some_and(|found| {
            found
                .iter()
                .map(|size| u32::try_from(*size).unwrap_or(u32::MAX))
                .eq(shape.clone())
        });
        if !same {
            let found = found.map_or("missing".to_owned(), |found| format!("{found:?}"));
            let reason = format!("{name} is {found}, and config.json implies {shape:?}");
            return Err(EngineError::Damaged {
                path: weights.path,
                reason,
            });
        }
    }
    Ok(config)
}

/// Hash of a model's weights, which tells where they came from.
///
/// # Errors
/// A file that cannot be read.
pub fn weights_sha256(directory: &Path) -> Result<String, EngineError> {
    let path = directory.join(WEIGHTS_FILE);
    let mut file = File::open(&path).map_err(read_error(&path))?;
    let mut hasher = Sha256::new();
    let mut block = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut block).map_err(read_error(&path))?;
        if count == 0 {
            return Ok(hexadecimal(&hasher.finalize()));
        }
        hasher.update(&block[..count]);
    }
}
