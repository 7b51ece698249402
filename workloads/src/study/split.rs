//! What splitting a model costs, and when it pays: the laws that the studies of splits are judged
//! by (technique 8 of the surveys, and 10 for more than two nodes).
//!
//! A dense decoder has the same width everywhere, so the cut does not change what crosses the link
//! for each token. The time of a token is therefore linear in the cut, and its best cut is one of
//! the two ends. Which one flips at one rate of the link.

use super::{Arm, HopBytes, NodeCosts, StudySpec};
use crate::coding::Coding;
use crate::wire::HEADER_BYTES;

/// IPv4 20, TCP 20 with its time stamps 12. Not Ethernet's 14: rates of links count IP bytes.
const SEGMENT_HEADER_BYTES: u64 = 20 + 20 + 12;

/// Payload of a full segment: a packet of 1500 bytes without its headers.
const SEGMENT_BYTES: u64 = 1500 - SEGMENT_HEADER_BYTES;

/// Body of the frame that opens a request: the layer that the first stage begins with, how states are
/// coded, and where each stage ends.
#[must_use]
pub const fn begin_bytes(stages: u64) -> u64 {
    4 * (2 + stages)
}

/// What one request of `prompt` and `output` tokens puts on each link of a path, the first link
/// first: the opening, `S d b` bytes of states for the prompt, `d b` for each further token but the
/// last, what their coding says of itself once, a closing frame, and 4 bytes back for each token.
#[must_use]
pub fn hop_bytes(
    links: u64,
    (prompt, output): (u64, u64),
    (coding, width): (Coding, u64),
) -> Vec<HopBytes> {
    let tokens = (prompt + output).saturating_sub(1);
    let states = tokens * coding.token_bytes(width) + coding.opening_bytes(width);
    let of_link = |link: u64| {
        let frames_up = output + 2;
        HopBytes {
            up: frames_up * HEADER_BYTES + begin_bytes(links - link) + states,
            down: output * (HEADER_BYTES + 4),
            frames_up,
            frames_down: output,
        }
    };
    (0..links).map(of_link).collect()
}

/// IP bytes on the wire of one frame with a body of so many bytes, one way.
#[must_use]
pub const fn wire_bytes_of_frame(body_bytes: u64) -> u64 {
    let bytes = HEADER_BYTES + body_bytes;
    bytes + bytes.div_ceil(SEGMENT_BYTES) * SEGMENT_HEADER_BYTES
}

/// Bytes on the wire, both ways, for one generated token on one link.
#[must_use]
pub const fn wire_bytes_per_token(state_bytes: u64) -> u64 {
    wire_bytes_of_frame(state_bytes) + wire_bytes_of_frame(4)
}

/// What moving layers `least..all` and the head from the device to the edge saves for each token,
/// before anything crosses the link; negative if the edge is slower.
#[must_use]
pub fn saving_ns(device: &NodeCosts, edge: &NodeCosts, (least, all): (u32, u32)) -> i128 {
    let layers = i128::from(all.saturating_sub(least));
    let of_layers = layers * (i128::from(device.layer_ns) - i128::from(edge.layer_ns));
    let heads = |costs: &NodeCosts| i128::from(costs.head_ns.unwrap_or(0));
    of_layers + heads(device) - heads(edge) - i128::from(edge.fixed_ns)
}

/// The rate in bit/s at which splitting after as few layers as allowed costs as much as no split:
/// `R_c = d b / ((L - l_min)(c_d - c_s) - RTT)`, with the head and the headers counted. `None` if
/// the denominator is not positive: then splitting wins at no rate.
#[must_use]
pub fn critical_rate_bps(saving_ns: i128, round_trip_ns: u64, wire_bytes: u64) -> Option<u64> {
    let left_ns = saving_ns - i128::from(round_trip_ns);
    if left_ns <= 0 {
        return None;
    }
    u64::try_from(i128::from(wire_bytes) * 8 * 1_000_000_000 / left_ns).ok()
}

/// The fewest layers that an arm leaves on the first node while others get some, and all layers, of
/// a study over one link that tries both; `None` of any other.
#[must_use]
pub fn corners(study: &StudySpec) -> Option<(u32, u32)> {
    if study.nodes() != 2 {
        return None;
    }
    let parted = study.arms.iter().filter(|arm| !arm.is_whole());
    let least = parted.map(Arm::first_cut).min()?;
    let whole = study.arms.iter().find(|arm| arm.is_whole())?;
    Some((least, whole.first_cut()))
}

/// The costs of each node, the medians of several measurements.
#[must_use]
pub fn median_costs(measured: &[&[NodeCosts]]) -> Vec<NodeCosts> {
    let nodes = measured.iter().map(|costs| costs.len()).min().unwrap_or(0);
    let of_node = |node: usize| {
        let all = || measured.iter().filter_map(|costs| costs.get(node));
        let middle = |of: &dyn Fn(&NodeCosts) -> Option<u64>| {
            let mut values: Vec<u64> = all().filter_map(of).collect();
            values.sort_unstable();
            values.get(values.len() / 2).copied()
        };
        NodeCosts {
            layer_ns: middle(&|costs| Some(costs.layer_ns)).unwrap_or(0),
            fixed_ns: middle(&|costs| Some(costs.fixed_ns)).unwrap_or(0),
            head_ns: middle(&|costs| costs.head_ns),
            passes: all().map(|costs| costs.passes).sum(),
        }
    };
    (0..nodes).map(of_node).collect()
}

/// How long a token keeps each node of the path busy: its layers, what a pass costs besides, and the
/// head on the last node that has layers.
#[must_use]
pub fn stage_times_ns(arm: &Arm, costs: &[NodeCosts]) -> Vec<u64> {
    let mut start = 0;
    let all = arm.ends().last().copied().unwrap_or(0);
    let stages = arm.ends().iter().zip(costs).map(|(end, costs)| {
        let layers = u64::from(end.saturating_sub(start));
        let head = (*end == all && start < all)
            .then_some(costs.head_ns)
            .flatten();
        start = *end;
        match layers {
            0 => 0,
            _ => layers * costs.layer_ns + costs.fixed_ns + head.unwrap_or(0),
        }
    });
    stages.collect()
}

/// How long a token occupies one link, both ways, at a rate.
#[must_use]
pub fn link_time_ns(rate_bps: u64, state_bytes: u64) -> u64 {
    wire_bytes_per_token(state_bytes) * 8 * 1_000_000_000 / rate_bps.max(1)
}

/// The time of a token after the first along a path with one request under way: what the nodes
/// compute, what the links carry, and the round trip of an empty frame over all of them.
#[must_use]
pub fn token_time_ns(
    arm: &Arm,
    costs: &[NodeCosts],
    (echo_ns, rate_bps): (u64, u64),
    state_bytes: u64,
) -> u64 {
    let stages: u64 = stage_times_ns(arm, costs).iter().sum();
    if arm.is_whole() {
        return stages;
    }
    let links = u64::try_from(arm.ends().len().saturating_sub(1)).unwrap_or(u64::MAX);
    stages + echo_ns + links.saturating_mul(link_time_ns(rate_bps, state_bytes))
}

/// The time between tokens along a path with several requests under way: each node and each link
/// works on another of them, so the slowest sets the pace, unless too few are under way to fill the
/// path.
#[must_use]
pub fn pipelined_time_ns(
    arm: &Arm,
    costs: &[NodeCosts],
    (echo_ns, rate_bps): (u64, u64),
    state_bytes: u64,
) -> u64 {
    let alone = token_time_ns(arm, costs, (echo_ns, rate_bps), state_bytes);
    let slowest = stage_times_ns(arm, costs).into_iter().max().unwrap_or(0);
    let slowest = match arm.is_whole() {
        true => slowest,
        false => slowest.max(link_time_ns(rate_bps, state_bytes)),
    };
    slowest.max(alone / u64::from(arm.in_flight().max(1)))
}

/// How long one direction of a link is busy with frames of so many bytes altogether, each of which
/// travels in segments with headers of their own.
fn frames_time_ns(bytes: u64, frames: u64, rate_bps: u64) -> u64 {
    // A frame that is longer than a segment has further headers: a few per mille of it.
    wire_time_ns(bytes + frames * SEGMENT_HEADER_BYTES, rate_bps)
}

/// How long so many bytes on the wire occupy one direction of a link.
#[must_use]
pub fn wire_time_ns(wire_bytes: u64, rate_bps: u64) -> u64 {
    let bits = u128::from(wire_bytes) * 8;
    u64::try_from(bits * 1_000_000_000 / u128::from(rate_bps.max(1))).unwrap_or(u64::MAX)
}

/// How long a request takes with no other under way: what each node computed for it, what each link
/// carried for it both ways, and for every token the round trip of an empty frame over the whole path.
#[must_use]
pub fn request_time_ns(
    (busy_ns, hops): (&[u64], &[HopBytes]),
    tokens: u64,
    (echo_ns, rate_bps): (u64, u64),
) -> u64 {
    let links = hops.iter().map(|hop| {
        frames_time_ns(hop.up, hop.frames_up, rate_bps)
            + frames_time_ns(hop.down, hop.frames_down, rate_bps)
    });
    busy_ns.iter().sum::<u64>() + links.sum::<u64>() + tokens * echo_ns
}

/// How long the slowest node or direction of a link is busy with some requests: what they take together
/// if the path is full meanwhile.
#[must_use]
pub fn slowest_time_ns(busy_ns: &[u64], hops: &[HopBytes], rate_bps: u64) -> u64 {
    let links = hops.iter().map(|hop| {
        let up = frames_time_ns(hop.up, hop.frames_up, rate_bps);
        up.max(frames_time_ns(hop.down, hop.frames_down, rate_bps))
    });
    busy_ns.iter().copied().chain(links).max().unwrap_or(0)
}

/// The critical rate of a study's round trip, from its costs and what an empty frame took.
#[must_use]
pub fn critical_rate_of(
    study: &StudySpec,
    costs: &[NodeCosts],
    echo_ns: u64,
    state_bytes: u64,
) -> Option<u64> {
    let [device, edge] = costs else { return None };
    let saving_ns = saving_ns(device, edge, corners(study)?);
    critical_rate_bps(saving_ns, echo_ns, wire_bytes_per_token(state_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(layer_ns: u64, head_ns: u64) -> NodeCosts {
        NodeCosts {
            layer_ns,
            fixed_ns: 0,
            head_ns: Some(head_ns),
            passes: 1,
        }
    }

    #[test]
    fn the_critical_rate_is_that_of_the_formula_and_ends_with_the_saving() {
        // 5 layers, each 2 ms cheaper, and a head 1 ms cheaper: 11 ms; 1 ms of round trip leaves 10.
        let saving = saving_ns(
            &costs(2_500_000, 1_500_000),
            &costs(500_000, 500_000),
            (1, 6),
        );
        assert_eq!(saving, 11_000_000);
        assert_eq!(critical_rate_bps(saving, 1_000_000, 1250), Some(1_000_000));
        assert_eq!(critical_rate_bps(saving, 11_000_000, 1250), None);
        assert_eq!(critical_rate_bps(saving, 40_000_000, 1250), None);
    }

    #[test]
    fn each_link_of_a_path_carries_every_state_once_and_a_shorter_opening() {
        // 3 prompt tokens, 2 generated, 16 bytes a state: 4 states; opening, 2 frames, closing.
        let hops = hop_bytes(2, (3, 2), (Coding::F32, 4));
        assert_eq!((hops[0].up, hops[0].down), (64 + 4 * 16 + 16, 40));
        assert_eq!((hops[1].up, hops[1].down), (64 + 4 * 16 + 12, 40));
    }

    #[test]
    fn a_token_on_the_wire_has_the_headers_of_its_segments() {
        assert_eq!(wire_bytes_per_token(1024), 1024 + 16 + 52 + 20 + 52);
        // 4096 bytes and a header need three segments.
        assert_eq!(wire_bytes_per_token(4096), 4096 + 16 + 3 * 52 + 20 + 52);
    }
}
