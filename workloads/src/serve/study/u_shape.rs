//! The driver of U-shaped splits: the first layers are here and the last ones too; the states between go to the
//! edge and come back. Two-way splits after the same layer are tried beside them.

use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender};

use super::conductor::{Conductor, Setting};
use super::link::Path;
use super::own::{self, Device};
use super::{books, costs, models};
use crate::clock;
use crate::coding::Coding;
use crate::engine::{KeyValueCache, StateCoder};
use crate::job::JobCommand;
use crate::serve::connection::token_bytes;
use crate::serve::error::JobError;
use crate::serve::part::Part;
use crate::serve::signal::Signal;
use crate::study::{Arm, NodeCosts, StudyJobSpec, StudySpec, TrialRecord};
use crate::wire::FrameKind;

struct Driver<'a> {
    front: Part,
    tail: Part,
    study: &'a StudySpec,
    prompts: Vec<Vec<u32>>,
    conductor: Conductor<'a>,
}

/// A request under way.
struct Request {
    record: TrialRecord,
    front: KeyValueCache,
    up: StateCoder,
    /// Of a U: the layers here behind the edge's.
    tail: Option<(Range<u32>, KeyValueCache, StateCoder)>,
}

/// Plays a study of U-shaped splits to its end.
pub(super) fn play(
    spec: &StudyJobSpec,
    (study, prompt_seeds): (&StudySpec, &[u64]),
    path: &Path,
    told: (&Sender<Signal>, &Receiver<JobCommand>),
) -> Result<(), JobError> {
    let front = models::layers_at(spec, study, 0)?;
    let tail = models::tail(spec, study)?;
    front
        .check_length(study.prompt_tokens, study.output_tokens)
        .map_err(|why| JobError::Spec { why })?;
    let prompts = front.prompts(prompt_seeds, study.prompt_tokens)?;
    let (layers, _) = study.layers_of(1, front.all_layers());
    let needed = front.terms(layers)?;
    let loaded = (
        front.weight_bytes() + tail.weight_bytes(),
        front.engine_path(),
    );
    own::connect_and_play(path, (&needed, study), loaded, told, |conductor| Driver {
        front,
        tail,
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
        let few = 0..1.min(self.front.layers().end);
        costs::measure(&self.front, few, false, position)
    }

    fn answer(
        &mut self,
        arm: &Arm,
        setting: Setting,
        prompt: u32,
    ) -> Result<TrialRecord, JobError> {
        let all = self.front.all_layers();
        let (first, end) = match arm {
            Arm::UShaped(shape) => (shape.first, shape.last),
            arm => (arm.first_cut(), all),
        };
        let group = self.conductor.next_group();
        let behind = end..all;
        let tail = match behind.is_empty() {
            true => None,
            false => Some((
                behind.clone(),
                self.tail.new_cache_of(behind),
                self.tail.state_coder(Coding::F32)?,
            )),
        };
        let mut request = Request {
            record: self.conductor.next_trial(arm, setting, (group, prompt)),
            front: self.front.new_cache_of(0..first),
            up: self.front.state_coder(Coding::F32)?,
            tail,
        };
        let index = usize::try_from(prompt).unwrap_or(usize::MAX);
        let mut input = self.prompts.get(index).cloned().unwrap_or_default();
        let words = token_bytes(&[first, Coding::F32.number(), end]);
        let begin = (FrameKind::Begin, request.record.number);
        self.conductor.link()?.write(begin, 0, &words)?;
        for _ in 0..self.study.output_tokens {
            self.send(&mut request, first, &input)?;
            let token = self.receive(&mut request)?;
            let offset = self.conductor.offset();
            request.record.tokens.push(token);
            request.record.token_ns.push(offset(clock::now()));
            input = vec![token];
        }
        books::close(self.conductor.link()?, &mut request.record)?;
        Ok(request.record)
    }
}

impl Driver<'_> {
    /// Carries tokens through the first layers and sends their states.
    fn send(&mut self, request: &mut Request, first: u32, tokens: &[u32]) -> Result<(), JobError> {
        let position = request.front.positions();
        let began = clock::now();
        let cache = &mut request.front;
        let states = self.front.carry_tokens_through(0..first, tokens, cache)?;
        let states = self.front.encode(&mut request.up, &states)?;
        computed(&mut request.record, began);
        let hidden = (FrameKind::Hidden, request.record.number);
        self.conductor.link()?.write(hidden, position, &states)
    }

    /// The next token: from the edge, or from what the last layers make of its states.
    fn receive(&mut self, request: &mut Request) -> Result<u32, JobError> {
        let most_bytes = u64::from(self.front.max_positions())
            .saturating_mul(Coding::F32.token_bytes(u64::from(self.front.width())));
        let id = request.record.number;
        let link = self.conductor.link()?;
        let Some((layers, cache, coder)) = &mut request.tail else {
            let frame = link.read(&[FrameKind::Token], 4)?;
            return match frame.token_ids().as_deref() {
                Some([token]) if frame.header.request == id => Ok(*token),
                _ => Err(link.wrong(&frame, "another token is expected")),
            };
        };
        let mut frame = link.read(&[FrameKind::Hidden], most_bytes)?;
        if frame.header.request != id || frame.header.position != cache.positions() {
            return Err(link.wrong(&frame, "other states are expected"));
        }
        let began = clock::now();
        let states = self
            .tail
            .decode_body(coder, std::mem::take(&mut frame.body));
        let states = states.map_err(|why| link.wrong(&frame, &why))?;
        let expected = request.front.positions();
        if cache.positions().checked_add(states.tokens()) != Some(expected) {
            return Err(link.wrong(&frame, "another number of states is expected"));
        }
        let tail = &self.tail;
        let states = tail.carry_hidden_through(layers.clone(), &states, cache)?;
        let (token, is_tie) = tail.next_token_and_tie(&states)?;
        computed(&mut request.record, began);
        if is_tie {
            request.record.tie_comes();
        }
        Ok(token)
    }
}

fn computed(record: &mut TrialRecord, began: clock::MonotonicNs) {
    if let Some(own) = record.busy_ns.first_mut() {
        *own += clock::now().saturating_sub(began);
    }
}
