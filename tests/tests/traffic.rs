//! Phases without a model, and links that change or vanish while they play, as a user runs them.

#![forbid(unsafe_code)]

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use hexloop_tests::sandbox::{Sandbox, finish, within_ms};
    use hexloop_tests::summary::check;
    use hexloop_tests::system::{System, exclusive};
    use serde_json::Value;

    const BINARY: &str = env!("CARGO_BIN_EXE_hexloop-under-test");

    /// A link at 20 Mbit/s that an event sets to 8 after two seconds.
    const EXPERIMENT: &str = r#"
schema = 1
name = "traffic"
[traces.constant.steps]
rates = ["20 Mbit/s"]
delay = "2 ms"
[nodes.first]
congestion_control = "reno"
[nodes.second]
[[links]]
name = "radio"
between = ["first", "second"]
trace = "constant"
datapath = "relay"
discipline = "codel"
ecn = true
[[traffic]]
name = "bulk"
job = "bulk"
direction = "down"
duration = "4 s"
[[traffic]]
name = "ping"
job = "ping"
load = true
duration = "6 s"
[[events]]
name = "slower"
at = "2 s"
phase = "bulk"
action = "override"
rate = "8 Mbit/s"
[[expectations]]
name = "what arrives follows what was asked for"
claim = "rate-follows-trace"
phase = "bulk"
"#;

    #[test]
    #[ignore = "needs root"]
    fn a_link_that_an_event_slows_down_is_judged_by_what_was_asked_for() {
        let _alone = exclusive();
        let sandbox = Sandbox::new(BINARY);
        let before = System::look("");
        sandbox.write("experiment.toml", EXPERIMENT);
        let arguments = ["run", "experiment.toml", "--output", "output", "--json"];
        let running = sandbox.command(arguments).spawn().unwrap();
        change_by_hand(&sandbox);
        let finished = finish(running, 240);
        // A busy machine may be found too busy to believe: that is 6, and a whole run.
        assert!(
            matches!(finished.code(), Some(0 | 6)),
            "{}",
            finished.told()
        );
        before.expect_clean_within(30_000);
        let summary = finished.json();
        let directory = sandbox.path(summary["run_dir"].as_str().unwrap());
        let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
        let plan = serde_json::from_str(&read("plan.json")).unwrap();
        let events: Vec<Value> = read("events.ndjson")
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        check(&summary, &plan, &events).unwrap_or_else(|problems| {
            panic!("{}", problems.join("\n"));
        });
        // As asked; else cubic, or with a warning what every namespace may have, whatever the machine prefers.
        let controls = |node: usize| summary["nodes"][node]["congestion_control"].as_str();
        assert_eq!(controls(0), Some("reno"), "{}", summary["nodes"]);
        let warned = summary["warnings"]
            .to_string()
            .contains("tcp_allowed_congestion_control");
        let usual = if warned { "reno" } else { "cubic" };
        assert_eq!(controls(1), Some(usual), "{}", summary["nodes"]);
        let changes = summary["changes"].as_array().unwrap();
        assert_eq!(changes.len(), 1 + BY_HAND.len(), "{changes:?}");
        assert_eq!(changes[0]["event"], "slower");
        for (change, (_, told)) in changes[1..].iter().zip(BY_HAND) {
            assert_eq!(change["phase"], "ping", "{changes:?}");
            assert_eq!(change["event"], Value::Null, "{changes:?}");
            assert_eq!(change["change"], told, "{changes:?}");
            assert!(
                change["achieved_s"].as_f64() >= change["asked_s"].as_f64(),
                "{changes:?}"
            );
        }
        assert_eq!(changes[0]["asked_s"], 2.0);
        assert!(
            changes[0]["achieved_s"].as_f64() >= Some(2.0),
            "{changes:?}"
        );
        // The trace itself allows 20 Mbit/s all the time: what it was compared with is less.
        let windows = events.iter().filter(|event| {
            event["event"] == "link-window"
                && event["phase"] == "bulk"
                && event["direction"] == "down"
        });
        let allowed = |later: bool| -> u64 {
            windows
                .clone()
                .filter(|window| (window["start_ns"].as_u64() >= Some(2_200_000_000)) == later)
                .filter_map(|window| window["trace_bytes"].as_u64())
                .max()
                .unwrap()
        };
        assert!(
            allowed(true) * 2 < allowed(false),
            "{} {}",
            allowed(true),
            allowed(false)
        );
    }

    /// What somebody does to the link while pings cross it, and how the record tells it.
    const BY_HAND: [(&[&str], &str); 6] = [
        (&["pause", "radio"], "pauses"),
        (&["resume", "radio"], "resumes"),
        (&["jump", "radio", "to=\"1 s\""], "jumps to 1 s"),
        (
            &["override", "radio", "delay=4 ms", "direction=up"],
            "is overridden with delay 4 ms",
        ),
        (&["clear", "radio"], "follows its trace again"),
        (&["set", "radio", "queue=90 kB"], "is set to queue 90 kB"),
    ];

    /// Does it, through the agent of the run; what makes no sense is refused and changes nothing.
    fn change_by_hand(sandbox: &Sandbox) {
        // A phase is announced before it begins; what was measured in it was measured after its T0.
        let plays = |event: &Value| event["event"] == "link-window" && event["phase"] == "ping";
        assert!(
            within_ms(180_000, || recorded(sandbox).iter().any(plays)),
            "no pings"
        );
        let runtime = fs::read_dir(sandbox.path("runtime")).unwrap();
        let mut sockets = runtime.filter_map(|entry| Some(entry.ok()?.path().join("agent")));
        let socket = sockets.find(|path| path.exists()).expect("an agent");
        let control = |words: &[&str]| {
            let mut line = vec!["agent", "control", "--socket", socket.to_str().unwrap()];
            line.extend(words);
            sandbox.run(60, line)
        };
        for (words, _) in BY_HAND {
            control(words).expect_code(0);
        }
        control(&["pause", "wire"])
            .expect_code(1)
            .expect_error(&["no link wire", "known links: radio"]);
        control(&["override", "radio", "rate=-1 Mbit/s"])
            .expect_code(3)
            .expect_error(&["100 Mbit/s"]);
    }

    /// The events that a run which is under way has recorded so far.
    fn recorded(sandbox: &Sandbox) -> Vec<Value> {
        let output = fs::read_dir(sandbox.path("output")).into_iter().flatten();
        let texts = output
            .filter_map(|entry| fs::read_to_string(entry.ok()?.path().join("events.ndjson")).ok());
        let text: String = texts.collect();
        // The last line may be torn.
        let lines = text.lines().map(serde_json::from_str);
        lines.filter_map(Result::ok).collect()
    }

    #[test]
    #[ignore = "needs root"]
    fn an_interface_that_vanishes_while_it_is_used_fails_the_run_and_leaves_nothing() {
        let _alone = exclusive();
        let sandbox = Sandbox::new(BINARY);
        let before = System::look("");
        sandbox.write("experiment.toml", EXPERIMENT);
        let arguments = ["run", "experiment.toml", "--output", "output", "--json"];
        let child = sandbox.command(arguments).spawn().unwrap();
        let plays = |event: &Value| event["event"] == "phase-started";
        assert!(
            within_ms(180_000, || recorded(&sandbox).iter().any(plays)),
            "no phase began"
        );
        let events = recorded(&sandbox);
        let node = events.iter().find(|event| event["event"] == "node-up");
        let pid = node.unwrap()["pid"].to_string();
        let removed = Command::new("nsenter")
            .args(["--target", &pid, "--net", "ip", "link", "delete", "hx0a"])
            .status();
        assert!(removed.unwrap().success());
        let finished = finish(child, 240);
        finished.expect_code(1);
        finished.expect_error(&["radio"]);
        before.expect_clean_within(30_000);
        let summary = finished.stderr;
        assert!(summary.contains(".interrupted"), "{summary}");
    }
}
