//! What must hold of every run of a bundled experiment, checked on its summary and records as a
//! script would: on the JSON alone, so that a change of the interface is noticed here.

use std::collections::BTreeMap;

use hexloop_workloads::wire::{
    PayloadBytes, edge_request_payload, handshake_payload, split_request_payload,
};
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
    shape(summary, &mut problems);
    found.push(format!("verdict {}", summary["verdict"]));
    for reason in summary["reasons"].as_array().into_iter().flatten() {
        found.push(format!(
            "  reason: {}: {}",
            reason["subject"], reason["message"]
        ));
    }
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
    bytes(summary, plan, events, &mut found, &mut problems);
    if plan["phases"]
        .as_array()
        .is_some_and(|phases| !phases.is_empty())
    {
        tokens(events, &mut found, &mut problems);
    }
    traffic(summary, plan, &mut found, &mut problems);
    if problems.is_empty() {
        Ok(found)
    } else {
        Err(problems)
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

/// What is claimed of studies that only times and CPU times decide. Of jobs it is that all requests complete
/// before their phase ends: a job that gets no CPU ends nothing in time.
const TIMED: [&str; 34] = [
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

/// The expectations about times, or about power without work, that did not hold, a line each. On a machine that others share they say no
/// more than that it was not left alone, which is why [`check`] lets them be.
#[must_use]
pub fn times_not_held(summary: &Value, plan: &Value) -> Vec<String> {
    let expectations = summary["expectations"].as_array().into_iter().flatten();
    let not_held = expectations.filter(|one| one["outcome"] == "not-held");
    let timed = not_held.filter(|one| about_times(plan, &one["name"]));
    timed
        .map(|one| format!("not held, by times: {}: {}", one["name"], one["detail"]))
        .collect()
}

/// What is claimed of studies that energy decides beside those of [`TIMED`]: without meters there is nothing to judge.
const METERED: [&str; 1] = ["counter-is-integrated-power"];

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

/// What is wrong with how long a run took, from the agent's start until everything was taken down; `None` if that is
/// within so many seconds.
#[must_use]
pub fn overrun(events: &[Value], within_s: u64) -> Option<String> {
    let mut ends = events.iter().rev();
    let end = ends.find(|event| event["event"] == "taken-down");
    let Some(took_ns) = end.and_then(|event| event["done_ns"].as_u64()) else {
        return Some("the events do not say when everything was taken down".to_owned());
    };
    let most_ns = within_s.saturating_mul(1_000_000_000);
    (took_ns > most_ns).then(|| {
        let (took_s, rest_ms) = (took_ns / 1_000_000_000, took_ns / 1_000_000 % 1000);
        format!("the run took {took_s}.{rest_ms:03} s, more than {within_s} s")
    })
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

fn shape(summary: &Value, problems: &mut Vec<String>) {
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

/// Every traffic phase has measured what it is for.
fn traffic(summary: &Value, plan: &Value, found: &mut Vec<String>, problems: &mut Vec<String>) {
    let played = summary["traffic"].as_array();
    for phase in plan["traffic"].as_array().into_iter().flatten() {
        let name = &phase["name"];
        let one = played
            .into_iter()
            .flatten()
            .find(|one| one["phase"] == *name);
        let Some(one) = one else {
            problems.push(format!("traffic {name} is not in the summary"));
            continue;
        };
        let directions = one["following"].as_array().into_iter().flatten();
        let windows = directions.map(|one| one["windows"].as_u64().unwrap_or(0));
        let trips = &one["round_trips"];
        let back = trips["sent"].as_u64().zip(trips["lost"].as_u64());
        let measured = match one["job"].as_str() {
            Some("bulk") => windows.min(),
            _ => back.map(|(sent, lost)| sent - lost),
        };
        match measured {
            Some(count @ 1..) => found.push(format!("traffic {name}: {count} values")),
            _ => problems.push(format!("traffic {name} measured nothing: {one}")),
        }
    }
}

/// The requests of a phase, from the events.
fn requests<'a>(events: &'a [Value], phase: &str) -> Vec<&'a Value> {
    let of_phase = events
        .iter()
        .filter(|event| event["event"] == "request" && event["phase"] == phase);
    of_phase.map(|event| &event["record"]).collect()
}

fn payload(value: &Value) -> Option<PayloadBytes> {
    Some(PayloadBytes {
        up: value["up"].as_u64()?,
        down: value["down"].as_u64()?,
    })
}

/// What the formula gives for one completed request.
fn formula(plan: &Value, phase: &Value, record: &Value) -> Option<PayloadBytes> {
    let prompt = record["prompt_tokens"].as_u64()?;
    let output = u64::try_from(record["tokens"].as_array()?.len()).ok()?;
    let placement = &phase["placement"];
    if placement == "device" {
        return Some(PayloadBytes::default());
    }
    if placement == "edge" {
        return Some(edge_request_payload(prompt, output));
    }
    let width = plan["model"]["width"].as_u64()?;
    let bytes = plan["model"]["bytes_per_activation"].as_u64()?;
    placement
        .get("split")
        .map(|_| split_request_payload(prompt, output, width, bytes))
}

fn bytes(
    summary: &Value,
    plan: &Value,
    events: &[Value],
    found: &mut Vec<String>,
    problems: &mut Vec<String>,
) {
    for phase in plan["phases"].as_array().into_iter().flatten() {
        let name = phase["name"].as_str().unwrap_or_default();
        let records = requests(events, name);
        let mut counted = PayloadBytes::default();
        let mut completed = 0;
        for record in &records {
            let Some(bytes) = payload(&record["payload"]) else {
                problems.push(format!("{name}: request {} has no payload", record["id"]));
                continue;
            };
            counted.add(bytes);
            if record["outcome"] != "completed" {
                continue;
            }
            completed += 1;
            let expected = formula(plan, phase, record);
            if expected != Some(bytes) {
                let id = &record["id"];
                problems.push(format!(
                    "{name}: request {id} put {bytes:?}, not {expected:?}"
                ));
            }
        }
        if completed == 0 {
            problems.push(format!("{name}: no request completed"));
        }
        let job = summary["jobs"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|job| job["phase"] == name);
        let Some(job) = job else {
            problems.push(format!("{name}: not in the summary"));
            continue;
        };
        wire(job, name, completed == records.len(), problems);
        // Only when every request ran to its end do the totals follow from the records alone.
        let (up, down) = (
            &job["link_payload_bytes_up"],
            &job["link_payload_bytes_down"],
        );
        if completed == records.len() {
            if phase["placement"] != "device" {
                counted.add(handshake_payload());
            }
            if up.as_u64() != Some(counted.up) || down.as_u64() != Some(counted.down) {
                problems.push(format!(
                    "{name}: totals {up} up, {down} down, not {counted:?}"
                ));
            }
        }
        found.push(format!(
            "bytes of {name}: {completed} of {} requests as the formula says, {up} up, {down} down",
            records.len()
        ));
    }
}

/// What QUIC may send once its bytes have been counted.
const QUIC_FAREWELL_BYTES: i64 = 1000;

/// Where neither end sent a segment again, what was on the wire is payload and headers to the byte.
///
/// One end alone does not do: a prompt that a tail-loss probe sends again is answered by a selective
/// acknowledgement (D-SACK, RFC 2883) of 12 bytes from an end that itself repeated nothing. Payload
/// of requests that did not complete may have been discarded before it left, so there the wire may
/// hold less.
///
/// QUIC goes on acknowledging and closing after the job has counted, a few short packets in all.
fn wire(job: &Value, name: &str, all_completed: bool, problems: &mut Vec<String>) {
    let accounts = [&job["wire_up"], &job["wire_down"]];
    let again = |account: &&Value| account["segments_retransmitted"].as_u64();
    if accounts.iter().map(again).sum::<Option<u64>>() != Some(0) {
        return;
    }
    for (direction, account) in ["up", "down"].into_iter().zip(accounts) {
        let difference = account["difference_bytes"].as_i64();
        let held = match difference {
            Some(0) => true,
            Some(bytes) if job["transport"] == "quic" => bytes.abs() <= QUIC_FAREWELL_BYTES,
            Some(bytes) => bytes < 0 && !all_completed,
            None => false,
        };
        if !held {
            let number = &account["difference_bytes"];
            problems.push(format!(
                "{name}: {number} bytes more {direction} on the wire than payload and headers, \
                 though no segment was sent again in either direction"
            ));
        }
    }
}

/// Completed requests of the same number have the same tokens in every phase.
fn tokens(events: &[Value], found: &mut Vec<String>, problems: &mut Vec<String>) {
    let mut first: BTreeMap<u64, (&Value, &Value)> = BTreeMap::new();
    let mut compared = 0;
    for event in events.iter().filter(|event| event["event"] == "request") {
        let (phase, record) = (&event["phase"], &event["record"]);
        let (Some(id), true) = (record["id"].as_u64(), record["outcome"] == "completed") else {
            continue;
        };
        let (earlier, tokens) = *first.entry(id).or_insert((phase, &record["tokens"]));
        if earlier == phase {
            continue;
        }
        compared += 1;
        if *tokens != record["tokens"] {
            problems.push(format!(
                "request {id} has other tokens in {phase} than in {earlier}"
            ));
        }
    }
    if compared == 0 {
        problems.push("no request completed in two phases, so no tokens were compared".to_owned());
    }
    found.push(format!(
        "tokens equal in {compared} comparisons between phases"
    ));
}

#[cfg(test)]
mod tests {
    use super::*;
    use hexloop_topologies::plan::StudyClaim;
    use serde_json::json;

    fn job(phase: &str, up: u64, down: u64) -> Value {
        json!({
            "phase": phase, "requests": 1, "output_tokens": 2, "ttft_ms": {}, "tpot_ms": {},
            "e2e_ms": {}, "link_payload_bytes_up": up, "link_payload_bytes_down": down,
            "link_wire_bytes_up": 0, "link_wire_bytes_down": 0, "energy_j": {},
        })
    }

    fn request(phase: &str, up: u64, down: u64, tokens: &[u32]) -> Value {
        json!({ "event": "request", "phase": phase, "record": {
            "id": 0, "prompt_tokens": 3, "tokens": tokens, "outcome": "completed",
            "payload": { "up": up, "down": down },
        } })
    }

    fn run() -> (Value, Value, Vec<Value>) {
        let summary = json!({
            "status": "complete", "leftovers": [], "expectations": [],
            "verdict": "VALID",
            "reasons": [],
            "links": [{ "datapath": "relay", "delivered_over_trace": 1.0, "lateness_us": {} }],
            "jobs": [job("edge", 28 + 88, 40 + 56), job("split", 112 + 88, 40 + 56)],
        });
        let plan = json!({
            "model": { "width": 4, "bytes_per_activation": 4 },
            "phases": [
                { "name": "edge", "placement": "edge" },
                { "name": "split", "placement": { "split": { "layers_on_device": 1 } } },
            ],
        });
        let events = vec![
            request("edge", 28, 40, &[5, 6]),
            request("split", 112, 40, &[5, 6]),
        ];
        (summary, plan, events)
    }

    #[test]
    fn a_run_whose_bytes_and_tokens_agree_passes() {
        let (summary, plan, events) = run();
        let found = check(&summary, &plan, &events).unwrap();
        assert!(
            found
                .iter()
                .any(|line| line.contains("tokens equal in 1 comparison")),
            "{found:?}"
        );
    }

    #[test]
    fn one_byte_too_many_or_one_other_token_is_found() {
        let (summary, plan, mut events) = run();
        events[1] = request("split", 113, 40, &[5, 7]);
        let problems = check(&summary, &plan, &events).unwrap_err();
        assert!(
            problems.iter().any(|line| line.contains("113")),
            "{problems:?}"
        );
        assert!(
            problems.iter().any(|line| line.contains("other tokens")),
            "{problems:?}"
        );
    }

    #[test]
    fn quic_may_say_goodbye_after_its_bytes_were_counted_and_no_more() {
        let found = |difference: i64| {
            let (mut summary, plan, events) = run();
            summary["jobs"][0]["transport"] = json!("quic");
            let account = json!({ "segments_retransmitted": 0, "difference_bytes": difference });
            summary["jobs"][0]["wire_up"] = account.clone();
            summary["jobs"][0]["wire_down"] = account;
            check(&summary, &plan, &events).is_ok()
        };
        assert!(found(0) && found(120) && found(-120));
        assert!(!found(1200) && !found(-1200));
    }

    #[test]
    fn a_byte_on_the_wire_that_nobody_sent_again_is_found() {
        let found = |again: u64, difference: i64| {
            let (mut summary, plan, events) = run();
            summary["jobs"][0]["wire_up"] =
                json!({ "segments_retransmitted": again, "difference_bytes": 272 * again });
            summary["jobs"][0]["wire_down"] =
                json!({ "segments_retransmitted": 0, "difference_bytes": difference });
            check(&summary, &plan, &events)
        };
        assert!(found(0, 0).is_ok());
        // A tail-loss probe in the other direction was answered with a D-SACK option.
        assert!(found(1, 12).is_ok());
        for difference in [12, -12] {
            let problems = found(0, difference).unwrap_err();
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].contains("down on the wire"), "{problems:?}");
        }
    }

    #[test]
    fn what_a_busy_machine_cannot_do_is_excused_only_where_it_was_found_too_busy() {
        let (mut summary, mut plan, events) = run();
        plan["expectations"] =
            json!([{ "name": "a", "claim": { "rate-follows-trace": { "phase": "bulk" } } }]);
        summary["expectations"] = json!([{ "name": "a", "outcome": "not-held", "detail": "b" }]);
        assert!(check(&summary, &plan, &events).is_err());
        summary["verdict"] = json!("INVALID");
        summary["reasons"] = json!([{ "subject": "x", "message": "y" }]);
        assert!(check(&summary, &plan, &events).is_ok());
        plan["expectations"] = json!([{ "name": "a", "claim": { "same-tokens": {} } }]);
        assert!(check(&summary, &plan, &events).is_err());
    }

    #[test]
    fn a_claim_that_did_not_hold_or_a_missing_field_is_found() {
        let (mut summary, plan, events) = run();
        summary["expectations"] = json!([{ "name": "a", "outcome": "not-held", "detail": "b" }]);
        summary["jobs"][0]
            .as_object_mut()
            .unwrap()
            .remove("energy_j");
        let problems = check(&summary, &plan, &events).unwrap_err();
        assert_eq!(problems.len(), 2, "{problems:?}");
    }

    #[test]
    fn what_only_times_decide_is_told_apart_from_what_must_hold() {
        let (mut summary, mut plan, events) = run();
        let of = |claim: &str| json!({ "study": { "study": "s", "claim": claim } });
        plan["expectations"] = json!([
            { "name": "a", "claim": of("regimes-as-predicted") },
            { "name": "b", "claim": of("arms-agree") },
            { "name": "c", "claim": { "all-completed": { "phase": "edge" } } },
        ]);
        let judged = |a: &str, b: &str| {
            json!([
                { "name": "a", "outcome": a, "detail": "x" },
                { "name": "b", "outcome": b, "detail": "y" },
                { "name": "c", "outcome": a, "detail": "z" },
            ])
        };
        summary["expectations"] = judged("not-held", "held");
        assert!(check(&summary, &plan, &events).is_ok());
        assert_eq!(times_not_held(&summary, &plan).len(), 2);
        summary["expectations"] = judged("held", "not-held");
        assert!(check(&summary, &plan, &events).is_err());
        assert_eq!(times_not_held(&summary, &plan), Vec::<String>::new());
    }

    #[test]
    fn what_bytes_tokens_equalities_and_laws_decide_may_not_be_undecided() {
        let (mut summary, mut plan, _) = run();
        let of = |claim: &str| json!({ "study": { "study": "s", "claim": claim } });
        plan["expectations"] = json!([
            { "name": "bytes", "claim": of("arm-bytes-follow-formula") },
            { "name": "tokens", "claim": { "same-tokens": { "phases": ["edge", "split"] } } },
            { "name": "times", "claim": of("best-cut-flips") },
            { "name": "energy", "claim": of("counter-is-integrated-power") },
            { "name": "rate", "claim": { "rate-follows-trace": { "phase": "bulk" } } },
            { "name": "idle", "claim": "idle-power-stable" },
        ]);
        let names = ["bytes", "tokens", "times", "energy", "rate", "idle"];
        let open = |summary: &mut Value, left: &[&str]| {
            let judged = names.map(|name| {
                let outcome = if left.contains(&name) {
                    "undecided"
                } else {
                    "held"
                };
                json!({ "name": name, "outcome": outcome, "detail": "x" })
            });
            summary["expectations"] = json!(judged);
        };
        for (left, found, found_with_times) in [
            (["bytes"].as_slice(), 1, 1),
            (&["tokens", "rate"], 2, 2),
            (&["times", "energy", "idle"], 0, 3),
            (&[], 0, 0),
        ] {
            open(&mut summary, left);
            assert_eq!(undecided(&summary, &plan, false).len(), found, "{left:?}");
            let with_times = undecided(&summary, &plan, true);
            assert_eq!(with_times.len(), found_with_times, "{left:?}");
        }
        open(&mut summary, &["rate"]);
        summary["verdict"] = json!("INVALID");
        assert_eq!(undecided(&summary, &plan, false), Vec::<String>::new());
    }

    #[test]
    fn a_run_is_within_its_time_or_says_by_how_much_it_is_not() {
        let end = |done_ns: u64| json!({ "event": "taken-down", "done_ns": done_ns });
        assert_eq!(overrun(&[end(300_000_000_000)], 300), None);
        let late = overrun(&[end(300_250_000_000)], 300).unwrap();
        assert!(late.contains("300.250 s, more than 300 s"), "{late}");
        assert!(overrun(&[], 300).is_some());
    }

    #[test]
    fn names_of_what_only_times_decide_are_names_of_claims() {
        let read = |name: &str| serde_json::from_value::<StudyClaim>(json!(name)).is_ok();
        assert!(TIMED.iter().chain(&METERED).all(|name| read(name)));
        assert!(!read("no-claim"));
    }
}
