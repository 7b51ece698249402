//! Outages: what comes in one waits, and is delivered after it.

use std::net::{IpAddr, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use hexloop_topologies::plan::DatapathChoice;
use hexloop_traces::{Direction, Trace};
use hexloop_workloads::clock;

use crate::testbed::{MS, Testbed, chain, described, ratio, state};
use crate::traffic::trace;

fn interrupted() -> Arc<Trace> {
    trace(&[
        (500 * MS, state(20_000_000, 0)),
        (300 * MS, state(0, 0)),
        (700 * MS, state(20_000_000, 0)),
    ])
}

#[test]
#[ignore = "needs root"]
fn the_relay_delivers_exactly_through_an_outage() {
    for result in Testbed::new(DatapathChoice::Relay, interrupted()).calibrated() {
        assert!(
            (ratio(&result) - 1.0).abs() < 0.01,
            "{}",
            described(&result)
        );
    }
}

#[test]
#[ignore = "needs root, netem, virtual-time"]
fn tc_delivers_exactly_through_an_outage_where_the_kernel_can_hold_packets() {
    for result in Testbed::new(DatapathChoice::Tc, interrupted()).calibrated() {
        let text = described(&result);
        assert!((ratio(&result) - 1.0).abs() < 0.005, "{text}");
        assert!(result.delay_error.max_ns.unwrap() < 1_000_000, "{text}");
        assert_eq!(result.probes_lost, 0);
    }
}

#[test]
#[ignore = "needs root"]
fn tc_plays_outages_or_says_what_to_do() {
    let mut testbed = Testbed::new(DatapathChoice::Tc, interrupted());
    if let Err(error) = testbed.try_link() {
        // A kernel without plug.
        let text = chain(&error);
        assert!(
            text.contains("plug") && text.contains("datapath relay"),
            "{text}"
        );
    }
    // Nothing of the kernel holds a queue that is managed actively.
    testbed.plan.settings.discipline = hexloop_traces::QueueDiscipline::CODEL;
    let text = chain(&testbed.try_link().unwrap_err());
    assert!(
        text.contains("outages") && text.contains("datapath relay"),
        "{text}"
    );
}

#[test]
#[ignore = "needs root"]
fn an_outage_holds_packets_back_and_lets_them_go() {
    an_outage_holds(DatapathChoice::Relay);
}

#[test]
#[ignore = "needs root, netem, virtual-time"]
fn tc_holds_packets_back_in_an_outage_and_lets_them_go() {
    an_outage_holds(DatapathChoice::Tc);
}

fn an_outage_holds(datapath: DatapathChoice) {
    let rows = [
        (100 * MS, state(20_000_000, 2 * MS)),
        (1000 * MS, state(0, 2 * MS)),
        (60_000 * MS, state(20_000_000, 2 * MS)),
    ];
    let testbed = Testbed::new(datapath, trace(&rows));
    let mut link = testbed.link();
    let [client, server] = &testbed.plan.ends;
    let bind = |address: IpAddr| move || UdpSocket::bind((address, 5003)).unwrap();
    let receiver = testbed.nodes[1].run(bind(server.ipv4)).unwrap();
    let sender = testbed.nodes[0].run(bind(client.ipv4)).unwrap();
    receiver
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let (windows, reader) = sync_channel(10_000);
    let t0 = clock::now() + 50 * MS;
    link.start(t0, windows).unwrap();
    clock::sleep_until(t0 + 150 * MS);
    sender.send_to(&[7; 1000], (server.ipv4, 5003)).unwrap();
    let sent = clock::now() - t0;
    receiver.recv(&mut [0; 2000]).unwrap();
    let arrived = clock::now() - t0;
    assert!(arrived >= 1102 * MS, "{arrived}");
    clock::sleep_until(t0 + 1200 * MS);
    link.stop().unwrap();
    let up: Vec<_> = reader
        .try_iter()
        .filter(|w| w.direction == Direction::Up)
        .collect();
    let delivered: u64 = up.iter().map(|window| window.delivered_bytes).sum();
    assert_eq!(delivered, 1028);
    // In the outage the queue was not empty and nothing came.
    let from_ns = sent.next_multiple_of(20 * MS);
    let held = |w: &&hexloop_proto::LinkWindow| w.start_ns >= from_ns && w.start_ns < 1080 * MS;
    let held: Vec<_> = up.iter().filter(held).collect();
    let windows = (1080 * MS).saturating_sub(from_ns) / (20 * MS);
    assert!(
        windows > 0,
        "the machine sent the packet when the outage was over"
    );
    assert_eq!(u64::try_from(held.len()).unwrap(), windows, "{up:?}");
    assert!(
        held.iter()
            .all(|w| w.backlogged && w.delivered_bytes == 0 && w.trace_bytes == 0)
    );
    assert!(held.iter().all(|window| window.queue_bytes == 1028));
}
