//! Drafting: the small model runs ahead of what is known, and is cut back to it.

use super::body::as_it_crosses;
use crate::engine::KeyValueCache;
use crate::serve::error::JobError;
use crate::serve::part::Part;
use crate::study::speculative::sampling::{Chance, Distribution, Purpose};
use crate::study::speculative::{Crossing, Drawing};

/// One request as the small model sees it.
pub(super) struct Drafter<'a> {
    part: &'a Part,
    cache: KeyValueCache,
    /// The prompt, and every token that is settled.
    tokens: Vec<u32>,
}

impl<'a> Drafter<'a> {
    pub(super) fn new(part: &'a Part, prompt: &[u32]) -> Drafter<'a> {
        Drafter {
            part,
            cache: part.new_cache(),
            tokens: prompt.to_vec(),
        }
    }

    /// The position of the next token.
    pub(super) fn position(&self) -> u32 {
        u32::try_from(self.tokens.len()).unwrap_or(u32::MAX)
    }

    /// Drafts so many tokens, with the distributions that they are drawn from where those cross.
    pub(super) fn draft(
        &mut self,
        length: u32,
        (drawing, crossing, chance): (Drawing, Crossing, Chance),
    ) -> Result<Vec<(u32, Option<Distribution>)>, JobError> {
        let mut drafted = Vec::new();
        let mut ahead = self.unseen();
        let first = self.position();
        for at in first..first.saturating_add(length) {
            let states = self.part.carry_tokens(&ahead, &mut self.cache)?;
            let (token, from) = match drawing {
                Drawing::Greedy => (self.part.next_token(&states)?, None),
                Drawing::Sampled => {
                    let own = self.part.distributions(&states)?.pop();
                    let from = as_it_crosses(own.ok_or_else(no_state)?, crossing);
                    let token = from.draw(chance.unit(Purpose::Draft, at));
                    (token, (crossing != Crossing::Ids).then_some(from))
                }
            };
            drafted.push((token, from));
            ahead = vec![token];
        }
        Ok(drafted)
    }

    /// Takes what the verifier made of a draft.
    pub(super) fn settle(&mut self, accepted: &[u32], next: u32) {
        self.tokens.extend_from_slice(accepted);
        self.cache.truncate(self.position());
        self.tokens.push(next);
    }

    /// What is settled and not in the cache yet.
    fn unseen(&self) -> Vec<u32> {
        let seen = usize::try_from(self.cache.positions()).unwrap_or(usize::MAX);
        self.tokens.get(seen..).unwrap_or_default().to_vec()
    }
}

fn no_state() -> JobError {
    JobError::Spec {
        why: "there is nothing to draft from".to_owned(),
    }
}
