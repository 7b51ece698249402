//! Traffic beside phases: what was sent, and what arrived.

use hexloop_topologies::plan::{BackgroundPlan, Plan};
use hexloop_workloads::traffic::{Carrier, TrafficRecord};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::format::{count_to_f64, ns_to_s, rounded};
use crate::results::{PhaseResults, Results};

/// Traffic beside one phase.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct BackgroundSummary {
    /// Its name.
    pub background: String,
    /// The phase.
    pub phase: String,
    /// The link.
    pub link: String,
    /// `up` or `down`.
    pub direction: String,
    /// `tcp` or `udp`.
    pub job: String,
    /// How its connection was really controlled; null for UDP.
    pub congestion_control: Option<String>,
    /// Bytes of payload that were handed to the kernel; null where its end did not say.
    pub sent_bytes: Option<u64>,
    /// Bytes of payload that arrived; null where its end did not say.
    pub received_bytes: Option<u64>,
    /// Datagrams that were sent; null for TCP.
    pub sent_packets: Option<u64>,
    /// Datagrams that arrived; null for TCP.
    pub received_packets: Option<u64>,
    /// Payload that arrived over the length of the phase, in Mbit/s.
    pub received_mbps: Option<f64>,
}

pub(super) fn summaries(plan: &Plan, results: &Results) -> Vec<BackgroundSummary> {
    let played = plan
        .phase_spans()
        .filter_map(|(name, _)| results.phase(name));
    let each = played.flat_map(|phase| {
        let beside = plan
            .background
            .iter()
            .filter(|it| it.is_beside(&phase.name));
        beside.map(move |background| summary(background, phase))
    });
    each.collect()
}

fn summary(plan: &BackgroundPlan, phase: &PhaseResults) -> BackgroundSummary {
    let name = &plan.background.name;
    let end = |sends: bool| -> Option<&TrafficRecord> {
        let mut records = phase.background.iter().map(|one| &one.record);
        records.find(|record| {
            let part = record.background.as_ref();
            part.is_some_and(|part| part.name == *name && part.sends == sends)
        })
    };
    let (sender, receiver) = (end(true), end(false));
    let is_udp = matches!(plan.background.carrier, Carrier::Udp { .. });
    let packets = |record: Option<&TrafficRecord>| {
        let part = record?.background.as_ref()?;
        is_udp.then_some(part.packets)
    };
    let received_bytes = receiver.map(|record| record.received_bytes);
    let length_s = phase.end.as_ref().map(|end| ns_to_s(end.duration_ns));
    BackgroundSummary {
        background: name.clone(),
        phase: phase.name.clone(),
        link: plan.link.clone(),
        direction: plan.direction.name().to_owned(),
        job: if is_udp { "udp" } else { "tcp" }.to_owned(),
        congestion_control: sender
            .map(|record| record.congestion_control.clone())
            .filter(|name| !name.is_empty()),
        sent_bytes: sender.map(|record| record.sent_bytes),
        received_bytes,
        sent_packets: packets(sender),
        received_packets: packets(receiver),
        received_mbps: received_bytes.zip(length_s).and_then(|(bytes, length_s)| {
            (length_s > 0.0).then(|| rounded(count_to_f64(bytes) * 8e-6 / length_s, 6))
        }),
    }
}
