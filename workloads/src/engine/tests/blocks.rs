//! Weights in GGUF: the same model where nothing is lost, close to it where bits are.

use std::path::Path;

use super::family::{family, random_model, scores, tokens};
use super::micro;
use crate::engine::gguf::{BlockType, import, quantise};
use crate::engine::text::TextTokenizer;
use crate::engine::{Compute, Model, Parts, verify};
use crate::model_config::ModelConfig;

/// A model of that shape with random weights and the micro model's tokenizer.
pub(super) fn model_with_tokenizer(config: &ModelConfig) -> tempfile::TempDir {
    let directory = random_model(config);
    let tokenizer = directory.path().join("tokenizer.json");
    std::fs::copy(micro().join("tokenizer.json"), tokenizer).expect("copied");
    directory
}

/// The largest difference of two models' scores, as a share of the largest score.
fn distance(one: &Path, other: &Path) -> f32 {
    let (one, other) = (scores(one, &tokens()), scores(other, &tokens()));
    let largest = one.iter().flatten().fold(0.0_f32, |a, b| a.max(b.abs()));
    let pairs = one.iter().flatten().zip(other.iter().flatten());
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest
}

#[test]
fn a_model_of_any_kind_that_is_written_in_full_and_read_again_gives_the_same_scores() {
    for (name, config) in family() {
        let original = model_with_tokenizer(&config);
        let root = tempfile::tempdir().expect("made");
        let written = root.path().join("written");
        let summary = quantise(original.path(), BlockType::F32, &written).expect("written");
        assert_eq!(
            (summary.kept_f16.len(), summary.without_tokenizer),
            (0, None)
        );
        let apart = distance(original.path(), &written);
        assert!(apart < 1e-5, "{name}: {apart}");

        // The file alone says all of it.
        let imported = root.path().join("imported");
        let found = import(&written.join("model.gguf"), None, &imported).expect("imported");
        assert_eq!(verify(&imported).expect("whole"), found);
        if config.sliding_window.is_none() {
            let apart = distance(original.path(), &imported);
            assert!(apart < 1e-5, "{name}, imported: {apart}");
        }
        let text = "Vel has 12 towns, doesn't it?\n  Yes: 345.";
        let [was, is] = [original.path(), &imported].map(|directory| {
            let tokenizer = TextTokenizer::load(directory).expect("loads");
            tokenizer.encode(text).expect("encodes")
        });
        assert_eq!(was, is, "{name}");
    }
}

#[test]
fn fewer_bits_cost_less_memory_and_more_exactness() {
    let (_, config) = family().swap_remove(0);
    let config = ModelConfig {
        width: 256,
        heads: 16,
        kv_heads: 8,
        feed_forward: 512,
        ..config
    };
    let original = model_with_tokenizer(&config);
    let root = tempfile::tempdir().expect("made");
    let mut previous = (0.0, u64::MAX);
    // Bounds on the largest error of a score, as a share of the largest score.
    for (block_type, bound) in [
        (BlockType::F16, 2e-3),
        (BlockType::Q8_0, 0.1),
        (BlockType::Q6K, 0.2),
        (BlockType::Q4K, 0.6),
    ] {
        let written = root.path().join(block_type.name());
        let summary = quantise(original.path(), block_type, &written).expect("written");
        assert!(summary.kept_f16.is_empty(), "{:?}", summary.kept_f16);
        assert!(
            summary.bytes < previous.1,
            "{block_type}: {}",
            summary.bytes
        );
        let apart = distance(original.path(), &written);
        println!("{block_type}: {apart}");
        assert!(apart > previous.0 && apart < bound, "{block_type}: {apart}");
        previous = (apart, summary.bytes);
        let model = Model::load_whole(&written).expect("loads");
        assert!(model.weight_bytes() > 0);
    }
}

#[test]
fn rows_that_are_no_whole_number_of_blocks_are_kept_in_sixteen_bits_and_named() {
    let (_, config) = family().swap_remove(0);
    let original = model_with_tokenizer(&config);
    let root = tempfile::tempdir().expect("made");
    let written = root.path().join("written");
    let summary = quantise(original.path(), BlockType::Q4K, &written).expect("written");
    // Rows of 64 and 128 where blocks have 256.
    assert!(
        summary
            .kept_f16
            .iter()
            .any(|name| name.contains("down_proj"))
    );
    assert!(distance(original.path(), &written) < 2e-3);
}

#[test]
fn blocks_made_while_loading_are_those_of_a_file_made_before() {
    // Of Llama the file has queries and keys in another order, so that sums round differently.
    let mut others = family().into_iter();
    let (name, config) = others.find(|(name, _)| *name == "Qwen2").expect("there");
    let original = model_with_tokenizer(&config);
    let root = tempfile::tempdir().expect("made");
    let written = root.path().join("written");
    quantise(original.path(), BlockType::Q8_0, &written).expect("written");
    let whole = Parts {
        embedding: true,
        head: true,
    };
    let load = |directory: &Path| {
        let how = (&Compute::cpu(), Some(BlockType::Q8_0));
        Model::load_in_blocks(directory, 0..config.layers, whole, how)
    };
    let made = load(original.path()).expect("loads");
    let states = made.embed(&tokens()).expect("embedded");
    let states = made.forward(&states, 0, &mut made.new_cache());
    let made = made.logits(&states.expect("runs")).expect("scores");
    let file = scores(&written, &tokens());
    let largest = file.iter().flatten().fold(0.0_f32, |a, b| a.max(b.abs()));
    let pairs = made.iter().flatten().zip(file.iter().flatten());
    let apart = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest;
    assert!(apart < 1e-6, "{name}: {apart}");
    let again = load(&written).expect_err("refused").to_string();
    assert!(again.contains("in blocks already"), "{again}");
}

#[test]
fn what_is_no_usable_gguf_is_refused_with_the_reason() {
    let (_, config) = family().swap_remove(0);
    let original = model_with_tokenizer(&config);
    let root = tempfile::tempdir().expect("made");
    let written = root.path().join("written");
    quantise(original.path(), BlockType::Q8_0, &written).expect("written");
    let file = written.join("model.gguf");
    let whole = std::fs::read(&file).expect("read");

    let again = quantise(&written, BlockType::Q8_0, &root.path().join("again"));
    let again = again.expect_err("refused").to_string();
    assert!(again.contains("safetensors checkpoint"), "{again}");

    let other = String::from_utf8_lossy(&whole).contains("general.architecture");
    assert!(other, "the header has the key");
    let at = whole
        .windows(5)
        .position(|window| window == b"llama")
        .expect("named");
    let mut changed = whole.clone();
    changed[at..at + 5].copy_from_slice(b"gemma");
    std::fs::write(&file, &changed).expect("written");
    let into = root.path().join("imported");
    let error = import(&file, None, &into).expect_err("refused").to_string();
    assert!(
        error.contains("gemma") && error.contains("qwen3"),
        "{error}"
    );
    assert!(!into.exists());

    std::fs::write(&file, &whole).expect("written");
    std::fs::write(written.join("second.gguf"), &whole).expect("written");
    let error = Model::load_whole(&written)
        .expect_err("refused")
        .to_string();
    assert!(error.contains("2 GGUF files"), "{error}");
}
