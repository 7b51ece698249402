//! Exits learn to say what the last layer says, and are read back by who computes with them.

use std::path::Path;
use std::sync::OnceLock;

use tempfile::TempDir;

use super::*;
use crate::engine::exit::Exit;
use crate::engine::tests::micro;
use crate::engine::text::prompt;
use crate::engine::{Model, Parts};

fn copy_of(model: &Path) -> TempDir {
    let directory = tempfile::tempdir().expect("made");
    for entry in std::fs::read_dir(model).expect("listed") {
        let path = entry.expect("listed").path();
        let name = path.file_name().expect("named");
        std::fs::copy(&path, directory.path().join(name)).expect("copied");
    }
    directory
}

/// The micro model with exits, trained once for all tests of this process.
fn with_exits() -> &'static (TempDir, ExitReport) {
    static MODEL: OnceLock<(TempDir, ExitReport)> = OnceLock::new();
    MODEL.get_or_init(|| {
        let directory = copy_of(micro());
        let recipe = Recipe::by_name("micro").expect("exists");
        assert!(!is_current(&recipe, directory.path()));
        let report = train_exits(&recipe, directory.path(), &mut |_| ()).expect("trained");
        assert!(is_current(&recipe, directory.path()));
        (directory, report)
    })
}

const FRONT: Parts = Parts {
    embedding: true,
    head: true,
};

/// The model's first layers and the states of a text after them.
fn after(directory: &Path, layers: u32, text: &[u32]) -> (Model, crate::engine::Hidden) {
    let model = Model::load(directory, 0..layers, FRONT).expect("loads");
    let embedded = model.embed(text).expect("embeds");
    let states = model.forward(&embedded, 0, &mut model.new_cache());
    (model, states.expect("runs"))
}

#[test]
fn exits_learn_to_say_what_the_last_layer_says_and_later_ones_do_it_better() {
    let (directory, report) = with_exits();
    let recipe = Recipe::by_name("micro").expect("exists");
    let layers = recipe.config.layers;
    let told: Vec<u32> = report.exits.iter().map(|exit| exit.layer).collect();
    assert_eq!(told, (1..layers).collect::<Vec<u32>>());
    let (first, last) = (report.exits[0], report.exits[report.exits.len() - 1]);
    // By chance one token of 384 would agree.
    assert!(first.agreement > 0.3, "{report:?}");
    assert!(last.agreement >= first.agreement, "{report:?}");
    assert!(last.agreement > 0.6, "{report:?}");
    let told = read_report(directory.path()).expect("read");
    assert_eq!(told.as_ref(), Some(report));
    // The model that they belong to is the same as before.
    let weights =
        |directory: &Path| std::fs::read(directory.join("model.safetensors")).expect("read");
    assert_eq!(weights(directory.path()), weights(micro()));
}

#[test]
fn an_exit_as_it_answers_is_the_exit_as_it_was_trained() {
    let (directory, _) = with_exits();
    let tokenizer = TextTokenizer::load(directory.path()).expect("loads");
    let text = prompt(&tokenizer, 5, 20).expect("made");
    let network = Network::load(directory.path()).expect("loads");
    // One token more than is asked about.
    let asked: Vec<u32> = text.iter().copied().chain([0]).collect();
    let (states, _) = network.after_each_layer(&[&asked]).expect("computed");
    let exits = Exits::new(&network).expect("made");
    for layer in 1..network.config().layers {
        let (model, hidden) = after(directory.path(), layer, &text);
        let exit = Exit::load(directory.path(), &model, layer).expect("loads");
        let choice = model.choose_at(&exit, &hidden).expect("chooses");
        for (name, shape) in exit_shapes(network.config(), layer) {
            let mut file =
                crate::engine::weights::WeightsFile::open(directory.path().join(EXITS_FILE))
                    .expect("opens");
            let stored = file.tensor(&(name.clone(), shape), &crate::engine::Compute::cpu());
            exits.variables[&name]
                .set(&stored.expect("read"))
                .expect("set");
        }
        let scores = exits.scores(&network, layer, &states[layer as usize - 1]);
        let scores = scores
            .and_then(|scores| scores.to_vec2::<f32>())
            .expect("f32");
        let trained = Choice::of(&scores[scores.len() - 1]).expect("numbers");
        assert_eq!(choice.token, trained.token, "layer {layer}");
        assert!(
            (choice.probability - trained.probability).abs() < 1e-4,
            "layer {layer}"
        );
    }
}

#[test]
fn the_last_layer_says_with_its_confidence_what_it_says_without() {
    let tokenizer = TextTokenizer::load(micro()).expect("loads");
    let text = prompt(&tokenizer, 6, 12).expect("made");
    let layers = Recipe::by_name("micro").expect("exists").config.layers;
    let (model, states) = after(micro(), layers, &text);
    let choice = model.choose(&states).expect("chooses");
    assert_eq!(choice.token, model.next_token(&states).expect("answers"));
    let scores = model.logits(&states).expect("scores");
    let last: Vec<f64> = scores[scores.len() - 1]
        .iter()
        .map(|score| f64::from(*score))
        .collect();
    let sum: f64 = last.iter().map(|score| score.exp()).sum();
    let highest = last[choice.token as usize].exp();
    assert!((choice.probability - highest / sum).abs() < 1e-9);
}

#[test]
fn a_model_without_exits_and_exits_that_are_broken_are_refused_with_the_remedy() {
    let layers = Recipe::by_name("micro").expect("exists").config.layers;
    let directory = copy_of(with_exits().0.path());
    let model = Model::load(directory.path(), 0..1, FRONT).expect("loads");
    let refused = |directory: &Path, layer: u32| {
        let refused = Exit::load(directory, &model, layer);
        refused.expect_err("refused").to_string()
    };
    assert!(refused(micro(), 1).contains("built-in recipe"));
    for layer in [0, layers, u32::MAX] {
        assert!(refused(directory.path(), layer).contains("choose 1 to 3"));
    }
    let path = directory.path().join(EXITS_FILE);
    let whole = std::fs::read(&path).expect("read");
    std::fs::write(&path, &whole[..whole.len() / 2]).expect("written");
    assert!(refused(directory.path(), 1).contains("truncated"));
    let mut long = whole.clone();
    long[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    std::fs::write(&path, long).expect("written");
    assert!(refused(directory.path(), 1).contains("header"));
}

#[test]
fn scores_that_are_no_numbers_are_no_choice() {
    assert_eq!(Choice::of(&[1.0, f32::NAN]), None);
    assert_eq!(Choice::of(&[]), None);
    let even = Choice::of(&[2.0, 2.0, 2.0, 2.0]).expect("numbers");
    assert_eq!((even.token, even.probability), (0, 0.25));
}
