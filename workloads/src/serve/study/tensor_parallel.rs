//! The driver of tensor-parallel pairs: half of every layer is here, the other half on the next node, and both
//! exchange what they add to the states, twice in each layer. Two-way splits and either node alone are tried beside.

use std::sync::mpsc::{Receiver, Sender};

use super::conductor::{Conductor, Setting};
use super::link::Path;
use super::own::{self, Device};
use super::placement::{self, Asked};
use super::{books, costs, models};
use crate::clock;
use crate::coding::Coding;
use crate::job::JobCommand;
use crate::serve::connection::token_bytes;
use crate::serve::error::JobError;
use crate::serve::part::{Part, Step};
use crate::serve::signal::Signal;
use crate::study::placement::Placement;
use crate::study::tensor_parallel::HalvesRecord;
use crate::study::{Arm, HopBytes, NodeCosts, StudyFinding, StudyJobSpec, StudySpec, TrialRecord};
use crate::wire::FrameKind;

struct Driver<'a> {
    whole: Part,
    half: Part,
    study: &'a StudySpec,
    prompts: Vec<Vec<u32>>,
    conductor: Conductor<'a>,
}

/// Plays a study of tensor-parallel pairs to its end.
pub(super) fn play(
    spec: &StudyJobSpec,
    (study, prompt_seeds): (&StudySpec, &[u64]),
    path: &Path,
    told: (&Sender<Signal>, &Receiver<JobCommand>),
) -> Result<(), JobError> {
    let whole = models::layers_at(spec, study, 0)?;
    let half = models::half(spec, 0)?;
    whole
        .check_length(study.prompt_tokens, study.output_tokens)
        .map_err(|why| JobError::Spec { why })?;
    let prompts = whole.prompts(prompt_seeds, study.prompt_tokens)?;
    let needed = whole.terms(0..whole.all_layers())?;
    let loaded = (
        whole.weight_bytes() + half.weight_bytes(),
        whole.engine_path(),
    );
    own::connect_and_play(path, (&needed, study), loaded, told, |conductor| Driver {
        whole,
        half,
        study,
        prompts,
        conductor,
    })
}

impl<'a> Device<'a> for Driver<'a> {
    fn conductor(&mut self) -> &mut Conductor<'a> {
        &mut self.conductor
    }

    fn costs(&self, position: u32) -> Result<NodeCosts, JobError> {
        costs::measure(&self.whole, 0..1, true, position)
    }

    fn further_costs(&mut self, position: u32) -> Result<(), JobError> {
        let own = costs::measure_halves(&self.half, position)?;
        let other = self.conductor.half_costs(position)?;
        self.conductor.find(StudyFinding::Halves(vec![own, other]));
        Ok(())
    }

    fn answer(
        &mut self,
        arm: &Arm,
        setting: Setting,
        prompt: u32,
    ) -> Result<TrialRecord, JobError> {
        let group = self.conductor.next_group();
        let index = usize::try_from(prompt).unwrap_or(usize::MAX);
        let tokens = self.prompts.get(index).cloned().unwrap_or_default();
        let mut record = self.conductor.next_trial(arm, setting, (group, prompt));
        match arm {
            Arm::TensorParallel(halves) => self.share(&mut record, tokens, halves.coding)?,
            Arm::Placed(placement) => self.ask(&mut record, &tokens, placement)?,
            _ => self.split(&mut record, tokens)?,
        }
        Ok(record)
    }
}

impl Driver<'_> {
    /// Answers with a half of every layer here.
    fn share(
        &mut self,
        record: &mut TrialRecord,
        mut input: Vec<u32>,
        coding: Coding,
    ) -> Result<(), JobError> {
        let id = record.number;
        let offset = self.conductor.offset();
        let mut request = self.half.half_request(coding)?;
        let mut ties = Vec::new();
        let link = self.conductor.link()?;
        for place in 0..self.study.output_tokens {
            let words: Vec<u32> = [coding.number()]
                .into_iter()
                .chain(input.iter().copied())
                .collect();
            // First, so that the other node begins while this one computes.
            let tokens = (FrameKind::Tokens, id);
            link.write(tokens, request.positions(), &token_bytes(&words))?;
            let mut step = self.half.begin_halves(&mut request, &input)?;
            let states = loop {
                match step {
                    Step::Through(states) => break states,
                    Step::Part(sum, part) => {
                        let frame = link.exchange((FrameKind::Partial, id), sum, &part)?;
                        if (frame.header.request, frame.header.position) != (id, sum) {
                            return Err(link.wrong(&frame, "another part of a sum is expected"));
                        }
                        let added = self.half.add_half(&mut request, &frame.body);
                        step = added.map_err(|why| link.wrong(&frame, &why))?;
                    }
                }
            };
            let began = clock::now();
            let (token, is_tie) = self.half.next_token_or_tie(&states)?;
            let now = clock::now();
            note(record, token, offset(now));
            computed(record, now.saturating_sub(began));
            if is_tie {
                ties.push(place);
            }
            input = vec![token];
        }
        computed(record, request.take_busy_ns());
        record.halves = Some(Box::new(HalvesRecord { ties }));
        books::close(link, record)
    }

    /// Has one of the nodes answer with the whole model.
    fn ask(
        &mut self,
        record: &mut TrialRecord,
        prompt: &[u32],
        placement: &Placement,
    ) -> Result<(), JobError> {
        let asked = Asked {
            place: placement.place,
            weights: placement.weights,
            prompt,
            output: self.study.output_tokens,
        };
        if asked.place > 0 {
            return placement::ask_further(&mut self.conductor, record, asked).map(drop);
        }
        placement::answer(&self.whole, record, asked, self.conductor.offset())?;
        // The other node had nothing to do with it.
        record.busy_ns.push(0);
        record.hops.push(HopBytes::default());
        Ok(())
    }

    /// Answers with the first layers here and the others on the next node.
    fn split(&mut self, record: &mut TrialRecord, mut input: Vec<u32>) -> Result<(), JobError> {
        let (id, first) = (record.number, record.arm.first_cut());
        let offset = self.conductor.offset();
        let mut cache = self.whole.new_cache_of(0..first);
        let mut coder = self.whole.state_coder(record.arm.coding())?;
        let words = [first, record.arm.coding().number(), self.whole.all_layers()];
        let link = self.conductor.link()?;
        link.write((FrameKind::Begin, id), 0, &token_bytes(&words))?;
        for _ in 0..self.study.output_tokens {
            let position = cache.positions();
            let began = clock::now();
            let states = self
                .whole
                .carry_tokens_through(0..first, &input, &mut cache)?;
            let states = self.whole.encode(&mut coder, &states)?;
            computed(record, clock::now().saturating_sub(began));
            link.write((FrameKind::Hidden, id), position, &states)?;
            let frame = link.read(&[FrameKind::Token], 4)?;
            let at = clock::now();
            match frame.token_ids().as_deref() {
                Some([token]) if frame.header.request == id => input = vec![*token],
                _ => return Err(link.wrong(&frame, "another token is expected")),
            }
            record.tokens.extend(&input);
            record.token_ns.push(offset(at));
        }
        books::close(link, record)
    }
}

fn note(record: &mut TrialRecord, token: u32, at_ns: u64) {
    record.tokens.push(token);
    record.token_ns.push(at_ns);
}

fn computed(record: &mut TrialRecord, busy_ns: u64) {
    if let Some(own) = record.busy_ns.first_mut() {
        *own += busy_ns;
    }
}
