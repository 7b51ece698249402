//! Prompts that the whole model on one node of the path answers, each with weights that it names; the nodes
//! in front of that one pass on what is not for them.

use std::collections::BTreeMap;

use super::{MAX_OPEN_REQUESTS, Refusal, Stage};
use crate::clock;
use crate::serve::connection::{Frame, token_bytes};
use crate::serve::error::JobError;
use crate::serve::study::books;
use crate::serve::study::models::Variants;
use crate::study::placement::Weights;
use crate::study::{Arm, StudyJobSpec, StudySpec};
use crate::wire::FrameKind;

/// What a stage knows of such requests.
pub(super) struct Asked {
    /// Its place in the path.
    place: u32,
    variants: Variants,
    /// How long this node takes for images that are cut behind a block.
    pub(super) images_ns: BTreeMap<u32, u64>,
    /// The requests that are open.
    open: BTreeMap<u32, Whose>,
}

/// Who answers a request.
#[derive(Clone, Copy)]
enum Whose {
    /// A node behind this one.
    Behind,
    /// This one.
    Own,
    /// This one, which computed so long until the first token.
    OwnPrompt { first_busy_ns: u64 },
}

impl Asked {
    /// Loads the weights that a node answers with; none of any other technique.
    pub(super) fn open(
        spec: &StudyJobSpec,
        study: &StudySpec,
        place: u32,
    ) -> Result<Asked, JobError> {
        Ok(Asked {
            place,
            variants: Variants::open(spec, study, place)?,
            images_ns: images_ns(study),
            open: BTreeMap::new(),
        })
    }

    pub(super) fn weight_bytes(&self) -> u64 {
        self.variants.weight_bytes()
    }

    /// See [`Variants::engine_path`].
    pub(super) fn engine_path(&self, own: String) -> String {
        self.variants.engine_path(own)
    }

    /// Whether a place that a frame names is this one; 0 names none.
    pub(super) const fn is_at(&self, place: u32) -> bool {
        self.place == place
    }

    /// A request is open that this node answers.
    pub(super) fn opened_here(&mut self, request: u32) {
        self.open.insert(request, Whose::Own);
    }

    pub(super) fn knows(&self, request: u32) -> bool {
        self.open.contains_key(&request)
    }
}

fn images_ns(study: &StudySpec) -> BTreeMap<u32, u64> {
    let networks = study.arms.iter().filter_map(|arm| match arm {
        Arm::Convolutional(network) => Some((network.cut, network.far_ns())),
        _ => None,
    });
    networks.collect()
}

impl Stage {
    /// Answers a prompt token by token as they are made, or passes it on.
    pub(super) fn ask(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let id = frame.header.request;
        let output = frame.header.position;
        let wrong = |why: String| Refusal::Front(frame.content_error(why));
        let words = frame.token_ids().unwrap_or_default();
        let [place, weights, prompt @ ..] = words.as_slice() else {
            return Err(wrong("it names no place and no weights".to_owned()));
        };
        if self.asked.open.len() >= MAX_OPEN_REQUESTS || self.asked.knows(id) {
            return Err(wrong("it is open already, or too many are".to_owned()));
        }
        let here = self.asked.is_at(*place);
        if !here {
            if *place < self.asked.place || self.next.is_none() {
                let why = format!("place {place} is not behind {}", self.asked.place);
                return Err(wrong(why));
            }
            self.asked.open.insert(id, Whose::Behind);
            return self.send_on((FrameKind::Place, id), output, &frame.body);
        }
        let known = Weights::from_number(*weights);
        // Where no weights are variants, a stage with the whole model has those as they are.
        let is_whole = self.part.layers() == (0..self.part.all_layers());
        let part = known.and_then(|weights| match self.asked.variants.of(weights) {
            None if is_whole && weights == Weights::Full => Some(&self.part),
            variant => variant,
        });
        let Some(part) = part else {
            return Err(wrong(format!("weights {weights} are not held here")));
        };
        let count = u32::try_from(prompt.len()).unwrap_or(u32::MAX);
        part.check_length(count, output).map_err(wrong)?;
        part.check_tokens(prompt).map_err(wrong)?;
        let mut cache = part.new_cache();
        let mut input = prompt.to_vec();
        let mut first_busy_ns = 0;
        for made in 0..output {
            let began = clock::now();
            let states = part.carry_tokens(&input, &mut cache)?;
            let token = part.next_token(&states)?;
            let busy_ns = clock::now().saturating_sub(began);
            self.way_back.computed(id, busy_ns);
            if made == 0 {
                first_busy_ns = busy_ns;
            }
            let body = token_bytes(&[token]);
            self.way_back
                .send((FrameKind::Token, id), cache.positions(), &body)?;
            input = vec![token];
        }
        let own = Whose::OwnPrompt { first_busy_ns };
        self.asked.open.insert(id, own);
        Ok(())
    }

    /// A request is over: its books are closed where it was answered.
    pub(super) fn end_asked(&mut self, id: u32) -> Result<(), Refusal> {
        match self.asked.open.remove(&id) {
            Some(Whose::Behind) => self.send_on((FrameKind::End, id), 0, &[]),
            Some(Whose::OwnPrompt { first_busy_ns }) => {
                Ok(self.way_back.close(id, &books::of_part(first_busy_ns))?)
            }
            Some(Whose::Own) | None => Ok(self.way_back.close(id, &[])?),
        }
    }
}
