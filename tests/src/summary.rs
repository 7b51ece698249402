//! What must hold of every run of a bundled experiment, checked on its summary and records as a
//! script would: on the JSON alone, so that a change of the interface is noticed here.

mod bytes;
mod duration;
mod expectations;
mod shape;
mod tokens;
mod traffic;

use serde_json::Value;

pub use duration::overrun;
pub use expectations::{times_not_held, undecided};

/// Checks a summary against its plan and events; returns what it found, a line each.
///
/// The verdict is reported, not required: a busy machine is allowed to be found too busy. Byte
/// formulas, token equality and every expectation that can be decided and that not only times decide
/// ([`times_not_held`]) are required.
///
/// # Errors
/// What does not hold, a line each.
pub fn check(summary: &Value, plan: &Value, events: &[Value]) -> Result<Vec<String>, Vec<String>> {
    let mut found = Vec::new();
    let mut problems = Vec::new();
    shape::check(summary, &mut problems);
    found.push(format!("verdict {}", summary["verdict"]));
    for reason in summary["reasons"].as_array().into_iter().flatten() {
        found.push(format!(
            "  reason: {}: {}",
            reason["subject"], reason["message"]
        ));
    }
    expectations::check(summary, plan, &mut found, &mut problems);
    bytes::check(summary, plan, events, &mut found, &mut problems);
    if plan["phases"]
        .as_array()
        .is_some_and(|phases| !phases.is_empty())
    {
        tokens::check(events, &mut found, &mut problems);
    }
    traffic::check(summary, plan, &mut found, &mut problems);
    if problems.is_empty() {
        Ok(found)
    } else {
        Err(problems)
    }
}

#[cfg(test)]
mod tests;
