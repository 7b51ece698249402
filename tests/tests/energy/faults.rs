//! Everything that a stub's script can do wrong, and what `hexloop meter` says of it.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Child;

    use hexloop_nvml_stub::{GpuScript, Script};
    use hexloop_tests::sandbox::{Sandbox, finish};
    use serde_json::Value;

    use crate::stand_ins::{BINARY, scripted};

    /// A metered command that runs while a GPU misbehaves.
    struct Trial {
        what: &'static str,
        sandbox: Sandbox,
        child: Child,
        check: fn(&Value),
    }

    /// Starts it. The command begins a quarter of a second after the script, and lasts two.
    fn begin(what: &'static str, script: &Script, check: fn(&Value)) -> Trial {
        let sandbox = Sandbox::new(BINARY);
        let words = [
            "meter",
            "--idle",
            "0",
            "--json",
            "meter.json",
            "--",
            "sleep",
            "2",
        ];
        let mut command = sandbox.command(words);
        command.envs(scripted(&sandbox, script));
        command.env("HEXLOOP_TELEMETRY_ROOT", sandbox.path("nowhere"));
        let child = command.spawn().unwrap();
        Trial {
            what,
            sandbox,
            child,
            check,
        }
    }

    fn gpu(what: &'static str, gpu: GpuScript, check: fn(&Value)) -> Trial {
        let script = Script {
            gpus: vec![gpu],
            ..Script::default()
        };
        begin(what, &script, check)
    }

    fn names(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[track_caller]
    fn assert_without(energy: &Value, why: &str) {
        assert_eq!(energy["value"], Value::Null, "{energy}");
        let reason = energy["reason"].as_str().unwrap();
        assert!(reason.contains(why), "{reason}");
    }

    fn assert_70_w(summary: &Value) {
        let watts = summary["power_w"]["value"].as_f64().unwrap();
        assert!((watts - 70.0).abs() < 5.0, "{watts}");
    }

    #[test]
    fn every_fault_of_a_gpu_is_told_and_none_becomes_a_number() {
        let usual = GpuScript::default;
        let trials = [
            gpu(
                "the counter is reset",
                GpuScript {
                    reset_at_ms: Some(1_500),
                    ..usual()
                },
                |summary| {
                    assert_without(&summary["energy_j"], "it was reset");
                    assert_without(&summary["power_w"], "it was reset");
                    let instant = &summary["channels"][1];
                    assert_eq!(instant["quantity"], "instantaneous power");
                    assert!(
                        instant["energy_j"]["value"].is_f64(),
                        "power still tells: {instant}"
                    );
                },
            ),
            gpu(
                "it falls off the bus",
                GpuScript {
                    lost_at_ms: Some(1_500),
                    ..usual()
                },
                |summary| {
                    assert_without(&summary["energy_j"], "is lost");
                    let trouble = summary["gpus"][0]["trouble"].as_str().unwrap();
                    assert!(trouble.contains("is lost"), "{trouble}");
                },
            ),
            gpu(
                "the counter stands still",
                GpuScript {
                    counter_period_ms: 3_600_000,
                    ..usual()
                },
                |summary| assert_without(&summary["energy_j"], "stood still"),
            ),
            gpu(
                "the counter is renewed too seldom for the window",
                GpuScript {
                    counter_period_ms: 400,
                    ..usual()
                },
                |summary| {
                    assert_without(&summary["energy_j"], "at least 10 are needed");
                    // What was measured: 400 ms, give or take how late a busy machine reads it.
                    let reason = summary["energy_j"]["reason"].as_str().unwrap();
                    let period = reason.split_once("one per ").unwrap().1;
                    let period_ms: f64 = period.split_once(" ms").unwrap().0.parse().unwrap();
                    assert!((period_ms - 400.0).abs() < 40.0, "{reason}");
                },
            ),
            gpu(
                "there is no counter",
                GpuScript {
                    not_supported: names(&["energy"]),
                    ..usual()
                },
                |summary| {
                    assert_70_w(summary);
                    assert_eq!(summary["energy_j"]["quality"], "derived");
                    assert_eq!(summary["counter_gaps"], Value::Array(Vec::new()));
                },
            ),
            gpu(
                "the counter may not be read",
                GpuScript {
                    no_permission: names(&["energy"]),
                    ..usual()
                },
                |summary| {
                    assert_eq!(summary["energy_j"]["quality"], "derived");
                    let source = summary["energy_j"]["source"].as_str().unwrap();
                    assert!(source.contains("POWER_INSTANT"), "{source}");
                    let missing = summary["unavailable"][0].to_string();
                    assert!(
                        missing.contains("no permission to read the energy counter of GPU-")
                            && missing.contains("run as root"),
                        "{missing}"
                    );
                },
            ),
            gpu(
                "there is an average alone",
                GpuScript {
                    not_supported: names(&["energy", "fields"]),
                    ..usual()
                },
                |summary| {
                    assert_70_w(summary);
                    assert_eq!(summary["channels"][0]["quantity"], "average power");
                },
            ),
            gpu(
                "it tells neither energy nor power",
                GpuScript {
                    not_supported: names(&["energy", "fields", "power"]),
                    ..usual()
                },
                |summary| {
                    assert_without(&summary["energy_j"], "no sensor");
                    assert_eq!(summary["source"], "none");
                },
            ),
            gpu(
                "it tells nothing else",
                GpuScript {
                    not_supported: names(&[
                        "memory",
                        "utilization",
                        "temperature",
                        "clocks",
                        "throttle",
                        "performance",
                        "mig",
                        "processes",
                        "mps",
                        "gpm",
                        "limit",
                    ]),
                    ..usual()
                },
                |summary| {
                    assert_70_w(summary);
                    let gpu = &summary["gpus"][0];
                    assert!(gpu["looks"].as_u64().unwrap() > 0);
                    for figure in [
                        "memory_peak_bytes",
                        "busy_percent",
                        "sm_clock_mhz",
                        "temperature_c",
                        "throttled",
                    ] {
                        assert_eq!(gpu[figure], Value::Null, "{figure}");
                    }
                    assert_eq!(gpu["mig"], false, "what cannot be cut up is not");
                },
            ),
            gpu(
                "somebody else is on it, it is cut up, and heat holds it down",
                GpuScript {
                    processes: vec![(0, 0, 1, 1 << 30)],
                    throttle: vec![(0, 0x40)],
                    mig: true,
                    ..usual()
                },
                |summary| {
                    assert_70_w(summary);
                    let gpu = &summary["gpus"][0];
                    assert_eq!(gpu["foreign_processes"], serde_json::json!([1]));
                    assert_eq!(
                        (&gpu["throttled"], &gpu["mig"]),
                        (&true.into(), &true.into())
                    );
                    assert!(summary["notes"].to_string().contains("processes of others"));
                },
            ),
            gpu(
                "every call is slow",
                GpuScript {
                    latency_us: 5_000,
                    ..usual()
                },
                |summary| {
                    assert_70_w(summary);
                    let overhead = &summary["overhead"];
                    assert!(
                        overhead["read_p50_us"].as_f64().unwrap() >= 5_000.0,
                        "{overhead}"
                    );
                    assert!(overhead["late_share"].as_f64().unwrap() > 0.0, "{overhead}");
                },
            ),
            begin(
                "the driver is not loaded",
                &Script {
                    init_code: 9,
                    gpus: vec![usual()],
                    ..Script::default()
                },
                |summary| {
                    assert_without(&summary["energy_j"], "no sensor (NVML: cannot read NVML");
                    let missing = summary["unavailable"][0].to_string();
                    assert!(missing.contains("driver"), "{missing}");
                },
            ),
            gpu(
                "its recording cannot be read",
                GpuScript {
                    recording: Some("/nowhere/recording.csv".into()),
                    ..usual()
                },
                |summary| assert_without(&summary["energy_j"], "no sensor (NVML: cannot read NVML"),
            ),
        ];
        for trial in trials {
            let finished = finish(trial.child, 60);
            finished.expect_code(0);
            println!("{}:\n{}", trial.what, finished.stderr);
            let text = fs::read_to_string(trial.sandbox.path("meter.json")).unwrap();
            (trial.check)(&serde_json::from_str(&text).unwrap());
        }
    }
}
