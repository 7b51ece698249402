//! Filters with packets of every kind: each reaches the class of its peer, and what is nobody's reaches none.

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use super::tests::{kernel, plan, shape};
use super::*;
use crate::link::interfaces;
use crate::link::netlink::RouteSocket;
use crate::link::testing::{joined, run};

#[test]
#[ignore = "needs root, netem"]
fn flower_finds_the_peer_of_every_packet() {
    every_packet_reaches_the_class_of_its_peer(FilterKind::Flower);
}

#[test]
#[ignore = "needs root"]
fn u32_finds_the_peer_of_every_packet() {
    every_packet_reaches_the_class_of_its_peer(FilterKind::U32);
}

/// One family of addresses: where the near end is, and an address of the far end.
struct Family {
    near: &'static str,
    far: fn(net: u8, host: u8) -> String,
    all_bits: u8,
    network_bits: u8,
}

const FAMILIES: [Family; 2] = [
    Family {
        near: "10.77.0.1",
        far: |net, host| format!("10.9.{net}.{host}"),
        all_bits: 32,
        network_bits: 24,
    },
    Family {
        near: "fd77::1",
        far: |net, host| format!("fd09:{net}::{host}"),
        all_bits: 128,
        network_bits: 64,
    },
];

impl Family {
    fn address(&self, net: u8, host: u8) -> IpAddr {
        (self.far)(net, host).parse().unwrap()
    }

    /// A host, a network, a host's UDP port and a host's TCP port.
    fn peers(&self) -> [Traffic; 4] {
        let peer = |net, prefix_bits, port: Option<(Transport, u16)>| Traffic::Peer {
            address: self.address(net, u8::from(prefix_bits == self.all_bits)),
            prefix_bits,
            transport: port.map(|(transport, _)| transport),
            port: port.map(|(_, port)| port),
        };
        [
            peer(1, self.all_bits, None),
            peer(2, self.network_bits, None),
            peer(3, self.all_bits, Some((Transport::Udp, 5001))),
            peer(4, self.all_bits, Some((Transport::Tcp, 5001))),
        ]
    }

    /// Where UDP packets go to and come from, and which of the peers that is.
    fn cases(&self) -> [(SocketAddr, Option<usize>); 8] {
        let case = |net, host, port| SocketAddr::new(self.address(net, host), port);
        [
            (case(1, 1, 5002), Some(0)),
            (case(1, 2, 5002), None),
            (case(2, 77, 5002), Some(1)),
            (case(3, 1, 5001), Some(2)),
            (case(3, 1, 5002), None),
            (case(3, 2, 5001), None),
            (case(4, 1, 5001), None),
            (case(5, 1, 5001), None),
        ]
    }
}

/// Bytes that each of the first classes of an interface has sent.
fn sent_bytes(socket: &mut RouteSocket, interface: &str, classes: usize) -> Vec<u64> {
    let seen = show(socket, interface).unwrap();
    let of = |number: usize| {
        let handle = Handle::new(ROOT.major(), u16::try_from(number + 1).unwrap());
        let class = seen.iter().find(|object| object.handle == handle);
        class.and_then(|object| object.sent_bytes).unwrap()
    };
    (0..classes).map(of).collect()
}

/// Which classes have sent more than before.
fn grown(before: &[u64], after: &[u64]) -> Vec<usize> {
    let more = |&number: &usize| after[number] > before[number];
    (0..before.len()).filter(more).collect()
}

fn udp(at: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(at).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    socket
}

/// A packet that has arrived when this returns.
fn cross(from: &UdpSocket, to: &UdpSocket) {
    from.send_to(&[7; 100], to.local_addr().unwrap()).unwrap();
    assert_eq!(to.recv(&mut [0; 200]).unwrap(), 100);
}

fn every_packet_reaches_the_class_of_its_peer(filters: FilterKind) {
    let [near, far] = joined();
    near.run(|| run("ip -6 route add fd09::/16 via fd77::2"))
        .unwrap();
    for (net, host) in [(1, 1), (1, 2), (2, 77), (3, 1), (3, 2), (4, 1), (5, 1)] {
        far.run(|| {
            run(&format!(
                "ip -6 addr add fd09:{net}::{host}/128 dev lo nodad"
            ));
        })
        .unwrap();
    }
    let peers: Vec<Traffic> = FAMILIES.iter().flat_map(Family::peers).collect();
    let count = peers.len();
    let shaped = peers.into_iter().map(|traffic| Shaped {
        traffic,
        sent: Some(shape(10_000_000)),
        received: Some(shape(10_000_000)),
    });
    let (mut socket, ifb) = near
        .run(|| {
            let index = interfaces::index_of("hxl0n0").unwrap();
            let plan = InterfacePlan {
                interface: "hxl0n0".to_owned(),
                index,
                ..plan(shaped.collect())
            };
            let mut socket = interfaces::open_socket().unwrap();
            for step in steps(&plan, &kernel(filters)).unwrap() {
                step.apply(&mut socket).unwrap();
            }
            (socket, ifb_name(index))
        })
        .unwrap();
    for (family, first_class) in FAMILIES.iter().zip([0, 4]) {
        let near_at = SocketAddr::new(family.near.parse().unwrap(), 9000);
        let here = near.run(|| udp(near_at)).unwrap();
        for (address, class) in family.cases() {
            let there = far.run(|| udp(address)).unwrap();
            let expected: Vec<usize> = class.map(|class| first_class + class).into_iter().collect();
            let before = sent_bytes(&mut socket, "hxl0n0", count);
            cross(&here, &there);
            let after = sent_bytes(&mut socket, "hxl0n0", count);
            assert_eq!(grown(&before, &after), expected, "to {address}");
            let before = sent_bytes(&mut socket, &ifb, count);
            cross(&there, &here);
            let after = sent_bytes(&mut socket, &ifb, count);
            assert_eq!(grown(&before, &after), expected, "from {address}");
        }
        let address = SocketAddr::new(family.address(4, 1), 5001);
        let _listener = far.run(|| TcpListener::bind(address).unwrap()).unwrap();
        let before = ["hxl0n0", &ifb].map(|name| sent_bytes(&mut socket, name, count));
        near.run(|| TcpStream::connect(address).unwrap()).unwrap();
        let after = ["hxl0n0", &ifb].map(|name| sent_bytes(&mut socket, name, count));
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(grown(before, after), [first_class + 3], "over TCP");
        }
    }
}
