//! `hexloop link apply` under every fault: whatever is killed or fails, wherever, the machine is
//! put back, and the way to reach it stays open.
//!
//! Every point that a process reaches is struck once per round; `HEXLOOP_FAULT_ROUNDS` sets how
//! many different sets of victims (of 7) each point gets: 1 without it, which takes about a minute.

#![forbid(unsafe_code)]

#[cfg(test)]
mod tests {
    use std::env;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};

    use hexloop_tests::points::{Answer, Point, Points};
    use hexloop_tests::sandbox::{Finished, Sandbox, finish, within_ms};
    use hexloop_tests::stage::{self, MANAGEMENT, NIC, Stage, command};
    use hexloop_tests::system::{System, Trace, exclusive};
    use nix::errno::Errno;
    use nix::sched::{CloneFlags, unshare};
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    const BINARY: &str = env!("CARGO_BIN_EXE_hexloop-under-test");

    /// Within how long nothing may be left, in milliseconds.
    const CLEAN_MS: u64 = 10_000;

    const ALLOWED: &str = "schema = 1\nallow_interfaces = [\"nic0\", \"mgmt0\"]\n";

    /// The three kinds of process.
    const APPLIER: &str = "link apply";
    const HOLDER: &str = "agent keep";
    const GUARDIAN: &str = "agent guard";

    /// Whom to kill at once.
    const VICTIMS: [&[&str]; 7] = [
        &[HOLDER],
        &[GUARDIAN],
        &[APPLIER],
        &[HOLDER, GUARDIAN],
        &[HOLDER, APPLIER],
        &[GUARDIAN, APPLIER],
        &[HOLDER, GUARDIAN, APPLIER],
    ];

    /// A host with a sandbox, the points of the processes in it, and how it looked at first.
    struct Trial<'a> {
        stage: &'a Stage,
        /// Before the sandbox, which takes its socket away.
        points: Points,
        sandbox: Sandbox,
        network: Vec<String>,
        system: System,
    }

    impl Trial<'_> {
        fn new(stage: &Stage) -> Trial<'_> {
            let sandbox = Sandbox::new(BINARY);
            let trial = Trial {
                stage,
                points: Points::listen(&sandbox.path("points")),
                network: stage.snapshot(),
                system: System::look(""),
                sandbox,
            };
            trial.allow(ALLOWED);
            trial
        }

        fn allow(&self, text: &str) {
            let path = self.sandbox.write("agent.toml", text);
            fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
        }

        fn command(&self, arguments: &[&str]) -> Command {
            let mut command = self.sandbox.command(arguments);
            command
                .env("HEXLOOP_FAILPOINTS", self.sandbox.path("points"))
                .env("HEXLOOP_TEST_AGENT_TOML", self.sandbox.path("agent.toml"))
                .env_remove("SSH_CONNECTION");
            command
        }

        fn run(&self, arguments: &[&str]) -> Finished {
            finish(self.command(arguments).spawn().unwrap(), 60)
        }

        fn apply(&self) -> Finished {
            self.run(&[
                "link",
                "apply",
                NIC,
                "--rate",
                "20Mbit/s,10Mbit/s",
                "--lease",
                "100 s",
            ])
        }

        fn undo(&self) -> Finished {
            self.run(&["undo"])
        }

        fn ledgers(&self) -> Vec<PathBuf> {
            let entries = fs::read_dir(self.sandbox.path("state/ledgers"));
            let entries = entries.into_iter().flatten().flatten();
            entries.map(|entry| entry.path()).collect()
        }

        fn processes(&self, parts: &[&str]) -> Vec<Pid> {
            processes(&self.system, parts)
        }

        /// Checks that everything is as it was at first.
        #[track_caller]
        fn expect_clean(&self, when: &str) {
            let clean = within_ms(CLEAN_MS, || {
                self.ledgers().is_empty() && self.system.left_over_within(0).is_empty()
            });
            let left = self.system.left_over_within(0);
            assert!(clean, "{when}: left over {left:#?} {:?}", self.ledgers());
            eprintln!("{when}");
            self.stage.expect_as_before(&self.network);
            self.stage.expect_reachable();
        }

        /// Every point of a shaping that is applied, cleared, and undone in order.
        fn walk(&self) -> Vec<Point> {
            self.points.decide(|_, _| Answer::Go);
            self.apply().expect_code(0);
            assert_ne!(self.stage.snapshot(), self.network, "it is shaped");
            self.stage.expect_reachable();
            self.run(&["link", "clear", NIC]).expect_code(0);
            self.expect_clean("applied and cleared");
            self.points.so_far()
        }
    }

    fn processes(before: &System, parts: &[&str]) -> Vec<Pid> {
        let ours = System::look("").since(before);
        let process = |one: &Trace| match one {
            Trace::Process(pid, _, name) if parts.iter().any(|part| name.contains(part)) => {
                Some(Pid::from_raw(i32::try_from(*pid).ok()?))
            }
            _ => None,
        };
        ours.iter().filter_map(process).collect()
    }

    fn strike(before: &System, parts: &[&str]) {
        for pid in processes(before, parts) {
            // One that is gone already is as dead as the others.
            let _ = kill(pid, Signal::SIGKILL);
        }
    }

    fn rounds() -> usize {
        env::var("HEXLOOP_FAULT_ROUNDS").map_or(1, |text| text.parse().expect("a number"))
    }

    fn with_trial(test: impl FnOnce(&Trial<'_>) + Send) {
        let _alone = exclusive();
        stage::play(|stage| test(&Trial::new(stage)));
    }

    #[test]
    #[ignore = "needs root"]
    fn whoever_is_killed_at_any_step_of_a_shaping_the_machine_is_put_back() {
        with_trial(|trial| {
            let walked = trial.walk();
            println!("{} points", walked.len());
            for (number, point) in walked.iter().enumerate() {
                for round in 0..rounds().min(VICTIMS.len()) {
                    let victims = VICTIMS[(number + round) % VICTIMS.len()];
                    killed_at(trial, point, victims);
                }
            }
        });
    }

    /// One round: apply, and clear if that went well, with a strike at one point.
    fn killed_at(trial: &Trial<'_>, point: &Point, victims: &'static [&'static str]) {
        let when = format!("{victims:?} killed at {point:?}");
        let (struck, target) = (Arc::new(AtomicBool::new(false)), point.clone());
        let (hit, before) = (Arc::clone(&struck), trial.system.clone());
        trial.points.decide(move |point, _| {
            if *point == target && !hit.swap(true, Ordering::SeqCst) {
                strike(&before, victims);
            }
            Answer::Go
        });
        let applied = trial.apply();
        trial.stage.expect_reachable();
        // An applier that was killed after it had confirmed leaves what it asked for.
        let is_over = || trial.processes(&[HOLDER]).is_empty();
        let is_held = || trial.run(&["link", "show", NIC]).stdout.contains(": held");
        let settled = within_ms(CLEAN_MS, || is_over() || is_held());
        assert!(settled, "{when}: neither held nor over: {}", applied.told());
        if !is_over() {
            let cleared = trial.run(&["link", "clear", "--all"]);
            assert_ne!(cleared.code(), Some(5), "{}", cleared.told());
        }
        assert!(
            struck.load(Ordering::SeqCst),
            "nothing was {when}: {}",
            applied.told()
        );
        if victims.contains(&HOLDER) && victims.contains(&GUARDIAN) {
            // Nobody is left who could: the next start, or `undo`, does it.
            let gone = within_ms(CLEAN_MS, || {
                trial.processes(&[APPLIER, HOLDER, GUARDIAN]).is_empty()
            });
            assert!(gone, "{when}: somebody survived");
            trial.undo().expect_code(0);
        }
        trial.expect_clean(&when);
    }

    #[test]
    #[ignore = "needs root"]
    fn a_guardian_or_an_undo_killed_at_any_step_leaves_the_rest_to_the_next_undo() {
        with_trial(|trial| {
            for part in ["guard", "undo"] {
                let mut number = 0;
                while undo_killed_at(trial, part, number) {
                    number += 1;
                }
                assert!(number > 10, "only {number} points of {part}");
                println!("{part}: killed at {number} points");
            }
        });
    }

    /// Whether there was such a point.
    fn undo_killed_at(trial: &Trial<'_>, part: &'static str, number: usize) -> bool {
        trial.points.decide(|_, _| Answer::Go);
        trial.apply().expect_code(0);
        let struck = Arc::new(AtomicBool::new(false));
        let hit = Arc::clone(&struck);
        let mut count = 0;
        trial.points.decide(move |point, pid| {
            if point.part == part {
                if count == number {
                    hit.store(true, Ordering::SeqCst);
                    let pid = Pid::from_raw(i32::try_from(pid).expect("a process id"));
                    kill(pid, Signal::SIGKILL).expect("a living process");
                }
                count += 1;
            }
            Answer::Go
        });
        if part == "guard" {
            strike(&trial.system, &[HOLDER]);
            let ended = within_ms(CLEAN_MS, || trial.processes(&[HOLDER, GUARDIAN]).is_empty());
            assert!(ended, "the guardian neither ended nor was killed");
        } else {
            strike(&trial.system, &[HOLDER, GUARDIAN]);
            let gone = within_ms(CLEAN_MS, || trial.processes(&[HOLDER, GUARDIAN]).is_empty());
            assert!(gone, "somebody survived");
            let _ = trial.undo();
        }
        trial.stage.expect_reachable();
        trial.points.decide(|_, _| Answer::Go);
        trial.undo().expect_code(0);
        trial.expect_clean(&format!("{part} killed at its point {number}"));
        struck.load(Ordering::SeqCst)
    }

    #[test]
    #[ignore = "needs root"]
    fn whatever_fails_once_the_machine_is_put_back_and_the_error_says_why() {
        with_trial(|trial| {
            let can_fail = [
                "ledger-write",
                "ledger-synchronise",
                "netlink",
                "step-apply",
                "guardian-spawn",
                "undo",
            ];
            let mut walked = trial.walk();
            walked.retain(|point| can_fail.contains(&point.name.as_str()));
            println!("{} points", walked.len());
            let errors = [Errno::EPERM, Errno::ENOBUFS, Errno::ENOSPC, Errno::EBUSY];
            for (number, point) in walked.iter().enumerate() {
                let error = errors[number % errors.len()];
                failed_at(trial, point, error);
            }
        });
    }

    fn failed_at(trial: &Trial<'_>, point: &Point, error: Errno) {
        let target = point.clone();
        let mut once = true;
        trial.points.decide(move |point, _| {
            if *point == target && std::mem::take(&mut once) {
                Answer::Fail(error as i32)
            } else {
                Answer::Go
            }
        });
        let applied = trial.apply();
        trial.stage.expect_reachable();
        let when = format!("{error} at {point:?}");
        if applied.code() == Some(0) {
            let cleared = trial.run(&["link", "clear", "--all"]);
            assert_eq!(cleared.code(), Some(0), "{when}: {}", cleared.told());
        } else {
            let said = applied.stderr.starts_with("error: ");
            assert!(said, "{when}: {}", applied.told());
        }
        trial.expect_clean(&when);
    }

    #[test]
    #[ignore = "needs root"]
    fn a_machine_that_cannot_be_put_back_is_dirty_until_it_can() {
        with_trial(|trial| {
            trial.points.decide(|_, _| Answer::Go);
            trial.apply().expect_code(0);
            // All rights are lost: nothing can be deleted any more.
            trial.points.decide(|point, _| match point.name.as_str() {
                "undo" => Answer::Fail(Errno::EPERM as i32),
                _ => Answer::Go,
            });
            trial
                .run(&["link", "clear", NIC])
                .expect_code(5)
                .expect_error(&["dirty", "hexloop undo", "Operation not permitted"]);
            trial.undo().expect_code(5);
            trial.apply().expect_code(5).expect_error(&["dirty"]);
            assert_eq!(trial.ledgers().len(), 1);
            trial.stage.expect_reachable();
            trial.points.decide(|_, _| Answer::Go);
            trial.undo().expect_code(0);
            trial.expect_clean("rights are back");
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn on_a_full_disk_nothing_is_begun() {
        with_trial(|trial| {
            // A small file system of this thread's own, in the place of the state directory.
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            command("mount --make-rprivate /");
            let state = trial.sandbox.path("state");
            let state = state.display();
            command(&format!("mount -t tmpfs -o size=64k,mode=700 none {state}"));
            trial.points.decide(|_, _| Answer::Go);
            for pages in 0..16 {
                let filler = trial.sandbox.path("state/filler");
                // As much as fits, and then a few pages less.
                drop(fs::write(&filler, vec![0; 1 << 20]));
                let size = fs::metadata(&filler).unwrap().len();
                let rest = size.saturating_sub(pages * 4096);
                let file = fs::File::options().write(true).open(&filler).unwrap();
                file.set_len(rest).unwrap();
                drop(file);
                let applied = trial.apply();
                if applied.code() == Some(0) {
                    trial.run(&["link", "clear", NIC]).expect_code(0);
                } else {
                    applied
                        .expect_code(4)
                        .expect_error(&["No space left", "space"]);
                }
                trial.expect_clean(&format!("{pages} pages free"));
                fs::remove_file(&filler).unwrap();
                for directory in ["state/ledgers", "state/ended"] {
                    drop(fs::remove_dir_all(trial.sandbox.path(directory)));
                }
            }
            command(&format!("umount {state}"));
        });
    }

    /// Applies, kills everybody, and hands over the text of the ledger.
    fn abandoned(trial: &Trial<'_>) -> (PathBuf, String) {
        trial.points.decide(|_, _| Answer::Go);
        trial.apply().expect_code(0);
        strike(&trial.system, &[HOLDER, GUARDIAN]);
        let gone = within_ms(CLEAN_MS, || trial.processes(&[HOLDER, GUARDIAN]).is_empty());
        assert!(gone, "somebody survived");
        let ledger = trial.ledgers().pop().expect("a ledger");
        let text = fs::read_to_string(&ledger).unwrap();
        (ledger, text)
    }

    #[test]
    #[ignore = "needs root"]
    fn after_a_boot_nothing_is_looked_for_that_the_boot_took_away() {
        with_trial(|trial| {
            let (ledger, text) = abandoned(trial);
            let shaped = trial.stage.snapshot();
            let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
            let other = text.replace(boot.trim(), "an-earlier-boot");
            assert_ne!(other, text);
            fs::write(&ledger, &other).unwrap();
            trial.undo().expect_code(0);
            assert!(!ledger.exists());
            // What is there now is none of that earlier boot's.
            assert_eq!(trial.stage.snapshot(), shaped);
            fs::write(&ledger, &text).unwrap();
            trial.undo().expect_code(0);
            trial.expect_clean("this boot's ledger");
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn a_torn_last_record_is_one_whose_action_was_never_begun() {
        with_trial(|trial| {
            // At every note: killed after it was written and before it was acted upon.
            let notes = trial.walk();
            let notes = notes
                .iter()
                .filter(|point| point.part == "keep" && point.name == "ledger-written")
                .count();
            for note in 0..notes {
                let system = trial.system.clone();
                trial.points.decide(move |point, _| {
                    let here = point.part == "keep" && point.name == "ledger-written";
                    if here && point.before == note {
                        strike(&system, &[HOLDER, GUARDIAN, APPLIER]);
                    }
                    Answer::Go
                });
                let _ = trial.apply();
                let gone = within_ms(CLEAN_MS, || trial.processes(&[HOLDER, GUARDIAN]).is_empty());
                assert!(gone, "somebody survived");
                trial.points.decide(|_, _| Answer::Go);
                let ledger = trial.ledgers().pop().expect("a ledger");
                let text = fs::read_to_string(&ledger).unwrap();
                let last = text.trim_end().rfind('\n').map_or(0, |at| at + 1);
                // Torn in its middle; the unit tests tear at every byte.
                fs::write(&ledger, &text[..last.midpoint(text.len())]).unwrap();
                trial.undo().expect_code(0);
                trial.expect_clean(&format!("note {note} torn"));
            }
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn a_lease_ends_by_itself_also_when_the_holder_does_not_move() {
        with_trial(|trial| {
            trial.points.decide(|_, _| Answer::Go);
            let arguments = ["link", "apply", NIC, "--rate", "10Mbit/s", "--lease", "1 s"];
            trial.run(&arguments).expect_code(0);
            trial.expect_clean("the lease is over");
            let show = trial.run(&["link", "show", NIC]);
            show.expect_code(0);
            assert!(show.stdout.contains("its lease ended"), "{}", show.told());
            trial.run(&arguments).expect_code(0);
            for pid in trial.processes(&[HOLDER]) {
                kill(pid, Signal::SIGSTOP).unwrap();
            }
            trial.expect_clean("the lease of a stopped holder is over");
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn what_nobody_confirms_is_put_back() {
        with_trial(|trial| {
            trial.points.decide(|_, _| Answer::Go);
            let arguments = [
                "link",
                "apply",
                NIC,
                "--rate",
                "10Mbit/s",
                "--confirm-within",
                "1 s",
            ];
            trial.run(&arguments).expect_code(0);
            trial.expect_clean("nobody confirmed");
            let show = trial.run(&["link", "show", NIC]);
            assert!(show.stdout.contains("nobody confirmed"), "{}", show.told());
            let arguments = [
                "link",
                "apply",
                NIC,
                "--rate",
                "10Mbit/s",
                "--confirm-within",
                "60 s",
            ];
            trial.run(&arguments).expect_code(0);
            let show = trial.run(&["link", "show", NIC]);
            assert!(show.stdout.contains("unconfirmed"), "{}", show.told());
            trial.run(&["link", "confirm", NIC]).expect_code(0);
            let held = within_ms(CLEAN_MS, || {
                trial.run(&["link", "show", NIC]).stdout.contains(": held")
            });
            assert!(held, "it stays unconfirmed");
            trial.run(&["link", "clear", "--all"]).expect_code(0);
            trial.expect_clean("confirmed and cleared");
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn what_the_owner_does_not_allow_is_refused_with_the_remedy() {
        with_trial(|trial| {
            trial.points.decide(|_, _| Answer::Go);
            let apply =
                |name: &str, rate: &str| trial.run(&["link", "apply", name, "--rate", rate]);
            // The default route leads over it, and the list does not change that.
            apply(MANAGEMENT, "1Mbit/s")
                .expect_code(4)
                .expect_error(&["never shaped", "default route"]);
            apply("lo", "1Mbit/s")
                .expect_code(4)
                .expect_error(&["allow_interfaces"]);
            apply("no-such-nic", "1Mbit/s").expect_code(4);
            // veth says that it has 10 Gbit/s.
            apply(NIC, "20Gbit/s")
                .expect_code(2)
                .expect_error(&["more than interface nic0 has", "10 Gbit/s"]);
            apply(NIC, "0Mbit/s").expect_code(2);
            apply(NIC, "-1Mbit/s").expect_code(2);
            trial.allow("schema = 1\nallow_interfaces = [\"nic0\"]\nmax_rate = \"1 Mbit/s\"\n");
            apply(NIC, "2Mbit/s")
                .expect_code(4)
                .expect_error(&["max_rate"]);
            trial.allow("schema = 1\nallow_interfaces = [\"nic0\"]\nmax_lease = \"1 s\"\n");
            apply(NIC, "2Mbit/s")
                .expect_code(4)
                .expect_error(&["max_lease"]);
            trial.allow("schema = 1\nallow_interface = [\"nic0\"]\n");
            apply(NIC, "2Mbit/s")
                .expect_code(3)
                .expect_error(&["agent.toml:2:1", "did you mean `allow_interfaces`?"]);
            trial.allow(ALLOWED);
            let path = trial.sandbox.path("agent.toml");
            fs::set_permissions(path, fs::Permissions::from_mode(0o666)).unwrap();
            apply(NIC, "2Mbit/s")
                .expect_code(4)
                .expect_error(&["others can write it", "chmod"]);
            trial.expect_clean("everything was refused");
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn what_others_made_is_never_replaced_nor_taken_away() {
        with_trial(|trial| {
            trial.points.decide(|_, _| Answer::Go);
            for (make, take_away) in [
                (
                    "tc qdisc add dev nic0 root handle 1: htb",
                    "tc qdisc del dev nic0 root",
                ),
                (
                    "tc qdisc add dev nic0 ingress",
                    "tc qdisc del dev nic0 ingress",
                ),
            ] {
                command(make);
                let theirs = trial.stage.snapshot();
                trial
                    .apply()
                    .expect_code(4)
                    .expect_error(&["not hexloop's", "never replaces"]);
                assert_eq!(trial.stage.snapshot(), theirs, "{make}");
                command(take_away);
            }
            // Made while a dead owner's ledger still names its own.
            let (ledger, text) = abandoned(trial);
            trial.undo().expect_code(0);
            command("tc qdisc add dev nic0 root handle 1: htb");
            let theirs = trial.stage.snapshot();
            fs::write(&ledger, &text).unwrap();
            trial.undo().expect_code(0);
            assert_eq!(trial.stage.snapshot(), theirs);
            command("tc qdisc del dev nic0 root");
            trial.expect_clean("theirs is gone");
        });
    }

    /// Applies with nobody in the way, does something to the machine, and waits for the end.
    fn applied_and(trial: &Trial<'_>, lines: &[&str], why: &str) {
        trial.points.decide(|_, _| Answer::Go);
        trial.apply().expect_code(0);
        for line in lines {
            command(line);
        }
        let ended = within_ms(CLEAN_MS, || {
            trial.ledgers().is_empty() && trial.processes(&[HOLDER, GUARDIAN]).is_empty()
        });
        assert!(ended, "{lines:?}: it is still held");
        trial.stage.expect_reachable();
        let show = fs::read_to_string(trial.sandbox.path("state/ended/nic0.json")).unwrap();
        assert!(show.contains(why), "{show}");
    }

    #[test]
    #[ignore = "needs root"]
    fn an_interface_that_changes_under_us_ends_the_shaping_with_the_reason() {
        with_trial(|trial| {
            applied_and(trial, &["ip link set nic0 mtu 1400"], "from 1500 to 1400");
            command("ip link set nic0 mtu 1500");
            trial.expect_clean("the MTU is back");

            // A name is only a name: the shaping stays, and is undone under the new one.
            trial.points.decide(|_, _| Answer::Go);
            trial.apply().expect_code(0);
            command("ip link set nic0 down");
            command("ip link set nic0 name other0");
            command("ip link set other0 up");
            trial.run(&["link", "clear", NIC]).expect_code(0);
            let left = stage::output("tc", &["qdisc", "show", "dev", "other0"]);
            assert!(!left.contains("htb"), "{left}");
            command("ip link set other0 name nic0");
            command("ip -6 address add fd99::1/64 dev nic0 nodad");
            trial.expect_clean("the name is back");

            applied_and(trial, &["ip link del nic0"], "vanished");
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn a_trace_is_followed_until_it_ends_and_peers_have_classes_of_their_own() {
        with_trial(|trial| {
            trial.points.decide(|_, _| Answer::Go);
            let trace = "# {\"schema\":1,\"scenario\":\"steps\",\"status\":\"control\",\
                         \"duration_ns\":600000000,\"end\":\"clear\",\"seed\":null,\
                         \"generator\":\"test\"}\n\
                         t_ns,down_rate_bps,up_rate_bps\n0,8000000,16000000\n\
                         200000000,4000000,24000000\n";
            trial.sandbox.write("steps.csv", trace);
            let classes = || stage::output("tc", &["class", "show", "dev", NIC]);
            let arguments = [
                "link",
                "apply",
                NIC,
                "--down",
                "steps.csv",
                "--lease",
                "60 s",
            ];
            trial.run(&arguments).expect_code(0);
            assert!(classes().contains("rate 16Mbit") || classes().contains("rate 24Mbit"));
            let stepped = within_ms(CLEAN_MS, || classes().contains("rate 24Mbit"));
            let ended = within_ms(CLEAN_MS, || {
                trial.ledgers().is_empty() && trial.processes(&[HOLDER, GUARDIAN]).is_empty()
            });
            assert!(stepped && ended, "{}", classes());
            let show = trial.run(&["link", "show", NIC]);
            assert!(show.stdout.contains("its trace ended"), "{}", show.told());

            let arguments = [
                "link",
                "apply",
                NIC,
                "--rate",
                "8Mbit/s",
                "--peer",
                "10.99.1.2:443",
                "--peer",
                "[fd99::2]:53/udp",
            ];
            trial.run(&arguments).expect_code(0);
            assert_eq!(classes().lines().count(), 2, "{}", classes());
            let filters = stage::output("tc", &["filter", "show", "dev", NIC]);
            assert!(filters.contains("protocol ip ") && filters.contains("protocol ipv6 "));
            trial.run(&["link", "clear", NIC]).expect_code(0);
            trial.expect_clean("cleared");
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn two_shapings_of_one_interface_do_not_mix() {
        with_trial(|trial| {
            trial.points.decide(|_, _| Answer::Go);
            trial.apply().expect_code(0);
            trial
                .apply()
                .expect_code(4)
                .expect_error(&["is shaped already", "hexloop link clear nic0"]);
            let seen = Arc::new(Mutex::new(Vec::new()));
            let notes = Arc::clone(&seen);
            trial.points.decide(move |point, _| {
                notes.lock().unwrap().push(point.name.clone());
                Answer::Go
            });
            trial.run(&["link", "clear", NIC]).expect_code(0);
            trial.run(&["link", "clear", NIC]).expect_code(4);
            assert!(seen.lock().unwrap().iter().any(|name| name == "undo"));
            trial.expect_clean("cleared");
        });
    }
}
