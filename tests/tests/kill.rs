//! `kill -9` at random moments: whatever is killed, nothing stays behind.
//!
//! `HEXLOOP_KILL_ROUNDS` sets the number of rounds that hit (2 without it, 100 for a release), and
//! `HEXLOOP_KILL_SEED` the seed of the moments. Each round prints its moment and how long it took
//! until nothing was left. `HEXLOOP_KILL_BINARY` names another program to test, such as a release
//! build; its file must be called `hexloop-under-test`, because that is how its processes are told
//! from everybody else's.

#![forbid(unsafe_code)]

#[cfg(test)]
mod tests {
    use std::env;
    use std::fs;
    use std::process::Child;

    use hexloop_tests::experiment::{QUICKSTART, SHORTEST, quickstart_with};
    use hexloop_tests::sandbox::{Sandbox, finish, pid_of, within_ms};
    use hexloop_tests::system::{System, Trace, exclusive, marker};
    use hexloop_traces::stream;
    use hexloop_workloads::clock;
    use hexloop_workloads::request::open_unit;
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    const BINARY: &str = env!("CARGO_BIN_EXE_hexloop-under-test");

    /// Within how long nothing may be left: far more than it takes, which is printed, for the machine
    /// may be busy.
    const CLEAN_MS: u64 = 60_000;

    /// Whom to kill.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Victim {
        Controller,
        Agent,
        Everybody,
    }

    fn number(variable: &str, default: u64) -> u64 {
        env::var(variable).map_or(default, |text| text.parse().expect("a number"))
    }

    /// Processes of ours, the guardians too.
    fn ours(before: &System, marker: &str) -> Vec<(Pid, String)> {
        let process = |one| match one {
            Trace::Process(pid, _, name) => Some((Pid::from_raw(i32::try_from(pid).ok()?), name)),
            _ => None,
        };
        System::look(marker)
            .since(before)
            .into_iter()
            .filter_map(process)
            .collect()
    }

    /// Kills a victim; whether there was one to kill.
    fn strike(victim: Victim, controller: &Child, before: &System, marker: &str) -> bool {
        let is_victim = |(pid, name): &(Pid, String)| match victim {
            Victim::Controller => *pid == pid_of(controller),
            Victim::Agent => name.contains("agent serve"),
            Victim::Everybody => true,
        };
        let victims: Vec<Pid> = ours(before, marker)
            .into_iter()
            .filter(is_victim)
            .map(|(pid, _)| pid)
            .collect();
        // All at once: the first to be killed must not have time to clean up after itself.
        victims
            .iter()
            .filter(|pid| kill(**pid, Signal::SIGKILL).is_ok())
            .count()
            > 0
    }

    /// What is killed when, while what is run.
    struct Rounds<'a> {
        /// Taken in turn.
        victims: &'a [Victim],
        /// The experiment.
        text: &'a str,
        /// Settings besides [`SHORTEST`].
        settings: &'a [&'a str],
        /// What the arguments of a program of the experiment hold; empty without one. Only rounds
        /// in which it runs count.
        marker: &'a str,
        /// The earliest and the latest moment, in milliseconds after the start, or after a marked
        /// program was first seen.
        moments_ms: [f64; 2],
        /// Whether the model is still to be trained.
        train: bool,
    }

    impl Rounds<'_> {
        /// Every other moment is in the first eighth: that is where most is made.
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a moment within the span"
        )]
        fn moment_ns(&self, attempt: u64, drawn: f64) -> u64 {
            let [earliest, latest] = self.moments_ms;
            let share = if attempt.is_multiple_of(2) {
                0.125
            } else {
                1.0
            };
            let at_ms = earliest + drawn * share * (latest - earliest);
            (at_ms * 1e6) as u64
        }

        /// A sandbox with the experiment, and its run's command line.
        fn prepare(&self) -> (Sandbox, Vec<&str>) {
            let binary = env::var("HEXLOOP_KILL_BINARY");
            let sandbox = Sandbox::new(binary.as_deref().unwrap_or(BINARY));
            let sandbox = if self.train {
                sandbox
            } else {
                sandbox.with_shared_cache()
            };
            sandbox.write("experiment.toml", self.text);
            let mut arguments = vec!["run", "experiment.toml", "--output", "output", "--quiet"];
            arguments.extend(SHORTEST);
            arguments.extend(self.settings);
            (sandbox, arguments)
        }

        /// Start, wait for a random moment, kill, look; until as many rounds as asked have hit.
        fn play(&self) {
            let _alone = exclusive();
            let seed = number("HEXLOOP_KILL_SEED", 1);
            let count = number("HEXLOOP_KILL_ROUNDS", 2);
            let name = format!(
                "kill {:?} {:?} {}",
                self.victims, self.moments_ms, self.train
            );
            let mut random = stream(seed, &name);
            let (mut hits, mut slowest_ms) = (0, 0);
            for attempt in 0..3 * count {
                if hits == count {
                    break;
                }
                let after_ns = self.moment_ns(attempt, open_unit(&mut random));
                let victim = self
                    .victims
                    .iter()
                    .cycle()
                    .nth(usize::try_from(hits).unwrap());
                let victim = *victim.expect("a victim");
                let hit = self.attempt(victim, after_ns);
                let after_ms = after_ns / 1_000_000;
                match hit {
                    Some(clean_ms) => {
                        hits += 1;
                        slowest_ms = slowest_ms.max(clean_ms);
                        println!("{hits}: {victim:?} at {after_ms} ms, clean after {clean_ms} ms");
                    }
                    None => println!("nothing to hit at {after_ms} ms"),
                }
            }
            println!(
                "{hits} hits of {:?}, the slowest clean after {slowest_ms} ms",
                self.victims
            );
            assert_eq!(hits, count, "too few rounds hit anything");
        }

        fn sees_marked(&self, before: &System) -> bool {
            let running = ours(before, self.marker);
            running.iter().any(|(_, name)| name.contains(self.marker))
        }

        /// One round: how long it took until nothing was left, in ms; `None` if it came too early
        /// or too late.
        fn attempt(&self, victim: Victim, after_ns: u64) -> Option<u64> {
            let (sandbox, arguments) = self.prepare();
            let before = System::look(self.marker);
            let began = clock::now();
            let controller = sandbox.command(&arguments).spawn().unwrap();
            let began = if self.marker.is_empty() {
                began
            } else {
                let seen = within_ms(180_000, || self.sees_marked(&before));
                assert!(seen, "the program of the experiment was never seen");
                clock::now()
            };
            clock::sleep_until(began + after_ns);
            let runs = self.marker.is_empty() || self.sees_marked(&before);
            let hit = runs && strike(victim, &controller, &before, self.marker);
            let struck = clock::now();
            if !hit {
                // Gone already, which says no such process, or to be ended in order.
                let _ = kill(pid_of(&controller), Signal::SIGTERM);
                let finished = finish(controller, 180);
                before.expect_clean_within(CLEAN_MS);
                expect_no_leavings(&sandbox, self.train);
                assert!(
                    finished.code().is_some_and(|code| code != 5),
                    "{}",
                    finished.told()
                );
                return None;
            }
            if victim == Victim::Everybody {
                drop(finish(controller, 180));
                // Killed is not yet gone: `undo` is for what is left of the dead.
                let gone = within_ms(CLEAN_MS, || ours(&before, self.marker).is_empty());
                assert!(gone, "somebody survived");
                sandbox.run(180, ["undo"]).expect_code(0);
                before.expect_clean_within(CLEAN_MS);
            } else {
                before.expect_clean_within(CLEAN_MS);
                drop(finish(controller, 180));
            }
            expect_no_leavings(&sandbox, self.train);
            Some((clock::now() - struck) / 1_000_000)
        }
    }

    /// Nothing temporary in the directories of the sandbox: interrupted runs are whole and named
    /// so, models are whole or absent.
    #[track_caller]
    fn expect_no_leavings(sandbox: &Sandbox, train: bool) {
        let names = |name: &str| -> Vec<String> {
            let entries = fs::read_dir(sandbox.path(name))
                .into_iter()
                .flatten()
                .flatten();
            entries
                .map(|entry| entry.file_name().into_string().unwrap())
                .collect()
        };
        assert_eq!(names("runtime"), Vec::<String>::new(), "runtime directory");
        assert_eq!(names("state/ledgers"), Vec::<String>::new(), "ledgers");
        for run in names("output") {
            assert!(
                !run.starts_with('.') && !run.contains("tmp"),
                "temporary run {run}"
            );
            let summary = sandbox.path("output").join(&run).join("summary.json");
            assert!(
                run.ends_with(".interrupted") || summary.is_file(),
                "half a run {run}"
            );
        }
        if train {
            for model in names("cache/models") {
                let weights = sandbox
                    .path("cache/models")
                    .join(&model)
                    .join("model.safetensors");
                assert!(
                    !model.starts_with('.') && weights.is_file(),
                    "half a model {model}"
                );
            }
        }
    }

    /// The shortest quickstart takes at least so long.
    const RUN_MS: [f64; 2] = [0.0, 12_000.0];
    /// So long after its programs were started a run is still in its phases.
    const PHASES_MS: [f64; 2] = [0.0, 3_000.0];
    /// The model `micro` takes about so long to train.
    const TRAINING_MS: [f64; 2] = [0.0, 5_000.0];

    const RUN: Rounds<'_> = Rounds {
        victims: &[Victim::Controller],
        text: QUICKSTART,
        settings: &[],
        marker: "",
        moments_ms: RUN_MS,
        train: false,
    };

    #[test]
    #[ignore = "needs root"]
    fn a_killed_controller_leaves_nothing() {
        RUN.play();
    }

    #[test]
    #[ignore = "needs root"]
    fn a_killed_agent_leaves_nothing() {
        let victims = &[Victim::Agent];
        Rounds { victims, ..RUN }.play();
    }

    #[test]
    #[ignore = "needs root"]
    fn after_everybody_was_killed_undo_leaves_nothing() {
        let victims = &[Victim::Everybody];
        Rounds { victims, ..RUN }.play();
    }

    #[test]
    #[ignore = "needs root"]
    fn a_controller_killed_while_it_trains_leaves_nothing() {
        Rounds {
            settings: &["--set", "model.recipe=micro"],
            moments_ms: TRAINING_MS,
            train: true,
            ..RUN
        }
        .play();
    }

    #[test]
    #[ignore = "needs root"]
    fn a_job_that_forks_twice_and_leaves_its_session_is_gone_too() {
        let marker = marker();
        // Its parent is gone at once, it is in a session of its own, and it asks for no mercy.
        let command = format!(
            "[[commands]]\nname = \"stray\"\nnode = \"edge\"\nargv = [\"sh\", \"-c\", \
             \"( setsid sh -c 'trap : TERM HUP INT; while :; do sleep 1000; done' {marker} & ) & \
             exit 0\"]\n\n# Each phase plays the trace from its start.\n"
        );
        let anchor = "# Each phase plays the trace from its start.\n";
        let text = quickstart_with(&[(anchor, &command)]);
        Rounds {
            victims: &[Victim::Controller, Victim::Agent],
            text: &text,
            marker: &marker,
            moments_ms: PHASES_MS,
            ..RUN
        }
        .play();
    }
}
