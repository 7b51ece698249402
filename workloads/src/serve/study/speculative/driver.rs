//! The node that drafts: tries every arm at every setting, and keeps the records.

use std::sync::mpsc::{Receiver, Sender};

use super::body::{Opening, Task, encode_draft};
use super::drafter::Drafter;
use super::terms;
use super::verifier::Verdict;
use crate::clock;
use crate::job::JobCommand;
use crate::serve::error::JobError;
use crate::serve::part::Part;
use crate::serve::signal::Signal;
use crate::serve::study::books::{self, ENTRY_BYTES};
use crate::serve::study::conductor::{Conductor, Setting};
use crate::serve::study::link::Path;
use crate::serve::study::{costs, grid, models};
use crate::study::speculative::sampling::Chance;
use crate::study::speculative::{AcceptanceRecord, Drawing, Speculation, VERDICT_BYTES};
use crate::study::{Arm, StudyFinding, StudyJobSpec, StudySpec, TrialRecord};
use crate::wire::FrameKind;

struct Driver<'a> {
    small: Part,
    study: &'a StudySpec,
    /// Prompts with what their draws follow from; those that no trial asks at the end.
    prompts: Vec<(u64, Vec<u32>)>,
    conductor: Conductor<'a>,
    settings: u64,
}

/// Plays a study to its end.
pub(in crate::serve::study) fn drive(
    spec: &StudyJobSpec,
    (study, prompt_seeds): (&StudySpec, &[u64]),
    path: &Path,
    told: (&Sender<Signal>, &Receiver<JobCommand>),
) -> Result<(), JobError> {
    let small = models::small(spec)?;
    let large = models::large_by_name(spec)?;
    study
        .check(large.all_layers())
        .and_then(|()| small.check_length(study.prompt_tokens, study.output_tokens))
        .map_err(|why| JobError::Spec { why })?;
    let prompt = |seed: &u64| Ok((*seed, small.prompt(*seed, study.prompt_tokens)?));
    let prompts = prompt_seeds.iter().map(prompt);
    let prompts = prompts.collect::<Result<Vec<_>, JobError>>()?;
    let needed = terms(&large, &small)?;
    let loaded = (small.weight_bytes(), small.engine_path());
    let needed = (&needed, study.timeout_ns);
    let Some(conductor) = Conductor::connect(path, needed, loaded, told)? else {
        return Ok(());
    };
    let mut driver = Driver {
        small,
        study,
        prompts,
        conductor,
        settings: 0,
    };
    driver.run()?;
    driver.conductor.end();
    Ok(())
}

impl Driver<'_> {
    fn run(&mut self) -> Result<(), JobError> {
        self.costs()?;
        self.acceptance()?;
        for round_trip_ns in self.study.grid.round_trips_ns.clone() {
            let echo = self.conductor.echo(round_trip_ns)?;
            let row = grid::row(&self.study.grid, round_trip_ns, echo, None);
            let rates_bps = row.rates_bps.clone();
            self.conductor.find(StudyFinding::Row(row));
            for rate_bps in rates_bps {
                let setting = Setting {
                    round_trip_ns,
                    rate_bps,
                };
                self.conductor.set_links(setting)?;
                self.settings += 1;
                self.try_all(setting)?;
            }
        }
        self.settings += 1;
        for turn in self.study.turns() {
            let (arm, prompt) = (turn.arm.clone(), turn.prompt);
            self.conductor.take_turn(turn)?;
            self.try_one(&arm, Setting::TRACED, prompt)?;
        }
        Ok(())
    }

    /// What computing costs with the small model here and with the large one on the stage.
    fn costs(&mut self) -> Result<(), JobError> {
        let position = self.study.prompt_tokens + self.study.output_tokens / 2;
        let mut all = vec![costs::measure(&self.small, 0..1, true, position)?];
        all.extend(self.conductor.costs_of_stages(position)?);
        self.conductor.find(StudyFinding::Costs(all));
        Ok(())
    }

    /// How likely drafts are accepted on prompts that no trial asks.
    fn acceptance(&mut self) -> Result<(), JobError> {
        let first = usize::try_from(self.study.prompts).unwrap_or(usize::MAX);
        let held_out = self.prompts.get(first..).unwrap_or_default().to_vec();
        let mut drawings: Vec<Drawing> = self.study.arms.iter().map(Arm::drawing).collect();
        drawings.sort_unstable();
        drawings.dedup();
        let most_bytes = 4 * u64::from(self.study.output_tokens);
        for (id, (seed, prompt)) in (0..).zip(&held_out) {
            for drawing in &drawings {
                let opening = Opening {
                    drawing: *drawing,
                    task: Task::Overlap,
                    output: self.study.output_tokens,
                    seed: *seed,
                };
                let link = self.conductor.link()?;
                let position = self.study.prompt_tokens;
                link.write((FrameKind::Open, id), position, &opening.encode(prompt))?;
                let frame = link.read(&[FrameKind::Overlap], most_bytes)?;
                let overlap = frame
                    .token_ids()
                    .filter(|values| u32::try_from(values.len()) == Ok(self.study.output_tokens));
                let overlap_ppm =
                    overlap.ok_or_else(|| link.wrong(&frame, "it is not of every token"))?;
                link.write((FrameKind::End, id), 0, &[])?;
                link.read(&[FrameKind::Books], most_books())?;
                self.conductor
                    .find(StudyFinding::Acceptance(AcceptanceRecord {
                        drawing: *drawing,
                        overlap_ppm,
                    }));
            }
        }
        Ok(())
    }

    /// Every prompt with every arm: arms take turns, so that what drifts meets all of them.
    fn try_all(&mut self, setting: Setting) -> Result<(), JobError> {
        for prompt in 0..self.study.prompts {
            for arm in &self.study.arms {
                self.try_one(arm, setting, prompt)?;
            }
        }
        Ok(())
    }

    fn try_one(&mut self, arm: &Arm, setting: Setting, number: u32) -> Result<(), JobError> {
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        let (seed, prompt) = self.prompts.get(index).cloned().unwrap_or_default();
        let group = self.conductor.next_group();
        let mut trial = self.conductor.next_trial(arm, setting, (group, number));
        let task = match arm {
            Arm::Speculative(speculation) => Task::Verify(speculation.crossing),
            _ => Task::Answer,
        };
        let opening = Opening {
            drawing: arm.drawing(),
            task,
            output: self.study.output_tokens,
            // Other draws at every setting, the same with every arm.
            seed: seed.wrapping_add(self.settings << 32),
        };
        let (id, position) = (trial.number, self.study.prompt_tokens);
        let body = opening.encode(&prompt);
        let link = self.conductor.link()?;
        link.write((FrameKind::Open, id), position, &body)?;
        match arm {
            Arm::Speculative(speculation) => {
                let chance = Chance::new(opening.seed);
                self.speculate(&mut trial, (speculation, chance), &prompt)?;
            }
            _ => self.take_answer(&mut trial)?,
        }
        let link = self.conductor.link()?;
        link.write((FrameKind::End, id), 0, &[])?;
        let frame = link.read(&[FrameKind::Books], most_books())?;
        let entries = books::decode(&frame.body).filter(|entries| entries.len() == 1);
        let entries = entries.ok_or_else(|| link.wrong(&frame, "it is no account"))?;
        for entry in entries {
            trial.hops.push(entry.bytes);
            trial.busy_ns.push(entry.busy_ns);
        }
        self.conductor.find_trial(trial);
        Ok(())
    }

    /// Takes tokens as they stream back.
    fn take_answer(&mut self, trial: &mut TrialRecord) -> Result<(), JobError> {
        let offset = self.conductor.offset();
        for place in 0..self.study.output_tokens {
            let link = self.conductor.link()?;
            let frame = link.read(&[FrameKind::Token], 4)?;
            let at = clock::now();
            let expected = self.study.prompt_tokens + place;
            let ours = frame.header.request == trial.number && frame.header.position == expected;
            let [token] = frame.token_ids().filter(|_| ours).unwrap_or_default()[..] else {
                return Err(link.wrong(&frame, "another token is expected"));
            };
            trial.tokens.push(token);
            trial.token_ns.push(offset(at));
        }
        Ok(())
    }

    /// Answers by drafts, each of which crosses the link and is verified there.
    fn speculate(
        &mut self,
        trial: &mut TrialRecord,
        drawn: (&Speculation, Chance),
        prompt: &[u32],
    ) -> Result<(), JobError> {
        let offset = self.conductor.offset();
        let (number, crossing) = (trial.number, drawn.0.crossing);
        let drafter = Drafter::new(&self.small, prompt);
        let made = drafter.answer(self.study.output_tokens, drawn, |draft| {
            let body = encode_draft(&draft.tokens, crossing);
            if let Some(own) = trial.busy_ns.first_mut() {
                *own += clock::now().saturating_sub(draft.began_ns);
            }
            let link = self.conductor.link()?;
            link.write((FrameKind::Draft, number), draft.position, &body)?;
            let frame = link.read(&[FrameKind::Verdict], VERDICT_BYTES)?;
            let at = clock::now();
            let (request, position) = (frame.header.request, frame.header.position);
            let ours = (request, position) == (number, draft.position);
            let (accepted, next) = match frame.token_ids().filter(|_| ours).as_deref() {
                Some([accepted, next]) if *accepted <= draft.length() => (*accepted, *next),
                _ => return Err(link.wrong(&frame, "it is no verdict on this draft")),
            };
            let moments = (0..=accepted).map(|_| offset(at));
            trial.token_ns.extend(moments);
            Ok(Verdict { accepted, next })
        });
        (trial.tokens, trial.rounds) = made?;
        Ok(())
    }
}

fn most_books() -> u64 {
    u64::try_from(ENTRY_BYTES).unwrap_or(u64::MAX)
}
