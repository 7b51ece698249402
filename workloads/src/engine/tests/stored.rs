//! Keys and values that are kept, cut out, coded and put into other caches.

use super::{micro, tokenizer};
use crate::coding::kv::KvCoding;
use crate::engine::prefixes::{PrefixCounts, PrefixStore};
use crate::engine::text::prompt;
use crate::engine::{EngineError, KeyValueCache, Model};

const PREFIX: u32 = 45;
const REST: u32 = 9;

fn model() -> Model {
    Model::load_whole(micro()).expect("loads")
}

fn tokens(seed: u64) -> Vec<u32> {
    prompt(&tokenizer(), seed, PREFIX + REST).expect("made")
}

/// Scores after each of some tokens behind what a cache holds.
fn scores(model: &Model, tokens: &[u32], cache: &mut KeyValueCache) -> Vec<Vec<f32>> {
    let position = cache.positions();
    let states = model.embed(tokens).expect("embeds");
    let states = model.forward(&states, position, cache).expect("runs");
    model.logits(&states).expect("scores")
}

fn prefix() -> usize {
    usize::try_from(PREFIX).unwrap()
}

#[test]
fn raw_keys_and_values_score_what_follows_as_if_they_had_been_computed_bit_for_bit() {
    // Two processes have a model each.
    let (maker, taker) = (model(), model());
    let tokens = tokens(1);
    let (first, rest) = tokens.split_at(prefix());
    let mut made = maker.new_cache();
    scores(&maker, first, &mut made);
    let layers = maker.export(&made, 0..PREFIX, KvCoding::F32).expect("cut");
    let mut taken = taker.new_cache();
    taker
        .import(&mut taken, PREFIX, KvCoding::F32, &layers)
        .expect("fits");
    let mut recomputed = taker.new_cache();
    scores(&taker, first, &mut recomputed);
    let expected = scores(&taker, rest, &mut recomputed);
    assert_eq!(scores(&taker, rest, &mut taken), expected);

    // In two pieces, and from a slot into a slot.
    let mut slots = maker.new_slots(2, 64).expect("fits");
    let slot = slots.fill(&made).expect("there is one");
    let copied = slots.copy_out(slot).expect("filled");
    let mut pieces = taker.new_cache();
    for piece in [0..20, 20..PREFIX] {
        let count = piece.end - piece.start;
        let layers = maker.export(&copied, piece, KvCoding::F32).expect("cut");
        taker
            .import(&mut pieces, count, KvCoding::F32, &layers)
            .expect("fits");
    }
    let mut other = taker.new_slots(1, 64).expect("fits");
    let slot = other.fill(&pieces).expect("there is one");
    let mut pieces = other.copy_out(slot).expect("filled");
    assert_eq!(scores(&taker, rest, &mut pieces), expected);
}

#[test]
fn coded_keys_and_values_have_the_bytes_of_the_formula_and_lose_more_the_fewer_bits_they_have() {
    let model = model();
    let mut losses = Vec::new();
    for coding in KvCoding::ALL {
        let mut most: f32 = 0.0;
        for seed in 1..4 {
            let tokens = tokens(seed);
            let (first, rest) = tokens.split_at(prefix());
            let mut made = model.new_cache();
            scores(&model, first, &mut made);
            let layers = model.export(&made, 0..PREFIX, coding).expect("cut");
            let bytes: usize = layers.iter().map(Vec::len).sum();
            let formula = coding.bytes(model.kv_shape(), PREFIX);
            assert_eq!(u64::try_from(bytes), Ok(formula), "{coding}");
            let mut taken = model.new_cache();
            model
                .import(&mut taken, PREFIX, coding, &layers)
                .expect("fits");
            let exact = scores(&model, rest, &mut made);
            let pairs = scores(&model, rest, &mut taken);
            for (one, other) in exact.iter().flatten().zip(pairs.iter().flatten()) {
                most = most.max((one - other).abs());
            }
        }
        losses.push(most);
    }
    // Scores of this model span about 20.
    let bounds = [0.0, 0.02, 0.2, 3.0];
    assert!(losses.is_sorted(), "{losses:?}");
    let within = losses.iter().zip(bounds).all(|(loss, most)| *loss <= most);
    assert!(within, "{losses:?}");
    assert!(losses[1] > 0.0, "{losses:?}");
}

#[test]
fn what_does_not_fit_a_cache_is_refused_and_leaves_it_as_it_was() {
    let model = model();
    let tokens = tokens(1);
    let mut made = model.new_cache();
    scores(&model, &tokens, &mut made);
    let refused = model.export(&made, 50..60, KvCoding::F16);
    assert!(matches!(refused, Err(EngineError::Position { .. })));
    let mut layers = model.export(&made, 0..10, KvCoding::F16).expect("cut");
    let mut cache = model.new_cache();
    for (positions, coding) in [(9, KvCoding::F16), (10, KvCoding::Int8)] {
        let refused = model.import(&mut cache, positions, coding, &layers);
        assert!(matches!(refused, Err(EngineError::StoredBytes { .. })));
    }
    layers.pop();
    let refused = model.import(&mut cache, 10, KvCoding::F16, &layers);
    assert!(matches!(refused, Err(EngineError::StoredBytes { .. })));
    let refused = model.import(&mut cache, 1 << 20, KvCoding::F16, &layers);
    assert!(matches!(refused, Err(EngineError::TooLong { .. })));
    assert_eq!((cache.positions(), cache.bytes()), (0, 0));
    let few = model.new_cache_of(0..1);
    assert!(model.export(&few, 0..0, KvCoding::F32).is_err());
}

#[test]
fn a_kept_prefix_is_found_by_what_a_sequence_begins_with_and_saves_computing_it() {
    let model = model();
    let whole = tokens(1);
    let mut other = whole.clone();
    other[30] = (other[30] + 1) % model.config().vocabulary;
    let mut made = model.new_cache();
    scores(&model, &whole[..prefix()], &mut made);
    let mut store = PrefixStore::new(made.bytes() * 4);
    assert!(store.reuse(&whole, PREFIX).expect("looks").is_none());
    assert!(store.keep(&whole[..prefix()], &made).expect("copies"));

    let mut reused = store.reuse(&whole, 100).expect("looks").expect("is there");
    assert_eq!(reused.positions(), PREFIX);
    let expected = scores(&model, &whole[prefix()..], &mut made);
    assert_eq!(scores(&model, &whole[prefix()..], &mut reused), expected);
    // What was appended to the copy has not touched what is kept, and half a prefix is reused as well.
    let mut half = store.reuse(&other, 100).expect("looks").expect("is there");
    assert_eq!(half.positions(), 30);
    let mut recomputed = model.new_cache();
    scores(&model, &other[..30], &mut recomputed);
    let next = &other[30..];
    let (of_half, all) = (
        scores(&model, next, &mut half),
        scores(&model, next, &mut recomputed),
    );
    for (one, other) in of_half.iter().flatten().zip(all.iter().flatten()) {
        assert!((one - other).abs() < 1e-4, "{one} {other}");
    }
    assert!(store.reuse(&[9999], 1).expect("looks").is_none());
    let counts = store.counts();
    let expected = PrefixCounts {
        hits: 2,
        misses: 2,
        asked_positions: u64::from(3 * (PREFIX + REST) + 1),
        reused_positions: u64::from(PREFIX + 30),
        evicted: 0,
    };
    assert_eq!(counts, expected);
}

#[test]
fn a_full_store_lets_go_of_what_was_used_least_recently_and_holds_no_more_than_it_may() {
    let model = model();
    let sequences: Vec<Vec<u32>> = (1..5).map(|seed| tokens(seed)[..20].to_vec()).collect();
    let caches: Vec<KeyValueCache> = sequences
        .iter()
        .map(|tokens| {
            let mut cache = model.new_cache();
            scores(&model, tokens, &mut cache);
            cache
        })
        .collect();
    let each = caches[0].copy(20).expect("copies").bytes();
    let mut store = PrefixStore::new(2 * each + each / 2);
    assert!(store.keep(&sequences[0], &caches[0]).expect("copies"));
    assert!(store.keep(&sequences[1], &caches[1]).expect("copies"));
    assert!(store.get(&sequences[0]).is_some());
    assert!(store.keep(&sequences[2], &caches[2]).expect("copies"));
    assert_eq!((store.sequences(), store.bytes()), (2, 2 * each));
    assert!(store.get(&sequences[1]).is_none());
    assert!(store.get(&sequences[0]).is_some());
    // The same once more takes no more room, and what is too large is not kept.
    assert!(store.keep(&sequences[0], &caches[0]).expect("copies"));
    assert_eq!((store.bytes(), store.counts().evicted), (2 * each, 1));
    let mut small = PrefixStore::new(each - 1);
    assert!(!small.keep(&sequences[3], &caches[3]).expect("copies"));
    assert_eq!(small.sequences(), 0);
}
