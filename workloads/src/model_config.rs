//! The shape of a model of the Llama family, and its description as Hugging Face writes it.
//!
//! The family is Llama 2 and 3 (TinyLlama and SmolLM are such models), Mistral, Qwen2 (2.5 too) and
//! Qwen3. What they differ in is data here; a model of any other kind is refused by name.

use serde::{Deserialize, Serialize};

mod hugging_face;

pub use hugging_face::ConfigError;

/// Which model of the family, by Hugging Face's `model_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// Llama 2 and 3, TinyLlama, SmolLM.
    Llama,
    /// Mistral: Llama whose attention may be limited to a window.
    Mistral,
    /// Qwen2 and Qwen2.5: Llama with biases on queries, keys and values.
    Qwen2,
    /// Qwen3: Llama with a norm on every query and key head.
    Qwen3,
}

impl Architecture {
    /// All of them.
    pub const ALL: [Architecture; 4] = [
        Architecture::Llama,
        Architecture::Mistral,
        Architecture::Qwen2,
        Architecture::Qwen3,
    ];

    /// Hugging Face's `model_type`.
    #[must_use]
    pub const fn model_type(self) -> &'static str {
        match self {
            Architecture::Llama => "llama",
            Architecture::Mistral => "mistral",
            Architecture::Qwen2 => "qwen2",
            Architecture::Qwen3 => "qwen3",
        }
    }

    /// The class of Hugging Face's library that runs it.
    #[must_use]
    pub const fn class(self) -> &'static str {
        match self {
            Architecture::Llama => "LlamaForCausalLM",
            Architecture::Mistral => "MistralForCausalLM",
            Architecture::Qwen2 => "Qwen2ForCausalLM",
            Architecture::Qwen3 => "Qwen3ForCausalLM",
        }
    }
}

/// How the rotary embedding is stretched beyond the positions that a model was first trained for.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RopeScaling {
    /// Every frequency is divided by the factor (Chen et al., Position Interpolation).
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Llama 3.1: low frequencies are divided by the factor, high ones stay, and those between are
    /// blended.
    Llama3 {
        /// The factor.
        factor: f64,
        /// Wavelengths above `original_positions` over this are stretched in full.
        low_frequency_factor: f64,
        /// Wavelengths below `original_positions` over this stay as they are.
        high_frequency_factor: f64,
        /// Positions that the model was first trained for.
        original_positions: u32,
    },
}

/// The shape of a Llama-architecture model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Which model of the family.
    pub architecture: Architecture,
    /// Decoder layers.
    pub layers: u32,
    /// Width of the hidden state.
    pub width: u32,
    /// Query heads.
    pub heads: u32,
    /// Key-value heads; divides `heads` (grouped-query attention).
    pub kv_heads: u32,
    /// Width of one attention head.
    pub head_width: u32,
    /// Inner width of the feed-forward part.
    pub feed_forward: u32,
    /// Number of token ids.
    pub vocabulary: u32,
    /// Longest sequence.
    pub max_positions: u32,
    /// Base of the rotary position embedding.
    pub rope_theta: f64,
    /// How the rotary position embedding is stretched.
    pub rope_scaling: Option<RopeScaling>,
    /// Added to the mean square under the root.
    pub rms_norm_eps: f64,
    /// Whether the output head is the embedding table.
    pub tie_embeddings: bool,
    /// Whether queries, keys and values have biases.
    pub attention_bias: bool,
    /// Whether the attention's output has a bias.
    pub output_bias: bool,
    /// Whether every query and key head is normed before it is turned.
    pub head_norm: bool,
    /// A token sees so many, itself included; all before it where there is none.
    pub sliding_window: Option<u32>,
}

/// No model of the family comes near these sizes. What a damaged file says beyond them would be believed by
/// what is laid out for it, before a single weight is looked for.
const MOST_LAYERS: u32 = 4096;
const MOST_WIDTH: u32 = 1 << 24;
const MOST_IDS: u32 = 1 << 24;
pub(crate) const MOST_SIZES: &str = "models of at most 4096 layers, with states, heads together and feed-forward parts of at most 2^24 and as many ids";

impl ModelConfig {
    /// Whether its sizes are among [`MOST_SIZES`].
    pub(crate) fn is_within_reason(&self) -> bool {
        let all_heads = self.heads.checked_mul(self.head_width);
        let widths = [Some(self.width), Some(self.feed_forward), all_heads];
        let are_narrow = widths
            .iter()
            .all(|width| width.is_some_and(|width| width <= MOST_WIDTH));
        self.layers <= MOST_LAYERS && self.vocabulary <= MOST_IDS && are_narrow
    }

    /// Angular frequency of each pair of a head's elements, in radians per position:
    /// `theta^(-2 i / head_width)` (Su et al., `RoFormer`, eq. 15), stretched as the model asks.
    #[must_use]
    pub fn rotary_frequencies(&self) -> Vec<f64> {
        let half = self.head_width / 2;
        let plain = (0..half).map(|index| {
            let exponent = -2.0 * f64::from(index) / f64::from(self.head_width);
            libm::pow(self.rope_theta, exponent)
        });
        plain
            .map(|frequency| match self.rope_scaling {
                None => frequency,
                Some(scaling) => scaling.stretched(frequency),
            })
            .collect()
    }

    /// Number of weights, the tied head counted once.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        let [width, heads, kv_heads, head_width, feed_forward, vocabulary] = [
            self.width,
            self.heads,
            self.kv_heads,
            self.head_width,
            self.feed_forward,
            self.vocabulary,
        ]
        .map(u64::from);
        let attention = width * head_width * (2 * heads + 2 * kv_heads);
        let mut layer = attention + 3 * width * feed_forward + 2 * width;
        if self.attention_bias {
            layer += head_width * (heads + 2 * kv_heads);
        }
        if self.output_bias {
            layer += width;
        }
        if self.head_norm {
            layer += 2 * head_width;
        }
        let tables = if self.tie_embeddings { 1 } else { 2 };
        u64::from(self.layers) * layer + width + tables * vocabulary * width
    }
}

impl RopeScaling {
    /// One frequency as it is after the stretching. The formulas are those of Hugging Face's
    /// `modeling_rope_utils.py`, functions for `linear` and `llama3`.
    fn stretched(self, frequency: f64) -> f64 {
        match self {
            RopeScaling::Linear { factor } => frequency / factor,
            RopeScaling::Llama3 {
                factor,
                low_frequency_factor,
                high_frequency_factor,
                original_positions,
            } => {
                let original = f64::from(original_positions);
                let wavelength = 2.0 * std::f64::consts::PI / frequency;
                if wavelength > original / low_frequency_factor {
                    frequency / factor
                } else if wavelength < original / high_frequency_factor {
                    frequency
                } else {
                    let blend = (original / wavelength - low_frequency_factor)
                        / (high_frequency_factor - low_frequency_factor);
                    (1.0 - blend) * frequency / factor + blend * frequency
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
