//! Shapings that are refused: not allowed, somebody else's, or shaped already.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use hexloop_tests::points::Answer;
use hexloop_tests::sandbox::finish;
use hexloop_tests::stage::{MANAGEMENT, NIC, command};

use crate::shaping::{ALLOWED, abandoned, with_trial};

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
