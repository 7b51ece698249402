//! Whole experiment files: what is wrong with the bad ones, word for word, and that the good
//! ones become plans.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::plan::{Plan, RelayModePlan};
use crate::{
    Experiment, ExperimentFile, Machine, Overrides, Planned, Problems, ResolvedExperiment, bundled,
    describe, plan, plan_sha256, resolve,
};

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(name)
}

/// Name and text of every experiment file of a directory.
fn experiment_files(directory: &Path) -> BTreeMap<String, String> {
    let entries = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files = entries.filter(|path| path.extension().is_some_and(|end| end == "toml"));
    let named = |path: PathBuf| {
        (
            path.file_name().unwrap().to_str().unwrap().to_owned(),
            fs::read_to_string(&path).unwrap(),
        )
    };
    files.map(named).collect()
}

/// Compares with the text that is expected, kept in a file. `UPDATE_EXPECTED=1` writes it anew,
/// to be read before it is committed.
fn compare(path: &Path, text: &str) {
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        fs::write(path, text).unwrap();
    }
    let expected = fs::read_to_string(path).unwrap_or_default();
    assert_eq!(text, expected, "differs from {}", path.display());
}

fn base() -> String {
    fs::read_to_string(directory("valid").join("base.toml")).unwrap()
}

fn parse(text: &str) -> Result<Experiment, Problems> {
    ExperimentFile::parse(text, "base.toml", &Overrides::default())
}

fn set(settings: &[(&str, &str)]) -> Overrides {
    let set = settings
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    Overrides {
        set: set.collect(),
        ..Overrides::default()
    }
}

fn resolved(text: &str, overrides: &Overrides) -> ResolvedExperiment {
    let experiment = ExperimentFile::parse(text, "base.toml", overrides)
        .unwrap_or_else(|problems| panic!("{problems}"));
    resolve(experiment, Path::new("no such directory"))
        .unwrap_or_else(|problems| panic!("{problems}"))
}

fn planned(text: &str, overrides: &Overrides, cpus: u32) -> Planned {
    plan(
        &resolved(text, overrides),
        &Machine {
            cpus: (0..cpus).collect(),
        },
    )
    .unwrap_or_else(|problems| panic!("{problems}"))
}

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
            let plan = plan(&resolved, &Machine { cpus: vec![0, 1] }).unwrap().plan;
            let described = describe(&plan, &resolved.traces);
            let preset = preset.unwrap_or_else(|| "default".to_owned());
            compare(
                &directory("plans").join(format!("{name}-{preset}.txt")),
                &described,
            );
            let seconds = describe::estimated_ns(&plan) / 1_000_000_000;
            match preset.as_str() {
                "smoke" => assert!(seconds <= 80, "{seconds}"),
                // Studies need a grid: five minutes are the most of any of these.
                "default" if !plan.studies.is_empty() => assert!(seconds <= 300, "{seconds}"),
                "default" => assert!(seconds <= 240, "{seconds}"),
                _ => {}
            }
        }
    }
}

/// When the trace lets nothing through, for the first time: start and end.
fn first_outage_ns(trace: &hexloop_traces::Trace) -> (u64, u64) {
    let rows = trace.rows();
    let start = rows.iter().position(|row| row.down.rate_bps == 0).unwrap();
    let end = rows[start..]
        .iter()
        .find(|row| row.down.rate_bps > 0)
        .unwrap();
    (rows[start].t_ns, end.t_ns)
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
        let plan = plan(&resolved, &Machine { cpus: vec![0, 1] }).unwrap().plan;
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
fn settings_and_events_of_a_link_reach_the_plan() {
    use hexloop_traces::{
        LinkChange, PlaybackChange, QueueDiscipline, QueueLimit, Service, SettingsChange,
        StateOverride,
    };
    let settings = "trace = \"street\"\nqueue = \"200 packets\"\ndiscipline = \"codel\"\n\
                    codel_interval = \"50 ms\"\necn = true\nservice = \"opportunities\"\n\
                    slot = \"62.5 us\"\nreorder = true\n";
    let events = "\n[[events]]\nname = \"b\"\nat = \"3 s\"\naction = \"set\"\n\
                  discipline = \"pie\"\nqueue_target = \"20 ms\"\n\
                  [[events]]\nname = \"a\"\nat = \"1.5 s\"\naction = \"override\"\n\
                  direction = \"up\"\nrate = \"0 bit/s\"\nloss = \"1 %\"\n";
    let text = base().replace("trace = \"street\"\n", settings) + events;
    let plan = planned(&text, &Overrides::default(), 2).plan;
    let set = plan.links[0].settings;
    assert_eq!(set.queue, QueueLimit::Packets(200));
    let codel = QueueDiscipline::Codel {
        target_ns: 5_000_000,
        interval_ns: 50_000_000,
    };
    assert_eq!(set.discipline, codel);
    assert_eq!(set.service, Service::Opportunities { slot_ns: 62_500 });
    assert!(set.ecn && set.reorder);
    let [first, second] = plan.events.as_slice() else {
        panic!("{:?}", plan.events);
    };
    let outage = StateOverride {
        rate_bps: Some(0),
        loss_ppb: Some(10_000_000),
        ..StateOverride::NONE
    };
    assert_eq!((first.at_ns, first.name.as_str()), (1_500_000_000, "a"));
    assert_eq!(
        first.change,
        LinkChange::Play(PlaybackChange::Override(outage))
    );
    assert_eq!(first.directions, [hexloop_traces::Direction::Up]);
    assert!(first.is_in("split"));
    let pie = QueueDiscipline::Pie {
        target_ns: 20_000_000,
        update_ns: 15_000_000,
    };
    let change = SettingsChange {
        discipline: Some(pie),
        ..SettingsChange::default()
    };
    assert_eq!(second.change, LinkChange::Set(change));
}

#[test]
fn a_star_of_a_thousand_nodes_gets_addresses_and_names_of_its_own_for_every_end() {
    use std::fmt::Write as _;
    let mut text = base();
    for number in 0..1100 {
        write!(
            text,
            "\n[nodes.leaf{number}]\n[[links]]\nname = \"leaf{number}\"\n\
             between = [\"edge\", \"leaf{number}\"]\ntrace = \"street\"\n"
        )
        .unwrap();
    }
    let text = text.replace(
        "layers_on_device = 2",
        "layers_on_device = 2\nlink = \"radio\"",
    );
    let planned = planned(&text, &Overrides::default(), 2);
    let ends = || planned.plan.links.iter().flat_map(|link| &link.ends);
    assert_eq!(ends().count(), 2202);
    assert!(ends().all(|end| end.interface.len() <= 15));
    let different = |key: fn(&plan::LinkEnd) -> String| {
        ends()
            .map(key)
            .collect::<std::collections::BTreeSet<_>>()
            .len()
    };
    assert_eq!(different(|end| end.interface.clone()), 2202);
    assert_eq!(different(|end| end.ipv4.to_string()), 2202);
    assert_eq!(different(|end| end.ipv6.to_string()), 2202);
    assert_eq!(different(|end| format!("{:?}", end.mac)), 2202);
    let last = &planned.plan.links[1100];
    assert_eq!(last.ends[0].interface, "hx1100a");
    assert_eq!(last.ends[0].ipv4.to_string(), "198.18.17.49");
    assert_eq!(last.ends[1].ipv6.to_string(), "fd68:7865:44c::2");
    assert_eq!(last.ends[1].mac, [2, 0x68, 0x78, 4, 0x4c, 2]);
    assert!(
        planned.notes[0].starts_with("1102 nodes ask for 1102 CPUs"),
        "{:?}",
        planned.notes
    );
}

#[test]
fn a_node_with_more_cpus_than_the_machine_is_refused_where_it_says_so() {
    let resolved = resolved(&base(), &set(&[("nodes.edge.cpus", "3")]));
    let problems = plan(&resolved, &Machine { cpus: vec![0, 1] }).unwrap_err();
    let text = problems.to_string();
    assert!(
        text.starts_with("--set nodes.edge.cpus: node `edge` asks for 3 CPUs"),
        "{text}"
    );
}

/// The problems of the base file with its trace in a file of this content.
fn trace_file_problems(content: Option<&str>) -> String {
    let scratch = tempfile::tempdir().unwrap();
    if let Some(content) = content {
        fs::write(scratch.path().join("drive.csv"), content).unwrap();
    }
    let text = base().replace(
        "[traces]\nstreet = { scenario = \"ideal\", duration = \"8 s\" }",
        "[traces.street]\nfile = \"drive.csv\"",
    );
    match resolve(parse(&text).unwrap(), scratch.path()) {
        Ok(_) => String::new(),
        Err(problems) => problems
            .to_string()
            .replace(scratch.path().to_str().unwrap(), "DIRECTORY"),
    }
}

/// A trace of 8 s as its file text.
fn trace_text() -> String {
    let trace = hexloop_traces::generate::control::outage(
        hexloop_traces::generate::control::Link::new(8_000_000, 5_000_000, 0),
        8_000_000_000,
        3_000_000_000,
        1_000_000_000,
    );
    hexloop_traces::format::to_text(&trace.unwrap())
}

#[test]
fn a_missing_trace_is_reported_at_the_line_that_names_it() {
    let problems = trace_file_problems(None);
    let expected = "base.toml:4:8: cannot read trace `DIRECTORY/drive.csv`: No such file";
    assert!(problems.starts_with(expected), "{problems}");
    assert!(problems.contains("file = \"drive.csv\""), "{problems}");
}

#[test]
fn a_trace_that_goes_back_in_time_is_reported_in_its_own_file() {
    assert_eq!(trace_file_problems(Some(&trace_text())), "");
    let lines: Vec<String> = trace_text().lines().map(str::to_owned).collect();
    let last = lines.len();
    let mut swapped = lines;
    swapped.swap(last - 1, last - 2);
    let problems = trace_file_problems(Some(&swapped.join("\n")));
    assert!(
        problems.starts_with(&format!("drive.csv:{last}:1: ")),
        "{problems}"
    );
    assert!(problems.contains("back"), "{problems}");
}

#[test]
fn a_trace_file_may_be_columnar_and_a_damaged_one_is_reported_at_the_line_that_names_it() {
    let scratch = tempfile::tempdir().unwrap();
    let trace = hexloop_traces::format::parse(&trace_text()).unwrap();
    for name in ["drive.arrow", "drive.parquet"] {
        let path = scratch.path().join(name);
        hexloop_traces::format::write_file(&path, &trace).unwrap();
        let scenario = "scenario = \"ideal\", duration = \"8 s\"";
        assert!(base().contains(scenario));
        let text = base().replacen(scenario, &format!("file = \"{name}\""), 1);
        let resolved = resolve(parse(&text).unwrap(), scratch.path()).unwrap();
        assert_eq!(
            resolved.traces["street"].content,
            crate::TraceContent::Text(trace_text())
        );
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let problems = resolve(parse(&text).unwrap(), scratch.path()).unwrap_err();
        let problems = problems.to_string();
        assert!(problems.starts_with("base.toml:4:19: "), "{problems}");
        assert!(problems.contains("cannot read the"), "{problems}");
    }
}

#[test]
fn events_lie_over_files_and_given_rates_as_over_scenarios() {
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("drive.csv"), trace_text()).unwrap();
    let scenario = "scenario = \"ideal\", duration = \"8 s\"";
    let event = "events = [{ name = \"works\", kind = \"maintenance\", at = \"1 s\", \
                 length = \"500 ms\", delay = \"3 ms\" }]";
    for source in [
        "file = \"drive.csv\"",
        "steps = { rates = [\"5 Mbit/s\"], delay = \"5 ms\", duration = \"8 s\" }",
        scenario,
    ] {
        let plain = base().replacen(scenario, source, 1);
        let scripted = base().replacen(scenario, &format!("{source}, {event}"), 1);
        let [plain, scripted] = [plain, scripted].map(|text| {
            let resolved = resolve(parse(&text).unwrap(), scratch.path()).unwrap();
            resolved.traces["street"].trace.clone()
        });
        let down = |trace: &hexloop_traces::Trace, t_ns| {
            let curve = hexloop_traces::CapacityCurve::new(trace, hexloop_traces::Direction::Down);
            curve.state_at(t_ns).delay_ns
        };
        for (t_ns, added_ns) in [
            (999_999_999, 0),
            (1_000_000_000, 3_000_000),
            (1_500_000_000, 0),
        ] {
            assert_eq!(
                down(&scripted, t_ns),
                down(&plain, t_ns) + added_ns,
                "{source}"
            );
        }
        let names = scripted.iter().filter_map(|row| row.diagnostics.event);
        assert!(names.into_iter().any(|name| name == "works"), "{source}");
    }
    let wrong = event.replace("delay = \"3 ms\"", "direction = \"up\"");
    let text = base().replacen(scenario, &format!("file = \"drive.csv\", {wrong}"), 1);
    let problems = parse(&text).unwrap_err().to_string();
    assert!(problems.contains("maintenance needs"), "{problems}");
}

#[test]
fn a_phase_that_outlasts_a_trace_which_does_not_loop_is_refused() {
    let short = trace_text().replace("8000000000", "7000000000");
    let problems = trace_file_problems(Some(&short));
    assert!(
        problems.contains("phase `split` lasts 8 s, but trace `street` ends after 7 s"),
        "{problems}"
    );
    assert!(problems.starts_with("base.toml:22:12: "), "{problems}");
}

#[test]
fn a_trace_follows_a_scenario_with_what_is_scripted_over_it() {
    let with = |more: &str| {
        let section = format!("[traces.street]\nscenario = \"ideal\"\nduration = \"8 s\"\n{more}");
        let base_section = "[traces]\nstreet = { scenario = \"ideal\", duration = \"8 s\" }\n";
        assert!(base().contains(base_section));
        base().replace(base_section, &section)
    };
    let event = "[[traces.street.events]]\nname = \"wall\"\nat = \"3 s\"\nlength = \"1 s\"\n";
    let resolved = resolved(&with(event), &Overrides::default());
    let trace = &resolved.traces["street"].trace;
    assert_eq!(trace.duration_ns(), 8_000_000_000);
    assert_eq!(first_outage_ns(trace), (3_000_000_000, 4_000_000_000));
    let wrong = with("set = [\"control.rate=fast\"]\n");
    let problems = parse(&wrong).unwrap_err().to_string();
    assert!(problems.contains("control.rate=fast"), "{problems}");
    let both = with("file = \"a.csv\"\n");
    let problems = parse(&both).unwrap_err().to_string();
    assert!(problems.contains("two sources"), "{problems}");
}

#[test]
fn a_model_directory_is_looked_at_when_files_are() {
    let scratch = tempfile::tempdir().unwrap();
    let text = format!("{}[model]\ndirectory = \"checkpoint\"\n", base());
    let problems = || {
        resolve(parse(&text).unwrap(), scratch.path())
            .unwrap_err()
            .to_string()
    };
    assert!(problems().contains("cannot read"), "{}", problems());
    let config = hexloop_workloads::recipe::Recipe::by_name("micro")
        .unwrap()
        .config;
    let config = hexloop_workloads::model_config::ModelConfig {
        layers: 2,
        max_positions: 80,
        ..config
    };
    fs::create_dir(scratch.path().join("checkpoint")).unwrap();
    let path = scratch.path().join("checkpoint/config.json");
    fs::write(&path, config.to_hugging_face_json().unwrap()).unwrap();
    let text = problems();
    assert!(text.contains("cannot be cut after layer 2"), "{text}");
    assert!(
        text.contains("88 tokens together; the model has 80 positions"),
        "{text}"
    );
    fs::write(&path, "{").unwrap();
    assert!(
        problems().contains("does not describe a model"),
        "{}",
        problems()
    );
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

#[test]
fn cells_and_the_links_that_share_them_reach_the_plan() {
    use hexloop_traces::{CellPolicy, CellSettings};
    let seat = "trace = \"street\"\ncell = \"macro\"\nweight = 3\n";
    let cell = "\n[[cells]]\nname = \"macro\"\ntrace = \"street\"\npolicy = \"fixed-share\"\n\
                slot = \"500 us\"\n";
    let text = base().replace("trace = \"street\"\n", seat) + cell;
    let planned = planned(&text, &Overrides::default(), 2);
    let [cell] = planned.plan.cells.as_slice() else {
        panic!("{:?}", planned.plan.cells);
    };
    let settings = CellSettings {
        policy: CellPolicy::FixedShare,
        slot_ns: 500_000,
    };
    assert_eq!(cell.settings, settings);
    assert_eq!(
        cell.trace_sha256.as_ref(),
        Some(&planned.plan.links[0].trace_sha256)
    );
    assert_eq!(
        (cell.users[0].link.as_str(), cell.users[0].weight),
        ("radio", 3)
    );
    let resolved = resolved(&text, &Overrides::default());
    let words = describe(&planned.plan, &resolved.traces);
    let expected = "  macro: at most trace street in all, fixed-share in slots of 500 us, among \
                    radio (weight 3)\n";
    assert!(words.contains(expected), "{words}");
}

#[test]
fn what_keeps_others_away_reaches_the_plan_and_its_description() {
    use crate::plan::Partition;
    let node = "[nodes.edge]\npartition = \"isolated\"\nmemory = \"local\"\nrealtime = 7\n\
                gpu = \"GPU-12\"\ngpu_power_watts = 300\ngpu_clock_mhz = 1200\n";
    let machine = "\n[machine]\ngovernor = \"performance\"\nboost = false\nhugepages = \"1 GiB\"\n\
                   cool_to = 40\n[verdict]\nsteal = \"2 %\"\n";
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
    assert_eq!(plan.verdict.steal_ppm, Some(20_000));
    let resolved = resolved(&text, &Overrides::default());
    let words = describe(&plan, &resolved.traces);
    let expected = "partition isolated, memory of its CPUs' NUMA nodes, SCHED_FIFO 7, GPU GPU-12 at \
                    300 W at most locked to 1200 MHz";
    assert!(words.contains(expected), "{words}");
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

/// The base experiment with a trace that does nothing to packets, and its link so.
fn untouched(link: &str) -> String {
    let trace = "\n[traces.free.steps]\nrates = [\"unlimited\"]\nduration = \"1 h\"\n";
    base().replace(
        "trace = \"street\"\n",
        &format!("trace = \"free\"\n{link}\n"),
    ) + trace
}

fn mode_of(text: &str) -> RelayModePlan {
    planned(text, &Overrides::default(), 4).plan.links[0].mode
}

#[test]
fn the_plan_says_how_a_link_is_relayed() {
    assert_eq!(mode_of(&base()), RelayModePlan::Exact);
    assert_eq!(mode_of(&untouched("")), RelayModePlan::LowLatency);
    assert_eq!(
        mode_of(&untouched("mode = \"exact\"")),
        RelayModePlan::Exact
    );
    assert_eq!(mode_of(&untouched("mode = \"bulk\"")), RelayModePlan::Bulk);
    // What is to be changed while it plays must be able to act on packets.
    let event = "\n[[events]]\nname = \"e\"\nat = \"1 s\"\naction = \"pause\"\n";
    let changed = untouched("") + event;
    assert_eq!(mode_of(&changed), RelayModePlan::Exact);
}

#[test]
fn a_mode_that_passes_packets_on_is_refused_where_something_acts_on_them() {
    let event = "\n[[events]]\nname = \"e\"\nat = \"1 s\"\naction = \"pause\"\n";
    let shaped = base().replace(
        "trace = \"street\"\n",
        "trace = \"street\"\nmode = \"bulk\"\n",
    );
    let cases = [
        (shaped, "its trace limits, delays or harms packets"),
        (
            untouched("mode = \"low-latency\"") + event,
            "an event changes it while it plays",
        ),
    ];
    for (text, why) in cases {
        let resolved = resolved(&text, &Overrides::default());
        let cpus = (0..4).collect();
        let problems = plan(&resolved, &Machine { cpus }).unwrap_err().to_string();
        assert!(problems.contains(why), "{problems}");
        assert!(
            problems.contains("choose mode `exact` or `auto`"),
            "{problems}"
        );
        assert!(problems.contains("mode = "), "{problems}");
    }
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
    let text = base().replace("[nodes.edge]", "[nodes.edge]\nslowdown = 3") + study;
    let plan = planned(&text, &Overrides::default(), 2).plan;
    assert_eq!(plan.nodes[1].slowdown, Some(3));
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
