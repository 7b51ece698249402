//! Interfaces that somebody else takes away or changes while a link plays.

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use hexloop_agent::namespace::NetworkNamespace;
use hexloop_topologies::plan::DatapathChoice;
use hexloop_traces::Trace;
use hexloop_workloads::clock;

use crate::testbed::{MS, Testbed, chain, state};
use crate::traffic::{trace, transparent};

/// Runs iproute2 in a node.
fn ip(node: &NetworkNamespace, arguments: &[&str]) {
    let run = || std::process::Command::new("ip").args(arguments).status();
    assert!(
        node.run(run).unwrap().unwrap().success(),
        "ip {arguments:?}"
    );
}

/// What a playing link says at its end after something was done to its interface.
fn stopped_after(
    datapath: DatapathChoice,
    arguments: &[&str],
    trace: Arc<Trace>,
) -> Result<(), String> {
    let testbed = Testbed::new(datapath, trace);
    let mut link = testbed.link();
    let (windows, _reader) = sync_channel(10_000);
    link.start(clock::now(), windows).unwrap();
    ip(&testbed.nodes[1], arguments);
    // Long enough for a row to be set on what is not there any more.
    clock::sleep_until(clock::now() + 150 * MS);
    link.stop().map(|_| ()).map_err(|error| chain(&error))
}

#[test]
#[ignore = "needs root"]
fn an_interface_that_goes_away_or_down_fails_the_link_by_name_in_every_mode() {
    let shaped = || trace(&[(60_000 * MS, state(200_000_000, MS))]);
    let slow = || trace(&[(60_000 * MS, state(5_000_000, MS))]);
    for trace in [shaped(), slow(), transparent()] {
        let relay = DatapathChoice::Relay;
        let gone = stopped_after(relay, &["link", "delete", "hxl0n1"], Arc::clone(&trace));
        let text = gone.unwrap_err();
        assert!(text.contains("interface hxl0n1 went away"), "{text}");
        let down = stopped_after(relay, &["link", "set", "hxl0n1", "down"], trace);
        let text = down.unwrap_err();
        assert!(text.contains("interface hxl0n1 was taken down"), "{text}");
    }
}

#[test]
#[ignore = "needs root, netem, fq"]
fn an_interface_that_goes_away_or_down_fails_the_link_by_name_on_the_kernels_datapaths() {
    let steps = [
        (20 * MS, state(5_000_000, MS)),
        (20 * MS, state(9_000_000, 4 * MS)),
    ];
    for datapath in [DatapathChoice::Tc, DatapathChoice::Edt] {
        let gone = stopped_after(datapath, &["link", "delete", "hxl0n1"], trace(&steps));
        let text = gone.unwrap_err();
        assert!(
            text.contains("interface hxl0n1 went away"),
            "{datapath:?}: {text}"
        );
        let down = stopped_after(datapath, &["link", "set", "hxl0n1", "down"], trace(&steps));
        let text = down.unwrap_err();
        assert!(
            text.contains("interface hxl0n1 was taken down"),
            "{datapath:?}: {text}"
        );
        let mtu = ["link", "set", "hxl0n1", "mtu", "1400"];
        let text = stopped_after(datapath, &mtu, trace(&steps)).unwrap_err();
        assert!(
            text.contains("its MTU went from 1500 to 1400 bytes"),
            "{datapath:?}: {text}"
        );
    }
}

#[test]
#[ignore = "needs root"]
fn a_packet_that_is_longer_than_the_mtu_after_a_change_fails_the_link() {
    let testbed = Testbed::new(
        DatapathChoice::Relay,
        trace(&[(60_000 * MS, state(200_000_000, MS))]),
    );
    let mut link = testbed.link();
    let (windows, _reader) = sync_channel(10_000);
    link.start(clock::now(), windows).unwrap();
    // The sender's may be raised; its peer, the relay's port, still takes a little more than
    // the old MTU, and the link does not.
    ip(&testbed.nodes[0], &["link", "set", "hxl0n0", "mtu", "1504"]);
    let [client, server] = &testbed.plan.ends;
    let bind = |address: IpAddr| move || UdpSocket::bind((address, 5005)).unwrap();
    let receiver = testbed.nodes[1].run(bind(server.ipv4)).unwrap();
    receiver
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let sender = testbed.nodes[0].run(bind(client.ipv4)).unwrap();
    sender.send_to(&[1; 1476], (server.ipv4, 5005)).unwrap();
    sender.send_to(&[2; 100], (server.ipv4, 5005)).unwrap();
    let mut buffer = [0; 2000];
    // The short one passes: one bad packet stops nothing.
    let length = receiver.recv(&mut buffer).unwrap();
    assert!(length == 100 || length == 1476);
    let outcome = link.stop().map(|_| ()).map_err(|error| chain(&error));
    assert_eq!(outcome.is_err(), length == 100, "{outcome:?}");
}
