//! Experiments become plans: the bundled ones as recorded, nodes on CPUs of their own.

use hexloop_workloads::transport::Transport;

use super::{base, compare, directory, first_outage_ns, planned, resolved, set, two_cpus};
use crate::plan::Plan;
use crate::{ExperimentFile, Overrides, Planned, bundled, describe, plan, plan_sha256};

#[test]
fn a_node_may_carry_any_printable_name_and_it_reaches_no_interface() {
    let name = "<script>alert(1)</script>";
    let text = base()
        .replace("[nodes.edge]", &format!("[nodes.\"{name}\"]"))
        .replace("\"edge\"]", &format!("\"{name}\"]"));
    let plan = planned(&text, &Overrides::default(), 2).plan;
    assert_eq!(plan.phases[0].edge, name);
    let interfaces: Vec<&str> = plan.links[0]
        .ends
        .iter()
        .map(|end| end.interface.as_str())
        .collect();
    assert_eq!(interfaces, ["hx0a", "hx0b"]);
}

#[test]
fn quic_is_planned_with_the_smallest_packets_of_its_way_and_described() {
    let text = base().replace(
        "placement = \"split\"",
        "placement = \"split\"\ntransport = \"quic\"",
    );
    let of_links = set(&[("links.radio.mtu", "1400")]);
    let resolved = resolved(&text, &of_links);
    let plan = plan(&resolved, &two_cpus()).unwrap().plan;
    let expected = Transport::Quic { mtu_bytes: 1400 };
    assert_eq!(plan.phases[0].transport, expected);
    assert!(describe(&plan, &resolved.traces).contains("on the edge, over QUIC; "));
    let usual = planned(&base(), &Overrides::default(), 2).plan;
    assert_eq!(usual.phases[0].transport, Transport::Tcp);
    let written = serde_json::to_value(&plan).unwrap();
    assert_eq!(written["phases"][0]["transport"]["quic"]["mtu_bytes"], 1400);
}

#[test]
fn a_node_that_keeps_blocks_as_numbers_is_described_so_and_a_gpu_takes_all_weights() {
    let placement = bundled().iter().find(|(name, _)| *name == "e01-placement");
    let (_, text) = placement.unwrap();
    let described = |settings: &[(&str, &str)]| {
        let resolved = resolved(text, &set(settings));
        let plan = plan(&resolved, &two_cpus()).unwrap().plan;
        describe(&plan, &resolved.traces)
    };
    assert!(!described(&[]).contains("numbers"));
    let told = described(&[("nodes.edge.precision", "f16")]);
    let kept = "(edge keeps q8-0 blocks as f16 numbers, edge keeps q4-k blocks as f16 numbers)";
    assert!(told.contains(kept), "{told}");
    let gpu = [
        ("nodes.edge.device", "cuda:0"),
        ("nodes.edge.slowdown", "1"),
    ];
    let told = described(&gpu);
    assert!(
        told.contains("computes on its GPU in f32") && !told.contains("numbers"),
        "{told}"
    );
    let narrow = [&gpu[..], &[("nodes.edge.precision", "bf16")]].concat();
    let told = described(&narrow);
    assert!(
        told.contains("edge keeps q4-k blocks as bf16 numbers"),
        "{told}"
    );
    let slowed = ExperimentFile::parse(text, "e01.toml", &set(&gpu[..1])).unwrap_err();
    assert!(slowed.to_string().contains("set it to 1"), "{slowed}");
}

#[test]
fn every_bundled_experiment_and_preset_becomes_a_plan() {
    for (name, text) in bundled() {
        let presets = ExperimentFile::presets(text);
        assert!(presets.iter().any(|preset| preset == "smoke"), "{name}");
        assert!(presets.iter().any(|preset| preset == "full"), "{name}");
        for preset in std::iter::once(None).chain(presets.into_iter().map(Some)) {
            let overrides = Overrides {
                preset: preset.clone(),
                ..Overrides::default()
            };
            let resolved = resolved(text, &overrides);
            let plan = plan(&resolved, &two_cpus()).unwrap().plan;
            let described = describe(&plan, &resolved.traces);
            let preset = preset.unwrap_or_else(|| "default".to_owned());
            compare(
                &directory("plans").join(format!("{name}-{preset}.txt")),
                &described,
            );
            let seconds = describe::estimated_ns(&plan) / 1_000_000_000;
            match preset.as_str() {
                "smoke" => assert!(seconds <= 90, "{seconds}"),
                // Studies need a grid: five minutes are the most of any of these.
                "default" if !plan.studies.is_empty() => assert!(seconds <= 300, "{seconds}"),
                "default" => assert!(seconds <= 240, "{seconds}"),
                _ => {}
            }
        }
    }
}

#[test]
fn in_quickstart_requests_arrive_during_the_outage_whatever_the_preset() {
    let (_, text) = bundled()[0];
    for preset in [None, Some("smoke"), Some("full")] {
        let overrides = Overrides {
            preset: preset.map(str::to_owned),
            ..Overrides::default()
        };
        let resolved = resolved(text, &overrides);
        let plan = plan(&resolved, &two_cpus()).unwrap().plan;
        let (start_ns, end_ns) = first_outage_ns(&resolved.traces["street"].trace);
        // Some time is left for the device to answer before the outage ends.
        let decisive = start_ns..end_ns - 500_000_000;
        let due: Vec<u64> = plan.phases[0]
            .schedule(plan.seed)
            .iter()
            .map(|request| request.due_ns)
            .collect();
        assert!(
            due.iter().any(|due_ns| decisive.contains(due_ns)),
            "{decisive:?} {due:?}"
        );
    }
}

#[test]
fn the_same_experiment_seed_and_machine_give_the_same_plan() {
    let (_, text) = bundled()[0];
    let json = |seed| {
        let overrides = Overrides {
            seed: Some(seed),
            ..Overrides::default()
        };
        let plan = planned(text, &overrides, 2).plan;
        (
            plan_sha256(&plan).unwrap(),
            serde_json::to_string(&plan).unwrap(),
        )
    };
    assert_eq!(json(7), json(7));
    assert_ne!(json(7), json(8));
    let reread: Plan = serde_json::from_str(&json(7).1).unwrap();
    assert_eq!(serde_json::to_string(&reread).unwrap(), json(7).1);
}

#[test]
fn nodes_get_cpus_of_their_own_where_there_are_enough() {
    let text = base();
    let cpus = |planned: &Planned| -> Vec<Vec<u32>> {
        planned
            .plan
            .nodes
            .iter()
            .map(|node| node.cpus.clone())
            .collect()
    };
    let two = planned(&text, &Overrides::default(), 2);
    assert_eq!(cpus(&two), [[0], [1]]);
    assert!(two.notes[0].contains("all 2 CPUs"), "{:?}", two.notes);
    // The lowest are left to the relay.
    let eight = planned(&text, &set(&[("nodes.edge.cpus", "3")]), 8);
    assert_eq!(cpus(&eight), [vec![4], vec![5, 6, 7]]);
    assert!(eight.notes.is_empty());
    let one = planned(&text, &Overrides::default(), 1);
    assert_eq!(cpus(&one), [[0], [0]]);
    assert!(one.notes[0].contains("share"), "{:?}", one.notes);
}

#[test]
fn a_node_with_more_cpus_than_the_machine_is_refused_where_it_says_so() {
    let resolved = resolved(&base(), &set(&[("nodes.edge.cpus", "3")]));
    let problems = plan(&resolved, &two_cpus()).unwrap_err();
    let text = problems.to_string();
    assert!(
        text.starts_with("--set nodes.edge.cpus: node `edge` asks for 3 CPUs"),
        "{text}"
    );
}

#[test]
fn what_keeps_others_away_reaches_the_plan_and_its_description() {
    use crate::plan::Partition;
    let node = "[nodes.edge]\npartition = \"isolated\"\nmemory = \"local\"\nrealtime = 7\n\
                gpu = \"GPU-12\"\ngpu_power_watts = 300\ngpu_clock_mhz = 1200\n";
    let machine = "\n[machine]\ngovernor = \"performance\"\nboost = false\nhugepages = \"1 GiB\"\n\
                   cool_to = 40\nmeters = [\"gpu\", \"plug\"]\n[verdict]\nsteal = \"2 %\"\n";
    let text = base().replace("[nodes.edge]\n", node) + machine;
    let plan = planned(&text, &Overrides::default(), 2).plan;
    let edge = &plan.node("edge").unwrap().isolation;
    assert_eq!(edge.partition, Some(Partition::Isolated));
    assert_eq!((edge.local_memory, edge.realtime), (true, Some(7)));
    let gpu = edge.gpu.as_ref().unwrap();
    assert_eq!(
        (gpu.power_limit_mw, gpu.clock_mhz),
        (Some(300_000), Some(1200))
    );
    let machine = &plan.machine;
    assert_eq!(
        (machine.boost, machine.move_interrupts),
        (Some(false), false)
    );
    let pages = machine.hugepages.as_ref().unwrap();
    assert_eq!((pages.bytes, pages.size_kib), (1 << 30, 2048));
    assert_eq!(machine.cool.as_ref().unwrap().limit_ns, 120_000_000_000);
    assert_eq!(machine.noise_check_ns, 500_000_000);
    assert_eq!(machine.meters, ["gpu", "plug"]);
    assert_eq!(plan.verdict.steal_ppm, Some(20_000));
    let resolved = resolved(&text, &Overrides::default());
    let words = describe(&plan, &resolved.traces);
    let expected = "partition isolated, memory of its CPUs' NUMA nodes, SCHED_FIFO 7, GPU GPU-12 at \
                    300 W at most locked to 1200 MHz";
    assert!(words.contains(expected), "{words}");
    let expected = "\nmeters that there must be: gpu, plug\n";
    assert!(words.contains(expected), "{words}");
}

#[test]
fn a_study_reaches_the_plan_with_its_arms_its_hops_and_the_slowdown_of_its_nodes() {
    let study = r#"
        [[studies]]
        name = "cuts"
        technique = "split"
        cuts = ["every", "3"]
        in_flight = [1, 4]
        prompt_tokens = 8
        output_tokens = 8
        round_trips = ["1 ms", "20 ms"]
        rates = ["1 Mbit/s"]
        around_percent = [50, 200]
        limit = "60 s"
    "#;
    let settings = "[nodes.edge]\nslowdown = 3\ncongestion_control = \"bbr\"";
    let text = base().replace("[nodes.edge]", settings) + study;
    let plan = planned(&text, &Overrides::default(), 2).plan;
    assert_eq!(plan.nodes[1].slowdown, Some(3));
    let controls = plan
        .nodes
        .iter()
        .map(|node| node.congestion_control.as_deref());
    assert_eq!(controls.collect::<Vec<_>>(), [None, Some("bbr")]);
    let [study] = plan.studies.as_slice() else {
        panic!("{:?}", plan.studies)
    };
    assert_eq!(study.path, ["device", "edge"]);
    assert_eq!(study.hops[0].address.ip(), plan.links[0].ends[1].ipv4);
    // Six cuts and one more, each with one and with four requests under way.
    let names: Vec<String> = study.study.arms.iter().map(|arm| arm.name()).collect();
    assert_eq!(
        (names.len(), names[0].as_str(), names[1].as_str()),
        (14, "1/6", "1/6 x4")
    );
    assert_eq!(study.study.grid.around_percent, [50, 200]);
    assert_eq!(study.study.grid.round_trips_ns, [1_000_000, 20_000_000]);
    assert!(plan.phase_spans().any(|(name, _)| name == "cuts"));
}

#[test]
fn images_are_looked_at_with_every_merge_and_then_their_tokens_with_every_merge_and_coding() {
    let study = r#"
        [[studies]]
        name = "looks"
        technique = "multimodal"
        encoders = ["device", "edge"]
        merges = [4, 1]
        codings = ["f32", "int8"]
        prompts = 5
        round_trips = ["10 ms"]
        rates = ["1 Mbit/s"]
        around_percent = [50, 200]
        limit = "60 s"
    "#;
    let of = |text: &str| {
        let plan = planned(text, &Overrides::default(), 2).plan;
        plan.studies[0].study.clone()
    };
    let tried = of(&(base() + study));
    let names: Vec<String> = tried.arms.iter().map(|arm| arm.name()).collect();
    let expected = [
        "image /4",
        "image",
        "tokens /4",
        "tokens /4 int8",
        "tokens",
        "tokens int8",
    ];
    assert_eq!(names, expected);
    assert_eq!((tried.prompts, tried.prompt_tokens), (5, 0));
    assert_eq!((tried.output_tokens, tried.held_out_prompts), (1, 0));
    assert_eq!(tried.check(6), Ok(()));
    let chosen = ["encoders", "merges", "codings"];
    let usual: Vec<&str> = study
        .lines()
        .filter(|line| !chosen.iter().any(|key| line.trim().starts_with(key)))
        .collect();
    let usual = of(&(base() + &usual.join("\n")));
    assert_eq!(usual.arms.len(), 6);
}
