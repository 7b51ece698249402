//! Several sequences side by side: each as if it were alone.

use super::family::{family, random_model, tokens};
use super::{micro, tokenizer, whole_answer};
use crate::engine::model::argmax;
use crate::engine::products::dense::FEWER_THAN;
use crate::engine::text::prompt;
use crate::engine::{EngineError, KeyValueCache, Model, SCORE_BOUND, Slots};

/// A sequence that has passed through the whole model, and the first token of its answer.
fn begun(model: &Model, tokens: &[u32]) -> (KeyValueCache, u32) {
    let mut cache = model.new_cache();
    let hidden = model.embed(tokens).expect("embeds");
    let hidden = model.forward(&hidden, 0, &mut cache).expect("runs");
    (cache, model.next_token(&hidden).expect("answers"))
}

fn step(model: &Model, slots: &mut Slots, tokens: &[u32]) -> Vec<u32> {
    let hidden = model.embed(tokens).expect("embeds");
    let hidden = model.forward_slots(&hidden, slots).expect("runs");
    model.next_tokens(&hidden).expect("answers")
}

#[test]
fn sequences_of_different_lengths_that_come_and_go_are_answered_as_if_each_were_alone() {
    const LENGTHS: [u32; 4] = [3, 41, 17, 29];
    const ANSWER: usize = 12;
    let model = Model::load_whole(micro()).expect("loads");
    let prompts = LENGTHS.map(|length| prompt(&tokenizer(), u64::from(length), length));
    let prompts = prompts.map(|prompt| prompt.expect("made"));
    let mut slots = model.new_slots(3, 64).expect("fits");
    // Which sequence is in which slot; one comes with every step, until there is no empty slot.
    let mut answers: Vec<Vec<u32>> = vec![Vec::new(); LENGTHS.len()];
    let (mut inside, mut waiting): (Vec<usize>, _) = (Vec::new(), (0..LENGTHS.len()).rev());
    let mut waiting: Vec<usize> = waiting.by_ref().collect();
    while !inside.is_empty() || !waiting.is_empty() {
        if slots.filled() < 3
            && let Some(next) = waiting.pop()
        {
            let (cache, first) = begun(&model, &prompts[next]);
            let slot = slots.fill(&cache).expect("there is one");
            assert_eq!(usize::try_from(slot), Ok(inside.len()));
            inside.push(next);
            answers[next].push(first);
        }
        let last: Vec<u32> = inside
            .iter()
            .map(|one| *answers[*one].last().unwrap())
            .collect();
        for (one, token) in inside.iter().zip(step(&model, &mut slots, &last)) {
            answers[*one].push(token);
        }
        while let Some(slot) = inside.iter().position(|one| answers[*one].len() == ANSWER) {
            slots.empty(u32::try_from(slot).unwrap()).expect("filled");
            inside.swap_remove(slot);
        }
    }
    for (prompt, answer) in prompts.iter().zip(&answers) {
        assert_eq!(answer, &whole_answer(prompt, ANSWER), "{}", prompt.len());
    }
}

/// Of so many tokens one may be another, where two are about as good as each other.
const TOKENS_OF_A_TIE: u32 = 10_000;

#[test]
fn sixty_four_sequences_get_the_tokens_of_each_alone_unless_two_scores_are_within_the_bound() {
    const SEQUENCES: u32 = 64;
    const ANSWER: u32 = 160;
    // Not by the product that makes the same bits for one state and for several.
    assert!(usize::try_from(SEQUENCES).unwrap() >= FEWER_THAN);
    let (model, tokenizer) = (Model::load_whole(micro()).expect("loads"), tokenizer());
    let mut slots = model.new_slots(SEQUENCES, 192).expect("fits");
    let (mut caches, mut last) = (Vec::new(), Vec::new());
    for seed in 0..SEQUENCES {
        let prompt = prompt(&tokenizer, u64::from(seed), 3 + seed % 29).expect("made");
        let (cache, first) = begun(&model, &prompt);
        slots.fill(&cache).expect("empty");
        caches.push(cache);
        last.push(first);
    }
    let (mut compared, mut excused) = (0, 0);
    for _ in 0..ANSWER {
        let hidden = model.embed(&last).expect("embeds");
        let hidden = model.forward_slots(&hidden, &mut slots).expect("runs");
        let together = model.logits(&hidden).expect("scores");
        for ((cache, last), beside) in caches.iter_mut().zip(&mut last).zip(&together) {
            let hidden = model.embed(&[*last]).expect("embeds");
            let position = cache.positions();
            let hidden = model.forward(&hidden, position, cache).expect("runs");
            let alone = model.logits(&hidden).expect("scores").swap_remove(0);
            let largest = alone
                .iter()
                .fold(0.0, |most: f32, score| most.max(score.abs()));
            for (alone, beside) in alone.iter().zip(beside) {
                let bound = SCORE_BOUND * (1.0 + largest);
                assert!((alone - beside).abs() <= bound, "{alone} and {beside}");
            }
            let (token, is_tie) = model.next_token_or_tie(&hidden).expect("answers");
            let is_same = argmax(beside) == Some(token);
            assert!(is_same || is_tie, "{token} at {position}");
            compared += 1;
            excused += u32::from(!is_same);
            // Both go on after the same token, so that every place is compared.
            *last = token;
        }
    }
    assert!(
        excused <= compared / TOKENS_OF_A_TIE,
        "{excused} of {compared}"
    );
}

#[test]
fn every_model_of_the_family_scores_a_token_in_a_slot_as_it_does_alone() {
    for (name, config) in family() {
        let directory = random_model(&config);
        let model = Model::load_whole(directory.path()).expect("loads");
        let tokens = tokens();
        let (one, other) = (&tokens[..19], &tokens[5..12]);
        let mut slots = model.new_slots(2, 32).expect("fits");
        let mut caches = [begun(&model, one).0, begun(&model, other).0];
        for cache in &caches {
            slots.fill(cache).expect("empty");
        }
        let hidden = model.embed(&[7, 9]).expect("embeds");
        let hidden = model.forward_slots(&hidden, &mut slots).expect("runs");
        let both = model.logits(&hidden).expect("scores");
        for (slot, (cache, token)) in caches.iter_mut().zip([7, 9]).enumerate() {
            let hidden = model.embed(&[token]).expect("embeds");
            let position = cache.positions();
            let hidden = model.forward(&hidden, position, cache).expect("runs");
            let alone = model.logits(&hidden).expect("scores").swap_remove(0);
            let apart = alone.iter().zip(&both[slot]);
            let apart = apart.map(|(alone, beside)| (alone - beside).abs());
            let apart = apart.fold(0.0, f32::max);
            assert!(apart < 2e-5, "{name}, slot {slot}: {apart}");
        }
    }
}

#[test]
fn slots_that_are_full_too_short_or_empty_are_refused() {
    let model = Model::load_whole(micro()).expect("loads");
    let mut slots = model.new_slots(1, 8).expect("fits");
    let hidden = model.embed(&[1]).expect("embeds");
    let refused = model.forward_slots(&hidden, &mut slots);
    assert!(matches!(
        refused,
        Err(EngineError::SlotTokens { filled: 0, .. })
    ));
    assert!(matches!(slots.empty(0), Err(EngineError::NoSlot { .. })));
    let long = begun(&model, &[1; 9]).0;
    assert!(matches!(
        slots.fill(&long),
        Err(EngineError::TooLong { .. })
    ));
    let fits = begun(&model, &[1; 8]).0;
    slots.fill(&fits).expect("fits");
    assert!(matches!(slots.fill(&fits), Err(EngineError::NoSlot { .. })));
    let refused = model.forward_slots(&hidden, &mut slots);
    assert!(matches!(refused, Err(EngineError::TooLong { .. })));
    let beyond = model.new_slots(1, model.config().max_positions + 1);
    assert!(matches!(beyond, Err(EngineError::TooLong { .. })));
}
