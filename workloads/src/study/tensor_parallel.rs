//! Tensor-parallel pairs (technique 11 of the surveys): each node has half of every layer, and after the attention
//! and the feed-forward part of each layer both exchange what they add to the states. What crosses the link, and how
//! long a token takes.

use serde::{Deserialize, Serialize};

use super::HopBytes;
use super::split::{wire_bytes_of_frame, wire_time_ns};
use crate::coding::Coding;
use crate::wire::HEADER_BYTES;

/// Sums of each layer that both nodes have a part of.
pub const SUMS_OF_LAYER: u32 = 2;

/// Every layer is shared by two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TensorParallel {
    /// How the parts of sums cross the link.
    pub coding: Coding,
}

impl TensorParallel {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> String {
        match self.coding {
            Coding::F32 => "halves".to_owned(),
            coding => format!("halves {coding}"),
        }
    }
}

/// What half of a layer costs a node, its slowdown included: medians of several passes of one token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HalfCosts {
    /// From the sum before to the part of the attention's sum, coded.
    pub attention_ns: u64,
    /// The same of the feed-forward part.
    pub feed_forward_ns: u64,
    /// Passes through all layers that both are over.
    pub passes: u32,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HalvesRecord {
    /// Places in the answer whose two best scores were so close that the whole model may say the other.
    pub ties: Vec<u32>,
}

/// Bytes of the parts of sums of a request in one direction, without headers.
#[must_use]
pub fn partial_bytes(
    layers: u32,
    (prompt, output): (u64, u64),
    (coding, width): (Coding, u64),
) -> u64 {
    let tokens = (prompt + output).saturating_sub(1);
    let of_sum = tokens * coding.token_bytes(width) + coding.opening_bytes(width);
    u64::from(SUMS_OF_LAYER * layers) * of_sum
}

/// What a request of `prompt` and `output` tokens puts on the link: in each direction a part of each of `2 L` sums,
/// `d b` bytes for each token but the last; up the ids of those tokens too, with the coding in front of each pass,
/// and a closing frame. No token comes down: the head is on the first node.
#[must_use]
pub fn hop_bytes(layers: u32, lengths: (u64, u64), coded: (Coding, u64)) -> HopBytes {
    let (prompt, output) = lengths;
    let tokens = (prompt + output).saturating_sub(1);
    let partials = partial_bytes(layers, lengths, coded);
    let frames = output * u64::from(SUMS_OF_LAYER * layers);
    let ids = output * (HEADER_BYTES + 4) + 4 * tokens;
    HopBytes {
        up: frames * HEADER_BYTES + partials + ids + HEADER_BYTES,
        down: frames * HEADER_BYTES + partials,
        frames_up: frames + output + 1,
        frames_down: frames,
    }
}

/// How long a frame with a body of so many bytes takes one way: half of an empty one's round trip, and its bytes
/// at the rate.
#[must_use]
pub fn one_way_ns(body_bytes: u64, (echo_ns, rate_bps): (u64, u64)) -> u64 {
    echo_ns / 2 + wire_time_ns(wire_bytes_of_frame(body_bytes), rate_bps)
}

/// The time of a token after the first. Both nodes compute their half of a part of a layer at the same time, send
/// their part of its sum and wait for the other's, each from when it had the sum before: with equal nodes
/// `2 L (c + RTT / 2 + d b / R)` and the head, where c is what half of a part costs. The further node begins when
/// the token's id is there.
#[must_use]
pub fn token_time_ns(
    layers: u32,
    ([near, far], head_ns): ([&HalfCosts; 2], u64),
    way: (u64, u64),
    partial_bytes: u64,
) -> u64 {
    let exchange = one_way_ns(partial_bytes, way);
    let mut begin = [0, one_way_ns(2 * 4, way)];
    for sum in 0..SUMS_OF_LAYER * layers {
        let [own, other] = [(near, begin[0]), (far, begin[1])].map(|(costs, begin)| {
            let of_part = [costs.attention_ns, costs.feed_forward_ns];
            begin + of_part[usize::from(!sum.is_multiple_of(SUMS_OF_LAYER))]
        });
        begin = [own.max(other + exchange), other.max(own + exchange)];
    }
    begin[0] + head_ns
}

/// The medians of several accounts of what both nodes' halves cost, node by node.
#[must_use]
pub fn median_costs(measured: &[&[HalfCosts]]) -> Vec<HalfCosts> {
    let nodes = measured.iter().map(|costs| costs.len()).min().unwrap_or(0);
    let of_node = |node: usize| {
        let all = || measured.iter().filter_map(|costs| costs.get(node));
        let middle = |of: fn(&HalfCosts) -> u64| {
            let mut values: Vec<u64> = all().map(of).collect();
            values.sort_unstable();
            values.get(values.len() / 2).copied().unwrap_or(0)
        };
        HalfCosts {
            attention_ns: middle(|costs| costs.attention_ns),
            feed_forward_ns: middle(|costs| costs.feed_forward_ns),
            passes: all().map(|costs| costs.passes).sum(),
        }
    };
    (0..nodes).map(of_node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: u64 = 1000;

    fn costs(attention_us: u64, feed_forward_us: u64) -> HalfCosts {
        HalfCosts {
            attention_ns: attention_us * US,
            feed_forward_ns: feed_forward_us * US,
            passes: 1,
        }
    }

    #[test]
    fn every_sum_crosses_once_in_each_direction_and_ids_go_up() {
        // 3 prompt tokens, 2 generated, 16 bytes a state, 3 layers: 6 sums of 4 states in 12 frames.
        let bytes = hop_bytes(3, (3, 2), (Coding::F32, 4));
        assert_eq!(partial_bytes(3, (3, 2), (Coding::F32, 4)), 6 * 4 * 16);
        assert_eq!((bytes.frames_up, bytes.frames_down), (12 + 2 + 1, 12));
        assert_eq!(bytes.down, 12 * 16 + 384);
        assert_eq!(bytes.up, 12 * 16 + 384 + 2 * 20 + 4 * 4 + 16);
        // Scales of int8's channels cross with the first part of each sum.
        let coded = partial_bytes(3, (3, 2), (Coding::Int8, 4));
        assert_eq!(coded, 6 * (4 * (4 + 4) + 8));
    }

    #[test]
    fn equal_nodes_take_what_half_of_each_part_costs_and_half_a_round_trip_for_each_sum() {
        let near = costs(300, 500);
        let echo_ns = 2_000 * US;
        let time = token_time_ns(6, ([&near, &near], 100 * US), (echo_ns, u64::MAX), 64);
        assert_eq!(time, (6 * (300 + 500) + 12 * 1000 + 100) * US);
        // At a rate each exchange also takes its bytes: 64, and the headers of frame and segment.
        let slow = token_time_ns(6, ([&near, &near], 100 * US), (echo_ns, 1_000_000), 64);
        assert_eq!(slow, time + 12 * (64 + 16 + 52) * 8 * US);
    }

    #[test]
    fn of_unequal_nodes_the_slower_one_sets_the_pace_of_a_short_link_and_both_that_of_a_long_one() {
        let (slow, fast) = (costs(800, 800), costs(200, 200));
        let at = |echo_us: u64| {
            let way = (echo_us * US, u64::MAX);
            token_time_ns(6, ([&slow, &fast], 0), way, 64) / US
        };
        assert_eq!(at(0), 12 * 800);
        // A cycle over both and the link back: (800 + 200) / 2 + 2000 for each sum.
        assert_eq!(at(4000), 12 * (500 + 2000));
    }

    #[test]
    fn costs_are_medians_of_each_node() {
        let [one, two, three] = [costs(1, 9), costs(5, 2), costs(3, 4)];
        let measured: [&[HalfCosts]; 3] = [&[one, one], &[two, one], &[three, two]];
        let medians = median_costs(&measured);
        assert_eq!(
            medians[0],
            HalfCosts {
                passes: 3,
                ..costs(3, 4)
            }
        );
        assert_eq!(
            medians[1],
            HalfCosts {
                passes: 3,
                ..costs(1, 9)
            }
        );
        assert_eq!(
            TensorParallel {
                coding: Coding::F16
            }
            .name(),
            "halves f16"
        );
    }
}
