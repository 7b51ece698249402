//! Weights in safetensors: one file, or several with an index that says which holds what.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use safetensors::{Dtype, tensor::Metadata};
use serde::Deserialize;

use super::{read_error, same_shape};
use crate::engine::compute::Compute;
use crate::engine::error::EngineError;
use crate::engine::input;
use crate::engine::tensors::NamedShape;

/// Name of the weights in a model's directory, where they are one file.
pub(crate) const WEIGHTS_FILE: &str = "model.safetensors";
/// Name of the index in a model's directory, where they are several.
pub(crate) const INDEX_FILE: &str = "model.safetensors.index.json";

/// The safetensors library's own bound on a header.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Longest index, in bytes: some hundred for each of as many tensors as no model has.
const MOST_INDEX_BYTES: u64 = 1 << 26;

/// An open safetensors file whose length agrees with its header.
#[derive(Debug)]
pub(crate) struct WeightsFile {
    path: PathBuf,
    file: File,
    metadata: Metadata,
    data_start: u64,
}

impl WeightsFile {
    /// Opens and checks a file.
    pub(crate) fn open(path: PathBuf) -> Result<WeightsFile, EngineError> {
        let (mut file, found_bytes) = input::open(&path)?;
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

    /// Bytes of a tensor as it is stored; 0 if there is none of that name.
    pub(crate) fn stored_bytes(&self, name: &str) -> u64 {
        let offsets = self.metadata.info(name).map(|info| info.data_offsets);
        let bytes = offsets.map_or(0, |(start, end)| end.saturating_sub(start));
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// Whether there is a tensor of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.metadata.info(name).is_some()
    }

    /// Names of its tensors.
    pub(crate) fn names(&self) -> Vec<String> {
        self.metadata.tensors().into_keys().collect()
    }

    /// Values of all its tensors.
    pub(crate) fn values(&self) -> u64 {
        let tensors = self.metadata.tensors();
        let values = tensors
            .values()
            .map(|info| info.shape.iter().product::<usize>());
        values
            .map(|values| u64::try_from(values).unwrap_or(u64::MAX))
            .sum()
    }

    /// Refuses a tensor whose shape is not what `source` implies.
    pub(crate) fn check_shape(
        &self,
        (name, shape): &NamedShape,
        source: &str,
    ) -> Result<(), EngineError> {
        match self.metadata.info(name) {
            Some(info) if !same_shape(&info.shape, shape) => Err(EngineError::Unsuitable {
                path: self.path.clone(),
                reason: format!(
                    "{name} is {:?}, and {source} with the model's config.json implies {shape:?}: keep the files \
                     of one training together, and take the model that it was trained for",
                    info.shape
                ),
            }),
            _ => Ok(()),
        }
    }

    /// Reads one tensor and checks its shape.
    pub(crate) fn tensor(
        &mut self,
        (name, shape): &NamedShape,
        compute: &Compute,
    ) -> Result<Tensor, EngineError> {
        let damaged = |reason: String| EngineError::Damaged {
            path: self.path.clone(),
            reason,
        };
        let Some(info) = self.metadata.info(name) else {
            return Err(damaged(format!(
                "it has no tensor {name}, and config.json implies one"
            )));
        };
        if !same_shape(&info.shape, shape) {
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
            .and_then(|tensor| compute.place(&tensor))
            .map_err(EngineError::tensor("reading weights"))
    }
}

/// The files that hold a model's weights.
#[derive(Debug)]
pub(crate) struct Safetensors {
    /// The one file, or the index.
    described_in: PathBuf,
    files: Vec<WeightsFile>,
    /// Which file holds a tensor.
    place: BTreeMap<String, usize>,
}

/// What an index says that matters here.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Safetensors {
    /// Opens and checks the one file, or all that the index names.
    pub(super) fn open(directory: &Path) -> Result<Safetensors, EngineError> {
        let index = directory.join(INDEX_FILE);
        let single = directory.join(WEIGHTS_FILE);
        if single.exists() || !index.exists() {
            let file = WeightsFile::open(single.clone())?;
            let names = file.metadata.tensors().into_keys();
            let place = names.map(|name| (name, 0)).collect();
            return Ok(Safetensors {
                described_in: single,
                files: vec![file],
                place,
            });
        }
        let damaged = |reason: String| EngineError::Damaged {
            path: index.clone(),
            reason,
        };
        let text = input::read_text(&index, MOST_INDEX_BYTES)?;
        let map: Index = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        let (mut files, mut opened, mut place) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        for (tensor, name) in map.weight_map {
            // A name that leads elsewhere is no file of this model.
            if Path::new(&name).file_name().and_then(|own| own.to_str()) != Some(name.as_str()) {
                return Err(damaged(format!(
                    "{tensor} is in {name:?}, which is no file name"
                )));
            }
            let number = match opened.get(&name) {
                Some(number) => *number,
                None if !directory.join(&name).exists() => {
                    return Err(damaged(format!(
                        "it says that {tensor} is in {name}, and there is no such file beside it: copy all of the \
                         checkpoint's files"
                    )));
                }
                None => {
                    files.push(WeightsFile::open(directory.join(&name))?);
                    opened.insert(name.clone(), files.len() - 1);
                    files.len() - 1
                }
            };
            if files[number].metadata.info(&tensor).is_none() {
                return Err(damaged(format!(
                    "it says that {tensor} is in {name}, and it is not"
                )));
            }
            place.insert(tensor, number);
        }
        Ok(Safetensors {
            described_in: index,
            files,
            place,
        })
    }

    /// The file that a tensor is in; what describes all if it is in none.
    pub(super) fn path_of(&self, name: &str) -> &Path {
        let file = self.place.get(name).and_then(|at| self.files.get(*at));
        file.map_or(&self.described_in, |file| &file.path)
    }

    pub(super) fn paths(&self) -> Vec<PathBuf> {
        self.files.iter().map(|file| file.path.clone()).collect()
    }

    pub(super) fn shape(&self, name: &str) -> Option<Vec<usize>> {
        let file = &self.files[*self.place.get(name)?];
        Some(file.metadata.info(name)?.shape.clone())
    }

    pub(super) fn tensor(
        &mut self,
        named: &NamedShape,
        compute: &Compute,
    ) -> Result<Tensor, EngineError> {
        let place = self.place.get(&named.0);
        match place.and_then(|at| self.files.get_mut(*at)) {
            Some(file) => file.tensor(named, compute),
            None => Err(EngineError::Damaged {
                path: self.described_in.clone(),
                reason: format!("it has no tensor {}", named.0),
            }),
        }
    }
}
