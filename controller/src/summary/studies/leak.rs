//! What an edge read from the states that crossed the link.

use std::collections::BTreeMap;

use hexloop_workloads::study::leak::Leaking;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Findings;
use super::own::Agreement;
use crate::format::rounded;
use hexloop_statistics::ratio_of_sums;

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

/// Tokens that one reader guessed, of all prompts and of each.
#[derive(Debug, Clone, Default)]
pub(in crate::summary) struct Read {
    pub(in crate::summary) tokens: Agreement,
    /// Right ones and all of each prompt.
    by_prompt: Vec<(f64, f64)>,
}

impl Read {
    fn add(&mut self, right: u32, tokens: u32) {
        self.tokens.same += u64::from(right);
        self.tokens.compared += u64::from(tokens);
        self.by_prompt.push((f64::from(right), f64::from(tokens)));
    }

    /// The share of right ones, and its 95 % interval: the wider of that of independent tokens and that of
    /// prompts, for what is read of one token is like what is read of others of its prompt.
    pub(in crate::summary) fn interval(&self) -> Option<[f64; 3]> {
        let [share, low, high] = self.tokens.interval()?;
        let Some([_, of_prompts_low, of_prompts_high]) = ratio_of_sums(&self.by_prompt) else {
            return Some([share, low, high]);
        };
        Some([
            share,
            low.min(of_prompts_low.max(0.0)),
            high.max(of_prompts_high.min(1.0)),
        ])
    }
}

/// Tokens that were guessed in both ways: by the nearest embedding, and by the map.
pub(in crate::summary) type Guessed = [Read; 2];

/// What was guessed with each arm, each prompt once: guesses do not depend on the links.
pub(in crate::summary) fn guessed(findings: &Findings<'_>) -> BTreeMap<Leaking, Guessed> {
    let mut once = BTreeMap::new();
    for leak in &findings.leaks {
        once.insert((leak.of, leak.prompt), *leak);
    }
    let mut guessed: BTreeMap<Leaking, Guessed> = BTreeMap::new();
    for ((of, _), leak) in once {
        let both = guessed.entry(of).or_default();
        for (read, right) in both.iter_mut().zip([leak.nearest, leak.probe]) {
            read.add(right, leak.tokens);
        }
    }
    guessed
}

/// Every arm; none of a study of another technique.
pub(super) fn summaries(findings: &Findings<'_>) -> Vec<StudyLeak> {
    let summary = |(of, [nearest, probe]): (Leaking, Guessed)| {
        let told = |read: &Read| {
            let interval = read.interval()?;
            Some(interval.map(|value| rounded(value, 6)))
        };
        Some(StudyLeak {
            arm: of.name(),
            tokens: nearest.tokens.compared,
            nearest: told(&nearest)?,
            probe: told(&probe)?,
        })
    };
    guessed(findings).into_iter().filter_map(summary).collect()
}
