//! Nodes with real namespaces, control groups and processes: what jobs may do, and that nothing
//! is left, whoever is killed and when.

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::CommandExt;
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Stdio};
    use std::sync::Arc;

    use hexloop_agent::cgroup::Controllers;
    use hexloop_agent::configuration::Configuration;
    use hexloop_agent::guardian::{self, Guardian, replay_leftovers};
    use hexloop_agent::node;
    use hexloop_agent::play::{ControlDesk, EventSink, PlayInput, Stage, StopWish, play};
    use hexloop_agent::privilege::{self, Privilege};
    use hexloop_agent::process::{ProcessIdentity, SelfCommand};
    use hexloop_agent::telemetry::sources::MeterSources;
    use hexloop_proto::{Event, EventBody};
    use hexloop_telemetry::{Origin, Places};
    use hexloop_topologies::plan::{
        CalibrationPlan, CommandPlan, CpuQuota, FaultPlan, MachinePlan, ModelPlan, ModelSource,
        NodeIsolation, NodePlan, PLAN_SCHEMA, PhasePlan, Plan, VerdictBounds,
    };
    use hexloop_workloads::clock;
    use hexloop_workloads::job::{
        JobCommand, JobEvent, JobSpec, JobTotals, Outcome, Placement, RequestRecord,
    };
    use hexloop_workloads::request::RequestStream;
    use hexloop_workloads::wire::PayloadBytes;
    use nix::sys::signal::Signal;
    use tokio::sync::mpsc;

    /// This test program in the part of `hexloop agent PART`: the harness runs one test, and
    /// what follows `--` is for [`plays_the_part_it_is_given`].
    fn this_program() -> SelfCommand {
        let arguments = [
            "--exact",
            "tests::plays_the_part_it_is_given",
            "--nocapture",
            "--",
        ];
        SelfCommand::with_arguments(arguments.iter().map(Into::into).collect())
    }

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

    fn say(event: &JobEvent) {
        println!("{}", serde_json::to_string(event).unwrap());
    }

    /// A job without a model: answers every request at once, and says on standard error what it
    /// is allowed to do.
    fn pretend_job() {
        let mut lines = std::io::stdin().lines();
        let spec: JobSpec = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(spec.secret.len(), 64);
        println!();
        let status = fs::read_to_string("/proc/self/status").unwrap();
        for name in [
            "Uid:",
            "Groups:",
            "CapEff:",
            "CapPrm:",
            "CapBnd:",
            "NoNewPrivs:",
        ] {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            eprintln!(
                "{}",
                line.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
            );
        }
        let mut names: Vec<String> = std::env::vars().map(|(name, _)| name).collect();
        names.sort();
        eprintln!("environment {}", names.join(","));
        let descriptors = fs::read_dir("/proc/self/fd").unwrap().count();
        // Three standard ones, and the one that lists them.
        eprintln!("descriptors {}", descriptors - 1);
        eprintln!(
            "host {}",
            fs::read_to_string("/proc/sys/kernel/hostname")
                .unwrap()
                .trim()
        );
        eprintln!(
            "model {}",
            fs::read_to_string(spec.model_directory.join("config.json")).unwrap()
        );
        let write = fs::write(spec.model_directory.join("mine"), "x").is_err();
        eprintln!("model is read-only: {write}");
        say(&JobEvent::Ready {
            weight_bytes: 7,
            engine_path: "pretended".to_owned(),
        });
        let start = lines.next().unwrap().unwrap();
        assert!(
            matches!(serde_json::from_str(&start), Ok(JobCommand::Start { .. })),
            "{start}"
        );
        say(&JobEvent::Request(RequestRecord {
            id: 0,
            scheduled_ns: 1,
            sent_ns: 2,
            token_ns: vec![3],
            prompt_tokens: 1,
            tokens: vec![5],
            outcome: Outcome::Completed,
            payload: PayloadBytes { up: 0, down: 0 },
        }));
        say(&JobEvent::Idle);
        let stop = lines.next().unwrap().unwrap();
        assert!(
            matches!(serde_json::from_str(&stop), Ok(JobCommand::Stop)),
            "{stop}"
        );
        let payload = PayloadBytes { up: 0, down: 0 };
        say(&JobEvent::Done(JobTotals {
            payload,
            cpu_ns: 1,
            load_ns: 1,
        }));
    }

    fn node_plan(name: &str, index: u16, cpu_quota: Option<CpuQuota>) -> NodePlan {
        NodePlan {
            name: name.to_owned(),
            index,
            cpus: vec![0],
            cpu_quota,
            threads: 1,
            slowdown: None,
            isolation: NodeIsolation::default(),
        }
    }

    /// Two nodes without a link, one phase on the device, one command that leaves a daemon.
    fn plan(daemon: &str) -> Plan {
        let quota = CpuQuota {
            quota_us: 2000,
            period_us: 4000,
        };
        let daemonise = format!("setsid {daemon} 600 & setsid {daemon} 600 & echo left two");
        Plan {
            schema: PLAN_SCHEMA,
            experiment: "nodes".to_owned(),
            preset: None,
            seed: 1,
            nodes: vec![
                node_plan("<device>", 0, Some(quota)),
                node_plan("edge", 1, None),
            ],
            links: Vec::new(),
            cells: Vec::new(),
            uncalibrated: Vec::new(),
            machine: MachinePlan::default(),
            calibration: CalibrationPlan {
                flow_ns: 0,
                packet_payload_bytes: 0,
                probe_gap_ns: 0,
                window_ns: 0,
            },
            traffic: Vec::new(),
            model: Some(ModelPlan {
                source: ModelSource::Recipe("tiny".to_owned()),
                layers: 1,
                width: 1,
                bytes_per_activation: 4,
            }),
            phases: vec![PhasePlan {
                name: "device".to_owned(),
                placement: Placement::Device,
                device: "<device>".to_owned(),
                edge: "edge".to_owned(),
                link: "radio".to_owned(),
                edge_address: "10.0.0.2:7000".parse().unwrap(),
                requests: RequestStream {
                    arrivals_per_kilosecond: 1000,
                    prompt_tokens: 1,
                    output_tokens: 1,
                    arrivals_for_ns: 1_000_000_000,
                    deadline_ns: 1_000_000_000,
                },
                duration_ns: 20_000_000_000,
            }],
            studies: Vec::new(),
            events: Vec::new(),
            commands: vec![CommandPlan {
                name: "daemons".to_owned(),
                node: "edge".to_owned(),
                argv: ["sh", "-c", &daemonise].map(str::to_owned).to_vec(),
            }],
            verdict: VerdictBounds {
                rate_error_ppm: 0,
                delay_error_ns: 0,
                delay_error_ppm: 0,
                shaper_lateness_ns: 0,
                send_lateness_ppm: 0,
                backlogged_windows: 0,
                relay_cpu_ppm: 0,
                interrupt_cpu_ppm: 0,
                steal_ppm: None,
                timer_lateness_ns: None,
            },
            expectations: Vec::new(),
            faults: FaultPlan::default(),
        }
    }

    /// A program that does nothing for long, with a name of its own so that it can be counted.
    fn daemon_program(root: &Path) -> PathBuf {
        let name = format!("hxd{}", std::process::id());
        let path = root.join(name);
        let sleep = ["/bin/sleep", "/usr/bin/sleep"]
            .into_iter()
            .find(|p| Path::new(p).exists());
        fs::copy(sleep.unwrap(), &path).unwrap();
        path
    }

    fn directory_for_everybody() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let open = |path: &Path| {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(path, mode).unwrap();
        };
        open(root.path());
        let model = root.path().join("model");
        fs::create_dir(&model).unwrap();
        fs::write(model.join("config.json"), "{}").unwrap();
        open(&model);
        root
    }

    fn stage(root: &Path, privilege: Privilege) -> Stage {
        let state = root.join("state");
        Stage {
            program: this_program(),
            privilege,
            credentials: (privilege == Privilege::Root).then_some((65_534, 65_534)),
            job_user: "nobody".to_owned(),
            controllers: Controllers::detect(),
            guardian: Arc::new(Guardian::start_as(&this_program(), &state, "test").unwrap()),
            meters: MeterSources::at(Places {
                root: "/nowhere".into(),
                nvml: None,
                with_nvml: false,
                origin: Origin::Stub,
            }),
            allowed: Configuration::nothing(),
        }
    }

    fn input(root: &Path, plan: Plan) -> PlayInput {
        PlayInput {
            plan,
            traces: BTreeMap::new(),
            model_directory: Some(root.join("model")),
        }
    }

    fn play_to_the_end(stage: &Stage, input: &PlayInput) -> Vec<Event> {
        let (sender, mut receiver) = mpsc::channel(4096);
        let events = Arc::new(EventSink::new(sender));
        let desk = ControlDesk::default();
        play(stage, input, &events, &StopWish::default(), &desk);
        drop(events);
        std::iter::from_fn(move || receiver.blocking_recv()).collect()
    }

    /// An agent that plays the plan of [`plan`] over and over until it is killed.
    fn pretend_agent(root: &Path) {
        let privilege = privilege::acquire().unwrap();
        let stage = stage(root, privilege);
        println!("READY {}", stage.guardian.process_id());
        let daemon = fs::read_to_string(root.join("daemon")).unwrap();
        let mut plan = plan(&daemon);
        plan.phases[0].requests.arrivals_per_kilosecond = 0;
        loop {
            let events = play_to_the_end(&stage, &input(root, plan.clone()));
            assert!(!events.is_empty());
        }
    }

    /// Takes what privilege there is, plays the plan once and prints the events.
    fn play_once_as_ordinary_user(root: &Path) {
        let privilege = privilege::acquire().unwrap();
        assert_eq!(privilege, Privilege::UserNamespace);
        let stage = stage(root, privilege);
        let daemon = fs::read_to_string(root.join("daemon")).unwrap();
        for event in play_to_the_end(&stage, &input(root, plan(&daemon))) {
            println!("EVENT {}", serde_json::to_string(&event).unwrap());
        }
        Arc::into_inner(stage.guardian).unwrap().finish().unwrap();
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
