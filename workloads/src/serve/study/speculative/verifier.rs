//! Verifying: the large model scores a draft in one pass, and is cut back to what it accepts.

use super::body::Opening;
use crate::engine::KeyValueCache;
use crate::serve::error::JobError;
use crate::serve::part::Part;
use crate::study::speculative::Drawing;
use crate::study::speculative::sampling::{Chance, Distribution, Purpose, verify};

/// The models of a stage.
pub(super) struct Models {
    pub(super) large: Part,
    pub(super) small: Part,
}

/// One request as the large model sees it.
pub(super) struct Request {
    pub(super) opening: Opening,
    chance: Chance,
    /// The prompt, and every token that is settled. The large model has seen all but the last.
    tokens: Vec<u32>,
    large: KeyValueCache,
    small: KeyValueCache,
}

/// What became of a draft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) accepted: u32,
    pub(super) next: u32,
}

impl Request {
    /// Opens a request, whose prompt the large model reads but for its last token.
    pub(super) fn open(
        models: &Models,
        opening: Opening,
        prompt: &[u32],
    ) -> Result<Request, JobError> {
        let mut large = models.large.new_cache();
        if let Some((_, before @ [_, ..])) = prompt.split_last() {
            models.large.carry_tokens(before, &mut large)?;
        }
        Ok(Request {
            opening,
            chance: Chance::new(opening.seed),
            tokens: prompt.to_vec(),
            large,
            small: models.small.new_cache(),
        })
    }

    /// The position of the next token.
    pub(super) fn position(&self) -> u32 {
        u32::try_from(self.tokens.len()).unwrap_or(u32::MAX)
    }

    /// The next token, without any draft.
    pub(super) fn next(&mut self, models: &Models) -> Result<u32, JobError> {
        let verdict = self.verify(models, &[])?;
        Ok(verdict.next)
    }

    /// Scores a draft in one pass and settles what is accepted, and the token after it.
    pub(super) fn verify(
        &mut self,
        models: &Models,
        drafted: &[(u32, Option<Distribution>)],
    ) -> Result<Verdict, JobError> {
        let ids: Vec<u32> = drafted.iter().map(|(token, _)| *token).collect();
        let last = self.tokens.last().copied();
        let ahead: Vec<u32> = last.into_iter().chain(ids.iter().copied()).collect();
        let states = models.large.carry_tokens(&ahead, &mut self.large)?;
        let made = match self.opening.drawing {
            Drawing::Greedy => {
                let own = models.large.next_tokens(&states)?;
                let alike = ids.iter().zip(&own).take_while(|(draft, own)| draft == own);
                let accepted = alike.count();
                let next = own.get(accepted).copied();
                next.and_then(|next| Some((u32::try_from(accepted).ok()?, next)))
            }
            Drawing::Sampled => {
                let own = models.large.distributions(&states)?;
                let from = self.drawn_from(models, drafted)?;
                let drafted: Vec<(u32, Distribution)> = ids.iter().copied().zip(from).collect();
                verify(&own, &drafted, (self.chance, self.position()))
            }
        };
        let (accepted, next) = made.ok_or_else(|| JobError::Spec {
            why: "a draft and its scores do not belong together".to_owned(),
        })?;
        let taken = usize::try_from(accepted).unwrap_or(usize::MAX);
        self.tokens.extend(ids.iter().take(taken));
        self.large.truncate(self.position());
        self.small.truncate(self.position());
        self.tokens.push(next);
        Ok(Verdict { accepted, next })
    }

    /// The distributions that drafts were drawn from: as they came, or computed again with the small
    /// model, to the rounding of one pass instead of several.
    fn drawn_from(
        &mut self,
        models: &Models,
        drafted: &[(u32, Option<Distribution>)],
    ) -> Result<Vec<Distribution>, JobError> {
        let told: Option<Vec<Distribution>> =
            drafted.iter().map(|(_, from)| from.clone()).collect();
        let Some((_, before)) = drafted.split_last() else {
            return Ok(Vec::new());
        };
        if let Some(told) = told {
            return Ok(told);
        }
        let seen = usize::try_from(self.small.positions()).unwrap_or(usize::MAX);
        let unseen = self.tokens.get(seen..).unwrap_or_default().iter().copied();
        let ahead: Vec<u32> = unseen
            .chain(before.iter().map(|(token, _)| *token))
            .collect();
        let states = models.small.carry_tokens(&ahead, &mut self.small)?;
        let mut all = models.small.distributions(&states)?;
        Ok(all.split_off(all.len().saturating_sub(drafted.len())))
    }

    /// Answers alone, and tells for each token how likely a draft of it is accepted, in millionths.
    pub(super) fn overlap(&mut self, models: &Models) -> Result<Vec<u32>, JobError> {
        let prompt = self.tokens.len();
        let mut own = Vec::new();
        for _ in 0..self.opening.output {
            let last: Vec<u32> = self.tokens.last().copied().into_iter().collect();
            let states = models.large.carry_tokens(&last, &mut self.large)?;
            let distribution = models.large.distributions(&states)?.pop();
            let (Some(distribution), greedy) = (distribution, models.large.next_token(&states)?)
            else {
                break;
            };
            let unit = self.chance.unit(Purpose::Own, self.position());
            let token = match self.opening.drawing {
                Drawing::Greedy => greedy,
                Drawing::Sampled => distribution.draw(unit),
            };
            own.push((distribution, greedy));
            self.tokens.push(token);
        }
        // The small model reads all but the last token; its states from the prompt's last on count.
        let read = self
            .tokens
            .split_last()
            .map_or(&[][..], |(_, before)| before);
        let states = models.small.carry_tokens(read, &mut self.small)?;
        let drafts = models.small.distributions(&states)?;
        let greedy = models.small.next_tokens(&states)?;
        let drafts = drafts
            .into_iter()
            .zip(greedy)
            .skip(prompt.saturating_sub(1));
        let of_token =
            |((own, greedy), (draft, drafted)): ((Distribution, u32), (Distribution, u32))| {
                match self.opening.drawing {
                    Drawing::Greedy => 1_000_000 * u32::from(greedy == drafted),
                    Drawing::Sampled => millionths(own.overlap(&draft)),
                }
            };
        Ok(own.into_iter().zip(drafts).map(of_token).collect())
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of 1 in millionths"
)]
fn millionths(share: f64) -> u32 {
    libm::round(share.clamp(0.0, 1.0) * 1e6) as u32
}
