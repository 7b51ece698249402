//! The driver of early exits: the device goes on alone as long as the exit after its last layer is sure
//! enough of the next token. Else it sends the states of that token, and of all before it that the edge has
//! not seen, so that the edge's key-value cache is whole; the edge finishes with the stage of a split.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use super::conductor::{Conductor, Setting};
use super::link::Path;
use super::own::{self, Device};
use super::{books, costs, models};
use crate::clock;
use crate::engine::exit::Exit;
use crate::engine::{Hidden, KeyValueCache};
use crate::job::JobCommand;
use crate::serve::connection::token_bytes;
use crate::serve::error::JobError;
use crate::serve::part::Part;
use crate::serve::signal::Signal;
use crate::study::own::{Decision, Maker, Threshold, ppm};
use crate::study::{Arm, HopBytes, NodeCosts, StudyJobSpec, StudySpec, TrialRecord};
use crate::wire::FrameKind;

struct Driver<'a> {
    part: Part,
    /// By the layer that each follows.
    exits: BTreeMap<u32, Exit>,
    study: &'a StudySpec,
    prompts: Vec<Vec<u32>>,
    conductor: Conductor<'a>,
}

/// A request under way.
struct Request {
    record: TrialRecord,
    cut: u32,
    threshold: Threshold,
    cache: KeyValueCache,
    /// States that the edge has not seen, and how many it has.
    unseen: Vec<u8>,
    seen: u32,
    opened: bool,
    /// The edge has not answered in time: the rest is the device's.
    alone: bool,
}

/// Plays a study of early exits to its end.
pub(super) fn play(
    spec: &StudyJobSpec,
    (study, prompt_seeds): (&StudySpec, &[u64]),
    path: &Path,
    told: (&Sender<Signal>, &Receiver<JobCommand>),
) -> Result<(), JobError> {
    let part = models::layers_at(spec, study, 0)?;
    part.check_length(study.prompt_tokens, study.output_tokens)
        .map_err(|why| JobError::Spec { why })?;
    let prompts = part.prompts(prompt_seeds, study.prompt_tokens)?;
    let mut exits = BTreeMap::new();
    for arm in &study.arms {
        if let Arm::EarlyExit { cut, threshold } = arm
            && *threshold != Threshold::REMOTE
            && *cut < part.all_layers()
            && !exits.contains_key(cut)
        {
            exits.insert(*cut, part.exit(*cut)?);
        }
    }
    let (layers, _) = study.layers_of(1, part.all_layers());
    let needed = part.terms(layers)?;
    let of_exits: u64 = exits.values().map(Exit::weight_bytes).sum();
    let loaded = (part.weight_bytes() + of_exits, part.engine_path());
    own::connect_and_play(path, (&needed, study), loaded, told, |conductor| Driver {
        part,
        exits,
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
        let few = 0..1.min(self.part.layers().end);
        costs::measure(&self.part, few, true, position)
    }

    fn answer(
        &mut self,
        arm: &Arm,
        setting: Setting,
        prompt: u32,
    ) -> Result<TrialRecord, JobError> {
        let Arm::EarlyExit { cut, threshold } = *arm else {
            return Err(JobError::Spec {
                why: format!("{} is no early exit", arm.name()),
            });
        };
        let group = self.conductor.next_group();
        let mut request = Request {
            record: self.conductor.next_trial(arm, setting, (group, prompt)),
            cut,
            threshold,
            cache: self.part.new_cache_of(0..cut),
            unseen: Vec::new(),
            seen: 0,
            opened: false,
            alone: false,
        };
        let index = usize::try_from(prompt).unwrap_or(usize::MAX);
        let mut input = self.prompts.get(index).cloned().unwrap_or_default();
        for _ in 0..self.study.output_tokens {
            let token = self.next(&mut request, &input)?;
            request.record.tokens.push(token);
            let now = self.conductor.offset()(clock::now());
            request.record.token_ns.push(now);
            input = vec![token];
        }
        self.close(&mut request)?;
        Ok(request.record)
    }
}

impl Driver<'_> {
    /// The next token, the device's or the edge's.
    fn next(&mut self, request: &mut Request, input: &[u32]) -> Result<u32, JobError> {
        let began = clock::now();
        let layers = 0..request.cut;
        let states = self
            .part
            .carry_tokens_through(layers, input, &mut request.cache)?;
        let own = self.own_choice(request, &states)?;
        let computed = clock::now().saturating_sub(began);
        if let Some(busy) = request.record.busy_ns.first_mut() {
            *busy += computed;
        }
        let confidence_ppm = own.map(|(_, confidence_ppm)| confidence_ppm);
        let sure = |(token, confidence_ppm): (u32, u32)| {
            request.threshold.keeps(confidence_ppm).then_some(token)
        };
        // With all layers there is nobody to ask.
        let whole = request.cut == self.part.all_layers();
        let kept = own.and_then(|own| if whole { Some(own.0) } else { sure(own) });
        request
            .unseen
            .extend_from_slice(&self.part.bytes_of(&states)?);
        let (token, maker) = match (kept, own) {
            (Some(token), _) => (token, Maker::Device),
            (None, Some((token, _))) if request.alone => (token, Maker::Alone),
            (None, Some((token, _))) => {
                self.ask(request)?;
                let patience = Duration::from_nanos(self.study.patience_ns);
                if self.conductor.link()?.comes_within(patience)? {
                    (self.answer_of(request)?, Maker::Edge)
                } else {
                    request.alone = true;
                    (token, Maker::Fallback)
                }
            }
            // Without a token of its own the device waits for as long as it takes.
            (None, None) => {
                self.ask(request)?;
                (self.answer_of(request)?, Maker::Edge)
            }
        };
        request.record.decisions.push(Decision {
            maker,
            confidence_ppm,
        });
        Ok(token)
    }

    /// What the exit says, and how sure it is; `None` where the edge is always asked.
    fn own_choice(
        &self,
        request: &Request,
        states: &Hidden,
    ) -> Result<Option<(u32, u32)>, JobError> {
        let choice = match self.exits.get(&request.cut) {
            _ if request.cut == self.part.all_layers() => self.part.choose(states)?,
            Some(exit) if request.threshold != Threshold::REMOTE => {
                self.part.choose_at(exit, states)?
            }
            _ => return Ok(None),
        };
        Ok(Some((choice.token, ppm(choice.probability))))
    }

    /// Asks the edge for the next token, and sends what it has not seen.
    fn ask(&mut self, request: &mut Request) -> Result<(), JobError> {
        let id = request.record.number;
        let all = self.part.all_layers();
        let link = self.conductor.link()?;
        if !request.opened {
            // The first layer of the edge, how states are coded, and where it ends.
            let opening = [request.cut, 0, all];
            link.write((FrameKind::Begin, id), 0, &token_bytes(&opening))?;
            request.opened = true;
        }
        link.write((FrameKind::Hidden, id), request.seen, &request.unseen)?;
        request.unseen.clear();
        request.seen = request.cache.positions();
        Ok(())
    }

    /// What the edge answers. Nothing else is on its way: whoever was not waited for is asked nothing
    /// more.
    fn answer_of(&mut self, request: &Request) -> Result<u32, JobError> {
        let link = self.conductor.link()?;
        let frame = link.read(&[FrameKind::Token], 4)?;
        let header = frame.header;
        let next = (header.request, header.position) == (request.record.number, request.seen);
        match frame.token_ids().as_deref() {
            Some([token]) if next => Ok(*token),
            _ => Err(link.wrong(&frame, "another token is expected")),
        }
    }

    /// Closes the books of a request that the edge knows of.
    fn close(&mut self, request: &mut Request) -> Result<(), JobError> {
        let record = &mut request.record;
        if !request.opened {
            record.hops.push(HopBytes::default());
            record.busy_ns.push(0);
            return Ok(());
        }
        books::close(self.conductor.link()?, record)
    }
}
