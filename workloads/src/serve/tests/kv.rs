//! Contexts that one node has and another goes on from, as processes over the loopback.

use super::harness::{
    Job, SmallModel, access, bare_study, event_reasons, free_address, study_spec,
};
use crate::coding::kv::KvCoding;
use crate::serve::connection::{Connection, PayloadCounter, connect, token_bytes};
use crate::study::kv::{
    Context, Delivery, DeliveryCosts, LossRecord, QUESTION_TOKENS, Source, TEXT_TOKENS, hop_bytes,
};
use crate::study::{Arm, Grid, StudyFinding, StudyRole, StudySpec, TrialRecord};
use crate::transport::Transport;
use crate::wire::FrameKind;

const PROMPT_TOKENS: u32 = 40 + QUESTION_TOKENS;
const OUTPUT_TOKENS: u32 = 5;
const PROMPTS: u32 = 2;
const HELD_OUT: u32 = 2;

fn study() -> StudySpec {
    let arm = |delivery: Delivery, source: Source| Arm::KeyValues { delivery, source };
    let mut arms: Vec<Arm> = Delivery::ALL
        .map(|delivery| arm(delivery, Source::Stored))
        .to_vec();
    arms.push(arm(Delivery::Ship(KvCoding::F32), Source::Prefilled));
    StudySpec {
        arms,
        prompts: PROMPTS,
        prompt_tokens: PROMPT_TOKENS,
        output_tokens: OUTPUT_TOKENS,
        held_out_prompts: HELD_OUT,
        grid: Grid {
            round_trips_ns: vec![0],
            rates_bps: vec![1_000_000],
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
fn exact_keys_and_values_lead_to_the_models_tokens_and_every_delivery_has_its_bytes() {
    let model = SmallModel::new();
    let (stage, address) = stage(&model);
    let role = StudyRole::Driver {
        study: study(),
        prompt_seeds: (100..).take(4).collect(),
        next: Some(address),
    };
    let mut driver = Job::start_study(&study_spec(&model, role));
    driver.wait_until_ready();
    driver.begin();
    let findings = driver.findings_until_idle();
    let (_, totals) = driver.stop();
    let (_, of_stage) = stage.stop();
    assert_eq!(totals.payload, of_stage.payload);

    let trials: Vec<&TrialRecord> = findings
        .iter()
        .filter_map(|finding| match finding {
            StudyFinding::Trial(trial) => Some(trial),
            _ => None,
        })
        .collect();
    assert_eq!(trials.len(), 2 * study().arms.len());
    let context = Context {
        shape: model.kv_shape(),
        tokens: PROMPT_TOKENS - QUESTION_TOKENS,
    };
    for trial in &trials {
        let name = trial.arm.name();
        let how = trial.transfer.unwrap();
        let Arm::KeyValues { delivery, .. } = trial.arm else {
            panic!("{name}")
        };
        if delivery == Delivery::Adaptive {
            assert!(how.measured_bps.is_some_and(|rate| rate > 0), "{name}");
            assert_ne!(how.delivery, Delivery::Adaptive);
        } else {
            assert_eq!((how.delivery, how.measured_bps), (delivery, None));
        }
        assert_eq!(trial.hops, [hop_bytes(how.delivery, context)], "{name}");
        assert!(trial.started_ns <= how.context_ns && how.context_ns <= trial.token_ns[0]);
        if trial.arm.is_exact() {
            let seed = 100 + u64::from(trial.prompt);
            let mut prompt = model.prompt(seed, PROMPT_TOKENS + TEXT_TOKENS);
            prompt.truncate(usize::try_from(PROMPT_TOKENS).unwrap());
            let whole = model.greedy_behind(prompt, OUTPUT_TOKENS);
            assert_eq!(trial.tokens, whole, "{name}");
        }
    }

    let losses = |coding: KvCoding| -> Vec<LossRecord> {
        let of = |finding: &StudyFinding| match finding {
            StudyFinding::Loss(record) if record.coding == coding => Some(*record),
            _ => None,
        };
        findings.iter().filter_map(of).collect()
    };
    let lost = KvCoding::ALL.map(|coding| {
        let records = losses(coding);
        assert_eq!(records.len(), 2, "{coding}");
        assert!(records.iter().all(|record| record.tokens == TEXT_TOKENS));
        records
            .iter()
            .map(|record| record.divergence_nano)
            .sum::<u64>()
    });
    assert!(lost.is_sorted() && lost[0] == 0 && lost[3] > 0, "{lost:?}");

    let costs: Vec<&DeliveryCosts> = findings
        .iter()
        .filter_map(|finding| match finding {
            StudyFinding::Delivery(costs) => Some(costs),
            _ => None,
        })
        .collect();
    // Before the row; its only setting follows at once.
    assert_eq!(costs.len(), 1);
    for costs in costs {
        assert_eq!(costs.codings.len(), KvCoding::ALL.len());
        assert!(costs.recompute_ns > 0 && costs.prefill_ns > 0 && costs.answer_ns > 0);
    }
}

#[test]
fn a_stage_refuses_what_it_does_not_have_and_says_so() {
    let model = SmallModel::new();
    let vocabulary = model.vocabulary();
    let asks: [(FrameKind, Vec<u32>, &str); 4] = [
        (FrameKind::Fetch, vec![7, 1, 0], "context 7 is not held"),
        (FrameKind::Fetch, vec![0, 5, 0], "delivery 5 is not known"),
        (
            FrameKind::Deposit,
            vec![vocabulary],
            "outside the vocabulary",
        ),
        (FrameKind::End, Vec::new(), "no such request is open"),
    ];
    for (kind, words, why) in asks {
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
        let deposit = token_bytes(&[1, 2, 3]);
        writer.write(FrameKind::Deposit, 0, 0, &deposit).unwrap();
        writer.write(kind, 3, 0, &token_bytes(&words)).unwrap();
        let (events, result) = stage.end();
        assert!(result.is_err(), "{kind:?}");
        let reasons = event_reasons(&events).join("\n");
        assert!(reasons.contains(why), "{reasons}");
    }
}
