//! Changes of a machine and their undoing, on a kernel: whatever is changed in whatever order,
//! afterwards everything is as it was. Addresses, offloads and kernel parameters are the kernel's
//! own, in namespaces of the test; governors and interrupts are files in the place of the kernel's,
//! because a test must not touch those of its machine.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::IpAddr;
    use std::path::Path;
    use std::process::Command;

    use hexloop_agent::change::{ChangeError, Changes, offloads};
    use hexloop_agent::configuration::Configuration;
    use hexloop_agent::guardian::{self, Guardian, GuardianError, replay_leftovers};
    use hexloop_agent::process::{ProcessIdentity, SelfCommand};
    use hexloop_agent::undo::{InterfaceIdentity, NamespaceIdentity, Setting};
    use hexloop_topologies::HostConfiguration;
    use hexloop_workloads::clock;
    use nix::net::if_::if_nametoindex;
    use nix::sched::{CloneFlags, unshare};
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};

    const NIC: &str = "nic0";
    const GOVERNOR: &str = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";
    const AFFINITY: &str = "/proc/irq/7/smp_affinity_list";
    const FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

    /// This test program in the part of `hexloop agent guard`.
    fn this_program() -> SelfCommand {
        let arguments = [
            "--exact",
            "tests::plays_the_part_it_is_given",
            "--nocapture",
            "--",
        ];
        SelfCommand::with_arguments(arguments.iter().map(Into::into).collect())
    }

    /// Not a test of its own: other tests start this program again to play the guardian.
    #[test]
    fn plays_the_part_it_is_given() {
        let arguments: Vec<String> = std::env::args().skip_while(|a| a != "--").skip(1).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        match arguments[..] {
            ["guard", "--ledger", ledger] => {
                guardian::run(Path::new(ledger)).unwrap();
            }
            _ => assert!(arguments.is_empty(), "{arguments:?}"),
        }
    }

    fn command(line: &str) -> String {
        let mut words = line.split(' ');
        let output = Command::new(words.next().unwrap()).args(words).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a test on a thread with a network and a file system of its own.
    fn with_machine(test: impl FnOnce() + Send) {
        std::thread::scope(|scope| {
            let played = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
                command("mount --make-rprivate /");
                for (directory, file, content) in [
                    ("/sys/devices/system/cpu", GOVERNOR, "powersave\n"),
                    ("/proc/irq", AFFINITY, "0-1\n"),
                ] {
                    command(&format!("mount -t tmpfs none {directory}"));
                    fs::create_dir_all(Path::new(file).parent().unwrap()).unwrap();
                    fs::write(file, content).unwrap();
                }
                command("ip link add nic0 type veth peer name far0");
                command("ip link set nic0 addrgenmode none");
                command("ip address add 10.98.0.1/24 dev nic0");
                command("ip link set nic0 up");
                test();
            });
            if let Err(failure) = played.join() {
                std::panic::resume_unwind(failure);
            }
        });
    }

    /// Everything that the changes of these tests are about.
    fn snapshot() -> Vec<String> {
        let mut seen: Vec<String> = command("ip -o address show dev nic0")
            .lines()
            .map(|line| line.replace(" tentative", ""))
            .collect();
        for (name, on) in offloads(NIC).unwrap() {
            seen.push(format!("{name} {on}"));
        }
        for file in [GOVERNOR, AFFINITY, FORWARD] {
            seen.push(value_in(Path::new(file)));
        }
        seen
    }

    /// What a file of settings says: its first line. The kernel's files take a whole value with each
    /// write; these stand for them and keep what a longer one left behind.
    fn value_in(file: &Path) -> String {
        let text = fs::read_to_string(file).unwrap();
        text.lines().next().unwrap_or("").to_owned()
    }

    #[derive(Debug, Clone)]
    enum Action {
        Address(IpAddr, u8),
        Offload(&'static str, bool),
        Set(Setting, &'static str),
    }

    fn parameter() -> Setting {
        Setting::Sysctl {
            name: "net.ipv4.ip_forward".to_owned(),
            namespace: Some(NamespaceIdentity::of_this_thread().unwrap()),
        }
    }

    fn allowed() -> Configuration {
        Configuration {
            path: "agent.toml".into(),
            host: HostConfiguration {
                settings: ["governor", "irq", "sysctl", "hugepages"]
                    .map(str::to_owned)
                    .into(),
                ..HostConfiguration::default()
            },
        }
    }

    fn interface() -> InterfaceIdentity {
        InterfaceIdentity {
            namespace: NamespaceIdentity::of_this_thread().unwrap(),
            index: if_nametoindex(NIC).unwrap(),
            name: NIC.to_owned(),
        }
    }

    impl Action {
        fn carry_out(&self, changes: &mut Changes<'_>) -> Result<(), ChangeError> {
            match self {
                Action::Address(address, prefix) => {
                    changes.address(&interface(), *address, *prefix)
                }
                Action::Offload(feature, on) => changes.offload(&interface(), feature, *on),
                Action::Set(setting, value) => changes.set(&allowed(), setting.clone(), value),
            }
        }
    }

    fn actions() -> impl Strategy<Value = Vec<Action>> {
        let address = (0_u8..4, any::<bool>()).prop_map(|(last, is_v4)| {
            // The first is there already.
            let number = 1 + u16::from(last);
            let address: IpAddr = if is_v4 {
                format!("10.98.0.{number}").parse().unwrap()
            } else {
                format!("fd98::{number}").parse().unwrap()
            };
            Action::Address(address, if is_v4 { 24 } else { 64 })
        });
        let features = [
            "tcp-segmentation-offload",
            "generic-segmentation-offload",
            "generic-receive-offload",
            "scatter-gather",
        ];
        let offload = (proptest::sample::select(features.to_vec()), any::<bool>())
            .prop_map(|(feature, on)| Action::Offload(feature, on));
        let set = proptest::sample::select(vec![
            (Setting::Governor { cpu: 0 }, "performance"),
            (Setting::Governor { cpu: 0 }, "powersave"),
            (Setting::IrqAffinity { irq: 7 }, "1"),
            (Setting::IrqAffinity { irq: 7 }, "0"),
            (parameter(), "1"),
            (parameter(), "0"),
        ])
        .prop_map(|(setting, value)| Action::Set(setting, value));
        proptest::collection::vec(prop_oneof![address, offload, set], 0..12)
    }

    /// How what was changed is undone.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum End {
        /// By the guardian, at its owner's wish.
        Finish,
        /// By the owner, whose guardian was killed.
        Unguarded,
        /// By the next start: both are gone.
        Replay,
    }

    fn kill_guardian(guardian: &Guardian) {
        let process = ProcessIdentity::of(guardian.process_id()).unwrap();
        let killed = process.kill_and_wait(clock::now() + 60_000_000_000);
        assert!(killed.unwrap(), "the guardian lives on");
    }

    fn undo(guardian: Guardian, state: &Path, end: End) -> Result<(), GuardianError> {
        match end {
            End::Finish => guardian.finish(),
            End::Unguarded => {
                kill_guardian(&guardian);
                guardian.finish()
            }
            End::Replay => {
                kill_guardian(&guardian);
                drop(guardian);
                // The threads of the killed one may hold the ledger for a moment yet, and for all that
                // anybody can see its owner lives: this process.
                let deadline = clock::now() + 60_000_000_000;
                let mut reports = replay_leftovers(state)?;
                while reports.is_empty() {
                    assert!(clock::now() < deadline, "the ledger stays in use");
                    clock::sleep_until(clock::now() + 2_000_000);
                    reports = replay_leftovers(state)?;
                }
                assert!(
                    reports.iter().all(|report| report.is_clean()),
                    "{reports:?}"
                );
                Ok(())
            }
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn whatever_is_changed_in_whatever_order_afterwards_everything_is_as_it_was() {
        with_machine(|| {
            let before = snapshot();
            let ends = proptest::sample::select(vec![End::Finish, End::Unguarded, End::Replay]);
            let config = Config {
                cases: 24,
                failure_persistence: None,
                ..Config::default()
            };
            let state = tempfile::tempdir().unwrap();
            let outcome = TestRunner::new(config).run(&(actions(), ends), |(actions, end)| {
                let guardian = Guardian::start_as(&this_program(), state.path(), "test").unwrap();
                let mut changes = Changes::new(&guardian).unwrap();
                for action in &actions {
                    match action.carry_out(&mut changes) {
                        // An address that is there already is not ours to take away.
                        Ok(()) | Err(ChangeError::Foreign { .. }) => {}
                        Err(error) => panic!("{action:?}: {error:?}"),
                    }
                }
                drop(changes);
                undo(guardian, state.path(), end).unwrap();
                prop_assert_eq!(&snapshot(), &before);
                Ok(())
            });
            outcome.unwrap();
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn each_change_is_made_and_what_somebody_else_changed_since_stays() {
        with_machine(|| {
            let before = snapshot();
            let state = tempfile::tempdir().unwrap();
            let guardian = Guardian::start_as(&this_program(), state.path(), "test").unwrap();
            let mut changes = Changes::new(&guardian).unwrap();
            let tso = "tcp-segmentation-offload";
            for action in [
                Action::Address("10.98.7.1".parse().unwrap(), 24),
                Action::Address("fd98::7".parse().unwrap(), 64),
                Action::Offload(tso, false),
                Action::Set(Setting::Governor { cpu: 0 }, "performance"),
                Action::Set(Setting::IrqAffinity { irq: 7 }, "1"),
                Action::Set(parameter(), "1"),
            ] {
                action.carry_out(&mut changes).unwrap();
            }
            let changed = snapshot();
            let differing = before.iter().filter(|line| !changed.contains(line)).count();
            assert_eq!(differing, 4, "{before:#?}\n{changed:#?}");
            assert_eq!(changed.len(), before.len() + 2);
            // Somebody else's governor, and an address that somebody has taken away already.
            fs::write(GOVERNOR, "schedutil\n").unwrap();
            command("ip address del 10.98.7.1/24 dev nic0");
            drop(changes);
            guardian.finish().unwrap();
            let mut expected = before.clone();
            for line in &mut expected {
                if line == "powersave" {
                    "schedutil".clone_into(line);
                }
            }
            assert_eq!(snapshot(), expected);
        });
    }

    #[test]
    #[ignore = "needs root"]
    fn a_setting_that_the_owner_does_not_allow_is_not_changed() {
        with_machine(|| {
            let before = snapshot();
            let state = tempfile::tempdir().unwrap();
            let guardian = Guardian::start_as(&this_program(), state.path(), "test").unwrap();
            let mut changes = Changes::new(&guardian).unwrap();
            let nothing = Configuration {
                host: HostConfiguration::default(),
                ..allowed()
            };
            for (setting, value) in [
                (Setting::Governor { cpu: 0 }, "performance"),
                (Setting::IrqAffinity { irq: 7 }, "1"),
                (parameter(), "1"),
            ] {
                let refused = changes.set(&nothing, setting, value).unwrap_err();
                assert!(
                    matches!(refused, ChangeError::NotAllowed { .. }),
                    "{refused}"
                );
            }
            assert_eq!(snapshot(), before);
            drop(changes);
            guardian.finish().unwrap();
        });
    }

    /// A machine in a directory: every setting that is a file, with what it holds at first.
    const FILES: &[(&str, &str)] = &[
        (
            "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
            "powersave",
        ),
        (
            "sys/devices/system/cpu/cpu0/cpufreq/energy_performance_preference",
            "balance_power",
        ),
        ("sys/devices/system/cpu/cpufreq/boost", "1"),
        ("sys/devices/system/cpu/intel_pstate/no_turbo", "0"),
        (
            "sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages",
            "4",
        ),
        (
            "sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages",
            "0",
        ),
        ("proc/irq/7/smp_affinity_list", "0-1"),
    ];

    fn files_of(root: &Path) -> Vec<String> {
        let read = |(name, _): &(&str, &str)| value_in(&root.join(name));
        FILES.iter().map(read).collect()
    }

    #[test]
    fn every_setting_of_a_machine_is_put_back_by_whoever_is_left() {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in FILES {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let before = files_of(root.path());
        let (near, far) = (
            Setting::Hugepages {
                node: Some(0),
                size_kib: 2048,
            },
            Setting::Hugepages {
                node: None,
                size_kib: 1_048_576,
            },
        );
        let set = proptest::sample::select(vec![
            (Setting::Governor { cpu: 0 }, "performance"),
            (Setting::EnergyPreference { cpu: 0 }, "performance"),
            (Setting::Boost, "0"),
            (Setting::NoTurbo, "1"),
            (near.clone(), "64"),
            (near, "128"),
            (far, "1"),
            (Setting::IrqAffinity { irq: 7 }, "0"),
        ]);
        let ends = proptest::sample::select(vec![End::Finish, End::Unguarded, End::Replay]);
        let config = Config {
            cases: 12,
            failure_persistence: None,
            ..Config::default()
        };
        let state = tempfile::tempdir().unwrap();
        let cases = (proptest::collection::vec(set, 0..10), ends);
        let outcome = TestRunner::new(config).run(&cases, |(sets, end)| {
            let guardian = Guardian::start_as(&this_program(), state.path(), "test").unwrap();
            let mut changes = Changes::new(&guardian).unwrap().below(root.path());
            for (setting, value) in &sets {
                changes.set(&allowed(), setting.clone(), value).unwrap();
                prop_assert_eq!(&setting.read(root.path()).unwrap().unwrap(), value);
            }
            drop(changes);
            undo(guardian, state.path(), end).unwrap();
            prop_assert_eq!(&files_of(root.path()), &before);
            Ok(())
        });
        outcome.unwrap();
    }
}
