//! Specifications that the tests of this module share.

use super::spec::{Api, Arrivals, Length, LoadSpec, Mix};

/// A load of prompts of 16 words with 8 tokens to answer.
pub(super) fn plain(arrivals: Arrivals, arrivals_for_ns: u64) -> LoadSpec {
    LoadSpec {
        api: Api::Completions,
        path: "/v1".to_owned(),
        model: "mock".to_owned(),
        arrivals,
        arrivals_for_ns,
        deadline_ns: 5_000_000_000,
        mix: Mix::Plain,
        prompt_words: Length::Fixed { count: 16 },
        output_tokens: Length::Fixed { count: 8 },
        body: String::new(),
        keep_connections: true,
    }
}
