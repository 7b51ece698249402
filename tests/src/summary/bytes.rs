//! Bytes of requests, of jobs and on the wire against the formulas.

use hexloop_workloads::wire::{
    PayloadBytes, edge_request_payload, handshake_payload, split_request_payload,
};
use serde_json::Value;

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

/// Every completed request put as many bytes as the formula says, and jobs the sum of their requests.
pub(super) fn check(
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
