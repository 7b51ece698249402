//! What is in the place of a file and is none, and files without an end, whichever loader comes upon them.

use std::fs::File;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::adapters::write_adapter;
use super::copy_of_micro;
use super::damaged_parts::{write_exits, write_report};
use super::encoder::{SMALL, write_encoder};
use super::{EngineError, Model, TextTokenizer, micro};
use crate::engine::chat::{SETTINGS_FILE, TEMPLATE_FILE};
use crate::engine::exit::{EXITS_REPORT_FILE, Exit};
use crate::engine::gguf::{BlockType, import, quantise};
use crate::engine::text::TOKENIZER_FILE;
use crate::engine::train::exits::read_report;
use crate::engine::vision::VisionEncoder;
use crate::engine::weights::{CONFIG_FILE, WEIGHTS_FILE, write_random};
use crate::recipe::EXITS_FILE;

/// What reads a file of a model's directory; `Model` is the one in it.
type Load = fn(&Path, &Model) -> Result<(), EngineError>;

fn load_model(root: &Path, _model: &Model) -> Result<(), EngineError> {
    Model::load_whole(root).map(drop)
}

fn load_tokenizer(root: &Path, _model: &Model) -> Result<(), EngineError> {
    TextTokenizer::load(root).map(drop)
}

fn write_blocks(root: &Path, _model: &Model) -> Result<(), EngineError> {
    let into = tempfile::tempdir().expect("made");
    quantise(root, BlockType::Q8_0, &into.path().join("written")).map(drop)
}

fn draw_weights(root: &Path, _model: &Model) -> Result<(), EngineError> {
    let into = tempfile::tempdir().expect("made");
    write_random(&root.join(CONFIG_FILE), 1, into.path()).map(drop)
}

fn load_encoder(root: &Path, model: &Model) -> Result<(), EngineError> {
    VisionEncoder::load(root, model).map(drop)
}

fn load_exit(root: &Path, model: &Model) -> Result<(), EngineError> {
    Exit::load(root, model, 1).map(drop)
}

fn read_exits_report(root: &Path, _model: &Model) -> Result<(), EngineError> {
    read_report(root).map(drop)
}

fn load_adapter(root: &Path, model: &Model) -> Result<(), EngineError> {
    model.load_adapter(&root.join("adapter-11")).map(drop)
}

/// Files that are read in a piece, and what reads them.
const DESCRIPTIONS: [(&str, Load); 11] = [
    (CONFIG_FILE, load_model),
    (CONFIG_FILE, draw_weights),
    ("model.safetensors.index.json", load_model),
    ("random-weights.json", load_model),
    (TOKENIZER_FILE, load_tokenizer),
    (TOKENIZER_FILE, write_blocks),
    (SETTINGS_FILE, load_tokenizer),
    (TEMPLATE_FILE, load_tokenizer),
    ("vision/config.json", load_encoder),
    (EXITS_REPORT_FILE, read_exits_report),
    ("adapter-11/adapter_config.json", load_adapter),
];

/// Files of which tensors are read one by one.
const WEIGHTS: [(&str, Load); 5] = [
    (WEIGHTS_FILE, load_model),
    ("model.gguf", load_model),
    ("vision/model.safetensors", load_encoder),
    (EXITS_FILE, load_exit),
    ("adapter-11/adapter_model.safetensors", load_adapter),
];

/// The micro model with everything that may be beside it.
fn furnished() -> (tempfile::TempDir, Model) {
    let (copy, model) = (copy_of_micro(), Model::load_whole(micro()).expect("loads"));
    let config = model.config();
    write_encoder(copy.path(), &SMALL, config.width);
    write_exits(copy.path(), config);
    write_report(copy.path());
    write_adapter(copy.path(), config, 4, 11);
    (copy, model)
}

/// Asserts that a file is refused by its name and for a reason while something else is in its place.
fn expect_refused(
    (root, model): (&Path, &Model),
    (name, load): (&str, Load),
    put: impl FnOnce(&Path),
    reason: &str,
) {
    let (path, aside) = (root.join(name), root.join("aside"));
    load(root, model).unwrap_or_else(|error| panic!("{name}: {error}"));
    let was_there = path.exists();
    if was_there {
        std::fs::rename(&path, &aside).expect("moved");
    }
    // Weights in one file go before an index.
    let single = root.join(WEIGHTS_FILE);
    let hides = name.ends_with("index.json");
    if hides {
        std::fs::rename(&single, &aside).expect("moved");
    }
    put(&path);
    let told = load(root, model).expect_err("refused").to_string();
    assert!(
        told.contains(&path.display().to_string()) && told.contains(reason),
        "{name}: {told}"
    );
    let removed = std::fs::remove_file(&path).or_else(|_| std::fs::remove_dir(&path));
    removed.expect("removed");
    if was_there {
        std::fs::rename(&aside, &path).expect("moved back");
    }
    if hides {
        std::fs::rename(&aside, &single).expect("moved back");
    }
}

fn put_pipe(path: &Path) {
    mkfifo(path, Mode::S_IRWXU).expect("made");
}

fn put_directory(path: &Path) {
    std::fs::create_dir(path).expect("made");
}

fn put_device(path: &Path) {
    symlink("/dev/zero", path).expect("made");
}

/// A hole: it has a length and takes no room.
fn put_endless(path: &Path) {
    let file = File::create(path).expect("made");
    file.set_len(1 << 40).expect("lengthened");
}

#[test]
fn what_is_no_file_is_told_as_what_it_is_by_every_loader() {
    let (copy, model) = furnished();
    let of = (copy.path(), &model);
    for read in DESCRIPTIONS.into_iter().chain(WEIGHTS) {
        expect_refused(of, read, put_pipe, "it is no file but a named pipe");
        expect_refused(of, read, put_directory, "it is no file but a directory");
        expect_refused(of, read, put_device, "it is no file but a device");
    }
}

#[test]
fn a_description_without_end_is_refused_with_its_length_and_the_bound() {
    let (copy, model) = furnished();
    for read in DESCRIPTIONS {
        let reason = "it has 1099511627776 bytes, and at most ";
        expect_refused((copy.path(), &model), read, put_endless, reason);
    }
}

#[test]
fn a_gguf_file_and_a_tokenizer_that_are_no_files_are_not_imported() {
    let root = tempfile::tempdir().expect("made");
    let (pipe, into) = (root.path().join("pipe"), root.path().join("into"));
    put_pipe(&pipe);
    let written = root.path().join("written");
    quantise(micro(), BlockType::F32, &written).expect("written");
    let whole = written.join("model.gguf");
    for (file, tokenizer) in [(&pipe, None), (&whole, Some(pipe.as_path()))] {
        let told = import(file, tokenizer, &into).expect_err("refused");
        assert!(told.to_string().contains("pipe: it is no file"), "{told}");
        assert!(!into.exists());
    }
}
