//! Codings that save what their bytes promise make the claim hold, and those that do not do not.

use hexloop_topologies::plan::{BesidePlan, StudyClaim, StudyPlan};
use hexloop_workloads::coding::Coding;
use hexloop_workloads::study::{Arm, Grid, StudyFinding, StudySpec, TrialRecord};
use hexloop_workloads::transport::Transport;

use super::super::judge;
use super::*;
use crate::fixture;
use crate::results::PhaseResults;
use crate::summary::ExpectationOutcome::{self, Held, NotHeld, Undecided};

const MS: u64 = 1_000_000;
const WIDTH: u64 = 256;
const RATES_BPS: [u64; 2] = [4 * MS, 10 * MS];
const PROMPTS: u32 = 3;

/// The outcome where a frame of so many bytes of states takes its first token so long at a rate.
fn outcome(codings: &[Coding], took_ns: fn(u64, u64) -> u64) -> ExpectationOutcome {
    let arms = codings.iter().map(|coding| Arm::Split {
        ends: vec![2, 6],
        in_flight: 1,
        coding: *coding,
    });
    let study = StudySpec {
        arms: arms.collect(),
        prompts: PROMPTS,
        prompt_tokens: 64,
        output_tokens: 1,
        patience_ns: 0,
        grid: Grid {
            round_trips_ns: vec![2 * MS],
            rates_bps: RATES_BPS.to_vec(),
            around_percent: Vec::new(),
        },
        ..fixture::study_spec()
    };
    let mut results = fixture::records().results;
    let mut recorded = PhaseResults {
        name: "codings".to_owned(),
        end: results.phases.first().and_then(|phase| phase.end.clone()),
        ..PhaseResults::default()
    };
    for rate_bps in RATES_BPS {
        for (prompt, arm) in
            (0..PROMPTS).flat_map(|prompt| study.arms.iter().map(move |arm| (prompt, arm)))
        {
            let coding = arm.coding();
            let body = 64 * coding.token_bytes(WIDTH) + coding.opening_bytes(WIDTH);
            let took = took_ns(split::wire_bytes_of_frame(body), rate_bps);
            // Machines are not all equally fast all the time.
            let noise = u64::from(prompt) * MS + coding.token_bytes(WIDTH) % 7 * MS / 10;
            recorded.findings.push(StudyFinding::Trial(TrialRecord {
                number: 0,
                group: 0,
                arm: arm.clone(),
                round_trip_ns: 2 * MS,
                rate_bps,
                prompt,
                started_ns: 5 * MS,
                token_ns: vec![5 * MS + 40 * MS + took + noise],
                tokens: vec![1],
                hops: Vec::new(),
                busy_ns: Vec::new(),
                ..fixture::trial()
            }));
        }
    }
    results.phases.push(recorded);
    let mut plan = fixture::plan();
    if let Some(model) = &mut plan.model {
        model.width = 256;
    }
    plan.studies = vec![StudyPlan {
        name: "codings".to_owned(),
        path: vec!["device".to_owned(), "edge".to_owned()],
        hops: Vec::<BesidePlan>::new(),
        transport: Transport::Tcp,
        study,
        duration_ns: 1,
    }];
    let judged = judge(
        &plan,
        &results,
        ("codings", StudyClaim::CodingsSaveLinkTime),
    );
    judged.outcome
}

fn on_the_link(bytes: u64, rate_bps: u64) -> u64 {
    bytes * 8 * 1_000_000_000 / rate_bps
}

#[test]
fn bytes_that_cost_their_time_on_the_link_make_the_claim_hold() {
    assert_eq!(outcome(&Coding::ALL, on_the_link), Held);
}

#[test]
fn bytes_that_cost_another_time_do_not() {
    assert_eq!(
        outcome(&Coding::ALL, |bytes, rate| on_the_link(bytes, rate) * 7
            / 10),
        NotHeld
    );
    assert_eq!(outcome(&Coding::ALL, |_, _| 0), NotHeld);
}

#[test]
fn two_codings_decide_nothing() {
    let two = [Coding::F32, Coding::F16];
    assert_eq!(outcome(&two, on_the_link), Undecided);
}
