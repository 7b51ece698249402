//! U-shaped splits (technique 9 of the surveys): the device has the first layers and the last ones with the head,
//! the edge those between. Neither tokens nor their scores leave the device; every state crosses the link twice.

use serde::{Deserialize, Serialize};

use super::HopBytes;
use super::split::begin_bytes;
use crate::wire::HEADER_BYTES;

/// Where a model is divided in three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UShape {
    /// Layers on the device, in front.
    pub first: u32,
    /// The layer after which the edge ends; the device has all behind it.
    pub last: u32,
}

impl UShape {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> String {
        format!("{}/{} U", self.first, self.last)
    }

    /// Whether each of its three parts has a layer, of so many.
    #[must_use]
    pub const fn fits(self, layers: u32) -> bool {
        0 < self.first && self.first < self.last && self.last < layers
    }
}

/// Bytes of the states of a request of `prompt` and `output` tokens in one direction: of every token but the
/// last.
#[must_use]
pub const fn states_bytes((prompt, output): (u64, u64), state_bytes: u64) -> u64 {
    (prompt + output).saturating_sub(1) * state_bytes
}

/// What such a request puts on the link: up what a two-way split does, an opening, `S d b` bytes of states for the
/// prompt, `d b` for each further token but the last, and a closing frame; down the same states.
#[must_use]
pub const fn hop_bytes(lengths: (u64, u64), state_bytes: u64) -> HopBytes {
    let output = lengths.1;
    let states = states_bytes(lengths, state_bytes);
    HopBytes {
        up: (output + 2) * HEADER_BYTES + begin_bytes(1) + states,
        down: output * HEADER_BYTES + states,
        frames_up: output + 2,
        frames_down: output,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_crosses_up_and_down() {
        // 3 prompt tokens, 2 generated, 16 bytes a state: 4 states each way.
        let bytes = hop_bytes((3, 2), 16);
        assert_eq!((bytes.up, bytes.down), (64 + 12 + 64, 32 + 64));
        assert_eq!((bytes.frames_up, bytes.frames_down), (4, 2));
        let shape = |first, last| UShape { first, last };
        assert!(shape(1, 5).fits(6) && !shape(1, 6).fits(6) && !shape(2, 2).fits(6));
        assert_eq!(shape(1, 5).name(), "1/5 U");
    }
}
