//! The relay: what it delivers, in which mode, and that its mistakes are found out.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use hexloop_agent::link::{ModeChoice, Observer, RelayEngine, RelayMode};
use hexloop_topologies::plan::{DatapathChoice, LinkEnd};
use hexloop_traces::{Direction, LinkSettings};
use hexloop_workloads::clock;

use crate::testbed::{MS, Testbed, chain, described, ratio, state};
use crate::traffic::{
    exchange_tcp, packets_of_both_families_arrive_whole, pattern, steps, trace, transparent,
};

#[test]
#[ignore = "needs root"]
fn the_relay_delivers_what_a_changing_trace_allows() {
    for result in Testbed::new(DatapathChoice::Relay, steps()).calibrated() {
        assert!(
            (ratio(&result) - 1.0).abs() < 0.01,
            "{}",
            described(&result)
        );
        assert!(result.backlogged_windows >= 50, "{}", described(&result));
        assert!(
            result.delay_error.p50_ns.unwrap() < 500_000,
            "{}",
            described(&result)
        );
        assert_eq!(result.probes_lost, 0);
    }
}

#[test]
#[ignore = "needs root"]
fn a_relay_that_plays_a_wrong_rate_is_found_out() {
    let mut testbed = Testbed::new(DatapathChoice::Relay, steps());
    testbed.faults.scale_rate_ppm = 1_030_000;
    for result in testbed.calibrated() {
        assert!(
            (ratio(&result) - 1.03).abs() < 0.01,
            "{}",
            described(&result)
        );
    }
}

#[test]
#[ignore = "needs root"]
fn a_relay_that_adds_delay_is_found_out() {
    let mut testbed = Testbed::new(DatapathChoice::Relay, steps());
    testbed.faults.add_delay_ns = 3 * MS;
    for result in testbed.calibrated() {
        assert!(
            result.delay_error.p50_ns.unwrap() > 2_500_000,
            "{}",
            described(&result)
        );
    }
}

#[test]
#[ignore = "needs root"]
fn a_relay_that_stands_still_is_found_out() {
    let mut testbed = Testbed::new(DatapathChoice::Relay, steps());
    testbed.faults.stop_relay_ns = 200 * MS;
    for result in testbed.calibrated() {
        assert!(
            result.lateness.p99_ns.unwrap() > 50_000_000,
            "{}",
            described(&result)
        );
    }
}

#[test]
#[ignore = "needs root"]
fn tcp_and_udp_of_both_address_families_cross_the_relay_with_whole_checksums() {
    let trace = trace(&[(60_000 * MS, state(200_000_000, MS))]);
    packets_of_both_families_arrive_whole(&Testbed::new(DatapathChoice::Relay, trace));
}

/// Packets that the interface of the second node has counted.
fn packets_counted(testbed: &Testbed) -> u64 {
    let interface = testbed.plan.ends[1].interface.clone();
    let read = || std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let text = testbed.nodes[1].run(read).unwrap();
    let line = text.lines().find(|line| line.contains(&interface)).unwrap();
    let (_, numbers) = line.split_once(':').unwrap();
    numbers.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
#[ignore = "needs root"]
fn segments_that_leave_as_one_arrive_unchanged_and_are_counted_as_packets() {
    const BYTES: usize = 100_000_000;
    // So fast that many packets are due whenever the relay wakes up.
    let fast = trace(&[(60_000 * MS, state(10_000_000_000, 0))]);
    let mut testbed = Testbed::new(DatapathChoice::Relay, fast);
    testbed.plan.settings = LinkSettings::drop_tail(3_000_000);
    let mut link = testbed.link();
    for ends in [|end: &LinkEnd| end.ipv4, |end: &LinkEnd| end.ipv6] {
        let address = SocketAddr::new(ends(&testbed.plan.ends[1]), 5004);
        let before = packets_counted(&testbed);
        let (windows, _reader) = sync_channel(10_000);
        link.start(clock::now(), windows).unwrap();
        let listener = testbed.nodes[1]
            .run(|| TcpListener::bind(address).unwrap())
            .unwrap();
        let connect = || TcpStream::connect_timeout(&address, Duration::from_secs(20));
        let mut stream = testbed.nodes[0].run(connect).unwrap().unwrap();
        let sent = pattern(BYTES);
        let received = thread::scope(|scope| {
            scope.spawn(|| {
                stream.write_all(&sent).unwrap();
                stream.shutdown(std::net::Shutdown::Write).unwrap();
            });
            let mut received = Vec::with_capacity(BYTES);
            listener
                .accept()
                .unwrap()
                .0
                .read_to_end(&mut received)
                .unwrap();
            received
        });
        assert!(received == sent, "the bytes came changed over {address}");
        let report = link.stop().unwrap();
        let counters = report.counters.iter();
        let up = counters
            .clone()
            .find(|counters| counters.direction == Direction::Up)
            .unwrap();
        let counted = packets_counted(&testbed) - before;
        println!("{address}: {} packets, {counted} counted", up.packets);
        assert!(up.packets >= counted);
        assert!(up.packets * 1448 >= u64::try_from(BYTES).unwrap());
    }
}

#[test]
#[ignore = "needs root"]
fn auto_prefers_the_relay_and_says_why() {
    let testbed = Testbed::new(DatapathChoice::Auto, steps());
    let description = testbed.link().description();
    println!("{description:?}");
    assert_eq!(description.datapath, "relay");
    assert!(
        description.reason.contains("relay is exact"),
        "{}",
        description.reason
    );
}

#[test]
#[ignore = "needs root"]
fn packets_of_both_families_pass_whole_where_nothing_acts_on_them() {
    for (mode, in_userspace) in [
        (ModeChoice::Auto, false),
        (ModeChoice::Auto, true),
        (ModeChoice::Bulk, true),
    ] {
        let mut testbed = Testbed::new(DatapathChoice::Relay, transparent());
        testbed.relay.mode = mode;
        testbed.relay.in_userspace = in_userspace;
        let expected = if mode == ModeChoice::Bulk {
            RelayMode::Bulk
        } else {
            RelayMode::LowLatency
        };
        let description = testbed.link().description();
        assert_eq!(description.mode, Some(expected));
        let in_kernel = description.scheduling.starts_with("in the kernel");
        assert_eq!(in_kernel, !in_userspace, "{description:?}");
        packets_of_both_families_arrive_whole(&testbed);
    }
}

#[test]
#[ignore = "needs root"]
fn a_burst_that_a_real_interface_would_queue_crosses_a_slow_link() {
    const BURST: u64 = 1000;
    let slow = trace(&[(60_000 * MS, state(40_000_000, 0))]);
    let mut testbed = Testbed::new(DatapathChoice::Relay, slow);
    testbed.plan.settings = LinkSettings::drop_tail(1_000_000);
    let mut link = testbed.link();
    let (windows, _reader) = sync_channel(10_000);
    link.start(clock::now(), windows).unwrap();
    let before = packets_counted(&testbed);
    let [client, server] = &testbed.plan.ends;
    let (from, to) = ((client.ipv4, 5005), (server.ipv4, 5005));
    let _port = testbed.nodes[1].run(|| UdpSocket::bind(to).unwrap());
    let sender = testbed.nodes[0].run(|| UdpSocket::bind(from).unwrap());
    let sender = sender.unwrap();
    for _ in 0..BURST {
        sender.send_to(&[7; 64], to).unwrap();
    }
    let deadline = clock::now() + 10_000 * MS;
    while packets_counted(&testbed) < before + BURST && clock::now() < deadline {}
    let report = link.stop().unwrap();
    assert_eq!(report.warnings, Vec::<String>::new());
    assert_eq!(packets_counted(&testbed), before + BURST);
}

#[test]
#[ignore = "needs root"]
fn a_mode_that_passes_packets_through_is_refused_where_something_acts() {
    let mut testbed = Testbed::new(DatapathChoice::Relay, steps());
    testbed.relay.mode = ModeChoice::LowLatency;
    let text = chain(&testbed.try_link().unwrap_err());
    assert!(text.contains("choose mode exact or auto"), "{text}");
}

#[test]
#[ignore = "needs root"]
fn an_observer_sees_every_segment_of_at_most_the_mtu_with_its_times() {
    let mut testbed = Testbed::new(
        DatapathChoice::Relay,
        trace(&[(60_000 * MS, state(200_000_000, 2 * MS))]),
    );
    let (observer, mut packets) = Observer::new(10_000);
    testbed.relay.observer = Some(observer.clone());
    testbed.relay.engine = Some(RelayEngine::new());
    let mut link = testbed.link();
    let (windows, _reader) = sync_channel(10_000);
    link.start(clock::now(), windows).unwrap();
    exchange_tcp(&testbed, testbed.plan.ends[1].ipv4);
    let report = link.stop().unwrap();
    let dropped = Direction::BOTH.map(|direction| observer.dropped(direction));
    assert_eq!((dropped, report.warnings), ([0, 0], Vec::new()));
    drop(link);
    let (mut seen, mut payload) = (0, 0);
    for packet in std::iter::from_fn(|| packets.waiting()) {
        seen += 1;
        // The playback's end lets go of what waits.
        if packet.due == 0 {
            continue;
        }
        assert!(packet.arrival + 2 * MS <= packet.due, "{packet:?}");
        assert!(packet.due <= packet.achieved, "{packet:?}");
        let frame = packet.into_frame();
        assert!(frame.len() <= 1514, "{}", frame.len());
        payload += frame.len();
    }
    assert!(
        seen > 400 && payload > 600_000,
        "{seen} packets, {payload} bytes"
    );
}

#[test]
#[ignore = "needs root"]
fn nothing_moves_on_an_idle_link_and_it_goes_away_whole() {
    let testbed = Testbed::new(DatapathChoice::Relay, steps());
    let mut link = testbed.link();
    let (windows, reader) = sync_channel(10_000);
    let t0 = clock::now() + 50 * MS;
    link.start(t0, windows).unwrap();
    clock::sleep_until(t0 + 1000 * MS);
    let report = link.stop().unwrap();
    assert!(
        report.counters.iter().all(|counters| counters.packets == 0),
        "{report:?}"
    );
    let delivered: u64 = reader.try_iter().map(|window| window.delivered_bytes).sum();
    assert_eq!(delivered, 0);
    drop(link);
    for node in &testbed.nodes {
        let interfaces = node.run(|| std::fs::read_to_string("/proc/thread-self/net/dev").unwrap());
        assert!(!interfaces.unwrap().contains("hx"));
    }
}
