//! `hexloop model`: the built-in models and checkpoints of the user.

mod exits;

use std::path::{Path, PathBuf};

use hexloop_workloads::engine::gguf::{self, BlockType};
use hexloop_workloads::engine::text::TextTokenizer;
use hexloop_workloads::engine::{self, recipe_cache};
use hexloop_workloads::recipe::Recipe;
use serde::Serialize;

use super::{Voice, print, print_json};
use crate::cli::ModelAction;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, OrFail, Outcome};
use crate::format::{count_to_f64, grouped};
use crate::launch::training::{self, TrainingPlace};
use crate::launch::training_energy;
use crate::paths::Paths;
use crate::record::environment::Known;
use crate::summary::TrainingEnergy;
use crate::tell::tell;

pub(super) fn model(action: &ModelAction, voice: Voice) -> Outcome {
    match action {
        ModelAction::Train {
            recipe,
            output,
            again,
        } => train(&find(recipe)?, output.as_deref(), *again, voice),
        ModelAction::Info { model } => describe(&directory_of(model)?, voice),
        ModelAction::Quantize {
            model,
            block_type,
            output,
        } => quantize(&directory_of(model)?, *block_type, output, voice),
        ModelAction::Import {
            file,
            tokenizer,
            output,
        } => import(file, tokenizer.as_deref(), output, voice),
        ModelAction::Random {
            config,
            seed,
            output,
        } => random(config, *seed, output, voice),
        ModelAction::Exits(arguments) => exits::exits(arguments, voice),
        ModelAction::List => list(voice),
    }
}

fn find(name: &str) -> Result<Recipe, Failure> {
    Recipe::by_name(name).ok_or_else(|| {
        let message = format!("there is no built-in model {name:?}");
        let known = Recipe::names().join(", ");
        Failure::message(ExitCode::InvalidInput, message).remedy(format!("known models: {known}"))
    })
}

fn cache(paths: &Paths) -> Result<PathBuf, Failure> {
    paths.models()?;
    Ok(paths.cache.clone().unwrap_or_default())
}

fn train(recipe: &Recipe, output: Option<&Path>, again: bool, voice: Voice) -> Outcome {
    let paths = Paths::of_this_user()?;
    let place = match output {
        Some(directory) => {
            refuse_existing(directory)?;
            TrainingPlace {
                directory: directory.to_owned(),
            }
        }
        None => TrainingPlace {
            directory: recipe_cache::model_directory(&cache(&paths)?, recipe),
        },
    };
    if again && output.is_none() && place.directory.exists() {
        std::fs::remove_dir_all(&place.directory).or_fail(ExitCode::Failed, || {
            format!("cannot remove {}", place.directory.display())
        })?;
    }
    let directory = training::ensure_alone(recipe, &place, &paths.state, voice.quiet)?;
    describe(&directory, voice)
}

/// The directory of a built-in model by its name, or the one that is named.
pub(super) fn directory_of(model: &str) -> Result<PathBuf, Failure> {
    let Some(recipe) = Recipe::by_name(model) else {
        return Ok(PathBuf::from(model));
    };
    let directory = recipe_cache::model_directory(&cache(&Paths::of_this_user()?)?, &recipe);
    if !recipe_cache::is_complete(&directory) {
        let message = format!("the built-in model {model} has not been trained yet");
        return Err(Failure::message(ExitCode::Failed, message)
            .remedy(format!("hexloop model train {model}")));
    }
    Ok(directory)
}

/// A directory that is to be made must not be there.
fn refuse_existing(directory: &Path) -> Result<(), Failure> {
    if !directory.exists() {
        return Ok(());
    }
    let message = format!("{} exists already", directory.display());
    Err(Failure::message(ExitCode::InvalidInput, message)
        .remedy("name a directory that does not exist yet"))
}

fn quantize(from: &Path, block_type: BlockType, output: &Path, voice: Voice) -> Outcome {
    refuse_existing(output)?;
    let written = gguf::quantise(from, block_type, output)
        .or_fail(ExitCode::InvalidInput, || {
            format!("{} cannot be stored as {block_type}", from.display())
        })?;
    if !voice.quiet {
        if !written.kept_f16.is_empty() {
            tell(&format_args!(
                "{} matrices are stored as F16, because their rows are no whole number of \
                 {block_type} blocks: {}",
                written.kept_f16.len(),
                written.kept_f16.join(", ")
            ));
        }
        if let Some(reason) = &written.without_tokenizer {
            tell(&format_args!(
                "the tokenizer is not in the GGUF file, only beside it: {reason}. hexloop does not \
                 need it there; llama.cpp can be given token ids only"
            ));
        }
    }
    describe(output, voice)
}

fn import(file: &Path, tokenizer: Option<&Path>, output: &Path, voice: Voice) -> Outcome {
    refuse_existing(output)?;
    gguf::import(file, tokenizer, output).or_fail(ExitCode::InvalidInput, || {
        format!("{} is not a model that can be run", file.display())
    })?;
    describe(output, voice)
}

fn random(config: &Path, seed: u64, output: &Path, voice: Voice) -> Outcome {
    refuse_existing(output)?;
    engine::write_random(config, seed, output).or_fail(ExitCode::InvalidInput, || {
        format!("{} is no shape that can be run", config.display())
    })?;
    describe(output, voice)
}

#[derive(Serialize)]
struct ModelDescription {
    directory: String,
    architecture: &'static str,
    layers: u32,
    width: u32,
    heads: u32,
    kv_heads: u32,
    vocabulary: u32,
    max_positions: u32,
    parameters: u64,
    weights_bytes: u64,
    weights_sha256: String,
    chat_template_tokens: Option<u32>,
    training: Option<serde_json::Value>,
    training_energy: Known<TrainingEnergy>,
}

fn describe(directory: &Path, voice: Voice) -> Outcome {
    let doing = || format!("{} is not a model that can be run", directory.display());
    let config = engine::verify(directory).or_fail(ExitCode::InvalidInput, doing)?;
    let weights_sha256 =
        engine::weights_sha256(directory).or_fail(ExitCode::InvalidInput, doing)?;
    let tokenizer = TextTokenizer::load(directory).or_fail(ExitCode::InvalidInput, doing)?;
    let weights_bytes = engine::weights_bytes(directory).or_fail(ExitCode::InvalidInput, doing)?;
    let training = std::fs::read_to_string(directory.join("training.json")).ok();
    let training = training.and_then(|text| serde_json::from_str(&text).ok());
    let description = ModelDescription {
        directory: directory.display().to_string(),
        architecture: config.architecture.model_type(),
        layers: config.layers,
        width: config.width,
        heads: config.heads,
        kv_heads: config.kv_heads,
        vocabulary: config.vocabulary,
        max_positions: config.max_positions,
        parameters: config.parameters(),
        weights_bytes,
        weights_sha256,
        chat_template_tokens: tokenizer.template_tokens(),
        training,
        training_energy: training_energy::kept(directory),
    };
    if voice.json {
        print_json(&description)?;
        return Ok(ExitCode::Done);
    }
    let ModelDescription {
        directory,
        architecture,
        layers,
        width,
        heads,
        kv_heads,
        vocabulary,
        max_positions,
        ..
    } = &description;
    let parameters = grouped(description.parameters);
    let bytes = grouped(description.weights_bytes);
    let mut text = format!(
        "directory   {directory}\nshape       {architecture}: {layers} layers, width {width}, \
         {heads} heads over {kv_heads} key-value heads, vocabulary {vocabulary}, \
         {max_positions} positions\nweights     {parameters} in {bytes} bytes\n\
         sha256      {}\n",
        description.weights_sha256
    );
    let chat = description.chat_template_tokens;
    let chat =
        chat.map(|tokens| format!("chat        {tokens} tokens of template around a prompt\n"));
    text.extend(chat);
    for (key, name) in [
        ("held_out_loss", "held-out loss, nats/token"),
        ("held_out_top1", "held-out top-1"),
    ] {
        let value = description
            .training
            .as_ref()
            .and_then(|training| training.get(key));
        if let Some(value) = value.and_then(serde_json::Value::as_f64) {
            text.push_str(&format_line(name, value));
        }
    }
    let lines = match &description.training_energy {
        Known::Known(energy) => energy.lines(),
        Known::Unknown { why } => vec![format!("energy of the training: not known: {why}")],
    };
    for line in lines {
        text.push_str(&line);
        text.push('\n');
    }
    print(&text)?;
    Ok(ExitCode::Done)
}

fn format_line(name: &str, value: f64) -> String {
    format!("{name}: {value:.3}\n")
}

#[derive(Serialize)]
struct Listed {
    name: String,
    layers: u32,
    width: u32,
    parameters: u64,
    sha256: String,
    directory: Option<String>,
}

fn list(voice: Voice) -> Outcome {
    let cache = Paths::of_this_user().and_then(|paths| cache(&paths)).ok();
    let listed: Vec<Listed> = Recipe::all()
        .into_iter()
        .map(|recipe| {
            let directory = cache
                .as_ref()
                .map(|root| recipe_cache::model_directory(root, &recipe));
            let directory = directory.filter(|path| recipe_cache::is_complete(path));
            Listed {
                layers: recipe.config.layers,
                width: recipe.config.width,
                parameters: recipe.config.parameters(),
                sha256: recipe.sha256_hex(),
                directory: directory.map(|path| path.display().to_string()),
                name: recipe.name,
            }
        })
        .collect();
    if voice.json {
        print_json(&listed)?;
        return Ok(ExitCode::Done);
    }
    for Listed {
        name,
        layers,
        width,
        parameters,
        directory,
        ..
    } in &listed
    {
        let millions = count_to_f64(*parameters) / 1e6;
        let place = directory.as_deref().unwrap_or("not trained yet");
        print(&format!(
            "{name:10} {layers:2} layers, width {width:4}, {millions:5.2} M weights  {place}\n"
        ))?;
    }
    Ok(ExitCode::Done)
}
