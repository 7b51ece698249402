//! What studies put on their links.

use hexloop_traces::Direction;
use hexloop_workloads::transport::Transport;
use hexloop_workloads::wire::HEADER_BYTES;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Findings;
use crate::results::PhaseResults;

/// What a study put on a link, in one direction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StudyLink {
    /// The link.
    pub link: String,
    /// `down` or `up`.
    pub direction: String,
    /// Bytes of all trials without their headers.
    pub payload_bytes: u64,
    /// Headers of their frames.
    pub framing_bytes: u64,
    /// Everything else that the job behind the link counted: handshake, echoes, measuring, books.
    pub other_bytes: Option<u64>,
    /// Packets on the interface.
    pub packets: Option<u64>,
    /// What QUIC made of what is counted, as the job behind the link did; null over TCP.
    #[serde(default)]
    pub quic_bytes: Option<u64>,
    /// Bytes on the interface, headers of Ethernet, IP and TCP or UDP included.
    pub wire_bytes: Option<u64>,
    /// What those should be: what the job counted, 66 bytes for each packet, 8 of the opening; over QUIC
    /// what that made of it, and 42 bytes for each packet.
    pub expected_wire_bytes: Option<u64>,
    /// Segments that were sent again, at the sending end; over QUIC packets that it took for lost.
    pub segments_retransmitted: Option<u64>,
}

/// Ethernet 14, IPv4 20, TCP 20 with its time stamps 12.
const PACKET_HEADER_BYTES: u64 = 66;

/// Ethernet 14, IPv4 20, UDP 8.
const DATAGRAM_HEADER_BYTES: u64 = 42;

/// Options of an opening segment beyond those of others.
const OPENING_BYTES: u64 = 8;

/// Every link of a study's path, both ways.
pub(super) fn of_path(findings: &Findings<'_>, recorded: &PhaseResults) -> Vec<StudyLink> {
    let study = findings.plan;
    let mut links = Vec::new();
    // Several users' links are not one behind the other: their requests are told one by one.
    if study.study.shared.is_some() {
        return links;
    }
    for (index, hop) in study.hops.iter().enumerate() {
        let (front, behind) = (study.path.get(index), study.path.get(index + 1));
        for direction in Direction::BOTH {
            let (mut bytes, mut frames) = (0, 0);
            let hops = findings.all_trials();
            for hop in hops.filter_map(|trial| trial.hops.get(index)) {
                let (more, of_frames) = match direction {
                    Direction::Up => (hop.up, hop.frames_up),
                    Direction::Down => (hop.down, hop.frames_down),
                };
                bytes += more;
                frames += of_frames;
            }
            let end = recorded.end.as_ref();
            let job = |node: Option<&String>| end?.jobs.iter().find(|job| Some(&job.node) == node);
            let totals = job(behind).and_then(|job| job.totals.as_ref());
            let counted = totals.map(|totals| match direction {
                Direction::Up => totals.payload.up,
                Direction::Down => totals.payload.down,
            });
            let sender = match direction {
                Direction::Up => front,
                Direction::Down => behind,
            };
            let counters = end.and_then(|end| {
                end.links
                    .iter()
                    .find(|known| known.link == hop.link && known.direction == direction)
            });
            let framing_bytes = frames * HEADER_BYTES;
            let is_quic = study.transport != Transport::Tcp;
            let quic = totals.and_then(|totals| totals.quic);
            let quic_bytes = quic.map(|quic| match direction {
                Direction::Up => quic.received_bytes,
                Direction::Down => quic.sent_bytes,
            });
            let below = if is_quic { quic_bytes } else { counted };
            let per_packet = |packets: u64| match is_quic {
                true => packets * DATAGRAM_HEADER_BYTES,
                false => packets * PACKET_HEADER_BYTES + OPENING_BYTES,
            };
            let again = match direction {
                _ if !is_quic => job(sender).map(|job| job.tcp.segments_retransmitted),
                Direction::Down => quic.map(|quic| quic.lost_packets),
                // A stage's totals are of the connection in front of it.
                Direction::Up if index > 0 => None,
                Direction::Up => job(sender)
                    .and_then(|job| job.totals.as_ref()?.quic)
                    .map(|quic| quic.lost_packets),
            };
            links.push(StudyLink {
                link: hop.link.clone(),
                direction: direction.name().to_owned(),
                payload_bytes: bytes.saturating_sub(framing_bytes),
                framing_bytes,
                other_bytes: counted.and_then(|counted| counted.checked_sub(bytes)),
                packets: counters.map(|counters| counters.packets),
                quic_bytes: quic_bytes.filter(|_| is_quic),
                wire_bytes: counters.map(|counters| counters.wire_bytes),
                expected_wire_bytes: below
                    .zip(counters)
                    .map(|(below, counters)| below + per_packet(counters.packets)),
                segments_retransmitted: again,
            });
        }
    }
    links
}
