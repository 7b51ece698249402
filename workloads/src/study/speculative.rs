//! Speculative decoding (technique 17 of the surveys): a small model on the first node drafts tokens,
//! the model on the last node verifies all of them in one pass, and what it accepts is, token for
//! token, what it would have made alone.
//!
//! Leviathan, Kalman and Matias, "Fast inference from transformers via speculative decoding", ICML
//! 2023: a drafted token x is accepted with probability min(1, p(x)/q(x)); where it is not, the token is
//! drawn from the positive part of p - q. Greedy decoding is the same with one-hot distributions.

pub mod acceptance;
pub mod sampling;

use serde::{Deserialize, Serialize};

use super::HopBytes;
use crate::wire::HEADER_BYTES;

/// How tokens are chosen from scores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Drawing {
    /// The most probable token.
    Greedy,
    /// Drawn from the distribution at temperature 1.
    Sampled,
}

/// How many tokens are drafted before they are verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DraftLength {
    /// Always so many.
    Fixed(u32),
    /// As [`adapted`] says.
    Adaptive,
}

/// The longest draft.
pub const MOST_DRAFTED: u32 = 16;

/// The longest adaptive draft.
const MOST_ADAPTIVE: u32 = 8;

/// The first adaptive draft.
const FIRST_ADAPTIVE: u32 = 4;

/// The length of an adaptive draft after one of which so many were accepted: two longer where all
/// were, one shorter where not; from 1 to 8, and 4 at the beginning.
#[must_use]
pub fn adapted(before: Option<(u32, u32)>) -> u32 {
    match before {
        None => FIRST_ADAPTIVE,
        Some((drafted, accepted)) if accepted >= drafted => (drafted + 2).min(MOST_ADAPTIVE),
        Some((drafted, _)) => drafted.saturating_sub(1).max(1),
    }
}

/// Numbers in which probabilities cross the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Number {
    /// Two bytes.
    F16,
    /// Four bytes.
    F32,
}

impl Number {
    /// Its bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Number::F16 => 2,
            Number::F32 => 4,
        }
    }
}

/// What crosses the link for each drafted token besides its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Crossing {
    /// Nothing: greedy verification needs no more, and where tokens are drawn the verifier computes
    /// the draft's distribution again, with the same small model.
    Ids,
    /// The probabilities of all tokens, from which it was drawn.
    Distributions(Number),
    /// Ids and probabilities of the most probable tokens alone, from which it was drawn.
    TopK(u32),
}

impl Crossing {
    /// Its bytes for one drafted token, of a vocabulary.
    #[must_use]
    pub fn bytes(self, vocabulary: u32) -> u64 {
        match self {
            Crossing::Ids => 0,
            Crossing::Distributions(number) => u64::from(vocabulary) * number.bytes(),
            Crossing::TopK(tokens) => u64::from(tokens.min(vocabulary)) * (4 + Number::F32.bytes()),
        }
    }

    /// Its name in experiment files.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Crossing::Ids => "ids".to_owned(),
            Crossing::Distributions(Number::F16) => "distributions-f16".to_owned(),
            Crossing::Distributions(Number::F32) => "distributions-f32".to_owned(),
            Crossing::TopK(tokens) => format!("top-{tokens}"),
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Crossing> {
        match name {
            "ids" => Some(Crossing::Ids),
            "distributions-f16" => Some(Crossing::Distributions(Number::F16)),
            "distributions-f32" => Some(Crossing::Distributions(Number::F32)),
            _ => {
                let tokens = name.strip_prefix("top-")?.parse().ok()?;
                (tokens > 0).then_some(Crossing::TopK(tokens))
            }
        }
    }
}

/// One choice of the technique's parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Speculation {
    /// How tokens are chosen.
    pub drawing: Drawing,
    /// What crosses the link.
    pub crossing: Crossing,
    /// How many tokens are drafted.
    pub length: DraftLength,
}

impl Speculation {
    /// Its name in reports.
    #[must_use]
    pub fn name(&self) -> String {
        let length = match self.length {
            DraftLength::Fixed(tokens) => format!("g={tokens}"),
            DraftLength::Adaptive => "g adaptive".to_owned(),
        };
        let crossing = self.crossing.name();
        match self.drawing {
            Drawing::Greedy => format!("{length} {crossing}"),
            Drawing::Sampled => format!("{length} {crossing} sampled"),
        }
    }

    /// How long the next draft is, after the rounds so far.
    #[must_use]
    pub fn next_length(&self, rounds: &[RoundRecord]) -> u32 {
        match self.length {
            DraftLength::Fixed(tokens) => tokens,
            DraftLength::Adaptive => {
                adapted(rounds.last().map(|round| (round.drafted, round.accepted)))
            }
        }
    }
}

/// One draft and what became of it; it brought the accepted tokens and one of the verifier's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundRecord {
    /// Tokens that were drafted.
    pub drafted: u32,
    /// How many of the first of them were accepted.
    pub accepted: u32,
}

/// How likely drafts are accepted on one prompt that no trial asks: along an answer that the large
/// model made alone, in millionths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptanceRecord {
    /// How the answer was made.
    pub drawing: Drawing,
    /// For each token of it, with p of the large and q of the small model: the sum of min(p, q) where
    /// tokens are drawn; of greedy answers, whether both models name the same.
    pub overlap_ppm: Vec<u32>,
}

/// Words (u32) that open a request before the ids of its prompt.
pub const OPENING_WORDS: u64 = 6;

/// Body of the answer to a draft: how many were accepted, and the token after those.
pub const VERDICT_BYTES: u64 = 8;

/// What a request of `prompt` tokens puts on the link: its opening with the prompt, `4 g` bytes of ids
/// for each draft of g tokens with what else crosses for each, 8 bytes back for each draft, and a
/// closing frame.
#[must_use]
pub fn hop_bytes(
    prompt: u64,
    rounds: &[RoundRecord],
    (crossing, vocabulary): (Crossing, u32),
) -> HopBytes {
    let drafted: u64 = rounds.iter().map(|round| u64::from(round.drafted)).sum();
    let drafts = u64::try_from(rounds.len()).unwrap_or(u64::MAX);
    let frames_up = drafts + 2;
    HopBytes {
        up: frames_up * HEADER_BYTES
            + 4 * (OPENING_WORDS + prompt)
            + drafted * (4 + crossing.bytes(vocabulary)),
        down: drafts * (HEADER_BYTES + VERDICT_BYTES),
        frames_up,
        frames_down: drafts,
    }
}

/// What a request of `prompt` and `output` tokens puts on the link where the model is whole on the
/// last node: its opening with the prompt, 4 bytes back for each token, and a closing frame.
#[must_use]
pub const fn remote_bytes(prompt: u64, output: u64) -> HopBytes {
    HopBytes {
        up: 2 * HEADER_BYTES + 4 * (OPENING_WORDS + prompt),
        down: output * (HEADER_BYTES + 4),
        frames_up: 2,
        frames_down: output,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_what_crosses_read_back() {
        for name in ["ids", "distributions-f16", "distributions-f32", "top-8"] {
            assert_eq!(Crossing::by_name(name).unwrap().name(), name);
        }
        for name in ["", "top-", "top-0", "distributions", "top-x"] {
            assert_eq!(Crossing::by_name(name), None);
        }
    }

    #[test]
    fn bytes_count_what_every_drafted_token_carries() {
        let rounds = [(4, 2), (1, 1)].map(|(drafted, accepted)| RoundRecord { drafted, accepted });
        let up = |crossing| hop_bytes(3, &rounds, (crossing, 100)).up;
        // Opening and closing, two drafts: four headers; the opening's words and the prompt.
        assert_eq!(up(Crossing::Ids), 64 + 4 * (6 + 3) + 5 * 4);
        assert_eq!(up(Crossing::Distributions(Number::F16)), 100 + 5 * 204);
        assert_eq!(up(Crossing::Distributions(Number::F32)), 100 + 5 * 404);
        assert_eq!(up(Crossing::TopK(8)), 100 + 5 * 68);
        assert_eq!(hop_bytes(3, &rounds, (Crossing::Ids, 100)).down, 2 * 24);
        assert_eq!((remote_bytes(3, 5).up, remote_bytes(3, 5).down), (68, 100));
    }

    #[test]
    fn adaptive_drafts_grow_while_all_is_accepted_and_shrink_otherwise() {
        assert_eq!(adapted(None), 4);
        assert_eq!(adapted(Some((4, 4))), 6);
        assert_eq!(adapted(Some((8, 8))), 8);
        assert_eq!(adapted(Some((4, 3))), 3);
        assert_eq!(adapted(Some((1, 0))), 1);
    }
}
