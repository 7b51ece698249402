//! The verdict notices what is wrong with an emulation: runs with faults injected on purpose, each
//! of which must be found by its own measurement and make the verdict INVALID.
//!
//! The reasons that no fault of the plan can bring about are forced on records made by hand, in
//! `controller/src/verdict/tests.rs`.

#![forbid(unsafe_code)]

#[cfg(test)]
mod tests {
    use std::fs;

    use hexloop_tests::experiment::{QUICKSTART, SHORTEST};
    use hexloop_tests::sandbox::Sandbox;
    use hexloop_tests::system::exclusive;
    use serde_json::Value;

    const BINARY: &str = env!("CARGO_BIN_EXE_hexloop-under-test");

    const DIRECTIONS: [&str; 2] = ["radio down", "radio up"];
    const PHASES: [&str; 3] = ["device", "edge", "split"];

    /// The summary of a short run with these settings, which must be whole, clean and INVALID, and
    /// must say that faults were injected.
    #[track_caller]
    fn invalid_run(sandbox: &Sandbox, settings: &[&str]) -> Value {
        sandbox.write("experiment.toml", QUICKSTART);
        let mut arguments = vec!["run", "experiment.toml", "--output", "output", "--json"];
        arguments.extend(SHORTEST);
        for setting in settings {
            arguments.extend(["--set", setting]);
        }
        let finished = sandbox.run(240, arguments);
        finished.expect_code(6);
        let summary = finished.json();
        assert_eq!(summary["verdict"], "INVALID");
        assert_eq!(summary["status"], "complete");
        assert_eq!(summary["leftovers"], Value::Array(Vec::new()));
        let notes = summary["notes"].as_array().unwrap();
        let told = |note: &Value| note.as_str().unwrap().contains("faults were injected");
        assert!(notes.iter().any(told), "no note on faults in {notes:?}");
        summary
    }

    /// A reason of this code about this subject, with these words in its message.
    #[track_caller]
    fn expect_reason(summary: &Value, code: &str, subject: &str, words: &str) {
        let reasons = summary["reasons"].as_array().unwrap();
        let is_it = |reason: &Value| {
            let message = reason["message"].as_str().unwrap();
            reason["code"] == code && reason["subject"] == subject && message.contains(words)
        };
        assert!(
            reasons.iter().any(is_it),
            "no {code} about {subject} ({words}) in {reasons:#?}"
        );
    }

    #[test]
    #[ignore = "needs root"]
    fn a_wrong_rate_and_a_wrong_delay_are_measured_as_wrong_as_they_are() {
        let _alone = exclusive();
        let sandbox = Sandbox::new(BINARY).with_shared_cache();
        let faults = ["faults.scale_rate=97 %", "faults.add_delay=3 ms"];
        let summary = invalid_run(&sandbox, &faults);
        for subject in DIRECTIONS {
            expect_reason(&summary, "rate-error", subject, "in calibration");
            expect_reason(&summary, "delay-error", subject, "on an empty queue");
        }
        let links = summary["links"].as_array().unwrap();
        assert_eq!(links.len(), DIRECTIONS.len());
        for link in links {
            let delivered = link["delivered_over_trace"].as_f64().unwrap();
            assert!((0.96..0.98).contains(&delivered), "3 % too slow: {link}");
            // What a row of the trace allows as jitter is no error: only rows without it show the
            // whole 3 ms, and a busy machine adds to the largest errors alone.
            let error_us = |quantile: &str| link["delay_error_us"][quantile].as_f64().unwrap();
            assert!(error_us("p99") >= 2_500.0, "3 ms late: {link}");
            assert!(error_us("p50") <= 4_000.0, "3 ms late: {link}");
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn a_relay_that_stops_or_takes_the_jobs_cpu_and_late_sends_are_found() {
        let _alone = exclusive();
        let sandbox = Sandbox::new(BINARY).with_shared_cache();
        let summary = invalid_run(
            &sandbox,
            &[
                "faults.stop_relay=200 ms",
                "faults.delay_sends=500 ms",
                "faults.burn_relay_cpu=true",
                // Fewer windows and probes in 3 s than a verdict needs.
                "calibration.window=100 ms",
                "calibration.probe_gap=20 ms",
            ],
        );
        for subject in DIRECTIONS {
            expect_reason(&summary, "shaper-lateness", subject, "in calibration");
            expect_reason(&summary, "too-few-backlogged-windows", subject, "");
            expect_reason(&summary, "too-few-probes", subject, "");
        }
        for phase in PHASES {
            expect_reason(&summary, "send-lateness", phase, "");
            let burned = format!("device in phase {phase}");
            expect_reason(&summary, "relay-cpu", &burned, "");
        }

        let directory = sandbox.path(summary["run_dir"].as_str().unwrap());
        let events = fs::read_to_string(directory.join("events.ndjson")).unwrap();
        let events: Vec<Value> = events
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let requests = events.iter().filter(|event| event["event"] == "request");
        let late_ns: Vec<u64> = requests
            .map(|event| &event["record"])
            .map(|record| {
                record["sent_ns"].as_u64().unwrap() - record["scheduled_ns"].as_u64().unwrap()
            })
            .collect();
        assert!(late_ns.len() >= PHASES.len(), "{late_ns:?}");
        assert!(
            late_ns.iter().all(|late| *late >= 500_000_000),
            "{late_ns:?}"
        );
    }
}
