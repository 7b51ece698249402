//! What an edge read from the states that crossed the link.

use std::collections::BTreeMap;

use hexloop_workloads::study::leak::Leaking;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Findings;
use super::own::Agreement;
use crate::format::rounded;

/// What leaks from states after a layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyLeak {
    /// The arm.
    pub arm: String,
    /// Tokens of all prompts.
    pub tokens: u64,
    /// Share of them whose embedding is the nearest to their state, and the ends of its 95 % interval.
    pub nearest: [f64; 3],
    /// The same of what a linear map finds that was learnt from other texts.
    pub probe: [f64; 3],
}

/// Tokens that were guessed in both ways: by the nearest embedding, and by the map.
pub(in crate::summary) type Guessed = [Agreement; 2];

/// What was guessed with each arm, each prompt once: guesses do not depend on the links.
pub(in crate::summary) fn guessed(findings: &Findings<'_>) -> BTreeMap<Leaking, Guessed> {
    let mut once = BTreeMap::new();
    for leak in &findings.leaks {
        once.insert((leak.of, leak.prompt), *leak);
    }
    let mut guessed: BTreeMap<Leaking, Guessed> = BTreeMap::new();
    for ((of, _), leak) in once {
        let both = guessed.entry(of).or_default();
        for (agreement, right) in both.iter_mut().zip([leak.nearest, leak.probe]) {
            agreement.compared += u64::from(leak.tokens);
            agreement.same += u64::from(right);
        }
    }
    guessed
}

/// Every arm; none of a study of another technique.
pub(super) fn summaries(findings: &Findings<'_>) -> Vec<StudyLeak> {
    let summary = |(of, [nearest, probe]): (Leaking, Guessed)| {
        let told = |agreement: Agreement| {
            let interval = agreement.interval()?;
            Some(interval.map(|value| rounded(value, 6)))
        };
        Some(StudyLeak {
            arm: of.name(),
            tokens: nearest.compared,
            nearest: told(nearest)?,
            probe: told(probe)?,
        })
    };
    guessed(findings).into_iter().filter_map(summary).collect()
}
