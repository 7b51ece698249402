//! What retrieval at the edge is to be tried with.

use hexloop_workloads::study::retrieval::Library;

use super::speculative::listed;
use crate::check::Reporter;
use crate::experiment::Technique;
use crate::section::Section;

/// The keys that mean something to it alone.
pub(super) const KEYS: [&str; 7] = [
    "documents",
    "chunk_tokens",
    "chunks",
    "centres",
    "searches",
    "prefixes",
    "store",
];

pub(super) fn read(reporter: &mut Reporter<'_>, section: &Section<'_>) -> Technique {
    let centres = section.integer_u32("centres");
    let search = |text: &str| match text {
        "exact" => Some(None),
        _ => {
            let probes: u32 = text.parse().ok()?;
            (1..=centres).contains(&probes).then_some(Some(probes))
        }
    };
    let prefixes = |text: &str| match text {
        "computed" => Some(false),
        "kept" => Some(true),
        _ => None,
    };
    let searches = format!("write `exact`, or of how many of the {centres} centres, such as `2`");
    Technique::Retrieval {
        library: Library {
            documents: section.integer_u32("documents"),
            chunk_tokens: section.integer_u32("chunk_tokens"),
            centres,
            store_bytes: section.size_bytes("store"),
        },
        chunks: section.integer_u32("chunks"),
        probes: listed(reporter, section, ("searches", &searches), search)
            .unwrap_or_else(|| vec![None, Some(2.min(centres))]),
        keeps: listed(
            reporter,
            section,
            ("prefixes", "write `computed` or `kept`"),
            prefixes,
        )
        .unwrap_or_else(|| vec![false, true]),
    }
}
