//! Reading the weights that a part of a model needs, and nothing else, from a model's directory:
//! config.json, tokenizer.json, and the weights as safetensors (one file or several) or as GGUF.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use candle_core::Tensor;
use candle_core::quantized::{QStorage, QTensor};
use sha2::{Digest, Sha256};

mod gguf;
mod random;
mod safetensors;

use self::gguf::Gguf;
use self::random::{RANDOM_FILE, RandomWeights};
use self::safetensors::Safetensors;
use super::compute::Compute;
use super::error::EngineError;
use super::gguf::{BlockType, store, stored_type};
use super::input;
use super::linear::{Matrix, block_bytes};
use super::model::size;
use super::tensors::{NamedShape, all_shapes};
use crate::model_config::ModelConfig;
use crate::recipe::hexadecimal;

pub use self::random::write_random;
#[cfg(test)]
pub(crate) use self::safetensors::INDEX_FILE;
pub(crate) use self::safetensors::{WEIGHTS_FILE, WeightsFile};

/// Name of the shape's description in a model's directory.
pub(crate) const CONFIG_FILE: &str = "config.json";

/// Which elements of a head the rotary embedding turns together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RotaryOrder {
    /// Element i with i + half: Hugging Face.
    HalfSplit,
    /// Elements 2 i and 2 i + 1: the rows of GGUF's Llama queries and keys stand in this order.
    Interleaved,
}

/// The opened weights of a model, and where they are to be put.
#[derive(Debug)]
pub(crate) struct Weights {
    stored: Stored,
    compute: Compute,
    /// The blocks that matrices of a model are to be put into.
    blocks: Option<(BlockType, ModelConfig)>,
}

/// How they are stored.
#[derive(Debug)]
enum Stored {
    Safetensors(Safetensors),
    Gguf(Gguf),
    Random(RandomWeights),
}

/// Bytes of the widest numbers that weights are stored in, which is also what blocks are made of and become.
const READ_NUMBER_BYTES: u64 = 4;

/// Longest config.json, in bytes.
pub(crate) const MOST_CONFIG_BYTES: u64 = 1 << 20;

fn read_error(path: &Path) -> impl FnOnce(std::io::Error) -> EngineError {
    let path = path.to_owned();
    move |source| EngineError::Read { path, source }
}

fn same_shape(found: &[usize], expected: &[u32]) -> bool {
    found.len() == expected.len()
        && found
            .iter()
            .zip(expected)
            .all(|(found, expected)| u32::try_from(*found) == Ok(*expected))
}

impl Weights {
    /// Opens the weights in a model's directory, of which there must be one kind, for the CPU.
    pub(crate) fn open(directory: &Path) -> Result<Weights, EngineError> {
        Weights::open_on(directory, &Compute::cpu())
    }

    /// The same, for a device.
    pub(crate) fn open_on(directory: &Path, compute: &Compute) -> Result<Weights, EngineError> {
        Weights::open_in_blocks(directory, compute, None)
    }

    /// The same, with the matrices in blocks where a type is given.
    pub(crate) fn open_in_blocks(
        directory: &Path,
        compute: &Compute,
        blocks: Option<(BlockType, ModelConfig)>,
    ) -> Result<Weights, EngineError> {
        let random = RandomWeights::find(directory)?;
        let stored = match (random, Gguf::find(directory)?) {
            (Some(random), None) => Stored::Random(random),
            (None, Some(path)) => Stored::Gguf(Gguf::open(path)?),
            (None, None) => Stored::Safetensors(Safetensors::open(directory)?),
            (Some(_), Some(path)) => {
                return Err(EngineError::Ambiguous {
                    directory: directory.to_owned(),
                    reason: format!("both {} and {RANDOM_FILE}", path.display()),
                });
            }
        };
        if let (Some((block_type, _)), Stored::Gguf(_)) = (&blocks, &stored) {
            return Err(EngineError::Unsuitable {
                path: directory.to_owned(),
                reason: format!(
                    "its weights are in blocks already, and {block_type} is made of a safetensors checkpoint"
                ),
            });
        }
        Ok(Weights {
            stored,
            compute: compute.clone(),
            blocks,
        })
    }

    /// A tensor that is not multiplied with.
    pub(crate) fn vector(&mut self, named: &NamedShape) -> Result<Tensor, EngineError> {
        match &mut self.stored {
            Stored::Safetensors(files) => files.tensor(named, &self.compute),
            Stored::Gguf(file) => file.vector(named, &self.compute),
            Stored::Random(random) => random.tensor(named, &self.compute),
        }
    }

    /// A tensor that is multiplied with: dense, or in blocks as it is stored. Blocks that nothing multiplies in the
    /// model's precision become numbers of it, one matrix at a time.
    pub(crate) fn matrix(&mut self, named: &NamedShape) -> Result<Matrix, EngineError> {
        let (here, keeps_blocks) = (Compute::cpu(), self.compute.keeps_blocks());
        let read = match (&mut self.stored, &self.blocks) {
            (Stored::Gguf(file), _) if keeps_blocks => return file.matrix(named, &self.compute),
            (Stored::Gguf(file), _) => file.matrix(named, &here)?,
            (_, None) => return self.vector(named).map(Matrix::Dense),
            // Rounded to blocks on the CPU and from f32, whatever computes afterwards: the same everywhere.
            (Stored::Safetensors(files), Some((block_type, config))) => {
                in_blocks(&named.0, config, files.tensor(named, &here)?, *block_type)?
            }
            (Stored::Random(random), Some((block_type, config))) => {
                in_blocks(&named.0, config, random.tensor(named, &here)?, *block_type)?
            }
        };
        match read {
            Matrix::Dense(dense) => placed(&dense, &self.compute),
            Matrix::Blocks(blocks) if keeps_blocks => moved(blocks, &self.compute),
            Matrix::Blocks(blocks) => {
                let numbers = blocks.dequantize(here.device());
                placed(&numbers.map_err(placing())?, &self.compute)
            }
        }
    }

    /// How blocks of few bits are kept, where it is not as blocks.
    pub(crate) fn kept(&self) -> Option<String> {
        let what = match (&self.stored, &self.blocks) {
            _ if self.compute.keeps_blocks() => return None,
            (Stored::Gguf(file), _) if file.has_blocks() => "blocks of the GGUF file".to_owned(),
            (_, Some((block_type, _))) => format!("{block_type} blocks"),
            (_, None) => return None,
        };
        Some(format!("{what} as {} numbers", self.compute.precision()))
    }

    /// Where they are put.
    pub(crate) const fn compute(&self) -> &Compute {
        &self.compute
    }

    /// Memory that a tensor will occupy as numbers of the device's precision.
    pub(crate) fn vector_bytes(&self, (_, shape): &NamedShape) -> u64 {
        self.compute.tensor_bytes(shape)
    }

    /// Memory that a matrix will occupy once it has been multiplied with.
    pub(crate) fn matrix_bytes(&self, named: &NamedShape) -> u64 {
        let kind = match (&self.stored, &self.blocks) {
            _ if !self.compute.keeps_blocks() => None,
            (Stored::Gguf(file), _) => file.block_type(named),
            (_, Some((block_type, config))) => {
                let (kind, is_whole) = stored_type(named, config, *block_type);
                is_whole.then_some(kind)
            }
            (_, None) => None,
        };
        let shape: Vec<usize> = named.1.iter().copied().map(size).collect();
        match kind {
            Some(kind) => block_bytes(&shape, kind, self.compute.device()),
            None => self.vector_bytes(named),
        }
    }

    /// Memory that reading a matrix takes for a moment: as it is stored and as it was read, and where the CPU keeps
    /// narrower numbers than it reads, those as well.
    pub(crate) fn reading_bytes(&self, (_, shape): &NamedShape) -> u64 {
        let (read, kept) = (READ_NUMBER_BYTES, self.compute.number_bytes());
        let number = match self.compute.device().is_cpu() && kept < read {
            true => 2 * read + kept,
            false => 2 * kept,
        };
        let numbers = shape.iter().copied().map(u64::from);
        numbers.fold(number, u64::saturating_mul)
    }

    /// In which order the rows of queries and keys stand.
    pub(crate) const fn rotary_order(&self) -> RotaryOrder {
        match &self.stored {
            Stored::Safetensors(_) | Stored::Random(_) => RotaryOrder::HalfSplit,
            Stored::Gguf(file) => file.rotary_order(),
        }
    }

    /// What the rotary frequencies are divided by, where the weights say so themselves.
    pub(crate) fn frequency_divisors(
        &mut self,
        config: &ModelConfig,
    ) -> Result<Option<Vec<f32>>, EngineError> {
        match &mut self.stored {
            Stored::Safetensors(_) | Stored::Random(_) => Ok(None),
            Stored::Gguf(file) => file.frequency_divisors(config),
        }
    }

    /// Whether they are a GGUF file.
    pub(crate) const fn is_in_blocks(&self) -> bool {
        matches!(self.stored, Stored::Gguf(_))
    }

    fn paths(&self) -> Vec<PathBuf> {
        match &self.stored {
            Stored::Safetensors(files) => files.paths(),
            Stored::Gguf(file) => vec![file.path().to_owned()],
            Stored::Random(random) => random.paths(),
        }
    }

    /// The file that says what a tensor is, or that does not though it should.
    fn path_of(&self, name: &str) -> PathBuf {
        match &self.stored {
            Stored::Safetensors(files) => files.path_of(name).to_owned(),
            Stored::Gguf(file) => file.path().to_owned(),
            Stored::Random(random) => random.path().to_owned(),
        }
    }

    /// The stored shape of a tensor; random weights have every tensor in the shape that is asked.
    fn shape(&self, (name, asked): &NamedShape) -> Option<Vec<usize>> {
        match &self.stored {
            Stored::Safetensors(files) => files.shape(name),
            Stored::Gguf(file) => file.shape(name),
            Stored::Random(_) => asked
                .iter()
                .map(|size| usize::try_from(*size).ok())
                .collect(),
        }
    }
}

fn placing() -> impl FnOnce(candle_core::Error) -> EngineError {
    EngineError::tensor("placing weights")
}

/// Numbers as a device keeps them.
fn placed(numbers: &Tensor, compute: &Compute) -> Result<Matrix, EngineError> {
    let placed = compute.place(numbers).map_err(placing())?;
    Ok(Matrix::Dense(placed))
}

/// Blocks that were made on the CPU, on the device.
fn moved(blocks: Arc<QTensor>, compute: &Compute) -> Result<Matrix, EngineError> {
    if compute.device().is_cpu() {
        return Ok(Matrix::Blocks(blocks));
    }
    let move_all = || {
        let storage = QStorage::from_data(blocks.data()?, compute.device(), blocks.dtype())?;
        QTensor::new(storage, blocks.shape())
    };
    Ok(Matrix::Blocks(Arc::new(move_all().map_err(placing())?)))
}

/// A matrix in blocks; as it is where its rows are no whole number of them.
fn in_blocks(
    name: &str,
    config: &ModelConfig,
    dense: Tensor,
    block_type: BlockType,
) -> Result<Matrix, EngineError> {
    let (stored, is_whole) = store(name, config, &dense, block_type)?;
    Ok(match is_whole {
        true => Matrix::Blocks(Arc::new(stored)),
        false => Matrix::Dense(dense),
    })
}

/// Reads a model's config.json.
pub(crate) fn read_config(directory: &Path) -> Result<ModelConfig, EngineError> {
    let path = directory.join(CONFIG_FILE);
    let text = input::read_text(&path, MOST_CONFIG_BYTES)?;
    ModelConfig::from_hugging_face_json(&text)
        .map_err(|source| EngineError::Config { path, source })
}

/// Checks that a model's directory holds a config, a tokenizer and all the weights, each whole.
///
/// # Errors
/// The first file that is missing, truncated or damaged, with the remedy.
pub fn verify(directory: &Path) -> Result<ModelConfig, EngineError> {
    let config = read_config(directory)?;
    super::text::TextTokenizer::load(directory)?;
    let weights = Weights::open(directory)?;
    for named in all_shapes(&config) {
        let found = weights.shape(&named);
        let (name, shape) = named;
        let same = found
            .as_deref()
            .is_some_and(|found| same_shape(found, &shape));
        if !same {
            let found = found.map_or("missing".to_owned(), |found| format!("{found:?}"));
            let reason = format!("{name} is {found}, and config.json implies {shape:?}");
            let path = weights.path_of(&name);
            return Err(EngineError::Damaged { path, reason });
        }
    }
    Ok(config)
}

/// Whether the weights of a model's directory are random, drawn where they are needed.
#[must_use]
pub fn is_random(directory: &Path) -> bool {
    directory.join(RANDOM_FILE).is_file()
}

/// Bytes of a model's weights on disk.
///
/// # Errors
/// A file that cannot be read.
pub fn weights_bytes(directory: &Path) -> Result<u64, EngineError> {
    let paths = Weights::open(directory)?.paths();
    let bytes = paths.iter().map(|path| {
        let metadata = std::fs::metadata(path).map_err(read_error(path))?;
        Ok(metadata.len())
    });
    bytes.sum()
}

/// Hash of a model's weights, which tells where they came from: of the file, or of all files in
/// the order of their names.
///
/// # Errors
/// A file that cannot be read.
pub fn weights_sha256(directory: &Path) -> Result<String, EngineError> {
    let mut paths = Weights::open(directory)?.paths();
    paths.sort();
    let mut hasher = Sha256::new();
    let mut block = vec![0; 1 << 20];
    for path in paths {
        let (mut file, _) = input::open(&path)?;
        loop {
            let count = file.read(&mut block).map_err(read_error(&path))?;
            if count == 0 {
                break;
            }
            hasher.update(&block[..count]);
        }
    }
    Ok(hexadecimal(&hasher.finalize()))
}
