//! Exits learn to say what the last layer says, and are read back by who computes with them.

use std::path::Path;
use std::sync::OnceLock;

use tempfile::TempDir;

use super::*;
use crate::engine::exit::Exit;
use crate::engine::gguf::{BlockType, quantise};
use crate::engine::tests::micro;
use crate::engine::text::prompt;
use crate::engine::{Model, Parts, write_random};
use crate::model_config::{Architecture, ModelConfig};

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
        let weights = weights_sha256(directory.path()).expect("read");
        assert!(!is_current(&recipe, directory.path(), &weights));
        let report = train_exits(&recipe, directory.path(), &mut |_| ()).expect("trained");
        assert!(is_current(&recipe, directory.path(), &weights));
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
    let layers: Vec<u32> = (1..network.config().layers).collect();
    let exits = Exits::new(&network, &layers).expect("made");
    for layer in layers {
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
fn exits_of_another_model_of_the_same_shape_are_told_by_the_hash_of_its_weights() {
    let (trained, report) = with_exits();
    let own = weights_sha256(trained.path()).expect("read");
    assert_eq!(report.weights_sha256, own);
    report
        .check_weights(trained.path(), &own)
        .expect("they are its own");

    let root = tempfile::tempdir().expect("made");
    let other = root.path().join("other");
    write_random(&trained.path().join("config.json"), 1, &other).expect("made");
    for file in [EXITS_FILE, EXITS_REPORT_FILE] {
        std::fs::copy(trained.path().join(file), other.join(file)).expect("copied");
    }
    // Nothing else tells: shapes are the same.
    let model = Model::load(&other, 0..1, FRONT).expect("loads");
    Exit::load(&other, &model, 1).expect("loads");
    let weights = weights_sha256(&other).expect("read");
    let copied = read_report(&other).expect("read").expect("told");
    let refused = copied.check_weights(&other, &weights).expect_err("refused");
    let told = refused.to_string();
    let place = other.join(EXITS_REPORT_FILE).display().to_string();
    for part in [
        place.as_str(),
        &own[..12],
        &weights[..12],
        "hexloop model exits",
    ] {
        assert!(told.contains(part), "no {part} in {told}");
    }
    assert!(!told.contains(&own) && !told.contains(&weights), "{told}");
    let recipe = Recipe::by_name("micro").expect("exists");
    assert!(is_current(&recipe, trained.path(), &own));
    assert!(!is_current(&recipe, &other, &weights));
}

#[test]
fn scores_that_are_no_numbers_are_no_choice() {
    assert_eq!(Choice::of(&[1.0, f32::NAN]), None);
    assert_eq!(Choice::of(&[]), None);
    let even = Choice::of(&[2.0, 2.0, 2.0, 2.0]).expect("numbers");
    assert_eq!((even.token, even.probability), (0, 0.25));
}

/// A checkpoint's exits after some layers, to be trained for some steps on a text of so many bytes.
fn wanted(directory: &Path, layers: &[u32], steps: u32) -> CheckpointSpec {
    let text = directory.join("text.txt");
    let paragraphs = corpus::paragraphs(3, "exits", 12_000);
    std::fs::write(&text, paragraphs.join("\n\n")).expect("written");
    CheckpointSpec {
        directory: directory.to_owned(),
        text,
        layers: layers.to_vec(),
        steps,
        sequence: 32,
        output: directory.to_owned(),
    }
}

#[test]
fn exits_of_a_checkpoint_learn_from_its_users_text_and_are_loaded_as_any_are() {
    let directory = copy_of(micro());
    let prepared = CheckpointExits::prepare(wanted(directory.path(), &[3, 1, 3], 40));
    let mut losses = Vec::new();
    let report = prepared
        .expect("fits")
        .train(&mut |progress| losses.push(progress.loss));
    let report = report.expect("trained");
    assert_eq!(losses.len(), 40);
    assert!(losses[39] < losses[0], "{losses:?}");
    let told: Vec<u32> = report.exits.iter().map(|exit| exit.layer).collect();
    assert_eq!(told, [1, 3]);
    assert!(report.held_out_tokens >= 32 && report.text_sha256.is_some());
    // By chance one token of 384 would agree.
    assert!(report.exits[1].agreement > 0.3, "{report:?}");
    assert_eq!(read_report(directory.path()).expect("whole"), Some(report));
    let tokenizer = TextTokenizer::load(directory.path()).expect("loads");
    let text = prompt(&tokenizer, 5, 20).expect("made");
    for layer in [1, 3] {
        let (model, hidden) = after(directory.path(), layer, &text);
        let exit = Exit::load(directory.path(), &model, layer).expect("loads");
        model.choose_at(&exit, &hidden).expect("chooses");
    }
    let (model, _) = after(directory.path(), 2, &text);
    let refused = Exit::load(directory.path(), &model, 2).expect_err("refused");
    let told = refused.to_string();
    assert!(
        told.contains("no exit after layer 2, only after: 1, 3"),
        "{told}"
    );
}

#[test]
fn a_checkpoint_passes_on_what_the_network_that_was_trained_does() {
    let network = Network::load(micro()).expect("loads");
    let checkpoint = backbone::Checkpoint::load(micro()).expect("loads");
    let tokenizer = TextTokenizer::load(micro()).expect("loads");
    let texts = [7_u64, 8].map(|seed| prompt(&tokenizer, seed, 24).expect("made"));
    let sequences = texts.each_ref().map(Vec::as_slice);
    let layers = [1, 3];
    let (expected, said) = Backbone::after(&network, &layers, &sequences).expect("computed");
    let (found, also_said) = checkpoint.after(&layers, &sequences).expect("computed");
    assert_eq!(said, also_said);
    assert_eq!((expected.len(), found.len()), (2, 2));
    for (expected, found) in expected.iter().zip(&found) {
        assert_eq!(expected.dims(), [46, 64]);
        let apart = (expected - found).and_then(|apart| apart.abs()?.max_all()?.to_scalar::<f32>());
        let apart = apart.expect("same shapes");
        assert!(apart < 1e-3, "{apart}");
    }
}

#[test]
fn checkpoints_that_no_network_here_could_train_get_exits_too() {
    let root = tempfile::tempdir().expect("made");
    // One that only the engine knows, and one in blocks.
    let shape = Recipe::by_name("micro").expect("exists").config;
    let qwen = ModelConfig {
        architecture: Architecture::Qwen2,
        attention_bias: true,
        ..shape
    };
    let file = root.path().join("config.json");
    std::fs::write(&file, qwen.to_hugging_face_json().expect("writes")).expect("written");
    let random = root.path().join("random");
    write_random(&file, 1, &random).expect("made");
    assert!(Network::load(&random).is_err());
    let blocks = root.path().join("blocks");
    quantise(micro(), BlockType::Q8_0, &blocks).expect("written");
    for directory in [&random, &blocks] {
        let elsewhere = directory.join("exits");
        let spec = CheckpointSpec {
            output: elsewhere.clone(),
            ..wanted(directory, &[], 2)
        };
        let prepared = CheckpointExits::prepare(spec).expect("fits");
        let report = prepared.train(&mut |_| ()).expect("trained");
        assert_eq!(report.exits.len(), 3);
        assert!(elsewhere.join(EXITS_FILE).is_file());
        assert!(!directory.join(EXITS_FILE).exists());
    }
}

#[test]
fn exits_that_cannot_be_trained_are_refused_with_the_reason() {
    let directory = copy_of(micro());
    let usual = wanted(directory.path(), &[], 1);
    let refused = |spec: &CheckpointSpec| {
        let refused = CheckpointExits::prepare(spec.clone()).expect_err("refused");
        let source = std::error::Error::source(&refused).map(ToString::to_string);
        format!("{refused} {}", source.unwrap_or_default())
    };
    let with = |change: &dyn Fn(&mut CheckpointSpec)| {
        let mut spec = usual.clone();
        change(&mut spec);
        refused(&spec)
    };
    for layer in [0, 4] {
        let told = with(&|spec| spec.layers = vec![1, layer]);
        assert!(told.contains("choose 1 to 3"), "{told}");
    }
    for sequence in [0, 513] {
        let told = with(&|spec| spec.sequence = sequence);
        assert!(told.contains("choose 1 to 512"), "{told}");
    }
    let told = with(&|spec| spec.text = directory.path().join("nowhere.txt"));
    assert!(told.contains("nowhere.txt"), "{told}");
    let told = with(&|spec| spec.directory = directory.path().join("nowhere"));
    assert!(told.contains("config.json"), "{told}");
    std::fs::write(&usual.text, "too short").expect("written");
    assert!(
        refused(&usual).contains("a longer text"),
        "{}",
        refused(&usual)
    );
    std::fs::write(&usual.text, [0xff, 0xfe, b'x']).expect("written");
    assert!(refused(&usual).contains("UTF-8"), "{}", refused(&usual));
    for file in [EXITS_REPORT_FILE, EXITS_FILE] {
        std::fs::write(directory.path().join(file), "mine").expect("written");
        let told = refused(&usual);
        assert!(
            told.contains(file) && told.contains("not written over"),
            "{told}"
        );
    }
    let kept = std::fs::read(directory.path().join(EXITS_FILE)).expect("read");
    assert_eq!(kept, b"mine");
}
