//! What is written: mistakes are told word for word, and the command line goes over the file.

use super::{base, compare, directory, experiment_files, parse, set};
use crate::{ExperimentFile, Overrides};

#[test]
fn every_invalid_file_is_refused_with_exactly_these_words() {
    let directory = directory("invalid");
    let files = experiment_files(&directory);
    assert!(files.len() >= 20, "{}", files.len());
    for (name, text) in files {
        let problems = ExperimentFile::parse(&text, &name, &Overrides::default()).unwrap_err();
        compare(
            &directory.join(&name).with_extension("txt"),
            &format!("{problems}\n"),
        );
        for problem in problems.as_slice() {
            let place = problem.place.to_string();
            assert!(place.starts_with(&format!("{name}:")), "{place}");
        }
    }
}

#[test]
fn problems_are_also_data() {
    let text = base().replace("cpu_quota", "cpu_qouta");
    let problems = parse(&text).unwrap_err();
    let json = serde_json::to_value(&problems).unwrap();
    assert_eq!(json[0]["file"], "base.toml");
    assert_eq!(
        (json[0]["line"].as_u64(), json[0]["column"].as_u64()),
        (Some(6), Some(1))
    );
    assert_eq!(json[0]["help"], "did you mean `cpu_quota`?");
}

#[test]
fn problems_of_the_command_line_name_the_option() {
    let overrides = Overrides {
        preset: Some("smoke".to_owned()),
        seed: None,
        set: [
            ("nodes.device.cpu_qouta", "25 %"),
            ("nodes.divice.cpus", "1"),
            ("phases.split.duration", "8"),
            ("phases.split.layers_on_device", "7"),
            ("links.radio.mtu", "many"),
            ("links", "x"),
            ("requests.arrivals.x", "1 /s"),
            ("a b", "1"),
            ("faults.add_delay", "20 ms"),
        ]
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .to_vec(),
    };
    let problems = ExperimentFile::parse(&base(), "base.toml", &overrides).unwrap_err();
    compare(
        &directory("invalid").join("command_line.txt"),
        &format!("{problems}\n"),
    );
}

#[test]
fn values_of_the_command_line_go_over_preset_and_file() {
    let text = format!(
        "{}[presets.short]\nphases = [{{ name = \"split\", duration = \"7 s\" }}]\n\
         [presets.short.nodes.device]\ncpus = 3\n",
        base()
    );
    let mut overrides = set(&[
        ("phases.split.layers_on_device", "3"),
        ("nodes.device.cpu_quota", "\"25 %\""),
        ("requests.arrivals", "2 /s"),
        ("description", "12"),
        ("faults.burn_relay_cpu", "true"),
        ("links.radio.between", "[\"edge\", \"device\"]"),
    ]);
    overrides.preset = Some("short".to_owned());
    overrides.seed = Some(99);
    let experiment = ExperimentFile::parse(&text, "base.toml", &overrides)
        .unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(experiment.seed, 99);
    assert_eq!(experiment.preset.as_deref(), Some("short"));
    assert_eq!(experiment.description, "12");
    assert_eq!(experiment.phases.len(), 1);
    assert_eq!(experiment.phases[0].duration_ns, 7_000_000_000);
    assert_eq!(experiment.phases[0].device, "edge");
    let placement = serde_json::to_value(experiment.phases[0].placement).unwrap();
    assert_eq!(placement["split"]["layers_on_device"], 3);
    assert_eq!(experiment.nodes[0].cpus, 3);
    assert_eq!(experiment.nodes[0].cpu_quota.unwrap().quota_us, 3_750);
    assert_eq!(experiment.requests.unwrap().arrivals_per_kilosecond, 2_000);
    assert!(experiment.faults.burn_relay_cpu);
}

#[test]
fn keys_that_do_nothing_alone_and_gpus_without_a_name_are_told() {
    let text = base()
        .replace("[nodes.edge]\n", "[nodes.edge]\ngpu = \"H100\"\n")
        .replace(
            "[nodes.device]\n",
            "[nodes.device]\ngpu_power_watts = 300\n",
        )
        + "\n[machine]\nhugepage_size = \"1 GiB\"\ncool_limit = \"5 s\"\n";
    let told = parse(&text).unwrap_err().to_string();
    for part in [
        "`H100` is neither the UUID nor the number of a GPU",
        "`gpu_power_watts` without `gpu` does nothing",
        "`hugepage_size` without `hugepages` does nothing",
        "`cool_limit` without `cool_to` does nothing",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
}

#[test]
fn absurd_input_is_refused_not_fatal() {
    let huge = format!("x = \"{}\"", "a".repeat(crate::MAX_FILE_BYTES));
    assert!(parse(&huge).is_err());
    assert!(parse(&format!("x = {}", "[".repeat(100_000))).is_err());
    assert!(parse("").is_err());
    assert!(parse("\u{feff}schema = 1\r\n\0").is_err());
    assert!(parse("seed = 99999999999999999999999999999999999999999999999").is_err());
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic_and_every_problem_has_a_place(
        start in 0_usize..400,
        length in 0_usize..40,
        written in "[\\[\\]{}\"=.,#a-z0-9 \n%\u{1b}é-]{0,20}",
    ) {
        let mut text: Vec<char> = base().chars().collect();
        let start = start.min(text.len());
        let end = (start + length).min(text.len());
        text.splice(start..end, written.chars());
        let text: String = text.into_iter().collect();
        if let Err(problems) = parse(&text) {
            for problem in problems.as_slice() {
                let place = problem.place.to_string();
                proptest::prop_assert!(place.starts_with("base.toml:"), "{}", place);
                let shown = problem.to_string();
                proptest::prop_assert!(!shown.chars().any(|c| c.is_control() && c != '\n'), "control");
            }
        }
    }
}
