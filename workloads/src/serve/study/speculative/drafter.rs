//! Drafting: the small model runs ahead of what is known, and is cut back to it.

use super::body::as_it_crosses;
use super::verifier::Verdict;
use crate::clock;
use crate::engine::KeyValueCache;
use crate::serve::error::JobError;
use crate::serve::part::Part;
use crate::study::speculative::sampling::{Chance, Distribution, Purpose};
use crate::study::speculative::{Crossing, Drawing, RoundRecord, Speculation};

/// What is drafted before it is verified.
pub(super) struct Draft {
    /// Where its first token stands in the sequence.
    pub(super) position: u32,
    /// Its tokens, with the distributions that they were drawn from where those cross.
    pub(super) tokens: Vec<(u32, Option<Distribution>)>,
    /// When drafting began.
    pub(super) began_ns: clock::MonotonicNs,
}

impl Draft {
    /// How many tokens it has.
    pub(super) fn length(&self) -> u32 {
        u32::try_from(self.tokens.len()).unwrap_or(u32::MAX)
    }
}

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

    /// Drafts until so many tokens are there, and asks the verifier about each draft. A draft is cut short
    /// where fewer are left, one of which is the verifier's. Returns the tokens, and how each draft fared.
    pub(super) fn answer(
        mut self,
        output: u32,
        (speculation, chance): (&Speculation, Chance),
        mut verified: impl FnMut(&Draft) -> Result<Verdict, JobError>,
    ) -> Result<(Vec<u32>, Vec<RoundRecord>), JobError> {
        let drawn = (speculation.drawing, speculation.crossing, chance);
        let (end, prompt) = (self.position().saturating_add(output), self.tokens.len());
        let mut rounds = Vec::new();
        while self.position() < end {
            let left = end - self.position();
            let length = speculation.next_length(&rounds).min(left - 1);
            let draft = Draft {
                position: self.position(),
                began_ns: clock::now(),
                tokens: self.draft(length, drawn)?,
            };
            let verdict = verified(&draft)?;
            self.settle(&draft, verdict);
            rounds.push(RoundRecord {
                drafted: length,
                accepted: verdict.accepted,
            });
        }
        Ok((self.tokens.split_off(prompt), rounds))
    }

    /// The position of the next token.
    fn position(&self) -> u32 {
        u32::try_from(self.tokens.len()).unwrap_or(u32::MAX)
    }

    /// Drafts so many tokens, with the distributions that they are drawn from where those cross.
    fn draft(
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
    fn settle(&mut self, draft: &Draft, Verdict { accepted, next }: Verdict) {
        let accepted = usize::try_from(accepted).unwrap_or(usize::MAX);
        let tokens = draft.tokens.iter().take(accepted);
        self.tokens.extend(tokens.map(|(token, _)| *token));
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
