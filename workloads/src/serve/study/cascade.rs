//! The driver of cascades: the small model on the device answers, and where its answer is not sure
//! enough the request is escalated to the large model on the edge, which answers from the prompt.

use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use super::conductor::{Conductor, Setting};
use super::link::Path;
use super::own::{self, Device};
use super::{books, costs, models};
use crate::clock;
use crate::job::JobCommand;
use crate::serve::connection::token_bytes;
use crate::serve::error::JobError;
use crate::serve::part::Part;
use crate::serve::signal::Signal;
use crate::study::own::{Decision, Maker, Rule, Threshold, ppm};
use crate::study::{Arm, HopBytes, NodeCosts, StudyJobSpec, StudySpec, TrialRecord};
use crate::wire::FrameKind;

struct Driver<'a> {
    small: Part,
    study: &'a StudySpec,
    prompts: Vec<Vec<u32>>,
    conductor: Conductor<'a>,
}

/// Tokens, and when each was there.
type Answer = (Vec<u32>, Vec<u64>);

/// The answer of the small model.
struct Own {
    tokens: Vec<u32>,
    token_ns: Vec<u64>,
    confidences_ppm: Vec<u32>,
}

/// Plays a study of cascades to its end.
pub(super) fn play(
    spec: &StudyJobSpec,
    (study, prompt_seeds): (&StudySpec, &[u64]),
    path: &Path,
    told: (&Sender<Signal>, &Receiver<JobCommand>),
) -> Result<(), JobError> {
    // Nothing of the large model is held here; what it is must be known to ask for it.
    let large = models::large_by_name(spec)?;
    let needed = large.terms(0..large.all_layers())?;
    let small = models::small(spec)?;
    for part in [&large, &small] {
        part.check_length(study.prompt_tokens, study.output_tokens)
            .map_err(|why| JobError::Spec { why })?;
    }
    let prompts = large.prompts(prompt_seeds, study.prompt_tokens)?;
    let loaded = (small.weight_bytes(), small.engine_path());
    own::connect_and_play(path, (&needed, study), loaded, told, |conductor| Driver {
        small,
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
        let few = 0..1.min(self.small.layers().end);
        costs::measure(&self.small, few, true, position)
    }

    fn answer(
        &mut self,
        arm: &Arm,
        setting: Setting,
        prompt: u32,
    ) -> Result<TrialRecord, JobError> {
        let Arm::Cascade { rule, threshold } = *arm else {
            return Err(JobError::Spec {
                why: format!("{} is no cascade", arm.name()),
            });
        };
        let group = self.conductor.next_group();
        let mut record = self.conductor.next_trial(arm, setting, (group, prompt));
        let index = usize::try_from(prompt).unwrap_or(usize::MAX);
        let input = self.prompts.get(index).cloned().unwrap_or_default();
        let own = match threshold {
            Threshold::REMOTE => None,
            _ => Some(self.own_answer(&mut record, &input)?),
        };
        let asked = own.as_ref().is_none_or(|own| !sure(own, rule, threshold));
        let answer = match asked {
            true => self.ask(&record, &input, own.is_some())?,
            false => None,
        };
        let maker = match (asked, answer.is_some()) {
            (false, _) => Maker::Device,
            (true, true) => Maker::Edge,
            (true, false) => Maker::Fallback,
        };
        let offset = self.conductor.offset();
        let confidences = own.as_ref().map(|own| own.confidences_ppm.clone());
        (record.tokens, record.token_ns) = match (answer, own) {
            (Some(answer), _) => answer,
            // Whoever keeps everything need not wait for the end to know that.
            (None, Some(own)) if threshold == Threshold::DEVICE => (own.tokens, own.token_ns),
            (None, Some(own)) => {
                let now = offset(clock::now());
                let times = vec![now; own.tokens.len()];
                (own.tokens, times)
            }
            (None, None) => (Vec::new(), Vec::new()),
        };
        record.decisions = (0..record.tokens.len())
            .map(|place| Decision {
                maker,
                confidence_ppm: confidences
                    .as_ref()
                    .and_then(|confidences| confidences.get(place).copied()),
            })
            .collect();
        self.close(&mut record, asked)?;
        Ok(record)
    }
}

impl Driver<'_> {
    /// The small model's answer, token by token.
    fn own_answer(&self, record: &mut TrialRecord, prompt: &[u32]) -> Result<Own, JobError> {
        let offset = self.conductor.offset();
        let mut cache = self.small.new_cache();
        let mut own = Own {
            tokens: Vec::new(),
            token_ns: Vec::new(),
            confidences_ppm: Vec::new(),
        };
        let mut input = prompt.to_vec();
        let began = clock::now();
        for _ in 0..self.study.output_tokens {
            let states = self.small.carry_tokens(&input, &mut cache)?;
            let choice = self.small.choose(&states)?;
            own.tokens.push(choice.token);
            own.token_ns.push(offset(clock::now()));
            own.confidences_ppm.push(ppm(choice.probability));
            input = vec![choice.token];
        }
        if let Some(busy) = record.busy_ns.first_mut() {
            *busy += clock::now().saturating_sub(began);
        }
        Ok(own)
    }

    /// The large model's answer and when each token of it came; `None` if one was late and there is an
    /// answer without it.
    fn ask(
        &mut self,
        record: &TrialRecord,
        prompt: &[u32],
        impatient: bool,
    ) -> Result<Option<Answer>, JobError> {
        let (id, output) = (record.number, self.study.output_tokens);
        let offset = self.conductor.offset();
        let patience = Duration::from_nanos(self.study.patience_ns);
        let link = self.conductor.link()?;
        link.write((FrameKind::Prompt, id), output, &token_bytes(prompt))?;
        let (mut tokens, mut times) = (Vec::new(), Vec::new());
        for _ in 0..output {
            if impatient && !link.comes_within(patience)? {
                return Ok(None);
            }
            let frame = link.read(&[FrameKind::Token], 4)?;
            match frame.token_ids().as_deref() {
                Some([token]) if frame.header.request == id => tokens.push(*token),
                _ => return Err(link.wrong(&frame, "another token is expected")),
            }
            times.push(offset(clock::now()));
        }
        Ok(Some((tokens, times)))
    }

    /// Closes the books of a request that the edge knows of.
    fn close(&mut self, record: &mut TrialRecord, asked: bool) -> Result<(), JobError> {
        if asked {
            return books::close(self.conductor.link()?, record);
        }
        record.hops.push(HopBytes::default());
        record.busy_ns.push(0);
        Ok(())
    }
}

fn sure(own: &Own, rule: Rule, threshold: Threshold) -> bool {
    threshold.keeps(rule.confidence_ppm(&own.confidences_ppm))
}
