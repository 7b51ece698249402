//! What leaks (row 46 of the surveys): how many tokens of a prompt an edge that is honest but curious reads from the
//! hidden states that cross the link to it, after each layer.

use serde::{Deserialize, Serialize};

use super::HopBytes;
use crate::coding::Coding;
use crate::wire::HEADER_BYTES;

/// The states of a prompt cross the link after a layer, and the edge guesses its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Leaking {
    /// Layers that the states have passed.
    pub layer: u32,
    /// How they cross the link.
    pub coding: Coding,
}

impl Leaking {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> String {
        match self.coding {
            Coding::F32 => format!("after {}", self.layer),
            coding => format!("after {} {coding}", self.layer),
        }
    }

    /// What a prompt puts on the link: how its states are coded and the states, a closing frame, and two guesses
    /// of each token back.
    #[must_use]
    pub fn hop_bytes(self, prompt: u64, width: u64) -> HopBytes {
        let states = prompt * self.coding.token_bytes(width) + self.coding.opening_bytes(width);
        HopBytes {
            up: 2 * HEADER_BYTES + 4 + states,
            down: HEADER_BYTES + 8 * prompt,
            frames_up: 2,
            frames_down: 1,
        }
    }
}

/// What was guessed of one prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeakRecord {
    /// Which states.
    pub of: Leaking,
    /// Which of the prompts.
    pub prompt: u32,
    /// Its tokens.
    pub tokens: u32,
    /// Tokens whose embedding is the nearest of all to their state, by the angle between them.
    pub nearest: u32,
    /// Tokens that a linear map from states to embeddings finds, learnt from other texts.
    pub probe: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_states_go_up_once_and_two_guesses_of_each_token_come_back() {
        let of = |coding| Leaking { layer: 2, coding };
        let bytes = of(Coding::F32).hop_bytes(3, 8);
        assert_eq!((bytes.up, bytes.down), (32 + 4 + 3 * 32, 16 + 24));
        assert_eq!(of(Coding::F32).name(), "after 2");
        assert_eq!(of(Coding::Int8).name(), "after 2 int8");
    }
}
