//! Drafts that follow the laws make the claims hold, and drafts that follow broken ones do not.

use hexloop_topologies::plan::{Plan, StudyClaim};
use hexloop_workloads::study::speculative::{
    self as drafts, AcceptanceRecord, Crossing, DraftLength, Number, RoundRecord, Speculation,
};
use hexloop_workloads::study::{Grid, HopBytes, RowRecord, StudyFinding, StudySpec};

use super::super::judge;
use super::*;
use crate::fixture;
use crate::results::Results;
use crate::summary::ExpectationOutcome::{self, Held, NotHeld, Undecided};

const MS: u64 = 1_000_000;
const PROMPTS: u32 = 24;
const TOKENS: u32 = 48;
const VOCABULARY: u32 = 1000;
const ROUND_TRIPS_NS: [u64; 3] = [MS, 10 * MS, 100 * MS];
const RATES_BPS: [u64; 2] = [MS, 100 * MS];

/// What nature does in these trials.
#[derive(Clone, Copy)]
struct Nature {
    /// How many of a hundred held-out drafts are accepted.
    held_out_percent: u32,
    /// How many of a hundred drafts of the trials are.
    accepted_percent: u32,
    /// How long a drafted token takes for each millisecond of round trip.
    draft_ns_per_round_trip_ms: u64,
    /// Whether distributions take no time on the link.
    free_distributions: bool,
    /// Whether ids take as long as distributions.
    dear_ids: bool,
    /// Bytes beside the formula's, for each draft.
    more_bytes: u64,
    /// Whether the greedy arms with drafts of four change the answer.
    changes_tokens: bool,
}

const AS_THE_LAWS_SAY: Nature = Nature {
    held_out_percent: 80,
    accepted_percent: 80,
    draft_ns_per_round_trip_ms: 0,
    free_distributions: false,
    dear_ids: false,
    more_bytes: 0,
    changes_tokens: false,
};

/// Some number below a hundred, the same every time.
fn percent(place: u32) -> u32 {
    // The finaliser of SplitMix64: neighbours are as good as independent.
    let mixed = u64::from(place).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    u32::try_from((mixed >> 33) % 100).unwrap()
}

fn arms() -> Vec<Arm> {
    let speculation = |drawing, crossing, drafted| {
        Arm::Speculative(Speculation {
            drawing,
            crossing,
            length: DraftLength::Fixed(drafted),
        })
    };
    let ids = [1, 2, 4, 8].map(|drafted| speculation(Drawing::Greedy, Crossing::Ids, drafted));
    let whole = Crossing::Distributions(Number::F32);
    let sampled = [Crossing::Ids, whole, Crossing::TopK(8)];
    let sampled = sampled.map(|crossing| speculation(Drawing::Sampled, crossing, 4));
    let baseline = Arm::Remote {
        drawing: Drawing::Greedy,
    };
    [baseline].into_iter().chain(ids).chain(sampled).collect()
}

fn rounds(nature: Nature, arm: &Arm, seed: u32) -> Vec<RoundRecord> {
    let Some((_, drafted)) = fixed(arm) else {
        return Vec::new();
    };
    let (mut left, mut place, mut rounds) = (TOKENS, seed * 1009, Vec::new());
    while left > 0 {
        let drafted = drafted.min(left - 1);
        let mut accepted = 0;
        while accepted < drafted && percent(place) < nature.accepted_percent {
            accepted += 1;
            place += 1;
        }
        place += 1;
        left -= accepted + 1;
        rounds.push(RoundRecord { drafted, accepted });
    }
    rounds
}

fn trial(
    nature: Nature,
    (arm, prompt): (&Arm, u32),
    (number, round_trip_ns, rate_bps): (u32, u64, u64),
) -> TrialRecord {
    let rounds = rounds(nature, arm, number);
    let crossing = match arm {
        Arm::Speculative(speculation) => speculation.crossing,
        _ => Crossing::Ids,
    };
    let mut hop = match arm {
        Arm::Speculative(_) => drafts::hop_bytes(8, &rounds, (crossing, VOCABULARY)),
        _ => drafts::remote_bytes(8, u64::from(TOKENS)),
    };
    let crossed = match (crossing, nature) {
        (Crossing::Ids, Nature { dear_ids: true, .. }) => hop.up * 200,
        (
            Crossing::Distributions(_),
            Nature {
                free_distributions: true,
                ..
            },
        ) => 0,
        _ => hop.up,
    };
    hop.up += nature.more_bytes * u64::try_from(rounds.len()).unwrap();
    let on_the_link = crossed * 8 * 1_000_000_000 / rate_bps;
    let draft_ns = MS + nature.draft_ns_per_round_trip_ms * (round_trip_ns / MS);
    let of_round =
        |round: &RoundRecord| u64::from(round.drafted) * draft_ns + round_trip_ns + 5 * MS;
    let computing = match arm {
        Arm::Speculative(_) => rounds.iter().map(of_round).sum(),
        _ => round_trip_ns + u64::from(TOKENS) * 4 * MS,
    };
    let started_ns = u64::from(number) * 100_000 * MS;
    let end_ns = started_ns + on_the_link + computing;
    let changed = u32::from(nature.changes_tokens && fixed(arm).is_some_and(|(_, g)| g == 4));
    TrialRecord {
        number,
        group: number,
        arm: arm.clone(),
        round_trip_ns,
        rate_bps,
        prompt,
        started_ns,
        token_ns: vec![end_ns; usize::try_from(TOKENS).unwrap()],
        tokens: (0..TOKENS).map(|token| token + prompt + changed).collect(),
        hops: vec![HopBytes { ..hop }],
        busy_ns: vec![1, 1],
        rounds,
        ..fixture::trial()
    }
}

fn findings(nature: Nature) -> Vec<StudyFinding> {
    let mut findings = Vec::new();
    for (prompt, drawing) in (0..48).zip([Drawing::Greedy, Drawing::Sampled].into_iter().cycle()) {
        let place = |token: u32| prompt * 7919 + token;
        let one = |token| 1_000_000 * u32::from(percent(place(token)) < nature.held_out_percent);
        findings.push(StudyFinding::Acceptance(AcceptanceRecord {
            drawing,
            overlap_ppm: (0..100).map(one).collect(),
        }));
    }
    let mut number = 0;
    for round_trip_ns in ROUND_TRIPS_NS {
        findings.push(StudyFinding::Row(RowRecord {
            round_trip_ns,
            echo_ns: round_trip_ns,
            echoes: 1,
            critical_rate_bps: None,
            rates_bps: RATES_BPS.to_vec(),
        }));
        for rate_bps in RATES_BPS {
            for prompt in 0..PROMPTS {
                for arm in &arms() {
                    let setting = (number, round_trip_ns, rate_bps);
                    findings.push(StudyFinding::Trial(trial(nature, (arm, prompt), setting)));
                    number += 1;
                }
            }
        }
    }
    findings
}

fn played(findings: Vec<StudyFinding>) -> (Plan, Results) {
    let study = StudySpec {
        arms: arms(),
        prompts: PROMPTS,
        prompt_tokens: 8,
        output_tokens: TOKENS,
        held_out_prompts: 24,
        patience_ns: 0,
        grid: Grid {
            round_trips_ns: ROUND_TRIPS_NS.to_vec(),
            rates_bps: RATES_BPS.to_vec(),
            around_percent: Vec::new(),
        },
        ..fixture::study_spec()
    };
    let (mut plan, results) = fixture::with_study("drafts", study, findings);
    if let Some(model) = &mut plan.model {
        model.vocabulary = VOCABULARY;
    }
    (plan, results)
}

fn outcome(nature: Nature, claim: StudyClaim) -> (ExpectationOutcome, String) {
    let (plan, results) = played(findings(nature));
    let judged = judge(&plan, &results, ("drafts", claim));
    (judged.outcome, judged.detail)
}

#[test]
fn drafts_that_work_as_the_laws_say_make_the_claims_hold() {
    for claim in [
        StudyClaim::ArmsAgree,
        StudyClaim::ArmBytesFollowFormula,
        StudyClaim::RoundsFollowAcceptance,
        StudyClaim::BestDraftGrowsWithRoundTrip,
        StudyClaim::DistributionsCollapse,
    ] {
        let (outcome, detail) = outcome(AS_THE_LAWS_SAY, claim);
        assert_eq!(outcome, Held, "{}: {detail}", claim.name());
    }
}

#[test]
fn each_broken_law_makes_its_claim_not_held() {
    let natures = [
        (
            StudyClaim::ArmsAgree,
            Nature {
                changes_tokens: true,
                ..AS_THE_LAWS_SAY
            },
        ),
        (
            StudyClaim::ArmBytesFollowFormula,
            Nature {
                more_bytes: 1,
                ..AS_THE_LAWS_SAY
            },
        ),
        // A wrong q: what is accepted is not what both distributions have in common.
        (
            StudyClaim::RoundsFollowAcceptance,
            Nature {
                accepted_percent: 60,
                ..AS_THE_LAWS_SAY
            },
        ),
        (
            StudyClaim::RoundsFollowAcceptance,
            Nature {
                held_out_percent: 55,
                ..AS_THE_LAWS_SAY
            },
        ),
        // Drafts that take the longer the longer the round trip: short ones become the best.
        (
            StudyClaim::BestDraftGrowsWithRoundTrip,
            Nature {
                draft_ns_per_round_trip_ms: MS,
                ..AS_THE_LAWS_SAY
            },
        ),
        (
            StudyClaim::DistributionsCollapse,
            Nature {
                free_distributions: true,
                ..AS_THE_LAWS_SAY
            },
        ),
        (
            StudyClaim::DistributionsCollapse,
            Nature {
                dear_ids: true,
                ..AS_THE_LAWS_SAY
            },
        ),
    ];
    for (claim, nature) in natures {
        let (outcome, detail) = outcome(nature, claim);
        assert_eq!(outcome, NotHeld, "{}: {detail}", claim.name());
    }
}

#[test]
fn too_few_prompts_and_one_round_trip_leave_claims_undecided() {
    let few = |finding: &StudyFinding| match finding {
        StudyFinding::Trial(trial) => trial.prompt < 3 && trial.round_trip_ns == MS,
        StudyFinding::Row(row) => row.round_trip_ns == MS,
        _ => true,
    };
    let mut findings = findings(AS_THE_LAWS_SAY);
    findings.retain(few);
    let (plan, results) = played(findings);
    for claim in [
        StudyClaim::RoundsFollowAcceptance,
        StudyClaim::BestDraftGrowsWithRoundTrip,
    ] {
        let judged = judge(&plan, &results, ("drafts", claim));
        assert_eq!(judged.outcome, Undecided, "{}", judged.detail);
    }
}
