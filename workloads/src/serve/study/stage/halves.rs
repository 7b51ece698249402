//! Half of every layer here, the other half on the driver's node: tokens come in, and for each sum of each layer
//! both parts are exchanged.

use std::collections::BTreeMap;

use super::{MAX_OPEN_REQUESTS, Refusal, Stage};
use crate::coding::Coding;
use crate::serve::connection::Frame;
use crate::serve::error::JobError;
use crate::serve::part::{HalfRequest, Part, Step};
use crate::serve::study::{costs, models};
use crate::study::{StudyJobSpec, StudySpec, Technique};
use crate::wire::FrameKind;

/// What a stage knows of such requests; nothing with any other technique.
pub(super) struct Halves {
    part: Option<Part>,
    open: BTreeMap<u32, HalfRequest>,
}

impl Halves {
    pub(super) fn open(
        spec: &StudyJobSpec,
        study: &StudySpec,
        place: u32,
    ) -> Result<Halves, JobError> {
        let shares = study.technique() == Technique::TensorParallel;
        Ok(Halves {
            part: shares.then(|| models::half(spec, place)).transpose()?,
            open: BTreeMap::new(),
        })
    }

    /// Memory of the weights.
    pub(super) fn weight_bytes(&self) -> u64 {
        self.part.as_ref().map_or(0, Part::weight_bytes)
    }

    /// Ends a request; `false` if it is none of these.
    pub(super) fn ends(&mut self, request: u32) -> bool {
        self.open.remove(&request).is_some()
    }
}

/// Whether a frame opens a request of these.
pub(super) fn opens(frame: &Frame) -> bool {
    frame.header.kind == FrameKind::Tokens && frame.header.position == 0
}

impl Stage {
    /// Lets tokens pass: the first of a request open it.
    pub(super) fn pass_tokens(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let (id, position) = (frame.header.request, frame.header.position);
        let wrong = |why: String| Refusal::Front(frame.content_error(why));
        let words = frame.token_ids().unwrap_or_default();
        let [coding, tokens @ ..] = words.as_slice() else {
            return Err(wrong("it names no coding".to_owned()));
        };
        let coding = Coding::from_number(*coding)
            .ok_or_else(|| wrong(format!("parts in coding {coding} are not known here")))?;
        let Some(part) = &self.halves.part else {
            return Err(wrong("no half of the layers is held here".to_owned()));
        };
        let count = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
        part.check_length(position.saturating_add(count), 1)
            .map_err(wrong)?;
        part.check_tokens(tokens).map_err(wrong)?;
        if position == 0 {
            if self.halves.open.len() >= MAX_OPEN_REQUESTS || self.halves.open.contains_key(&id) {
                return Err(wrong("it is open already, or too many are".to_owned()));
            }
            self.halves.open.insert(id, part.half_request(coding)?);
        }
        let Some(request) = self.halves.open.get_mut(&id) else {
            return Err(wrong("no such request is open".to_owned()));
        };
        if request.positions() != position
            || request.awaits().is_some()
            || request.coding() != coding
        {
            return Err(wrong("other tokens are expected".to_owned()));
        }
        let step = part.begin_halves(request, tokens)?;
        self.send_part(id, &step)
    }

    /// Adds the driver's part of a sum, and goes on to the next.
    pub(super) fn add_partial(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let id = frame.header.request;
        let wrong = |why: String| Refusal::Front(frame.content_error(why));
        let open = self.halves.open.get_mut(&id);
        let (Some(part), Some(request)) = (&self.halves.part, open) else {
            return Err(wrong("no such request is open".to_owned()));
        };
        if request.awaits().map(|(sum, _)| sum) != Some(frame.header.position) {
            return Err(wrong("no part of that sum is awaited".to_owned()));
        }
        let step = part.add_half(request, &frame.body).map_err(wrong)?;
        self.send_part(id, &step)
    }

    fn send_part(&mut self, id: u32, step: &Step) -> Result<(), Refusal> {
        if let Some(request) = self.halves.open.get_mut(&id) {
            self.way_back.computed(id, request.take_busy_ns());
        }
        match step {
            Step::Part(sum, part) => {
                Ok(self.way_back.send((FrameKind::Partial, id), *sum, part)?)
            }
            // The head is on the driver's node.
            Step::Through(_) => Ok(()),
        }
    }

    /// Measures what half of a layer costs here.
    pub(super) fn measure_halves(&self, frame: &Frame) -> Result<(), Refusal> {
        let position = frame.header.position;
        let held = self.halves.part.as_ref();
        let part = held.filter(|part| position < part.max_positions());
        let part = part.ok_or_else(|| frame.content_error("there is no such half here"))?;
        let costs = costs::measure_halves(part, position)?;
        let body = serde_json::to_vec(&costs).map_err(JobError::ParseSpec)?;
        Ok(self.way_back.send((FrameKind::HalfCosts, 0), 0, &body)?)
    }
}
