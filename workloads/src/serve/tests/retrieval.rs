//! Queries that a node with documents answers, as processes over the loopback.

use super::harness::{
    Job, SmallModel, access, bare_study, event_reasons, free_address, study_spec,
};
use crate::serve::connection::{Connection, PayloadCounter, connect, token_bytes};
use crate::study::retrieval::{Library, Retrieval, hop_bytes};
use crate::study::{Arm, Grid, StudyFinding, StudyRole, StudySpec, TrialRecord};
use crate::transport::Transport;
use crate::wire::FrameKind;

const QUERY_TOKENS: u32 = 6;
const OUTPUT_TOKENS: u32 = 4;
const PROMPTS: u32 = 5;

const LIBRARY: Library = Library {
    documents: 24,
    chunk_tokens: 12,
    centres: 4,
    store_bytes: 1 << 24,
};

fn study() -> StudySpec {
    let arm = |(probes, keeps)| {
        Arm::Retrieval(Retrieval {
            library: LIBRARY,
            chunks: 3,
            probes,
            keeps,
        })
    };
    StudySpec {
        arms: [
            (None, false),
            (None, true),
            (Some(1), true),
            (Some(4), false),
        ]
        .map(arm)
        .to_vec(),
        prompts: PROMPTS,
        prompt_tokens: QUERY_TOKENS,
        output_tokens: OUTPUT_TOKENS,
        grid: Grid {
            round_trips_ns: vec![0],
            rates_bps: vec![1_000_000, 2_000_000],
            around_percent: Vec::new(),
        },
        ..bare_study()
    }
}

fn stage(model: &SmallModel) -> (Job, std::net::SocketAddr) {
    let address = free_address();
    let role = StudyRole::Stage {
        place: 1,
        study: study(),
        listen: address,
        next: None,
    };
    let mut stage = Job::start_study(&study_spec(model, role));
    stage.wait_until_ready();
    stage.begin();
    (stage, address)
}

#[test]
fn chunks_are_found_kept_ones_are_not_computed_again_and_change_no_answer() {
    let model = SmallModel::new();
    let (stage, address) = stage(&model);
    let role = StudyRole::Driver {
        study: study(),
        prompt_seeds: (1..=u64::from(PROMPTS))
            .map(|prompt| prompt.wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .collect(),
        next: Some(address),
    };
    let mut driver = Job::start_study(&study_spec(&model, role));
    driver.wait_until_ready();
    driver.begin();
    let findings = driver.findings_until_idle();
    driver.stop();
    stage.stop();
    let trials: Vec<&TrialRecord> = findings
        .iter()
        .filter_map(|finding| match finding {
            StudyFinding::Trial(trial) => Some(trial),
            _ => None,
        })
        .collect();
    assert_eq!(trials.len(), 2 * 5 * 4);
    let mut hits = 0;
    for trial in &trials {
        let record = trial.retrieval.as_ref().unwrap();
        let Arm::Retrieval(retrieval) = trial.arm else {
            panic!("{:?}", trial.arm)
        };
        let (query, output) = (u64::from(QUERY_TOKENS), u64::from(OUTPUT_TOKENS));
        assert_eq!(trial.hops, [hop_bytes(query, output, record)]);
        assert_eq!(record.exact.len(), 3);
        assert!(record.origin < LIBRARY.documents);
        let found = u32::try_from(record.found.len()).unwrap();
        assert_eq!(
            record.reused + record.computed,
            found * LIBRARY.chunk_tokens + QUERY_TOKENS
        );
        // All centres are as good as none.
        if retrieval.probes != Some(1) {
            assert_eq!(record.found, record.exact);
        }
        if !retrieval.keeps {
            assert_eq!(record.reused, 0);
        }
        hits += u32::from(record.reused > 0);
    }
    // At the second setting all have been asked before.
    let second = trials.iter().skip(20).filter(|trial| {
        let keeps = matches!(trial.arm, Arm::Retrieval(retrieval) if retrieval.keeps);
        keeps && trial.retrieval.as_ref().unwrap().reused >= 3 * LIBRARY.chunk_tokens
    });
    assert!(hits >= 10 && second.count() >= 5, "{hits}");
    // What is kept is what would be computed: exact searches with and without lead to the same.
    for of_prompt in trials.chunks(4) {
        assert_eq!(of_prompt[0].tokens, of_prompt[1].tokens);
        assert_eq!(of_prompt[0].tokens, of_prompt[3].tokens);
    }
    let measured = findings
        .iter()
        .filter(|finding| matches!(finding, StudyFinding::Retrieval(_)));
    assert_eq!(measured.count(), 2);
}

#[test]
fn a_stage_without_an_index_says_so_and_chunks_come_in_order() {
    let model = SmallModel::new();
    let asks: [(FrameKind, u32, Vec<u32>, &str); 4] = [
        (FrameKind::Retrieve, 9, vec![1, 0, 0, 2, 5], "no index yet"),
        (FrameKind::Retrieve, 9, vec![1, 0], "how to retrieve"),
        (FrameKind::Deposit, 1, vec![1, 2], "not the next chunk"),
        (FrameKind::Measure, 0, Vec::new(), "so long a text"),
    ];
    for (kind, request, words, why) in asks {
        let (stage, address) = stage(&model);
        let counter = PayloadCounter::default();
        let connection = connect(
            address,
            (&access(Transport::Tcp), &model.terms(0)),
            &counter,
        )
        .unwrap();
        let Connection {
            mut writer,
            reader: _open,
            ..
        } = connection;
        writer
            .write(kind, request, 0, &token_bytes(&words))
            .unwrap();
        let (events, result) = stage.end();
        assert!(result.is_err(), "{kind:?}");
        let reasons = event_reasons(&events).join("\n");
        assert!(reasons.contains(why), "{reasons}");
    }
}
