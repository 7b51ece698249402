//! Two halves of every layer against the whole model, for every model of the family.

use super::family::{family, random_model, tokens};
use super::{BACK, WHOLE, micro, whole_answer};
use crate::engine::gguf::{BlockType, quantise};
use crate::engine::{Compute, EngineError, Half, Hidden, KeyValueCache, Model, Parts, SCORE_BOUND};
use crate::model_config::ModelConfig;
use std::path::Path;

const EMBEDDING: Parts = Parts {
    embedding: true,
    head: false,
};

/// Both halves of a model; the head is on the first alone.
struct Pair {
    halves: [Model; 2],
    caches: [KeyValueCache; 2],
}

impl Pair {
    fn load(directory: &Path) -> Result<Pair, EngineError> {
        let load = |half, parts| Model::load_half(directory, half, parts, &Compute::cpu());
        let halves = [load(Half::First, WHOLE)?, load(Half::Second, EMBEDDING)?];
        let caches = [halves[0].new_cache(), halves[1].new_cache()];
        Ok(Pair { halves, caches })
    }

    /// Carries tokens through all layers in steps; `swapped` adds both parts in the other order.
    fn carry(&mut self, tokens: &[u32], swapped: bool) -> [Hidden; 2] {
        let [first, second] = &self.halves;
        let [near, far] = &mut self.caches;
        let mut one = first
            .begin_half(&first.embed(tokens).expect("embeds"), near)
            .expect("begins");
        let mut other = second
            .begin_half(&second.embed(tokens).expect("embeds"), far)
            .expect("begins");
        while let Some(part) = first.half_partial(&one, near).expect("runs") {
            let rest = second.half_partial(&other, far).expect("runs");
            let rest = rest.expect("as many layers");
            let both = match swapped {
                true => [&rest, &part],
                false => [&part, &rest],
            };
            first.half_add(&mut one, both, near).expect("adds");
            second.half_add(&mut other, both, far).expect("adds");
        }
        assert_eq!(one.sums(), 2 * first.config().layers);
        [one.states(), other.states()]
    }

    /// Scores after each of some tokens: of a prompt, of some more, and of one at a time.
    fn scores(&mut self, tokens: &[u32]) -> Vec<Vec<f32>> {
        let (prompt, rest) = tokens.split_at(tokens.len() / 2);
        let (more, single) = rest.split_at(rest.len() / 2);
        let mut scores = Vec::new();
        for pass in [prompt, more].into_iter().chain(single.chunks(1)) {
            let [one, other] = self.carry(pass, false);
            assert_eq!(bytes(&one), bytes(&other), "both have the same");
            scores.extend(self.halves[0].logits(&one).expect("scores"));
        }
        scores
    }
}

/// The largest difference of two models' scores, as a share of 1 plus the largest of the position.
fn distance(one: &[Vec<f32>], other: &[Vec<f32>]) -> f32 {
    assert_eq!(one.len(), other.len());
    let of_position = |(one, other): (&Vec<f32>, &Vec<f32>)| {
        let largest = other
            .iter()
            .fold(0.0_f32, |most, score| most.max(score.abs()));
        let pairs = one.iter().zip(other);
        let apart = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        apart / (1.0 + largest)
    };
    one.iter().zip(other).map(of_position).fold(0.0, f32::max)
}

#[test]
fn two_halves_score_as_the_whole_of_every_model_of_the_family_does() {
    for (name, config) in family() {
        let directory = random_model(&config);
        let whole = super::family::scores(directory.path(), &tokens());
        let mut pair = Pair::load(directory.path()).expect("loads");
        let apart = distance(&pair.scores(&tokens()), &whole);
        assert!(apart < SCORE_BOUND, "{name}: {apart}");
        let all = Model::load_whole(directory.path()).expect("loads");
        let halved = pair.halves[0].weight_bytes();
        assert!(halved < all.weight_bytes(), "{name}: {halved}");
    }
}

#[test]
fn two_halves_of_blocks_score_as_the_whole_does() {
    let (_, config) = family().swap_remove(1);
    let config = ModelConfig {
        width: 128,
        heads: 4,
        kv_heads: 2,
        head_width: 32,
        feed_forward: 256,
        ..config
    };
    let dense = super::blocks::model_with_tokenizer(&config);
    let root = tempfile::tempdir().expect("made");
    let written = root.path().join("blocks");
    quantise(dense.path(), BlockType::Q8_0, &written).expect("written");
    let whole = super::family::scores(&written, &tokens());
    let mut pair = Pair::load(&written).expect("loads");
    // Blocks round the inputs of each product to 8 bits, in halves as in the whole.
    let apart = distance(&pair.scores(&tokens()), &whole);
    assert!(apart < 0.02, "{apart}");

    // A half of the inputs of the output map is half a block of 256.
    let blocks = root.path().join("wide-blocks");
    let config = ModelConfig {
        width: 256,
        heads: 8,
        ..config
    };
    let dense = super::blocks::model_with_tokenizer(&config);
    quantise(dense.path(), BlockType::Q4K, &blocks).expect("written");
    let error = Pair::load(&blocks).err().expect("refused").to_string();
    assert!(error.contains("cut a block of 256"), "{error}");
}

#[test]
fn two_halves_answer_with_the_tokens_of_the_whole_unless_two_are_as_good() {
    let mut differing = 0;
    for seed in 0..4 {
        let prompt = crate::engine::text::prompt(&super::tokenizer(), seed, 30).expect("made");
        let whole = whole_answer(&prompt, 24);
        let mut pair = Pair::load(micro()).expect("loads");
        let mut input = prompt;
        for expected in whole {
            let [states, _] = pair.carry(&input, false);
            let (token, is_tie) = pair.halves[0].next_token_or_tie(&states).expect("answers");
            assert_eq!(token, pair.halves[0].next_token(&states).expect("answers"));
            if token != expected {
                assert!(is_tie, "seed {seed}: {token} for {expected}");
                differing += 1;
                break;
            }
            input = vec![token];
        }
    }
    assert!(differing < 2, "{differing} of 4 answers differ");
}

fn bytes(states: &Hidden) -> Vec<u8> {
    states.le_bytes().expect("on the CPU").into_vec()
}

#[test]
fn the_order_of_the_sum_changes_no_bit() {
    let (_, config) = family().swap_remove(0);
    let directory = random_model(&config);
    let carried = |swapped| {
        let mut pair = Pair::load(directory.path()).expect("loads");
        let [one, _] = pair.carry(&tokens(), swapped);
        bytes(&one)
    };
    assert_eq!(carried(false), carried(true));
}

#[test]
fn what_cannot_be_halved_and_what_is_no_half_is_refused_in_words() {
    let (_, config) = family().swap_remove(0);
    for (config, words) in [
        (
            ModelConfig {
                kv_heads: 1,
                ..config
            },
            "1 key-value heads",
        ),
        (
            ModelConfig {
                heads: 3,
                kv_heads: 3,
                head_width: 16,
                ..config
            },
            "3 key-value heads",
        ),
        (
            ModelConfig {
                feed_forward: 127,
                ..config
            },
            "127 inner channels",
        ),
    ] {
        let directory = random_model(&config);
        let error = Pair::load(directory.path())
            .err()
            .expect("refused")
            .to_string();
        assert!(error.contains(words), "{error}");
    }
    let directory = random_model(&config);
    let pair = Pair::load(directory.path()).expect("loads");
    let [first, _] = &pair.halves;
    let states = first.embed(&[1, 2]).expect("embeds");
    let error = first.forward(&states, 0, &mut first.new_cache());
    assert!(matches!(error, Err(EngineError::OtherHalf { .. })));
    let whole = Model::load(directory.path(), 0..3, BACK).expect("loads");
    let error = whole.begin_half(&states, &whole.new_cache());
    assert!(matches!(error, Err(EngineError::OtherHalf { .. })));
    let mut pass = first.begin_half(&states, &pair.caches[0]).expect("begins");
    let one = first.embed(&[1]).expect("embeds");
    let error = first.half_add(&mut pass, [&one, &states], &mut first.new_cache());
    assert!(matches!(error, Err(EngineError::HalfTokens { .. })));
}
