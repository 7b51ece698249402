//! `kill -9` at random moments: whatever is killed, nothing stays behind.
//!
//! `HEXLOOP_KILL_ROUNDS` sets the number of rounds (3 without it, 100 for a release), and
//! `HEXLOOP_KILL_SEED` the seed of the moments. Each round prints its moment.

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
        let agents = |list: Vec<(Pid, String)>| -> Vec<Pid> {
            let is_agent = |(_, name): &(Pid, String)| name.contains("agent serve");
            list.into_iter()
                .filter(is_agent)
                .map(|(pid, _)| pid)
                .collect()
        };
        let victims = match victim {
            Victim::Controller => vec![pid_of(controller)],
            Victim::Agent => agents(ours(before, marker)),
            Victim::Everybody => ours(before, marker)
                .into_iter()
                .map(|(pid, _)| pid)
                .collect(),
        };
        // All at once: the first to be killed must not have time to clean up after itself.
        victims
            .iter()
            .filter(|pid| kill(**pid, Signal::SIGKILL).is_ok())
            .count()
            > 0
    }

    /// What is killed when, while what is run.
    struct Rounds<'a> {
        victim: Victim,
        /// The experiment.
        text: &'a str,
        /// What the arguments of a program of the experiment hold; empty without one.
        marker: &'a str,
        /// The earliest and the latest moment, in milliseconds after the start.
        moments_ms: [f64; 2],
        /// Whether the model is still to be trained.
        train: bool,
    }

    /// Rounds of: start, wait for a random moment, kill, look.
    fn rounds(test: &Rounds<'_>) {
        let &Rounds {
            victim,
            text,
            marker,
            moments_ms,
            train,
        } = test;
        let _alone = exclusive();
        let seed = number("HEXLOOP_KILL_SEED", 1);
        let mut random = stream(
            seed,
            &format!("kill {victim:?} {train} {}", marker.is_empty()),
        );
        let (mut struck, mut marked) = (0, 0);
        let count = number("HEXLOOP_KILL_ROUNDS", 3);
        for round in 0..count {
            let sandbox = Sandbox::new(BINARY);
            let sandbox = if train {
                sandbox
            } else {
                sandbox.with_shared_cache()
            };
            sandbox.write("experiment.toml", text);
            let before = System::look(marker);
            let mut arguments = vec!["run", "experiment.toml", "--output", "output", "--quiet"];
            arguments.extend(SHORTEST);
            let began = clock::now();
            let controller = sandbox.command(&arguments).spawn().unwrap();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a moment within the span"
            )]
            let after_ms =
                (moments_ms[0] + open_unit(&mut random) * (moments_ms[1] - moments_ms[0])) as u64;
            clock::sleep_until(began + after_ms * 1_000_000);
            let holds_marker = |(_, name): &(Pid, String)| name.contains(marker);
            marked += u64::from(ours(&before, marker).iter().any(holds_marker));
            let hit = strike(victim, &controller, &before, marker);
            struck += u64::from(hit);
            println!("round {round}: {victim:?} at {after_ms} ms, hit {hit}");
            let limit_ms = match victim {
                Victim::Everybody => {
                    let finished = finish(controller, 60);
                    let undone = sandbox.run(60, ["undo"]);
                    undone.expect_code(0);
                    println!("  {}{}", finished.status, undone.stdout);
                    2_000
                }
                // The controller ends by itself once its agent is gone; the rest within 2 s.
                Victim::Agent | Victim::Controller if hit => {
                    let clean = within_ms(2_000, || {
                        let left = System::look(marker).since(&before);
                        left.iter().all(|one| is_process(one, controller.id()))
                    });
                    let left = System::look(marker).since(&before);
                    let finished = finish(controller, 60);
                    assert!(clean, "left after 2 s: {left:#?}\n{}", finished.told());
                    2_000
                }
                _ => {
                    // It came too late or too early for this victim: then the run goes on.
                    let finished = finish(controller, 240);
                    assert!(
                        matches!(finished.code(), Some(0 | 6)),
                        "{}",
                        finished.told()
                    );
                    2_000
                }
            };
            before.expect_clean_within(limit_ms);
            expect_no_leavings(&sandbox, train);
        }
        assert!(count == 0 || struck > 0, "no round hit anything");
        assert!(
            count == 0 || marked > 0,
            "the program of the experiment was never seen"
        );
    }

    fn is_process(one: &Trace, pid: u32) -> bool {
        matches!(one, Trace::Process(found, ..) if *found == pid)
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

    /// The shortest quickstart takes about so long.
    const RUN_MS: [f64; 2] = [0.0, 18_000.0];
    /// Calibration is over and programs of the experiment run.
    const PHASES_MS: [f64; 2] = [7_000.0, 16_000.0];
    /// Training takes longer than this on any machine.
    const TRAINING_MS: [f64; 2] = [0.0, 12_000.0];

    #[test]
    #[ignore = "needs root"]
    fn a_killed_controller_leaves_nothing() {
        rounds(&Rounds {
            victim: Victim::Controller,
            text: QUICKSTART,
            marker: "",
            moments_ms: RUN_MS,
            train: false,
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn a_killed_agent_leaves_nothing() {
        rounds(&Rounds {
            victim: Victim::Agent,
            text: QUICKSTART,
            marker: "",
            moments_ms: RUN_MS,
            train: false,
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn after_everybody_was_killed_undo_leaves_nothing() {
        rounds(&Rounds {
            victim: Victim::Everybody,
            text: QUICKSTART,
            marker: "",
            moments_ms: RUN_MS,
            train: false,
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn a_controller_killed_while_it_trains_leaves_nothing() {
        rounds(&Rounds {
            victim: Victim::Controller,
            text: QUICKSTART,
            marker: "",
            moments_ms: TRAINING_MS,
            train: true,
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn a_job_that_forks_twice_and_leaves_its_session_is_gone_too() {
        let marker = marker();
        // The inner shell's parent is gone at once, and it is in a session of its own.
        let command = format!(
            "[[commands]]\nname = \"stray\"\nnode = \"edge\"\nargv = [\"sh\", \"-c\", \
             \"setsid sh -c 'while :; do sleep 1000; done' {marker} & exit 0\"]\n\n\
             # Each phase plays the trace from its start.\n"
        );
        let anchor = "# Each phase plays the trace from its start.\n";
        let text = quickstart_with(&[(anchor, &command)]);
        rounds(&Rounds {
            victim: Victim::Agent,
            text: &text,
            marker: &marker,
            moments_ms: PHASES_MS,
            train: false,
        });
    }
}
