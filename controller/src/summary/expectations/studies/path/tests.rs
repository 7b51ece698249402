//! A path of three nodes that works as the laws say makes the claims hold, and one that does not does not.

use hexloop_topologies::plan::{BesidePlan, StudyClaim, StudyPlan};
use hexloop_workloads::coding::Coding;
use hexloop_workloads::study::{Grid, NodeCosts, StudyFinding, StudySpec};
use hexloop_workloads::transport::Transport;

use super::super::judge;
use super::*;
use crate::fixture;
use crate::results::PhaseResults;
use crate::summary::ExpectationOutcome::{self, Held, NotHeld};

const MS: u64 = 1_000_000;
const STATE_BYTES: u64 = 1024;
const ECHO_NS: u64 = 4 * MS;
const RATES_BPS: [u64; 2] = [2 * MS, 20 * MS];
const TOKENS: u64 = 16;

/// What nature does in these trials.
#[derive(Clone, Copy)]
struct Nature {
    /// Times as long as the law says.
    slower: u64,
    /// Whether nodes work at the same time.
    pipelines: bool,
    /// Whether the even division is the better one after all.
    prefers_even: bool,
}

const AS_THE_LAWS_SAY: Nature = Nature {
    slower: 1,
    pipelines: true,
    prefers_even: false,
};

fn arms() -> Vec<Arm> {
    let arm = |ends: [u32; 3], in_flight| Arm::Split {
        ends: ends.to_vec(),
        in_flight,
        coding: Coding::F32,
    };
    [1, 6]
        .into_iter()
        .flat_map(|under_way| [arm([2, 4, 6], under_way), arm([3, 5, 6], under_way)])
        .collect()
}

fn costs() -> Vec<NodeCosts> {
    let costs = |layer_ns| NodeCosts {
        layer_ns,
        fixed_ns: MS / 10,
        head_ns: Some(MS / 2),
        passes: 15,
    };
    vec![costs(MS), costs(MS), costs(2 * MS)]
}

fn outcome(nature: Nature, claim: StudyClaim) -> (ExpectationOutcome, String) {
    let study = StudySpec {
        arms: arms(),
        prompts: 12,
        prompt_tokens: 8,
        output_tokens: 16,
        patience_ns: 0,
        grid: Grid {
            round_trips_ns: vec![2 * MS],
            rates_bps: RATES_BPS.to_vec(),
            around_percent: Vec::new(),
        },
        ..fixture::study_spec()
    };
    let mut recorded = PhaseResults {
        name: "path".to_owned(),
        end: fixture::records()
            .results
            .phases
            .first()
            .and_then(|phase| phase.end.clone()),
        findings: vec![
            StudyFinding::Costs(costs()),
            StudyFinding::Row(hexloop_workloads::study::RowRecord {
                round_trip_ns: 2 * MS,
                echo_ns: ECHO_NS,
                echoes: 21,
                critical_rate_bps: None,
                rates_bps: RATES_BPS.to_vec(),
            }),
        ],
        ..PhaseResults::default()
    };
    let mut group = 0;
    for (rate_bps, arm) in RATES_BPS
        .iter()
        .flat_map(|rate| arms().into_iter().map(|arm| (*rate, arm)))
    {
        let together = arm.in_flight();
        for first in (0..12).step_by(usize::try_from(together).unwrap()) {
            let trials = (0..together).map(|place| {
                StudyFinding::Trial(trial(
                    nature,
                    (rate_bps, &arm),
                    (group, first + place, place),
                ))
            });
            recorded.findings.extend(trials);
            group += 1;
        }
    }
    let mut plan = fixture::plan();
    plan.studies = vec![StudyPlan {
        name: "path".to_owned(),
        path: ["a", "b", "c"].map(str::to_owned).to_vec(),
        hops: ["ab", "bc"]
            .map(|link| BesidePlan {
                link: link.to_owned(),
                address: "198.18.0.2:27800".parse().unwrap(),
            })
            .to_vec(),
        transport: Transport::Tcp,
        study,
        duration_ns: 1,
    }];
    if let Some(model) = &mut plan.model {
        model.width = 256;
        model.bytes_per_activation = 4;
    }
    let mut results = fixture::records().results;
    results.phases.push(recorded);
    let judged = judge(&plan, &results, ("path", claim));
    (judged.outcome, judged.detail)
}

fn trial(
    nature: Nature,
    (rate_bps, arm): (u64, &Arm),
    (group, prompt, place): (u32, u32, u32),
) -> TrialRecord {
    let busy_ns: Vec<u64> = split::stage_times_ns(arm, &costs())
        .into_iter()
        .map(|stage| stage * TOKENS)
        .collect();
    let hops = split::hop_bytes(2, (8, TOKENS), (Coding::F32, STATE_BYTES / 4));
    let alone = split::request_time_ns((&busy_ns, &hops), TOKENS, (ECHO_NS, rate_bps));
    let slowest = split::slowest_time_ns(&busy_ns, &hops, rate_bps);
    let together = u64::from(arm.in_flight());
    // What some requests take together, each of which has a share of it.
    let mut span = match (together, nature.pipelines) {
        (1, _) => alone,
        (_, true) => slowest * together + (alone - slowest) / TOKENS,
        (_, false) => alone * together,
    } * nature.slower;
    if nature.prefers_even && arm.first_cut() == 2 {
        span /= 3;
    }
    let gap = span / TOKENS;
    let started_ns = u64::from(group) * 10_000 * MS;
    let offset = gap / together * u64::from(place + 1);
    // A little noise that is the same every time.
    let noise = |token: u64| (token * 7919 + u64::from(prompt) * 104_729) % 100 * 100;
    TrialRecord {
        number: prompt,
        group,
        arm: arm.clone(),
        round_trip_ns: 2 * MS,
        rate_bps,
        prompt,
        started_ns,
        token_ns: (1..=TOKENS)
            .map(|token| started_ns + offset + (token - 1) * gap + noise(token))
            .collect(),
        tokens: (0..16).collect(),
        hops,
        busy_ns,
        ..fixture::trial()
    }
}

const CLAIMS: [StudyClaim; 3] = [
    StudyClaim::LatencyIsSum,
    StudyClaim::ThroughputIsSlowest,
    StudyClaim::BestDivisionAsPredicted,
];

#[test]
fn a_path_that_works_as_the_laws_say_makes_the_claims_hold() {
    for claim in CLAIMS {
        let (outcome, detail) = outcome(AS_THE_LAWS_SAY, claim);
        assert_eq!(outcome, Held, "{}: {detail}", claim.name());
    }
}

#[test]
fn what_takes_longer_than_the_costs_say_is_told_with_one_request_and_with_several() {
    let slower = Nature {
        slower: 2,
        ..AS_THE_LAWS_SAY
    };
    for claim in [StudyClaim::LatencyIsSum, StudyClaim::ThroughputIsSlowest] {
        let (outcome, detail) = outcome(slower, claim);
        assert_eq!(outcome, NotHeld, "{}: {detail}", claim.name());
    }
}

#[test]
fn nodes_that_wait_for_each_other_are_told() {
    let one_by_one = Nature {
        pipelines: false,
        ..AS_THE_LAWS_SAY
    };
    let (outcome, detail) = outcome(one_by_one, StudyClaim::ThroughputIsSlowest);
    assert_eq!(outcome, NotHeld, "{detail}");
}

#[test]
fn a_division_that_wins_against_the_costs_is_told() {
    let even = Nature {
        prefers_even: true,
        ..AS_THE_LAWS_SAY
    };
    let (outcome, detail) = outcome(even, StudyClaim::BestDivisionAsPredicted);
    assert_eq!(outcome, NotHeld, "{detail}");
}
