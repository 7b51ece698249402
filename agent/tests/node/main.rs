//! Nodes with real namespaces, control groups and processes: what jobs may do, and that nothing
//! is left, whoever is killed and when.

#[cfg(test)]
mod parts;
#[cfg(test)]
mod setting;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::CommandExt;
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Stdio};
    use std::sync::Arc;

    use hexloop_agent::cgroup::Controllers;
    use hexloop_agent::guardian::{self, replay_leftovers};
    use hexloop_agent::node;
    use hexloop_agent::play::{ControlDesk, EventSink, Stage, StopWish, play};
    use hexloop_agent::privilege::Privilege;
    use hexloop_agent::process::ProcessIdentity;
    use hexloop_proto::{Event, EventBody};
    use hexloop_workloads::clock;
    use nix::sys::signal::Signal;
    use tokio::sync::mpsc;

    use crate::parts::{play_once_as_ordinary_user, pretend_agent, pretend_job};
    use crate::setting::{
        daemon_program, directory_for_everybody, input, plan, play_to_the_end, stage, this_program,
    };

    /// Not a test of its own: other tests start this program again to play a part.
    #[test]
    fn plays_the_part_it_is_given() {
        let arguments: Vec<String> = std::env::args().skip_while(|a| a != "--").skip(1).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        match arguments[..] {
            ["guard", "--ledger", ledger] => {
                guardian::run(Path::new(ledger)).unwrap();
            }
            ["init"] => node::init::run().unwrap(),
            ["job"] => pretend_job(),
            ["agent", directory] => pretend_agent(Path::new(directory)),
            ["ordinary", directory] => play_once_as_ordinary_user(Path::new(directory)),
            _ => assert!(arguments.is_empty(), "{arguments:?}"),
        }
    }

    fn bodies(events: &[Event], wanted: fn(&EventBody) -> bool) -> Vec<&EventBody> {
        events
            .iter()
            .map(|event| &event.body)
            .filter(|body| wanted(body))
            .collect()
    }

    fn assert_clean_end(events: &[Event]) {
        let last = &events.last().unwrap().body;
        let EventBody::TakenDown {
            leftovers,
            energy_j,
            ..
        } = last
        else {
            panic!("{events:?}")
        };
        assert!(leftovers.is_empty(), "{events:?}");
        assert!(energy_j.is_some(), "{events:?}");
    }

    /// Everything of ours that is left on this machine: processes whose command line or working
    /// directory names `root` or the daemon, control groups, ledgers.
    fn leftovers(root: &Path, daemon: &str) -> Vec<String> {
        let mut left = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
                continue;
            };
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let ours = line.contains(daemon) || line.contains(&*root.to_string_lossy());
            let alive = ProcessIdentity::of(pid).is_ok_and(ProcessIdentity::is_alive);
            if pid != std::process::id() && ours && alive {
                left.push(format!("{pid} {line}"));
            }
        }
        let ledgers = root.join("state/ledgers");
        for entry in fs::read_dir(ledgers).into_iter().flatten().flatten() {
            left.push(entry.path().display().to_string());
        }
        left
    }

    fn groups() -> Vec<PathBuf> {
        let controllers = Controllers::detect();
        let parents = [controllers.cpu, controllers.cpuset, controllers.accounting];
        let parents = parents
            .into_iter()
            .flatten()
            .map(|controller| controller.parent);
        let mut groups: Vec<PathBuf> = parents
            .flat_map(|parent| fs::read_dir(parent).into_iter().flatten().flatten())
            .map(|entry| entry.path())
            .filter(|path| {
                path.file_name()
                    .is_some_and(|n| n.as_encoded_bytes().starts_with(b"hx-"))
            })
            .collect();
        groups.sort();
        groups.dedup();
        groups
    }

    #[test]
    #[ignore = "needs root"]
    fn a_phase_runs_as_planned_and_its_jobs_have_no_privilege_at_all() {
        let root = directory_for_everybody();
        let daemon = daemon_program(root.path());
        let stage = stage(root.path(), Privilege::Root);
        let plan = plan(&daemon.to_string_lossy());
        let events = play_to_the_end(&stage, &input(root.path(), plan));
        let failed = bodies(&events, |body| matches!(body, EventBody::Failed { .. }));
        assert!(failed.is_empty(), "{failed:?}");
        assert_clean_end(&events);
        let told: Vec<&str> = events
            .iter()
            .filter_map(|event| match &event.body {
                EventBody::Log { line, .. } => Some(line.as_str()),
                _ => None,
            })
            .collect();
        for line in [
            "Uid: 65534 65534 65534 65534",
            "Groups:",
            "CapEff: 0000000000000000",
            "CapPrm: 0000000000000000",
            "CapBnd: 0000000000000000",
            "NoNewPrivs: 1",
            "descriptors 3",
            "host -device-",
            "model {}",
            "model is read-only: true",
            "left two",
        ] {
            assert!(told.contains(&line), "{line} is not in {told:?}");
        }
        let environment = told
            .iter()
            .find(|line| line.starts_with("environment"))
            .unwrap();
        let allowed = ["CANDLE_NUM_THREADS", "LANG", "PATH", "RAYON_NUM_THREADS"];
        let names = environment.trim_start_matches("environment ");
        assert!(
            names.split(',').all(|name| allowed.contains(&name)),
            "{environment}"
        );
        let is_request = |body: &EventBody| matches!(body, EventBody::Request { .. });
        assert_eq!(bodies(&events, is_request).len(), 1);
        let ended = bodies(&events, |body| matches!(body, EventBody::PhaseEnded(_)));
        let EventBody::PhaseEnded(end) = ended[0] else {
            panic!("one phase ended")
        };
        assert_eq!(end.jobs.len(), 2);
        assert!(end.jobs[0].totals.is_some());
        assert!(
            end.jobs[0].cpu_ns > 0 && end.jobs[0].memory_peak_bytes > 0,
            "{end:?}"
        );
        let Stage { guardian, .. } = stage;
        Arc::into_inner(guardian).unwrap().finish().unwrap();
        assert_eq!(
            leftovers(root.path(), &daemon.to_string_lossy()),
            Vec::<String>::new()
        );
    }

    #[test]
    #[ignore = "needs root"]
    fn quota_and_cpus_are_read_back_and_a_daemon_does_not_outlive_its_phase() {
        let root = directory_for_everybody();
        let daemon = daemon_program(root.path());
        let stage = stage(root.path(), Privilege::Root);
        let events = play_to_the_end(&stage, &input(root.path(), plan(&daemon.to_string_lossy())));
        let ups = bodies(&events, |body| matches!(body, EventBody::NodeUp(_)));
        assert_eq!(ups.len(), 2);
        let EventBody::NodeUp(device) = ups[0] else {
            panic!("a node")
        };
        assert_eq!(device.pinning.got_cpus, [0]);
        assert_eq!(device.pinning.asked_quota, Some(0.5));
        if device.pinning.quota_by == "stop-continue" {
            assert_eq!(device.pinning.got_quota, None);
        } else {
            assert_eq!(device.pinning.got_quota, Some(0.5));
            assert_eq!(device.pinning.got_period_us, Some(4000));
        }
        let daemon = daemon.to_string_lossy();
        let running: Vec<String> = leftovers(root.path(), &daemon)
            .into_iter()
            // Whole words: names of ledgers have numbers in them too.
            .filter(|line| line.split_whitespace().any(|word| word == "600"))
            .collect();
        assert_eq!(running, Vec::<String>::new());
    }

    struct Agent {
        child: Child,
        guardian: ProcessIdentity,
        output: BufReader<std::process::ChildStdout>,
    }

    fn start_agent(root: &Path) -> Agent {
        let mut command = this_program().part("agent");
        command
            .arg(root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let guardian = loop {
            line.clear();
            assert_ne!(
                output.read_line(&mut line).unwrap(),
                0,
                "the agent ended early"
            );
            if let Some((_, rest)) = line.split_once("READY ") {
                break rest.trim().parse().unwrap();
            }
        };
        Agent {
            child,
            guardian: ProcessIdentity::of(guardian).unwrap(),
            output,
        }
    }

    /// Kills the agent `delay_ns` after it was ready, and the guardian too if that is wanted.
    fn kill_after(root: &Path, delay_ns: u64, guardian_too: bool) -> u64 {
        let mut agent = start_agent(root);
        clock::sleep_until(clock::now() + delay_ns);
        if guardian_too {
            agent.guardian.signal(Signal::SIGKILL).unwrap();
        }
        agent.child.kill().unwrap();
        let killed = clock::now();
        agent.child.wait().unwrap();
        while agent.guardian.is_alive() {
            assert!(
                clock::now() < killed + 60_000_000_000,
                "the guardian does not end"
            );
            clock::sleep_until(clock::now() + 1_000_000);
        }
        drop(agent.output);
        clock::now() - killed
    }

    /// Other tests of this program make groups too, so that these two run by themselves.
    #[test]
    #[ignore = "needs root"]
    fn an_agent_killed_at_any_moment_leaves_nothing_behind() {
        let root = directory_for_everybody();
        let daemon = daemon_program(root.path());
        fs::write(root.path().join("daemon"), &*daemon.to_string_lossy()).unwrap();
        let daemon = daemon.to_string_lossy().into_owned();
        let mut slowest_ns = 0;
        for round in 0..20_u64 {
            let guardian_too = round % 4 == 3;
            let took_ns = kill_after(root.path(), round * 23_000_000, guardian_too);
            if guardian_too {
                for report in replay_leftovers(&root.path().join("state")).unwrap() {
                    assert!(report.is_clean(), "{report:?}");
                }
            } else {
                slowest_ns = slowest_ns.max(took_ns);
            }
            // Processes of a namespace end a moment after its first.
            let deadline = clock::now() + 60_000_000_000;
            let look = || (leftovers(root.path(), &daemon), groups());
            while look() != (Vec::new(), Vec::new()) {
                assert!(clock::now() < deadline, "round {round}: {:?}", look());
                clock::sleep_until(clock::now() + 1_000_000);
            }
        }
        println!("the slowest guardian took {} ms", slowest_ns / 1_000_000);
    }

    #[test]
    #[ignore = "needs root"]
    fn a_stopped_plan_is_taken_down_and_says_why() {
        let root = directory_for_everybody();
        let daemon = daemon_program(root.path());
        let stage = stage(root.path(), Privilege::Root);
        let (sender, mut receiver) = mpsc::channel(4096);
        let events = Arc::new(EventSink::new(sender));
        let wish = StopWish::default();
        wish.stop("the test has seen enough");
        play(
            &stage,
            &input(root.path(), plan(&daemon.to_string_lossy())),
            &events,
            &wish,
            &ControlDesk::default(),
        );
        drop(events);
        let events: Vec<Event> = std::iter::from_fn(|| receiver.blocking_recv()).collect();
        let failed = bodies(&events, |body| matches!(body, EventBody::Failed { .. }));
        let EventBody::Failed { message, exit_code } = failed[0] else {
            panic!("a failure")
        };
        assert!(message.contains("seen enough"), "{message}");
        assert_eq!(*exit_code, 130);
        assert_clean_end(&events);
    }

    #[test]
    #[ignore = "needs root"]
    fn an_ordinary_user_gets_the_same_nodes_in_a_user_namespace() {
        let root = directory_for_everybody();
        let daemon = daemon_program(root.path());
        fs::write(root.path().join("daemon"), &*daemon.to_string_lossy()).unwrap();
        let state = root.path().join("state");
        fs::create_dir(&state).unwrap();
        std::os::unix::fs::chown(&state, Some(65_534), Some(65_534)).unwrap();
        // A copy that the user may start, wherever this program lies.
        let program = root.path().join("program");
        fs::copy("/proc/self/exe", &program).unwrap();
        // The harness runs its tests in threads, which may not enter a user namespace.
        let output = Command::new("unshare")
            .args(["--user", "--map-root-user"])
            .arg(&program)
            .args([
                "--exact",
                "tests::plays_the_part_it_is_given",
                "--nocapture",
            ])
            .args(["--", "ordinary"])
            .arg(root.path())
            .uid(65_534)
            .gid(65_534)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let events: Vec<Event> = text
            .lines()
            .filter_map(|line| line.split_once("EVENT "))
            .map(|(_, json)| serde_json::from_str(json).unwrap())
            .collect();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!events.is_empty(), "{text}{told}");
        let failed = bodies(&events, |body| matches!(body, EventBody::Failed { .. }));
        assert!(failed.is_empty(), "{failed:?}");
        let log = |wanted: &str| {
            events
                .iter()
                .any(|event| matches!(&event.body, EventBody::Log { line, .. } if line == wanted))
        };
        for line in [
            "CapEff: 0000000000000000",
            "CapBnd: 0000000000000000",
            "NoNewPrivs: 1",
        ] {
            assert!(log(line), "{line}: {events:?}");
        }
        assert!(log("model is read-only: true"), "{events:?}");
        assert_clean_end(&events);
        assert_eq!(
            leftovers(root.path(), &daemon.to_string_lossy()),
            Vec::<String>::new()
        );
    }
}
