use super::*;
use crate::recipe::Recipe;

#[test]
fn a_config_survives_the_way_through_hugging_face_json() {
    let tiny = Recipe::by_name("tiny").expect("exists").config;
    let llama3 = RopeScaling::Llama3 {
        factor: 32.0,
        low_frequency_factor: 1.0,
        high_frequency_factor: 4.0,
        original_positions: 8192,
    };
    let variants = [
        tiny,
        ModelConfig {
            rope_scaling: Some(llama3),
            attention_bias: true,
            output_bias: true,
            ..tiny
        },
        ModelConfig {
            rope_scaling: Some(RopeScaling::Linear { factor: 2.0 }),
            ..tiny
        },
        ModelConfig {
            architecture: Architecture::Mistral,
            sliding_window: Some(4096),
            ..tiny
        },
        ModelConfig {
            architecture: Architecture::Qwen2,
            attention_bias: true,
            ..tiny
        },
        ModelConfig {
            architecture: Architecture::Qwen3,
            head_norm: true,
            ..tiny
        },
    ];
    for config in variants {
        let text = config.to_hugging_face_json().expect("writes");
        let read = ModelConfig::from_hugging_face_json(&text).expect("reads");
        assert_eq!(read, config);
    }
}

/// What the published files of that name say, without what changes nothing here.
fn published(text: &str) -> ModelConfig {
    ModelConfig::from_hugging_face_json(text).expect("reads")
}

#[test]
fn published_configs_are_read_with_the_libraries_defaults_and_have_their_published_sizes() {
    let tiny_llama = published(
        r#"{ "architectures": ["LlamaForCausalLM"], "model_type": "llama", "bos_token_id": 1,
        "hidden_size": 2048, "intermediate_size": 5632, "num_attention_heads": 32,
        "num_key_value_heads": 4, "num_hidden_layers": 22, "rms_norm_eps": 1e-05,
        "max_position_embeddings": 2048, "vocab_size": 32000 }"#,
    );
    assert_eq!(
        (tiny_llama.head_width, tiny_llama.tie_embeddings),
        (64, false)
    );
    assert_eq!(tiny_llama.parameters(), 1_100_048_384);

    let llama_3_2 = published(
        r#"{ "model_type": "llama", "attention_bias": false, "head_dim": 64, "hidden_size": 2048,
        "intermediate_size": 8192, "max_position_embeddings": 131072, "num_attention_heads": 32,
        "num_hidden_layers": 16, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
        "rope_scaling": { "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
        "original_max_position_embeddings": 8192, "rope_type": "llama3" },
        "rope_theta": 500000.0, "tie_word_embeddings": true, "vocab_size": 128256 }"#,
    );
    assert_eq!(llama_3_2.parameters(), 1_235_814_400);
    assert!(matches!(
        llama_3_2.rope_scaling,
        Some(RopeScaling::Llama3 { .. })
    ));

    let mistral = published(
        r#"{ "model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336,
        "max_position_embeddings": 32768, "num_attention_heads": 32, "num_hidden_layers": 32,
        "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
        "sliding_window": 4096, "tie_word_embeddings": false, "vocab_size": 32000 }"#,
    );
    assert_eq!(
        (mistral.parameters(), mistral.sliding_window),
        (7_241_732_096, Some(4096))
    );

    let qwen2 = published(
        r#"{ "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864,
        "max_position_embeddings": 32768, "max_window_layers": 21, "num_attention_heads": 14,
        "num_hidden_layers": 24, "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
        "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": true,
        "use_sliding_window": false, "vocab_size": 151936 }"#,
    );
    assert_eq!(
        (qwen2.parameters(), qwen2.sliding_window),
        (494_032_768, None)
    );

    // As versions from 5 on of the library write it.
    let qwen3 = published(
        r#"{ "model_type": "qwen3", "attention_bias": false, "head_dim": 128,
        "hidden_size": 1024, "intermediate_size": 3072, "max_position_embeddings": 40960,
        "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 8,
        "rms_norm_eps": 1e-06, "rope_parameters": { "rope_theta": 1000000, "rope_type": "default" },
        "sliding_window": null, "tie_word_embeddings": true, "vocab_size": 151936 }"#,
    );
    assert_eq!((qwen3.parameters(), qwen3.rope_theta), (596_049_920, 1e6));
}

#[test]
fn variants_that_the_engine_does_not_run_are_refused_by_name() {
    let good = Recipe::all()[0]
        .config
        .to_hugging_face_json()
        .expect("writes");
    for (from, to, field) in [
        (
            "\"model_type\": \"llama\"",
            "\"model_type\": \"mamba\"",
            "model_type",
        ),
        (
            "\"hidden_act\": \"silu\"",
            "\"hidden_act\": \"gelu\"",
            "hidden_act",
        ),
        ("\"mlp_bias\": false", "\"mlp_bias\": true", "mlp_bias"),
        (
            "\"rope_scaling\": null",
            "\"rope_scaling\": {\"factor\": 8}",
            "rope_scaling",
        ),
        (
            "\"rope_scaling\": null",
            "\"rope_scaling\": {\"rope_type\": \"yarn\", \"factor\": 8}",
            "yarn",
        ),
        (
            "\"rope_scaling\": null",
            "\"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 0}",
            "rope_scaling",
        ),
        (
            "\"rope_scaling\": null",
            "\"quantization_config\": {\"quant_method\": \"gptq\"}",
            "hexloop model quantize",
        ),
        (
            "\"num_key_value_heads\": 4",
            "\"num_key_value_heads\": 3",
            "num_key_value_heads",
        ),
        ("\"head_dim\": 32", "\"head_dim\": 31", "head_dim"),
        ("\"vocab_size\": 1024", "\"vocab_size\": 0", "a size"),
        (
            "\"vocab_size\": 1024",
            "\"vocab_size\": 4000000000",
            "the shape is",
        ),
        (
            "\"head_dim\": 32",
            "\"head_dim\": 4000000000",
            "the shape is",
        ),
    ] {
        let bad = good.replace(from, to);
        assert_ne!(bad, good, "{from} not found");
        let error = ModelConfig::from_hugging_face_json(&bad).expect_err("refused");
        assert!(error.to_string().contains(field), "{error}");
    }
    let windowed = r#"{ "model_type": "qwen2", "hidden_size": 8, "intermediate_size": 8,
        "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 8,
        "use_sliding_window": true }"#;
    let error = ModelConfig::from_hugging_face_json(windowed).expect_err("refused");
    assert!(error.to_string().contains("use_sliding_window"), "{error}");
    // Another kind of model lacks the family's fields: its kind is what is told.
    let other = r#"{ "model_type": "gpt2", "n_embd": 768, "n_layer": 12 }"#;
    let error = ModelConfig::from_hugging_face_json(other).expect_err("refused");
    assert!(
        error.to_string().contains("gpt2") && error.to_string().contains("qwen3"),
        "{error}"
    );
}

#[test]
fn stretched_rotations_are_those_of_llama_3() {
    // Llama 3.2 1B: the highest frequency stays 1, the lowest is divided by 32, and those between
    // are blended. Wavelength 2 pi / f; 8192 / 4 = 2048 and 8192 / 1 = 8192 are the bounds.
    let config = ModelConfig {
        head_width: 64,
        rope_theta: 500_000.0,
        rope_scaling: Some(RopeScaling::Llama3 {
            factor: 32.0,
            low_frequency_factor: 1.0,
            high_frequency_factor: 4.0,
            original_positions: 8192,
        }),
        ..Recipe::by_name("tiny").expect("exists").config
    };
    let plain = ModelConfig {
        rope_scaling: None,
        ..config
    };
    let ratios: Vec<f64> = config
        .rotary_frequencies()
        .iter()
        .zip(plain.rotary_frequencies())
        .map(|(stretched, plain)| plain / stretched)
        .collect();
    assert!((ratios[0] - 1.0).abs() < 1e-12 && (ratios[31] - 32.0).abs() < 1e-9);
    let between = ratios
        .iter()
        .filter(|ratio| **ratio > 1.001 && **ratio < 31.999);
    assert!(between.count() >= 2, "{ratios:?}");
    assert!(ratios.is_sorted(), "{ratios:?}");
}
