//! What keys and values that one node has and another needs are to be tried with.

use hexloop_workloads::study::kv::{Delivery, Source};

use super::speculative::listed;
use crate::check::Reporter;
use crate::experiment::Technique;
use crate::section::Section;

/// The keys that mean something to it alone.
pub(super) const KEYS: [&str; 2] = ["deliveries", "sources"];

pub(super) fn read(reporter: &mut Reporter<'_>, section: &Section<'_>) -> Technique {
    let deliveries = "write `recompute`, `f32`, `f16`, `int8`, `int4` or `adaptive`";
    let sources = "write `stored` or `prefilled`";
    Technique::KeyValues {
        deliveries: listed(
            reporter,
            section,
            ("deliveries", deliveries),
            Delivery::by_name,
        )
        .unwrap_or_else(|| Delivery::ALL.to_vec()),
        sources: listed(reporter, section, ("sources", sources), Source::by_name)
            .unwrap_or_else(|| vec![Source::Stored]),
    }
}
