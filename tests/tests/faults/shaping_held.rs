//! How a shaping ends: its lease, its trace, its interface, its owner.

use std::fs;
use std::path::Path;

use hexloop_tests::points::Answer;
use hexloop_tests::sandbox::within_ms;
use hexloop_tests::stage::{self, NIC, command};
use hexloop_traces::format::{MOST_ROWS_COPIED, TraceWriter};
use hexloop_traces::generate::control;
use nix::sys::signal::{Signal, kill};

use crate::shaping::{CLEAN_MS, GUARDIAN, HOLDER, Trial, with_trial};

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
fn times_in_which_nothing_could_happen_are_refused_and_the_lease_bounds_the_confirmation() {
    with_trial(|trial| {
        trial.points.decide(|_, _| Answer::Go);
        let apply = |more: &[&str]| {
            let mut arguments = vec!["link", "apply", NIC, "--rate", "10Mbit/s"];
            arguments.extend(more);
            trial.run(&arguments)
        };
        for option in ["--lease", "--confirm-within"] {
            apply(&[option, "0s"])
                .expect_code(3)
                .expect_error(&[option, "above 0"]);
        }
        trial.expect_clean("both were refused");
        let applied = apply(&["--lease", "50 s", "--confirm-within", "3 h"]);
        applied.expect_code(0);
        assert!(applied.stdout.contains("within 50 s"), "{}", applied.told());
        trial
            .run(&["link", "confirm", NIC, "--extend", "0s"])
            .expect_code(3)
            .expect_error(&["--extend", "above 0"]);
        let show = trial.run(&["link", "show", NIC]);
        assert!(show.stdout.contains("unconfirmed"), "{}", show.told());
        trial.run(&["link", "clear", NIC]).expect_code(0);
        trial.expect_clean("cleared");
    });
}

/// The root of the unified hierarchy of control groups.
fn unified() -> std::path::PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mut unified = mounts.lines().filter_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        (words.get(2) == Some(&"cgroup2")).then(|| words[1].into())
    });
    unified.next().expect("the unified hierarchy")
}

#[test]
#[ignore = "needs root"]
fn who_kills_the_control_group_of_whoever_applied_does_not_kill_those_who_put_things_back() {
    with_trial(|trial| {
        trial.points.decide(|_, _| Answer::Go);
        let group = unified().join(format!("hx-test-{}", std::process::id()));
        fs::create_dir(&group).unwrap();
        let procs = group.join("cgroup.procs");
        let apply = trial.command(&["link", "apply", NIC, "--rate", "2Mbit/s", "--lease", "4 s"]);
        let mut inside = std::process::Command::new("sh");
        inside
            .args(["-c", "echo 0 >\"$0\" && \"$@\" && sleep 100"])
            .arg(&procs);
        inside.arg(apply.get_program()).args(apply.get_args());
        for (name, value) in apply.get_envs() {
            inside.env(name, value.unwrap_or_default());
        }
        inside
            .env_remove("SSH_CONNECTION")
            .current_dir(apply.get_current_dir().unwrap());
        let mut shell = inside.stdout(std::process::Stdio::null()).spawn().unwrap();
        let is_held = || trial.run(&["link", "show", NIC]).stdout.contains(": held");
        assert!(within_ms(CLEAN_MS, is_held), "it is not held");
        // As systemd does when a service is stopped.
        for pid in fs::read_to_string(&procs).unwrap().lines() {
            let pid = nix::unistd::Pid::from_raw(pid.parse().unwrap());
            kill(pid, Signal::SIGKILL).unwrap();
        }
        shell.wait().unwrap();
        assert!(is_held(), "the holder was killed with its caller's group");
        assert_eq!(trial.processes(&[HOLDER, GUARDIAN]).len(), 2);
        assert!(within_ms(CLEAN_MS, || fs::remove_dir(&group).is_ok()));
        trial.expect_clean("the lease is over");
    });
}

/// Gives the link that what the NIC receives is sent through another name. Returns the one that it had.
fn rename_ifb(name: &str) -> String {
    let links = stage::output("ip", &["-o", "link", "show", "type", "ifb"]);
    let ifb = links.split(": ").nth(1).unwrap().to_owned();
    assert!(ifb.starts_with("hxi"), "{links}");
    command(&format!("ip link set {ifb} down"));
    command(&format!("ip link set {ifb} name {name}"));
    command(&format!("ip link set {name} up"));
    ifb
}

/// Kills everybody who could undo.
fn abandon(trial: &Trial<'_>) {
    trial.system.strike(&[HOLDER, GUARDIAN]);
    let gone = within_ms(CLEAN_MS, || trial.processes(&[HOLDER, GUARDIAN]).is_empty());
    assert!(gone, "somebody survived");
}

#[test]
#[ignore = "needs root"]
fn a_renamed_ifb_is_taken_away_by_whoever_undoes_and_one_that_is_not_ours_by_nobody() {
    with_trial(|trial| {
        trial.points.decide(|_, _| Answer::Go);
        let endings: [(&str, &dyn Fn()); 3] = [
            ("cleared", &|| {
                trial.run(&["link", "clear", NIC]).expect_code(0);
            }),
            ("the holder was killed", &|| trial.system.strike(&[HOLDER])),
            ("both were killed", &|| {
                abandon(trial);
                trial.undo().expect_code(0);
            }),
        ];
        for (when, end) in endings {
            trial.apply().expect_code(0);
            let ifb = rename_ifb("other0");
            // Somebody else's takes the name.
            command(&format!("ip link add {ifb} type ifb"));
            end();
            let ended = within_ms(CLEAN_MS, || trial.ledgers().is_empty());
            assert!(ended, "{when}: {:?}", trial.ledgers());
            let left = stage::output("ip", &["link", "show", "type", "ifb"]);
            assert!(!left.contains("other0") && left.contains(&ifb), "{left}");
            command(&format!("ip link del {ifb}"));
            trial.expect_clean(when);
        }

        // Ours is gone, and what has its name is somebody else's.
        trial.apply().expect_code(0);
        let ifb = rename_ifb("other0");
        abandon(trial);
        command("ip link del other0");
        command(&format!("ip link add {ifb} type ifb"));
        let undone = trial.undo();
        undone.expect_code(5);
        assert!(
            undone.stdout.contains("another address"),
            "{}",
            undone.told()
        );
        let left = stage::output("ip", &["link", "show", "type", "ifb"]);
        assert!(left.contains(&ifb), "{left}");
        command(&format!("ip link del {ifb}"));
        trial.undo().expect_code(0);
        trial.expect_clean("theirs is gone");
    });
}

#[test]
#[ignore = "needs root"]
fn a_trace_goes_on_under_a_new_name_which_show_tells_with_how_well_it_is_followed() {
    with_trial(|trial| {
        trial.points.decide(|_, _| Answer::Go);
        let applied = trial.run(&["link", "apply", NIC, "--down", "turns.csv"]);
        applied.expect_code(0);
        assert!(applied.stdout.contains("SCHED_"), "{}", applied.told());
        command("ip link set nic0 down");
        command("ip link set nic0 name other0");
        command("ip link set other0 up");
        let queues = || stage::output("tc", &["qdisc", "show", "dev", "other0"]);
        for limit in ["limit 60000b", "limit 70000b"].repeat(2) {
            let comes = within_ms(CLEAN_MS, || queues().contains(limit));
            assert!(comes, "{limit}: {}", queues());
        }
        let show = trial.run(&["link", "show", "other0", "--json"]);
        let document: serde_json::Value = serde_json::from_str(&show.stdout).unwrap();
        let shown = &document[0];
        let names = [&shown["interface"], &shown["called_now"], &shown["state"]];
        assert_eq!(names, ["nic0", "other0", "held"], "{}", show.told());
        let rows = |of: &serde_json::Value| of["lateness"]["count"].as_u64().unwrap();
        let told = rows(&shown["followed"]);
        assert!(told > 0, "{}", show.told());
        let ways = shown["followed"]["directions"].as_array().unwrap();
        assert_eq!(ways.len(), 2, "{}", show.told());
        let show = trial.run(&["link", "show"]);
        assert!(show.stdout.contains("called other0"), "{}", show.told());
        assert!(show.stdout.contains("rows: late by"), "{}", show.told());

        trial.run(&["link", "clear", "other0"]).expect_code(0);
        command("ip link set other0 name nic0");
        command("ip -6 address add fd99::1/64 dev nic0 nodad");
        trial.expect_clean("the name is back");
        let show = trial.run(&["link", "show", NIC, "--json"]);
        let document: serde_json::Value = serde_json::from_str(&show.stdout).unwrap();
        assert!(rows(&document[0]["followed"]) >= told, "{}", show.told());
        let left = fs::read_dir(trial.sandbox.path("state/followed")).unwrap();
        assert_eq!(left.count(), 0);
    });
}

#[test]
#[ignore = "needs root, netem"]
fn packets_that_may_become_longer_than_the_queues_beside_a_delay_end_the_shaping() {
    with_trial(|trial| {
        trial.points.decide(|_, _| Answer::Go);
        let arguments = [
            "link",
            "apply",
            NIC,
            "--rate",
            "20Mbit/s,10Mbit/s",
            "--delay",
            "10ms",
        ];
        trial.run(&arguments).expect_code(0);
        command("ip link set nic0 gro_max_size 131072");
        let ended = within_ms(CLEAN_MS, || {
            trial.ledgers().is_empty() && trial.processes(&[HOLDER, GUARDIAN]).is_empty()
        });
        assert!(ended, "it is still held");
        let show = trial.run(&["link", "show", NIC]);
        assert!(show.stdout.contains("131136 bytes"), "{}", show.told());
        command("ip link set nic0 gro_max_size 65536");
        trial.expect_clean("the packets are as short as before");
    });
}

/// The rates of classes, as `tc class show` writes them.
fn rates_bps(classes: &str) -> Vec<f64> {
    let words: Vec<&str> = classes.split_ascii_whitespace().collect();
    let rate = |pair: &[&str]| {
        let text = pair[1].strip_suffix("bit").filter(|_| pair[0] == "rate")?;
        let units = [('G', 1e9), ('M', 1e6), ('K', 1e3)];
        let scaled = |(unit, factor): (char, f64)| {
            let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
            Some(number * factor)
        };
        units
            .into_iter()
            .find_map(scaled)
            .or_else(|| text.parse().ok())
    };
    words.windows(2).filter_map(rate).collect()
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
        // The classes are steered to the trace's bytes: their rates are near it, not equal to it.
        let is_near = |rate_bps: f64| {
            let rates = rates_bps(&classes());
            rates
                .iter()
                .any(|have| (have / rate_bps - 1.0).abs() < 0.05)
        };
        assert!(is_near(16e6) || is_near(24e6), "{}", classes());
        let mut seen = String::new();
        let stepped = within_ms(CLEAN_MS, || {
            seen.push_str(&classes());
            is_near(24e6)
        });
        let ended = within_ms(CLEAN_MS, || {
            trial.ledgers().is_empty() && trial.processes(&[HOLDER, GUARDIAN]).is_empty()
        });
        assert!(stepped && ended, "{stepped} {ended} {seen}");
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

/// An Arrow file of more rows than are copied into memory: a second of 16 Mbit/s, then 24.
fn write_long_trace(path: &Path) {
    const ROW_NS: u64 = 1_000_000;
    let rows = MOST_ROWS_COPIED + 1000;
    let one = control::constant(16_000_000, 0, 0, rows * ROW_NS).unwrap();
    let mut writer = TraceWriter::create(path, one.metadata()).unwrap();
    let mut row = one.rows()[0].clone();
    for index in 0..rows {
        row.t_ns = index * ROW_NS;
        if index >= 1000 {
            row.up.rate_bps = 24_000_000;
        }
        writer.write_row(&row).unwrap();
    }
    writer.finish().unwrap();
}

#[test]
#[ignore = "needs root"]
fn a_trace_that_stays_in_its_file_is_followed_whatever_becomes_of_that_file() {
    with_trial(|trial| {
        trial.points.decide(|_, _| Answer::Go);
        let path = trial.sandbox.path("long.arrow");
        write_long_trace(&path);
        trial
            .run(&["link", "apply", NIC, "--down", "long.arrow"])
            .expect_code(0);
        // Written over where it lies, and then deleted.
        fs::write(&path, "").unwrap();
        fs::remove_file(&path).unwrap();
        let classes = || stage::output("tc", &["class", "show", "dev", NIC]);
        let goes_on = within_ms(CLEAN_MS, || {
            let is_near = |rate_bps: &f64| (rate_bps / 24e6 - 1.0).abs() < 0.05;
            rates_bps(&classes()).iter().any(is_near)
        });
        assert!(goes_on, "{}", classes());
        let show = trial.run(&["link", "show", NIC]);
        assert!(show.stdout.contains(": held"), "{}", show.told());
        // A million rows in memory take more than a hundred.
        let holder = trial.processes(&[HOLDER]).pop().unwrap();
        let status = fs::read_to_string(format!("/proc/{holder}/status")).unwrap();
        let line = status.lines().find(|line| line.starts_with("RssAnon:"));
        let kib: u64 = line
            .unwrap()
            .split_whitespace()
            .nth(1)
            .unwrap()
            .parse()
            .unwrap();
        assert!(kib < 50_000, "the holder has {kib} KiB of its own");
        // Nothing but the ledger and the lock names it.
        let state = fs::read_dir(trial.sandbox.path("state")).unwrap();
        let names: Vec<_> = state.map(|entry| entry.unwrap().file_name()).collect();
        let is_copy = |name: &std::ffi::OsString| name.to_string_lossy().contains("trace");
        assert!(!names.iter().any(is_copy), "{names:?}");
        for pid in trial.processes(&[HOLDER]) {
            kill(pid, Signal::SIGKILL).unwrap();
        }
        trial.expect_clean("the holder of a long trace was killed");
    });
}

#[test]
#[ignore = "needs root"]
fn a_lease_that_is_renewed_ends_later_and_never_later_than_allowed() {
    with_trial(|trial| {
        trial.points.decide(|_, _| Answer::Go);
        trial.allow("schema = 1\nallow_interfaces = [\"nic0\"]\nmax_lease = \"100 s\"\n");
        let apply = |more: &[&str]| {
            let mut arguments = vec!["link", "apply", NIC, "--rate", "10Mbit/s"];
            arguments.extend(more);
            trial.run(&arguments).expect_code(0);
        };
        let left_s = || {
            let show = trial.run(&["link", "show", NIC, "--json"]);
            let document: serde_json::Value = serde_json::from_str(&show.stdout).unwrap();
            document[0]["left_ns"].as_u64().map(|ns| ns / 1_000_000_000)
        };
        apply(&["--lease", "50 s"]);
        let extend = |time| trial.run(&["link", "confirm", NIC, "--extend", time]);
        extend("101 s").expect_code(4).expect_error(&["max_lease"]);
        assert!(left_s().unwrap() < 50);
        extend("90 s").expect_code(0);
        assert!(left_s().unwrap() > 50, "{:?}", left_s());
        trial.stage.expect_reachable();
        // Shorter is as good.
        extend("1 s").expect_code(0);
        trial.expect_clean("the renewed lease is over");

        // The guardian has heard of it too, should the holder not move any more.
        apply(&["--lease", "2 s"]);
        extend("3 s").expect_code(0);
        for pid in trial.processes(&[HOLDER]) {
            kill(pid, Signal::SIGSTOP).unwrap();
        }
        trial.expect_clean("the renewed lease of a stopped holder is over");

        // What nobody has confirmed is confirmed by the same word.
        apply(&["--lease", "60 s", "--confirm-within", "30 s"]);
        extend("80 s").expect_code(0);
        assert!(left_s().unwrap() > 60);
        for pid in trial.processes(&[HOLDER]) {
            kill(pid, Signal::SIGKILL).unwrap();
        }
        trial.expect_clean("a renewed lease whose holder was killed");
    });
}
