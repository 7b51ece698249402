//! The node that verifies.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;

use super::body::{Opening, Task, decode_draft};
use super::terms;
use super::verifier::{Models, Request, Verdict};
use crate::clock;
use crate::serve::connection::{Frame, PayloadCounter, token_bytes};
use crate::serve::error::JobError;
use crate::serve::signal::Signal;
use crate::serve::study::answering::{Answers, answer};
use crate::serve::study::books::WayBack;
use crate::serve::study::door::{self, Refusal};
use crate::serve::study::{costs, models};
use crate::study::StudyJobSpec;
use crate::study::speculative::{MOST_DRAFTED, OPENING_WORDS};
use crate::wire::FrameKind;

/// Requests that may be open at a time.
const MAX_OPEN_REQUESTS: usize = 16;

/// Serves until the driver goes.
pub(in crate::serve::study) fn serve(
    spec: &StudyJobSpec,
    listen: SocketAddr,
    counter: &Arc<PayloadCounter>,
    signals: &Sender<Signal>,
) -> Result<(), JobError> {
    let models = Models {
        large: models::large(spec)?,
        small: models::small(spec)?,
    };
    let held = terms(&models.large, &models.small)?;
    if models.large.vocabulary() != models.small.vocabulary() {
        let why = "the two models score different numbers of tokens".to_owned();
        return Err(JobError::Spec { why });
    }
    let weight_bytes = models.large.weight_bytes() + models.small.weight_bytes();
    let loaded = (weight_bytes, models.large.engine_path());
    let Some(front) = door::open(spec, listen, (loaded, held), (counter, signals))? else {
        return Ok(());
    };
    let served = answer(front, |way_back| Stage {
        limits: Limits::of(&models),
        models,
        way_back,
        open: BTreeMap::new(),
    });
    counter.closed();
    served
}

/// The longest bodies that make sense.
#[derive(Debug, Clone, Copy)]
struct Limits {
    positions: u64,
    vocabulary: u64,
}

impl Limits {
    fn of(models: &Models) -> Limits {
        Limits {
            positions: u64::from(models.large.max_positions()),
            vocabulary: u64::from(models.large.vocabulary()),
        }
    }

    fn accepts(self, kind: FrameKind) -> Option<u64> {
        match kind {
            FrameKind::Open => Some(4 * (OPENING_WORDS + self.positions)),
            // Of all that may cross for a token, ids and weights of the whole vocabulary are the most.
            FrameKind::Draft => Some(u64::from(MOST_DRAFTED) * (4 + 8 * self.vocabulary)),
            FrameKind::Echo | FrameKind::Measure | FrameKind::End => Some(0),
            _ => None,
        }
    }
}

struct Stage {
    limits: Limits,
    models: Models,
    way_back: WayBack,
    open: BTreeMap<u32, Request>,
}

impl Answers for Stage {
    fn accepts(&self, kind: FrameKind) -> Option<u64> {
        self.limits.accepts(kind)
    }

    fn take(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let id = frame.header.request;
        let opens = frame.header.kind == FrameKind::Open;
        self.way_back.received(id, frame.body.len(), opens);
        match frame.header.kind {
            FrameKind::Open => self.open(frame),
            FrameKind::Draft => self.verify(frame),
            FrameKind::End => {
                let ended = self.open.remove(&id);
                ended.ok_or_else(|| frame.content_error("no such request is open"))?;
                Ok(self.way_back.close(id, &[])?)
            }
            FrameKind::Measure => self.measure(frame),
            // Nothing else than an echo is let in.
            _ => Ok(self.way_back.send((FrameKind::Echo, id), 0, &[])?),
        }
    }
}

impl Stage {
    /// Opens a request, and answers it at once if that is asked.
    fn open(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let id = frame.header.request;
        let wrong = |why: String| Refusal::Front(frame.content_error(why));
        let words = frame.token_ids().unwrap_or_default();
        let (opening, prompt) = Opening::decode(&words).map_err(wrong)?;
        let large = &self.models.large;
        let length = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
        large.check_tokens(prompt).map_err(wrong)?;
        for part in [large, &self.models.small] {
            part.check_length(length, opening.output).map_err(wrong)?;
        }
        if self.open.len() >= MAX_OPEN_REQUESTS || self.open.contains_key(&id) {
            return Err(wrong("it is open already, or too many are".to_owned()));
        }
        let began = clock::now();
        let mut request = Request::open(&self.models, opening, prompt)?;
        self.computed(id, began);
        match opening.task {
            Task::Verify(_) => {}
            Task::Answer => {
                for _ in 0..opening.output {
                    let (began, position) = (clock::now(), request.position());
                    let token = request.next(&self.models)?;
                    self.computed(id, began);
                    let kind = (FrameKind::Token, id);
                    self.way_back.send(kind, position, &token_bytes(&[token]))?;
                }
            }
            Task::Overlap => {
                let overlap = request.overlap(&self.models)?;
                let kind = (FrameKind::Overlap, id);
                self.way_back.send(kind, 0, &token_bytes(&overlap))?;
            }
        }
        self.open.insert(id, request);
        Ok(())
    }

    fn computed(&self, id: u32, began: clock::MonotonicNs) {
        let busy_ns = clock::now().saturating_sub(began);
        self.way_back.computed(id, busy_ns);
    }

    fn verify(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let id = frame.header.request;
        let wrong = |why: String| Refusal::Front(frame.content_error(why));
        let request = self.open.get_mut(&id);
        let request = request.ok_or_else(|| wrong("no such request is open".to_owned()))?;
        let Task::Verify(crossing) = request.opening.task else {
            return Err(wrong("no drafts of it were to come".to_owned()));
        };
        let position = request.position();
        if position != frame.header.position {
            let at = frame.header.position;
            return Err(wrong(format!("it starts at {at}, and {position} is next")));
        }
        let large = &self.models.large;
        let drafted = decode_draft(&frame.body, crossing, large.vocabulary()).map_err(wrong)?;
        let count = u32::try_from(drafted.len()).unwrap_or(u32::MAX);
        if count > MOST_DRAFTED {
            return Err(wrong(format!("{count} tokens are drafted")));
        }
        // The last token of the sequence is read as well, and the draft behind it.
        large
            .check_length(position.saturating_add(count), 1)
            .map_err(wrong)?;
        let began = clock::now();
        let Verdict { accepted, next } = request.verify(&self.models, &drafted)?;
        self.computed(id, began);
        let body = token_bytes(&[accepted, next]);
        Ok(self
            .way_back
            .send((FrameKind::Verdict, id), position, &body)?)
    }

    /// Measures what computing costs with the large model.
    fn measure(&self, frame: &Frame) -> Result<(), Refusal> {
        let position = frame.header.position;
        if position >= self.models.large.max_positions() {
            return Err(frame.content_error("the model has no such position").into());
        }
        let own = costs::measure(&self.models.large, 0..1, true, position)?;
        let body = serde_json::to_vec(&[own]).map_err(JobError::ParseSpec)?;
        Ok(self.way_back.send((FrameKind::Costs, 0), 0, &body)?)
    }
}
