//! What both sides of a connection say of themselves, so that a wrong peer is told apart: the model
//! by a fingerprint, and its layers.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::ConnectionError;

/// Samples of each file that the fingerprint is made of, evenly over its length.
const SAMPLES: u64 = 64;

/// Length of each sample.
const SAMPLE_BYTES: u64 = 4096;

/// What one side needs or holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::serve) struct Terms {
    pub(in crate::serve) model: [u8; 32],
    pub(in crate::serve) layers: Range<u32>,
    /// The second model that both sides must have, where there is one: a draft model, or a vision encoder.
    pub(in crate::serve) second: Option<[u8; 32]>,
}

impl Terms {
    /// As they go on the link.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.model.to_vec();
        bytes.extend_from_slice(&self.layers.start.to_le_bytes());
        bytes.extend_from_slice(&self.layers.end.to_le_bytes());
        bytes.extend(self.second.iter().flatten());
        bytes
    }

    /// Reads them; `None` if it is not so many bytes.
    pub(super) fn decode(bytes: &[u8]) -> Option<Terms> {
        let (model, layers) = bytes.split_first_chunk::<32>()?;
        let (start, end) = layers.split_first_chunk::<4>()?;
        let (end, second) = end.split_first_chunk::<4>()?;
        let second = match second {
            [] => None,
            second => Some(second.try_into().ok()?),
        };
        Some(Terms {
            model: *model,
            layers: u32::from_le_bytes(*start)..u32::from_le_bytes(*end),
            second,
        })
    }

    /// Whether who needs these is served by who holds `held`.
    pub(super) fn check(&self, held: &Terms) -> Result<(), ConnectionError> {
        if self.model != held.model {
            return Err(ConnectionError::WrongModel);
        }
        if self.second != held.second {
            return Err(ConnectionError::WrongSecond);
        }
        let (needed, held) = (self.layers.clone(), held.layers.clone());
        if needed.start < held.start || needed.end > held.end {
            return Err(ConnectionError::WrongLayers { needed, held });
        }
        Ok(())
    }
}

/// What tells one model from another: its config and tokenizer, and samples of its weights with
/// their lengths, so that it takes no longer for large weights.
pub(in crate::serve) fn fingerprint(directory: &Path) -> io::Result<[u8; 32]> {
    let is_part = |path: &PathBuf| {
        let extension = path.extension().and_then(|extension| extension.to_str());
        matches!(extension, Some("json" | "safetensors" | "gguf"))
            // What may be put beside a model later makes it no other one.
            && path
                .file_name()
                .and_then(|name| name.to_str())
                .is_none_or(|name| name != "training.json" && !name.starts_with("exits."))
    };
    let entries = std::fs::read_dir(directory)?.map(|entry| Ok(entry?.path()));
    let mut paths = entries.collect::<io::Result<Vec<PathBuf>>>()?;
    // What is no file is none that a model consists of, and a named pipe would never end.
    paths.retain(|path| is_part(path) && path.is_file());
    paths.sort();
    let mut hasher = Sha256::new();
    for path in paths {
        let mut file = File::open(&path)?;
        let length = file.metadata()?.len();
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        hasher.update(name);
        hasher.update(length.to_le_bytes());
        if length <= SAMPLES * SAMPLE_BYTES {
            hasher.update(std::fs::read(&path)?);
            continue;
        }
        let mut block = Vec::new();
        for sample in 0..SAMPLES {
            let last = length - SAMPLE_BYTES;
            let start = u128::from(last) * u128::from(sample) / u128::from(SAMPLES - 1);
            file.seek(SeekFrom::Start(u64::try_from(start).unwrap_or(last)))?;
            block.clear();
            (&mut file).take(SAMPLE_BYTES).read_to_end(&mut block)?;
            hasher.update(&block);
        }
    }
    Ok(hasher.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_read_back_and_anything_else_does_not() {
        for second in [None, Some([3; 32])] {
            let terms = Terms {
                model: [7; 32],
                layers: 2..6,
                second,
            };
            let bytes = terms.encode();
            assert_eq!(Terms::decode(&bytes), Some(terms));
            assert_eq!(Terms::decode(&bytes[1..]), None);
        }
        assert_eq!(Terms::decode(&[]), None);
    }

    #[test]
    fn another_model_and_missing_layers_are_told_apart() {
        let terms = |model, layers| Terms {
            model: [model; 32],
            layers,
            second: None,
        };
        let held = terms(1, 2..6);
        assert!(terms(1, 3..6).check(&held).is_ok());
        let other = terms(2, 3..6).check(&held).unwrap_err();
        assert!(matches!(other, ConnectionError::WrongModel));
        let drafted = Terms {
            second: Some([1; 32]),
            ..terms(1, 3..6)
        };
        let alone = drafted.check(&held).unwrap_err();
        assert!(matches!(alone, ConnectionError::WrongSecond), "{alone}");
        let missing = terms(1, 1..6).check(&held).unwrap_err();
        assert!(
            matches!(missing, ConnectionError::WrongLayers { .. }),
            "{missing}"
        );
    }

    #[test]
    fn what_is_no_file_belongs_to_no_fingerprint() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("config.json"), "{}").unwrap();
        let first = fingerprint(directory.path()).unwrap();
        nix::unistd::mkfifo(
            &directory.path().join("pipe.json"),
            nix::sys::stat::Mode::S_IRWXU,
        )
        .unwrap();
        std::fs::create_dir(directory.path().join("directory.gguf")).unwrap();
        assert_eq!(fingerprint(directory.path()).unwrap(), first);
    }

    #[test]
    fn the_fingerprint_sees_weights_of_the_same_length_that_differ_in_one_byte_of_a_sample() {
        let directory = tempfile::tempdir().unwrap();
        let weights = directory.path().join("model.safetensors");
        let mut bytes = vec![1_u8; 1 << 20];
        std::fs::write(&weights, &bytes).unwrap();
        let first = fingerprint(directory.path()).unwrap();
        assert_eq!(fingerprint(directory.path()).unwrap(), first);
        *bytes.last_mut().unwrap() = 2;
        std::fs::write(&weights, &bytes).unwrap();
        assert_ne!(fingerprint(directory.path()).unwrap(), first);
    }
}
