//! `hexloop meter`: the energy of a command.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write as _;
    use std::path::Path;
    use std::process::Stdio;

    use hexloop_nvml_stub::GpuScript;
    use hexloop_tests::sandbox::{Finished, Sandbox, finish};
    use hexloop_workloads::clock;
    use serde_json::Value;

    use crate::stand_ins::{BINARY, Package, gpu};

    /// Meters a command on a machine with these stand-ins.
    fn meter(
        sandbox: &Sandbox,
        variables: &[(&str, &Path)],
        options: &[&str],
        command: &[&str],
    ) -> (Finished, Value) {
        let mut words = vec!["meter", "--json", "meter.json"];
        words.extend(options);
        words.push("--");
        words.extend(command);
        let mut command = sandbox.command(words);
        command.envs(variables.iter().copied());
        let finished = finish(command.spawn().unwrap(), 60);
        let text = fs::read_to_string(sandbox.path("meter.json"));
        let text = text.unwrap_or_else(|error| panic!("{error}: {}", finished.told()));
        let summary = serde_json::from_str(&text).unwrap();
        (finished, summary)
    }

    #[track_caller]
    fn number(value: &Value) -> f64 {
        value["value"]
            .as_f64()
            .unwrap_or_else(|| panic!("not a number: {value}"))
    }

    /// Whether a value and its uncertainty allow for the truth.
    #[track_caller]
    fn assert_is(value: &Value, open: &Value, truth: f64) {
        let (value, open) = (number(value), open.as_f64().unwrap());
        assert!(
            (value - truth).abs() <= open + 1e-3,
            "{value} +- {open}, not {truth}"
        );
    }

    #[test]
    fn a_command_is_told_its_energy_gross_and_above_idle_by_every_meter() {
        let sandbox = Sandbox::new(BINARY);
        let package = Package::drawing(20, &sandbox);
        let script = GpuScript {
            power_mw: vec![(0, 100_000)],
            counter_period_ms: 20,
            instant_period_ms: 20,
            ..GpuScript::default()
        };
        let gpu = gpu(&sandbox, script);
        let mut variables: Vec<(&str, &Path)> = gpu
            .iter()
            .map(|(name, path)| (*name, path.as_path()))
            .collect();
        variables.push(("HEXLOOP_TELEMETRY_ROOT", package.root()));
        let options = ["--idle", "0.6", "--csv", "readings"];
        let command = ["sh", "-c", "echo ours; sleep 1; exit 7"];
        let (finished, summary) = meter(&sandbox, &variables, &options, &command);
        finished.expect_code(7);
        assert_eq!(finished.stdout, "ours\n", "its standard output is its own");
        finished.expect_error(&["STUB METERS", "gross", "above idle", "agrees"]);
        assert_eq!(summary["command_status"], 7);
        assert_eq!(summary["source"], "stub");
        let length_s = summary["duration_s"].as_f64().unwrap();
        assert!(length_s >= 1.0);
        assert_is(
            &summary["energy_j"],
            &summary["uncertainty_j"],
            120.0 * length_s,
        );
        assert_is(&summary["idle_w"], &summary["idle_uncertainty_w"], 120.0);
        assert_is(
            &summary["above_idle_j"],
            &summary["above_idle_uncertainty_j"],
            0.0,
        );
        for channel in summary["channels"].as_array().unwrap() {
            let truth_w = match channel["device"].as_str().unwrap() {
                "package-0" => 20.0,
                _ if channel["scope"] == "GPU" => 100.0,
                // The stub's scopes beside the GPU itself.
                _ => continue,
            };
            assert_is(
                &channel["energy_j"],
                &channel["uncertainty_j"],
                truth_w * length_s,
            );
            assert_is(&channel["idle_w"], &channel["idle_uncertainty_w"], truth_w);
        }
        let counter = &summary["channels"][0];
        assert!(
            counter["refresh_period_ms"].as_f64().unwrap() > 10.0,
            "{counter}"
        );
        assert_eq!(summary["counter_gaps"].as_array().unwrap().len(), 1);
        assert_eq!(summary["suspect"], false);
        assert!(summary["overhead"]["read_p50_us"].as_f64().unwrap() > 0.0);
        assert!(summary["used"]["cpu_user_s"].is_number());
        let missing = summary["unavailable"].to_string();
        assert!(missing.contains("board sensors (hwmon)"), "{missing}");
        let power = fs::read_to_string(sandbox.path("readings/power.csv")).unwrap();
        for part in [
            "\nbefore,",
            "\ncommand,",
            "\nafter,",
            ",package-0,package,energy counter,",
        ] {
            assert!(power.contains(part), "no {part:?}");
        }
        let gpus = fs::read_to_string(sandbox.path("readings/gpu.csv")).unwrap();
        assert!(gpus.contains("\ncommand,"), "{gpus}");
    }

    #[test]
    fn without_any_meter_the_command_runs_and_every_source_says_why_there_is_none() {
        let sandbox = Sandbox::new(BINARY);
        let nowhere = sandbox.path("nowhere");
        let library = sandbox.path("nowhere.so");
        let variables: [(&str, &Path); 2] = [
            ("HEXLOOP_TELEMETRY_ROOT", &nowhere),
            ("HEXLOOP_NVML_LIBRARY", &library),
        ];
        let (finished, summary) = meter(&sandbox, &variables, &[], &["true"]);
        finished.expect_code(0);
        assert_eq!(summary["source"], "none");
        for energy in ["energy_j", "power_w", "idle_w", "above_idle_j"] {
            assert_eq!(summary[energy]["value"], Value::Null);
            let why = summary[energy]["reason"].as_str().unwrap();
            assert!(why.starts_with("no sensor (NVML: "), "{energy}: {why}");
        }
        for source in [
            "NVML",
            "RAPL (powercap)",
            "RAPL (perf)",
            "board sensors (hwmon)",
        ] {
            finished.expect_error(&[&format!("not metered: {source}: ")]);
        }
    }

    #[test]
    fn a_wall_meter_on_standard_input_is_waited_for_and_stands_for_the_machine() {
        let sandbox = Sandbox::new(BINARY);
        let nowhere = sandbox.path("nowhere");
        let library = sandbox.path("nowhere.so");
        let mut command = sandbox.command([
            "meter",
            "--json",
            "meter.json",
            "--idle",
            "0.5",
            "--meter",
            "plug=-",
            "--",
            "sh",
            "-c",
            "cat; sleep 1",
        ]);
        command.env("HEXLOOP_TELEMETRY_ROOT", &nowhere);
        command.env("HEXLOOP_NVML_LIBRARY", &library);
        command.stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = child.stdin.take().unwrap();
        // 41 and 42 W in turn, fifty times a second.
        let plug = std::thread::spawn(move || {
            let began = clock::now();
            for number in 0_u64.. {
                clock::sleep_until(began + number * 20_000_000);
                let watts = 41 + number % 2;
                if writeln!(lines, "- {watts}").is_err() {
                    return;
                }
            }
        });
        let finished = finish(child, 60);
        plug.join().unwrap();
        finished.expect_code(0);
        assert_eq!(
            finished.stdout, "",
            "the command has nothing on standard input"
        );
        let text = fs::read_to_string(sandbox.path("meter.json")).unwrap();
        let summary: Value = serde_json::from_str(&text).unwrap();
        let watts = number(&summary["power_w"]);
        assert!((41.0..=42.0).contains(&watts), "{summary:#}");
        assert_eq!(summary["energy_j"]["quality"], "derived");
        assert_eq!(summary["channels"][0]["counted"], true);
        assert!(sandbox.path("runtime").read_dir().unwrap().next().is_none());
    }

    #[test]
    fn the_status_is_the_command_s_or_says_that_it_could_not_be_run() {
        let sandbox = Sandbox::new(BINARY);
        let nowhere = sandbox.path("nowhere");
        let variables: [(&str, &Path); 2] = [
            ("HEXLOOP_TELEMETRY_ROOT", &nowhere),
            ("HEXLOOP_NVML_LIBRARY", &nowhere),
        ];
        for (words, status) in [
            (["sh", "-c", "kill -TERM $$"], 128 + 15),
            (["/nowhere/at-all", "", ""], 127),
            (["/", "", ""], 126),
        ] {
            let (finished, summary) = meter(&sandbox, &variables, &[], &words);
            finished.expect_code(status);
            assert_eq!(summary["command_status"], status, "{words:?}");
        }
        sandbox
            .run(60, ["meter", "--idle", "x", "--", "true"])
            .expect_code(125);
        sandbox
            .run(60, ["meter", "--meter", "plug", "--", "true"])
            .expect_code(125)
            .expect_error(&["expected NAME=unix:PATH"]);
    }
}
