//! Trials that follow the laws make the claims about placements hold, and trials that follow broken ones do
//! not.

use hexloop_topologies::plan::{BesidePlan, StudyClaim, StudyPlan};
use hexloop_workloads::study::placement::{
    PlaceCosts, Placed, Placement, PlacementPolicy, WayRecord, answer_ns as predicted_ns, choose,
    hop_bytes, offload_rate_of,
};
use hexloop_workloads::study::{Grid, RowRecord, StudyFinding, StudySpec, Technique};
use hexloop_workloads::transport::Transport;

use super::super::judge;
use super::*;
use crate::fixture;
use crate::results::PhaseResults;
use crate::summary::ExpectationOutcome::{self, Held, NotHeld, Undecided};

const MS: u64 = 1_000_000;
const PROMPTS: u32 = 6;
const LENGTHS: (u64, u64) = (8, 9);
const ROUND_TRIPS_NS: [u64; 3] = [20 * MS, 60 * MS, 150 * MS];
const RATES_BPS: [u64; 2] = [40_000, 100_000_000];
const LEVELS_NS: [u64; 3] = [200 * MS, 500 * MS, 1000 * MS];
/// Of the first link.
const NEAR_NS: u64 = 10 * MS;

/// What nature does in these trials.
#[derive(Clone, Copy)]
struct Nature {
    /// Parts of the round trip that an answer of the device takes longer.
    device_feels: u64,
    /// Round trips that the first token from the cloud pays.
    round_trips: u64,
    /// Parts of the round trip that each further token pays.
    token_pays: u64,
    /// Bytes beside the formula's.
    more_bytes: u64,
    /// How many times as long fewer bits take.
    fewer_bits_take: u64,
    /// Whether the policy puts everything where it takes longest.
    policy_errs: bool,
}

const AS_THE_LAWS_SAY: Nature = Nature {
    device_feels: 0,
    round_trips: 1,
    token_pays: 0,
    more_bytes: 0,
    fewer_bits_take: 1,
    policy_errs: false,
};

fn arms() -> Vec<Arm> {
    let places = (0..).zip(["device", "edge", "cloud"]);
    let fixed = places.flat_map(|(place, node)| {
        [Weights::Full, Weights::Q4K].map(|weights| {
            Arm::Placed(Placement {
                place,
                node: node.to_owned(),
                weights,
                nodes: 3,
            })
        })
    });
    let policy = |deadline_ns| {
        Arm::Policy(PlacementPolicy {
            deadline_ns,
            nodes: 3,
        })
    };
    fixed.chain(LEVELS_NS.map(policy)).collect()
}

/// What an answer costs: on the device six times as much as on the others, and in fewer bits half.
fn costs(place: u32, weights: Weights) -> PlaceCosts {
    let slowdown = if place == 0 { 6 } else { 1 };
    let parts = if weights == Weights::Full { 2 } else { 1 };
    PlaceCosts {
        place,
        weights,
        first_ns: slowdown * parts * 25 * MS,
        token_ns: slowdown * parts * 4 * MS,
        requests: 3,
    }
}

fn echoes(round_trip_ns: u64) -> Vec<u64> {
    vec![0, NEAR_NS, NEAR_NS + round_trip_ns]
}

fn trial(nature: Nature, arm: &Arm, at: (u64, u64), (prompt, number): (u32, u32)) -> TrialRecord {
    let (round_trip_ns, rate_bps) = at;
    let echo_ns = |place: u32| echoes(round_trip_ns)[usize::try_from(place).unwrap()];
    let options: Vec<Placed> = placements(&arms())
        .map(|fixed| {
            let costs = costs(fixed.place, fixed.weights);
            Placed {
                place: fixed.place,
                weights: fixed.weights,
                predicted_ns: predicted_ns(&costs, LENGTHS, (echo_ns(fixed.place), rate_bps)),
                first_busy_ns: costs.first_ns,
            }
        })
        .collect();
    let placed = match arm {
        Arm::Placed(fixed) => {
            let mut same = options.iter();
            let same = same.find(|o| (o.place, o.weights) == (fixed.place, fixed.weights));
            *same.unwrap()
        }
        Arm::Policy(_) if nature.policy_errs => {
            *options.iter().max_by_key(|o| o.predicted_ns).unwrap()
        }
        Arm::Policy(policy) => choose(&options, policy.deadline_ns).unwrap(),
        _ => panic!("{}", arm.name()),
    };
    let mut costs = costs(placed.place, placed.weights);
    if placed.weights != Weights::Full {
        costs.first_ns *= nature.fewer_bits_take;
        costs.token_ns *= nature.fewer_bits_take;
    }
    let (first, further) = (LENGTHS.0, 1);
    let mut first = predicted_ns(&costs, (first, further), (echo_ns(placed.place), rate_bps));
    if placed.place == 2 {
        first += (nature.round_trips - 1) * round_trip_ns;
    }
    let mut gap =
        predicted_ns(&costs, (1, 2), (0, rate_bps)) - predicted_ns(&costs, (1, 1), (0, rate_bps));
    if placed.place == 0 {
        first += nature.device_feels * round_trip_ns;
    } else {
        gap += nature.token_pays * round_trip_ns / 10;
    }
    // A little noise that is the same every time.
    let noise = u64::from(number) * 104_729 % 700 * 1000;
    let started_ns = u64::from(number) * 10_000 * MS;
    let token_ns = (0..LENGTHS.1).map(|token| started_ns + noise + first + token * gap);
    let mut hops = hop_bytes(placed.place, 2, LENGTHS);
    hops[1].up += nature.more_bytes;
    TrialRecord {
        number,
        group: number,
        arm: arm.clone(),
        round_trip_ns,
        rate_bps,
        prompt,
        started_ns,
        token_ns: token_ns.collect(),
        tokens: vec![1; usize::try_from(LENGTHS.1).unwrap()],
        hops,
        busy_ns: vec![0; 3],
        placed: Some(placed),
        ..fixture::trial()
    }
}

fn outcome(nature: Nature, claim: StudyClaim) -> (ExpectationOutcome, String) {
    let arms = arms();
    let mut findings = Vec::new();
    let mut number = 0;
    for round_trip_ns in ROUND_TRIPS_NS {
        findings.push(StudyFinding::Row(RowRecord {
            round_trip_ns,
            echo_ns: NEAR_NS + round_trip_ns,
            echoes: 21,
            critical_rate_bps: None,
            rates_bps: RATES_BPS.to_vec(),
        }));
        findings.push(StudyFinding::Ways(WayRecord {
            round_trip_ns,
            echo_ns: echoes(round_trip_ns),
            echoes: 21,
        }));
        for rate_bps in RATES_BPS {
            for prompt in 0..PROMPTS {
                for arm in &arms {
                    let at = (round_trip_ns, rate_bps);
                    let made = trial(nature, arm, at, (prompt, number));
                    findings.push(StudyFinding::Trial(made));
                    number += 1;
                }
            }
        }
    }
    judged(arms, findings, claim)
}

fn judged(
    arms: Vec<Arm>,
    findings: Vec<StudyFinding>,
    claim: StudyClaim,
) -> (ExpectationOutcome, String) {
    let nodes = arms.first().map_or(0, Arm::nodes);
    let study = StudySpec {
        arms,
        prompts: PROMPTS,
        prompt_tokens: u32::try_from(LENGTHS.0).unwrap(),
        output_tokens: u32::try_from(LENGTHS.1).unwrap(),
        held_out_prompts: 8,
        grid: Grid {
            round_trips_ns: ROUND_TRIPS_NS.to_vec(),
            rates_bps: RATES_BPS.to_vec(),
            around_percent: Vec::new(),
        },
        ..fixture::study_spec()
    };
    let recorded = PhaseResults {
        name: "placement".to_owned(),
        end: fixture::records()
            .results
            .phases
            .first()
            .and_then(|phase| phase.end.clone()),
        findings,
        ..PhaseResults::default()
    };
    let hop = |link: &str, address: &str| BesidePlan {
        link: link.to_owned(),
        address: address.parse().unwrap(),
    };
    let mut plan = fixture::plan();
    plan.studies = vec![StudyPlan {
        name: "placement".to_owned(),
        path: ["device", "edge", "cloud"][..nodes]
            .iter()
            .map(|node| (*node).to_owned())
            .collect(),
        hops: [
            hop("access", "198.18.0.2:27800"),
            hop("backhaul", "198.18.0.6:27800"),
        ][..nodes - 1]
            .to_vec(),
        transport: Transport::Tcp,
        study,
        duration_ns: 1,
    }];
    let mut results = fixture::records().results;
    results.phases.push(recorded);
    let judged = judge(&plan, &results, ("placement", claim));
    (judged.outcome, judged.detail)
}

#[test]
fn placements_that_follow_the_laws_make_every_claim_hold() {
    let mut claims = StudyClaim::ALL.to_vec();
    claims.retain(|claim| claim.technique() == Some(Technique::Placement));
    // It is held against trials of two nodes.
    claims.retain(|claim| *claim != StudyClaim::OffloadFlips);
    claims.extend([StudyClaim::ArmsAgree, StudyClaim::ArmBytesFollowFormula]);
    assert_eq!(claims.len(), 8);
    for claim in claims {
        let (outcome, detail) = outcome(AS_THE_LAWS_SAY, claim);
        assert_eq!(outcome, Held, "{}: {detail}", claim.name());
    }
}

/// Whether offloading flips where the costs say, if first tokens take so many percent of what they should on
/// the link, and at rates in percent of that one.
fn offload_flips(percent: u64, around_percent: &[u64]) -> (ExpectationOutcome, String) {
    let arms: Vec<Arm> = (0..2)
        .map(|place| {
            Arm::Placed(Placement {
                place,
                node: ["device", "edge"][usize::try_from(place).unwrap()].to_owned(),
                weights: Weights::Full,
                nodes: 2,
            })
        })
        .collect();
    let costs = [0, 1].map(|place| costs(place, Weights::Full));
    let critical = offload_rate_of(&arms, &costs, (LENGTHS.0, NEAR_NS)).unwrap();
    let rates_bps: Vec<u64> = around_percent
        .iter()
        .map(|of| critical * of / 100)
        .collect();
    let mut findings = vec![
        StudyFinding::Places(costs.to_vec()),
        StudyFinding::Row(RowRecord {
            round_trip_ns: MS,
            echo_ns: NEAR_NS,
            echoes: 21,
            critical_rate_bps: Some(critical),
            rates_bps: rates_bps.clone(),
        }),
    ];
    let mut number = 0;
    for rate_bps in &rates_bps {
        for (prompt, arm) in
            (0..PROMPTS).flat_map(|prompt| arms.iter().map(move |arm| (prompt, arm)))
        {
            let Arm::Placed(placement) = arm else {
                continue;
            };
            let of_place = &costs[usize::try_from(placement.place).unwrap()];
            let way = (NEAR_NS, *rate_bps);
            let first = predicted_ns(of_place, (LENGTHS.0, 1), way);
            let off = (first - of_place.first_ns).saturating_sub(NEAR_NS) * percent / 100;
            let started_ns = u64::from(number) * 10_000 * MS;
            let first = match placement.place {
                0 => first,
                _ => of_place.first_ns + NEAR_NS + off,
            };
            let noise = u64::from(number) * 104_729 % 300 * 1000;
            let mut made = trial(
                AS_THE_LAWS_SAY,
                &self::arms()[0],
                (ROUND_TRIPS_NS[0], *rate_bps),
                (prompt, number),
            );
            made.arm = arm.clone();
            made.round_trip_ns = MS;
            made.token_ns = vec![started_ns + first + noise];
            made.started_ns = started_ns;
            findings.push(StudyFinding::Trial(made));
            number += 1;
        }
    }
    judged(arms, findings, StudyClaim::OffloadFlips)
}

#[test]
fn offloading_flips_where_the_costs_say_and_bytes_that_take_longer_move_it() {
    let around = [30, 45, 65, 150, 250, 400];
    let (outcome, detail) = offload_flips(100, &around);
    assert_eq!(outcome, Held, "{detail}");
    let (outcome, detail) = offload_flips(150, &around);
    assert_eq!(outcome, NotHeld, "{detail}");
    // Without rates on both sides nothing is told.
    let (outcome, _) = offload_flips(100, &[150, 250, 400]);
    assert_eq!(outcome, NotHeld);
}

fn assert_not_held(nature: Nature, claim: StudyClaim) {
    let (outcome, detail) = outcome(nature, claim);
    assert_eq!(outcome, NotHeld, "{}: {detail}", claim.name());
}

#[test]
fn a_device_that_feels_its_link_is_told() {
    let nature = Nature {
        device_feels: 2,
        ..AS_THE_LAWS_SAY
    };
    assert_not_held(nature, StudyClaim::DeviceFlatInLink);
}

#[test]
fn a_first_token_that_pays_the_round_trip_twice_is_told() {
    let nature = Nature {
        round_trips: 2,
        ..AS_THE_LAWS_SAY
    };
    assert_not_held(nature, StudyClaim::RoundTripIsAdded);
}

#[test]
fn tokens_that_each_pay_for_the_round_trip_do_not_stream() {
    let nature = Nature {
        token_pays: 2,
        ..AS_THE_LAWS_SAY
    };
    assert_not_held(nature, StudyClaim::TokenTimeFlatInRoundTrip);
}

#[test]
fn a_byte_on_a_link_that_was_not_to_be_crossed_is_told() {
    let nature = Nature {
        more_bytes: 1,
        ..AS_THE_LAWS_SAY
    };
    assert_not_held(nature, StudyClaim::ArmBytesFollowFormula);
}

#[test]
fn fewer_bits_that_take_longer_miss_more_often() {
    let nature = Nature {
        fewer_bits_take: 4,
        ..AS_THE_LAWS_SAY
    };
    assert_not_held(nature, StudyClaim::FewerBitsHitNoLess);
    assert_not_held(nature, StudyClaim::FewerBitsHitMore);
}

#[test]
fn fewer_bits_that_take_as_long_as_the_widest_hit_no_more() {
    let nature = Nature {
        fewer_bits_take: 2,
        ..AS_THE_LAWS_SAY
    };
    assert_not_held(nature, StudyClaim::FewerBitsHitMore);
    // Only that they hit less often is told of them by the other claim.
    let (outcome, detail) = outcome(nature, StudyClaim::FewerBitsHitNoLess);
    assert_eq!(outcome, Held, "{detail}");
}

#[test]
fn a_policy_that_puts_requests_where_they_take_longest_is_told() {
    let nature = Nature {
        policy_errs: true,
        ..AS_THE_LAWS_SAY
    };
    assert_not_held(nature, StudyClaim::PolicyHitsAsBest);
}

#[test]
fn few_pairs_decide_nothing_and_a_wide_interval_neither() {
    let thrice = |values: [f64; 4]| values.repeat(3);
    assert_eq!(flat(&[1.0; 11], "eleven").outcome, Undecided);
    assert_eq!(
        flat(&thrice([0.5, 1.5, 0.8, 1.2]), "wide").outcome,
        Undecided
    );
    assert_eq!(
        flat(&thrice([1.01, 0.99, 1.0, 1.0]), "narrow").outcome,
        Held
    );
    let compared = Compared {
        pairs: 10,
        only_other: 1,
        ..Compared::default()
    };
    assert_eq!(compared.hits_no_less(compared.difference()), None);
}

#[test]
fn the_interval_of_a_difference_of_shares_is_that_of_agresti_and_min() {
    // 3 and 9 of 40 pairs differ: (3.5 - 9.5) / 42, and its standard error by their formula.
    let compared = Compared {
        pairs: 40,
        only_this: 3,
        only_other: 9,
        this: 0,
    };
    let [difference, low, high] = compared.difference();
    assert!((difference + 6.0 / 42.0).abs() < 1e-12);
    let error = (13.0_f64 - 36.0 / 42.0).sqrt() / 42.0;
    assert!((high - low - 2.0 * 1.96 * error).abs() < 1e-12);
}
