//! Names and shapes of a model's tensors: as Hugging Face names them, and as GGUF does.

use crate::model_config::ModelConfig;

/// Name of the embedding table.
pub(crate) const EMBEDDING: &str = "model.embed_tokens.weight";
/// Name of the last norm.
pub(crate) const FINAL_NORM: &str = "model.norm.weight";
/// Name of the output head, where it is not the embedding table.
pub(crate) const HEAD: &str = "lm_head.weight";

/// A tensor's name and shape, outermost dimension first.
pub(crate) type NamedShape = (String, Vec<u32>);

/// The tensors that a layer of every model of the family has.
pub(crate) fn layer_shapes(config: &ModelConfig, layer: u32) -> [NamedShape; 9] {
    let ModelConfig {
        width,
        feed_forward,
        ..
    } = *config;
    let queries = config.heads * config.head_width;
    let keys = config.kv_heads * config.head_width;
    [
        ("input_layernorm", vec![width]),
        ("self_attn.q_proj", vec![queries, width]),
        ("self_attn.k_proj", vec![keys, width]),
        ("self_attn.v_proj", vec![keys, width]),
        ("self_attn.o_proj", vec![width, queries]),
        ("post_attention_layernorm", vec![width]),
        ("mlp.gate_proj", vec![feed_forward, width]),
        ("mlp.up_proj", vec![feed_forward, width]),
        ("mlp.down_proj", vec![width, feed_forward]),
    ]
    .map(|(name, shape)| (format!("model.layers.{layer}.{name}.weight"), shape))
}

/// The bias that belongs to a matrix.
pub(crate) fn bias_of((name, shape): &NamedShape) -> NamedShape {
    let name = name.trim_end_matches("weight");
    let outputs = shape.iter().take(1).copied().collect();
    (format!("{name}bias"), outputs)
}

/// Norms of the query and key heads, where the model has them.
pub(crate) fn head_norm_shapes(config: &ModelConfig, layer: u32) -> [NamedShape; 2] {
    ["q_norm", "k_norm"].map(|name| {
        let name = format!("model.layers.{layer}.self_attn.{name}.weight");
        (name, vec![config.head_width])
    })
}

/// All tensors of one layer of this model.
pub(crate) fn all_layer_shapes(config: &ModelConfig, layer: u32) -> Vec<NamedShape> {
    let shapes = layer_shapes(config, layer);
    let mut all = shapes.to_vec();
    let [_, query, key, value, output, ..] = &shapes;
    if config.attention_bias {
        all.extend([query, key, value].map(bias_of));
    }
    if config.output_bias {
        all.push(bias_of(output));
    }
    if config.head_norm {
        all.extend(head_norm_shapes(config, layer));
    }
    all
}

/// All tensors of a model.
pub(crate) fn all_shapes(config: &ModelConfig) -> Vec<NamedShape> {
    let table = vec![config.vocabulary, config.width];
    let mut shapes = vec![(EMBEDDING.to_owned(), table.clone())];
    shapes.extend((0..config.layers).flat_map(|layer| all_layer_shapes(config, layer)));
    shapes.push((FINAL_NORM.to_owned(), vec![config.width]));
    if !config.tie_embeddings {
        shapes.push((HEAD.to_owned(), table));
    }
    shapes
}

/// What GGUF calls the tensor of that Hugging Face name (llama.cpp, `gguf-py/gguf/constants.py`,
/// `TENSOR_NAMES`); `None` for a tensor that is none of the family's.
pub(crate) fn gguf_name(name: &str) -> Option<String> {
    match name {
        EMBEDDING => return Some("token_embd.weight".to_owned()),
        FINAL_NORM => return Some("output_norm.weight".to_owned()),
        HEAD => return Some("output.weight".to_owned()),
        _ => {}
    }
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let (part, kind) = rest.rsplit_once('.')?;
    let part = match part {
        "input_layernorm" => "attn_norm",
        "self_attn.q_proj" => "attn_q",
        "self_attn.k_proj" => "attn_k",
        "self_attn.v_proj" => "attn_v",
        "self_attn.o_proj" => "attn_output",
        "self_attn.q_norm" => "attn_q_norm",
        "self_attn.k_norm" => "attn_k_norm",
        "post_attention_layernorm" => "ffn_norm",
        "mlp.gate_proj" => "ffn_gate",
        "mlp.up_proj" => "ffn_up",
        "mlp.down_proj" => "ffn_down",
        _ => return None,
    };
    Some(format!("blk.{layer}.{part}.{kind}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model_config::Architecture;
    use crate::recipe::Recipe;

    #[test]
    fn every_tensor_of_every_model_has_a_name_in_gguf_and_the_shapes_hold_all_weights() {
        let tiny = Recipe::by_name("tiny").expect("exists").config;
        let qwen3 = ModelConfig {
            architecture: Architecture::Qwen3,
            head_norm: true,
            attention_bias: true,
            output_bias: true,
            tie_embeddings: false,
            ..tiny
        };
        for config in [tiny, qwen3] {
            let shapes = all_shapes(&config);
            let elements = shapes
                .iter()
                .map(|(_, shape)| shape.iter().copied().map(u64::from).product::<u64>());
            assert_eq!(elements.sum::<u64>(), config.parameters());
            let names: std::collections::BTreeSet<String> = shapes
                .iter()
                .map(|(name, _)| gguf_name(name).expect("named"))
                .collect();
            assert_eq!(names.len(), shapes.len());
        }
        assert_eq!(
            gguf_name("model.layers.3.self_attn.k_proj.bias").as_deref(),
            Some("blk.3.attn_k.bias")
        );
        assert_eq!(gguf_name("model.layers.3.mixer.weight"), None);
    }
}
