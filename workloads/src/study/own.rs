//! Techniques in which the device answers itself as long as it is sure enough: early exits (technique
//! 16 of the surveys) and cascades of a small and a large model (18). What is decided, how sure is
//! sure enough, and what crosses the link for it.

use serde::{Deserialize, Serialize};

use super::split::begin_bytes;
use super::{Arm, HopBytes, TrialRecord};
use crate::wire::HEADER_BYTES;

/// How sure the device must be to keep what it made itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Threshold {
    /// Least confidence in parts per million; above a million nothing is sure enough.
    pub least_ppm: u32,
}

impl Threshold {
    /// Everything is kept: the device alone.
    pub const DEVICE: Threshold = Threshold { least_ppm: 0 };

    /// Nothing is kept, in an outage either: the remote placement.
    pub const REMOTE: Threshold = Threshold {
        least_ppm: u32::MAX,
    };

    /// Whether something of that confidence is kept.
    #[must_use]
    pub const fn keeps(self, confidence_ppm: u32) -> bool {
        confidence_ppm >= self.least_ppm
    }

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Threshold::DEVICE => "device".to_owned(),
            Threshold::REMOTE => "remote".to_owned(),
            Threshold { least_ppm } => format!("{} %", f64::from(least_ppm) / 10_000.0),
        }
    }
}

/// Of a cascade: what the confidence of an answer is, given that of each of its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// The mean of its tokens.
    Mean,
    /// That of its least certain token.
    Least,
}

impl Rule {
    /// The confidence of an answer.
    #[must_use]
    pub fn confidence_ppm(self, tokens_ppm: &[u32]) -> u32 {
        match self {
            Rule::Least => tokens_ppm.iter().copied().min().unwrap_or(0),
            Rule::Mean => {
                let sum: u64 = tokens_ppm.iter().copied().map(u64::from).sum();
                let count = u64::try_from(tokens_ppm.len()).unwrap_or(u64::MAX);
                u32::try_from(sum / count.max(1)).unwrap_or(u32::MAX)
            }
        }
    }

    /// Its name in experiment files and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Rule::Mean => "mean",
            Rule::Least => "least",
        }
    }
}

/// Whose token was kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Maker {
    /// The device's, which was sure enough.
    Device,
    /// The edge's, which was asked.
    Edge,
    /// The device's: the edge was asked and had not answered when the patience was over.
    Fallback,
    /// The device's, without asking the edge, which had not answered before.
    Alone,
}

/// How a token came to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Whose it is.
    pub maker: Maker,
    /// The largest probability of the device's own choice there, in parts per million; `None` if it
    /// made none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence_ppm: Option<u32>,
}

/// When the links carried nothing, as offsets from T0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutageRecord {
    /// From when on that was certain.
    pub from_ns: u64,
    /// Until when it was certain.
    pub until_ns: u64,
}

/// What is played after the grid: each arm of the first cut answers one prompt while nothing crosses
/// the links, which come back afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutageSpec {
    /// How long it lasts.
    pub length_ns: u64,
}

/// Parts per million of a probability.
#[must_use]
pub fn ppm(probability: f64) -> u32 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "from 0 to a million"
    )]
    let ppm = libm::floor(probability.clamp(0.0, 1.0) * 1e6) as u32;
    ppm
}

/// What a trial of an early exit puts on the link, by its own record of which tokens the edge was
/// asked for: nothing if there is none; else an opening, and a frame for each of them with the states of
/// its token and of all before it that the edge has not seen, so that up to the last one every state
/// crosses once: `(S + n) d b` bytes if `n` tokens came before it; a closing frame, and 4 bytes back for
/// each.
#[must_use]
pub fn early_exit_bytes(trial: &TrialRecord, prompt: u64, state_bytes: u64) -> HopBytes {
    let Some((asked, before_last)) = asked(trial) else {
        return HopBytes::default();
    };
    let frames_up = asked + 2;
    HopBytes {
        up: frames_up * HEADER_BYTES + begin_bytes(1) + (prompt + before_last) * state_bytes,
        down: asked * (HEADER_BYTES + 4),
        frames_up,
        frames_down: asked,
    }
}

/// How many tokens the edge was asked for, and how many came before the last of them; `None` if none.
fn asked(trial: &TrialRecord) -> Option<(u64, u64)> {
    let was_asked = |decision: &Decision| matches!(decision.maker, Maker::Edge | Maker::Fallback);
    let places = (0_u64..)
        .zip(&trial.decisions)
        .filter(|(_, decision)| was_asked(decision));
    let places: Vec<u64> = places.map(|(place, _)| place).collect();
    let count = u64::try_from(places.len()).ok()?;
    places.last().map(|last| (count, *last))
}

/// Whether something of the trial was the edge's to answer.
#[must_use]
pub fn escaped(trial: &TrialRecord) -> bool {
    asked(trial).is_some()
}

/// What arms that differ in their threshold alone have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Early exits after so many layers.
    EarlyExit {
        /// Layers on the device.
        cut: u32,
    },
    /// Cascades of two models.
    Cascade {
        /// What makes an answer sure.
        rule: Rule,
    },
}

impl Family {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Family::EarlyExit { cut } => format!("exit after {cut}"),
            Family::Cascade { rule } => format!("cascade {}", rule.name()),
        }
    }
}

/// When an arm of one of these techniques keeps what the device made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keeping {
    /// What it has in common with others.
    pub family: Family,
    /// How sure is sure enough.
    pub threshold: Threshold,
}

/// The same of any arm; `None` of other techniques.
#[must_use]
pub const fn keeping(arm: &Arm) -> Option<Keeping> {
    match *arm {
        Arm::EarlyExit { cut, threshold } => Some(Keeping {
            family: Family::EarlyExit { cut },
            threshold,
        }),
        Arm::Cascade { rule, threshold } => Some(Keeping {
            family: Family::Cascade { rule },
            threshold,
        }),
        _ => None,
    }
}

/// What a trial of a cascade puts on the link: nothing if the device's answer was sure enough; else the
/// prompt and a closing frame, and 4 bytes back for each of its tokens.
#[must_use]
pub fn cascade_bytes(trial: &TrialRecord, prompt: u64) -> HopBytes {
    if !escaped(trial) {
        return HopBytes::default();
    }
    let output = u64::try_from(trial.tokens.len()).unwrap_or(u64::MAX);
    HopBytes {
        up: 2 * HEADER_BYTES + 4 * prompt,
        down: output * (HEADER_BYTES + 4),
        frames_up: 2,
        frames_down: output,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(makers: &[Maker]) -> TrialRecord {
        let decisions = makers.iter().map(|maker| Decision {
            maker: *maker,
            confidence_ppm: Some(1),
        });
        TrialRecord {
            number: 0,
            group: 0,
            arm: Arm::EarlyExit {
                cut: 2,
                threshold: Threshold::DEVICE,
            },
            round_trip_ns: 0,
            rate_bps: 1,
            prompt: 0,
            started_ns: 0,
            token_ns: vec![0; makers.len()],
            tokens: vec![0; makers.len()],
            ties: Vec::new(),
            hops: Vec::new(),
            busy_ns: Vec::new(),
            rounds: Vec::new(),
            decisions: decisions.collect(),
            outage: None,
            transfer: None,
            retrieval: None,
            placed: None,
            halves: None,
        }
    }

    #[test]
    fn every_state_up_to_the_last_token_that_was_asked_for_crosses_once() {
        use Maker::{Alone, Device, Edge, Fallback};
        // 3 prompt tokens, 8 bytes a state: the second and the fourth token are the edge's, so the
        // states of the prompt and of the first three tokens cross, in two frames.
        let bytes = early_exit_bytes(&trial(&[Device, Edge, Device, Edge, Device]), 3, 8);
        assert_eq!(bytes.up, 4 * 16 + 12 + (3 + 3) * 8);
        assert_eq!((bytes.down, bytes.frames_up, bytes.frames_down), (40, 4, 2));
        // Who was asked and did not answer in time was sent the states; who was not asked was not.
        let bytes = early_exit_bytes(&trial(&[Device, Fallback, Alone, Alone]), 3, 8);
        assert_eq!(bytes.up, 3 * 16 + 12 + (3 + 1) * 8);
        let none = early_exit_bytes(&trial(&[Device, Device]), 3, 8);
        assert_eq!(none, HopBytes::default());
    }

    #[test]
    fn a_threshold_keeps_what_is_as_sure_and_its_ends_keep_all_and_nothing() {
        let half = Threshold { least_ppm: 500_000 };
        assert!(half.keeps(500_000) && !half.keeps(499_999));
        assert!(Threshold::DEVICE.keeps(0) && !Threshold::REMOTE.keeps(1_000_000));
        assert_eq!(
            [half, Threshold::DEVICE, Threshold::REMOTE].map(Threshold::name),
            ["50 %", "device", "remote"]
        );
        assert_eq!((ppm(0.9), ppm(1.0), ppm(f64::NAN)), (900_000, 1_000_000, 0));
    }

    #[test]
    fn an_answer_is_as_sure_as_its_rule_says() {
        let tokens = [900_000, 500_000, 700_000];
        assert_eq!(Rule::Mean.confidence_ppm(&tokens), 700_000);
        assert_eq!(Rule::Least.confidence_ppm(&tokens), 500_000);
        assert_eq!(Rule::Mean.confidence_ppm(&[]), 0);
    }
}
