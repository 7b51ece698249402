//! Captures of a run's links, as a user asks for them.

#![forbid(unsafe_code)]

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use hexloop_tests::experiment::{QUICKSTART, SHORTEST};
    use hexloop_tests::pcapng::{comments, moments};
    use hexloop_tests::sandbox::{Sandbox, finish, within_ms};
    use hexloop_tests::system::{System, Trace, exclusive, marker};
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    use serde_json::Value;

    const BINARY: &str = env!("CARGO_BIN_EXE_hexloop-under-test");

    /// Packets that may cross a link after its counters were read at the end of a phase: those with
    /// which connections close.
    const CLOSING_PACKETS: u64 = 8;

    /// Echoes over two links, of which one passes packets on without looking at them.
    const TWO_LINKS: &str = r#"
schema = 1
name = "two-links"
[traces.constant.steps]
rates = ["20 Mbit/s"]
delay = "2 ms"
[traces.free.steps]
rates = ["unlimited"]
duration = "1 h"
[nodes.first]
[nodes.second]
[[links]]
name = "radio"
between = ["first", "second"]
trace = "constant"
datapath = "relay"
[[links]]
name = "wire"
between = ["first", "second"]
trace = "free"
datapath = "relay"
[[traffic]]
name = "ping"
job = "ping"
link = "radio"
duration = "4 s"
"#;

    fn read_json(path: &Path) -> Value {
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    }

    /// Packets that the record counts at the receiving end of a link over all phases.
    fn delivered(directory: &Path, direction: &str) -> u64 {
        let text = fs::read_to_string(directory.join("events.ndjson")).unwrap();
        let events = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let ends = events.filter(|event| event["event"] == "phase-ended");
        ends.flat_map(|end| end["links"].as_array().unwrap().clone())
            .filter(|counters| counters["link"] == "radio" && counters["direction"] == direction)
            .map(|counters| counters["packets"].as_u64().unwrap())
            .sum()
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// Checks one file against what the record says of it and of its direction.
    fn check_file(directory: &Path, capture: &Value, phases: u64) {
        let file = capture["file"].as_str().unwrap();
        let (comments, torn) = comments(&fs::read(directory.join(file)).unwrap()).unwrap();
        let packets = u64::try_from(comments.len()).unwrap();
        assert_eq!((torn, Some(packets)), (0, capture["packets"].as_u64()));
        assert_eq!(capture["missed_packets"], 0, "{capture}");
        assert_eq!(capture["reason"], Value::Null, "{capture}");
        let mut let_go = 0;
        for comment in &comments {
            let (arrival, due, achieved) = moments(comment).unwrap_or_else(|| panic!("{comment}"));
            let due = due.unwrap_or_else(|| {
                let_go += 1;
                arrival
            });
            assert!(arrival <= due && due <= achieved, "{comment}");
        }
        let delivered = delivered(directory, capture["direction"].as_str().unwrap());
        println!("{file}: {packets} packets, {let_go} let go; {delivered} delivered by the record");
        assert!(delivered > 0);
        let most = delivered + let_go + phases * CLOSING_PACKETS;
        assert!((delivered..=most).contains(&packets), "{capture}");
    }

    #[test]
    #[ignore = "needs root"]
    fn every_packet_of_a_run_is_captured_with_when_it_came_was_due_and_left() {
        let _alone = exclusive();
        let sandbox = Sandbox::new(BINARY).with_shared_cache();
        let before = System::look("");
        let summary = sandbox
            .play(QUICKSTART, &[&["--pcap"][..], &SHORTEST].concat())
            .json();
        before.expect_clean_within(30_000);
        let directory = sandbox.path(summary["run_dir"].as_str().unwrap());
        let files = ["radio-down.pcapng", "radio-up.pcapng"];
        assert_eq!(names(&directory.join("captures")), files);
        let captures = summary["captures"].as_array().unwrap();
        let phases = u64::try_from(summary["jobs"].as_array().unwrap().len()).unwrap();
        assert_eq!(captures.len(), files.len());
        for (capture, file) in captures.iter().zip(files) {
            assert_eq!(capture["file"], format!("captures/{file}"));
            check_file(&directory, capture, phases);
        }
        let manifest = read_json(&directory.join("manifest.json"));
        let report = fs::read_to_string(directory.join("report.html")).unwrap();
        for file in files {
            let path = format!("captures/{file}");
            let mut listed = manifest["files"].as_array().unwrap().iter();
            assert!(listed.any(|entry| entry["path"] == path), "{path}");
            assert!(report.contains(&path), "{path}");
        }
        let environment = read_json(&directory.join("environment.json"));
        let command = environment["command"].as_str().unwrap();
        assert!(command.ends_with(" --pcap"), "{command}");
    }

    #[test]
    #[ignore = "needs root"]
    fn a_link_that_cannot_be_captured_is_named_and_the_others_are_captured() {
        let _alone = exclusive();
        let sandbox = Sandbox::new(BINARY);
        let before = System::look("");
        let summary = sandbox.play(TWO_LINKS, &["--pcap"]).json();
        before.expect_clean_within(30_000);
        let directory = sandbox.path(summary["run_dir"].as_str().unwrap());
        let files = ["radio-down.pcapng", "radio-up.pcapng"];
        assert_eq!(names(&directory.join("captures")), files);
        let captures = summary["captures"].as_array().unwrap();
        for capture in captures {
            if capture["link"] == "radio" {
                check_file(&directory, capture, 1);
                continue;
            }
            assert_eq!(capture["file"], Value::Null);
            let reason = capture["reason"].as_str().unwrap();
            assert!(reason.contains("mode low-latency"), "{reason}");
        }
        assert_eq!(captures.len(), 4);
        let mut warnings = summary["warnings"].as_array().unwrap().iter();
        let is_named = |warning: &Value| {
            let text = warning.as_str().unwrap();
            text.starts_with("link wire is not captured")
        };
        assert!(warnings.any(is_named), "{}", summary["warnings"]);
    }

    /// The only capture of that name in the sandbox, wherever its run directory is by now.
    fn capture(sandbox: &Sandbox, name: &str) -> Option<PathBuf> {
        let runs = fs::read_dir(sandbox.path("output")).ok()?.flatten();
        let files = runs.map(|run| run.path().join("captures").join(name));
        files.into_iter().find(|file| file.is_file())
    }

    #[test]
    #[ignore = "needs root"]
    fn what_was_captured_can_be_read_when_who_writes_it_is_killed() {
        let _alone = exclusive();
        let sandbox = Sandbox::new(BINARY);
        let marker = marker();
        let before = System::look(&marker);
        sandbox.write("experiment.toml", TWO_LINKS);
        let line = [
            "run",
            "experiment.toml",
            "--output",
            "output",
            "-q",
            "--pcap",
        ];
        let running = sandbox.command(line).spawn().unwrap();
        let has_packets = || {
            let file = capture(&sandbox, "radio-up.pcapng");
            let bytes = file
                .and_then(|file| fs::read(file).ok())
                .unwrap_or_default();
            comments(&bytes).is_ok_and(|(comments, _)| comments.len() > 10)
        };
        assert!(within_ms(120_000, has_packets), "nothing was captured");
        let processes = System::look(&marker).since(&before);
        let agent = processes.iter().find_map(|one| match one {
            Trace::Process(pid, _, name) if name.contains("agent serve") => Some(*pid),
            _ => None,
        });
        let agent = Pid::from_raw(i32::try_from(agent.unwrap()).unwrap());
        kill(agent, Signal::SIGKILL).unwrap();
        let finished = finish(running, 120);
        assert_ne!(finished.code(), Some(0), "{}", finished.told());
        before.expect_clean_within(60_000);
        let [run] = names(&sandbox.path("output")).try_into().unwrap();
        assert!(run.ends_with(".interrupted"), "{run}");
        let directory = sandbox.path("output").join(run);
        let summary = read_json(&directory.join("summary.json"));
        let listed = |name: &str| {
            let path = format!("captures/{name}");
            let mut captures = summary["captures"].as_array().unwrap().iter();
            let found = captures.find(|capture| capture["file"] == *path);
            found.unwrap_or_else(|| panic!("{path}: {}", summary["captures"]))
        };
        for name in ["radio-down.pcapng", "radio-up.pcapng"] {
            let file = fs::read(directory.join("captures").join(name)).unwrap();
            let (comments, torn) = comments(&file).unwrap();
            println!("{name}: {} packets, {torn} bytes torn", comments.len());
            assert!(!comments.is_empty());
            assert!(comments.iter().all(|comment| moments(comment).is_some()));
            let capture = listed(name);
            let count = |count: usize| Some(u64::try_from(count).unwrap());
            assert_eq!(capture["packets"].as_u64(), count(comments.len()));
            assert_eq!(capture["bytes"].as_u64(), count(file.len()));
            assert_eq!(
                capture["cut_bytes"].as_u64(),
                count(torn).filter(|torn| *torn > 0)
            );
            assert_eq!(capture["missed_packets"], Value::Null);
            let reason = capture["reason"].as_str().unwrap();
            assert!(reason.contains("the agent ended"), "{reason}");
        }
        sandbox
            .run(180, ["report".as_ref(), directory.as_os_str()])
            .expect_code(0);
    }
}
