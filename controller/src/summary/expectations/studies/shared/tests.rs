//! Users who are served as the policies say make the claims hold, and others do not.

use hexloop_proto::{ChannelEnergy, Measurement, MeterChannel, MeterReadings};
use hexloop_topologies::plan::StudyClaim;
use hexloop_workloads::study::shared::{BatchCost, EdgeBooks, SharedCosts, SharedSpec};
use hexloop_workloads::study::{Arm, Grid, StudyFinding, StudySpec};

use super::super::judge;
use super::*;
use crate::fixture;
use crate::summary::ExpectationOutcome::{self, Held, NotHeld, Undecided};

const MS: u64 = 1_000_000;
const DEADLINE_NS: u64 = 100 * MS;
const OUTPUT_TOKENS: u32 = 4;
const PROMPT_TOKENS: u32 = 8;
const UPLOAD_BYTES: u32 = 1000;

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    InTime,
    Late,
    Refused,
}

/// What nature does in these rounds: the fate of each request under each policy, by its number modulo ten.
#[derive(Clone, Copy)]
struct Nature {
    fcfs_in_time: u32,
    refusing_in_time: u32,
    refusing_late: u32,
    /// CPU time of a pass over eight sequences, where one takes ten.
    batched_cpu: u64,
    /// Bytes beside the formula's.
    more_bytes: u64,
    /// Bytes that the edge alone counts.
    more_at_edge: u64,
    /// Power over the passes of eight sequences, where one draws 10 W, and the integral of power in percent of
    /// the counter; `None` where nothing is metered.
    metered: Option<(u64, u64)>,
    /// Of the tokens of every answer, which one is another than alone; `None` where none is.
    other_token: Option<usize>,
    /// Answers that are so: those whose number is a multiple of it.
    other_every: u32,
    /// Whether another token was about as good there, alone or in the batch of the request 0.
    close: [bool; 2],
    /// Sequences of a pass.
    beside: u32,
    /// Whether the record has which tokens came.
    has_tokens: bool,
}

const AS_THE_POLICIES_SAY: Nature = Nature {
    fcfs_in_time: 3,
    refusing_in_time: 6,
    refusing_late: 1,
    batched_cpu: 20,
    more_bytes: 0,
    more_at_edge: 0,
    metered: None,
    other_token: None,
    other_every: 1,
    close: [false; 2],
    beside: 3,
    has_tokens: true,
};

/// What a prompt is answered with.
fn answer(prompt: u32) -> Vec<u32> {
    (0..OUTPUT_TOKENS)
        .map(|place| 10 * prompt + place)
        .collect()
}

/// The other token of the prompt 0 and of the request 0, if it was about as good.
fn tie(nature: Nature, is_close: bool) -> Vec<Tie> {
    let place = nature.other_token.filter(|_| is_close);
    let tie = |place| Tie {
        request: 0,
        place: u32::try_from(place).unwrap(),
    };
    place.map(tie).into_iter().collect()
}

fn fate(nature: Nature, policy: Policy, id: u32) -> Fate {
    let place = (id * 7) % 10;
    match policy {
        Policy::Fcfs if place < nature.fcfs_in_time => Fate::InTime,
        Policy::Fcfs => Fate::Late,
        _ if place < nature.refusing_in_time => Fate::InTime,
        _ if place < nature.refusing_in_time + nature.refusing_late => Fate::Late,
        _ => Fate::Refused,
    }
}

fn round(nature: Nature, policy: Policy, (number, repetition): (u32, u32)) -> SharedRound {
    let requests = (0..60).map(|id| {
        let due_ns = u64::from(id) * 20 * MS;
        let fate = fate(nature, policy, id);
        let took_ns = if fate == Fate::InTime { 50 } else { 150 } * MS;
        let mut record = UserRecord {
            id,
            user: id % 2,
            prompt: id % 2,
            due_ns,
            sent_ns: due_ns,
            first_ns: Some(due_ns + MS),
            ended_ns: Some(due_ns + took_ns),
            ending: match fate {
                Fate::Refused => Ending::Refused,
                _ => Ending::Served,
            },
            uploaded: fate != Fate::Refused || !policy.asks(),
            tokens: if fate == Fate::Refused {
                0
            } else {
                OUTPUT_TOKENS
            },
            answer: Vec::new(),
            up: 0,
            down: 0,
        };
        if record.tokens > 0 && nature.has_tokens {
            record.answer = answer(record.prompt);
            if let Some(place) = nature.other_token.filter(|_| id % nature.other_every == 0) {
                record.answer[place] += 1;
            }
        }
        (record.up, record.down) = request_bytes(policy, &record, (PROMPT_TOKENS, UPLOAD_BYTES));
        record
    });
    let mut requests: Vec<UserRecord> = requests.collect();
    let up = requests.iter().map(|it| it.up).sum::<u64>() + nature.more_at_edge;
    let down = requests.iter().map(|it| it.down).sum();
    requests[0].up += nature.more_bytes;
    SharedRound {
        number,
        policy,
        batch: 8,
        users: 2,
        offered_percent: 150,
        offered_per_kilosecond: 50_000,
        repetition,
        from_ns: 0,
        until_ns: 1_300 * MS,
        requests,
        books: EdgeBooks {
            up,
            down,
            passes: vec![BatchCost {
                sequences: nature.beside,
                passes: 50,
                wall_ns: MS,
                cpu_ns: MS,
                from_ns: 0,
                until_ns: MS,
            }],
            ties: tie(nature, nature.close[1]),
            ..EdgeBooks::default()
        },
    }
}

fn outcome(nature: Nature, claim: StudyClaim) -> (ExpectationOutcome, String) {
    let arms = Policy::ALL.map(|policy| Arm::Shared { policy, batch: 8 });
    let study = StudySpec {
        arms: arms.to_vec(),
        prompts: 1,
        prompt_tokens: PROMPT_TOKENS,
        output_tokens: OUTPUT_TOKENS,
        grid: Grid {
            round_trips_ns: Vec::new(),
            rates_bps: Vec::new(),
            around_percent: Vec::new(),
        },
        shared: Some(SharedSpec {
            users: vec![2],
            offered_percent: vec![150],
            repetitions: 2,
            arrivals_for_ns: 1_200 * MS,
            deadline_ns: DEADLINE_NS,
            upload_bytes: UPLOAD_BYTES,
        }),
        ..fixture::study_spec()
    };
    let run = |sequences: u32, cpu: u64, number: u64| BatchCost {
        sequences,
        passes: 10,
        wall_ns: 100 * MS,
        // What machines do to times.
        cpu_ns: (10 * cpu + number % 2) * MS,
        from_ns: if sequences == 1 { 0 } else { 1_000 * MS },
        until_ns: if sequences == 1 {
            1_000 * MS
        } else {
            2_000 * MS
        },
    };
    let runs = (0..6).flat_map(|number| [run(1, 10, number), run(8, nature.batched_cpu, number)]);
    let costs = SharedCosts {
        prefill_ns: MS,
        batches: runs.collect(),
        upload_ns: vec![MS; 2],
        echo_ns: vec![MS; 2],
        alone: (0..2).map(answer).collect(),
        alone_ties: tie(nature, nature.close[0]),
    };
    let mut findings = vec![StudyFinding::Shared(costs)];
    let mut number = 0;
    for repetition in 0..2 {
        for policy in Policy::ALL {
            findings.push(StudyFinding::Round(round(
                nature,
                policy,
                (number, repetition),
            )));
            number += 1;
        }
    }
    let (plan, mut results) = fixture::with_study("shared", study, findings);
    if let Some((batched_w, integral_percent)) = nature.metered {
        let channel = |quantity: &str, counted| MeterChannel {
            device: "GPU 0".to_owned(),
            scope: "board".to_owned(),
            quantity: quantity.to_owned(),
            average_window_ns: None,
            wraps_at_uj: None,
            source: "a test".to_owned(),
            estimated: false,
            counted,
            stub: true,
        };
        let counter = channel("energy counter", true);
        assert!(counter.is_counter());
        results.agent.as_mut().unwrap().meters =
            vec![counter, channel("instantaneous power", false)];
        // Microjoules, every ten milliseconds.
        let at_ns: Vec<u64> = (0..=200).map(|step| step * 10 * MS).collect();
        let used = |ms: u64| 10_000 * ms.min(1_000) + 1_000 * batched_w * ms.saturating_sub(1_000);
        let values = at_ns.iter().map(|at| vec![Some(used(at / MS)), None]);
        let recorded = results.phases.last_mut().unwrap();
        recorded.meters = vec![MeterReadings {
            values: values.collect(),
            at_ns,
        }];
        let energy = |value: f64| ChannelEnergy {
            energy_j: Measurement::Measured {
                value,
                source: "a test".to_owned(),
            },
            uncertainty_j: None,
            refresh_period_ns: None,
            ticks: None,
        };
        let integral = f64::from(u32::try_from(integral_percent).unwrap());
        let end = recorded.end.as_mut().unwrap();
        end.energy_by_channel = vec![energy(100.0), energy(integral)];
    }
    let judged = judge(&plan, &results, ("shared", claim));
    (judged.outcome, judged.detail)
}

const CLAIMS: [StudyClaim; 5] = [
    StudyClaim::ArmsAgree,
    StudyClaim::ArmBytesFollowFormula,
    StudyClaim::JointServesMore,
    StudyClaim::AdmittedAreInTime,
    StudyClaim::BatchSavesCpu,
];

#[test]
fn an_edge_that_follows_the_policies_makes_every_claim_hold() {
    for claim in CLAIMS {
        let (outcome, detail) = outcome(AS_THE_POLICIES_SAY, claim);
        assert_eq!(outcome, Held, "{}: {detail}", claim.name());
    }
}

fn assert_not_held(nature: Nature, claim: StudyClaim) {
    let (outcome, detail) = outcome(nature, claim);
    assert_eq!(outcome, NotHeld, "{}: {detail}", claim.name());
}

#[test]
fn a_joint_policy_that_refuses_too_many_serves_fewer() {
    let nature = Nature {
        refusing_in_time: 1,
        ..AS_THE_POLICIES_SAY
    };
    assert_not_held(nature, StudyClaim::JointServesMore);
}

#[test]
fn a_policy_that_admits_whom_it_cannot_serve_is_told() {
    let nature = Nature {
        refusing_in_time: 1,
        refusing_late: 8,
        ..AS_THE_POLICIES_SAY
    };
    assert_not_held(nature, StudyClaim::AdmittedAreInTime);
}

#[test]
fn a_batch_whose_tokens_cost_as_much_each_saves_nothing() {
    let nature = Nature {
        batched_cpu: 90,
        ..AS_THE_POLICIES_SAY
    };
    assert_not_held(nature, StudyClaim::BatchSavesCpu);
}

#[test]
fn bytes_beside_the_formula_are_told_whoever_counts_them() {
    for (more_bytes, more_at_edge) in [(1, 0), (0, 1)] {
        let nature = Nature {
            more_bytes,
            more_at_edge,
            ..AS_THE_POLICIES_SAY
        };
        assert_not_held(nature, StudyClaim::ArmBytesFollowFormula);
    }
}

#[test]
fn an_answer_that_its_neighbours_change_is_told_wherever_it_goes_another_way() {
    for place in 0..usize::try_from(OUTPUT_TOKENS).unwrap() {
        // Of all answers, and of one in sixty.
        for other_every in [1, 60] {
            let nature = Nature {
                other_token: Some(place),
                other_every,
                ..AS_THE_POLICIES_SAY
            };
            assert_not_held(nature, StudyClaim::ArmsAgree);
        }
    }
}

#[test]
fn an_answer_that_goes_another_way_where_two_tokens_are_about_as_good_is_counted_and_decides_nothing()
 {
    for close in [[true, false], [false, true]] {
        // The first request alone, whose prompt is the first as well.
        let nature = Nature {
            other_token: Some(1),
            other_every: 60,
            close,
            ..AS_THE_POLICIES_SAY
        };
        let (outcome, detail) = outcome(nature, StudyClaim::ArmsAgree);
        assert_eq!(outcome, Undecided, "{detail}");
        assert!(detail.contains("at 1 places one was"), "{detail}");
    }
}

#[test]
fn answers_that_nobody_was_beside_or_that_are_not_in_the_record_decide_nothing() {
    for (nature, why) in [
        (
            Nature {
                beside: 1,
                ..AS_THE_POLICIES_SAY
            },
            " 0 tokens made beside others",
        ),
        (
            Nature {
                has_tokens: false,
                ..AS_THE_POLICIES_SAY
            },
            "not in the record",
        ),
    ] {
        let (outcome, detail) = outcome(nature, StudyClaim::ArmsAgree);
        assert_eq!(outcome, Undecided, "{detail}");
        assert!(detail.contains(why), "{detail}");
    }
}

#[test]
fn where_nothing_meters_energy_its_claims_say_so_and_decide_nothing() {
    for claim in [
        StudyClaim::BatchSavesEnergy,
        StudyClaim::CounterIsIntegratedPower,
    ] {
        let (outcome, detail) = outcome(AS_THE_POLICIES_SAY, claim);
        assert_eq!(outcome, Undecided, "{detail}");
        assert!(!detail.is_empty());
    }
}

#[test]
fn energy_that_is_metered_decides_its_claims() {
    let energy = StudyClaim::BatchSavesEnergy;
    let counter = StudyClaim::CounterIsIntegratedPower;
    // Eight tokens a pass at twice the power, and at ten times; power within 5 % of the counter, and not.
    for (metered, claim, expected) in [
        ((20, 104), energy, Held),
        ((100, 104), energy, NotHeld),
        ((20, 104), counter, Held),
        ((20, 110), counter, NotHeld),
        ((20, 93), counter, NotHeld),
    ] {
        let nature = Nature {
            metered: Some(metered),
            ..AS_THE_POLICIES_SAY
        };
        let (outcome, detail) = outcome(nature, claim);
        assert_eq!(outcome, expected, "{metered:?} {}: {detail}", claim.name());
    }
}
