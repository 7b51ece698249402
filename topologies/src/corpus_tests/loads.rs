//! Loads: the example of the README, and what lies in files.

use std::collections::BTreeMap;
use std::fs;

use hexloop_workloads::load::{Arrivals, Length, Mix};
use hexloop_workloads::traffic::Carrier;

use super::{planned, two_cpus};
use crate::plan::Readiness;
use crate::{ExperimentFile, Overrides, describe, plan, resolve};

/// The first block of TOML after a heading of the README.
fn example(heading: &str) -> &'static str {
    let readme = include_str!("../../../README.md");
    let (_, after) = readme.split_once(heading).unwrap();
    let (_, block) = after.split_once("```toml\n").unwrap();
    block.split_once("```").unwrap().0
}

#[test]
fn the_example_of_the_readme_becomes_a_plan() {
    let planned = planned(example("## Engines of others"), &Overrides::default(), 4);
    let [load] = planned.plan.loads.as_slice() else {
        panic!("{:?}", planned.plan.loads);
    };
    assert_eq!(
        (load.node.as_str(), load.server.as_str()),
        ("device", "edge")
    );
    assert_eq!(load.endpoint.to_string(), "198.18.0.2:8000");
    assert!(matches!(
        load.load.mix,
        Mix::Chat {
            pause_ns: 500_000_000,
            ..
        }
    ));
    let beginnings = load.schedule(planned.plan.seed).unwrap().len();
    assert!((30..90).contains(&beginnings), "{beginnings}");
    let [engine] = planned.plan.commands.as_slice() else {
        panic!("{:?}", planned.plan.commands);
    };
    let ready = engine.ready.as_ref().unwrap();
    assert!(
        matches!(&ready.when, Readiness::Http { port: 8000, path, status: 200 } if path == "/v1/models")
    );
    assert_eq!(ready.within_ns, 120_000_000_000);
    assert!(engine.lives);
}

#[test]
fn the_other_programs_of_the_readme_become_plans_in_the_place_of_its_example() {
    let text = example("## Engines of others");
    let (before, after) = text.split_once("[[commands]]").unwrap();
    let (_, load) = after.split_once("[[loads]]").unwrap();
    for (words, program) in [
        ("llama.cpp's own server is:", "/opt/llama/llama-server"),
        ("and vLLM, which", "/opt/vllm/bin/vllm"),
    ] {
        let text = format!("{before}{}[[loads]]{load}", example(words));
        let planned = planned(&text, &Overrides::default(), 4);
        let [engine] = planned.plan.commands.as_slice() else {
            panic!("{:?}", planned.plan.commands);
        };
        assert_eq!(engine.argv[0], program);
        let ready = engine.ready.as_ref().unwrap();
        assert!(
            matches!(&ready.when, Readiness::Http { port: 8000, path, .. } if path == "/health"),
            "{ready:?}"
        );
        assert!(engine.lives);
        assert_eq!(planned.plan.loads.len(), 1);
    }
}

#[test]
fn traffic_beside_phases_goes_the_way_that_it_is_told() {
    let text = format!(
        "{}\n[[background]]\nname = \"video\"\njob = \"udp\"\ndirection = \"down\"\nrate = \"4 Mbit/s\"\n\
         on = \"2 s\"\noff = \"1 s\"\nlaw = \"exponential\"\n[[background]]\nname = \"upload\"\n\
         job = \"tcp\"\ncongestion_control = \"bbr\"\ndirection = \"up\"\nphases = [\"chat\"]\n",
        example("## Engines of others")
    );
    let planned = planned(&text, &Overrides::default(), 4);
    let [video, upload] = planned.plan.background.as_slice() else {
        panic!("{:?}", planned.plan.background);
    };
    // Who receives listens: the first end of what goes down, the second of what goes up.
    assert_eq!(video.address.to_string(), "198.18.0.1:37800");
    assert_eq!(upload.address.to_string(), "198.18.0.2:37801");
    assert!(video.is_beside("chat") && upload.is_beside("chat") && !upload.is_beside("other"));
    assert_ne!(video.background.seed, upload.background.seed);
    let periods = video.background.periods.unwrap();
    assert_eq!(
        (periods.on_ns, periods.off_ns),
        (2_000_000_000, 1_000_000_000)
    );
    let rate_bps = 4_000_000;
    assert_eq!(
        video.background.carrier,
        Carrier::Udp {
            rate_bps,
            packet_bytes: 1200
        }
    );
    let told = describe(&planned.plan, &BTreeMap::new());
    let expected = "beside every phase: UDP at 4.0 Mbit/s down over radio, on for 2 s and off for 1 s on average";
    assert!(told.contains(expected), "{told}");
    assert!(
        told.contains("beside chat: TCP (bbr) up over radio"),
        "{told}"
    );
}

#[test]
fn moments_lengths_and_logs_are_read_from_their_files() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
    let text = example("## Engines of others")
        .replace(
            "arrivals = \"poisson\"\nrate = \"2 /s\"",
            "arrivals = \"recorded\"\narrivals_file = \"at.csv\"",
        )
        .replace(
            "mix = \"chat\"\nturns = { from = 2, to = 6 }\npause = \"500 ms\"",
            "mix = \"recorded\"\nlog = \"log.jsonl\"",
        )
        .replace(
            "output_tokens = { fixed = 32 }",
            "output_tokens = { file = \"tokens.csv\" }",
        );
    let read = || {
        let experiment = ExperimentFile::parse(&text, "x.toml", &Overrides::default()).unwrap();
        resolve(experiment, directory.path())
    };
    let problems = read().unwrap_err().to_string();
    for key in ["arrivals_file", "log", "output_tokens"] {
        assert!(
            problems.contains(&format!("as `{key}`: No such file")),
            "{problems}"
        );
    }
    write("at.csv", "seconds\n0.25\n0.125\n");
    write("tokens.csv", "7\n9\n");
    write("log.jsonl", "{\"messages\":[]}\nnonsense\n");
    let problems = read().unwrap_err().to_string();
    assert!(
        problems.contains("as `log`: line 2 is no JSON object"),
        "{problems}"
    );
    write("log.jsonl", "{\"messages\":[]}\n");
    let resolved = read().unwrap();
    let planned = plan(&resolved, &two_cpus()).unwrap();
    let load = &planned.plan.loads[0].load;
    let moments_ns = vec![125_000_000, 250_000_000];
    assert_eq!(load.arrivals, Arrivals::Recorded { moments_ns });
    assert_eq!(load.output_tokens, Length::Listed { counts: vec![7, 9] });
    assert!(matches!(&load.mix, Mix::Recorded { bodies } if bodies.len() == 1));
    let told = describe(&planned.plan, &resolved.traces);
    assert!(
        told.contains("load chat: 45 s, recorded of mix recorded to edge at 198.18.0.2:8000"),
        "{told}"
    );
}
