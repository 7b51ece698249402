//! What must be known of a model before anything runs: how far it can be cut, and how long its
//! sequences may be.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use hexloop_workloads::model_config::{ConfigError, ModelConfig};
use hexloop_workloads::recipe::Recipe;
use hexloop_workloads::request::RequestStream;

/// Hidden states cross the link as f32.
pub(crate) const BYTES_PER_ACTIVATION: u32 = 4;

/// The largest `config.json` that is read, in bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// The parts of a model's shape that an experiment depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelShape {
    /// Decoder layers.
    pub layers: u32,
    /// Width of the hidden state.
    pub width: u32,
    /// Longest sequence, in tokens.
    pub max_positions: u32,
    /// Tokens that it scores.
    pub vocabulary: u32,
    /// Key-value heads of a layer.
    pub kv_heads: u32,
    /// Width of a head.
    pub head_width: u32,
}

impl From<ModelConfig> for ModelShape {
    fn from(config: ModelConfig) -> ModelShape {
        ModelShape {
            layers: config.layers,
            width: config.width,
            max_positions: config.max_positions,
            vocabulary: config.vocabulary,
            kv_heads: config.kv_heads,
            head_width: config.head_width,
        }
    }
}

/// A model directory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModelDirectoryError {
    #[error("cannot read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{path} is larger than {MAX_CONFIG_BYTES} bytes")]
    TooLarge { path: PathBuf },
    #[error("{path} does not describe a model that runs here")]
    Config {
        path: PathBuf,
        #[source]
        source: ConfigError,
    },
}

/// The shape of a bundled recipe.
pub(crate) fn of_recipe(name: &str) -> Option<ModelShape> {
    Recipe::by_name(name).map(|recipe| recipe.config.into())
}

/// The shape of a checkpoint, from its `config.json`.
pub(crate) fn of_directory(directory: &Path) -> Result<ModelShape, ModelDirectoryError> {
    let path = directory.join("config.json");
    let read = || {
        let mut text = String::new();
        let limit = MAX_CONFIG_BYTES + 1;
        File::open(&path)?.take(limit).read_to_string(&mut text)?;
        Ok(text)
    };
    let text = match read() {
        Ok(text) => text,
        Err(source) => return Err(ModelDirectoryError::Read { path, source }),
    };
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_CONFIG_BYTES {
        return Err(ModelDirectoryError::TooLarge { path });
    }
    match ModelConfig::from_hugging_face_json(&text) {
        Ok(config) => Ok(config.into()),
        Err(source) => Err(ModelDirectoryError::Config { path, source }),
    }
}

/// What is wrong with a cut, and how to put it right.
pub(crate) fn beyond_layers(shape: ModelShape, layers_on_device: u32) -> Option<(String, String)> {
    if shape.layers < 2 {
        let message = format!("a model with {} layer cannot be split", shape.layers);
        return Some((message, "use placement `device` or `edge`".to_owned()));
    }
    if (1..shape.layers).contains(&layers_on_device) {
        return None;
    }
    let message = format!(
        "the model has {} layers: it cannot be cut after layer {layers_on_device}",
        shape.layers
    );
    let help = format!("`layers_on_device` lies from 1 to {}", shape.layers - 1);
    Some((message, help))
}

/// Why two nodes cannot share each layer, and what to do instead.
pub(crate) fn unshared(shape: ModelShape) -> Option<(String, String)> {
    if shape.kv_heads.is_multiple_of(2) {
        return None;
    }
    let message = format!(
        "the model has {} key-value heads in each layer, of which no two nodes have half each",
        shape.kv_heads
    );
    let help = "divide it between layers: technique `split`".to_owned();
    Some((message, help))
}

/// What is wrong with the lengths of requests, and how to put it right.
pub(crate) fn beyond_positions(
    shape: ModelShape,
    requests: &RequestStream,
) -> Option<(String, String)> {
    too_long(shape, (requests.prompt_tokens, requests.output_tokens))
}

/// The same of a prompt and an answer of so many tokens.
pub(crate) fn too_long(
    shape: ModelShape,
    (prompt, output): (u32, u32),
) -> Option<(String, String)> {
    let tokens = u64::from(prompt) + u64::from(output);
    if tokens <= u64::from(shape.max_positions) {
        return None;
    }
    let message = format!(
        "prompt and output are {tokens} tokens together; the model has {} positions",
        shape.max_positions
    );
    Some((
        message,
        "make `prompt_tokens` or `output_tokens` smaller".to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_odd_number_of_key_value_heads_cannot_be_shared() {
        let shape = of_recipe("tiny").unwrap();
        assert_eq!(unshared(shape), None);
        let odd = ModelShape {
            kv_heads: 3,
            ..shape
        };
        let (message, _) = unshared(odd).unwrap();
        assert!(message.contains("3 key-value heads"), "{message}");
    }
}
