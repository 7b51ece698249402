//! Which interfaces a kernel says a peer comes in over.

use std::process::Command;

use super::*;
use crate::link::interfaces;
use crate::link::testing::{joined, run};
use crate::namespace::NetworkNamespace;

/// A NIC `hxr0a` without an address beside the interface `hxl0n0` of another network, 10.77.0.0/16.
fn with_nic(work: impl FnOnce() + Send) {
    let [host, _far] = joined();
    let done = host.run(|| {
        interfaces::build_lone_ports(0, 1500).unwrap();
        work();
    });
    done.unwrap();
}

fn index(interface: &str) -> u32 {
    interfaces::index_of(interface).unwrap()
}

fn refused_for(peer: &str) -> Result<Protected, LinkError> {
    protected(&BTreeSet::from([peer.parse().unwrap()]))
}

/// What can be made above a NIC, and how: some kernels have not all of these.
const ABOVE: [(&str, &[&str]); 4] = [
    (
        "bridge",
        &[
            "ip link add up0 type bridge",
            "ip link set hxr0a master up0",
        ],
    ),
    (
        "macvlan",
        &["ip link add link hxr0a name up0 type macvlan mode bridge"],
    ),
    ("vlan", &["ip link add link hxr0a name up0 type vlan id 7"]),
    (
        "bond",
        &[
            "ip link add up0 type bond",
            "ip link set hxr0a down",
            "ip link set hxr0a master up0",
        ],
    ),
];

/// Whether the kernel has links of this kind.
fn has(kind: &str) -> bool {
    let namespace = NetworkNamespace::create().unwrap();
    let made = namespace.run(|| {
        interfaces::build_lone_ports(0, 1500).unwrap();
        let mut words = vec!["link", "add"];
        if matches!(kind, "macvlan" | "vlan") {
            words.extend(["link", "hxr0a"]);
        }
        words.extend(["name", "up0", "type", kind]);
        if kind == "vlan" {
            words.extend(["id", "7"]);
        }
        Command::new("ip").args(words).output().unwrap()
    });
    let made = made.unwrap();
    made.status.success()
}

#[test]
#[ignore = "needs root"]
fn the_nic_that_a_peer_comes_in_over_is_refused_and_no_other() {
    with_nic(|| {
        run("ip address add 10.50.0.1/24 dev hxr0a");
        // On the same network twice, and behind a gateway.
        for (peer, interface, other) in [
            ("10.50.0.2", "hxr0a", "hxl0n0"),
            ("fd77::2", "hxl0n0", "hxr0a"),
            ("10.9.4.4", "hxl0n0", "hxr0a"),
        ] {
            let found = refused_for(peer).unwrap();
            assert_eq!(
                found[&index(interface)],
                format!("the connection from {peer} comes in over it")
            );
            assert!(!found.contains_key(&index(other)), "{found:?}");
        }
        // Its own address is no interface that could be shaped.
        assert!(refused_for("10.50.0.1").unwrap().is_empty());
    });
}

#[test]
#[ignore = "needs root"]
fn the_nic_below_what_a_peer_comes_in_over_is_refused_too() {
    let mut tried = 0;
    for (kind, commands) in ABOVE {
        if !has(kind) {
            println!("SKIPPED({kind}) this kernel makes none");
            continue;
        }
        tried += 1;
        with_nic(|| {
            for command in commands {
                run(command);
            }
            run("ip address add 10.50.0.1/24 dev up0");
            run("ip link set up0 up");
            let found = refused_for("10.50.0.2").unwrap();
            let reason = "the connection from 10.50.0.2 comes in over it";
            assert_eq!(found[&index("up0")], reason, "{kind}");
            let below = &found[&index("hxr0a")];
            assert!(below.contains("up0") && below.ends_with(reason), "{below}");
            assert!(!found.contains_key(&index("hxl0n0")), "{kind}: {found:?}");
        });
    }
    assert!(tried > 0, "this kernel makes nothing above a NIC");
}

#[test]
#[ignore = "needs root"]
fn a_peer_without_a_way_protects_nothing_and_a_way_that_is_not_told_is_an_error() {
    with_nic(|| {
        // No route at all, and one that says so.
        assert!(refused_for("10.60.0.2").unwrap().is_empty());
        run("ip route add unreachable 10.60.0.0/16");
        assert!(refused_for("10.60.0.2").unwrap().is_empty());
        run("ip route add prohibit 10.61.0.0/16");
        let LinkError::Netlink { action, source } = refused_for("10.61.0.2").unwrap_err() else {
            panic!("another error");
        };
        assert!(action.contains("10.61.0.2"), "{action}");
        assert_eq!(source.raw_os_error(), Some(libc::EACCES));
    });
}
