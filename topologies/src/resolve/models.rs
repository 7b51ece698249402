//! Looks at the models that an experiment names: whether they are there, and whether they have what is asked of them.

use std::path::{Path, PathBuf};

use hexloop_workloads::job::Placement;
use hexloop_workloads::recipe::{
    ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE, ADAPTERS_DIRECTORY, EXITS_FILE, VISION_DIRECTORY,
};

use super::chain;
use crate::experiment::{Experiment, Study, Technique};
use crate::model::{self, ModelShape};
use crate::plan::ModelSource;
use crate::problem::Problem;
use crate::references::studies::study_problems;

/// What describes a vision encoder in its directory, and its matrices.
const VISION_FILES: [&str; 2] = ["config.json", "model.safetensors"];

/// The model: there, with what studies need of it, and with room for every request.
pub(super) fn look_at_model(
    experiment: &mut Experiment,
    base_directory: &Path,
    problems: &mut Vec<Problem>,
) -> Option<ModelShape> {
    let directory: PathBuf = match experiment.model.as_ref()? {
        // Checked when the text was.
        ModelSource::Recipe(name) => return model::of_recipe(name),
        ModelSource::Directory(relative) => base_directory.join(relative),
    };
    let shape = shape_of(experiment, ("model", &directory), problems)?;
    for phase in &experiment.phases {
        if let Placement::Split { layers_on_device } = phase.placement
            && let Some((message, help)) = model::beyond_layers(shape, layers_on_device)
        {
            let path = ["phases", &phase.name, "layers_on_device"];
            problems.push(experiment.document.problem(&path, message, Some(help)));
        }
    }
    for study in &experiment.studies {
        for (key, (message, help)) in study_problems(study, shape) {
            let path = ["studies", &study.name, key];
            problems.push(experiment.document.problem(&path, message, Some(help)));
        }
    }
    let exits = directory.join(EXITS_FILE);
    for study in &experiment.studies {
        if matches!(study.technique, Technique::EarlyExit { .. }) && !exits.is_file() {
            let message = format!(
                "the checkpoint has no early exits: there is no {}",
                exits.display()
            );
            let help = "train them: hexloop model exits DIRECTORY --text FILE; those of a built-in recipe are trained \
                        when they are needed";
            let path = ["studies", &study.name, "technique"];
            problems.push(
                experiment
                    .document
                    .problem(&path, message, Some(help.to_owned())),
            );
        }
    }
    for (name, message, help) in missing_adapters(&experiment.studies, &directory) {
        let path = ["studies", &name, "technique"];
        problems.push(experiment.document.problem(&path, message, Some(help)));
    }
    for (name, message, help) in missing_vision(&experiment.studies, &directory) {
        let path = ["studies", &name, "technique"];
        problems.push(experiment.document.problem(&path, message, Some(help)));
    }
    let requests = experiment.requests.as_ref();
    if let Some((message, help)) =
        requests.and_then(|stream| model::beyond_positions(shape, stream))
    {
        let path = ["requests", "output_tokens"];
        problems.push(experiment.document.problem(&path, message, Some(help)));
    }
    experiment.model = Some(ModelSource::Directory(directory));
    Some(shape)
}

/// Adapters that a checkpoint's directory lacks: of which study, what is wrong, and how to mend it.
fn missing_adapters(studies: &[Study], directory: &Path) -> Vec<(String, String, String)> {
    let mut missing = Vec::new();
    for study in studies {
        let tasks = study.adapters.iter().flat_map(|adapters| &adapters.tasks);
        for task in tasks {
            let place = directory.join(ADAPTERS_DIRECTORY).join(task);
            for file in [ADAPTER_CONFIG_FILE, ADAPTER_WEIGHTS_FILE] {
                let path = place.join(file);
                if !path.is_file() {
                    let message = format!(
                        "the checkpoint has no adapter for {task}: there is no {}",
                        path.display()
                    );
                    let help = "put there what PEFT writes for a LoRA of q_proj and v_proj, or name in `adapters` \
                                those that are there";
                    missing.push((study.name.clone(), message, help.to_owned()));
                    break;
                }
            }
        }
    }
    missing
}

/// Files of a vision encoder that a checkpoint's directory lacks: of which study, what is wrong, and how to mend it.
fn missing_vision(studies: &[Study], directory: &Path) -> Vec<(String, String, String)> {
    let place = directory.join(VISION_DIRECTORY);
    let mut files = VISION_FILES.map(|file| place.join(file)).into_iter();
    let Some(path) = files.find(|path| !path.is_file()) else {
        return Vec::new();
    };
    let missing = |study: &Study| {
        let message = format!(
            "the checkpoint has no vision encoder: there is no {}",
            path.display()
        );
        let help = "take a built-in recipe, whose vision encoder is trained when it is needed, or put its files there";
        (study.name.clone(), message, help.to_owned())
    };
    studies
        .iter()
        .filter(|study| matches!(study.technique, Technique::Multimodal { .. }))
        .map(missing)
        .collect()
}

/// The shape of the checkpoint that a table of the file names.
fn shape_of(
    experiment: &Experiment,
    (table, directory): (&str, &Path),
    problems: &mut Vec<Problem>,
) -> Option<ModelShape> {
    let found = model::of_directory(directory).map_err(|error| {
        let help = "a model directory holds config.json, tokenizer.json and model.safetensors; \
                    `hexloop model train` makes one";
        let (path, help) = ([table, "directory"], Some(help.to_owned()));
        problems.push(experiment.document.problem(&path, chain(&error), help));
    });
    found.ok()
}

/// The second model: as many tokens as the first, and room for the requests of every study.
pub(super) fn look_at_draft(
    experiment: &mut Experiment,
    (target, base_directory): (Option<ModelShape>, &Path),
    problems: &mut Vec<Problem>,
) -> Option<ModelShape> {
    let directory: PathBuf = match experiment.draft_model.as_ref()? {
        ModelSource::Recipe(name) => {
            let shape = model::of_recipe(name)?;
            check_draft(experiment, (target?, shape), "recipe", problems);
            return Some(shape);
        }
        ModelSource::Directory(relative) => base_directory.join(relative),
    };
    let shape = shape_of(experiment, ("draft_model", &directory), problems)?;
    check_draft(experiment, (target?, shape), "directory", problems);
    experiment.draft_model = Some(ModelSource::Directory(directory));
    Some(shape)
}

fn check_draft(
    experiment: &Experiment,
    (target, draft): (ModelShape, ModelShape),
    key: &str,
    problems: &mut Vec<Problem>,
) {
    if target.vocabulary != draft.vocabulary {
        let message = format!(
            "the second model scores {} tokens and the first {}: they must be the same ones",
            draft.vocabulary, target.vocabulary
        );
        let help = "take a smaller model of the same family".to_owned();
        let path = ["draft_model", key];
        problems.push(experiment.document.problem(&path, message, Some(help)));
    }
    for study in &experiment.studies {
        let lengths = (study.prompt_tokens, study.output_tokens);
        if let Some((message, help)) = model::too_long(draft, lengths) {
            let path = ["studies", &study.name, "output_tokens"];
            let message = format!("second model: {message}");
            problems.push(experiment.document.problem(&path, message, Some(help)));
        }
    }
}
