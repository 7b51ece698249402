//! The fields of a summary that scripts rely on.

use serde_json::Value;

/// The fields of every job that scripts rely on.
const JOB_FIELDS: [&str; 10] = [
    "requests",
    "output_tokens",
    "ttft_ms",
    "tpot_ms",
    "e2e_ms",
    "link_payload_bytes_up",
    "link_payload_bytes_down",
    "link_wire_bytes_up",
    "link_wire_bytes_down",
    "energy_j",
];

/// The summary says how its run ended, and of each link, job and study what is expected of every run.
pub(super) fn check(summary: &Value, problems: &mut Vec<String>) {
    let outcome = summary["verdict"].as_str();
    if !matches!(outcome, Some("VALID" | "INVALID")) {
        problems.push(format!("verdict is {outcome:?}, not VALID or INVALID"));
    }
    if outcome == Some("INVALID") && summary["reasons"] == Value::Array(Vec::new()) {
        problems.push("the verdict is INVALID for no reason".to_owned());
    }
    if summary["status"] != "complete" {
        problems.push(format!("status is {}, not complete", summary["status"]));
    }
    if summary["leftovers"]
        .as_array()
        .is_none_or(|left| !left.is_empty())
    {
        problems.push(format!("left over: {}", summary["leftovers"]));
    }
    let links = summary["links"].as_array();
    if links.is_none_or(Vec::is_empty) {
        problems.push("the summary has no links".to_owned());
    }
    for link in links.into_iter().flatten() {
        for field in ["datapath", "delivered_over_trace", "lateness_us"] {
            if link.get(field).is_none() {
                problems.push(format!("a link has no field {field}"));
            }
        }
    }
    let jobs = summary["jobs"].as_array();
    let traffic = summary["traffic"].as_array().into_iter().flatten();
    let studies = summary["studies"].as_array().into_iter().flatten();
    let loads = summary["loads"].as_array().into_iter().flatten();
    for study in studies.clone() {
        if study["trials"].as_u64().unwrap_or(0) == 0 {
            problems.push(format!("study {} has no trial", study["study"]));
        }
    }
    if jobs.is_none_or(Vec::is_empty) && traffic.count() + studies.count() + loads.count() == 0 {
        problems.push("the summary has neither jobs, traffic, studies nor loads".to_owned());
    }
    for job in jobs.into_iter().flatten() {
        for field in JOB_FIELDS {
            if job.get(field).is_none() {
                problems.push(format!("job {} has no field {field}", job["phase"]));
            }
        }
        if job["requests"].as_u64().unwrap_or(0) == 0 {
            problems.push(format!("job {} has no requests", job["phase"]));
        }
    }
}
