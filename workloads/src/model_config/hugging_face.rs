//! `config.json` as Hugging Face's libraries write and read it.

use serde::{Deserialize, Serialize};

use super::{Architecture, MOST_SIZES, ModelConfig, RopeScaling};

/// A `config.json` that this project cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is not JSON or lacks a field.
    #[error("not the config.json of a language model")]
    Syntax(#[source] serde_json::Error),
    /// It asks for something that the engine does not have.
    #[error("{field} is {value}: the engine runs {supported}")]
    Unsupported {
        /// The field of config.json.
        field: &'static str,
        /// What it says.
        value: String,
        /// What it may say.
        supported: &'static str,
    },
}

/// What a `config.json` may say of a model of the family. Fields that change nothing are left out.
#[derive(Debug, Serialize, Deserialize)]
struct File {
    #[serde(default)]
    architectures: Vec<String>,
    model_type: String,
    #[serde(default = "silu")]
    hidden_act: String,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    hidden_size: u32,
    intermediate_size: u32,
    num_hidden_layers: u32,
    num_attention_heads: u32,
    #[serde(default)]
    num_key_value_heads: Option<u32>,
    #[serde(default)]
    head_dim: Option<u32>,
    vocab_size: u32,
    #[serde(default)]
    max_position_embeddings: Option<u32>,
    #[serde(default)]
    rope_theta: Option<f64>,
    #[serde(default)]
    rope_scaling: Option<Rope>,
    /// Where versions from 5 on of the library keep the two above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rope_parameters: Option<Rope>,
    #[serde(default = "epsilon")]
    rms_norm_eps: f64,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sliding_window: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    use_sliding_window: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    quantization_config: Option<serde_json::Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    torch_dtype: Option<String>,
}

/// How the rotary embedding is stretched, in both spellings of its type.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Rope {
    #[serde(default, alias = "type", skip_serializing_if = "Option::is_none")]
    rope_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rope_theta: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    factor: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    low_freq_factor: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    high_freq_factor: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    original_max_position_embeddings: Option<u32>,
}

// The defaults that the library's classes share.
fn silu() -> String {
    "silu".to_owned()
}
const fn epsilon() -> f64 {
    1e-6
}
const DEFAULT_THETA: f64 = 10_000.0;

fn unsupported<T>(
    field: &'static str,
    value: &dyn ToString,
    supported: &'static str,
) -> Result<T, ConfigError> {
    Err(ConfigError::Unsupported {
        field,
        value: value.to_string(),
        supported,
    })
}

impl File {
    fn architecture(&self) -> Result<Architecture, ConfigError> {
        let known = Architecture::ALL.into_iter();
        let mut known = known.filter(|one| one.model_type() == self.model_type);
        match known.next() {
            Some(architecture) => Ok(architecture),
            None => unsupported(
                "model_type",
                &self.model_type,
                "llama (Llama 2 and 3, TinyLlama, SmolLM), mistral, qwen2 and qwen3",
            ),
        }
    }

    /// The longest sequence where the file is silent: the default of the library's class.
    fn positions(&self, architecture: Architecture) -> u32 {
        self.max_position_embeddings.unwrap_or(match architecture {
            Architecture::Llama => 2048,
            Architecture::Mistral => 131_072,
            Architecture::Qwen2 | Architecture::Qwen3 => 32_768,
        })
    }

    fn head_width(&self, architecture: Architecture) -> u32 {
        self.head_dim.unwrap_or(match architecture {
            Architecture::Qwen3 => 128,
            _ => self.hidden_size / self.num_attention_heads.max(1),
        })
    }

    /// The window of the attention. Qwen's files name one that they do not use.
    fn window(&self, architecture: Architecture) -> Result<Option<u32>, ConfigError> {
        match architecture {
            Architecture::Llama => Ok(None),
            Architecture::Mistral => match self.sliding_window {
                Some(0) => unsupported("sliding_window", &0, "windows above 0, or null"),
                window => Ok(window),
            },
            Architecture::Qwen2 | Architecture::Qwen3 if self.use_sliding_window == Some(true) => {
                let supported = "Qwen models with use_sliding_window false";
                unsupported("use_sliding_window", &true, supported)
            }
            Architecture::Qwen2 | Architecture::Qwen3 => Ok(None),
        }
    }
}

impl Rope {
    fn scaling(&self, positions: u32) -> Result<Option<RopeScaling>, ConfigError> {
        const SUPPORTED: &str = "rope_scaling of type default, linear or llama3, with its factors \
                                 above 0";
        let value = || serde_json::to_string(self).unwrap_or_default();
        let positive = |number: Option<f64>| number.filter(|number| *number > 0.0);
        let silent = if self.factor.is_some() { "" } else { "default" };
        match self.rope_type.as_deref().unwrap_or(silent) {
            "default" => Ok(None),
            "linear" => match positive(self.factor) {
                Some(factor) => Ok(Some(RopeScaling::Linear { factor })),
                None => unsupported("rope_scaling", &value(), SUPPORTED),
            },
            "llama3" => {
                let (low, high) = (
                    positive(self.low_freq_factor),
                    positive(self.high_freq_factor),
                );
                match (positive(self.factor), low, high) {
                    (Some(factor), Some(low), Some(high)) if high > low => {
                        Ok(Some(RopeScaling::Llama3 {
                            factor,
                            low_frequency_factor: low,
                            high_frequency_factor: high,
                            original_positions: self
                                .original_max_position_embeddings
                                .unwrap_or(positions),
                        }))
                    }
                    _ => unsupported("rope_scaling", &value(), SUPPORTED),
                }
            }
            _ => unsupported("rope_scaling", &value(), SUPPORTED),
        }
    }
}

impl From<RopeScaling> for Rope {
    fn from(scaling: RopeScaling) -> Rope {
        match scaling {
            RopeScaling::Linear { factor } => Rope {
                rope_type: Some("linear".to_owned()),
                factor: Some(factor),
                ..Rope::default()
            },
            RopeScaling::Llama3 {
                factor,
                low_frequency_factor,
                high_frequency_factor,
                original_positions,
            } => Rope {
                rope_type: Some("llama3".to_owned()),
                factor: Some(factor),
                low_freq_factor: Some(low_frequency_factor),
                high_freq_factor: Some(high_frequency_factor),
                original_max_position_embeddings: Some(original_positions),
                ..Rope::default()
            },
        }
    }
}

impl ModelConfig {
    /// Reads the `config.json` of a model of the family.
    ///
    /// # Errors
    /// A file that is not such a config, or that describes a variant the engine does not run.
    pub fn from_hugging_face_json(text: &str) -> Result<ModelConfig, ConfigError> {
        // What a file of another kind lacks is less telling than its kind.
        #[derive(Deserialize)]
        struct Kind {
            model_type: String,
        }
        let file: File = match serde_json::from_str(text) {
            Ok(file) => file,
            Err(error) => {
                let kind: Kind = serde_json::from_str(text).map_err(ConfigError::Syntax)?;
                let known = Architecture::ALL.iter();
                if known.clone().any(|one| one.model_type() == kind.model_type) {
                    return Err(ConfigError::Syntax(error));
                }
                let supported = "models of model_type llama, mistral, qwen2 and qwen3";
                return unsupported("model_type", &kind.model_type, supported);
            }
        };
        let architecture = file.architecture()?;
        if file.hidden_act != "silu" {
            return unsupported("hidden_act", &file.hidden_act, "models of hidden_act silu");
        }
        if file.mlp_bias {
            return unsupported("mlp_bias", &true, "feed-forward parts without biases");
        }
        if let Some(quantisation) = &file.quantization_config {
            let supported = "safetensors of float32, float16 and bfloat16, and GGUF: convert the \
                             original checkpoint with `hexloop model quantize`";
            return unsupported("quantization_config", quantisation, supported);
        }
        let (heads, width) = (file.num_attention_heads, file.hidden_size);
        let kv_heads = file.num_key_value_heads.unwrap_or(heads);
        if heads == 0 || kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
            let supported = "num_attention_heads, or a divisor of it";
            return unsupported("num_key_value_heads", &kv_heads, supported);
        }
        let head_width = file.head_width(architecture);
        if head_width == 0 || !head_width.is_multiple_of(2) {
            return unsupported("head_dim", &head_width, "heads of an even width");
        }
        let sizes = [
            file.num_hidden_layers,
            width,
            file.intermediate_size,
            file.vocab_size,
        ];
        if sizes.contains(&0) {
            return unsupported("a size", &0, "sizes above 0");
        }
        let max_positions = file.positions(architecture);
        let rope = file.rope_parameters.as_ref().or(file.rope_scaling.as_ref());
        let rope_theta = rope.and_then(|rope| rope.rope_theta).or(file.rope_theta);
        let is_qwen2 = architecture == Architecture::Qwen2;
        let config = ModelConfig {
            architecture,
            layers: file.num_hidden_layers,
            width,
            heads,
            kv_heads,
            head_width,
            feed_forward: file.intermediate_size,
            vocabulary: file.vocab_size,
            max_positions,
            rope_theta: rope_theta.unwrap_or(DEFAULT_THETA),
            rope_scaling: match rope {
                Some(rope) => rope.scaling(max_positions)?,
                None => None,
            },
            rms_norm_eps: file.rms_norm_eps,
            tie_embeddings: file.tie_word_embeddings,
            // Mistral's class has no such field; Qwen2's has its biases whatever the field says.
            attention_bias: is_qwen2
                || (file.attention_bias && architecture != Architecture::Mistral),
            output_bias: file.attention_bias
                && matches!(architecture, Architecture::Llama | Architecture::Qwen3),
            head_norm: architecture == Architecture::Qwen3,
            sliding_window: file.window(architecture)?,
        };
        if !config.is_within_reason() {
            let sizes = format!(
                "{} layers, {width} wide, with {heads} heads of {head_width}, feed-forward parts of {} and {} ids",
                config.layers, config.feed_forward, config.vocabulary
            );
            return unsupported("the shape", &sizes, MOST_SIZES);
        }
        Ok(config)
    }

    /// Writes the `config.json` that Hugging Face's libraries read.
    ///
    /// # Errors
    /// Never for a config made here; a number that JSON cannot hold otherwise.
    pub fn to_hugging_face_json(&self) -> Result<String, ConfigError> {
        let file = File {
            architectures: vec![self.architecture.class().to_owned()],
            model_type: self.architecture.model_type().to_owned(),
            hidden_act: silu(),
            attention_bias: self.output_bias,
            mlp_bias: false,
            hidden_size: self.width,
            intermediate_size: self.feed_forward,
            num_hidden_layers: self.layers,
            num_attention_heads: self.heads,
            num_key_value_heads: Some(self.kv_heads),
            head_dim: Some(self.head_width),
            vocab_size: self.vocabulary,
            max_position_embeddings: Some(self.max_positions),
            rope_theta: Some(self.rope_theta),
            rope_scaling: self.rope_scaling.map(Rope::from),
            rope_parameters: None,
            rms_norm_eps: self.rms_norm_eps,
            tie_word_embeddings: self.tie_embeddings,
            sliding_window: self.sliding_window,
            use_sliding_window: None,
            quantization_config: None,
            torch_dtype: Some("float32".to_owned()),
        };
        let mut text = serde_json::to_string_pretty(&file).map_err(ConfigError::Syntax)?;
        text.push('\n');
        Ok(text)
    }
}
