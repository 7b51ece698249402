//! What the driver has of each task: the files that go to the stage, texts and prompts.

use std::path::Path;

use super::{FILES, WHOLE};
use crate::engine::EngineError;
use crate::engine::adapters::{merged_weights, rank_of};
use crate::engine::train::adapters::adapter_directory;
use crate::recipe::ADAPTER_TEXT_FILE;
use crate::serve::error::JobError;
use crate::serve::part::Part;
use crate::study::StudySpec;

/// A task.
pub(super) struct Parcel {
    /// The files of the adapter, each with its place.
    pub(super) adapter: Vec<(u32, Vec<u8>)>,
    /// Parameters of the adapter by the formula.
    pub(super) adapter_parameters: u64,
    /// Of a full model, likewise.
    pub(super) whole_parameters: u64,
    /// The full model, if any arm needs it.
    pub(super) whole: Option<Vec<u8>>,
    /// Prompts, each of as many tokens as the study says.
    pub(super) prompts: Vec<Vec<u32>>,
    /// Paragraphs that are scored; none where the adapter brings no text.
    pub(super) texts: Vec<Vec<u32>>,
}

fn size(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

impl Parcel {
    /// Reads a task's adapter from a model's directory.
    pub(super) fn read(
        part: &Part,
        (model_directory, task): (&Path, &str),
        (study, prompt_seeds): (&StudySpec, &[u64]),
        needs_whole: bool,
    ) -> Result<Parcel, JobError> {
        let directory = adapter_directory(model_directory, task);
        let failed = |source: EngineError| JobError::Engine {
            doing: "read an adapter of",
            directory: model_directory.to_owned(),
            source,
        };
        let read = |name: &str| {
            let path = directory.join(name);
            std::fs::read(&path).map_err(|source| failed(EngineError::Read { path, source }))
        };
        let rank = rank_of(&directory).map_err(failed)?;
        let mut adapter = Vec::new();
        for (place, name) in (0..WHOLE).zip(FILES) {
            adapter.push((place, read(name)?));
        }
        let whole = needs_whole.then(|| merged_weights(model_directory, &directory));
        let (prompts, texts) = match std::fs::read_to_string(directory.join(ADAPTER_TEXT_FILE)) {
            Ok(text) => from_text(part, &text, (study, task))?,
            Err(_) => {
                let seeds = prompt_seeds.get(..size(study.prompts));
                let seeds = seeds.unwrap_or(prompt_seeds);
                (part.prompts(seeds, study.prompt_tokens)?, Vec::new())
            }
        };
        Ok(Parcel {
            adapter,
            adapter_parameters: part.parameters(Some(rank)),
            whole_parameters: part.parameters(None),
            whole: whole.transpose().map_err(failed)?,
            prompts,
            texts,
        })
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
