//! The driver of what leaks: it sends the states of each prompt after each layer, and counts what the edge reads from
//! them.

use std::sync::mpsc::{Receiver, Sender};

use super::conductor::Conductor;
use super::link::Path;
use super::{books, models};
use crate::clock;
use crate::job::JobCommand;
use crate::serve::connection::token_bytes;
use crate::serve::error::JobError;
use crate::serve::part::Part;
use crate::serve::signal::Signal;
use crate::study::leak::{LeakRecord, Leaking};
use crate::study::{Arm, StudyFinding, StudyJobSpec, StudySpec, TrialRecord};
use crate::wire::FrameKind;

/// Plays a study of what leaks to its end.
pub(super) fn play(
    spec: &StudyJobSpec,
    (study, prompt_seeds): (&StudySpec, &[u64]),
    path: &Path,
    told: (&Sender<Signal>, &Receiver<JobCommand>),
) -> Result<(), JobError> {
    let part = models::layers_at(spec, study, 0)?;
    part.check_length(study.prompt_tokens, 1)
        .map_err(|why| JobError::Spec { why })?;
    let prompts = part.prompts(prompt_seeds, study.prompt_tokens)?;
    let (layers, _) = study.layers_of(1, part.all_layers());
    let needed = part.terms(layers)?;
    let loaded = (part.weight_bytes(), part.engine_path());
    let needed = (&needed, study.timeout_ns);
    let Some(mut conductor) = Conductor::connect(path, needed, loaded, told)? else {
        return Ok(());
    };
    conductor.try_everything(study, |conductor, arm, setting, prompt| {
        let index = usize::try_from(prompt).unwrap_or(usize::MAX);
        let tokens = prompts.get(index).map_or(&[][..], Vec::as_slice);
        let Arm::Leaking(leaking) = arm else {
            return Err(JobError::Spec {
                why: format!("{} sends nothing to guess from", arm.name()),
            });
        };
        let group = conductor.next_group();
        let mut record = conductor.next_trial(arm, setting, (group, prompt));
        let leak = send((&part, &mut *conductor), *leaking, tokens, &mut record)?;
        conductor.find(StudyFinding::Leak(leak));
        Ok(record)
    })?;
    conductor.end();
    Ok(())
}

/// Sends the states of a prompt, and compares what comes back with its tokens.
fn send(
    (part, conductor): (&Part, &mut Conductor<'_>),
    of: Leaking,
    tokens: &[u32],
    record: &mut TrialRecord,
) -> Result<LeakRecord, JobError> {
    let offset = conductor.offset();
    let began = clock::now();
    let mut cache = part.new_cache_of(0..of.layer);
    let states = part.carry_tokens_through(0..of.layer, tokens, &mut cache)?;
    let states = part.encode(&mut part.state_coder(of.coding)?, &states)?;
    record.busy_ns = vec![clock::now().saturating_sub(began)];
    let mut body = token_bytes(&[of.coding.number()]);
    body.extend_from_slice(&states);
    let id = record.number;
    let link = conductor.link()?;
    link.write((FrameKind::Guess, id), of.layer, &body)?;
    let count = u64::try_from(tokens.len()).unwrap_or(u64::MAX);
    let frame = link.read(&[FrameKind::Guess], count.saturating_mul(8))?;
    record.token_ns.push(offset(clock::now()));
    let guesses = frame.token_ids().filter(|_| frame.header.request == id);
    let guesses = guesses.filter(|guesses| guesses.len() == 2 * tokens.len());
    let guesses =
        guesses.ok_or_else(|| link.wrong(&frame, "two guesses of each token are expected"))?;
    let (nearest, probe) = guesses.split_at(tokens.len());
    let right = |guesses: &[u32]| {
        let pairs = guesses.iter().zip(tokens);
        let right = pairs.filter(|(guess, token)| guess == token).count();
        u32::try_from(right).unwrap_or(u32::MAX)
    };
    let leak = LeakRecord {
        of,
        prompt: record.prompt,
        tokens: u32::try_from(tokens.len()).unwrap_or(u32::MAX),
        nearest: right(nearest),
        probe: right(probe),
    };
    record.tokens = guesses;
    books::close(link, record)?;
    Ok(leak)
}
