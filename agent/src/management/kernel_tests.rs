//! Which interfaces a kernel says a peer comes in over.

use std::fs;
use std::net::{SocketAddrV6, TcpListener, TcpStream};
use std::process::Command;

use super::peers::{Peers, own_addresses, ssh_peer, tcp_connections, with_interfaces};
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
    let address = peer.parse().unwrap();
    let comes_in = ComesIn::ByRoute;
    protected(&BTreeSet::from([ControlPeer { address, comes_in }]))
}

/// What can be made above a NIC beside a VLAN, and how: some kernels have not all of these.
const ABOVE: [(&str, &[&str]); 3] = [
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
        if kind == "macvlan" {
            words.extend(["link", "hxr0a"]);
        }
        words.extend(["name", "up0", "type", kind]);
        Command::new("ip").args(words).output().unwrap()
    });
    let made = made.unwrap();
    made.status.success()
}

/// Makes something above a NIC and looks whether both are refused to a peer that comes in over it.
fn both_are_refused(kind: &str, commands: &[&str]) {
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
        both_are_refused(kind, commands);
    }
    assert!(tried > 0, "this kernel makes nothing above a NIC");
}

#[test]
#[ignore = "needs root, vlan"]
fn the_nic_below_the_vlan_that_a_peer_comes_in_over_is_refused_too() {
    both_are_refused("vlan", &["ip link add link hxr0a name up0 type vlan id 7"]);
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

/// What is refused where nobody is connected.
fn refused_for_nobody() -> Protected {
    protected(&BTreeSet::new()).unwrap()
}

#[test]
#[ignore = "needs root"]
fn the_halves_of_a_default_route_that_a_vpn_makes_are_default_routes() {
    with_nic(|| {
        run("ip address add 10.50.0.1/24 dev hxr0a");
        let nic = index("hxr0a");
        assert!(!refused_for_nobody().contains_key(&nic));
        // The NIC has no IPv6.
        for (half, over) in [
            ("0.0.0.0/1", "hxr0a"),
            ("128.0.0.0/1", "hxr0a"),
            ("8000::/1", "hxl0n0"),
            ("2000::/4", "hxl0n0"),
        ] {
            run(&format!("ip route add {half} dev {over}"));
            let reason = "a default route leads over it";
            assert_eq!(refused_for_nobody()[&index(over)], reason, "{half}");
            run(&format!("ip route del {half} dev {over}"));
        }
        run("ip route add 64.0.0.0/2 dev hxr0a");
        assert!(!refused_for_nobody().contains_key(&nic));
    });
}

#[test]
#[ignore = "needs root"]
fn a_default_route_that_names_a_nexthop_object_alone_leads_over_its_interface() {
    with_nic(|| {
        run("ip address add 10.50.0.1/24 dev hxr0a");
        run("ip address add 10.51.0.1/24 dev hxl0n0");
        // Else the kernel would unfold the object in the route.
        fs::write("/proc/sys/net/ipv4/nexthop_compat_mode", "0").unwrap();
        run("ip nexthop add id 1 via 10.50.0.2 dev hxr0a");
        run("ip route replace default nhid 1");
        let found = refused_for_nobody();
        assert_eq!(found[&index("hxr0a")], "a default route leads over it");
        assert!(!found.contains_key(&index("hxl0n0")), "{found:?}");
        // A group of several.
        run("ip nexthop add id 2 via 10.51.0.2 dev hxl0n0");
        run("ip nexthop add id 3 group 1/2");
        run("ip route replace default nhid 3");
        let found = refused_for_nobody();
        for nic in ["hxr0a", "hxl0n0"] {
            assert_eq!(found[&index(nic)], "a default route leads over it");
        }
    });
}

#[test]
#[ignore = "needs root"]
fn who_is_connected_to_an_ssh_server_that_did_not_start_us_controls_this_machine() {
    let [host, far] = joined();
    let listener = far.run(|| TcpListener::bind("10.77.0.2:0").unwrap());
    let listener = listener.unwrap();
    let port = listener.local_addr().unwrap().port();
    let directory = tempfile::tempdir().unwrap();
    for (name, is_server) in [("sshd", true), ("dropbear", true), ("other", false)] {
        // A process is called like its program's file.
        let program = directory.path().join(name);
        fs::copy("/bin/bash", &program).unwrap();
        let connect = format!("exec 3<>/dev/tcp/10.77.0.2/{port}; read -u 3");
        let done = host.run(|| {
            let mut server = Command::new(&program)
                .args(["-c", &connect])
                .spawn()
                .unwrap();
            let accepted = listener.accept().unwrap();
            let peers = control_peers().unwrap();
            let address = "10.77.0.2".parse().unwrap();
            let comes_in = ComesIn::ByRoute;
            let is_found = peers.contains(&ControlPeer { address, comes_in });
            assert_eq!(is_found, is_server, "{name}: {peers:?}");
            let found = protected(&peers).unwrap();
            assert_eq!(found.contains_key(&index("hxl0n0")), is_server, "{name}");
            drop(accepted);
            server.wait().unwrap();
        });
        done.unwrap();
    }
}

/// Makes a NIC with a link-local address.
fn make_link_local_nic(nic: &str, address: &str) {
    run(&format!("ip link add {nic} type veth peer name {nic}-far"));
    run(&format!("ip link set {nic} up"));
    run(&format!("ip link set {nic}-far up"));
    run(&format!("ip address add {address}/64 dev {nic} nodad"));
}

#[test]
#[ignore = "needs root"]
fn the_nic_of_a_link_local_clients_scope_is_refused_whichever_way_a_route_would_take() {
    with_nic(|| {
        make_link_local_nic("nic0", "fe80::a0");
        make_link_local_nic("nic1", "fe80::a1");
        for (nic, other) in [("nic0", "nic1"), ("nic1", "nic0")] {
            let environment = format!("SSH_CONNECTION=fe80::9%{nic} 50000 fe80::1%{nic} 22");
            let (address, interface) = ssh_peer(environment.as_bytes()).unwrap();
            let peers = Peers::from([(address, interface.into_iter().collect())]);
            let found = protected(&with_interfaces(peers, &own_addresses().unwrap())).unwrap();
            let reason = "the connection from fe80::9 comes in over it";
            assert_eq!(found[&index(nic)], reason);
            assert!(!found.contains_key(&index(other)), "{found:?}");
        }
        // Nobody says which: both, and none without such an address.
        let address = "fe80::9".parse().unwrap();
        let peers = Peers::from([(address, BTreeSet::new())]);
        let found = protected(&with_interfaces(peers, &own_addresses().unwrap())).unwrap();
        for nic in ["nic0", "nic1"] {
            let reason = "the connection from fe80::9 may come in over it";
            assert_eq!(found[&index(nic)], reason);
        }
        assert!(!found.contains_key(&index("hxr0a")), "{found:?}");
    });
}

#[test]
#[ignore = "needs root"]
fn a_connection_from_a_link_local_address_comes_in_over_the_nic_that_has_its_other_end() {
    let [host, far] = joined();
    // Its ends resolve no addresses.
    let neighbour = |address: &str, end: &str, mac: &str| {
        let mac = format!("02:68:78:00:00:{mac}");
        run(&format!(
            "ip neighbour replace {address} lladdr {mac} nud permanent dev {end}"
        ));
    };
    let listener = host.run(|| {
        run("ip address add fe80::1/64 dev hxl0n0 nodad");
        neighbour("fe80::2", "hxl0n0", "01");
        // The first route of its kind, which knows nothing of the peer.
        make_link_local_nic("nic0", "fe80::a0");
        run("ip -6 route add fe80::/64 dev nic0 metric 1");
        TcpListener::bind("[::]:0").unwrap()
    });
    let listener = listener.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connected = far.run(|| {
        run("ip address add fe80::2/64 dev hxl0n1 nodad");
        neighbour("fe80::1", "hxl0n1", "00");
        let scope = index("hxl0n1");
        let address = SocketAddrV6::new("fe80::1".parse().unwrap(), port, 0, scope);
        TcpStream::connect(address).unwrap()
    });
    let _connected = connected.unwrap();
    let done = host.run(|| {
        let _accepted = listener.accept().unwrap();
        let peer: IpAddr = "fe80::2".parse().unwrap();
        let connections = tcp_connections().unwrap();
        let mut ours = connections.values().filter(|one| one.peer == peer);
        let ours = ours.next().unwrap();
        let own = own_addresses().unwrap();
        let peers = Peers::from([(peer, ours.interfaces(&own))]);
        let found = protected(&with_interfaces(peers, &own)).unwrap();
        let reason = "the connection from fe80::2 comes in over it";
        assert_eq!(found[&index("hxl0n0")], reason);
        assert!(!found.contains_key(&index("nic0")), "{found:?}");
        // Which is what the route alone would say.
        let route = refused_for("fe80::2").unwrap();
        assert!(route.contains_key(&index("nic0")), "{route:?}");
    });
    done.unwrap();
}
