//! The node that asks: every query in every way at every setting.

use std::sync::mpsc::{Receiver, Sender};

use crate::clock;
use crate::job::JobCommand;
use crate::serve::connection::token_bytes;
use crate::serve::error::JobError;
use crate::serve::signal::Signal;
use crate::serve::study::conductor::{Conductor, Setting};
use crate::serve::study::link::Path;
use crate::serve::study::{books, grid, models};
use crate::study::retrieval::{FOUND_WORDS, Library, Retrieval, RetrievalCosts, RetrievalRecord};
use crate::study::{Arm, StudyFinding, StudyJobSpec, StudySpec, TrialRecord};
use crate::wire::FrameKind;

/// Bytes of the stage's account of its costs.
const MOST_COST_BYTES: u64 = 1 << 16;

/// A query, and the chunk that it was taken from.
struct Query {
    tokens: Vec<u32>,
    origin: u32,
}

struct Driver<'a> {
    study: &'a StudySpec,
    chunks: Vec<Vec<u32>>,
    queries: Vec<Query>,
    /// Length of the longest sequence without its answer.
    longest: u32,
    conductor: Conductor<'a>,
}

fn size(value: u32) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// A query from a seed: some tokens of a chunk. Of the chunks the first are asked about the most often, as
/// the square of an even draw has it.
fn query(chunks: &[Vec<u32>], seed: u64, tokens: u32) -> Query {
    let draw = u128::from(seed >> 32);
    let count = u128::try_from(chunks.len()).unwrap_or(1);
    let origin = usize::try_from((draw * draw * count) >> 64).unwrap_or(0);
    let chunk = chunks.get(origin).map_or(&[][..], Vec::as_slice);
    let starts = chunk.len().saturating_sub(size(tokens)) + 1;
    let start = usize::try_from(seed & 0xffff_ffff).unwrap_or(0) % starts;
    let tokens = chunk.iter().skip(start).take(size(tokens));
    Query {
        tokens: tokens.copied().collect(),
        origin: u32::try_from(origin).unwrap_or(u32::MAX),
    }
}

/// Plays a study to its end.
pub(in crate::serve::study) fn drive(
    spec: &StudyJobSpec,
    (study, prompt_seeds): (&StudySpec, &[u64]),
    path: &Path,
    told: (&Sender<Signal>, &Receiver<JobCommand>),
) -> Result<(), JobError> {
    // Nothing of the model is held here; its tokenizer writes the documents.
    let model = models::large_by_name(spec)?;
    let wrong = |why: String| JobError::Spec { why };
    study.check(model.all_layers()).map_err(wrong)?;
    let library = study.library();
    let library = library.ok_or_else(|| wrong("nothing is to be retrieved".to_owned()))?;
    let Library {
        documents,
        chunk_tokens,
        ..
    } = library;
    let of_arm = |arm: &Arm| match arm {
        Arm::Retrieval(retrieval) => Some(retrieval.sequence_tokens(study.prompt_tokens)),
        _ => None,
    };
    let longest = study.arms.iter().filter_map(of_arm).max().unwrap_or(0);
    model
        .check_length(longest, study.output_tokens)
        .map_err(wrong)?;
    let first = prompt_seeds.first().copied().unwrap_or_default();
    let text = model.passage(first, documents.saturating_mul(chunk_tokens))?;
    let chunks: Vec<Vec<u32>> = text
        .chunks_exact(size(chunk_tokens).max(1))
        .map(<[u32]>::to_vec)
        .collect();
    let queries = prompt_seeds
        .iter()
        .map(|seed| query(&chunks, *seed, study.prompt_tokens))
        .collect();
    let needed = model.terms(0..model.all_layers())?;
    let loaded = (0, model.engine_path());
    let needed = (&needed, study.timeout_ns);
    let Some(conductor) = Conductor::connect(path, needed, loaded, told)? else {
        return Ok(());
    };
    let mut driver = Driver {
        study,
        chunks,
        queries,
        longest,
        conductor,
    };
    driver.run()?;
    driver.conductor.end();
    Ok(())
}

impl Driver<'_> {
    fn run(&mut self) -> Result<(), JobError> {
        let mut first = true;
        for round_trip_ns in self.study.grid.round_trips_ns.clone() {
            let echo = self.conductor.echo(round_trip_ns)?;
            if first {
                self.deposit()?;
                first = false;
            }
            let row = grid::row(&self.study.grid, round_trip_ns, echo, None);
            let rates_bps = row.rates_bps.clone();
            self.conductor.find(StudyFinding::Row(row));
            for rate_bps in rates_bps {
                let setting = Setting {
                    round_trip_ns,
                    rate_bps,
                };
                self.conductor.set_links(setting)?;
                self.measure()?;
                for prompt in 0..self.study.prompts {
                    for arm in &self.study.arms {
                        self.try_one(arm, setting, prompt)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Gives the stage the documents, and waits for their index.
    fn deposit(&mut self) -> Result<(), JobError> {
        let link = self.conductor.link()?;
        for (number, chunk) in (0..).zip(&self.chunks) {
            link.write((FrameKind::Deposit, number), 0, &token_bytes(chunk))?;
        }
        link.write((FrameKind::Index, 0), 0, &[])?;
        link.read(&[FrameKind::Index], 0).map(drop)
    }

    /// What computing a prompt costs the stage.
    fn measure(&mut self) -> Result<(), JobError> {
        let longest = self.longest;
        let link = self.conductor.link()?;
        link.write((FrameKind::Measure, 0), longest, &[])?;
        let frame = link.read(&[FrameKind::Costs], MOST_COST_BYTES)?;
        let costs: Result<RetrievalCosts, _> = serde_json::from_slice(&frame.body);
        let costs =
            costs.map_err(|error| link.wrong(&frame, &format!("it holds no costs: {error}")))?;
        self.conductor.find(StudyFinding::Retrieval(costs));
        Ok(())
    }

    fn try_one(&mut self, arm: &Arm, setting: Setting, prompt: u32) -> Result<(), JobError> {
        let (Arm::Retrieval(retrieval), Some(query)) = (arm, self.queries.get(size(prompt))) else {
            return Err(JobError::Spec {
                why: format!("{} retrieves nothing", arm.name()),
            });
        };
        let words = [
            retrieval.chunks,
            retrieval.probes.unwrap_or(0),
            u32::from(retrieval.keeps),
            self.study.output_tokens,
        ];
        let words: Vec<u32> = words.iter().chain(&query.tokens).copied().collect();
        let origin = query.origin;
        let group = self.conductor.next_group();
        let mut trial = self.conductor.next_trial(arm, setting, (group, prompt));
        let offset = self.conductor.offset();
        let link = self.conductor.link()?;
        let id = trial.number;
        link.write((FrameKind::Retrieve, id), 0, &token_bytes(&words))?;
        for place in 0..self.study.output_tokens {
            let frame = link.read(&[FrameKind::Token], 4)?;
            let at = offset(clock::now());
            let ours = (frame.header.request, frame.header.position) == (id, place);
            match frame.token_ids().filter(|_| ours).as_deref() {
                Some([token]) => trial.tokens.push(*token),
                _ => return Err(link.wrong(&frame, "another token is expected")),
            }
            trial.token_ns.push(at);
        }
        self.take_found(&mut trial, retrieval, origin)?;
        books::close(self.conductor.link()?, &mut trial)?;
        self.conductor.find(StudyFinding::Trial(trial));
        Ok(())
    }

    fn take_found(
        &mut self,
        trial: &mut TrialRecord,
        retrieval: &Retrieval,
        origin: u32,
    ) -> Result<(), JobError> {
        let most_bytes = 4 * (FOUND_WORDS + 2 * u64::from(retrieval.chunks));
        let link = self.conductor.link()?;
        let frame = link.read(&[FrameKind::Retrieved], most_bytes)?;
        let words = frame.token_ids().unwrap_or_default();
        let ours = frame.header.request == trial.number;
        let record = match words.as_slice() {
            [reused, computed, low, high, count, names @ ..] if ours => names
                .split_at_checked(size(*count))
                .map(|(found, exact)| RetrievalRecord {
                    found: found.to_vec(),
                    exact: exact.to_vec(),
                    origin,
                    reused: *reused,
                    computed: *computed,
                    prefill_ns: u64::from(*high) << 32 | u64::from(*low),
                }),
            _ => None,
        };
        let record = record.ok_or_else(|| link.wrong(&frame, "it names no chunks"))?;
        trial.retrieval = Some(Box::new(record));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_parts_of_chunks_and_the_first_chunks_are_asked_about_more() {
        let chunks: Vec<Vec<u32>> = (0..10)
            .map(|chunk| (0..16).map(|token| chunk * 100 + token).collect())
            .collect();
        let mut origins = [0; 10];
        for draw in 0..200_u64 {
            let seed = draw.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let query = query(&chunks, seed, 6);
            assert_eq!(query.tokens.len(), 6);
            assert_eq!(query.tokens[0] / 100, query.origin);
            assert_eq!(query.tokens[5], query.tokens[0] + 5);
            origins[size(query.origin)] += 1;
        }
        assert!(origins[0] > 2 * origins[9] && origins[9] > 0, "{origins:?}");
        assert!(query(&[], 7, 6).tokens.is_empty());
    }
}
