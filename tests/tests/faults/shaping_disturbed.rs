//! What somebody else does to a machine while one of its interfaces is held, and what becomes of that.

use hexloop_tests::points::Answer;
use hexloop_tests::sandbox::within_ms;
use hexloop_tests::stage::{self, NIC, command};

use crate::shaping::{ALLOWED, CLEAN_MS, GUARDIAN, HOLDER, Trial, with_trial};

/// Applies with nobody in the way, does something to the machine, and waits for the end, of which `show`
/// tells the reason.
fn applied_and(trial: &Trial<'_>, act: impl FnOnce(), why: &[&str]) {
    trial.points.decide(|_, _| Answer::Go);
    trial.apply().expect_code(0);
    act();
    expect_ended(trial, why);
}

fn expect_ended(trial: &Trial<'_>, why: &[&str]) {
    let ended = within_ms(CLEAN_MS, || {
        trial.ledgers().is_empty() && trial.processes(&[HOLDER, GUARDIAN]).is_empty()
    });
    let show = trial.run(&["link", "show", NIC]);
    assert!(ended, "{why:?}: it is still held: {}", show.told());
    trial.stage.expect_reachable();
    show.expect_code(0);
    for words in [": not held", "ended "].iter().chain(why) {
        assert!(show.stdout.contains(words), "{words}: {}", show.told());
    }
}

/// Has the NIC shaped, and put back unless somebody confirms it.
fn apply_to_be_confirmed(trial: &Trial<'_>) {
    let words = ["link", "apply", NIC, "--rate", "2Mbit/s"];
    let all = [&words[..], &["--confirm-within", "60 s"]].concat();
    trial.run(&all).expect_code(0);
}

#[test]
#[ignore = "needs root"]
fn an_interface_that_changes_under_us_ends_the_shaping_with_the_reason() {
    with_trial(|trial| {
        let shorten = || command("ip link set nic0 mtu 1400");
        applied_and(trial, shorten, &["from 1500 to 1400"]);
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

        applied_and(trial, || command("ip link del nic0"), &["vanished"]);
        // Also where nobody names it, and to whom reads JSON.
        let show = trial.run(&["link", "show"]);
        assert!(show.stdout.contains("vanished"), "{}", show.told());
        let show = trial.run(&["link", "show", NIC, "--json"]);
        let shown = &show.json()[0];
        assert_eq!(shown["kernel"], serde_json::Value::Null);
        assert_eq!(shown["ended"]["why"], "the interface vanished");
        trial.run(&["link", "show", "nic9"]).expect_code(4);
    });
}

#[test]
#[ignore = "needs root"]
fn an_interface_that_this_machine_comes_to_be_reached_over_is_put_back() {
    with_trial(|trial| {
        let home = || command("ip route replace default via 10.99.0.2");
        let ways: [(&str, &[&str]); 3] = [
            (
                "default",
                &["ip route replace default via 10.99.1.2 dev nic0"],
            ),
            (
                "halves",
                &[
                    "ip route add 0.0.0.0/1 via 10.99.1.2 dev nic0",
                    "ip route add 128.0.0.0/1 via 10.99.1.2 dev nic0",
                ],
            ),
            ("IPv6", &["ip route add default via fd99::2 dev nic0"]),
        ];
        for (which, lines) in ways {
            let reroute = || lines.iter().for_each(|line| command(line));
            applied_and(trial, reroute, &["a default route leads over it"]);
            match which {
                "default" => home(),
                "IPv6" => command("ip -6 route del default"),
                _ => {
                    command("ip route del 0.0.0.0/1");
                    command("ip route del 128.0.0.0/1");
                }
            }
            trial.expect_clean(which);
        }
        // Nothing is confirmed that does not stand, and news that nobody reads are none the less looked for.
        apply_to_be_confirmed(trial);
        command("ip route replace default via 10.99.1.2 dev nic0");
        let confirmed = trial.run(&["link", "confirm", NIC]);
        assert_ne!(confirmed.code(), Some(0), "{}", confirmed.told());
        confirmed.expect_error(&["a default route leads over it"]);
        expect_ended(trial, &["a default route leads over it"]);
        home();
        trial.expect_clean("what was not confirmed");
    });
}

#[test]
#[ignore = "needs root"]
fn an_interface_that_its_owner_no_longer_allows_is_neither_confirmed_nor_renewed_and_put_back() {
    with_trial(|trial| {
        trial.points.decide(|_, _| Answer::Go);
        let none = "schema = 1\nallow_interfaces = []\n";
        trial.apply().expect_code(0);
        trial.allow(none);
        let renewed = trial.run(&["link", "confirm", NIC, "--extend", "20 min"]);
        assert_ne!(renewed.code(), Some(0), "{}", renewed.told());
        renewed.expect_error(&["not allowed any more"]);
        expect_ended(trial, &["not allowed any more", "nic0"]);
        trial.expect_clean("it was to be renewed");

        trial.allow(ALLOWED);
        apply_to_be_confirmed(trial);
        trial.allow(none);
        let confirmed = trial.run(&["link", "confirm", NIC]);
        assert_ne!(confirmed.code(), Some(0), "{}", confirmed.told());
        confirmed.expect_error(&["not allowed any more"]);
        expect_ended(trial, &["not allowed any more"]);
        trial.expect_clean("it was to be confirmed");
        trial.allow(ALLOWED);
    });
}

#[test]
#[ignore = "needs root"]
fn another_mtu_before_the_confirmation_is_told_by_the_confirmation() {
    with_trial(|trial| {
        trial.points.decide(|_, _| Answer::Go);
        apply_to_be_confirmed(trial);
        command("ip link set nic0 mtu 1400");
        let confirmed = trial.run(&["link", "confirm", NIC]);
        assert_ne!(confirmed.code(), Some(0), "{}", confirmed.told());
        assert!(
            !confirmed.stdout.contains("confirmed"),
            "{}",
            confirmed.told()
        );
        expect_ended(trial, &["from 1500 to 1400"]);
        command("ip link set nic0 mtu 1500");
        trial.expect_clean("the MTU is back");
    });
}

/// The link that what the NIC receives is sent through.
fn ifb() -> String {
    let links = stage::output("ip", &["-o", "link", "show", "type", "ifb"]);
    let ifb = links.split(": ").nth(1).unwrap_or_default().to_owned();
    assert!(ifb.starts_with("hxi"), "{links}");
    ifb
}

#[test]
#[ignore = "needs root"]
fn a_shaping_of_which_somebody_takes_a_part_away_ends_with_the_reason() {
    with_trial(|trial| {
        let delete_ifb = || command(&format!("ip link del {}", ifb()));
        applied_and(trial, delete_ifb, &["disturbed", "hxi", "is gone"]);
        trial.expect_clean("the ifb was deleted");
        for (line, why) in [
            (
                "tc qdisc del dev nic0 root",
                "the root qdisc `htb` of nic0 was deleted",
            ),
            (
                "tc qdisc del dev nic0 ingress",
                "the ingress hook `ingress` of nic0 was deleted",
            ),
            (
                "tc filter del dev nic0 ingress",
                "filters of nic0 were deleted",
            ),
        ] {
            applied_and(trial, || command(line), &["disturbed", why]);
            trial.expect_clean(line);
        }
        let delete_tree = || command(&format!("tc qdisc del dev {} root", ifb()));
        applied_and(trial, delete_tree, &["the root qdisc `htb` of hxi"]);
        trial.expect_clean("the tree of the ifb was deleted");
    });
}

#[test]
#[ignore = "needs root"]
fn what_somebody_else_puts_in_the_place_of_a_shaping_stays() {
    with_trial(|trial| {
        applied_and(
            trial,
            || {
                command("tc qdisc del dev nic0 root");
                command("tc qdisc add dev nic0 root handle 1: htb");
            },
            &["disturbed"],
        );
        let theirs = stage::output("tc", &["qdisc", "show", "dev", NIC]);
        assert!(theirs.contains("htb 1:"), "{theirs}");
        command("tc qdisc del dev nic0 root");
        trial.expect_clean("theirs is gone");

        let replace = || command("tc qdisc replace dev nic0 root handle 1: htb");
        applied_and(trial, replace, &["replaced by `htb` 1:"]);
        command("tc qdisc del dev nic0 root");
        trial.expect_clean("what replaced it is gone");
    });
}

#[test]
#[ignore = "needs root"]
fn an_interface_that_is_down_stays_held_and_show_tells_that() {
    with_trial(|trial| {
        trial.points.decide(|_, _| Answer::Go);
        trial.apply().expect_code(0);
        let show = || trial.run(&["link", "show", NIC]);
        assert!(!show().stdout.contains("is down"), "{}", show().told());
        command("ip link set nic0 down");
        let told = show();
        assert!(told.stdout.contains(": held"), "{}", told.told());
        assert!(
            told.stdout
                .contains("the interface is down: nothing passes"),
            "{}",
            told.told()
        );
        let document = trial.run(&["link", "show", NIC, "--json"]).json();
        assert_eq!(document[0]["is_down"], true);
        command("ip link set nic0 up");
        command("ip -6 address add fd99::1/64 dev nic0 nodad");
        trial.run(&["link", "clear", NIC]).expect_code(0);
        trial.expect_clean("it is up again");
    });
}
