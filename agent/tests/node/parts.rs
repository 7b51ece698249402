//! The parts in which the tests start this program again: a job, an agent, an ordinary user.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use hexloop_agent::privilege::{self, Privilege};
use hexloop_workloads::job::{JobCommand, JobEvent, JobSpec, JobTotals, Outcome, RequestRecord};
use hexloop_workloads::wire::PayloadBytes;

use crate::setting::{input, plan, play_to_the_end, stage};

fn say(event: &JobEvent) {
    println!("{}", serde_json::to_string(event).unwrap());
}

/// A job without a model: answers every request at once, and says on standard error what it
/// is allowed to do.
pub(crate) fn pretend_job() {
    let mut lines = std::io::stdin().lines();
    let spec: JobSpec = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(spec.secret.len(), 64);
    println!();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    for name in [
        "Uid:",
        "Groups:",
        "CapEff:",
        "CapPrm:",
        "CapBnd:",
        "NoNewPrivs:",
    ] {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap();
        eprintln!(
            "{}",
            line.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
        );
    }
    let mut names: Vec<String> = std::env::vars().map(|(name, _)| name).collect();
    names.sort();
    eprintln!("environment {}", names.join(","));
    let descriptors = fs::read_dir("/proc/self/fd").unwrap().count();
    // Three standard ones, and the one that lists them.
    eprintln!("descriptors {}", descriptors - 1);
    eprintln!(
        "host {}",
        fs::read_to_string("/proc/sys/kernel/hostname")
            .unwrap()
            .trim()
    );
    eprintln!(
        "model {}",
        fs::read_to_string(spec.model_directory.join("config.json")).unwrap()
    );
    let write = fs::write(spec.model_directory.join("mine"), "x").is_err();
    eprintln!("model is read-only: {write}");
    say(&JobEvent::Ready {
        weight_bytes: 7,
        engine_path: "pretended".to_owned(),
    });
    let start = lines.next().unwrap().unwrap();
    assert!(
        matches!(serde_json::from_str(&start), Ok(JobCommand::Start { .. })),
        "{start}"
    );
    say(&JobEvent::Request(RequestRecord {
        id: 0,
        scheduled_ns: 1,
        sent_ns: 2,
        token_ns: vec![3],
        prompt_tokens: 1,
        tokens: vec![5],
        ties: Vec::new(),
        outcome: Outcome::Completed,
        payload: PayloadBytes { up: 0, down: 0 },
    }));
    say(&JobEvent::Idle);
    let stop = lines.next().unwrap().unwrap();
    assert!(
        matches!(serde_json::from_str(&stop), Ok(JobCommand::Stop)),
        "{stop}"
    );
    let payload = PayloadBytes { up: 0, down: 0 };
    say(&JobEvent::Done(JobTotals {
        payload,
        quic: None,
        cpu_ns: 1,
        load_ns: 1,
    }));
}

/// An agent that plays the plan of [`plan`] over and over until it is killed.
pub(crate) fn pretend_agent(root: &Path) {
    let privilege = privilege::acquire().unwrap();
    let stage = stage(root, privilege);
    println!("READY {}", stage.guardian.process_id());
    let daemon = fs::read_to_string(root.join("daemon")).unwrap();
    let mut plan = plan(&daemon);
    plan.phases[0].requests.arrivals_per_kilosecond = 0;
    loop {
        let events = play_to_the_end(&stage, &input(root, plan.clone()));
        assert!(!events.is_empty());
    }
}

/// Takes what privilege there is, plays the plan once and prints the events.
pub(crate) fn play_once_as_ordinary_user(root: &Path) {
    let privilege = privilege::acquire().unwrap();
    assert_eq!(privilege, Privilege::UserNamespace);
    let stage = stage(root, privilege);
    let daemon = fs::read_to_string(root.join("daemon")).unwrap();
    for event in play_to_the_end(&stage, &input(root, plan(&daemon))) {
        println!("EVENT {}", serde_json::to_string(&event).unwrap());
    }
    Arc::into_inner(stage.guardian).unwrap().finish().unwrap();
}
