//! Weights in a GGUF file, in the blocks that they are stored in.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::quantized::gguf_file::{Content, TensorInfo};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};

use super::{RotaryOrder, read_error, same_shape};
use crate::engine::compute::Compute;
use crate::engine::error::EngineError;
use crate::engine::gguf::{FREQUENCY_DIVISORS, read_content};
use crate::engine::input;
use crate::engine::linear::Matrix;
use crate::engine::tensors::{NamedShape, gguf_name};
use crate::model_config::ModelConfig;

/// An open GGUF file whose length agrees with its header.
#[derive(Debug)]
pub(crate) struct Gguf {
    path: PathBuf,
    file: BufReader<File>,
    content: Content,
    order: RotaryOrder,
}

impl Gguf {
    /// The GGUF file in a model's directory; `None` if there is none.
    pub(super) fn find(directory: &Path) -> Result<Option<PathBuf>, EngineError> {
        let entries = std::fs::read_dir(directory).map_err(read_error(directory))?;
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(read_error(directory))?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "gguf")
            {
                found.push(path);
            }
        }
        found.sort();
        match found.as_slice() {
            [] => Ok(None),
            [path] => Ok(Some(path.clone())),
            [first, ..] => Err(EngineError::Ambiguous {
                directory: directory.to_owned(),
                reason: format!(
                    "{} GGUF files, the first of them {}",
                    found.len(),
                    first.display()
                ),
            }),
        }
    }

    /// Opens and checks a file.
    pub(super) fn open(path: PathBuf) -> Result<Gguf, EngineError> {
        let (file, found_bytes) = input::open(&path)?;
        let mut file = BufReader::new(file);
        let damaged = |reason: String| EngineError::Damaged {
            path: path.clone(),
            reason,
        };
        let content = read_content(&mut file).map_err(damaged)?;
        // The end of the last tensor, and the first name of one that cannot be read: whatever order the
        // library keeps them in.
        let (mut expected_bytes, mut unreadable) = (0, BTreeMap::new());
        for (name, info) in &content.tensor_infos {
            let end = stored_bytes(info).and_then(|bytes| {
                let start = content.tensor_data_offset.checked_add(info.offset)?;
                start.checked_add(bytes)
            });
            match end {
                Some(_) if !is_read(info.ggml_dtype) => {
                    unreadable.insert(name, format!("is of type {:?}", info.ggml_dtype));
                }
                Some(end) => expected_bytes = expected_bytes.max(end),
                None => {
                    unreadable.insert(name, "has no possible size".to_owned());
                }
            }
        }
        if let Some((name, why)) = unreadable.first_key_value() {
            return Err(damaged(format!("{name} {why}")));
        }
        if expected_bytes > found_bytes {
            return Err(EngineError::Truncated {
                path,
                expected_bytes,
                found_bytes,
            });
        }
        let text = |key: &str| content.metadata.get(key)?.to_string().ok().cloned();
        let order = match text("general.architecture").as_deref() {
            // llama.cpp's LLAMA_ROPE_TYPE_NORM; Mistral's files call themselves llama.
            Some("llama") => RotaryOrder::Interleaved,
            Some("qwen2" | "qwen3") => RotaryOrder::HalfSplit,
            other => {
                let other = other.unwrap_or("missing");
                return Err(damaged(format!(
                    "general.architecture is {other}: the engine runs llama (Llama, TinyLlama, \
                     SmolLM, Mistral), qwen2 and qwen3"
                )));
            }
        };
        Ok(Gguf {
            path,
            file,
            content,
            order,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) const fn rotary_order(&self) -> RotaryOrder {
        self.order
    }

    pub(super) fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let info = self.content.tensor_infos.get(&gguf_name(name)?)?;
        Some(info.shape.dims().to_vec())
    }

    /// The blocks that a matrix is kept in; `None` if it is dense in memory, or missing.
    pub(super) fn block_type(&self, (name, _): &NamedShape) -> Option<GgmlDType> {
        let info = self.content.tensor_infos.get(&gguf_name(name)?)?;
        Some(info.ggml_dtype).filter(|kind| is_in_blocks(*kind))
    }

    /// Whether any tensor is stored in blocks.
    pub(super) fn has_blocks(&self) -> bool {
        let mut stored = self.content.tensor_infos.values();
        stored.any(|info| is_in_blocks(info.ggml_dtype))
    }

    fn read(
        &mut self,
        (name, shape): &NamedShape,
        device: &Device,
    ) -> Result<QTensor, EngineError> {
        let damaged = |reason: String| EngineError::Damaged {
            path: self.path.clone(),
            reason,
        };
        let own = gguf_name(name).unwrap_or_else(|| name.clone());
        let Some(info) = self.content.tensor_infos.get(&own) else {
            return Err(damaged(format!("it has no tensor {own}")));
        };
        if !same_shape(info.shape.dims(), shape) {
            let found = info.shape.dims();
            return Err(damaged(format!(
                "{own} is {found:?}, and config.json implies {shape:?}"
            )));
        }
        self.content
            .tensor(&mut self.file, &own, device)
            .map_err(EngineError::tensor("reading weights"))
    }

    /// A tensor that is not multiplied with.
    pub(super) fn vector(
        &mut self,
        named: &NamedShape,
        compute: &Compute,
    ) -> Result<Tensor, EngineError> {
        dense(&self.read(named, &Device::Cpu)?, compute)
    }

    /// A matrix, in its blocks where it is stored in blocks.
    pub(super) fn matrix(
        &mut self,
        named: &NamedShape,
        compute: &Compute,
    ) -> Result<Matrix, EngineError> {
        let stored = self.read(named, compute.device())?;
        if is_in_blocks(stored.dtype()) {
            return Ok(Matrix::Blocks(Arc::new(stored)));
        }
        dense(&stored, compute).map(Matrix::Dense)
    }

    /// What the rotary frequencies are divided by, where the file says so.
    pub(super) fn frequency_divisors(
        &mut self,
        config: &ModelConfig,
    ) -> Result<Option<Vec<f32>>, EngineError> {
        if !self.content.tensor_infos.contains_key(FREQUENCY_DIVISORS) {
            return Ok(None);
        }
        let named = (FREQUENCY_DIVISORS.to_owned(), vec![config.head_width / 2]);
        let divisors = self.vector(&named, &Compute::cpu())?.to_vec1();
        divisors
            .map(Some)
            .map_err(EngineError::tensor("reading weights"))
    }
}

/// Whether a matrix of that type is multiplied with as it is stored.
const fn is_in_blocks(kind: GgmlDType) -> bool {
    !matches!(kind, GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16)
}

/// Whether the tensor library reads tensors of that type: states are rounded to the others while blocks are multiplied,
/// and nothing is stored in them.
const fn is_read(kind: GgmlDType) -> bool {
    !matches!(kind, GgmlDType::Q8_1 | GgmlDType::Q8K)
}

/// Bytes of a tensor in its file; `None` if its shape does not fit its blocks.
fn stored_bytes(info: &TensorInfo) -> Option<u64> {
    let dimensions = info.shape.dims().iter();
    let elements = dimensions.copied().try_fold(1_usize, usize::checked_mul)?;
    let block = info.ggml_dtype.block_size();
    let is_whole = info.shape.dims().last()?.is_multiple_of(block);
    let bytes = (elements / block).checked_mul(info.ggml_dtype.type_size())?;
    u64::try_from(bytes).ok().filter(|_| is_whole)
}

fn dense(stored: &QTensor, compute: &Compute) -> Result<Tensor, EngineError> {
    stored
        .dequantize(&stored.device())
        .and_then(|tensor| compute.place(&tensor))
        .map_err(EngineError::tensor("reading weights"))
}
