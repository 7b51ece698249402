//! What may be beside a checkpoint, a vision encoder and early exits, with bytes changed or missing.

use std::path::Path;

use super::copy_of_micro;
use super::damaged::{head_bytes, try_changes, try_lengths};
use super::encoder::{SMALL, write_encoder};
use super::family::write_tensors;
use super::{EngineError, Model, Recipe, micro};
use crate::engine::exit::{EXITS_REPORT_FILE, Exit, exit_shapes};
use crate::engine::train::exits::{self, ExitAgreement, ExitReport};
use crate::engine::train::noise::Noise;
use crate::engine::vision::VisionEncoder;
use crate::engine::weights::{CONFIG_FILE, WEIGHTS_FILE, weights_sha256};
use crate::model_config::ModelConfig;
use crate::recipe::{EXITS_FILE, VISION_DIRECTORY};

/// Writes random exits after all layers but the last.
pub(super) fn write_exits(model: &Path, config: &ModelConfig) {
    let shapes = (1..config.layers).flat_map(|layer| exit_shapes(config, layer));
    let drawn = shapes.map(|(name, shape)| {
        let count = usize::try_from(shape.iter().product::<u32>()).expect("small");
        let values = Noise::new(7, &name).normal(count, 0.1);
        (name, (shape, values))
    });
    write_tensors(&model.join(EXITS_FILE), &drawn.collect());
}

/// Writes what a training might tell of those.
pub(super) fn write_report(model: &Path) {
    let recipe = Recipe::by_name("micro").expect("exists");
    let told = |layer| ExitAgreement {
        layer,
        agreement: 0.5,
        confident: 0.25,
        agreement_where_confident: (layer > 1).then_some(0.75),
    };
    let report = ExitReport {
        exits: (1..recipe.config.layers).map(told).collect(),
        recipe,
        recipe_sha256: "0a".to_owned(),
        weights_sha256: "0b".to_owned(),
        text_sha256: None,
        held_out_tokens: 64,
        seconds: 1.5,
    };
    let text = serde_json::to_string_pretty(&report).expect("JSON");
    std::fs::write(model.join(EXITS_REPORT_FILE), text).expect("written");
}

fn load_exits(directory: &Path, model: &Model) -> Result<(), EngineError> {
    for layer in 1..model.config().layers {
        Exit::load(directory, model, layer)?;
    }
    Ok(())
}

#[test]
fn no_change_of_a_vision_encoders_files_does_more_than_be_refused_by_their_names() {
    let (copy, model) = (copy_of_micro(), Model::load_whole(micro()).expect("loads"));
    write_encoder(copy.path(), &SMALL, model.config().width);
    let load = |_place: usize| VisionEncoder::load(copy.path(), &model).map(drop);
    let place = copy.path().join(VISION_DIRECTORY);
    let config = place.join(CONFIG_FILE);
    try_changes(&config, usize::MAX, load);
    let length = std::fs::read(&config).expect("read").len();
    // The last byte ends the line behind the last brace.
    try_lengths(&config, 0..length - 1, || load(0));
    let weights = place.join(WEIGHTS_FILE);
    try_changes(&weights, 1200, load);
    let (head, length) = head_bytes(&weights);
    let lengths = [0, 7, 8, head / 2, head - 1, head, head + 1, length - 1];
    try_lengths(&weights, lengths, || load(0));
}

#[test]
fn no_change_of_early_exits_does_more_than_be_refused_by_their_name() {
    let (copy, model) = (copy_of_micro(), Model::load_whole(micro()).expect("loads"));
    write_exits(copy.path(), model.config());
    let path = copy.path().join(EXITS_FILE);
    let (head, length) = head_bytes(&path);
    try_changes(&path, head, |_place| load_exits(copy.path(), &model));
    let lengths = [0, 7, 8, head / 2, head - 1, head, head + 1, length - 1];
    try_lengths(&path, lengths, || load_exits(copy.path(), &model));
}

#[test]
fn a_damaged_report_of_early_exits_is_an_error_and_not_no_report() {
    let copy = copy_of_micro();
    let read = || exits::read_report(copy.path());
    assert!(read().expect("nothing is wrong").is_none());
    write_report(copy.path());
    assert_eq!(read().expect("read").expect("told").exits.len(), 3);
    let path = copy.path().join(EXITS_REPORT_FILE);
    try_changes(&path, usize::MAX, |_place| read().map(drop));
    let length = std::fs::read(&path).expect("read").len();
    try_lengths(&path, 0..length, || read().map(drop));
    // For a built-in model they are trained again.
    std::fs::write(&path, "{").expect("written");
    let recipe = Recipe::by_name("micro").expect("exists");
    let weights = weights_sha256(copy.path()).expect("read");
    assert!(!exits::is_current(&recipe, copy.path(), &weights));
}
