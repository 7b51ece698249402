//! What the tests of links send, and how they look at what arrived.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use hexloop_agent::namespace::NetworkNamespace;
use hexloop_traces::{EndPolicy, LinkState, Trace};
use hexloop_workloads::clock;

use crate::testbed::{self, MS, Testbed, state};

pub(crate) fn trace(steps: &[(u64, LinkState)]) -> Arc<Trace> {
    testbed::trace(EndPolicy::Loop, steps)
}

pub(crate) fn steps() -> Arc<Trace> {
    trace(&[
        (100 * MS, state(12_000_000, 5 * MS)),
        (100 * MS, state(48_000_000, 8 * MS)),
        (100 * MS, state(120_000_000, 4 * MS)),
    ])
}

/// Bytes that would show a lost or doubled piece.
pub(crate) fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|place| u8::try_from((place * 31 + place / 251) % 256).unwrap())
        .collect()
}

pub(crate) fn exchange_tcp(testbed: &Testbed, server: IpAddr) {
    let address = SocketAddr::new(server, 5001);
    let listener = testbed.nodes[1]
        .run(|| TcpListener::bind(address).unwrap())
        .unwrap();
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

pub(crate) fn exchange_udp(testbed: &Testbed, client: IpAddr, server: IpAddr) {
    let bind = |address: IpAddr| move || UdpSocket::bind((address, 5002)).unwrap();
    let receiver = testbed.nodes[1].run(bind(server)).unwrap();
    let sender = testbed.nodes[0].run(bind(client)).unwrap();
    receiver
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let longest = usize::try_from(testbed.plan.mtu).unwrap() - 100;
    for length in [0, 1, 2, 999, longest] {
        let sent = pattern(length);
        sender.send_to(&sent, (server, 5002)).unwrap();
        let mut buffer = [0; 10_000];
        let received = receiver.recv(&mut buffer).unwrap();
        assert_eq!(buffer[..received], sent[..]);
    }
}

/// Counters of bad checksums in a node: names and values.
pub(crate) fn checksum_errors(node: &NetworkNamespace) -> Vec<(String, u64)> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap();
    let text = node.run(|| {
        (
            read("/proc/thread-self/net/snmp"),
            read("/proc/thread-self/net/snmp6"),
        )
    });
    let (ipv4, ipv6) = text.unwrap();
    let mut found = Vec::new();
    let lines: Vec<&str> = ipv4.lines().collect();
    for pair in lines.chunks_exact(2) {
        for (name, value) in pair[0].split(' ').zip(pair[1].split(' ')) {
            if name == "InCsumErrors" {
                found.push((pair[0][..4].to_owned(), value.parse().unwrap()));
            }
        }
    }
    for line in ipv6.lines().filter(|line| line.contains("CsumErrors")) {
        let mut fields = line.split_whitespace();
        let name = fields.next().unwrap().to_owned();
        found.push((name, fields.next().unwrap().parse().unwrap()));
    }
    found
}

pub(crate) fn packets_of_both_families_arrive_whole(testbed: &Testbed) {
    let mut link = testbed.link();
    let (windows, _reader) = sync_channel(10_000);
    link.start(clock::now(), windows).unwrap();
    let [client, server] = &testbed.plan.ends;
    for (client, server) in [(client.ipv4, server.ipv4), (client.ipv6, server.ipv6)] {
        exchange_udp(testbed, client, server);
        exchange_tcp(testbed, server);
    }
    let report = link.stop().unwrap();
    for counters in &report.counters {
        assert!(counters.wire_bytes > 600_000, "{counters:?}");
    }
    for node in &testbed.nodes {
        let errors = checksum_errors(node);
        assert!(errors.len() >= 5, "{errors:?}");
        assert!(errors.iter().all(|(_, count)| *count == 0), "{errors:?}");
    }
}

pub(crate) fn transparent() -> Arc<Trace> {
    trace(&[(60_000 * MS, LinkState::TRANSPARENT)])
}

/// Sends numbered datagrams up the link at even distances, and says which arrived, in order
/// and when since T0.
pub(crate) fn arrivals(
    testbed: &Testbed,
    packets: u64,
    gap_ns: u64,
    length: usize,
) -> Vec<(u64, u64)> {
    let mut link = testbed.link();
    let [client, server] = &testbed.plan.ends;
    let bind = |address: IpAddr| move || UdpSocket::bind((address, 5004)).unwrap();
    let receiver = testbed.nodes[1].run(bind(server.ipv4)).unwrap();
    let sender = testbed.nodes[0].run(bind(client.ipv4)).unwrap();
    receiver
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let (windows, _reader) = sync_channel(10_000);
    let t0 = clock::now() + 50 * MS;
    link.start(t0, windows).unwrap();
    let to = (server.ipv4, 5004);
    let sending = thread::spawn(move || {
        for number in 0..packets {
            clock::sleep_until(t0 + 10 * MS + number * gap_ns);
            let mut payload = vec![0; length];
            payload[..8].copy_from_slice(&number.to_be_bytes());
            sender.send_to(&payload, to).unwrap();
        }
    });
    let mut found = Vec::new();
    let mut buffer = [0; 2000];
    while let Ok(length) = receiver.recv(&mut buffer) {
        assert!(length >= 8);
        let number = u64::from_be_bytes(buffer[..8].try_into().unwrap());
        found.push((number, clock::now() - t0));
    }
    sending.join().unwrap();
    link.stop().unwrap();
    found
}
