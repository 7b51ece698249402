//! Packets that are damaged and duplicated, on every datapath.

use std::net::{IpAddr, UdpSocket};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use hexloop_topologies::plan::DatapathChoice;
use hexloop_traces::{Direction, LinkChange, LinkState, PlaybackChange, StateOverride};
use hexloop_workloads::clock;

use crate::testbed::{MS, Testbed, state};
use crate::traffic::{checksum_errors, exchange_udp, trace};

#[test]
#[ignore = "needs root"]
fn the_relay_damages_and_duplicates_packets_and_stops_when_told_to() {
    packets_are_damaged_and_duplicated_until_told_otherwise(DatapathChoice::Relay);
}

#[test]
#[ignore = "needs root, fq"]
fn edt_damages_and_duplicates_packets_and_stops_when_told_to() {
    packets_are_damaged_and_duplicated_until_told_otherwise(DatapathChoice::Edt);
}

#[test]
#[ignore = "needs root, netem"]
fn tc_damages_and_duplicates_packets_and_stops_when_told_to() {
    packets_are_damaged_and_duplicated_until_told_otherwise(DatapathChoice::Tc);
}

fn packets_are_damaged_and_duplicated_until_told_otherwise(datapath: DatapathChoice) {
    let damaging = LinkState {
        corrupt_ppb: 1_000_000_000,
        ..state(20_000_000, MS)
    };
    let testbed = Testbed::new(datapath, trace(&[(60_000 * MS, damaging)]));
    let mut link = testbed.link();
    let [client, server] = &testbed.plan.ends;
    // The neighbours get to know each other before anything is damaged.
    exchange_udp(&testbed, client.ipv4, server.ipv4);
    let bind = |address: IpAddr| move || UdpSocket::bind((address, 5004)).unwrap();
    let receiver = testbed.nodes[1].run(bind(server.ipv4)).unwrap();
    let sender = testbed.nodes[0].run(bind(client.ipv4)).unwrap();
    let timeout = Some(Duration::from_secs(20));
    receiver.set_read_timeout(timeout).unwrap();
    let send = |number: u8| {
        sender
            .send_to(&[number; 1000], (server.ipv4, 5004))
            .unwrap()
    };
    let (windows, _reader) = sync_channel(10_000);
    let t0 = clock::now();
    link.start(t0, windows).unwrap();
    // tc sets the first row when its thread wakes up.
    clock::sleep_until(t0 + 150 * MS);
    (0..50).for_each(|number| assert_eq!(send(number), 1000));
    let instead = StateOverride {
        corrupt_ppb: Some(0),
        dup_ppb: Some(1_000_000_000),
        ..StateOverride::NONE
    };
    let change = LinkChange::Play(PlaybackChange::Override(instead));
    let at_ns = link.change(Direction::Up, clock::now(), change).unwrap();
    // What waits may have to leave first, and tc changes its rows one by one.
    clock::sleep_until(t0 + at_ns + 150 * MS);
    (50..60).for_each(|number| assert_eq!(send(number), 1000));
    for number in 50..60 {
        for _copy in 0..2 {
            let mut buffer = [0; 2000];
            // netem also damages what nobody looks at: the sender's hardware address.
            let mut unharmed = 0;
            while buffer[0] < 50 {
                assert_eq!(receiver.recv(&mut buffer).unwrap(), 1000);
                unharmed += 1;
            }
            assert!(unharmed <= 4, "{unharmed}");
            assert_eq!(buffer[..1000], [number; 1000]);
        }
    }
    link.stop().unwrap();
    let seen = checksum_errors(&testbed.nodes[1]);
    let noticed: u64 = seen.iter().map(|(_, count)| count).sum();
    // The others were hit in their IP header, which is counted elsewhere.
    assert!((40..=50).contains(&noticed), "{seen:?}");
}
