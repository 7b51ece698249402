use super::*;
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
