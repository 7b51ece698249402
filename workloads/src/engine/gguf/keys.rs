//! The shape of a model in GGUF's metadata.

use candle_core::quantized::gguf_file::Value;

use crate::model_config::{Architecture, MOST_SIZES, ModelConfig, RopeScaling};

/// Factors that stretch the rotary embedding of Llama 3.1 and later, one per pair of elements.
pub(crate) const FREQUENCY_DIVISORS: &str = "rope_freqs.weight";

/// What llama.cpp calls the architecture; Mistral is a Llama there.
pub(super) const fn architecture_name(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::Llama | Architecture::Mistral => "llama",
        Architecture::Qwen2 => "qwen2",
        Architecture::Qwen3 => "qwen3",
    }
}

/// The entries that describe a model's shape.
pub(super) fn describe(config: &ModelConfig) -> Vec<(String, Value)> {
    let name = architecture_name(config.architecture);
    let own = |key: &str, value: Value| (format!("{name}.{key}"), value);
    #[expect(clippy::cast_possible_truncation, reason = "GGUF keeps these as f32")]
    let float = |value: f64| Value::F32(value as f32);
    let mut entries = vec![
        (
            "general.architecture".to_owned(),
            Value::String(name.to_owned()),
        ),
        ("general.quantization_version".to_owned(), Value::U32(2)),
        own("context_length", Value::U32(config.max_positions)),
        own("embedding_length", Value::U32(config.width)),
        own("block_count", Value::U32(config.layers)),
        own("feed_forward_length", Value::U32(config.feed_forward)),
        own("attention.head_count", Value::U32(config.heads)),
        own("attention.head_count_kv", Value::U32(config.kv_heads)),
        own("attention.key_length", Value::U32(config.head_width)),
        own("attention.value_length", Value::U32(config.head_width)),
        own(
            "attention.layer_norm_rms_epsilon",
            float(config.rms_norm_eps),
        ),
        own("rope.dimension_count", Value::U32(config.head_width)),
        own("rope.freq_base", float(config.rope_theta)),
        own("vocab_size", Value::U32(config.vocabulary)),
    ];
    if let Some(RopeScaling::Linear { factor }) = config.rope_scaling {
        entries.push(own("rope.scaling.type", Value::String("linear".to_owned())));
        entries.push(own("rope.scaling.factor", float(factor)));
    }
    if let Some(window) = config.sliding_window {
        entries.push(own("attention.sliding_window", Value::U32(window)));
    }
    entries
}

/// What the metadata lacks or says that the engine does not run.
#[derive(Debug)]
pub(super) struct Unusable(pub(super) String);

/// The shape that a file's metadata describes. `entry` gives the value of a key, `has` says whether
/// a tensor of that GGUF name is in the file, and `vocabulary` how many rows its embedding has.
pub(super) fn read<'a>(
    entry: impl Fn(&str) -> Option<&'a Value>,
    has: impl Fn(&str) -> bool,
    vocabulary: u32,
) -> Result<ModelConfig, Unusable> {
    let name = entry("general.architecture").and_then(|value| value.to_string().ok());
    let name = name.cloned().unwrap_or_default();
    let architecture = match name.as_str() {
        "llama" => Architecture::Llama,
        "qwen2" => Architecture::Qwen2,
        "qwen3" => Architecture::Qwen3,
        other => {
            return Err(Unusable(format!(
                "general.architecture is {other:?}: the engine runs llama (Llama 2 and 3, \
                 TinyLlama, SmolLM, Mistral), qwen2 and qwen3"
            )));
        }
    };
    let find = |key: &str| entry(&format!("{name}.{key}"));
    let optional = |key: &str| find(key).and_then(whole);
    let needed = |key: &str| {
        optional(key)
            .filter(|value| *value > 0)
            .ok_or_else(|| Unusable(format!("it has no {name}.{key}")))
    };
    let number = |key: &str| {
        find(key)
            .and_then(|value| value.to_f32().ok())
            .map(f64::from)
    };
    let (heads, width) = (needed("attention.head_count")?, needed("embedding_length")?);
    let kv_heads = optional("attention.head_count_kv").unwrap_or(heads);
    if kv_heads == 0 || !heads.is_multiple_of(kv_heads) {
        return Err(Unusable(format!(
            "{heads} heads over {kv_heads} key-value heads"
        )));
    }
    if optional("expert_count").is_some_and(|experts| experts > 0) {
        return Err(Unusable("it is a mixture of experts".to_owned()));
    }
    let scaling = find("rope.scaling.type").and_then(|value| value.to_string().ok());
    let rope_scaling = match scaling.map(String::as_str) {
        None | Some("none") => None,
        Some("linear") => {
            number("rope.scaling.factor").map(|factor| RopeScaling::Linear { factor })
        }
        Some(other) => return Err(Unusable(format!("rope.scaling.type is {other:?}"))),
    };
    let head_width = optional("attention.key_length").unwrap_or(width / heads);
    if head_width == 0 || !head_width.is_multiple_of(2) {
        return Err(Unusable(format!("heads of width {head_width}")));
    }
    let config = ModelConfig {
        architecture,
        layers: needed("block_count")?,
        width,
        heads,
        kv_heads,
        head_width,
        feed_forward: needed("feed_forward_length")?,
        vocabulary,
        max_positions: needed("context_length")?,
        rope_theta: number("rope.freq_base").unwrap_or(10_000.0),
        rope_scaling,
        rms_norm_eps: number("attention.layer_norm_rms_epsilon").ok_or_else(|| {
            Unusable(format!("it has no {name}.attention.layer_norm_rms_epsilon"))
        })?,
        tie_embeddings: !has("output.weight"),
        attention_bias: has("blk.0.attn_q.bias"),
        output_bias: has("blk.0.attn_output.bias"),
        head_norm: has("blk.0.attn_q_norm.weight"),
        sliding_window: None,
    };
    if config.is_within_reason() {
        Ok(config)
    } else {
        Err(Unusable(format!(
            "it says {} layers that are {width} wide: the engine runs {MOST_SIZES}",
            config.layers
        )))
    }
}

/// A whole number of any of GGUF's types.
fn whole(value: &Value) -> Option<u32> {
    let value = value.to_u64().ok().or_else(|| {
        let signed = value.to_i64().ok()?;
        u64::try_from(signed).ok()
    })?;
    u32::try_from(value).ok()
}
