//! Energy of whole runs.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::path::Path;
    use std::process::Stdio;

    use hexloop_nvml_stub::GpuScript;
    use hexloop_tests::experiment::{QUICKSTART, SHORTEST};
    use hexloop_tests::sandbox::{Finished, Sandbox, finish};
    use hexloop_tests::system::exclusive;
    use hexloop_workloads::clock;
    use serde_json::Value;

    use crate::stand_ins::{BINARY, board, gpu};

    /// A study whose device is so slow that meters tell requests apart, at one setting and on the traces.
    const STUDY: &str = r#"
schema = 1
name = "metered-study"
description = "One cut of a small model, at one setting and on the traces."
seed = 1

[traces.radio.steps]
rates = ["20 Mbit/s"]
delay = "1 ms"
duration = "10 s"

[nodes.device]
cpus = 1
slowdown = 8

[nodes.edge]
cpus = 1
gpu = "0"

[[links]]
name = "radio"
between = ["device", "edge"]
trace = "radio"
queue = "100 kB"

[calibration]
flow = "3 s"

[model]
recipe = "tiny"

[[studies]]
name = "cuts"
technique = "split"
path = ["device", "edge"]
cuts = ["2"]
prompts = 2
prompt_tokens = 8
output_tokens = 100
round_trips = ["2 ms"]
rates = ["20 Mbit/s"]
trace_requests = 2
trace_every = "500 ms"
limit = "60 s"
"#;

    const PHASES: [&str; 3] = ["device", "edge", "split"];

    /// A short run with these variables.
    #[track_caller]
    fn run(sandbox: &Sandbox, variables: &[(&str, &Path)]) -> Value {
        run_of(sandbox, (QUICKSTART, &SHORTEST), variables)
    }

    /// A run of an experiment with settings. Its verdict may be INVALID: this machine may be busy.
    #[track_caller]
    fn run_of(
        sandbox: &Sandbox,
        (experiment, settings): (&str, &[&str]),
        variables: &[(&str, &Path)],
    ) -> Value {
        sandbox.write("experiment.toml", experiment);
        let mut arguments = vec!["run", "experiment.toml", "--output", "output", "--json"];
        arguments.extend(settings);
        let mut command = sandbox.command(arguments);
        command.envs(variables.iter().copied());
        let finished: Finished = finish(command.spawn().unwrap(), 240);
        assert!(
            matches!(finished.code(), Some(0 | 6)),
            "{}",
            finished.told()
        );
        let summary = finished.json();
        assert_eq!(summary["status"], "complete");
        summary
    }

    fn number(value: &Value) -> f64 {
        value["value"]
            .as_f64()
            .unwrap_or_else(|| panic!("not a number: {value}"))
    }

    fn jobs(summary: &Value) -> &Vec<Value> {
        let jobs = summary["jobs"].as_array().unwrap();
        assert_eq!(jobs.len(), PHASES.len());
        jobs
    }

    fn report(sandbox: &Sandbox, summary: &Value) -> String {
        let directory = sandbox.path(summary["run_dir"].as_str().unwrap());
        fs::read_to_string(directory.join("report.html")).unwrap()
    }

    #[test]
    #[ignore = "needs root"]
    fn the_energy_of_a_board_is_its_power_times_time_and_its_parts_add_up() {
        let _alone = exclusive();
        let sandbox = Sandbox::new(BINARY).with_shared_cache();
        let summary = run(&sandbox, &[("HEXLOOP_TELEMETRY_ROOT", &board(&sandbox))]);
        let meters = &summary["meters"];
        assert_eq!(meters["source"], "stub");
        let counted: Vec<(&str, bool)> = meters["channels"]
            .as_array()
            .unwrap()
            .iter()
            .map(|channel| {
                let counted = channel["counted"].as_bool().unwrap();
                (channel["device"].as_str().unwrap(), counted)
            })
            .collect();
        assert_eq!(counted, [("VDD_IN", true), ("VDD_CPU_GPU_CV", false)]);
        assert!((number(&meters["idle_w"]) - 10.0).abs() < 1e-6, "{meters}");
        assert!(
            number(&summary["energy_j"]) > 3.0 * 10.0,
            "the whole run is longer than 3 s"
        );
        for job in jobs(&summary) {
            let (energy_j, length_s) = (number(&job["energy_j"]), job["duration_s"].as_f64());
            let length_s = length_s.unwrap();
            assert!(
                (energy_j - 10.0 * length_s).abs() < 1e-3,
                "{energy_j} J in {length_s} s"
            );
            assert!(number(&job["energy"]["above_idle_j"]).abs() < 1e-3);
            let split = &job["energy"]["attribution"];
            let parts = number(&split["requests_j"])
                + number(&split["idle_j"])
                + number(&split["unattributed_j"]);
            let meter_j = number(&split["meter_j"]);
            assert!((parts - meter_j).abs() < 1e-6, "{split}");
            assert!(meter_j > 0.8 * energy_j, "{meter_j} of {energy_j}");
        }
        let page = report(&sandbox, &summary);
        assert!(
            page.contains("<title>quickstart [STUB METERS] "),
            "the title names the stub"
        );
        assert!(page.contains("These are not measurements"));
    }

    #[test]
    #[ignore = "needs root"]
    fn a_gpu_s_counter_is_compared_with_its_integral_and_a_foreign_process_is_found() {
        let _alone = exclusive();
        let sandbox = Sandbox::new(BINARY).with_shared_cache();
        // Process 1 runs everywhere and belongs to no experiment.
        let script = GpuScript {
            power_mw: vec![(0, 300_000)],
            processes: vec![(0, 0, 1, 1 << 30)],
            ..GpuScript::default()
        };
        let nowhere = sandbox.path("nowhere");
        let gpu = gpu(&sandbox, script);
        let mut variables: Vec<(&str, &Path)> = gpu
            .iter()
            .map(|(name, path)| (*name, path.as_path()))
            .collect();
        variables.push(("HEXLOOP_TELEMETRY_ROOT", &nowhere));
        let summary = run(&sandbox, &variables);
        assert_eq!(summary["meters"]["source"], "stub");
        for job in jobs(&summary) {
            let energy_j = number(&job["energy_j"]);
            let open_j = job["energy"]["uncertainty_j"].as_f64().unwrap();
            let length_s = job["duration_s"].as_f64().unwrap();
            assert!(
                (energy_j - 300.0 * length_s).abs() <= open_j + 1.0,
                "{energy_j} +- {open_j} J in {length_s} s"
            );
            let gaps = job["energy"]["counter_gaps"].as_array().unwrap();
            assert_eq!(gaps.len(), 1, "{job}");
            assert_eq!(job["energy"]["suspect"], false, "{gaps:?}");
        }
        assert_eq!(summary["verdict"], "INVALID");
        let reasons = summary["reasons"].as_array().unwrap();
        let foreign = reasons
            .iter()
            .any(|reason| reason["code"] == "gpu-not-ours");
        assert!(foreign, "{reasons:#?}");
    }

    #[test]
    #[ignore = "needs root"]
    fn the_energy_of_a_study_on_a_node_s_own_gpu_is_that_node_s_and_the_other_s_is_unavailable() {
        let _alone = exclusive();
        let sandbox = Sandbox::new(BINARY).with_shared_cache();
        let script = GpuScript {
            power_mw: vec![(0, 300_000)],
            ..GpuScript::default()
        };
        let nowhere = sandbox.path("nowhere");
        let gpu = gpu(&sandbox, script);
        let mut variables: Vec<(&str, &Path)> = gpu
            .iter()
            .map(|(name, path)| (*name, path.as_path()))
            .collect();
        variables.push(("HEXLOOP_TELEMETRY_ROOT", &nowhere));
        let summary = run_of(&sandbox, (STUDY, &[]), &variables);
        let study = &summary["studies"][0];
        for arm in [&study["cells"][0], &study["traced"]["arms"][0]] {
            let j_per_request = number(&arm["j_per_request"]);
            let j_per_token = number(&arm["j_per_token"]);
            assert!(j_per_request > 0.0, "{arm}");
            assert!(
                (j_per_request - 100.0 * j_per_token).abs() < 1e-6 * j_per_request,
                "a request has a hundred tokens: {arm}"
            );
            assert!(number(&arm["above_idle_j_per_request"]) < j_per_request);
            let [device, edge] = arm["node_energy"].as_array().unwrap().as_slice() else {
                panic!("two nodes: {arm}");
            };
            // The GPU is all that is metered.
            let of_edge = number(&edge["j_per_request"]);
            assert!((of_edge - j_per_request).abs() < 1e-6, "{arm}");
            assert_eq!(device["j_per_request"]["value"], Value::Null);
            let why = "meters read devices that all nodes of this machine share";
            assert_eq!(device["j_per_request"]["reason"], why);
        }
        let round_j = number(&study["traced"]["arms"][0]["round_j_per_request"]);
        assert!(round_j > 0.0, "{study}");
        let page = report(&sandbox, &summary);
        assert!(page.contains("Energy of a node alone"));
    }

    #[test]
    #[ignore = "needs root"]
    fn a_machine_without_any_meter_says_in_words_what_is_unavailable_and_why() {
        let _alone = exclusive();
        let sandbox = Sandbox::new(BINARY).with_shared_cache();
        let nowhere = sandbox.path("nowhere");
        let library = sandbox.path("nowhere/libnvidia-ml.so.1");
        let summary = run(
            &sandbox,
            &[
                ("HEXLOOP_TELEMETRY_ROOT", &nowhere),
                ("HEXLOOP_NVML_LIBRARY", &library),
            ],
        );
        for energy in jobs(&summary)
            .iter()
            .map(|job| &job["energy_j"])
            .chain([&summary["energy_j"]])
        {
            assert_eq!(energy["value"], Value::Null);
            let reason = energy["reason"].as_str().unwrap();
            for source in [
                "NVML",
                "RAPL (powercap)",
                "RAPL (perf)",
                "board sensors (hwmon)",
            ] {
                assert!(reason.contains(source), "{reason}");
            }
        }
        assert_eq!(summary["meters"]["overhead"], Value::Null);
        let page = report(&sandbox, &summary);
        assert!(
            page.contains("Unavailable: no sensor (NVML: "),
            "the report says why"
        );
    }

    /// A link that one ping crosses, and the claim that power is steady without work.
    const IDLE: &str = r#"
schema = 1
name = "idle"
[traces.constant.steps]
rates = ["20 Mbit/s"]
[nodes.first]
[nodes.second]
[[links]]
name = "radio"
between = ["first", "second"]
trace = "constant"
[[traffic]]
name = "ping"
job = "ping"
duration = "1 s"
[[expectations]]
name = "idle power is stable"
claim = "idle-power-stable"
"#;

    /// What a run finds of idle power on a GPU that does this.
    fn idle_power(power_mw: Vec<(u64, u64)>) -> (Value, Value) {
        let sandbox = Sandbox::new(BINARY);
        let script = GpuScript {
            power_mw,
            ..GpuScript::default()
        };
        let nowhere = sandbox.path("nowhere");
        let gpu = gpu(&sandbox, script);
        sandbox.write("experiment.toml", IDLE);
        let arguments = ["run", "experiment.toml", "--output", "output", "--json"];
        let mut command = sandbox.command(arguments);
        command.envs(gpu.iter().map(|(name, path)| (*name, path.as_path())));
        command.env("HEXLOOP_TELEMETRY_ROOT", &nowhere);
        let finished = finish(command.spawn().unwrap(), 240);
        // A busy machine may be found too busy to believe, which says nothing of its power.
        assert!(
            matches!(finished.code(), Some(0 | 6)),
            "{}",
            finished.told()
        );
        let summary = finished.json();
        let claim = summary["expectations"][0].clone();
        (claim, summary["meters"].clone())
    }

    #[test]
    #[ignore = "needs root"]
    fn idle_power_of_a_gpu_is_steady_or_is_found_not_to_be() {
        let _alone = exclusive();
        let (claim, meters) = idle_power(vec![(0, 70_000)]);
        assert_eq!(claim["outcome"], "held", "{claim}");
        assert!(claim["evidence"][0]["sample_size"].as_u64() >= Some(8));
        assert!(
            (number(&meters["idle_before_w"]) - 70.0).abs() < 1.0,
            "{meters}"
        );
        let channels = meters["idle_channels"].as_array().unwrap();
        assert_eq!(channels.len(), meters["channels"].as_array().unwrap().len());
        // 60 and 90 W in turn, for longer than the run takes.
        let turns = (0..2_000).map(|turn| (turn * 700, 60_000 + 30_000 * (turn % 2)));
        let (claim, meters) = idle_power(turns.collect());
        assert_eq!(claim["outcome"], "not-held", "{claim}");
        assert!(number(&meters["idle_variation"]) > 0.05, "{meters}");
    }

    #[test]
    #[ignore = "needs root"]
    fn an_external_meter_on_standard_input_stands_for_a_machine_without_a_sensor() {
        let _alone = exclusive();
        let sandbox = Sandbox::new(BINARY).with_shared_cache();
        let nowhere = sandbox.path("nowhere");
        let library = sandbox.path("nowhere/libnvidia-ml.so.1");
        sandbox.write("experiment.toml", QUICKSTART);
        let mut arguments = vec!["run", "experiment.toml", "--output", "output", "--json"];
        arguments.extend(["--meter", "plug=-", "--meter-rate", "200"]);
        arguments.extend(SHORTEST);
        let mut command = sandbox.command(arguments);
        command.env("HEXLOOP_TELEMETRY_ROOT", &nowhere);
        command.env("HEXLOOP_NVML_LIBRARY", &library);
        command.stdin(Stdio::piped());
        let mut run = command.spawn().unwrap();
        let mut lines = run.stdin.take().unwrap();
        // A plug that shows 41 and 42 W in turn, ten times a second, and says something else once.
        let plug = std::thread::spawn(move || {
            let began = clock::now();
            for number in 0_u64.. {
                clock::sleep_until(began + number * 100_000_000);
                let noise = if number == 100 { "hello\n" } else { "" };
                let watts = 41 + number % 2;
                if writeln!(lines, "{noise}- {watts} plug").is_err() {
                    return;
                }
            }
        });
        let finished = finish(run, 240);
        plug.join().unwrap();
        assert!(
            matches!(finished.code(), Some(0 | 6)),
            "{}",
            finished.told()
        );
        let summary = finished.json();
        let channels = summary["meters"]["channels"].as_array().unwrap();
        assert_eq!(channels.len(), 1, "{channels:?}");
        assert_eq!(channels[0]["device"], "plug");
        assert_eq!(channels[0]["quantity"], "average power");
        assert_eq!(channels[0]["counted"], true);
        assert_eq!(summary["meters"]["overhead"]["rate_hz"], 200.0);
        for job in jobs(&summary) {
            let (energy_j, length_s) = (number(&job["energy_j"]), job["duration_s"].as_f64());
            let mean_w = energy_j / length_s.unwrap();
            assert!((41.0..=42.0).contains(&mean_w), "{mean_w} W");
            assert_eq!(job["energy_j"]["quality"], "derived");
            let split = &job["energy"]["attribution"];
            let parts = number(&split["requests_j"])
                + number(&split["idle_j"])
                + number(&split["unattributed_j"]);
            assert!((parts - number(&split["meter_j"])).abs() < 1e-6, "{split}");
            // What the kernel counts is there, or says why not.
            for counters in job["counters"].as_object().unwrap().values() {
                assert!(number(&counters["voluntary_switches"]) > 0.0);
                for (name, figure) in counters.as_object().unwrap() {
                    let told = figure["value"].is_f64() || figure["reason"].is_string();
                    assert!(told, "{name}: {figure}");
                }
            }
        }
        let directory = sandbox.path(summary["run_dir"].as_str().unwrap());
        let power = fs::read_to_string(directory.join("power.csv")).unwrap();
        assert!(power.contains(",plug,machine,average power,external meter,uW,41000000"));
        let page = report(&sandbox, &summary);
        for part in [
            "1 of ",
            "lines were refused; the last one: `hello` is no timestamp",
            "Requests + idle + unattributed = meter, to ",
            "Counted by the kernel",
        ] {
            assert!(page.contains(part), "{part}");
        }
    }
}
