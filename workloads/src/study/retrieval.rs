//! Retrieval at the edge (technique 22 of the surveys): the edge node has documents, an index of them and
//! the model. A query crosses the link; the chunks that are nearest to it are put in front of it, and the
//! model answers, with the keys and values of chunks that it has had before, or with all of them computed
//! again. What crosses the link, and what reuse saves.

use serde::{Deserialize, Serialize};

use super::HopBytes;
use crate::wire::HEADER_BYTES;

/// What the edge has, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Library {
    /// Chunks of documents.
    pub documents: u32,
    /// Length of each in tokens.
    pub chunk_tokens: u32,
    /// Centres that the index gathers them around.
    pub centres: u32,
    /// Memory for keys and values of prefixes.
    pub store_bytes: u64,
}

/// One way to retrieve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Retrieval {
    /// What the edge has.
    pub library: Library,
    /// Chunks that are put in front of a query.
    pub chunks: u32,
    /// Of how many centres the vectors are looked at; `None` for all: an exact search.
    pub probes: Option<u32>,
    /// Whether keys and values of prefixes are kept and used again.
    pub keeps: bool,
}

impl Retrieval {
    /// Its name in reports.
    #[must_use]
    pub fn name(&self) -> String {
        let search = match self.probes {
            None => "exact".to_owned(),
            Some(1) => "1 probe".to_owned(),
            Some(probes) => format!("{probes} probes"),
        };
        match self.keeps {
            false => search,
            true => format!("{search} kept"),
        }
    }

    /// Tokens of a whole sequence in front of its answer.
    #[must_use]
    pub const fn sequence_tokens(&self, query: u32) -> u32 {
        self.chunks * self.library.chunk_tokens + query
    }
}

/// What was retrieved for a trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetrievalRecord {
    /// The chunks that were put in front of the query, the nearest first.
    pub found: Vec<u32>,
    /// Those that an exact search finds.
    pub exact: Vec<u32>,
    /// The one that the query was taken from.
    pub origin: u32,
    /// Positions whose keys and values had been kept.
    pub reused: u32,
    /// Positions that were computed before the first token.
    pub computed: u32,
    /// How long that took.
    pub prefill_ns: u64,
}

/// What computing a prompt costs the edge: a pass, and each of its tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetrievalCosts {
    /// A pass of no tokens, as the line through two lengths has it.
    pub pass_ns: u64,
    /// Each token more.
    pub token_ns: u64,
    /// To pool the states of a query and search for them, exactly.
    pub search_ns: u64,
    /// Passes that each median is over.
    pub passes: u32,
}

impl RetrievalCosts {
    /// What computing so many positions should take.
    #[must_use]
    pub const fn prefill_ns(&self, positions: u32) -> u64 {
        self.pass_ns + self.token_ns * positions as u64
    }
}

/// The costs that several measurements amount to.
#[must_use]
pub fn median_costs(measured: &[&RetrievalCosts]) -> Option<RetrievalCosts> {
    let middle = |of: fn(&RetrievalCosts) -> u64| {
        let mut values: Vec<u64> = measured.iter().map(|costs| of(costs)).collect();
        values.sort_unstable();
        values.get(values.len() / 2).copied()
    };
    Some(RetrievalCosts {
        pass_ns: middle(|costs| costs.pass_ns)?,
        token_ns: middle(|costs| costs.token_ns)?,
        search_ns: middle(|costs| costs.search_ns)?,
        passes: measured.iter().map(|costs| costs.passes).sum(),
    })
}

/// Words in front of a query: how many chunks, how many probes, whether prefixes are kept, and how many
/// tokens to answer with.
pub const ASK_WORDS: u64 = 4;

/// Words in front of the names of chunks: what was reused and computed, how long that took, and how many
/// chunks were found.
pub const FOUND_WORDS: u64 = 5;

/// What a trial puts on the link: the query and a closing frame up; each token of the answer down, and the
/// names of the chunks that were found and of those that an exact search finds, 4 bytes each.
#[must_use]
pub fn hop_bytes(query: u64, output: u64, record: &RetrievalRecord) -> HopBytes {
    let names = record.found.len() + record.exact.len();
    let names = u64::try_from(names).unwrap_or(u64::MAX);
    HopBytes {
        up: 2 * HEADER_BYTES + 4 * (ASK_WORDS + query),
        down: output * (HEADER_BYTES + 4) + HEADER_BYTES + 4 * (FOUND_WORDS + names),
        frames_up: 2,
        frames_down: output + 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_puts_the_query_up_and_tokens_and_names_down() {
        let record = RetrievalRecord {
            found: vec![3, 1],
            exact: vec![3, 1, 2],
            origin: 3,
            reused: 10,
            computed: 6,
            prefill_ns: 1,
        };
        let bytes = hop_bytes(8, 4, &record);
        assert_eq!((bytes.up, bytes.frames_up), (32 + 4 * 12, 2));
        assert_eq!((bytes.down, bytes.frames_down), (4 * 20 + 16 + 4 * 10, 5));
    }

    #[test]
    fn costs_are_the_medians_of_what_was_measured() {
        let of = |pass_ns| RetrievalCosts {
            pass_ns,
            token_ns: 2 * pass_ns,
            search_ns: 1,
            passes: 5,
        };
        let measured = [of(3), of(100), of(5)];
        let all: Vec<&RetrievalCosts> = measured.iter().collect();
        let costs = median_costs(&all).unwrap();
        assert_eq!((costs.prefill_ns(10), costs.passes), (5 + 100, 15));
        assert_eq!(median_costs(&[]), None);
    }
}
