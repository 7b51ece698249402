//! What a file names: traces and models are read when it is resolved, and their faults told.

use std::fs;

use super::{base, first_outage_ns, parse, resolved, set};
use crate::plan::ModelSource;
use crate::{ExperimentFile, Overrides, resolve};

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
fn bursts_too_short_for_what_is_lost_are_reported_in_the_file_of_the_trace() {
    let text = trace_text();
    let metadata = text.lines().next().unwrap();
    let columns = "t_ns,down_rate_bps,up_rate_bps,up_loss_ppb,up_loss_burst_milli";
    let file = |burst| format!("{metadata}\n{columns}\n0,1000000,1000000,900000000,{burst}\n");
    let problems = trace_file_problems(Some(&file("2000")));
    assert!(problems.starts_with("drive.csv:3:29: "), "{problems}");
    assert!(problems.contains("at least 9000"), "{problems}");
    assert_eq!(trace_file_problems(Some(&file("9000"))), "");
}

#[test]
fn an_override_that_is_impossible_beside_the_trace_is_reported_at_the_event() {
    let mut trace = hexloop_traces::format::parse(&trace_text()).unwrap();
    let mut rows = trace.rows().to_vec();
    rows[1].up.loss_ppb = 100_000_000;
    rows[1].up.loss_burst_milli = 2000;
    trace = hexloop_traces::Trace::new(trace.metadata().clone(), rows).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let text = hexloop_traces::format::to_text(&trace);
    fs::write(scratch.path().join("drive.csv"), text).unwrap();
    let scenario = "scenario = \"ideal\", duration = \"8 s\"";
    let with = |direction: &str, values: &str| {
        let event = format!(
            "\n[[events]]\nname = \"worse\"\nat = \"1 s\"\naction = \"override\"\n\
             direction = \"{direction}\"\n{values}\n"
        );
        let text = base().replacen(scenario, "file = \"drive.csv\"", 1) + &event;
        match resolve(parse(&text).unwrap(), scratch.path()) {
            Ok(_) => String::new(),
            Err(problems) => problems.to_string(),
        }
    };
    let problems = with("up", "loss = \"90 %\"");
    for part in [
        "event `worse`",
        "trace `street`",
        "bursts of 2 packets",
        "have 9 packets or more",
        "loss = \"90 %\"",
    ] {
        assert!(problems.contains(part), "{part}: {problems}");
    }
    assert_eq!(with("down", "loss = \"90 %\""), "");
    assert_eq!(with("up", "loss = \"60 %\""), "");
    assert_eq!(with("up", "loss = \"90 %\"\nloss_burst = 9"), "");
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
fn a_model_of_the_command_line_goes_over_that_of_the_file() {
    let named = |key: &str| format!("{}[model]\n{key}\n", base());
    let parsed = |text: &str, key: &str, value: &str| {
        let overrides = set(&[(key, value)]);
        let experiment = ExperimentFile::parse(text, "base.toml", &overrides);
        experiment.map(|experiment| experiment.model.unwrap())
    };
    let (recipe, directory) = (named("recipe = \"tiny\""), named("directory = \"there\""));
    assert_eq!(
        parsed(&recipe, "model.directory", "here").unwrap(),
        ModelSource::Directory("here".into())
    );
    assert_eq!(
        parsed(&directory, "model.recipe", "micro").unwrap(),
        ModelSource::Recipe("micro".to_owned())
    );
    let both = set(&[("model.recipe", "micro"), ("model.directory", "here")]);
    let problems = ExperimentFile::parse(&base(), "base.toml", &both).unwrap_err();
    assert!(problems.to_string().contains("two sources"), "{problems}");
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
