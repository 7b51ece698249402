//! The guardian with real processes: owners that are killed, and what is left of them.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{BufRead, BufReader, Read};
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Stdio};

    use hexloop_agent::guardian::{self, Guardian, replay_leftovers};
    use hexloop_agent::process::{ProcessIdentity, SelfCommand};
    use hexloop_agent::undo::Undo;
    use hexloop_workloads::clock;
    use nix::sys::signal::Signal;

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
            ["own", directory, kill_at] => own(Path::new(directory), kill_at.parse().unwrap()),
            _ => assert!(arguments.is_empty(), "{arguments:?}"),
        }
    }

    /// An owner that makes two directories, a file and a process, and stops for its death after
    /// `kill_at` steps.
    #[expect(clippy::zombie_processes, reason = "this owner dies before its child")]
    fn own(root: &Path, kill_at: usize) {
        let guardian = Guardian::start_as(&this_program(), &root.join("state"), "owner").unwrap();
        let mut steps = 0;
        let mut step = |what: String| {
            if steps == kill_at {
                println!("READY {} {what}", guardian.process_id());
                // Until the test kills this process.
                let _ = std::io::stdin().read(&mut [0]);
                panic!("the owner was to be killed here");
            }
            steps += 1;
        };
        step("nothing".to_owned());
        for name in ["first", "second"] {
            let path = root.join(name);
            guardian
                .record(Undo::RemoveDirectory { path: path.clone() })
                .unwrap();
            step(format!("{name} recorded"));
            fs::create_dir(&path).unwrap();
            fs::write(path.join("content"), "text").unwrap();
            step(format!("{name} made"));
        }
        let (from, to) = (root.join("run.partial"), root.join("run.interrupted"));
        guardian
            .record(Undo::RenameDirectory {
                from: from.clone(),
                to,
            })
            .unwrap();
        step("rename recorded".to_owned());
        fs::create_dir(&from).unwrap();
        step("run directory made".to_owned());
        let sleeper = Command::new("sleep")
            .arg("600")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let sleeper = ProcessIdentity::of(sleeper.id()).unwrap();
        fs::write(
            root.join("sleeper"),
            serde_json::to_string(&sleeper).unwrap(),
        )
        .unwrap();
        guardian.record(Undo::kill(sleeper)).unwrap();
        step("process recorded".to_owned());
    }

    const STEPS: usize = 8;

    /// Owners that are killed and looked at, each a hundredth of a millisecond later than the last.
    const ROUNDS_OF_DEATHS: u64 = 50;

    struct Owner {
        child: Child,
        guardian: ProcessIdentity,
        output: BufReader<std::process::ChildStdout>,
    }

    fn start_owner(root: &Path, kill_at: usize) -> Owner {
        let mut command = this_program().part("own");
        command.arg(root).arg(kill_at.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let guardian = loop {
            line.clear();
            assert_ne!(
                output.read_line(&mut line).unwrap(),
                0,
                "the owner ended early"
            );
            if let Some((_, rest)) = line.split_once("READY ") {
                break rest.split(' ').next().unwrap().parse().unwrap();
            }
        };
        Owner {
            child,
            guardian: ProcessIdentity::of(guardian).unwrap(),
            output,
        }
    }

    fn assert_clean(root: &Path, kill_at: usize) {
        let mut left: Vec<PathBuf> = fs::read_dir(root.join("state/ledgers"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        left.extend(["first", "second", "run.partial"].map(|n| root.join(n)));
        left.retain(|path| path.exists());
        assert_eq!(left, Vec::<PathBuf>::new(), "killed at {kill_at}");
        // A run directory that exists is kept under its other name.
        assert_eq!(
            root.join("run.interrupted").exists(),
            kill_at >= 6,
            "killed at {kill_at}"
        );
        if let Ok(text) = fs::read_to_string(root.join("sleeper")) {
            let sleeper: ProcessIdentity = serde_json::from_str(&text).unwrap();
            assert!(!sleeper.is_alive(), "killed at {kill_at}");
        }
    }

    /// Waits for an event that another process brings about, with a limit that only a failure
    /// reaches.
    fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = clock::now() + 60_000_000_000;
        while !condition() {
            assert!(clock::now() < deadline, "{what}");
            clock::sleep_until(clock::now() + 2_000_000);
        }
    }

    #[test]
    fn an_owner_killed_at_any_step_leaves_nothing_behind() {
        for kill_at in 0..STEPS {
            let root = tempfile::tempdir().unwrap();
            let mut owner = start_owner(root.path(), kill_at);
            owner.child.kill().unwrap();
            owner.child.wait().unwrap();
            wait_until("the guardian ends", || !owner.guardian.is_alive());
            assert_clean(root.path(), kill_at);
        }
    }

    #[test]
    fn when_owner_and_guardian_are_both_killed_the_next_start_cleans_up() {
        for kill_at in 0..STEPS {
            let root = tempfile::tempdir().unwrap();
            let mut owner = start_owner(root.path(), kill_at);
            let state = root.path().join("state");
            assert!(
                replay_leftovers(&state).unwrap().is_empty(),
                "the owner lives"
            );
            owner.guardian.signal(Signal::SIGKILL).unwrap();
            wait_until("the guardian is dead", || !owner.guardian.is_alive());
            assert!(
                replay_leftovers(&state).unwrap().is_empty(),
                "the owner lives"
            );
            owner.child.kill().unwrap();
            owner.child.wait().unwrap();
            let reports = replay_leftovers(&state).unwrap();
            assert_eq!(reports.len(), 1);
            assert!(reports[0].is_clean(), "{reports:?}");
            assert_clean(root.path(), kill_at);
            assert!(replay_leftovers(&state).unwrap().is_empty());
        }
    }

    /// Between the signal and the end of an owner its ledger is locked, and its process is there,
    /// then is on its way out, then is a zombie: at none of those moments is it taken for alive.
    #[test]
    fn a_ledger_whose_owner_dies_while_it_is_looked_at_is_undone() {
        for round in 0..ROUNDS_OF_DEATHS {
            let root = tempfile::tempdir().unwrap();
            let mut owner = start_owner(root.path(), 3);
            let state = root.path().join("state");
            owner.guardian.signal(Signal::SIGKILL).unwrap();
            wait_until("the guardian is dead", || !owner.guardian.is_alive());
            owner.child.kill().unwrap();
            clock::sleep_until(clock::now() + round * 10_000);
            let reports = replay_leftovers(&state).unwrap();
            assert_eq!(reports.len(), 1, "round {round}");
            assert!(reports[0].is_clean(), "{reports:?}");
            owner.child.wait().unwrap();
            assert_clean(root.path(), 3);
        }
    }

    #[test]
    fn a_guardian_that_finishes_undoes_what_was_not_done_and_removes_its_ledger() {
        let root = tempfile::tempdir().unwrap();
        let (kept, removed) = (root.path().join("kept"), root.path().join("removed"));
        let guardian = Guardian::start_as(&this_program(), root.path(), "test").unwrap();
        let ledger = guardian.ledger_path();
        for path in [&kept, &removed] {
            let id = guardian
                .record(Undo::RemoveDirectory { path: path.clone() })
                .unwrap();
            fs::create_dir(path).unwrap();
            if path == &kept {
                guardian.done(id).unwrap();
            }
        }
        guardian.finish().unwrap();
        assert!(kept.exists() && !removed.exists() && !ledger.exists());
    }

    #[test]
    fn what_cannot_be_undone_keeps_the_ledger_and_is_reported_each_time() {
        let root = tempfile::tempdir().unwrap();
        let stubborn = root.path().join("stubborn");
        fs::create_dir(&stubborn).unwrap();
        let guardian = Guardian::start_as(&this_program(), root.path(), "test").unwrap();
        // A directory where a file was to be: no attempt can succeed.
        guardian
            .record(Undo::RemoveFile {
                path: stubborn.clone(),
            })
            .unwrap();
        let error = guardian.finish().unwrap_err();
        assert!(error.to_string().contains("hexloop undo"), "{error}");
        let reports = replay_leftovers(root.path()).unwrap();
        assert_eq!(reports.len(), 1);
        assert!(reports[0].failed[0].contains("stubborn"), "{reports:?}");
        fs::remove_dir(&stubborn).unwrap();
        assert!(replay_leftovers(root.path()).unwrap()[0].is_clean());
    }

    #[test]
    fn after_a_reboot_processes_are_left_alone_and_directories_removed() {
        let root = tempfile::tempdir().unwrap();
        let mut bystander = Command::new("sleep").arg("600").spawn().unwrap();
        let identity = ProcessIdentity::of(bystander.id()).unwrap();
        let mut owner = start_owner(root.path(), 3);
        owner.guardian.signal(Signal::SIGKILL).unwrap();
        owner.child.kill().unwrap();
        owner.child.wait().unwrap();
        wait_until("the guardian is dead", || !owner.guardian.is_alive());
        let state = root.path().join("state");
        let ledger = fs::read_dir(state.join("ledgers"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let mut text = fs::read_to_string(&ledger)
            .unwrap()
            .replace(boot.trim(), "an-earlier-boot");
        text += &serde_json::json!({"do": {"id": 9, "action": Undo::kill(identity)}}).to_string();
        text.push('\n');
        fs::write(&ledger, text).unwrap();
        assert!(replay_leftovers(&state).unwrap()[0].is_clean());
        assert!(identity.is_alive());
        assert!(!root.path().join("first").exists());
        bystander.kill().unwrap();
        bystander.wait().unwrap();
        drop(owner.output);
    }
}
