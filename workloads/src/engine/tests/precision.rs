//! Narrower numbers, and weights that were never trained.

use super::family::{family, random_model, tokens};
use crate::engine::bench::{BenchEvent, BenchPhase, BenchSpec, run_bench};
use crate::engine::{
    Compute, ComputeDevice, EngineError, Model, Parts, Precision, threads, verify, weights_sha256,
    write_random,
};

const WHOLE: Parts = Parts {
    embedding: true,
    head: true,
};

#[test]
fn half_precision_scores_as_f32_does_within_its_rounding_and_takes_half_the_memory() {
    let compute = Compute::open(ComputeDevice::Cpu, Precision::F16).expect("CPUs have it");
    for (name, config) in family() {
        let directory = random_model(&config);
        let full = Model::load_whole(directory.path()).expect("loads");
        let half = Model::load_on(directory.path(), 0..config.layers, WHOLE, &compute);
        let half = half.expect("loads");
        assert_eq!(2 * half.weight_bytes(), full.weight_bytes(), "{name}");
        let scores = |model: &Model| {
            let hidden = model.embed(&tokens()).expect("embeds");
            let mut cache = model.new_cache();
            let hidden = model.forward(&hidden, 0, &mut cache).expect("runs");
            (model.logits(&hidden).expect("scores"), cache.bytes())
        };
        let ((full, full_cache), (half, half_cache)) = (scores(&full), scores(&half));
        assert_eq!(2 * half_cache, full_cache, "{name}");
        let full = full.iter().flatten().copied();
        let largest = full.clone().fold(0.0_f32, |a, b| a.max(b.abs()));
        let apart = full.zip(half.iter().flatten());
        let apart = apart.fold(0.0_f32, |worst, (a, b)| worst.max((a - b).abs()));
        // Ten bits of fraction, rounded a few dozen times on the way.
        assert!(
            apart > 0.0 && apart < 0.01 * (1.0 + largest),
            "{name}: {apart}"
        );
    }
}

#[test]
fn a_config_alone_becomes_a_model_that_runs_and_is_the_same_for_the_same_seed() {
    let (_, config) = family().swap_remove(1);
    let config = crate::model_config::ModelConfig {
        vocabulary: 300,
        ..config
    };
    let place = tempfile::tempdir().expect("made");
    let file = place.path().join("config.json");
    std::fs::write(&file, config.to_hugging_face_json().expect("writes")).expect("written");
    let make = |name: &str, seed| {
        let output = place.path().join(name);
        assert_eq!(write_random(&file, seed, &output).expect("made"), config);
        assert_eq!(verify(&output).expect("whole"), config);
        let model = Model::load_whole(&output).expect("loads");
        let hidden = model.embed(&[1, 2, 3]).expect("embeds");
        let hidden = model.forward(&hidden, 0, &mut model.new_cache());
        let scores = model.logits(&hidden.expect("runs")).expect("scores");
        (scores, weights_sha256(&output).expect("read"))
    };
    let (one, again, other) = (make("one", 1), make("again", 1), make("other", 2));
    assert_eq!(one, again);
    assert_ne!(one.0, other.0);
    assert_ne!(one.1, other.1);

    let narrow = crate::model_config::ModelConfig {
        vocabulary: 256,
        ..config
    };
    std::fs::write(&file, narrow.to_hugging_face_json().expect("writes")).expect("written");
    let refused = write_random(&file, 1, &place.path().join("narrow")).unwrap_err();
    assert!(refused.to_string().contains("256"), "{refused}");
}

#[test]
fn weights_that_are_no_numbers_are_told_and_not_answered_with() {
    let (_, config) = family().swap_remove(0);
    let directory = random_model(&config);
    let path = directory.path().join("model.safetensors");
    let mut bytes = std::fs::read(&path).expect("read");
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    // The file is sorted by name: the last tensor of all is the last norm.
    std::fs::write(&path, bytes).expect("written");
    let model = Model::load_whole(directory.path()).expect("loads");
    let hidden = model.embed(&[1]).expect("embeds");
    let hidden = model
        .forward(&hidden, 0, &mut model.new_cache())
        .expect("runs");
    let refused = model.next_token(&hidden);
    assert!(
        matches!(refused, Err(EngineError::NotNumbers { .. })),
        "{refused:?}"
    );
}

/// The trained micro model, which has computed: the number of threads is settled.
fn micro_model() -> Model {
    let model = Model::load_whole(super::micro()).expect("loads");
    let hidden = model.embed(&[1]).expect("embeds");
    model.next_token(&hidden).expect("answers");
    model
}

#[test]
fn a_bench_that_cannot_be_made_tells_why() {
    for line in ["", "{}", "not json"] {
        let mut output = Vec::new();
        assert!(run_bench(line.as_bytes(), &mut output).is_err());
        let told: BenchEvent = serde_json::from_slice(&output).expect("an event");
        assert!(matches!(told, BenchEvent::Failed { .. }), "{told:?}");
    }
}

#[test]
fn the_bench_tells_what_it_did_when_and_how_often() {
    // The tests of this process share the engine, and its threads with it.
    micro_model();
    let threads = threads::threads().expect("settled");
    let spec = BenchSpec {
        model_directory: super::micro().to_owned(),
        device: ComputeDevice::Cpu,
        precision: Precision::F32,
        threads: u32::try_from(threads).expect("few"),
        prompt_tokens: 8,
        output_tokens: 5,
        batches: vec![1, 3],
        window_ns: 20_000_000,
        ceilings: true,
    };
    let line = serde_json::to_string(&spec).expect("writes") + "\n";
    let mut output = Vec::new();
    run_bench(line.as_bytes(), &mut output).expect("measures");
    let events: Vec<BenchEvent> = output
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).expect("an event"))
        .collect();
    assert!(matches!(events[0], BenchEvent::Ready { .. }), "{events:?}");
    let mut windows = events.iter().filter_map(|event| match event {
        BenchEvent::Window(window) => Some(window),
        _ => None,
    });
    for (phase, batch, tokens_of_pass) in [
        (BenchPhase::Idle, 0, 0),
        (BenchPhase::Prefill, 1, 8),
        (BenchPhase::Decode, 1, 1),
        (BenchPhase::Decode, 3, 3),
    ] {
        let window = windows.next().expect("told");
        assert_eq!((window.phase, window.batch), (phase, batch));
        assert_eq!(window.tokens, window.passes * tokens_of_pass);
        assert!(window.end_ns - window.start_ns >= spec.window_ns);
        // A token looks back on the prompt and on what was made, itself included.
        let positions = match phase {
            BenchPhase::Decode => window.tokens * 9..=window.tokens * 13,
            BenchPhase::Idle | BenchPhase::Prefill => 0..=0,
        };
        assert!(positions.contains(&window.positions), "{window:?}");
    }
    assert_eq!(windows.next(), None);
    let ceilings = events.iter().filter_map(|event| match event {
        BenchEvent::Ceilings(ceilings) => Some(ceilings),
        _ => None,
    });
    let [ceilings] = ceilings.collect::<Vec<_>>()[..] else {
        unreachable!("once: {events:?}");
    };
    assert_eq!(ceilings.unavailable, None);
    assert!(ceilings.reading.is_some() && ceilings.multiplying.is_some());
}
