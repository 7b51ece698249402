//! The engine on a GPU gives what it gives on the CPU. Built with the feature `cuda`, by
//! `.ci/cuda --tests`.

use std::path::Path;

use super::family::{family, random_model, tokens};
use super::{micro, tokenizer, whole_answer};
use crate::engine::gguf::{BlockType, quantise};
use crate::engine::text::prompt;
use crate::engine::{Compute, ComputeDevice, Model, Parts, Precision};

const WHOLE: Parts = Parts {
    embedding: true,
    head: true,
};

fn on_gpu(directory: &Path, precision: Precision) -> Model {
    let compute = Compute::open(ComputeDevice::Cuda(0), precision).expect("a GPU");
    let layers = crate::engine::weights::read_config(directory)
        .expect("reads")
        .layers;
    Model::load_on(directory, 0..layers, WHOLE, &compute).expect("loads")
}

/// Scores of a prompt, of some more, and of one token at a time.
fn scores(model: &Model, tokens: &[u32]) -> Vec<f32> {
    let mut cache = model.new_cache();
    let (prompt, single) = tokens.split_at(tokens.len() / 2);
    let mut scores = Vec::new();
    for pass in [prompt].into_iter().chain(single.chunks(1)) {
        let position = cache.positions();
        let hidden = model.embed(pass).expect("embeds");
        let hidden = model.forward(&hidden, position, &mut cache).expect("runs");
        scores.extend(model.logits(&hidden).expect("scores").concat());
    }
    scores
}

/// The largest difference, as a share of the largest score.
fn apart(one: &[f32], other: &[f32]) -> f32 {
    let largest = one.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
    let pairs = one.iter().zip(other);
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max) / largest
}

#[test]
#[ignore = "needs gpu"]
fn every_model_of_the_family_scores_on_a_gpu_as_on_the_cpu_within_the_rounding_of_its_numbers() {
    for (name, config) in family() {
        let directory = random_model(&config);
        let cpu = Model::load_whole(directory.path()).expect("loads");
        let cpu = scores(&cpu, &tokens());
        // Fractions of 23, 10 and 7 bits, rounded a few dozen times on the way.
        for (precision, bound) in [
            (Precision::F32, 1e-5),
            (Precision::F16, 0.01),
            (Precision::Bf16, 0.08),
        ] {
            let gpu = scores(&on_gpu(directory.path(), precision), &tokens());
            let apart = apart(&cpu, &gpu);
            println!("{name}, {precision}: {apart:e}");
            assert!(apart < bound, "{name}, {precision}: {apart}");
        }
    }
}

#[test]
#[ignore = "needs gpu"]
fn blocks_of_few_bits_score_on_a_gpu_as_on_the_cpu_within_the_rounding_of_what_they_multiply() {
    let (_, config) = family().swap_remove(1);
    let config = crate::model_config::ModelConfig {
        width: 256,
        feed_forward: 512,
        heads: 4,
        head_width: 64,
        ..config
    };
    let directory = random_model(&config);
    std::fs::copy(
        micro().join("tokenizer.json"),
        directory.path().join("tokenizer.json"),
    )
    .expect("copied");
    let exact = Model::load_whole(directory.path()).expect("loads");
    let exact = scores(&exact, &tokens());
    for block_type in BlockType::ALL {
        let root = tempfile::tempdir().expect("made");
        let written = root.path().join("written");
        quantise(directory.path(), block_type, &written).expect("written");
        let cpu = scores(&Model::load_whole(&written).expect("loads"), &tokens());
        let gpu = scores(&on_gpu(&written, Precision::F32), &tokens());
        let (between, rounding) = (apart(&cpu, &gpu), apart(&exact, &cpu));
        println!("{block_type}: {between:e}, {rounding:e} by rounding");
        // Both round what they multiply the blocks with to eight bits, in their own ways: they are
        // no further apart than rounding puts each of them from the exact scores.
        let bound = match block_type {
            BlockType::F32 | BlockType::F16 => 1e-5,
            _ => 2.0 * rounding,
        };
        assert!(between < bound, "{block_type}: {between}, {bound}");
    }
}

#[test]
#[ignore = "needs gpu"]
fn weights_made_while_loading_score_on_a_gpu_as_blocks_in_f32_and_as_their_numbers_in_narrower_ones()
 {
    let (_, config) = family().swap_remove(1);
    let directory = random_model(&config);
    let load = |device, precision, blocks| {
        let compute = Compute::open(device, precision).expect("opened");
        let how = (&compute, blocks);
        let model = Model::load_in_blocks(directory.path(), 0..config.layers, WHOLE, how);
        let model = model.expect("loads");
        (scores(&model, &tokens()), model.weight_bytes())
    };
    let blocks = Some(BlockType::Q8_0);
    let (exact, _) = load(ComputeDevice::Cpu, Precision::F32, None);
    let (cpu, cpu_bytes) = load(ComputeDevice::Cpu, Precision::F32, blocks);
    let rounding = apart(&exact, &cpu);
    for (precision, bound) in [
        (Precision::F32, 2.0 * rounding),
        (Precision::F16, rounding + 0.01),
        (Precision::Bf16, rounding + 0.08),
    ] {
        let (gpu, bytes) = load(ComputeDevice::Cuda(0), precision, blocks);
        let apart = apart(&cpu, &gpu);
        println!("{precision}: {apart:e}, {rounding:e} by rounding");
        assert!(apart < bound, "{precision}: {apart}, {bound}");
        assert_eq!(
            bytes == cpu_bytes,
            precision == Precision::F32,
            "{precision}"
        );
    }
}

#[test]
#[ignore = "needs gpu"]
fn a_trained_model_answers_on_a_gpu_as_on_the_cpu_alone_and_beside_others() {
    const ANSWER: usize = 24;
    let model = on_gpu(micro(), Precision::F32);
    let prompts = [5_u32, 23, 41].map(|length| {
        let prompt = prompt(&tokenizer(), u64::from(length), length);
        prompt.expect("made")
    });
    let mut slots = model.new_slots(3, 80).expect("fits");
    let mut answers: Vec<Vec<u32>> = Vec::new();
    for prompt in &prompts {
        let mut cache = model.new_cache();
        let hidden = model.embed(prompt).expect("embeds");
        let hidden = model.forward(&hidden, 0, &mut cache).expect("runs");
        answers.push(vec![model.next_token(&hidden).expect("answers")]);
        slots.fill(&cache).expect("empty");
    }
    while answers[0].len() < ANSWER {
        let last: Vec<u32> = answers
            .iter()
            .map(|answer| *answer.last().unwrap())
            .collect();
        let hidden = model.embed(&last).expect("embeds");
        let hidden = model.forward_slots(&hidden, &mut slots).expect("runs");
        let next = model.next_tokens(&hidden).expect("answers");
        for (answer, token) in answers.iter_mut().zip(next) {
            answer.push(token);
        }
    }
    for (prompt, answer) in prompts.iter().zip(&answers) {
        assert_eq!(answer, &whole_answer(prompt, ANSWER), "{}", prompt.len());
    }
}
