//! The bodies of the frames of speculative decoding.

use half::f16;

use crate::serve::connection::token_bytes;
use crate::study::speculative::sampling::Distribution;
use crate::study::speculative::{Crossing, Drawing, Number};

/// What a request asks of the stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Task {
    /// To answer alone.
    Answer,
    /// To verify drafts.
    Verify(Crossing),
    /// To answer alone, and tell how likely drafts of each token would have been accepted.
    Overlap,
}

/// How a request opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opening {
    pub(super) drawing: Drawing,
    pub(super) task: Task,
    /// Tokens to answer with.
    pub(super) output: u32,
    /// What its draws follow from.
    pub(super) seed: u64,
}

impl Opening {
    /// As it goes on the link, with the prompt behind it.
    pub(super) fn encode(&self, prompt: &[u32]) -> Vec<u8> {
        let drawing = match self.drawing {
            Drawing::Greedy => 0,
            Drawing::Sampled => 1,
        };
        let (task, tokens) = match self.task {
            Task::Answer => (0, 0),
            Task::Overlap => (1, 0),
            Task::Verify(Crossing::Ids) => (2, 0),
            Task::Verify(Crossing::Distributions(Number::F16)) => (3, 0),
            Task::Verify(Crossing::Distributions(Number::F32)) => (4, 0),
            Task::Verify(Crossing::TopK(tokens)) => (5, tokens),
        };
        let words = token_bytes(&[drawing, task, tokens, self.output]);
        [words, self.seed.to_le_bytes().to_vec(), token_bytes(prompt)].concat()
    }

    /// Reads it from the words of a body, with the prompt; what is wrong with it in words.
    pub(super) fn decode(words: &[u32]) -> Result<(Opening, &[u32]), String> {
        let [drawing, task, tokens, output, low, high, prompt @ ..] = words else {
            return Err("it is too short".to_owned());
        };
        let drawing = match drawing {
            0 => Drawing::Greedy,
            1 => Drawing::Sampled,
            other => return Err(format!("it asks for drawing {other}")),
        };
        let task = match (task, *tokens) {
            (0, 0) => Task::Answer,
            (1, 0) => Task::Overlap,
            (2, 0) => Task::Verify(Crossing::Ids),
            (3, 0) => Task::Verify(Crossing::Distributions(Number::F16)),
            (4, 0) => Task::Verify(Crossing::Distributions(Number::F32)),
            (5, tokens) if tokens > 0 => Task::Verify(Crossing::TopK(tokens)),
            (other, tokens) => return Err(format!("it asks for task {other} of {tokens} tokens")),
        };
        let opening = Opening {
            drawing,
            task,
            output: *output,
            seed: u64::from(*high) << 32 | u64::from(*low),
        };
        Ok((opening, prompt))
    }
}

/// The distribution that a draft is drawn from, for all of it to cross the link: rounded to the numbers
/// that cross, or its most probable tokens alone.
pub(super) fn as_it_crosses(own: Distribution, crossing: Crossing) -> Distribution {
    match crossing {
        Crossing::Ids | Crossing::Distributions(Number::F32) => own,
        Crossing::TopK(tokens) => own.top(tokens),
        Crossing::Distributions(Number::F16) => {
            let weights = own.weights().iter();
            let rounded = weights.map(|weight| f16::from_f32(*weight).to_f32());
            // Of fewer than 2^24 tokens one is probable enough not to round to zero.
            Distribution::of_weights(rounded.collect()).unwrap_or(own)
        }
    }
}

/// Drafted tokens with the distributions that they were drawn from, which [`as_it_crosses`] made; none
/// where ids alone cross.
pub(super) fn encode_draft(drafted: &[(u32, Option<Distribution>)], crossing: Crossing) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (token, from) in drafted {
        bytes.extend_from_slice(&token.to_le_bytes());
        let Some(from) = from else { continue };
        let weights = from.weights();
        match crossing {
            Crossing::Ids => {}
            Crossing::Distributions(Number::F16) => {
                let rounded = weights.iter().map(|weight| f16::from_f32(*weight));
                bytes.extend(rounded.flat_map(f16::to_le_bytes));
            }
            Crossing::Distributions(Number::F32) => {
                bytes.extend(weights.iter().flat_map(|weight| weight.to_le_bytes()));
            }
            Crossing::TopK(tokens) => {
                for index in from.most_probable(tokens) {
                    let id = u32::try_from(index).unwrap_or(u32::MAX);
                    let weight = weights.get(index).copied().unwrap_or(0.0);
                    bytes.extend_from_slice(&id.to_le_bytes());
                    bytes.extend_from_slice(&weight.to_le_bytes());
                }
            }
        }
    }
    bytes
}

/// Reads drafted tokens of a vocabulary; what is wrong with them in words. Bounded by the body, which is
/// in memory already.
pub(super) fn decode_draft(
    bytes: &[u8],
    crossing: Crossing,
    vocabulary: u32,
) -> Result<Vec<(u32, Option<Distribution>)>, String> {
    let of_each = 4 + crossing.bytes(vocabulary);
    let of_each = usize::try_from(of_each).unwrap_or(usize::MAX);
    if !bytes.len().is_multiple_of(of_each) {
        let length = bytes.len();
        return Err(format!(
            "{length} bytes are no drafts of {of_each} bytes each"
        ));
    }
    let mut drafted = Vec::new();
    for one in bytes.chunks(of_each) {
        let (token, rest) = one.split_first_chunk::<4>().ok_or("it is too short")?;
        let token = u32::from_le_bytes(*token);
        if token >= vocabulary {
            return Err(format!(
                "token {token} is outside the vocabulary of {vocabulary}"
            ));
        }
        let weights: Option<Vec<f32>> = match crossing {
            Crossing::Ids => None,
            Crossing::Distributions(Number::F16) => {
                let (numbers, _) = rest.as_chunks::<2>();
                let numbers = numbers.iter();
                Some(
                    numbers
                        .map(|bytes| f16::from_le_bytes(*bytes).to_f32())
                        .collect(),
                )
            }
            Crossing::Distributions(Number::F32) => {
                let (numbers, _) = rest.as_chunks::<4>();
                Some(
                    numbers
                        .iter()
                        .map(|bytes| f32::from_le_bytes(*bytes))
                        .collect(),
                )
            }
            Crossing::TopK(_) => Some(sparse(rest, vocabulary)?),
        };
        let from = match weights {
            None => None,
            Some(weights) => {
                let no_distribution = "weights that are no distribution came with a token";
                Some(Distribution::of_weights(weights).ok_or(no_distribution)?)
            }
        };
        drafted.push((token, from));
    }
    Ok(drafted)
}

/// The weights of a few tokens among all.
fn sparse(bytes: &[u8], vocabulary: u32) -> Result<Vec<f32>, String> {
    let mut weights = vec![0.0; usize::try_from(vocabulary).unwrap_or(usize::MAX)];
    let (pairs, _) = bytes.as_chunks::<8>();
    for pair in pairs {
        let (words, _) = pair.as_chunks::<4>();
        let [id, weight] = words else { continue };
        let id = u32::from_le_bytes(*id);
        let place = usize::try_from(id)
            .ok()
            .and_then(|index| weights.get_mut(index));
        let place = place.ok_or_else(|| format!("token {id} is outside the vocabulary"))?;
        *place = f32::from_le_bytes(*weight);
    }
    Ok(weights)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CROSSINGS: [Crossing; 4] = [
        Crossing::Ids,
        Crossing::Distributions(Number::F16),
        Crossing::Distributions(Number::F32),
        Crossing::TopK(2),
    ];

    #[test]
    fn openings_read_back_and_others_are_refused() {
        let tasks = CROSSINGS.map(Task::Verify);
        for task in tasks.into_iter().chain([Task::Answer, Task::Overlap]) {
            let opening = Opening {
                drawing: Drawing::Sampled,
                task,
                output: 9,
                seed: 0x0123_4567_89ab_cdef,
            };
            let bytes = opening.encode(&[5, 6]);
            let (words, _) = bytes.as_chunks::<4>();
            let words: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
            assert_eq!(Opening::decode(&words), Ok((opening, [5, 6].as_slice())));
        }
        for words in [
            &[0, 0, 0, 1, 0][..],
            &[2, 0, 0, 1, 0, 0],
            &[0, 5, 0, 1, 0, 0],
        ] {
            Opening::decode(words).unwrap_err();
        }
    }

    #[test]
    fn the_verifier_is_told_exactly_the_distribution_that_a_draft_was_drawn_from() {
        let own = || Distribution::of_weights(vec![0.123_456_7, 0.3, 0.000_01, 0.5]).unwrap();
        for crossing in CROSSINGS {
            let from = as_it_crosses(own(), crossing);
            let told = (crossing != Crossing::Ids).then_some(from);
            let drafted = vec![(1, told.clone()), (3, told)];
            let bytes = encode_draft(&drafted, crossing);
            let each = 4 + crossing.bytes(4);
            assert_eq!(u64::try_from(bytes.len()).unwrap(), 2 * each);
            assert_eq!(decode_draft(&bytes, crossing, 4), Ok(drafted));
        }
    }

    #[test]
    fn drafts_outside_the_vocabulary_and_weights_that_are_none_are_refused() {
        let refused = |bytes: &[u8], crossing| decode_draft(bytes, crossing, 4).unwrap_err();
        assert!(refused(&[4, 0, 0, 0], Crossing::Ids).contains("outside"));
        assert!(refused(&[1, 0, 0], Crossing::Ids).contains("no drafts"));
        let zeros = [0; 20];
        let why = refused(&zeros, Crossing::Distributions(Number::F32));
        assert!(why.contains("no distribution"), "{why}");
        let mut far = [0; 20];
        far[4] = 9;
        assert!(refused(&far, Crossing::TopK(2)).contains("token 9"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_never_yield_more_than_they_hold(bytes: Vec<u8>) {
            for crossing in CROSSINGS {
                if let Ok(drafted) = decode_draft(&bytes, crossing, 3) {
                    prop_assert!(drafted.len() * 4 <= bytes.len());
                }
            }
        }
    }
}
