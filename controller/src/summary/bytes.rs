//! From the byte formulas to the bytes on the wire, one direction at a time.

use hexloop_proto::PhaseEnd;
use hexloop_topologies::plan::{ModelPlan, PhasePlan};
use hexloop_traces::Direction;
use hexloop_workloads::job::{Outcome, Placement, RequestRecord};
use hexloop_workloads::transport::{Transport, UDP_HEADER_BYTES, ip_header_bytes};
use hexloop_workloads::wire::{self, HEADER_BYTES, PayloadBytes};

use super::WireAccount;
use crate::format::ratio;
use crate::results::PhaseResults;

const ETHERNET_BYTES: u64 = 14;

/// TCP 20, its timestamps option padded 12 (RFC 7323).
const TCP_BYTES: u64 = 20 + 12;

/// An opening segment carries MSS, SACK-permitted, timestamps and window scale: 20 bytes of
/// options where others have 12.
const OPENING_OPTION_BYTES: u64 = 20 - 12;

pub(super) const fn pick(bytes: PayloadBytes, direction: Direction) -> u64 {
    match direction {
        Direction::Up => bytes.up,
        Direction::Down => bytes.down,
    }
}

/// What one request puts on the link, by the formula of its placement.
pub(super) fn request_formula(
    phase: &PhasePlan,
    model: &ModelPlan,
    record: &RequestRecord,
) -> PayloadBytes {
    let prompt = u64::from(record.prompt_tokens);
    let output = u64::try_from(record.tokens.len()).unwrap_or(u64::MAX);
    match phase.placement {
        Placement::Device => PayloadBytes::default(),
        Placement::Edge => wire::edge_request_payload(prompt, output),
        Placement::Split { .. } => wire::split_request_payload(
            prompt,
            output,
            u64::from(model.width),
            u64::from(model.bytes_per_activation),
        ),
    }
}

/// Frame headers of one request.
fn request_framing(phase: &PhasePlan, record: &RequestRecord) -> PayloadBytes {
    let output = u64::try_from(record.tokens.len()).unwrap_or(u64::MAX);
    match phase.placement {
        Placement::Device => PayloadBytes::default(),
        Placement::Edge => PayloadBytes {
            up: HEADER_BYTES,
            down: output * HEADER_BYTES,
        },
        Placement::Split { .. } => PayloadBytes {
            up: (output + 1) * HEADER_BYTES,
            down: output * HEADER_BYTES,
        },
    }
}

/// The payload of everything that a phase put on the link, as its device counted.
pub(super) fn phase_payload(phase: &PhasePlan, end: &PhaseEnd) -> Option<PayloadBytes> {
    let job = end.jobs.iter().find(|job| job.node == phase.device)?;
    job.totals.as_ref().map(|totals| totals.payload)
}

/// The account of one direction; `None` when the phase left no totals.
pub(super) fn account(
    phase: &PhasePlan,
    model: &ModelPlan,
    recorded: &PhaseResults,
    direction: Direction,
) -> Option<WireAccount> {
    let end = recorded.end.as_ref()?;
    let payload_bytes = pick(phase_payload(phase, end)?, direction);
    let counters = end
        .links
        .iter()
        .find(|counters| counters.link == phase.link && counters.direction == direction)?;
    let (mut formula, mut counted, mut framing) = (
        PayloadBytes::default(),
        PayloadBytes::default(),
        PayloadBytes::default(),
    );
    let mut tokens = 0;
    let mut all_payload = PayloadBytes::default();
    for record in recorded.requests.values() {
        all_payload.add(record.payload);
        tokens += u64::try_from(record.tokens.len()).unwrap_or(0);
        if record.outcome == Outcome::Completed {
            formula.add(request_formula(phase, model, record));
            counted.add(record.payload);
            framing.add(request_framing(phase, record));
        }
    }
    let sender = match direction {
        Direction::Up => &phase.device,
        Direction::Down => &phase.edge,
    };
    let sender = end.jobs.iter().find(|job| &job.node == sender)?;
    let quic = match phase.transport {
        Transport::Tcp => None,
        // Without the sender's totals nothing is known of what QUIC made of the payload.
        Transport::Quic { .. } => Some(sender.totals.as_ref()?.quic?),
    };
    let below_ip = u64::from(ip_header_bytes(phase.edge_address.ip())) + ETHERNET_BYTES;
    let one_handshake = pick(wire::handshake_payload(), direction);
    let handshake_bytes = payload_bytes.saturating_sub(pick(all_payload, direction));
    let (header_bytes_per_packet, opening_bytes, segments_retransmitted) = match quic {
        None => (
            below_ip + TCP_BYTES,
            handshake_bytes / one_handshake * OPENING_OPTION_BYTES,
            sender.tcp.segments_retransmitted,
        ),
        Some(quic) => (below_ip + u64::from(UDP_HEADER_BYTES), 0, quic.lost_packets),
    };
    let quic_bytes = quic.map(|quic| quic.sent_bytes);
    let expected_wire_bytes = quic_bytes.unwrap_or(payload_bytes)
        + counters.packets * header_bytes_per_packet
        + opening_bytes;
    let difference = i128::from(counters.wire_bytes) - i128::from(expected_wire_bytes);
    Some(WireAccount {
        formula_bytes: pick(formula, direction),
        counted_bytes: pick(counted, direction),
        framing_bytes: pick(framing, direction),
        handshake_bytes,
        payload_bytes,
        payload_bytes_per_token: ratio(payload_bytes, tokens),
        quic_bytes,
        packets: counters.packets,
        header_bytes_per_packet,
        opening_bytes,
        expected_wire_bytes,
        wire_bytes: counters.wire_bytes,
        difference_bytes: i64::try_from(difference).unwrap_or(i64::MAX),
        segments_retransmitted,
    })
}
