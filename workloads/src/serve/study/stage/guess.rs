//! An edge that is honest but curious: it reads the tokens of a prompt from the states that cross the link. It knows the
//! model, and learns from texts of its own.

use std::collections::{BTreeMap, BTreeSet};

use super::{Refusal, Stage};
use crate::clock;
use crate::coding::Coding;
use crate::engine::inversion::{Embeddings, Lessons, Probe};
use crate::serve::connection::{Frame, token_bytes};
use crate::serve::error::JobError;
use crate::serve::part::Part;
use crate::study::{Arm, StudySpec};
use crate::wire::FrameKind;

/// Texts that it learns from, as long as the prompts. Their seeds are small numbers, which those of prompts,
/// drawn from 64 bits, are not.
const TEXTS: u64 = 64;

/// How it reads states after each layer.
pub(super) struct Guesses {
    embeddings: Embeddings,
    probes: BTreeMap<u32, Probe>,
}

impl Guesses {
    /// Learns to read the states that the arms of a study send; `None` of any other study.
    pub(super) fn learnt(part: &Part, study: &StudySpec) -> Result<Option<Guesses>, JobError> {
        let layers = study.arms.iter().filter_map(|arm| match arm {
            Arm::Leaking(leaking) => Some(leaking.layer),
            _ => None,
        });
        let layers: BTreeSet<u32> = layers.collect();
        if layers.is_empty() {
            return Ok(None);
        }
        let failed = part.failed();
        let embeddings = part.embeddings()?;
        let seeds: Vec<u64> = (0..TEXTS).collect();
        let texts = part.prompts(&seeds, study.prompt_tokens)?;
        let mut probes = BTreeMap::new();
        for layer in layers {
            let mut lessons = Lessons::new(&embeddings);
            for text in &texts {
                let mut cache = part.new_cache_of(0..layer);
                let states = part.carry_tokens_through(0..layer, text, &mut cache)?;
                let lesson = (text.as_slice(), &states);
                lessons.add(&embeddings, lesson).map_err(failed)?;
            }
            probes.insert(layer, lessons.learnt());
        }
        Ok(Some(Guesses { embeddings, probes }))
    }
}

impl Stage {
    /// Guesses the tokens of states in both ways.
    pub(super) fn guess(&mut self, frame: &Frame) -> Result<(), Refusal> {
        let began = clock::now();
        let id = frame.header.request;
        let layer = frame.header.position;
        let wrong = |why: String| Refusal::Front(frame.content_error(why));
        let known = self.guesses.as_ref();
        let probe = known.and_then(|known| Some((known, known.probes.get(&layer)?)));
        let Some((known, probe)) = probe.filter(|_| !self.asked.knows(id)) else {
            return Err(wrong(format!(
                "states after layer {layer} are not read here"
            )));
        };
        let coded = frame.body.split_first_chunk::<4>();
        let coded = coded.and_then(|(number, states)| {
            Some((Coding::from_number(u32::from_le_bytes(*number))?, states))
        });
        let Some((coding, states)) = coded else {
            return Err(wrong("it names no coding that is known here".to_owned()));
        };
        let mut coder = self.part.state_coder(coding)?;
        let states = self.part.decode(&mut coder, states).map_err(wrong)?;
        let failed = self.part.failed();
        let nearest = known.embeddings.nearest(&states).map_err(failed)?;
        let found = probe.tokens(&known.embeddings, &states).map_err(failed)?;
        let body = token_bytes(&[nearest, found].concat());
        self.way_back
            .computed(id, clock::now().saturating_sub(began));
        self.way_back.send((FrameKind::Guess, id), layer, &body)?;
        self.asked.opened_here(id);
        Ok(())
    }
}
