//! What chance does to packets: each kind of luck has a random stream of its own, so that asking
//! for one more does not shift the others.

use hexloop_traces::{LinkState, stream};
use rand_chacha::ChaCha12Rng;
use rand_core::Rng;

use super::loss::LossModel;

const PARTS: u64 = 1_000_000_000;

#[derive(Debug)]
pub(super) struct Fates {
    model: LossModel,
    losses: ChaCha12Rng,
    duplicates: ChaCha12Rng,
    corruptions: ChaCha12Rng,
    jitter: ChaCha12Rng,
}

impl Fates {
    pub(super) fn new(seed: u64, purpose: &str) -> Fates {
        let stream = |kind: &str| stream(seed, &format!("{purpose} {kind}"));
        Fates {
            model: LossModel::default(),
            losses: stream("loss"),
            duplicates: stream("duplication"),
            corruptions: stream("corruption"),
            jitter: stream("jitter"),
        }
    }

    pub(super) fn loses(&mut self, state: &LinkState) -> bool {
        self.model
            .loses(state.loss_ppb, state.loss_burst_milli, &mut self.losses)
    }

    pub(super) fn duplicates(&mut self, state: &LinkState) -> bool {
        happens(state.dup_ppb, &mut self.duplicates)
    }

    /// Where the packet is to be damaged, if it is: a number to choose a bit with.
    pub(super) fn corrupts(&mut self, state: &LinkState) -> Option<u32> {
        let damaged = happens(state.corrupt_ppb, &mut self.corruptions);
        damaged.then(|| self.corruptions.next_u32())
    }

    /// Where in its width the jitter of a packet lies. Drawn for every packet that is served, so
    /// that a change of the width shifts nothing.
    pub(super) fn jitter(&mut self) -> u32 {
        self.jitter.next_u32()
    }
}

fn happens(ppb: u32, random: &mut impl Rng) -> bool {
    ppb > 0 && ((u64::from(random.next_u32()) * PARTS) >> 32) < u64::from(ppb)
}
