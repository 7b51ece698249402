//! The main job, end to end, as a user runs it.

#![forbid(unsafe_code)]

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use hexloop_tests::experiment::{QUICKSTART, SHORTEST};
    use hexloop_tests::points::{Answer, Points};
    use hexloop_tests::sandbox::{Sandbox, finish};
    use hexloop_tests::summary::check;
    use hexloop_tests::system::{System, exclusive};
    use nix::sys::signal::{Signal, kill};
    use serde_json::Value;

    const BINARY: &str = env!("CARGO_BIN_EXE_hexloop-under-test");

    fn run_directory(sandbox: &Sandbox, summary: &Value) -> std::path::PathBuf {
        sandbox.path(summary["run_dir"].as_str().unwrap())
    }

    fn events(directory: &Path) -> Vec<Value> {
        let text = fs::read_to_string(directory.join("events.ndjson")).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// What must be the same for the same seed: id, due time and prompt length of every request.
    fn schedule(events: &[Value]) -> Vec<String> {
        let mut schedule: Vec<String> = requests(events)
            .map(|(phase, record)| {
                let (id, due) = (&record["id"], &record["scheduled_ns"]);
                format!("{phase} {id} {due} {}", record["prompt_tokens"])
            })
            .collect();
        schedule.sort();
        schedule
    }

    fn requests(events: &[Value]) -> impl Iterator<Item = (&Value, &Value)> {
        let requests = events.iter().filter(|event| event["event"] == "request");
        requests.map(|event| (&event["phase"], &event["record"]))
    }

    #[test]
    #[ignore = "needs root"]
    fn a_smoke_run_holds_its_formulas_and_leaves_nothing_behind() {
        let _alone = exclusive();
        let sandbox = Sandbox::new(BINARY).with_shared_cache();
        let before = System::look("");
        let summary = sandbox.play(QUICKSTART, &["--preset", "smoke"]).json();
        before.expect_clean_within(30_000);
        let directory = run_directory(&sandbox, &summary);
        let plan = fs::read_to_string(directory.join("plan.json")).unwrap();
        let plan = serde_json::from_str(&plan).unwrap();
        let found = check(&summary, &plan, &events(&directory)).unwrap_or_else(|problems| {
            panic!("{}", problems.join("\n"));
        });
        println!("{}", found.join("\n"));

        // The report can be made again from the records alone, byte for byte.
        let report = directory.join("report.html");
        let first = fs::read(&report).unwrap();
        sandbox
            .run(180, ["report".as_ref(), directory.as_os_str()])
            .expect_code(0);
        assert!(
            first == fs::read(&report).unwrap(),
            "report.html came out differently"
        );
        let text = String::from_utf8(first).unwrap();
        assert!(
            text.contains("<html") && !text.contains("src=\"http"),
            "not self-contained"
        );
    }

    #[test]
    #[ignore = "needs root"]
    fn over_quic_the_same_tokens_come_with_the_same_payload_in_other_packets() {
        let _alone = exclusive();
        let sandbox = Sandbox::new(BINARY).with_shared_cache();
        let before = System::look("");
        let over_quic = ["edge", "split"].map(|phase| format!("phases.{phase}.transport=\"quic\""));
        let [edge, split] = &over_quic;
        let quic = ["--set", edge, "--set", split];
        let arguments: Vec<&str> = SHORTEST.into_iter().chain(quic).collect();
        let summary = sandbox.play(QUICKSTART, &arguments).json();
        before.expect_clean_within(30_000);
        let directory = run_directory(&sandbox, &summary);
        let plan = fs::read_to_string(directory.join("plan.json")).unwrap();
        let plan = serde_json::from_str(&plan).unwrap();
        let found = check(&summary, &plan, &events(&directory)).unwrap_or_else(|problems| {
            panic!("{}", problems.join("\n"));
        });
        println!("{}", found.join("\n"));
        let jobs = summary["jobs"].as_array().unwrap();
        assert_eq!(jobs.len(), 3);
        assert_eq!(jobs[0]["transport"], "tcp");
        for job in &jobs[1..] {
            assert_eq!(job["transport"], "quic");
            for account in [&job["wire_up"], &job["wire_down"]] {
                // Ethernet 14, IPv4 20, UDP 8.
                assert_eq!(account["header_bytes_per_packet"], 42);
                let bytes = |key: &str| account[key].as_u64().unwrap();
                assert_eq!(bytes("formula_bytes"), bytes("counted_bytes"));
                assert!(bytes("quic_bytes") > bytes("payload_bytes"), "{account}");
                println!("{}: {account}", job["phase"]);
            }
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn a_job_killed_over_quic_ends_the_run_with_its_name_before_the_other_side_can_know() {
        let _alone = exclusive();
        let sandbox = Sandbox::new(BINARY).with_shared_cache();
        let before = System::look("");
        let points = Points::listen(&sandbox.path("points"));
        let looked = before.clone();
        points.decide(move |point, _| {
            // The second phase has a job on either node.
            if point.name == "phase-plays" && point.before == 1 {
                let jobs = looked.new_processes(&["agent job"]);
                assert_eq!(jobs.len(), 2);
                kill(jobs[0], Signal::SIGKILL).unwrap();
            }
            Answer::Go
        });
        sandbox.write("experiment.toml", QUICKSTART);
        let mut arguments = vec!["run", "experiment.toml", "--output", "output"];
        arguments.extend(SHORTEST);
        arguments.extend(["--set", "phases.edge.transport=\"quic\""]);
        let mut command = sandbox.command(&arguments);
        command.env("HEXLOOP_FAILPOINTS", sandbox.path("points"));
        let finished = finish(command.spawn().unwrap(), 240);
        let expected = ["phase edge", "it ended too early, with signal SIGKILL"];
        finished.expect_code(1).expect_error(&expected);
        let told = finished.told();
        assert!(!told.contains("nobody listens"), "{told}");
        before.expect_clean_within(30_000);
    }

    #[test]
    #[ignore = "needs root"]
    fn markup_in_a_name_is_harmless() {
        let _alone = exclusive();
        let sandbox = Sandbox::new(BINARY).with_shared_cache();
        let before = System::look("");
        let name = "<script>alert(1)</script>";
        let quoted = format!("\"{name}\"");
        let text = QUICKSTART
            .replace("[nodes.device]", &format!("[nodes.{quoted}]"))
            .replace("between = [\"device\"", &format!("between = [{quoted}"))
            .replace("\ndevice = \"device\"", &format!("\ndevice = {quoted}"));
        let summary = sandbox.play(&text, &SHORTEST).json();
        before.expect_clean_within(30_000);
        let report = run_directory(&sandbox, &summary).join("report.html");
        let report = fs::read_to_string(report).unwrap();
        assert!(
            !report.contains("<script>alert"),
            "the report holds the markup itself"
        );
        assert!(
            report.contains("&lt;script&gt;alert"),
            "the report does not name the node"
        );
    }

    #[test]
    #[ignore = "needs root"]
    fn the_same_seed_gives_the_same_plan_schedule_and_tokens() {
        let _alone = exclusive();
        let sandbox = Sandbox::new(BINARY).with_shared_cache();
        let arguments: Vec<&str> = ["--seed", "7"].into_iter().chain(SHORTEST).collect();
        let first = run_directory(&sandbox, &sandbox.play(QUICKSTART, &arguments).json());
        let second = run_directory(&sandbox, &sandbox.play(QUICKSTART, &arguments).json());
        assert_ne!(first, second, "two runs, one directory");

        let plans = [&first, &second].map(|run| fs::read(run.join("plan.json")).unwrap());
        assert!(plans[0] == plans[1], "the plans differ");
        let events = [&first, &second].map(|run| events(run));
        assert_eq!(schedule(&events[0]), schedule(&events[1]));
        let mut compared = 0;
        for (phase, record) in requests(&events[0]) {
            let same = |(other_phase, other): &(&Value, &Value)| {
                *other_phase == phase && other["id"] == record["id"]
            };
            let (_, other) = requests(&events[1]).find(same).unwrap();
            // A request that one of the runs could not finish has fewer tokens, not other ones.
            let tokens = [record, other].map(|one| one["tokens"].as_array().unwrap().clone());
            let common = tokens[0].len().min(tokens[1].len());
            assert_eq!(
                tokens[0][..common],
                tokens[1][..common],
                "{phase} {}",
                record["id"]
            );
            compared += common;
        }
        assert!(compared > 0, "no tokens were compared");
    }
}
