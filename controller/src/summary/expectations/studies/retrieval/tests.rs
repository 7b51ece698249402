//! Retrieval as the laws say makes the claims hold, and retrieval that is broken does not.

use hexloop_topologies::plan::StudyClaim;
use hexloop_workloads::study::retrieval::{
    Library, Retrieval, RetrievalCosts, RetrievalRecord, hop_bytes,
};
use hexloop_workloads::study::{Arm, Grid, StudyFinding, StudySpec, TrialRecord};

use super::super::judge;
use crate::fixture;
use crate::summary::ExpectationOutcome::{self, Held, NotHeld};

const MS: u64 = 1_000_000;
const QUERY: u32 = 8;
const CHUNKS: u32 = 3;
const PROMPTS: u32 = 40;

const LIBRARY: Library = Library {
    documents: 64,
    chunk_tokens: 16,
    centres: 8,
    store_bytes: 1,
};

const COSTS: RetrievalCosts = RetrievalCosts {
    pass_ns: 4 * MS,
    token_ns: MS,
    search_ns: MS,
    passes: 5,
};

/// What nature does in these trials.
#[derive(Clone, Copy)]
struct Nature {
    /// One in so many of the chunks is missed by a search of few centres.
    misses: u32,
    /// Whether an exact search misses one too.
    exact_misses: bool,
    /// Whether kept prefixes are used.
    reuses: bool,
    /// Whether they save time.
    saves: bool,
    /// Positions that are neither reused nor computed.
    lost: u32,
    /// Bytes beside the formula's.
    more_bytes: u64,
    /// Whether reuse leads to another answer.
    derails: bool,
}

const AS_THE_LAWS_SAY: Nature = Nature {
    misses: 16,
    exact_misses: false,
    reuses: true,
    saves: true,
    lost: 0,
    more_bytes: 0,
    derails: false,
};

fn arms() -> Vec<Arm> {
    let arm = |(probes, keeps)| {
        Arm::Retrieval(Retrieval {
            library: LIBRARY,
            chunks: CHUNKS,
            probes,
            keeps,
        })
    };
    [(None, false), (None, true), (Some(2), true)]
        .map(arm)
        .to_vec()
}

fn trial(nature: Nature, arm: &Arm, (prompt, number): (u32, u32)) -> TrialRecord {
    let Arm::Retrieval(retrieval) = *arm else {
        panic!("{arm:?}")
    };
    let exact: Vec<u32> = (0..CHUNKS).map(|chunk| chunk * 10 + prompt % 5).collect();
    let misses = match retrieval.probes {
        Some(_) => (prompt + 1).is_multiple_of(nature.misses),
        None => nature.exact_misses && prompt == 0,
    };
    let mut found = exact.clone();
    if misses {
        found[0] = 63;
    }
    let whole = CHUNKS * LIBRARY.chunk_tokens + QUERY;
    let reused = match retrieval.keeps && nature.reuses && prompt >= 5 {
        true => CHUNKS * LIBRARY.chunk_tokens,
        false => 0,
    };
    let computed = whole - reused - if retrieval.keeps { nature.lost } else { 0 };
    let positions = if nature.saves { computed } else { whole };
    let record = RetrievalRecord {
        found,
        exact,
        origin: prompt,
        reused,
        computed,
        prefill_ns: COSTS.prefill_ns(positions) * (1000 + u64::from(prompt % 3)) / 1000,
    };
    let mut bytes = hop_bytes(u64::from(QUERY), 2, &record);
    bytes.up += nature.more_bytes;
    let derailed = nature.derails && retrieval.keeps;
    TrialRecord {
        number,
        group: number,
        arm: arm.clone(),
        round_trip_ns: MS,
        rate_bps: MS,
        prompt,
        token_ns: vec![record.prefill_ns, record.prefill_ns + MS],
        tokens: vec![u32::from(derailed), prompt],
        hops: vec![bytes],
        busy_ns: vec![0; 2],
        retrieval: Some(Box::new(record)),
        ..fixture::trial()
    }
}

fn outcome(nature: Nature, claim: StudyClaim) -> (ExpectationOutcome, String) {
    let study = StudySpec {
        arms: arms(),
        prompts: PROMPTS,
        prompt_tokens: QUERY,
        output_tokens: 2,
        grid: Grid {
            round_trips_ns: vec![MS],
            rates_bps: vec![MS],
            around_percent: Vec::new(),
        },
        ..fixture::study_spec()
    };
    let mut findings = vec![StudyFinding::Retrieval(COSTS)];
    let mut number = 0;
    for prompt in 0..PROMPTS {
        for arm in &study.arms {
            let made = trial(nature, arm, (prompt, number));
            findings.push(StudyFinding::Trial(made));
            number += 1;
        }
    }
    let (plan, results) = fixture::with_study("retrieval", study, findings);
    let judged = judge(&plan, &results, ("retrieval", claim));
    (judged.outcome, judged.detail)
}

#[test]
fn retrieval_as_the_laws_say_makes_every_claim_hold() {
    for claim in [
        StudyClaim::ArmBytesFollowFormula,
        StudyClaim::ArmsAgree,
        StudyClaim::ReuseSavesPrefill,
        StudyClaim::RecallIsHigh,
    ] {
        let (outcome, detail) = outcome(AS_THE_LAWS_SAY, claim);
        assert_eq!(outcome, Held, "{}: {detail}", claim.name());
    }
}

fn assert_not_held(nature: Nature, claim: StudyClaim) {
    let (outcome, detail) = outcome(nature, claim);
    assert_eq!(outcome, NotHeld, "{}: {detail}", claim.name());
}

#[test]
fn reuse_that_saves_nothing_does_not_add_up_or_never_happens_is_told() {
    for nature in [
        Nature {
            saves: false,
            ..AS_THE_LAWS_SAY
        },
        Nature {
            lost: 1,
            ..AS_THE_LAWS_SAY
        },
        Nature {
            reuses: false,
            ..AS_THE_LAWS_SAY
        },
    ] {
        assert_not_held(nature, StudyClaim::ReuseSavesPrefill);
    }
}

#[test]
fn an_index_that_misses_much_and_an_exact_search_that_misses_anything_are_told() {
    let nature = Nature {
        misses: 1,
        ..AS_THE_LAWS_SAY
    };
    assert_not_held(nature, StudyClaim::RecallIsHigh);
    let nature = Nature {
        exact_misses: true,
        ..AS_THE_LAWS_SAY
    };
    assert_not_held(nature, StudyClaim::RecallIsHigh);
}

#[test]
fn bytes_beside_the_formula_and_answers_that_reuse_changes_are_told() {
    let nature = Nature {
        more_bytes: 4,
        ..AS_THE_LAWS_SAY
    };
    assert_not_held(nature, StudyClaim::ArmBytesFollowFormula);
    let nature = Nature {
        derails: true,
        ..AS_THE_LAWS_SAY
    };
    assert_not_held(nature, StudyClaim::ArmsAgree);
}
