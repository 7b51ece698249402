//! Links whose packets get their departure times in the kernel, with real packets.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use hexloop_agent::namespace::NetworkNamespace;
use hexloop_proto::LinkWindow;
use hexloop_topologies::plan::DatapathChoice;
use hexloop_traces::format::{self, TraceWriter};
use hexloop_traces::generate::control;
use hexloop_traces::{Direction, EndPolicy, QueueDiscipline, Trace};
use hexloop_workloads::clock;

use crate::testbed::{MS, Testbed, chain, described, ratio, state, trace};

/// Steps of one millisecond: 3, 12, 30 and 75 Mbit/s in a fixed disorder, which a sender in the
/// guest can fill.
fn millisecond_steps(delay_ns: u64) -> Arc<Trace> {
    let rates = [3, 75, 12, 30, 3, 12, 75, 30, 12, 3];
    let steps = rates.map(|mbit| (MS, state(mbit * 1_000_000, delay_ns)));
    trace(EndPolicy::Loop, &steps)
}

#[test]
#[ignore = "needs root, fq, virtual-time"]
fn edt_follows_steps_of_a_millisecond_exactly_where_time_is_exact() {
    let testbed = Testbed::new(DatapathChoice::Edt, millisecond_steps(5 * MS));
    for result in testbed.calibrated() {
        let text = described(&result);
        assert!((ratio(&result) - 1.0).abs() < 0.0005, "{text}");
        assert!(result.delay_error.p50_ns.unwrap() < 50_000, "{text}");
        assert!(result.lateness.p50_ns.unwrap() < 50_000, "{text}");
    }
}

/// The same steps in rows of 62.5 us, more than a table has room for, where they lie in a file.
fn long_trace(directory: &Path) -> Arc<Trace> {
    const ROWS: u64 = 600_000;
    const ROW_NS: u64 = 62_500;
    let rates = [3, 75, 12, 30, 3, 12, 75, 30, 12, 3];
    let path = directory.join("long.arrow");
    let one = control::constant(0, 5 * MS, 0, ROWS * ROW_NS).unwrap();
    let mut writer = TraceWriter::create(&path, one.metadata()).unwrap();
    let mut row = one.rows()[0].clone();
    for (index, mbit) in (0..ROWS).zip(rates.iter().flat_map(|rate| [rate; 16]).cycle()) {
        row.t_ns = index * ROW_NS;
        (row.down.rate_bps, row.up.rate_bps) = (mbit * 1_000_000, mbit * 1_000_000);
        writer.write_row(&row).unwrap();
    }
    writer.finish().unwrap();
    Arc::new(format::read_mapped(&path).unwrap())
}

#[test]
#[ignore = "needs root, fq, virtual-time"]
fn edt_follows_a_trace_that_is_too_long_for_one_table_through_its_windows() {
    let directory = tempfile::tempdir().unwrap();
    let trace = long_trace(directory.path());
    let mut testbed = Testbed::new(DatapathChoice::Edt, Arc::clone(&trace));
    // A window of it takes over every second.
    testbed.calibration.flow_ns = 4_000 * MS;
    for result in testbed.calibrated() {
        let text = described(&result);
        assert!((ratio(&result) - 1.0).abs() < 0.0005, "{text}");
        assert!(result.lateness.p50_ns.unwrap() < 50_000, "{text}");
    }
    assert_eq!(trace.rows_in_memory(), 0);
}

/// Bytes that would show a lost or doubled piece.
fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|place| u8::try_from((place * 31 + place / 251) % 256).unwrap())
        .collect()
}

fn exchange_tcp(testbed: &Testbed, server: IpAddr) {
    let address = SocketAddr::new(server, 5001);
    let bind = || TcpListener::bind(address).unwrap();
    let listener = testbed.nodes[1].run(bind).unwrap();
    let echo = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        stream.write_all(&received).unwrap();
    });
    let connect = || TcpStream::connect_timeout(&address, Duration::from_secs(20));
    let mut stream = testbed.nodes[0].run(connect).unwrap().unwrap();
    let sent = pattern(300_000);
    stream.write_all(&sent).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut received = Vec::new();
    stream.read_to_end(&mut received).unwrap();
    assert!(
        received == sent,
        "the bytes came back changed over {server}"
    );
    echo.join().unwrap();
}

fn bound(node: &NetworkNamespace, address: IpAddr) -> UdpSocket {
    let socket = node
        .run(|| UdpSocket::bind((address, 5002)).unwrap())
        .unwrap();
    let patience = Some(Duration::from_secs(20));
    socket.set_read_timeout(patience).unwrap();
    socket
}

#[test]
#[ignore = "needs root, fq"]
fn tcp_and_udp_of_both_address_families_cross_edt() {
    let trace = trace(EndPolicy::Hold, &[(60_000 * MS, state(200_000_000, MS))]);
    let testbed = Testbed::new(DatapathChoice::Edt, trace);
    let mut link = testbed.link();
    let (windows, _reader) = sync_channel(10_000);
    link.start(clock::now(), windows).unwrap();
    let [client, server] = &testbed.plan.ends;
    for (client, server) in [(client.ipv4, server.ipv4), (client.ipv6, server.ipv6)] {
        let receiver = bound(&testbed.nodes[1], server);
        let sender = bound(&testbed.nodes[0], client);
        for length in [0, 1, 999, 1400] {
            let sent = pattern(length);
            sender.send_to(&sent, (server, 5002)).unwrap();
            let mut buffer = [0; 2000];
            let received = receiver.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..received], sent[..]);
        }
        exchange_tcp(&testbed, server);
    }
    let report = link.stop().unwrap();
    for counters in &report.counters {
        assert!(counters.wire_bytes > 600_000, "{counters:?}");
    }
    for (direction, late) in &report.lateness {
        assert!(late.count > 200, "{direction:?} {late:?}");
    }
}

#[test]
#[ignore = "needs root, fq"]
fn an_outage_in_the_map_holds_packets_back_and_lets_them_go() {
    let rows = [
        (100 * MS, state(20_000_000, 2 * MS)),
        (300 * MS, state(0, 2 * MS)),
        (60_000 * MS, state(20_000_000, 2 * MS)),
    ];
    let testbed = Testbed::new(DatapathChoice::Edt, trace(EndPolicy::Loop, &rows));
    let mut link = testbed.link();
    let [client, server] = &testbed.plan.ends;
    let receiver = bound(&testbed.nodes[1], server.ipv4);
    let sender = bound(&testbed.nodes[0], client.ipv4);
    let (windows, reader) = sync_channel(10_000);
    let t0 = clock::now() + 50 * MS;
    link.start(t0, windows).unwrap();
    clock::sleep_until(t0 + 150 * MS);
    sender.send_to(&[7; 1000], (server.ipv4, 5002)).unwrap();
    receiver.recv(&mut [0; 2000]).unwrap();
    let arrived = clock::now() - t0;
    assert!(arrived >= 402 * MS, "{arrived}");
    clock::sleep_until(t0 + 500 * MS);
    link.stop().unwrap();
    let up: Vec<LinkWindow> = reader
        .try_iter()
        .filter(|window| window.direction == Direction::Up)
        .collect();
    let delivered: u64 = up.iter().map(|window| window.delivered_bytes).sum();
    assert_eq!(delivered, 1028);
    // In the outage the queue was not empty and nothing came.
    let held: Vec<_> = up
        .iter()
        .filter(|window| window.start_ns >= 200 * MS && window.start_ns < 380 * MS)
        .collect();
    assert_eq!(held.len(), 9, "{up:?}");
    for window in held {
        let found = (
            window.backlogged,
            window.delivered_bytes,
            window.queue_bytes,
        );
        assert_eq!(found, (true, 0, 1028), "{window:?}");
    }
}

#[test]
#[ignore = "needs root"]
fn edt_is_built_or_says_what_is_missing() {
    let testbed = Testbed::new(DatapathChoice::Edt, millisecond_steps(0));
    match testbed.try_link() {
        Ok(link) => assert_eq!(link.description().datapath, "edt"),
        Err(error) => {
            let text = chain(&error);
            assert!(text.contains("this kernel has no fq"), "{text}");
            assert!(text.contains("datapath relay"), "{text}");
        }
    }
}

#[test]
#[ignore = "needs root, fq"]
fn what_departure_times_cannot_do_is_refused_by_name() {
    let mut testbed = Testbed::new(DatapathChoice::Edt, millisecond_steps(0));
    testbed.plan.settings.discipline = QueueDiscipline::CODEL;
    let text = chain(&testbed.try_link().unwrap_err());
    assert!(
        text.contains("CoDel") && text.contains("datapath relay"),
        "{text}"
    );
    let slow = millisecond_steps(3_600_000 * MS + 1);
    let text = chain(
        &Testbed::new(DatapathChoice::Edt, slow)
            .try_link()
            .unwrap_err(),
    );
    assert!(
        text.contains("horizon") && text.contains("3600000000000 ns"),
        "{text}"
    );
}

/// Steps that leave the sender time to keep the queue full.
fn ten_millisecond_steps() -> Arc<Trace> {
    let rates = [12, 36, 24, 48, 12, 48];
    let steps = rates.map(|mbit| (10 * MS, state(mbit * 1_000_000, 5 * MS)));
    trace(EndPolicy::Loop, &steps)
}

#[test]
#[ignore = "needs root, fq, virtual-time"]
fn what_has_arrived_is_the_trace_to_two_packets_at_every_moment() {
    let testbed = Testbed::new(DatapathChoice::Edt, ten_millisecond_steps());
    let report = testbed.link().calibrate().unwrap();
    assert_eq!(report.packets_missed + report.windows_dropped, 0);
    for direction in Direction::BOTH {
        let ours = |window: &&LinkWindow| window.direction == direction && window.backlogged;
        let windows: Vec<&LinkWindow> = report.windows.iter().filter(ours).collect();
        let (mut ahead, mut largest) = (0, 0);
        for window in &windows {
            let [delivered, trace] =
                [window.delivered_bytes, window.trace_bytes].map(u64::cast_signed);
            ahead += delivered - trace;
            largest = largest.max(ahead.abs());
        }
        println!(
            "{direction:?}: {largest} bytes over {} windows",
            windows.len()
        );
        assert!(windows.len() >= 50, "{}", windows.len());
        assert!(largest <= 2 * 1250, "{direction:?}: {largest}");
    }
}
