//! Exits of any checkpoint that the engine loads, trained on a text of its user's.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::backbone::Checkpoint;
use super::{ExitReport, Exits, keep, learn, partial_in};
use crate::clock;
use crate::engine::error::EngineError;
use crate::engine::exit::EXITS_REPORT_FILE;
use crate::engine::input::read_text;
use crate::engine::memory;
use crate::engine::text::TextTokenizer;
use crate::engine::train::{TokenText, TrainingProgress};
use crate::engine::weights::read_config;
use crate::model_config::ModelConfig;
use crate::recipe::{EXITS_FILE, Recipe, hexadecimal};

/// Longest text, in bytes.
const MOST_TEXT_BYTES: u64 = 1 << 28;

/// Windows of the text that are held out at most; else it is a tenth of them.
const MOST_HELD_OUT: usize = 64;

/// Sequences of a step, in two halves.
const BATCH: u32 = 4;

/// The learning rate at the width of the built-in model. Wider maps take less, in proportion: Yang et al. 2022,
/// arXiv:2203.03466, table 3 (hidden weights with Adam).
const LEARNING_RATE: (f64, u32) = (2e-3, 256);

/// Copies of an exit's weights while it is trained: the weights, the optimiser's gradient and two moments, and the
/// gradients of both halves of a batch.
const COPIES: u64 = 6;

/// What is to be trained, on what, and where it is to be.
#[derive(Debug, Clone)]
pub struct CheckpointSpec {
    /// The checkpoint's directory.
    pub directory: PathBuf,
    /// The text, in UTF-8.
    pub text: PathBuf,
    /// The layers that exits follow, counted from 1; all but the last where none is named.
    pub layers: Vec<u32>,
    /// Optimiser steps.
    pub steps: u32,
    /// Tokens of a sequence.
    pub sequence: u32,
    /// The directory of the exits and their report; made if it is not there.
    pub output: PathBuf,
}

/// A checkpoint and a text, read and checked.
#[derive(Debug)]
pub struct CheckpointExits {
    spec: CheckpointSpec,
    layers: Vec<u32>,
    recipe: Recipe,
    text_sha256: String,
    backbone: Checkpoint,
    learnt: TokenText,
    held_out: TokenText,
}

impl CheckpointExits {
    /// Reads what training needs, and refuses what cannot be trained.
    ///
    /// # Errors
    /// Exits that are there already, a checkpoint that cannot be loaded, layers that it does not have, sequences
    /// longer than its positions, a text that is none or too short, memory that does not suffice, or a directory that
    /// cannot be written.
    pub fn prepare(spec: CheckpointSpec) -> Result<CheckpointExits, EngineError> {
        refuse_existing(&spec.output)?;
        let config = read_config(&spec.directory)?;
        let layers = chosen_layers(&spec, &config)?;
        if spec.sequence == 0 || spec.sequence > config.max_positions {
            return Err(EngineError::Unsuitable {
                path: spec.directory,
                reason: format!(
                    "sequences of {} tokens for a model of {} positions: choose 1 to {}",
                    spec.sequence, config.max_positions, config.max_positions
                ),
            });
        }
        let text = read_text(&spec.text, MOST_TEXT_BYTES)?;
        let tokenizer = TextTokenizer::load(&spec.directory)?;
        let (learnt, held_out) = divided(&tokenizer, &text, (&spec, &config))?;
        let backbone = Checkpoint::load(&spec.directory)?;
        memory::check(
            format!(
                "training {} exits (fewer of them, or shorter sequences, need less)",
                layers.len()
            ),
            training_bytes(&config, &layers, spec.sequence),
            memory::of_machine(),
        )?;
        make_writable(&spec.output)?;
        let recipe = recipe_of(&spec, &config, (text.len(), &learnt, &held_out));
        Ok(CheckpointExits {
            text_sha256: hexadecimal(&Sha256::digest(&text)),
            spec,
            layers,
            recipe,
            backbone,
            learnt,
            held_out,
        })
    }

    /// How they will be trained.
    #[must_use]
    pub const fn recipe(&self) -> &Recipe {
        &self.recipe
    }

    /// Trains them, and writes the exits and then their report.
    ///
    /// # Errors
    /// Scores that are no numbers, or a directory that cannot be written.
    pub fn train(
        self,
        progress: &mut dyn FnMut(TrainingProgress),
    ) -> Result<ExitReport, EngineError> {
        let started = clock::now();
        let exits = Exits::new(&self.backbone, &self.layers)
            .map_err(EngineError::tensor("making the first exits"))?;
        let texts = (&self.learnt, &self.held_out);
        let learnt = learn(&self.backbone, &exits, (&self.recipe, texts), progress)?;
        let output = &self.spec.output;
        refuse_existing(output)?;
        let places = (self.spec.directory.as_path(), output.as_path());
        keep(
            &exits,
            places,
            (self.recipe, Some(self.text_sha256)),
            learnt,
            started,
        )
    }
}

/// Exits that somebody has trained are not written over.
fn refuse_existing(output: &Path) -> Result<(), EngineError> {
    let files = [EXITS_FILE, EXITS_REPORT_FILE].map(|file| output.join(file));
    match files.into_iter().find(|path| path.exists()) {
        Some(path) => Err(EngineError::Unsuitable {
            path,
            reason: "it is there already, and is not written over: move it away, or name another directory for the \
                     exits"
                .to_owned(),
        }),
        None => Ok(()),
    }
}

/// Makes the directory, and tries now whether files can be made in it, which is needed when training is over.
fn make_writable(output: &Path) -> Result<(), EngineError> {
    let failed = |source| EngineError::Write {
        path: output.to_owned(),
        source,
    };
    std::fs::create_dir_all(output).map_err(failed)?;
    let tried = partial_in(output);
    std::fs::File::create(&tried).map_err(failed)?;
    std::fs::remove_file(&tried).map_err(failed)
}

/// The layers that exits follow, in order and each once.
fn chosen_layers(spec: &CheckpointSpec, config: &ModelConfig) -> Result<Vec<u32>, EngineError> {
    let possible = 1..config.layers;
    let mut layers = match spec.layers.is_empty() {
        true => possible.clone().collect(),
        false => spec.layers.clone(),
    };
    layers.sort_unstable();
    layers.dedup();
    let wrong = layers.iter().find(|layer| !possible.contains(layer));
    let reason = match wrong {
        Some(layer) if config.layers > 1 => format!(
            "no exit can follow layer {layer} of {}: choose 1 to {}",
            config.layers,
            config.layers - 1
        ),
        None if !layers.is_empty() => return Ok(layers),
        _ => format!(
            "a model of {} layer has no layer that an exit could follow",
            config.layers
        ),
    };
    Err(EngineError::Unsuitable {
        path: spec.directory.clone(),
        reason,
    })
}

/// The text as tokens: what is learnt, and the end of it, which is not.
fn divided(
    tokenizer: &TextTokenizer,
    text: &str,
    (spec, config): (&CheckpointSpec, &ModelConfig),
) -> Result<(TokenText, TokenText), EngineError> {
    let mut tokens = Vec::new();
    // By paragraphs, so that no more than one of them is held in the tokenizer's larger form.
    for paragraph in text.split_inclusive("\n\n") {
        tokens.extend(tokenizer.encode(paragraph)?);
    }
    let vocabulary = config.vocabulary;
    if let Some(token) = tokens.iter().find(|token| **token >= vocabulary) {
        return Err(EngineError::TokenOutside {
            token: *token,
            vocabulary,
        });
    }
    let sequence = usize::try_from(spec.sequence).unwrap_or(usize::MAX);
    let windows = tokens.len().saturating_sub(1) / sequence;
    if windows < 2 {
        return Err(EngineError::Unsuitable {
            path: spec.text.clone(),
            reason: format!(
                "it has {} tokens, and two sequences of {sequence} and one more are needed, one to learn from and one \
                 to be held out: take a longer text, or shorter sequences",
                tokens.len()
            ),
        });
    }
    let held_out = (windows / 10).clamp(1, MOST_HELD_OUT);
    let end = (windows - held_out) * sequence;
    let of = |tokens: &[u32]| TokenText {
        tokens: tokens.to_vec(),
        sequence,
    };
    Ok((of(&tokens[..=end]), of(&tokens[end..])))
}

/// How the exits are trained, in the terms of the built-in models; bytes of the text are by its share of tokens.
fn recipe_of(
    spec: &CheckpointSpec,
    config: &ModelConfig,
    (text_bytes, learnt, held_out): (usize, &TokenText, &TokenText),
) -> Recipe {
    let windows = learnt.windows() + held_out.windows();
    let held_out_bytes = text_bytes / windows.max(1) * held_out.windows();
    let bytes = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    let (rate, width) = LEARNING_RATE;
    let name = spec.directory.file_name().unwrap_or_default();
    Recipe {
        name: format!("{} exits", name.to_string_lossy()),
        config: *config,
        corpus_bytes: bytes(text_bytes - held_out_bytes),
        held_out_bytes: bytes(held_out_bytes),
        steps: spec.steps,
        batch: BATCH,
        sequence: spec.sequence,
        seed: 1,
        learning_rate: rate * (f64::from(width) / f64::from(config.width)).min(1.0),
        warmup_steps: 5,
        weight_decay: 0.05,
    }
}

/// Memory that training takes beside the checkpoint: the exits with what the optimiser remembers, states and scores
/// of a batch with their gradients, and the head as numbers.
fn training_bytes(config: &ModelConfig, layers: &[u32], sequence: u32) -> u64 {
    let (width, vocabulary) = (u64::from(config.width), u64::from(config.vocabulary));
    let exits = u64::try_from(layers.len()).unwrap_or(u64::MAX);
    let tokens = u64::from(BATCH) * u64::from(sequence);
    let weights = width
        .saturating_mul(width.saturating_add(1))
        .saturating_mul(COPIES);
    let passed = tokens.saturating_mul(2 * (vocabulary.saturating_add(width)));
    let all = exits.saturating_mul(weights.saturating_add(passed));
    all.saturating_add(vocabulary.saturating_mul(width))
        .saturating_mul(4)
}
