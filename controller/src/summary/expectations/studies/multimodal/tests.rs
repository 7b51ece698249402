//! Looks that do as their laws say make the claims hold, and others do not.

use hexloop_topologies::plan::StudyClaim;
use hexloop_workloads::study::multimodal::{
    ATTRIBUTES, LookCosts, LookRecord, LookShape, LooksRecord, MERGES,
};
use hexloop_workloads::study::{Arm, Grid, RowRecord, StudyFinding, StudySpec, TrialRecord};

use super::super::judge;
use super::*;
use crate::fixture;
use crate::summary::ExpectationOutcome::{self, Held, NotHeld, Undecided};
use crate::summary::studies::summaries;

const MS: u64 = 1_000_000;
const ECHO_NS: u64 = 10 * MS;
const AROUND_PERCENT: [u64; 4] = [25, 50, 200, 400];
const CODINGS: [Coding; 2] = [Coding::F32, Coding::Int8];
const SHAPE: LookShape = LookShape {
    image_bytes: 12_288,
    patches: 64,
    width: 256,
    question_tokens: 5,
};

/// What nature does in these trials.
#[derive(Clone, Copy)]
struct Nature {
    images: u32,
    /// Bytes that each frame of visual tokens has beside the formula's, and that it has if several are merged.
    more_bytes: u64,
    more_merged_bytes: u64,
    /// Whether exact visual tokens of the device lead to another answer.
    derails: bool,
    /// Of the rate that was asked for, what the link carries, in percent.
    carries_percent: u64,
    /// What each node computes for visual tokens of the device, in percent of what was measured.
    tokens_percent: u64,
    /// What encoding takes the device, as it was measured.
    device_ns: u64,
    /// Images that answers name, by merge.
    named: [u32; 3],
    /// Rates that are tried, in percent of the critical one.
    around_percent: [u64; 4],
}

const AS_THE_LAWS_SAY: Nature = Nature {
    images: 12,
    more_bytes: 0,
    more_merged_bytes: 0,
    derails: false,
    carries_percent: 100,
    tokens_percent: 100,
    device_ns: 80 * MS,
    named: [11, 11, 11],
    around_percent: AROUND_PERCENT,
};

fn looks() -> Vec<Look> {
    let of = |encoder, merge, coding| Look {
        encoder,
        merge,
        coding,
    };
    let images = MERGES.map(|merge| of(Encoder::Edge, merge, Coding::F32));
    let tokens = MERGES
        .into_iter()
        .flat_map(|merge| CODINGS.map(|coding| of(Encoder::Device, merge, coding)));
    images.into_iter().chain(tokens).collect()
}

fn record(nature: Nature) -> LooksRecord {
    let costs = |look: Look| {
        let (device_ns, encode_ns) = match look.encoder {
            Encoder::Device => (nature.device_ns, 0),
            Encoder::Edge => (MS, 10 * MS),
        };
        LookCosts {
            look,
            device_ns,
            edge_ns: encode_ns + MS * look.visual_tokens(SHAPE) / 8,
            passes: 5,
        }
    };
    LooksRecord {
        shape: SHAPE,
        costs: looks().into_iter().map(costs).collect(),
    }
}

fn trial(
    nature: Nature,
    (record, look): (&LooksRecord, Look),
    (rate_bps, image, number): (u64, u32, u32),
) -> [StudyFinding; 2] {
    let is_tokens = look.encoder == Encoder::Device;
    let carried = rate_bps * nature.carries_percent / 100;
    let mut took_ns = record.first_token_ns(look, (ECHO_NS, carried)).unwrap();
    let mut hops = vec![look.hop_bytes(SHAPE)];
    if is_tokens {
        let costs = record.costs_of(look).unwrap();
        let computed_ns = costs.device_ns + costs.edge_ns;
        took_ns = took_ns - computed_ns + computed_ns * nature.tokens_percent / 100;
        hops[0].up += nature.more_bytes;
        hops[0].up += nature.more_merged_bytes * u64::from(look.merge > 1);
    }
    let place = MERGES
        .iter()
        .position(|merge| *merge == look.merge)
        .unwrap();
    let derailed = nature.derails && is_tokens && look.coding.is_exact();
    let first_ns = u64::from(number) * 100_000 * MS + took_ns + u64::from(image) * MS / 20;
    let trial = TrialRecord {
        number,
        group: number,
        arm: Arm::Look(look),
        round_trip_ns: ECHO_NS,
        rate_bps,
        prompt: image,
        started_ns: u64::from(number) * 100_000 * MS,
        token_ns: (0..3).map(|token| first_ns + token * MS).collect(),
        // Fewer visual tokens may lead to another answer.
        tokens: vec![image, look.merge, u32::from(derailed)],
        hops,
        busy_ns: vec![0; 2],
        ..fixture::trial()
    };
    let seen = LookRecord {
        of: look,
        trial: number,
        prompt: image,
        asked: ATTRIBUTES,
        right: u32::from(image < nature.named[place]),
    };
    [StudyFinding::Trial(trial), StudyFinding::Look(seen)]
}

fn study(nature: Nature, looks: Vec<Look>) -> (StudySpec, Vec<StudyFinding>) {
    let record = record(nature);
    let pair = compared(&looks, SHAPE);
    let critical = pair.and_then(|(image, tokens)| record.critical_rate_bps(image, tokens));
    let rates_bps = nature
        .around_percent
        .map(|percent| critical.unwrap_or(2 * MS) * percent / 100);
    let mut findings = vec![
        StudyFinding::Looks(record.clone()),
        StudyFinding::Row(RowRecord {
            round_trip_ns: ECHO_NS,
            echo_ns: ECHO_NS,
            echoes: 21,
            critical_rate_bps: critical,
            rates_bps: rates_bps.to_vec(),
        }),
    ];
    let mut number = 0;
    for rate_bps in rates_bps {
        for image in 0..nature.images {
            for look in &looks {
                number += 1;
                let made = trial(nature, (&record, *look), (rate_bps, image, number));
                findings.extend(made);
            }
        }
    }
    let study = StudySpec {
        arms: looks.into_iter().map(Arm::Look).collect(),
        prompts: nature.images,
        prompt_tokens: 0,
        output_tokens: ATTRIBUTES,
        grid: Grid {
            round_trips_ns: vec![ECHO_NS],
            rates_bps: vec![2 * MS],
            around_percent: Vec::new(),
        },
        ..fixture::study_spec()
    };
    (study, findings)
}

fn outcome_of(nature: Nature, looks: Vec<Look>, claim: StudyClaim) -> (ExpectationOutcome, String) {
    let (study, findings) = study(nature, looks);
    let (plan, results) = fixture::with_study("looks", study, findings);
    let judged = judge(&plan, &results, ("looks", claim));
    (judged.outcome, judged.detail)
}

fn outcome(nature: Nature, claim: StudyClaim) -> (ExpectationOutcome, String) {
    outcome_of(nature, looks(), claim)
}

fn assert_outcome(nature: Nature, claim: StudyClaim, expected: ExpectationOutcome) {
    let (outcome, detail) = outcome(nature, claim);
    assert_eq!(outcome, expected, "{}: {detail}", claim.name());
}

#[test]
fn looks_that_follow_the_laws_make_every_claim_hold() {
    for claim in [
        StudyClaim::ArmBytesFollowFormula,
        StudyClaim::ArmsAgree,
        StudyClaim::FirstTokenIsSum,
        StudyClaim::MergingDividesUplink,
        StudyClaim::TokensWinBelowRate,
        StudyClaim::AnswersNameTheImage,
        StudyClaim::MergingKeepsAnswers,
    ] {
        assert_outcome(AS_THE_LAWS_SAY, claim, Held);
    }
}

#[test]
fn bytes_beside_the_formula_are_told_also_where_every_merge_has_them() {
    let nature = Nature {
        more_bytes: 1,
        ..AS_THE_LAWS_SAY
    };
    assert_outcome(nature, StudyClaim::ArmBytesFollowFormula, NotHeld);
    assert_outcome(nature, StudyClaim::MergingDividesUplink, NotHeld);
    let nature = Nature {
        more_merged_bytes: 64,
        ..AS_THE_LAWS_SAY
    };
    assert_outcome(nature, StudyClaim::MergingDividesUplink, NotHeld);
}

#[test]
fn another_answer_to_the_same_visual_tokens_is_told_and_one_to_fewer_is_not() {
    let nature = Nature {
        derails: true,
        ..AS_THE_LAWS_SAY
    };
    assert_outcome(nature, StudyClaim::ArmsAgree, NotHeld);
}

#[test]
fn a_link_that_carries_less_than_its_rate_takes_longer_than_bytes_and_costs() {
    let nature = Nature {
        carries_percent: 40,
        ..AS_THE_LAWS_SAY
    };
    assert_outcome(nature, StudyClaim::FirstTokenIsSum, NotHeld);
}

#[test]
fn visual_tokens_that_take_longer_than_was_measured_lose_below_the_critical_rate_too() {
    for tokens_percent in [400, 10] {
        let nature = Nature {
            tokens_percent,
            ..AS_THE_LAWS_SAY
        };
        assert_outcome(nature, StudyClaim::TokensWinBelowRate, NotHeld);
    }
}

#[test]
fn a_device_that_encodes_as_fast_as_the_edge_leaves_no_rate_to_win_below() {
    let nature = Nature {
        device_ns: MS,
        ..AS_THE_LAWS_SAY
    };
    let (outcome, detail) = outcome(nature, StudyClaim::TokensWinBelowRate);
    assert_eq!(outcome, NotHeld, "{detail}");
    assert!(detail.contains("leave no rate"), "{detail}");
}

#[test]
fn rates_on_one_side_and_one_image_decide_nothing_about_the_critical_rate() {
    let claim = StudyClaim::TokensWinBelowRate;
    for around_percent in [[10, 20, 30, 40], [200, 300, 400, 500], [95, 99, 101, 105]] {
        let nature = Nature {
            around_percent,
            ..AS_THE_LAWS_SAY
        };
        assert_outcome(nature, claim, Undecided);
    }
    let nature = Nature {
        images: 1,
        ..AS_THE_LAWS_SAY
    };
    assert_outcome(nature, claim, Undecided);
}

#[test]
fn answers_by_chance_do_not_name_images_and_half_of_them_decide_nothing() {
    let claim = StudyClaim::AnswersNameTheImage;
    let of = |named| Nature {
        named: [named; 3],
        ..AS_THE_LAWS_SAY
    };
    assert_outcome(of(1), claim, NotHeld);
    assert_outcome(of(7), claim, Undecided);
}

#[test]
fn merges_that_name_less_are_told_and_those_that_name_a_little_less_decide_nothing() {
    let claim = StudyClaim::MergingKeepsAnswers;
    let of = |most_merged| Nature {
        named: [11, 11, most_merged],
        ..AS_THE_LAWS_SAY
    };
    assert_outcome(of(1), claim, NotHeld);
    assert_outcome(of(9), claim, Undecided);
}

#[test]
fn one_merge_decides_nothing_about_merging() {
    let mut one = looks();
    one.retain(|look| look.merge == 4);
    for claim in [
        StudyClaim::MergingDividesUplink,
        StudyClaim::MergingKeepsAnswers,
    ] {
        let (outcome, detail) = outcome_of(AS_THE_LAWS_SAY, one.clone(), claim);
        assert_eq!(outcome, Undecided, "{}: {detail}", claim.name());
    }
}

#[test]
fn the_summary_has_bytes_and_shares_of_each_arm_and_the_same_tokens_where_as_many_are_merged() {
    let (study, findings) = study(AS_THE_LAWS_SAY, looks());
    let (plan, results) = fixture::with_study("looks", study, findings);
    let all = summaries(&plan, &BTreeMap::new(), &results);
    let same = all[0].cells.iter().map(|cell| cell.agreement);
    assert!(same.clone().count() == 36 && same.clone().all(|share| share == Some(1.0)));
    let summary = all[0].looks.as_ref().unwrap();
    let pair = ["image".to_owned(), "tokens /4 int8".to_owned()];
    assert_eq!(summary.compared, Some(pair));
    assert!(summary.critical_rate_mbps.is_some());
    assert_eq!((summary.arms.len(), summary.cells.len()), (9, 36));
    let arm = &summary.arms[8];
    assert_eq!(
        (arm.arm.as_str(), arm.visual_tokens),
        ("tokens /16 int8", 4)
    );
    assert_eq!((arm.up_bytes, arm.over_image), (Some(1552.0), Some(0.1263)));
    // Each image once, though it was asked about at four rates.
    assert_eq!((arm.images, arm.asked), (12, 12));
    assert!((arm.named.unwrap()[0] - 11.0 / 12.0).abs() < 1e-6);
}
