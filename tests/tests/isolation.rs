//! What a run asks of its machine, with a machine in a directory and a stub of NVML in the place of
//! the real ones: set, read back, recorded, and put back whoever is killed.

#![forbid(unsafe_code)]

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::{Path, PathBuf};
    use std::process::Command;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use hexloop_nvml_stub::{GpuScript, Script};
    use hexloop_tests::points::{Answer, Point, Points, rounds, spread};
    use hexloop_tests::sandbox::{Finished, Sandbox, finish, within_ms};
    use hexloop_tests::system::{System, exclusive};
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;
    use serde_json::Value;

    const BINARY: &str = env!("CARGO_BIN_EXE_hexloop-under-test");

    const GPU: &str = "GPU-11111111-2222-3333-4444-555555555555";

    const EXPERIMENT: &str = r#"
schema = 1
name = "isolated"
[machine]
governor = "performance"
boost = false
move_interrupts = true
hugepages = "8 MiB"
cool_to = 45
[traces.constant.steps]
rates = ["20 Mbit/s"]
delay = "2 ms"
[nodes.first]
realtime = 5
memory = "local"
[nodes.second]
gpu = "0"
gpu_power_watts = 300
gpu_clock_mhz = 1200
gpu_persistence = true
[[links]]
name = "radio"
between = ["first", "second"]
trace = "constant"
datapath = "relay"
[[commands]]
name = "tell"
node = "second"
argv = ["sh", "-c", "echo sees $CUDA_VISIBLE_DEVICES"]
[[traffic]]
name = "ping"
job = "ping"
duration = "1 s"
"#;

    const ALLOWED: &str = "schema = 1\nsettings = [\"governor\", \"irq\", \"hugepages\", \
                           \"realtime\", \"nvml\"]\n";

    /// What can be set on the machine, and what it is at first.
    const SETTABLE: &[(&str, &str)] = &[
        ("sys/devices/system/cpu/cpufreq/boost", "1"),
        (
            "sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages",
            "2",
        ),
        ("proc/irq/24/smp_affinity_list", "0-3"),
    ];

    struct Machine {
        sandbox: Sandbox,
        root: PathBuf,
    }

    impl Machine {
        fn new() -> Machine {
            Machine::in_the_place_of(Sandbox::new(BINARY))
        }

        fn in_the_place_of(sandbox: Sandbox) -> Machine {
            let root = sandbox.path("machine");
            let mut files: BTreeMap<String, &str> = SETTABLE
                .iter()
                .chain(&[
                    ("sys/devices/system/cpu/online", "0-3"),
                    ("sys/devices/system/node/node0/cpulist", "0-3"),
                    ("sys/class/thermal/thermal_zone0/temp", "44100"),
                    ("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "2"),
                ])
                .map(|(name, text)| ((*name).to_owned(), *text))
                .collect();
            for cpu in 0..4 {
                let cpufreq = format!("sys/devices/system/cpu/cpu{cpu}/cpufreq");
                let offered = "performance powersave";
                files.insert(format!("{cpufreq}/scaling_governor"), "powersave");
                files.insert(format!("{cpufreq}/scaling_available_governors"), offered);
            }
            for (name, text) in files {
                let path = root.join(name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, text).unwrap();
            }
            sandbox.write("experiment.toml", EXPERIMENT);
            let machine = Machine { sandbox, root };
            machine.allow(ALLOWED);
            machine.script_gpu(GpuScript::default());
            machine
        }

        fn script_gpu(&self, gpu: GpuScript) {
            let script = Script {
                gpus: vec![GpuScript {
                    uuid: GPU.to_owned(),
                    ..gpu
                }],
                ..Script::default()
            };
            let text = serde_json::to_vec(&script).unwrap();
            self.sandbox.write("gpu.json", text);
        }

        fn allow(&self, text: &str) {
            let path = self.sandbox.write("agent.toml", text);
            fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
        }

        /// Calibrations are short where there are failpoints, whether somebody hears of them or not.
        fn run(&self, arguments: &[&str]) -> Finished {
            finish(self.command(arguments).spawn().unwrap(), 120)
        }

        fn command(&self, arguments: &[&str]) -> Command {
            let test = std::env::current_exe().unwrap();
            let mut command = self.sandbox.command(arguments);
            command
                .env("HEXLOOP_FAILPOINTS", self.sandbox.path("points"))
                .env("HEXLOOP_TEST_AGENT_TOML", self.sandbox.path("agent.toml"))
                .env("HEXLOOP_TELEMETRY_ROOT", &self.root)
                .env("HEXLOOP_NVML_STUB", self.sandbox.path("gpu.json"))
                .env(
                    "HEXLOOP_NVML_LIBRARY",
                    test.with_file_name("libhexloop_nvml_stub.so"),
                );
            command
        }

        fn play(&self) -> Finished {
            self.run(&["run", "experiment.toml", "--output", "output", "--json"])
        }

        /// Everything that can be set, the GPU's settings among them.
        fn settings(&self) -> Vec<String> {
            // Of a file the first line, as of the kernel's: what is written over a longer one leaves its end.
            let first_line = |text: String| text.lines().next().unwrap_or("").to_owned();
            let read = |path: &Path| first_line(fs::read_to_string(path).unwrap());
            let mut all: Vec<String> = SETTABLE
                .iter()
                .map(|(name, _)| read(&self.root.join(name)))
                .collect();
            all.extend((0..4).map(|cpu| {
                let name = format!("sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor");
                read(&self.root.join(name))
            }));
            let gpu = fs::read(self.sandbox.path("gpu.json.settings")).unwrap_or_default();
            let gpu: Value = serde_json::from_slice(&gpu).unwrap_or_default();
            let found = |key: &str, at_first: Value| match &gpu[GPU][key] {
                Value::Null => at_first.to_string(),
                value => value.to_string(),
            };
            all.extend([
                found("power_limit_mw", 700_000.into()),
                found("persistent", false.into()),
                found("locked_mhz", 0.into()),
            ]);
            all
        }
    }

    fn setting<'a>(summary: &'a Value, what: &str) -> &'a Value {
        let settings = summary["machine"]["settings"].as_array().unwrap();
        let named = |setting: &&Value| setting["what"].as_str().unwrap().contains(what);
        let found = settings.iter().find(named);
        found.unwrap_or_else(|| panic!("{what} is not among {settings:#?}"))
    }

    #[test]
    #[ignore = "needs root"]
    fn a_run_gets_the_machine_that_it_asks_for_and_puts_it_back() {
        let _alone = exclusive();
        let machine = Machine::new();
        let before = machine.settings();
        let finished = machine.play();
        // A busy machine may be found too busy to believe: that is 6, and a whole run.
        assert!(
            matches!(finished.code(), Some(0 | 6)),
            "{}",
            finished.told()
        );
        let summary = finished.json();
        assert_eq!(summary["status"], "complete", "{summary}");
        for (what, asked, got) in [
            ("governor of CPUs", "performance", "performance"),
            ("boost", "off", "off"),
            ("2048 KiB pages of NUMA node 0", "4 free", "6"),
            ("GPU of second", "0", GPU),
            ("persistence mode of", "on", "on"),
            ("power limit of", "300 W", "300 W"),
            ("locked clock of", "1200 MHz", "1200 MHz"),
            ("memory of first", "local", "all of it"),
        ] {
            let setting = setting(&summary, what);
            assert_eq!(
                (&setting["asked"], &setting["got"]),
                (&asked.into(), &got.into())
            );
            assert_ne!(setting["held"], false, "{setting}");
        }
        let threads = setting(&summary, "SCHED_FIFO of the processes of first");
        assert_eq!(threads["held"], true, "{threads}");
        let cooling = &summary["machine"]["cooling"];
        assert_eq!(
            cooling["after_c"], 40,
            "the GPU's, not the board's: {cooling}"
        );
        let noise = &summary["machine"]["noise"];
        assert!(
            noise["timer_lateness_us"]["n"].as_u64() > Some(100),
            "{noise}"
        );
        let unavailable = noise["unavailable"].as_array().unwrap();
        assert!(
            unavailable
                .iter()
                .any(|why| why.as_str().unwrap().contains("throttling"))
        );
        assert_eq!(machine.settings(), before);
        let directory = machine.sandbox.path(summary["run_dir"].as_str().unwrap());
        let events = fs::read_to_string(directory.join("events.ndjson")).unwrap();
        assert!(events.contains(&format!("sees {GPU}")), "the job's GPU");
        let page = fs::read_to_string(directory.join("report.html")).unwrap();
        assert!(page.contains("Others on this machine") && page.contains("as asked"));
    }

    /// The CPUs that this process may use, as the kernel lists them: `0-1,4`.
    fn usable_cpus() -> Vec<u32> {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let mut lines = status.lines();
        let list = lines.find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
        let ranges = list.unwrap().trim().split(',').map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            first.parse::<u32>().unwrap()..=last.parse::<u32>().unwrap()
        });
        ranges.flatten().collect()
    }

    #[test]
    #[ignore = "needs root"]
    fn a_node_s_cpus_are_beside_its_gpu_and_meters_that_are_asked_for_are_there_or_end_the_run() {
        let _alone = exclusive();
        let machine = Machine::new();
        // The second CPU is alone on a NUMA node with the GPU: without that, the first node of the
        // experiment would be put there, where no CPU is left over.
        let mut others = usable_cpus();
        let beside = others.remove(1);
        let others: Vec<String> = others.iter().map(u32::to_string).collect();
        for (name, text) in [
            ("sys/devices/system/node/node0/cpulist", others.join(",")),
            ("sys/devices/system/node/node1/cpulist", beside.to_string()),
            ("sys/bus/pci/devices/0000:17:00.0/numa_node", "1".to_owned()),
        ] {
            let path = machine.root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let with = |meters: &str| {
            let meters = format!("[machine]\nmeters = {meters}\n");
            let text = EXPERIMENT.replacen("[machine]\n", &meters, 1);
            let text = text.replacen("hugepages = \"8 MiB\"\n", "", 1);
            let text = text.replacen("memory = \"local\"\n", "", 1);
            machine.sandbox.write("experiment.toml", text);
            machine.play()
        };
        let finished = with("[\"any\", \"gpu\"]");
        assert!(
            matches!(finished.code(), Some(0 | 6)),
            "{}",
            finished.told()
        );
        let summary = finished.json();
        for (node, numa) in [("first", "0"), ("second", "1")] {
            let on = setting(&summary, &format!("NUMA nodes of the CPUs of {node}"));
            assert_eq!(on["got"], numa, "{on}");
        }
        let nodes = summary["nodes"].as_array().unwrap();
        assert_eq!(
            nodes[1]["got_cpus"],
            serde_json::json!([beside]),
            "{nodes:#?}"
        );
        let channels = summary["meters"]["channels"].as_array().unwrap();
        let counted = channels.iter().find(|channel| channel["counted"] == true);
        assert_eq!(counted.unwrap()["device"], GPU);

        for (asked, why) in [
            ("cpu", "no zone with a counter"),
            ("board", "no power or energy below"),
            ("plug", "nobody says where its lines come from"),
        ] {
            with(&format!("[\"gpu\", \"{asked}\"]"))
                .expect_code(4)
                .expect_error(&[&format!("`{asked}`"), why]);
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn what_is_not_allowed_or_not_there_ends_the_run_with_a_remedy_before_anything_is_made() {
        let _alone = exclusive();
        let machine = Machine::new();
        let before = machine.settings();
        machine.allow("schema = 1\nsettings = [\"governor\"]\n");
        machine
            .play()
            .expect_code(4)
            .expect_error(&["does not list `irq`"]);
        machine.allow(ALLOWED);
        for (from, to, parts) in [
            (
                "gpu = \"0\"",
                "gpu = \"GPU-0\"",
                ["there is no GPU `GPU-0`", GPU],
            ),
            (
                "gpu_power_watts = 300",
                "gpu_power_watts = 900",
                ["power limit", "offers 200 to 700 W"],
            ),
            (
                "\"performance\"",
                "\"schedutil\"",
                ["cannot be `schedutil`", "offers performance powersave"],
            ),
        ] {
            let text = EXPERIMENT.replacen(from, to, 1);
            assert_ne!(text, EXPERIMENT);
            machine.sandbox.write("experiment.toml", text);
            machine.play().expect_code(4).expect_error(&parts);
            assert_eq!(machine.settings(), before);
        }
        // A driver that refuses: what was set before it did is put back.
        machine.sandbox.write("experiment.toml", EXPERIMENT);
        machine.script_gpu(GpuScript {
            no_permission: vec!["set_limit".to_owned()],
            ..GpuScript::default()
        });
        let parts = ["cannot set the power limit of", "permission"];
        machine.play().expect_code(4).expect_error(&parts);
        assert_eq!(machine.settings(), before);
        machine.script_gpu(GpuScript::default());
        // The doctor tells all of it beforehand.
        machine.allow("schema = 1\nsettings = [\"nvml\"]\n");
        let told = machine.run(&["doctor"]).told();
        for part in [
            GPU,
            "\"governor\" to `settings`",
            "powersave, offered performance powersave",
        ] {
            assert!(told.contains(part), "{part}: {told}");
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn a_node_that_computes_on_a_gpu_runs_the_program_for_it_which_is_tried_before() {
        /// Takes its orders in the place of the program, and fails with what it was given.
        const STAND_IN: &str = r#"#!/bin/sh
if [ "$1" = probe ]; then
  echo '{"version":"VERSION","devices":[{"device":"cuda:0","engine_path":"stand-in"}],"then":""}'
else
  IFS= read -r orders
  orders=$(printf %s "$orders" | tr -d '"{}' | sed 's/.*\(device:cuda:0,precision:[a-z0-9]*\).*/\1/')
  echo "{\"failed\":{\"reason\":\"$1 of $0 on $CUDA_VISIBLE_DEVICES with $orders\"}}"
fi
"#;
        let _alone = exclusive();
        let machine = Machine::in_the_place_of(Sandbox::new(BINARY).with_shared_cache());
        let program = machine.sandbox.path("engine-cuda");
        let quickstart = hexloop_tests::experiment::QUICKSTART;
        machine.sandbox.write("experiment.toml", quickstart);
        let run = || {
            let mut arguments = vec!["run", "experiment.toml", "--output", "output"];
            arguments.extend(hexloop_tests::experiment::SHORTEST);
            arguments.extend(["--set", "nodes.device.device=cuda:0"]);
            arguments.extend(["--set", "nodes.device.precision=f16"]);
            let mut command = machine.command(&arguments);
            command.env("HEXLOOP_ENGINE_CUDA", &program);
            finish(command.spawn().unwrap(), 120)
        };
        let parts = ["node device: its `device` is a GPU", "cannot start"];
        run().expect_code(4).expect_error(&parts);
        machine
            .sandbox
            .write("engine-cuda", STAND_IN.replace("VERSION", "0.0.0"));
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        run()
            .expect_code(4)
            .expect_error(&["build both from one source"]);
        machine.sandbox.write(
            "engine-cuda",
            STAND_IN.replace("VERSION", env!("CARGO_PKG_VERSION")),
        );
        let told =
            format!("job of /tmp/hexloop-engine-cuda on {GPU} with device:cuda:0,precision:f16");
        run()
            .expect_code(1)
            .expect_error(&["the job on device failed", &told]);
    }

    #[test]
    #[ignore = "needs root"]
    fn a_machine_whose_agent_and_guardian_are_killed_is_put_back_by_undo() {
        let _alone = exclusive();
        let machine = Machine::new();
        let before = machine.settings();
        let points = Points::listen(&machine.sandbox.path("points"));
        points.decide(|point, pid| {
            let is_agent = point.part == "serve" && point.name == "machine-set";
            let is_guardian = point.part == "guard-agent" && point.name == "undo";
            if is_agent || is_guardian {
                let pid = Pid::from_raw(i32::try_from(pid).unwrap());
                // It may be gone already: that is what it is killed for.
                let _ = kill(pid, Signal::SIGKILL);
            }
            Answer::Go
        });
        let finished = machine.play();
        assert_ne!(finished.code(), Some(0), "{}", finished.told());
        let meanwhile = machine.settings();
        assert_ne!(
            meanwhile, before,
            "the guardian was killed before it could undo"
        );
        points.decide(|_, _| Answer::Go);
        machine.run(&["undo"]).expect_code(0);
        assert_eq!(machine.settings(), before);
    }

    const AGENT: &str = "agent serve";
    const GUARDIAN: &str = "agent guard";
    const CONTROLLER: &str = "run experiment.toml";

    /// Whom to kill at once; `GUARDIAN` is both.
    const VICTIMS: [&[&str]; 7] = [
        &[AGENT, GUARDIAN],
        &[GUARDIAN],
        &[AGENT],
        &[AGENT, GUARDIAN, CONTROLLER],
        &[CONTROLLER],
        &[GUARDIAN, CONTROLLER],
        &[AGENT, CONTROLLER],
    ];

    /// Steps that are struck in one round.
    const STEPS: usize = 5;

    #[test]
    #[ignore = "needs root"]
    fn whoever_is_killed_at_any_step_of_setting_a_machine_or_putting_it_back_it_is_as_before() {
        let _alone = exclusive();
        let machine = Machine::new();
        // How quiet the machine is matters to nobody here, and takes time.
        let experiment =
            EXPERIMENT.replacen("[machine]\n", "[machine]\nnoise_check = \"0 s\"\n", 1);
        machine.sandbox.write("experiment.toml", experiment);
        let system = System::look("");
        let points = Points::listen(&machine.sandbox.path("points"));
        points.decide(|_, _| Answer::Go);
        let played = machine.play();
        assert!(matches!(played.code(), Some(0 | 6)), "{}", played.told());
        let is_step = |point: &&Point| {
            let steps = ["step-recorded", "step-applied", "machine-set", "undo"];
            point.part == "serve" && steps.contains(&point.name.as_str())
        };
        let walked = points.so_far();
        let steps: Vec<&Point> = walked.iter().filter(is_step).collect();
        assert!(steps.len() > 15, "{steps:?}");
        let most = if rounds() > 1 { steps.len() } else { STEPS };
        let (mut struck, mut missed) = (0, Vec::new());
        for (number, point) in spread(&steps, most).into_iter().enumerate() {
            for round in 0..rounds().min(VICTIMS.len()) {
                let victims = VICTIMS[(number + round) % VICTIMS.len()];
                match killed_at(&machine, &system, &points, point, victims) {
                    true => struck += 1,
                    // Groups of nodes are undone in between, and their number is the machine's.
                    false => missed.push(point),
                }
            }
        }
        println!("struck {struck} times; not reached this time: {missed:?}");
        assert!(struck > missed.len(), "{struck} struck, {missed:?} missed");
    }

    /// Strikes once; whether the run came to that point.
    fn killed_at(
        machine: &Machine,
        system: &System,
        points: &Points,
        target: &Point,
        victims: &'static [&'static str],
    ) -> bool {
        let when = format!("{victims:?} killed at {target:?}");
        let settings = machine.settings();
        let (hit, target, before) = (
            Arc::new(AtomicBool::new(false)),
            target.clone(),
            system.clone(),
        );
        let hits = Arc::clone(&hit);
        points.decide(move |point, _| {
            if *point == target && !hits.swap(true, Ordering::SeqCst) {
                before.strike(victims);
            }
            Answer::Go
        });
        let played = machine.play();
        let everybody = [AGENT, GUARDIAN, CONTROLLER];
        let gone = within_ms(60_000, || system.new_processes(&everybody).is_empty());
        assert!(gone, "{when}: somebody survived: {}", played.told());
        points.decide(|_, _| Answer::Go);
        if victims.contains(&GUARDIAN) && victims.len() > 1 {
            // Nobody is left who could: the next start, or `undo`, does it.
            machine.run(&["undo"]).expect_code(0);
        }
        assert_eq!(machine.settings(), settings, "{when}");
        let ledgers = fs::read_dir(machine.sandbox.path("state/ledgers")).into_iter();
        assert_eq!(ledgers.flatten().count(), 0, "{when}");
        system.expect_clean_within(60_000);
        hit.load(Ordering::SeqCst)
    }
}
