//! Several users and one edge, as processes over the loopback.

use super::harness::{Job, SmallModel, bare_study, event_reasons, free_address, study_spec};
use crate::study::shared::policy::Policy;
use crate::study::shared::{Ending, SharedCosts, SharedRound, SharedSpec, Tie, request_bytes};
use crate::study::{Arm, Grid, StudyFinding, StudyRole, StudySpec};

const PROMPT_TOKENS: u32 = 5;
const OUTPUT_TOKENS: u32 = 6;
const UPLOAD_BYTES: u32 = 3000;

fn study(deadline_ns: u64) -> StudySpec {
    let arms = Policy::ALL.map(|policy| Arm::Shared { policy, batch: 3 });
    StudySpec {
        arms: arms.to_vec(),
        prompts: 2,
        prompt_tokens: PROMPT_TOKENS,
        output_tokens: OUTPUT_TOKENS,
        grid: Grid {
            round_trips_ns: Vec::new(),
            rates_bps: Vec::new(),
            around_percent: Vec::new(),
        },
        shared: Some(SharedSpec {
            users: vec![2],
            offered_percent: vec![50],
            repetitions: 1,
            arrivals_for_ns: 150_000_000,
            deadline_ns,
            upload_bytes: UPLOAD_BYTES,
        }),
        patience_ns: 1,
        ..bare_study()
    }
}

/// Edge and users, both ready and begun.
fn begun(model: &SmallModel, study: &StudySpec) -> (Job, Job) {
    let addresses = vec![free_address(), free_address()];
    let role = StudyRole::Edge {
        study: study.clone(),
        listens: addresses.clone(),
    };
    let mut edge = Job::start_study(&study_spec(model, role));
    edge.wait_until_ready();
    edge.begin();
    let role = StudyRole::Users {
        study: study.clone(),
        prompt_seeds: vec![100, 101],
        edges: addresses,
    };
    let mut users = Job::start_study(&study_spec(model, role));
    users.wait_until_ready();
    users.begin();
    (edge, users)
}

fn play(study: &StudySpec) -> (SharedCosts, Vec<SharedRound>) {
    let model = SmallModel::new();
    let (edge, mut users) = begun(&model, study);
    let (mut costs, mut rounds) = (None, Vec::new());
    for finding in users.findings_until_idle() {
        match finding {
            StudyFinding::Shared(found) => costs = Some(found),
            StudyFinding::Round(round) => rounds.push(round),
            other => panic!("{other:?}"),
        }
    }
    users.stop();
    edge.stop();
    (costs.unwrap(), rounds)
}

#[test]
fn with_time_enough_every_policy_serves_everybody_and_both_sides_count_the_formulas_bytes() {
    let (costs, rounds) = play(&study(3_600_000_000_000));
    assert!(costs.prefill_ns > 0 && costs.upload_ns.iter().all(|ns| *ns > 0));
    let sizes: Vec<u32> = costs.batches.iter().map(|run| run.sequences).collect();
    assert_eq!(sizes, [1, 3].repeat(sizes.len() / 2));
    assert_eq!(rounds.len(), 3);
    assert_eq!(costs.alone.len(), 2);
    assert_ne!(costs.alone[0], costs.alone[1]);
    let of_answers = |tie: &Tie| tie.request < 2 && tie.place < OUTPUT_TOKENS;
    assert!(
        costs.alone_ties.iter().all(of_answers),
        "{:?}",
        costs.alone_ties
    );
    let arrivals = |round: &SharedRound| -> Vec<(u32, u64)> {
        let requests = round.requests.iter();
        let due = requests.map(|it| (it.user, it.due_ns - round.from_ns));
        due.collect()
    };
    for (round, policy) in rounds.iter().zip(Policy::ALL) {
        assert_eq!(round.policy, policy);
        assert_eq!(arrivals(round), arrivals(&rounds[0]));
        assert!(!round.requests.is_empty());
        let mut sum = (0, 0);
        for record in &round.requests {
            assert_eq!(record.ending, Ending::Served, "{record:?}");
            assert_eq!(record.tokens, OUTPUT_TOKENS);
            // Whoever was beside it.
            let alone = &costs.alone[usize::try_from(record.prompt).unwrap()];
            assert_eq!(&record.answer, alone);
            assert!(record.in_budget(3_600_000_000_000));
            let bytes = request_bytes(policy, record, (PROMPT_TOKENS, UPLOAD_BYTES));
            assert_eq!((record.up, record.down), bytes);
            sum = (sum.0 + bytes.0, sum.1 + bytes.1);
        }
        assert_eq!((round.books.up, round.books.down), sum);
        let passes = round.books.passes.iter();
        assert!(passes.clone().all(|it| it.sequences <= 3));
        let made: u64 = passes
            .map(|it| u64::from(it.passes) * u64::from(it.sequences))
            .sum();
        let requests = u64::try_from(round.requests.len()).unwrap();
        assert_eq!(made, requests * u64::from(OUTPUT_TOKENS - 1));
    }
}

#[test]
fn a_deadline_that_nobody_could_keep_is_an_error_that_says_how_long_a_request_takes() {
    let model = SmallModel::new();
    let (_edge, users) = begun(&model, &study(1));
    let (events, outcome) = users.end();
    assert!(outcome.is_err());
    let reasons = event_reasons(&events).concat();
    assert!(reasons.contains("to be served within 0 ms"), "{reasons}");
}
