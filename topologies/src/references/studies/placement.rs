//! What placements are to be tried with.

use hexloop_traces::units::TimeSpan;
use hexloop_workloads::study::placement::Weights;

use super::speculative::listed;
use crate::check::Reporter;
use crate::experiment::Technique;
use crate::section::Section;

/// The keys that mean something to it alone.
pub(super) const KEYS: [&str; 2] = ["weights", "levels"];

pub(super) fn read(reporter: &mut Reporter<'_>, section: &Section<'_>) -> Technique {
    let help = "write `full`, `q8-0`, `q6-k` or `q4-k`";
    let weights = listed(reporter, section, ("weights", help), Weights::by_name);
    let level = |text: &str| {
        let span: TimeSpan = text.parse().ok()?;
        (span.ns > 0).then_some(span.ns)
    };
    let help = "write times such as `500 ms`";
    let levels = listed(reporter, section, ("levels", help), level);
    Technique::Placement {
        weights: weights.unwrap_or_else(|| vec![Weights::Full]),
        levels_ns: levels.unwrap_or_default(),
    }
}
