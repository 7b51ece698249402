//! Shapings that are refused: not allowed, somebody else's, or shaped already.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use hexloop_tests::points::Answer;
use hexloop_tests::sandbox::{Finished, finish};
use hexloop_tests::stage::{self, MANAGEMENT, NIC, command};

use crate::shaping::{ALLOWED, Trial, abandoned, with_trial};

#[test]
#[ignore = "needs root"]
fn what_the_owner_does_not_allow_is_refused_with_the_remedy() {
    with_trial(|trial| {
        trial.points.decide(|_, _| Answer::Go);
        let apply = |name: &str, rate: &str| trial.run(&["link", "apply", name, "--rate", rate]);
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
fn the_nic_of_the_control_connection_is_refused_also_where_its_way_is_not_told() {
    with_trial(|trial| {
        trial.points.decide(|_, _| Answer::Go);
        let apply_from = |peer: &str| {
            let mut apply = trial.command(&[
                "link", "apply", NIC, "--rate", "2Mbit/s", "--lease", "100 s",
            ]);
            apply.env("SSH_CONNECTION", format!("{peer} 50000 10.99.1.1 22"));
            finish(apply.spawn().unwrap(), 180)
        };
        for peer in ["10.99.1.2", "fd99::2"] {
            let reason = format!("the connection from {peer} comes in over it");
            apply_from(peer)
                .expect_code(4)
                .expect_error(&["never shaped", &reason]);
        }
        // The interface stands in the address, which there is no route to.
        apply_from("fe80::9%nic0")
            .expect_code(4)
            .expect_error(&["never shaped", "from fe80::9 comes in over it"]);
        // The kernel refuses to tell.
        command("ip route add prohibit 10.98.0.0/16");
        let refused = apply_from("10.98.0.2");
        assert_ne!(refused.code(), Some(0), "{}", refused.told());
        refused.expect_error(&["find the way to 10.98.0.2"]);
        command("ip route del prohibit 10.98.0.0/16");
        trial.expect_clean("everything was refused");
        // There is none, over which nobody can be connected.
        command("ip route add unreachable 10.98.0.0/16");
        apply_from("10.98.0.2").expect_code(0);
        trial.run(&["link", "clear", NIC]).expect_code(0);
        command("ip route del unreachable 10.98.0.0/16");
        trial.expect_clean("the way to nobody");
        apply_from("fe80::9%mgmt0").expect_code(0);
        trial.run(&["link", "clear", NIC]).expect_code(0);
        trial.expect_clean("the way of another interface");
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

/// A command of the trial's that is begun by another program, with the same surroundings.
fn begun_by(trial: &Trial<'_>, starter: &[&str], arguments: &[&str]) -> Finished {
    let command = trial.command(arguments);
    let mut begun = Command::new(starter[0]);
    begun
        .args(&starter[1..])
        .arg(command.get_program())
        .args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => begun.env(name, value),
            None => begun.env_remove(name),
        };
    }
    begun
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    finish(begun.spawn().unwrap(), 180)
}

#[test]
#[ignore = "needs root"]
fn what_a_user_or_a_root_without_rights_lacks_is_named_with_the_remedy() {
    with_trial(|trial| {
        trial.points.decide(|_, _| Answer::Go);
        let apply = ["link", "apply", NIC, "--rate", "2Mbit/s"];
        let powerless = ["setpriv", "--bounding-set", "-net_admin"];
        begun_by(trial, &powerless, &apply)
            .expect_code(4)
            .expect_error(&["CAP_NET_ADMIN", "--cap-add NET_ADMIN"]);
        let ordinary = ["setpriv", "--reuid", "65534", "--clear-groups"];
        for arguments in [
            &["link", "show"][..],
            &["link", "clear", "--all"],
            &["link", "confirm", NIC],
            &apply,
        ] {
            begun_by(trial, &ordinary, arguments)
                .expect_code(4)
                .expect_error(&["sudo"]);
        }
        trial.expect_clean("everything was refused");
    });
}

#[test]
#[ignore = "needs root"]
fn what_the_kernel_lacks_is_told_before_anything_is_touched() {
    with_trial(|trial| {
        let has_netem = stage::succeeds("tc qdisc add dev lo root netem");
        if has_netem {
            command("tc qdisc del dev lo root");
            println!("this kernel has netem: there is nothing to lack");
            return;
        }
        trial.points.decide(|_, _| Answer::Go);
        let delay = ["link", "apply", NIC, "--delay", "10ms"];
        trial.run(&delay).expect_code(4).expect_error(&[
            "lacks netem",
            "modprobe sch_netem",
            "--datapath relay",
        ]);
        let seen = trial.points.so_far();
        let touched = seen.iter().any(|point| point.name == "step-recorded");
        assert!(!touched, "{seen:?}");
        trial.expect_clean("it was refused");
        let behind = ["link", "--datapath", "tc", "--delay", "10ms", "--", "true"];
        trial
            .run(&behind)
            .expect_code(125)
            .expect_error(&["lacks netem", "datapath relay"]);
    });
}

#[test]
#[ignore = "needs root"]
fn a_ledger_that_somebody_else_could_have_written_is_carried_out_by_nobody() {
    with_trial(|trial| {
        trial.points.decide(|_, _| Answer::Go);
        let victim = trial.sandbox.path("victim");
        fs::create_dir(&victim).unwrap();
        let ledgers = trial.sandbox.path("state/ledgers");
        fs::create_dir_all(&ledgers).unwrap();
        let note = format!(
            "{{\"do\":{{\"id\":0,\"action\":{{\"undo\":\"remove-directory\",\"path\":{victim:?}}}}}}}\n"
        );
        let ledger = ledgers.join("theirs-1-1-0.ledger");
        fs::write(&ledger, note).unwrap();
        let mode = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let state = trial.sandbox.path("state");
        for path in [&state, &ledgers, &ledger] {
            let before = fs::metadata(path).unwrap().permissions().mode();
            mode(path, before | 0o022);
            for arguments in [
                &["undo"][..],
                &["link", "show"],
                &["link", "apply", NIC, "--rate", "2Mbit/s"],
                &["bench", "link", "--only", "tc-change"],
            ] {
                trial
                    .run(arguments)
                    .expect_code(5)
                    .expect_error(&["others can write it", "chown root:root"]);
            }
            mode(path, before);
            std::os::unix::fs::chown(path, Some(1000), None).unwrap();
            trial
                .undo()
                .expect_code(5)
                .expect_error(&["belongs to user 1000"]);
            std::os::unix::fs::chown(path, Some(0), None).unwrap();
        }
        assert!(victim.exists());
        // What is root's own is carried out.
        trial.undo().expect_code(0);
        assert!(!victim.exists());
        trial.expect_clean("it was root's own");
    });
}

#[test]
#[ignore = "needs root"]
fn a_ledger_that_is_not_understood_stops_everything_and_says_what_to_do() {
    with_trial(|trial| {
        trial.points.decide(|_, _| Answer::Go);
        let ledgers = trial.sandbox.path("state/ledgers");
        fs::create_dir_all(&ledgers).unwrap();
        let ledger = ledgers.join("link-1-1-0.ledger");
        fs::write(&ledger, "what nobody understands\n").unwrap();
        let says = ["link-1-1-0.ledger", "by hand", "remove the file"];
        let row = ["bench", "link", "--only", "star-1000"];
        for arguments in [
            &row[..],
            &["link", "show"],
            &["link", "apply", NIC, "--rate", "2Mbit/s"],
        ] {
            trial.run(arguments).expect_code(5).expect_error(&says);
        }
        for arguments in [&["undo"][..], &["doctor"]] {
            let told = trial.run(arguments);
            told.expect_code(5);
            for words in says {
                assert!(told.stdout.contains(words), "{words}: {}", told.told());
            }
        }
        fs::remove_file(&ledger).unwrap();
        trial.undo().expect_code(0);
        trial.expect_clean("it is gone");
    });
}
