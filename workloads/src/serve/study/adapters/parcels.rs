//! What the driver has of each task: the files that go to the stage, texts and prompts.

use std::path::{Path, PathBuf};

use super::{FILES, WHOLE};
use crate::engine::EngineError;
use crate::engine::adapters::{check_room_to_merge, merged_weights, rank_of};
use crate::engine::input;
use crate::engine::train::adapters::adapter_directory;
use crate::recipe::ADAPTER_TEXT_FILE;
use crate::serve::error::JobError;
use crate::serve::part::Part;
use crate::study::StudySpec;

/// Longest file of an adapter, in bytes: one of rank 1024 beside the largest published models.
const MOST_ADAPTER_BYTES: u64 = 1 << 32;

/// Longest text of a task, in bytes.
const MOST_TEXT_BYTES: u64 = 1 << 26;

/// A task.
pub(super) struct Parcel {
    model_directory: PathBuf,
    directory: PathBuf,
    /// The files of the adapter, each with its place.
    pub(super) adapter: Vec<(u32, Vec<u8>)>,
    /// Parameters of the adapter by the formula.
    pub(super) adapter_parameters: u64,
    /// Of a full model, likewise.
    pub(super) whole_parameters: u64,
    /// Prompts, each of as many tokens as the study says.
    pub(super) prompts: Vec<Vec<u32>>,
    /// Paragraphs that are scored; none where the adapter brings no text.
    pub(super) texts: Vec<Vec<u32>>,
}

fn size(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

fn failed(doing: &'static str, model: &Path) -> impl Fn(EngineError) -> JobError + Copy {
    move |source| JobError::Engine {
        doing,
        directory: model.to_owned(),
        source,
    }
}

/// Whether a full model of a task can be made here.
pub(super) fn check_room(model_directory: &Path) -> Result<(), JobError> {
    let checked = check_room_to_merge(model_directory);
    checked.map_err(failed("merge an adapter into", model_directory))
}

impl Parcel {
    /// Reads a task's adapter from a model's directory.
    pub(super) fn read(
        part: &Part,
        (model_directory, task): (&Path, &str),
        (study, prompt_seeds): (&StudySpec, &[u64]),
    ) -> Result<Parcel, JobError> {
        let directory = adapter_directory(model_directory, task);
        let failed = failed("read an adapter of", model_directory);
        let rank = rank_of(&directory).map_err(failed)?;
        let mut adapter = Vec::new();
        for (place, name) in (0..WHOLE).zip(FILES) {
            let file = input::read_bytes(&directory.join(name), MOST_ADAPTER_BYTES);
            adapter.push((place, file.map_err(failed)?));
        }
        let text = directory.join(ADAPTER_TEXT_FILE);
        let text = input::read_text_if_there(&text, MOST_TEXT_BYTES).map_err(failed)?;
        let (prompts, texts) = match text {
            Some(text) => from_text(part, &text, (study, task))?,
            None => {
                let seeds = prompt_seeds.get(..size(study.prompts));
                let seeds = seeds.unwrap_or(prompt_seeds);
                (part.prompts(seeds, study.prompt_tokens)?, Vec::new())
            }
        };
        Ok(Parcel {
            model_directory: model_directory.to_owned(),
            adapter,
            adapter_parameters: part.parameters(Some(rank)),
            whole_parameters: part.parameters(None),
            prompts,
            texts,
            directory,
        })
    }

    /// The weights of the task's full model. They are not kept: of many tasks there would be no room for all.
    pub(super) fn whole(&self) -> Result<Vec<u8>, JobError> {
        let merged = merged_weights(&self.model_directory, &self.directory);
        merged.map_err(failed("merge an adapter into", &self.model_directory))
    }
}

/// Prompts, and paragraphs, as tokens.
type Texts = (Vec<Vec<u32>>, Vec<Vec<u32>>);

/// Prompts that begin at different paragraphs of a text, and its first paragraphs.
fn from_text(
    part: &Part,
    text: &str,
    (study, task): (&StudySpec, &str),
) -> Result<Texts, JobError> {
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    let mut prompts = Vec::new();
    for prompt in 0..size(study.prompts) {
        let from = lines.get(prompt..).unwrap_or_default();
        let mut tokens = part.encode_text(&from.join(" "))?;
        tokens.truncate(size(study.prompt_tokens));
        if tokens.len() < size(study.prompt_tokens) {
            let why = format!(
                "the text of task {task} has no {} prompts of {} tokens: put more paragraphs into its \
                 {ADAPTER_TEXT_FILE}, or ask for fewer",
                study.prompts, study.prompt_tokens
            );
            return Err(JobError::Spec { why });
        }
        prompts.push(tokens);
    }
    let longest = size(part.max_positions());
    let mut texts = Vec::new();
    for line in lines.iter().take(size(study.held_out_prompts)) {
        let mut tokens = part.encode_text(line)?;
        tokens.truncate(longest);
        if tokens.len() > 1 {
            texts.push(tokens);
        }
    }
    Ok((prompts, texts))
}
