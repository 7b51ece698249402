//! The model: against formulas written out in f64, cut in two against whole, with a cache against
//! without, and what happens when its files are broken.

mod adapters;
mod blocks;
#[cfg(feature = "cuda")]
mod cuda;
mod damaged;
mod damaged_gguf;
mod damaged_parts;
mod encoder;
mod family;
mod halves;
mod llama_cpp;
mod memory;
mod no_file;
mod numbers;
mod precision;
mod reference;
mod slots;
mod stored;
mod transformers;

use std::fs::OpenOptions;
use std::path::Path;
use std::sync::OnceLock;

use tempfile::TempDir;

use self::reference::Reference;
use super::text::{TextTokenizer, prompt};
use super::weights::WEIGHTS_FILE;
use super::{EngineError, Hidden, KeyValueCache, Model, Parts, train, verify};
use crate::recipe::Recipe;

const WHOLE: Parts = Parts {
    embedding: true,
    head: true,
};
const FRONT: Parts = Parts {
    embedding: true,
    head: false,
};
const BACK: Parts = Parts {
    embedding: false,
    head: true,
};

/// The micro model, trained once for all tests of this process.
pub(super) fn micro() -> &'static Path {
    static DIRECTORY: OnceLock<TempDir> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| {
        let directory = tempfile::tempdir().expect("made");
        let recipe = Recipe::by_name("micro").expect("exists");
        train::train(&recipe, directory.path(), &mut |_| ()).expect("trained");
        directory
    });
    directory.path()
}

/// Its files in a directory that may be changed.
pub(super) fn copy_of_micro() -> TempDir {
    let copy = tempfile::tempdir().expect("made");
    for entry in std::fs::read_dir(micro()).expect("read") {
        let path = entry.expect("read").path();
        if let (true, Some(name)) = (path.is_file(), path.file_name()) {
            std::fs::copy(&path, copy.path().join(name)).expect("copied");
        }
    }
    copy
}

fn tokenizer() -> TextTokenizer {
    TextTokenizer::load(micro()).expect("loads")
}

fn answer(prompt: &[u32], tokens: usize, mut next: impl FnMut(&[u32], u32) -> u32) -> Vec<u32> {
    let mut answer = vec![next(prompt, 0)];
    while answer.len() < tokens {
        let position = u32::try_from(prompt.len() + answer.len() - 1).expect("short");
        let last = answer[answer.len() - 1];
        answer.push(next(&[last], position));
    }
    answer
}

fn whole_answer(prompt: &[u32], tokens: usize) -> Vec<u32> {
    let model = Model::load_whole(micro()).expect("loads");
    let mut cache = model.new_cache();
    answer(prompt, tokens, |tokens, position| {
        let hidden = model.embed(tokens).expect("embeds");
        let hidden = model.forward(&hidden, position, &mut cache).expect("runs");
        model.next_token(&hidden).expect("answers")
    })
}

#[test]
fn a_model_cut_after_any_layer_gives_the_tokens_of_the_whole() {
    let prompt = prompt(&tokenizer(), 11, 37).expect("made");
    let whole = whole_answer(&prompt, 24);
    let layers = Recipe::by_name("micro").expect("exists").config.layers;
    for cut in 1..layers {
        let front = Model::load(micro(), 0..cut, FRONT).expect("loads");
        let back = Model::load(micro(), cut..layers, BACK).expect("loads");
        let (mut front_cache, mut back_cache) = (front.new_cache(), back.new_cache());
        let split = answer(&prompt, 24, |tokens, position| {
            let hidden = front.embed(tokens).expect("embeds");
            let hidden = front
                .forward(&hidden, position, &mut front_cache)
                .expect("runs");
            let bytes = hidden.le_bytes().expect("on the CPU");
            assert_eq!(bytes.len(), tokens.len() * 64 * 4);
            let hidden = Hidden::from_le_bytes(&bytes, 64).expect("parses");
            let hidden = back
                .forward(&hidden, position, &mut back_cache)
                .expect("runs");
            back.next_token(&hidden).expect("answers")
        });
        assert_eq!(split, whole, "cut after layer {cut}");
    }
}

#[test]
fn answering_from_the_cache_gives_the_tokens_of_reading_everything_again() {
    let model = Model::load_whole(micro()).expect("loads");
    for seed in 0..3 {
        let prompt = prompt(&tokenizer(), seed, 40).expect("made");
        let mut sequence = prompt.clone();
        for _ in 0..16 {
            let hidden = model.embed(&sequence).expect("embeds");
            let hidden = model
                .forward(&hidden, 0, &mut model.new_cache())
                .expect("runs");
            sequence.push(model.next_token(&hidden).expect("answers"));
        }
        assert_eq!(
            sequence[prompt.len()..],
            whole_answer(&prompt, 16),
            "seed {seed}"
        );
    }
}

#[test]
fn a_prompt_in_pieces_and_a_cache_beyond_its_first_room_change_no_token() {
    let model = Model::load_whole(micro()).expect("loads");
    let prompt = prompt(&tokenizer(), 5, 300).expect("made");
    let mut cache = model.new_cache();
    let mut last = None;
    for piece in prompt.chunks(90) {
        let position = cache.positions();
        let hidden = model.embed(piece).expect("embeds");
        last = Some(model.forward(&hidden, position, &mut cache).expect("runs"));
    }
    let next = model.next_token(&last.expect("pieces")).expect("answers");
    assert_eq!(vec![next], whole_answer(&prompt, 1));
    assert_eq!(cache.positions(), 300);
}

#[test]
fn forgetting_positions_brings_the_cache_back_to_where_it_was() {
    let model = Model::load_whole(micro()).expect("loads");
    let prompt = prompt(&tokenizer(), 6, 30).expect("made");
    let mut cache = model.new_cache();
    let run = |tokens: &[u32], cache: &mut KeyValueCache| {
        let hidden = model.embed(tokens).expect("embeds");
        let position = cache.positions();
        model
            .forward(&hidden, position, cache)
            .expect("runs")
            .le_bytes()
            .expect("on the CPU")
            .into_vec()
    };
    run(&prompt, &mut cache);
    let first = run(&[7, 8, 9], &mut cache);
    cache.truncate(30);
    assert_eq!(run(&[7, 8, 9], &mut cache), first);
}

#[test]
fn scores_agree_with_the_formulas_written_out_in_f64() {
    let model = Model::load_whole(micro()).expect("loads");
    let tokens = prompt(&tokenizer(), 3, 24).expect("made");
    let hidden = model.embed(&tokens).expect("embeds");
    let hidden = model
        .forward(&hidden, 0, &mut model.new_cache())
        .expect("runs");
    let scores = model.logits(&hidden).expect("scores");
    let reference = Reference::load(micro()).scores(&tokens);
    assert_eq!(scores.len(), reference.len());
    for (row, (scores, reference)) in scores.iter().zip(&reference).enumerate() {
        // Each score is a sum of 64 products after 4 layers; the bound is about a hundred units in
        // the last place of the largest.
        let largest = reference.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
        let bound = 1e-5 * (1.0 + largest);
        for (score, reference) in scores.iter().zip(reference) {
            let difference = (f64::from(*score) - reference).abs();
            assert!(difference < bound, "token {row}: {score} and {reference}");
        }
    }
}

#[test]
fn the_network_in_training_and_the_model_that_answers_agree() {
    let tokens = prompt(&tokenizer(), 4, 24).expect("made");
    let model = Model::load_whole(micro()).expect("loads");
    let hidden = model.embed(&tokens).expect("embeds");
    let hidden = model
        .forward(&hidden, 0, &mut model.new_cache())
        .expect("runs");
    let answers = model.logits(&hidden).expect("scores");
    let trains = train::scores_in_training(micro(), &tokens).expect("scores");
    for (answers, trains) in answers.iter().flatten().zip(trains.iter().flatten()) {
        assert!(
            (answers - trains).abs() < 1e-4 * (1.0 + trains.abs()),
            "{answers}, {trains}"
        );
    }
}

#[test]
fn a_part_holds_only_what_it_needs() {
    let config = Recipe::by_name("micro").expect("exists").config;
    let whole = Model::load(micro(), 0..4, WHOLE)
        .expect("loads")
        .weight_bytes();
    let middle = Parts {
        embedding: false,
        head: false,
    };
    let middle = Model::load(micro(), 1..3, middle).expect("loads");
    let table = 4 * u64::from(config.vocabulary * config.width);
    let norm = 4 * u64::from(config.width);
    assert_eq!(middle.weight_bytes(), (whole - table - norm) / 2);
    let front = Model::load(micro(), 0..2, FRONT).expect("loads");
    assert_eq!(front.weight_bytes(), middle.weight_bytes() + table);
    // What it does not hold it refuses by name.
    let state = Hidden::from_le_bytes(&[0; 256], 64).expect("one state");
    assert!(matches!(
        middle.embed(&[1]),
        Err(EngineError::MissingPart { piece: "embedding" })
    ));
    assert!(matches!(
        front.next_token(&state),
        Err(EngineError::MissingPart { .. })
    ));
}

#[test]
fn misuse_is_an_error_that_names_it() {
    let model = Model::load_whole(micro()).expect("loads");
    assert!(matches!(model.embed(&[]), Err(EngineError::NoTokens)));
    assert!(matches!(
        model.embed(&[384]),
        Err(EngineError::TokenOutside { token: 384, .. })
    ));
    let hidden = model.embed(&[1]).expect("embeds");
    let mut cache = model.new_cache();
    let ahead = model.forward(&hidden, 1, &mut cache);
    assert!(matches!(
        ahead,
        Err(EngineError::Position {
            position: 1,
            cached: 0
        })
    ));
    let other = Model::load(micro(), 1..4, BACK).expect("loads");
    let foreign = model.forward(&hidden, 0, &mut other.new_cache());
    assert!(matches!(foreign, Err(EngineError::ForeignCache { .. })));
    let narrow = Hidden::from_le_bytes(&[0; 8], 2).expect("one state");
    let narrow = model.forward(&narrow, 0, &mut cache);
    assert!(matches!(
        narrow,
        Err(EngineError::HiddenWidth {
            expected: 64,
            found: 2
        })
    ));
    let long = model.embed(&vec![1; 513]).expect("embeds");
    assert!(matches!(
        model.forward(&long, 0, &mut cache),
        Err(EngineError::TooLong { .. })
    ));
    for range in [3..5, 5..6] {
        assert!(matches!(
            Model::load(micro(), range, FRONT),
            Err(EngineError::Layers { .. })
        ));
    }
}

fn broken_copy(break_it: impl FnOnce(&Path)) -> EngineError {
    let copy = tempfile::tempdir().expect("made");
    for file in ["config.json", "tokenizer.json", WEIGHTS_FILE] {
        std::fs::copy(micro().join(file), copy.path().join(file)).expect("copied");
    }
    verify(copy.path()).expect("whole before it is broken");
    break_it(copy.path());
    let error = verify(copy.path()).expect_err("broken");
    let loading = Model::load_whole(copy.path()).err();
    assert!(loading.is_none_or(|loading| loading.to_string() == error.to_string()));
    error
}

#[test]
fn truncated_weights_are_reported_with_place_and_remedy() {
    let whole = std::fs::metadata(micro().join(WEIGHTS_FILE))
        .expect("exists")
        .len();
    for length in [0, 7, 100, whole / 2, whole - 1] {
        let error = broken_copy(|directory| {
            let file = OpenOptions::new()
                .write(true)
                .open(directory.join(WEIGHTS_FILE));
            file.and_then(|file| file.set_len(length))
                .expect("shortened");
        });
        let text = error.to_string();
        assert!(
            matches!(error, EngineError::Truncated { .. }),
            "{length}: {text}"
        );
        for part in [
            "truncated",
            WEIGHTS_FILE,
            &length.to_string(),
            "remove its directory",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
    }
}

#[test]
fn damaged_weights_and_missing_files_are_reported() {
    let garbage = broken_copy(|directory| {
        std::fs::write(directory.join(WEIGHTS_FILE), [0xff; 5_000]).expect("written");
    });
    assert!(matches!(garbage, EngineError::Damaged { .. }), "{garbage}");
    let longer = broken_copy(|directory| {
        let file = OpenOptions::new()
            .write(true)
            .open(directory.join(WEIGHTS_FILE));
        let file = file.expect("opens");
        let length = file.metadata().expect("exists").len();
        file.set_len(length + 9).expect("lengthened");
    });
    assert!(longer.to_string().contains("9 bytes after"), "{longer}");
    let other_shape = broken_copy(|directory| {
        let path = directory.join("config.json");
        let text = std::fs::read_to_string(&path).expect("read");
        let wider = text.replace("\"hidden_size\": 64", "\"hidden_size\": 68");
        std::fs::write(path, wider).expect("written");
    });
    assert!(
        other_shape.to_string().contains("config.json implies"),
        "{other_shape}"
    );
    for file in ["config.json", "tokenizer.json", WEIGHTS_FILE] {
        let gone = broken_copy(|directory| {
            std::fs::remove_file(directory.join(file)).expect("removed");
        });
        assert!(gone.to_string().contains(file), "{gone}");
    }
}

#[test]
fn text_survives_the_tokenizer_and_prompts_have_exactly_their_length() {
    let tokenizer = tokenizer();
    let odd = "The town of Vel: 3 plus 4 is 7. \u{e9}\u{1f600}\n\ttabs  and   spaces";
    let ids = tokenizer.encode(odd).expect("encodes");
    assert_eq!(tokenizer.decode(&ids).expect("decodes"), odd);
    let vocabulary = tokenizer.vocabulary();
    assert!(vocabulary <= 384);
    for tokens in [1, 2, 63, 500] {
        let ids = prompt(&tokenizer, 9, tokens).expect("made");
        assert_eq!(u32::try_from(ids.len()), Ok(tokens));
        assert_eq!(ids, prompt(&tokenizer, 9, tokens).expect("made"));
        assert!(ids.iter().all(|id| *id < vocabulary));
    }
    let long = prompt(&tokenizer, 9, 500).expect("made");
    assert_ne!(long, prompt(&tokenizer, 10, 500).expect("made"));
}

#[test]
fn of_equal_scores_the_lowest_id_wins_and_what_is_no_number_never() {
    use super::model::argmax;
    assert_eq!(argmax(&[1.0, 3.0, 3.0, 2.0]), Some(1));
    assert_eq!(argmax(&[f32::NEG_INFINITY, -1.0]), Some(1));
    assert_eq!(argmax(&[4.0, f32::NAN, -1.0]), None);
    assert_eq!(argmax(&[f32::NEG_INFINITY; 3]), None);
}

#[test]
fn the_engine_says_what_it_computes_with() {
    assert!(
        super::path().starts_with("candle 0.11.1 cpu "),
        "{}",
        super::path()
    );
}
