//! Requests on links that follow their traces: after all settings of a study every arm is asked the same
//! prompts at the same moments of the traces, which begin anew for each arm. So arms are compared request by
//! request under the same channel, and techniques that adapt meet one that changes while they work.

use serde::{Deserialize, Serialize};

use super::{Arm, StudySpec, TrialRecord};

/// What is asked of each arm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedSpec {
    /// Requests of a round.
    pub requests: u32,
    /// One is due every so often, the first when the traces begin. One that is due while another is under way is
    /// asked right after it, and what it waited counts.
    pub every_ns: u64,
    /// Rounds of each arm.
    pub repetitions: u32,
}

impl TracedSpec {
    /// How long a round is without what its last request takes.
    #[must_use]
    pub fn round_ns(self) -> u64 {
        self.every_ns.saturating_mul(u64::from(self.requests))
    }
}

/// A request on the traces. Times are offsets from T0 in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedTrial {
    /// Which round of its arm.
    pub repetition: u32,
    /// Which request of the round.
    pub request: u32,
    /// When the traces began.
    pub from_ns: u64,
    /// When it was due.
    pub due_ns: u64,
    /// What became of it. Its round trip and its rate, which follow the traces, are 0.
    pub trial: TrialRecord,
}

impl TracedTrial {
    /// From when it was due until its first token was there.
    #[must_use]
    pub fn first_token_ns(&self) -> Option<u64> {
        let first = self.trial.token_ns.first()?;
        Some(first.saturating_sub(self.due_ns))
    }

    /// From when it was due until its last token was there.
    #[must_use]
    pub fn answer_ns(&self) -> Option<u64> {
        let last = self.trial.token_ns.last()?;
        Some(last.saturating_sub(self.due_ns))
    }

    /// Where in the traces it was due.
    #[must_use]
    pub fn position_ns(&self) -> u64 {
        self.due_ns.saturating_sub(self.from_ns)
    }

    /// Which request it is beside those of other arms: repetition, and place in the round.
    #[must_use]
    pub const fn place(&self) -> (u32, u32) {
        (self.repetition, self.request)
    }
}

/// One request of the rounds on the traces, in the order in which they are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// Which round of its arm.
    pub repetition: u32,
    /// Which request of the round; with the first one the traces begin anew.
    pub request: u32,
    /// Who is asked.
    pub arm: Arm,
    /// What.
    pub prompt: u32,
    /// How long after the traces began it is due.
    pub after_ns: u64,
}

impl StudySpec {
    /// All requests on the traces: a round of every arm that is asked there, then the next one of each of them.
    #[must_use]
    pub fn turns(&self) -> Vec<Turn> {
        let Some(traced) = self.traced else {
            return Vec::new();
        };
        let mut turns = Vec::new();
        for repetition in 0..traced.repetitions {
            for arm in self.arms.iter().filter(|arm| arm.is_asked_on_traces()) {
                turns.extend((0..traced.requests).map(|request| Turn {
                    repetition,
                    request,
                    arm: arm.clone(),
                    prompt: request % self.prompts.max(1),
                    after_ns: traced.every_ns.saturating_mul(u64::from(request)),
                }));
            }
        }
        turns
    }
}
