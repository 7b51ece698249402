//! The tensors of a vision encoder and its projector, by Hugging Face's names.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Tensor;

use super::{CHANNELS, VisionConfig};
use crate::engine::compute::Compute;
use crate::engine::error::EngineError;
use crate::engine::memory;
use crate::engine::tensors::NamedShape;
use crate::engine::weights::{CONFIG_FILE, WEIGHTS_FILE, WeightsFile};

/// Names and shapes of all tensors, for a language model of that width.
pub(crate) fn shapes(config: &VisionConfig, text_width: u32) -> Vec<NamedShape> {
    let VisionConfig {
        hidden_size: width,
        intermediate_size: inner,
        patch_size: patch,
        ..
    } = *config;
    let channels = u32::try_from(CHANNELS).unwrap_or(u32::MAX);
    let named = |name: &str, shape: &[u32]| (format!("vision_model.{name}"), shape.to_vec());
    let mut all = vec![
        named(
            "embeddings.patch_embedding.weight",
            &[width, channels, patch, patch],
        ),
        named("embeddings.patch_embedding.bias", &[width]),
        named(
            "embeddings.position_embedding.weight",
            &[config.patches(), width],
        ),
    ];
    for layer in 0..config.num_hidden_layers {
        let mut of_layer = |name: &str, outputs: u32, inputs: Option<u32>| {
            let name = format!("encoder.layers.{layer}.{name}");
            let shape: Vec<u32> = [outputs].into_iter().chain(inputs).collect();
            all.push(named(&format!("{name}.weight"), &shape));
            all.push(named(&format!("{name}.bias"), &[outputs]));
        };
        of_layer("layer_norm1", width, None);
        for map in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            of_layer(&format!("self_attn.{map}"), width, Some(width));
        }
        of_layer("layer_norm2", width, None);
        of_layer("mlp.fc1", inner, Some(width));
        of_layer("mlp.fc2", width, Some(inner));
    }
    all.push(named("post_layernorm.weight", &[width]));
    all.push(named("post_layernorm.bias", &[width]));
    for (map, inputs) in [("linear_1", width), ("linear_2", text_width)] {
        let name = format!("multi_modal_projector.{map}");
        all.push((format!("{name}.weight"), vec![text_width, inputs]));
        all.push((format!("{name}.bias"), vec![text_width]));
    }
    all
}

/// Reads all of them from a directory, if there is room for them.
pub(super) fn read(
    directory: &Path,
    config: &VisionConfig,
    (text_width, compute): (u32, &Compute),
) -> Result<BTreeMap<String, Tensor>, EngineError> {
    let shapes = shapes(config, text_width);
    let (weights, reading) = memory::tensor_bytes(&shapes, compute);
    let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
    let what = format!(
        "the vision encoder of {} ({} MB of weights, {} MB while they are read)",
        directory.join(CONFIG_FILE).display(),
        megabytes(weights),
        megabytes(reading),
    );
    let needed = weights.saturating_add(reading);
    memory::check(what, needed, compute.memory_left())?;
    let mut file = WeightsFile::open(directory.join(WEIGHTS_FILE))?;
    let mut tensors = BTreeMap::new();
    for named in shapes {
        file.check_shape(&named, "the encoder's config.json")?;
        let tensor = file.tensor(&named, compute)?;
        tensors.insert(named.0, tensor);
    }
    Ok(tensors)
}

/// The config.json of an encoder that was trained here.
pub(crate) fn config_text(config: &VisionConfig) -> String {
    let VisionConfig {
        image_size,
        patch_size,
        hidden_size,
        intermediate_size,
        num_hidden_layers,
        num_attention_heads,
        layer_norm_eps,
    } = config;
    let json = serde_json::json!({
        "architectures": ["SiglipVisionModel"],
        "model_type": "siglip_vision_model",
        "hidden_act": "gelu_pytorch_tanh",
        "image_size": image_size,
        "patch_size": patch_size,
        "hidden_size": hidden_size,
        "intermediate_size": intermediate_size,
        "num_hidden_layers": num_hidden_layers,
        "num_attention_heads": num_attention_heads,
        "num_channels": CHANNELS,
        "layer_norm_eps": layer_norm_eps,
    });
    format!("{json:#}\n")
}
