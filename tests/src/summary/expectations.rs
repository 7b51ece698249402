//! Expectations of a summary: which of them a busy machine may miss, which are left open without times or
//! meters, and which must be decided and hold.

use serde_json::Value;

/// What is claimed of studies that only times and CPU times decide. Of jobs it is that all requests complete
/// before their phase ends: a job that gets no CPU ends nothing in time.
const TIMED: [&str; 35] = [
    "admitted-are-in-time",
    "adaptive-near-best",
    "adaptive-near-best-on-traces",
    "batch-saves-cpu",
    "batch-saves-energy",
    "best-cut-flips",
    "best-cut-slides",
    "best-division-as-predicted",
    "best-draft-grows-with-round-trip",
    "cnn-cut-slides",
    "codings-save-link-time",
    "cold-start-is-sum",
    "device-flat-in-link",
    "distributions-collapse",
    "fewer-bits-hit-more",
    "fewer-bits-hit-no-less",
    "first-token-is-sum",
    "halves-pay-round-trips",
    "halves-take-sum",
    "joint-serves-more",
    "kpis-hold-by-rate",
    "kpis-hold-by-trace",
    "latency-is-sum",
    "never-splits",
    "offload-flips",
    "policy-hits-as-best",
    "regimes-as-predicted",
    "reuse-saves-prefill",
    "round-trip-is-added",
    "tensor-parallel-falls-first",
    "throughput-is-slowest",
    "together-serves-as-many",
    "token-time-flat-in-round-trip",
    "token-time-linear-in-cut",
    "tokens-win-below-rate",
];

/// What is claimed of studies that energy decides beside those of [`TIMED`]: without meters there is nothing to judge.
const METERED: [&str; 1] = ["counter-is-integrated-power"];

/// The expectations about times, or about power without work, that did not hold, a line each. On a machine that others
/// share they say no more than that it was not left alone, which is why [`check`](super::check) lets them be.
#[must_use]
pub fn times_not_held(summary: &Value, plan: &Value) -> Vec<String> {
    let expectations = summary["expectations"].as_array().into_iter().flatten();
    let not_held = expectations.filter(|one| one["outcome"] == "not-held");
    let timed = not_held.filter(|one| about_times(plan, &one["name"]));
    timed
        .map(|one| format!("not held, by times: {}: {}", one["name"], one["detail"]))
        .collect()
}

/// The expectations that the records decided nothing about though bytes, tokens, equalities or laws of them do, a line
/// each; with `times_too` also those that only times or energy decide. How well a machine emulates that was found too
/// busy is left open.
#[must_use]
pub fn undecided(summary: &Value, plan: &Value, times_too: bool) -> Vec<String> {
    let expectations = summary["expectations"].as_array().into_iter().flatten();
    let undecided = expectations.filter(|one| one["outcome"] == "undecided");
    let excused = |name: &Value| {
        let of_energy = claims_of_studies(plan, name).any(|claim| METERED.contains(&claim));
        !times_too && (of_energy || about_times(plan, name))
            || summary["verdict"] == "INVALID" && about_the_machine(plan, name)
    };
    undecided
        .filter(|one| !excused(&one["name"]))
        .map(|one| format!("undecided: {}: {}", one["name"], one["detail"]))
        .collect()
}

/// Notes the expectations with what came of them; those that must hold and did not are problems.
pub(super) fn check(
    summary: &Value,
    plan: &Value,
    found: &mut Vec<String>,
    problems: &mut Vec<String>,
) {
    for one in summary["expectations"].as_array().into_iter().flatten() {
        let line = format!(
            "expectation {} {}: {}",
            one["outcome"], one["name"], one["detail"]
        );
        // What a machine that was found too busy cannot do is no mistake of the program.
        let excused = summary["verdict"] == "INVALID" && about_the_machine(plan, &one["name"])
            || about_times(plan, &one["name"]);
        if one["outcome"] == "not-held" && !excused {
            problems.push(line);
        } else {
            found.push(line);
        }
    }
}

/// Whether an expectation is about how well this machine emulates, and not about what was run.
fn about_the_machine(plan: &Value, name: &Value) -> bool {
    let machine = [
        "rate-follows-trace",
        "round-trip-follows-trace",
        "shares-follow-cell",
        "constant-rates-pass",
    ];
    let mut claims = claims_of(plan, name);
    claims.any(|claim| machine.iter().any(|kind| claim.get(kind).is_some()))
}

fn about_times(plan: &Value, name: &Value) -> bool {
    claims_of_studies(plan, name).any(|claim| TIMED.contains(&claim))
        || claims_of(plan, name).any(|claim| claim.get("all-completed").is_some())
        // A machine that others share is not idle.
        || claims_of(plan, name).any(|claim| claim == "idle-power-stable")
}

fn claims_of_studies<'a>(plan: &'a Value, name: &'a Value) -> impl Iterator<Item = &'a str> {
    claims_of(plan, name).filter_map(|claim| claim["study"]["claim"].as_str())
}

fn claims_of<'a>(plan: &'a Value, name: &'a Value) -> impl Iterator<Item = &'a Value> {
    let expectations = plan["expectations"].as_array().into_iter().flatten();
    let named = expectations.filter(move |one| one["name"] == *name);
    named.map(|one| &one["claim"])
}

#[cfg(test)]
mod tests {
    use super::{METERED, TIMED};
    use hexloop_topologies::plan::StudyClaim;
    use serde_json::json;

    #[test]
    fn names_of_what_only_times_decide_are_names_of_claims() {
        let read = |name: &str| serde_json::from_value::<StudyClaim>(json!(name)).is_ok();
        assert!(TIMED.iter().chain(&METERED).all(|name| read(name)));
        assert!(!read("no-claim"));
    }
}
