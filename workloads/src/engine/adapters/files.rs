//! Reading an adapter's directory as PEFT writes it, with everything that must be refused.

use std::path::{Path, PathBuf};

use candle_core::{DType, Tensor};
use serde::Deserialize;

use crate::engine::error::EngineError;
use crate::engine::input;
use crate::engine::model::Model;
use crate::engine::weights::WeightsFile;
use crate::recipe::{ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE};

/// The largest rank.
const MOST_RANK: u32 = 1024;

/// Longest `adapter_config.json`, in bytes.
const MOST_CONFIG_BYTES: u64 = 1 << 20;

/// The maps beside which adapters are known here.
const TARGETS: [&str; 2] = ["q_proj", "v_proj"];

/// What is read of `adapter_config.json`.
#[derive(Debug, Deserialize)]
pub(super) struct Config {
    pub(super) r: u32,
    pub(super) lora_alpha: f64,
    target_modules: Vec<String>,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    #[serde(default)]
    bias: Option<String>,
    #[serde(default)]
    modules_to_save: Option<Vec<String>>,
    #[serde(default)]
    rank_pattern: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    alpha_pattern: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    layers_to_transform: Option<serde_json::Value>,
}

/// Which of the two matrices of a pair.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Half {
    /// Rank x inputs.
    Down,
    /// Outputs x rank.
    Up,
}

/// The name that PEFT gives a matrix beside the map `target` of a layer.
#[must_use]
pub(crate) fn tensor_name(layer: u32, target: &str, half: Half) -> String {
    let half = match half {
        Half::Down => "lora_A",
        Half::Up => "lora_B",
    };
    format!("base_model.model.model.layers.{layer}.self_attn.{target}.{half}.weight")
}

/// The text of `adapter_config.json` for an adapter of the query and value maps.
#[must_use]
pub(crate) fn config_text(rank: u32, alpha: f64) -> String {
    let config = serde_json::json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": TARGETS,
    });
    format!("{config:#}\n")
}

fn unsuitable(path: PathBuf, reason: String) -> EngineError {
    EngineError::Unsuitable { path, reason }
}

impl Config {
    /// What of it is not LoRA as it is computed here; in words.
    fn foreign(&self) -> Option<String> {
        let flags = [
            (self.use_rslora, "use_rslora"),
            (self.use_dora, "use_dora"),
            (
                self.bias.as_deref().is_some_and(|bias| bias != "none"),
                "bias",
            ),
            (
                self.modules_to_save
                    .as_ref()
                    .is_some_and(|modules| !modules.is_empty()),
                "modules_to_save",
            ),
            (!self.rank_pattern.is_empty(), "rank_pattern"),
            (!self.alpha_pattern.is_empty(), "alpha_pattern"),
            (
                self.layers_to_transform
                    .as_ref()
                    .is_some_and(|layers| !layers.is_null()),
                "layers_to_transform",
            ),
        ];
        let set = flags.iter().find(|(is_set, _)| *is_set);
        set.map(|(_, name)| {
            format!(
                "it sets {name}, which is not computed here: train the adapter without, or merge it \
                 into the checkpoint"
            )
        })
    }

    pub(super) fn read(directory: &Path) -> Result<Config, EngineError> {
        let path = directory.join(ADAPTER_CONFIG_FILE);
        let text = input::read_text(&path, MOST_CONFIG_BYTES)?;
        let config: Config = serde_json::from_str(&text)
            .map_err(|error| unsuitable(path.clone(), error.to_string()))?;
        let mut targets = config.target_modules.clone();
        targets.sort_unstable();
        if targets != TARGETS {
            let found = config.target_modules.join(", ");
            return Err(unsuitable(
                path,
                format!(
                    "it adapts {found}; adapters of q_proj and v_proj are known here: train one with \
                     these target_modules"
                ),
            ));
        }
        if !(1..=MOST_RANK).contains(&config.r) || !config.lora_alpha.is_finite() {
            return Err(unsuitable(
                path,
                format!(
                    "its rank is {} and its lora_alpha {}: the rank is a number from 1 to {MOST_RANK}",
                    config.r, config.lora_alpha
                ),
            ));
        }
        match config.foreign() {
            Some(reason) => Err(unsuitable(path, reason)),
            None => Ok(config),
        }
    }

    /// What `B A` is multiplied with.
    pub(super) fn scale(&self) -> f64 {
        self.lora_alpha / f64::from(self.r)
    }
}

/// Parameters in a file of weights and their bytes, by its header alone.
///
/// # Errors
/// A file that is missing or damaged.
pub fn stored_parameters(file: PathBuf) -> Result<(u64, u64), EngineError> {
    let file = WeightsFile::open(file)?;
    let names = file.names();
    let bytes = names.iter().map(|name| file.stored_bytes(name)).sum();
    Ok((file.values(), bytes))
}

/// The rank of the adapter in a directory.
///
/// # Errors
/// A description that is missing, or of something else.
pub fn rank_of(directory: &Path) -> Result<u32, EngineError> {
    Ok(Config::read(directory)?.r)
}

/// An adapter that has been read: of each layer, down and up of queries and of values.
#[derive(Debug)]
pub struct LoadedAdapter {
    pub(super) rank: u32,
    pub(super) layers: Vec<[[Tensor; 2]; 2]>,
    pub(super) stored_bytes: u64,
}

impl LoadedAdapter {
    /// What was read of its file: the bytes of its matrices, as they are stored.
    #[must_use]
    pub const fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }
}

fn is_finite(tensor: &Tensor) -> candle_core::Result<bool> {
    // A sum of magnitudes is no number, or endless, where one of its terms is.
    let sum = tensor.to_dtype(DType::F32)?.abs()?.sum_all()?;
    Ok(sum.to_scalar::<f32>()?.is_finite())
}

impl Model {
    /// Loads one adapter for the layers of this part.
    ///
    /// # Errors
    /// Files that are missing or damaged, an adapter of other maps or of a model of another shape, matrices that
    /// nothing here reads, and values that are no numbers.
    pub fn load_adapter(&self, directory: &Path) -> Result<LoadedAdapter, EngineError> {
        let config = Config::read(directory)?;
        let model = self.config();
        let (rank, scale) = (config.r, config.scale());
        let path = directory.join(ADAPTER_WEIGHTS_FILE);
        let mut file = WeightsFile::open(path.clone())?;
        let expected = 4 * usize::try_from(model.layers).unwrap_or(usize::MAX);
        let is_known = |name: &String| {
            (0..model.layers).any(|layer| {
                TARGETS.iter().any(|target| {
                    [Half::Down, Half::Up]
                        .iter()
                        .any(|half| *name == tensor_name(layer, target, *half))
                })
            })
        };
        if file.names().len() > expected
            && let Some(name) = file.names().into_iter().find(|name| !is_known(name))
        {
            let reason = format!(
                "nothing here reads its {name}: adapters of q_proj and v_proj of the model's {} layers are known",
                model.layers
            );
            return Err(unsuitable(path, reason));
        }
        let mut stored_bytes = 0;
        let mut layers = Vec::new();
        let outputs = [model.heads, model.kv_heads].map(|heads| heads * model.head_width);
        for layer in self.layers() {
            let mut read = |target: &str, outputs: u32| -> Result<[Tensor; 2], EngineError> {
                let down = (
                    tensor_name(layer, target, Half::Down),
                    vec![rank, model.width],
                );
                let up = (tensor_name(layer, target, Half::Up), vec![outputs, rank]);
                stored_bytes += file.stored_bytes(&down.0) + file.stored_bytes(&up.0);
                let mut matrix = |named: &(String, Vec<u32>)| {
                    file.check_shape(named, ADAPTER_CONFIG_FILE)?;
                    let tensor = file.tensor(named, self.compute())?;
                    let finite = is_finite(&tensor);
                    if !finite.map_err(EngineError::tensor("reading an adapter"))? {
                        let reason = format!(
                            "{} has values that are not numbers: train the adapter again",
                            named.0
                        );
                        return Err(unsuitable(path.clone(), reason));
                    }
                    Ok(tensor)
                };
                let (down, up) = (matrix(&down)?, matrix(&up)?);
                let up = (up * scale).map_err(EngineError::tensor("scaling an adapter"))?;
                Ok([down, up])
            };
            let [queries, values] = TARGETS;
            layers.push([read(queries, outputs[0])?, read(values, outputs[1])?]);
        }
        Ok(LoadedAdapter {
            rank,
            layers,
            stored_bytes,
        })
    }
}
