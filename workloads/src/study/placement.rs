//! Placement: a request is answered whole, on the device, on the edge or in the cloud (techniques 1 to 3 of
//! the surveys), or where a policy puts it (4), with weights as they are or in fewer bits (12). What crosses
//! each link for it, how long it should take, and how the policy chooses.

use serde::{Deserialize, Serialize};

use super::split::{self, wire_bytes_of_frame};
use super::{Arm, HopBytes};
use crate::device::Precision;
use crate::wire::HEADER_BYTES;

/// How a node keeps the matrices that it multiplies with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Weights {
    /// As the model has them, in the precision of the node.
    #[serde(rename = "full")]
    Full,
    /// 8.5 bits: blocks of 32 with a scale.
    #[serde(rename = "q8-0")]
    Q8_0,
    /// 6.6 bits: K-quants, blocks of 256.
    #[serde(rename = "q6-k")]
    Q6K,
    /// 4.5 bits: K-quants, blocks of 256.
    #[serde(rename = "q4-k")]
    Q4K,
}

impl Weights {
    /// All of them, from the widest.
    pub const ALL: [Weights; 4] = [Weights::Full, Weights::Q8_0, Weights::Q6K, Weights::Q4K];

    /// Its name in experiment files and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Weights::Full => "full",
            Weights::Q8_0 => "q8-0",
            Weights::Q6K => "q6-k",
            Weights::Q4K => "q4-k",
        }
    }

    /// The weights of that name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Weights> {
        Weights::ALL.into_iter().find(|known| known.name() == name)
    }

    /// How a node that computes so keeps them, where it is not as the name says: nothing multiplies blocks in
    /// another precision than f32, so that they become numbers of it, rounded as the blocks are.
    #[must_use]
    pub fn kept(self, precision: Precision) -> Option<String> {
        match (self, precision) {
            (Weights::Full, _) | (_, Precision::F32) => None,
            (weights, precision) => {
                Some(format!("{} blocks as {precision} numbers", weights.name()))
            }
        }
    }

    /// Its number on the link.
    #[must_use]
    pub const fn number(self) -> u32 {
        match self {
            Weights::Full => 0,
            Weights::Q8_0 => 1,
            Weights::Q6K => 2,
            Weights::Q4K => 3,
        }
    }

    /// The weights with that number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Weights> {
        let mut known = Weights::ALL.into_iter();
        known.find(|weights| weights.number() == number)
    }
}

/// Every request is answered on one node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Placement {
    /// The place of that node in the path, 0 for the one that asks.
    pub place: u32,
    /// Its name.
    pub node: String,
    /// The weights that answer.
    pub weights: Weights,
    /// Nodes of the path.
    pub nodes: u32,
}

/// Each request is answered where it should be over in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PlacementPolicy {
    /// How long a whole answer may take.
    pub deadline_ns: u64,
    /// Nodes of the path.
    pub nodes: u32,
}

impl Placement {
    /// Its name in reports.
    #[must_use]
    pub fn name(&self) -> String {
        match self.weights {
            Weights::Full => self.node.clone(),
            weights => format!("{} {}", self.node, weights.name()),
        }
    }
}

impl PlacementPolicy {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> String {
        format!("policy {}", level_name(self.deadline_ns))
    }
}

/// A service level in words.
#[must_use]
pub fn level_name(level_ns: u64) -> String {
    match level_ns.is_multiple_of(1_000_000_000) {
        true => format!("{} s", level_ns / 1_000_000_000),
        false => format!("{} ms", level_ns / 1_000_000),
    }
}

/// Where a request was answered, and how long that should have taken by what was measured before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placed {
    /// The place in the path.
    pub place: u32,
    /// The weights.
    pub weights: Weights,
    /// The whole answer.
    pub predicted_ns: u64,
    /// How long the node computed until the first token, its slowdown included.
    #[serde(default)]
    pub first_busy_ns: u64,
}

/// What an answer costs a node in computing, its slowdown included: medians of requests that no trial asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaceCosts {
    /// The place in the path.
    pub place: u32,
    /// The weights.
    pub weights: Weights,
    /// The prompt and the first token.
    pub first_ns: u64,
    /// Each further token.
    pub token_ns: u64,
    /// Requests that each median is over.
    pub requests: u32,
}

/// What an empty frame takes to each node and back, at a high rate of the first link: medians.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WayRecord {
    /// The round trip that was asked for of the last link.
    pub round_trip_ns: u64,
    /// By place in the path; 0 for the node that asks.
    pub echo_ns: Vec<u64>,
    /// Echoes that each is the median of.
    pub echoes: u32,
}

/// Words (u32) in front of the prompt's ids: which place, which weights.
pub const ASK_WORDS: u64 = 2;

/// What a request of `prompt` and `output` tokens that is answered at a place puts on each link of a path:
/// on each that it crosses the prompt with its place and weights, a closing frame, and 4 bytes back for
/// each token; nothing on those behind.
#[must_use]
pub fn hop_bytes(place: u32, links: u64, (prompt, output): (u64, u64)) -> Vec<HopBytes> {
    let crossed = HopBytes {
        up: 2 * HEADER_BYTES + 4 * (ASK_WORDS + prompt),
        down: output * (HEADER_BYTES + 4),
        frames_up: 2,
        frames_down: output,
    };
    let of_link = |link: u64| match link < u64::from(place) {
        true => crossed,
        false => HopBytes::default(),
    };
    (0..links).map(of_link).collect()
}

/// How long a whole answer should take: on the node that asks what it computes; elsewhere that, the empty
/// frame's round trip, and the prompt and the tokens on the first link. Tokens stream: after the first, which
/// pays the round trip for all, they come as fast as the node makes them or the link carries them.
#[must_use]
pub fn answer_ns(
    costs: &PlaceCosts,
    (prompt, output): (u64, u64),
    (echo_ns, rate_bps): (u64, u64),
) -> u64 {
    let further = output.saturating_sub(1);
    if costs.place == 0 {
        return costs.first_ns + further * costs.token_ns;
    }
    let time_of = |body_bytes: u64| split::wire_time_ns(wire_bytes_of_frame(body_bytes), rate_bps);
    let token = time_of(4);
    let first = echo_ns + time_of(4 * (ASK_WORDS + prompt)) + costs.first_ns + token;
    first.saturating_add(further * costs.token_ns.max(token))
}

/// The rate of the first link at which the first token comes from the second node as early as from the first:
/// the prompt and a token on the wire, over what the second node saves in computing and the round trip leaves
/// of that. Below it answering on the first node is better, above it offloading the whole request. `None` if
/// nothing is left: then offloading is better at no rate.
#[must_use]
pub fn offload_rate_bps([near, far]: [&PlaceCosts; 2], prompt: u64, echo_ns: u64) -> Option<u64> {
    let saving_ns = i128::from(near.first_ns) - i128::from(far.first_ns);
    let wire_bytes = wire_bytes_of_frame(4 * (ASK_WORDS + prompt)) + wire_bytes_of_frame(4);
    split::critical_rate_bps(saving_ns, echo_ns, wire_bytes)
}

/// The two arms between which offloading flips: of a path of two nodes, each with the widest weights that
/// both have; `None` of any other.
#[must_use]
pub fn offload_arms(arms: &[Arm]) -> Option<[&Placement; 2]> {
    let near = placements(arms).filter(|arm| arm.nodes == 2 && arm.place == 0);
    let far = |weights: Weights| {
        let mut all = placements(arms);
        all.find(|arm| arm.place == 1 && arm.weights == weights)
    };
    near.filter_map(|near| Some([near, far(near.weights)?]))
        .min_by_key(|[near, _]| near.weights)
}

/// The rate between them, by costs and round trips by place.
#[must_use]
pub fn offload_rate_of(
    arms: &[Arm],
    costs: &[PlaceCosts],
    (prompt, echo_ns): (u64, u64),
) -> Option<u64> {
    let [near, far] = offload_arms(arms)?.map(|arm| {
        let mut costs = costs.iter();
        costs.find(|costs| (costs.place, costs.weights) == (arm.place, arm.weights))
    });
    offload_rate_bps([near?, far?], prompt, echo_ns)
}

/// How much of a prediction a policy adds to it before it counts as in time: a tenth.
const HEADROOM: u64 = 10;

/// What a policy does with a request, of some places and weights with the time that each should take: of
/// those that should be over before the deadline with a tenth to spare it takes the widest weights, and of
/// those the fastest; where there is none, the fastest of all. `None` of none.
#[must_use]
pub fn choose(options: &[Placed], deadline_ns: u64) -> Option<Placed> {
    let fastest = |placed: &&Placed| (placed.predicted_ns, placed.place);
    let in_time = options.iter().filter(|placed| {
        placed
            .predicted_ns
            .saturating_add(placed.predicted_ns / HEADROOM)
            <= deadline_ns
    });
    let best = in_time.min_by_key(|placed| (placed.weights, fastest(placed)));
    best.or_else(|| options.iter().min_by_key(fastest)).copied()
}

/// The fixed placements of a study, in the order of its arms.
pub fn placements(arms: &[Arm]) -> impl Iterator<Item = &Placement> {
    arms.iter().filter_map(|arm| match arm {
        Arm::Placed(placement) => Some(placement),
        _ => None,
    })
}

/// The service levels of a study: the deadlines of its policies.
pub fn levels_ns(arms: &[Arm]) -> impl Iterator<Item = u64> {
    arms.iter().filter_map(|arm| match arm {
        Arm::Policy(policy) => Some(policy.deadline_ns),
        _ => None,
    })
}

/// The weights that the node at a place of a path answers with, in the order of the arms. A policy asks
/// for nothing else.
#[must_use]
pub fn weights_at(arms: &[Arm], place: u32) -> Vec<Weights> {
    let mut weights = Vec::new();
    for placement in placements(arms).filter(|placement| placement.place == place) {
        if !weights.contains(&placement.weights) {
            weights.push(placement.weights);
        }
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn costs(place: u32) -> PlaceCosts {
        PlaceCosts {
            place,
            weights: Weights::Full,
            first_ns: 100 * MS,
            token_ns: 10 * MS,
            requests: 1,
        }
    }

    fn placed(place: u32, weights: Weights, predicted_ms: u64) -> Placed {
        Placed {
            place,
            weights,
            predicted_ns: predicted_ms * MS,
            first_busy_ns: 0,
        }
    }

    #[test]
    fn a_request_crosses_the_links_up_to_its_place_and_no_other() {
        // 3 prompt tokens, 5 generated: opening and closing, place and weights; a frame a token.
        let crossed = HopBytes {
            up: 32 + 8 + 12,
            down: 100,
            frames_up: 2,
            frames_down: 5,
        };
        let nothing = HopBytes::default();
        assert_eq!(hop_bytes(0, 2, (3, 5)), [nothing, nothing]);
        assert_eq!(hop_bytes(1, 2, (3, 5)), [crossed, nothing]);
        assert_eq!(hop_bytes(2, 2, (3, 5)), [crossed, crossed]);
    }

    #[test]
    fn an_answer_pays_the_round_trip_once_and_the_slower_of_computing_and_link_for_each_token() {
        // Own answers know no link.
        assert_eq!(answer_ns(&costs(0), (3, 5), (60 * MS, 1)), 140 * MS);
        // At a high rate: round trip, prompt, five tokens; the bytes take microseconds.
        let fast = answer_ns(&costs(1), (3, 5), (60 * MS, 1_000_000_000));
        assert!((200 * MS..200 * MS + MS / 10).contains(&fast), "{fast}");
        // A token's frame has 20 bytes and 52 of headers: 576 bits take 20 ms at 28.8 kbit/s.
        let slow = answer_ns(&costs(1), (3, 5), (60 * MS, 28_800));
        let prompt = (16 + 20 + 52) * 8 * 1_000_000_000 / 28_800;
        assert_eq!(slow, 60 * MS + prompt + 100 * MS + 20 * MS + 4 * 20 * MS);
    }

    #[test]
    fn offloading_flips_where_the_bytes_take_what_it_saves_and_nowhere_if_the_round_trip_takes_more()
     {
        let near = PlaceCosts {
            first_ns: 500 * MS,
            ..costs(0)
        };
        // 400 ms saved, 10 of them for the round trip; prompt and token are 88 and 72 bytes on the wire.
        let rate = offload_rate_bps([&near, &costs(1)], 3, 10 * MS);
        assert_eq!(rate, Some(160 * 8 * 1000 / 390));
        assert_eq!(offload_rate_bps([&near, &costs(1)], 3, 400 * MS), None);
        let arm = |place, weights, nodes| {
            Arm::Placed(Placement {
                place,
                node: String::new(),
                weights,
                nodes,
            })
        };
        let arms = [Weights::Q4K, Weights::Full]
            .map(|weights| [arm(0, weights, 2), arm(1, weights, 2)])
            .concat();
        assert_eq!(offload_arms(&arms).unwrap()[1].weights, Weights::Full);
        assert_eq!(
            offload_rate_of(&arms, &[near, costs(1)], (3, 10 * MS)),
            rate
        );
        let three = [arm(0, Weights::Full, 3), arm(1, Weights::Full, 3)];
        assert_eq!(offload_arms(&three), None);
    }

    #[test]
    fn a_policy_takes_the_widest_weights_that_are_in_time_and_else_the_fastest() {
        let options = [
            placed(0, Weights::Full, 900),
            placed(1, Weights::Full, 300),
            placed(1, Weights::Q4K, 120),
            placed(2, Weights::Full, 360),
        ];
        assert_eq!(choose(&options, 1000 * MS), Some(options[1]));
        assert_eq!(choose(&options, 200 * MS), Some(options[2]));
        // 300 ms and a tenth are no longer in time.
        assert_eq!(choose(&options, 329 * MS), Some(options[2]));
        assert_eq!(choose(&options, 330 * MS), Some(options[1]));
        assert_eq!(choose(&options, 1), Some(options[2]));
        assert_eq!(choose(&[], 1), None);
    }

    #[test]
    fn weights_are_named_and_numbered_both_ways() {
        for weights in Weights::ALL {
            assert_eq!(Weights::by_name(weights.name()), Some(weights));
            assert_eq!(Weights::from_number(weights.number()), Some(weights));
        }
        assert_eq!(Weights::by_name("q2"), None);
        assert_eq!(Weights::Q4K.kept(Precision::F32), None);
        assert_eq!(Weights::Full.kept(Precision::F16), None);
        assert_eq!(
            Weights::Q4K.kept(Precision::Bf16).as_deref(),
            Some("q4-k blocks as bf16 numbers")
        );
        assert_eq!(Weights::from_number(4), None);
        assert_eq!([MS * 200, MS * 1000].map(level_name), ["200 ms", "1 s"]);
    }
}
