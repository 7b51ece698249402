//! Queues behind a delay, on a kernel whose netem counts what hangs below it.

use std::fs;
use std::net::UdpSocket;
use std::thread::JoinHandle;
use std::time::Duration;

use super::kernel_tests::{burst, on, undo_all, with_interface};
use super::tests::{everything, kernel, peer, plan};
use super::*;
use crate::link::interfaces;
use crate::link::netlink::RouteSocket;
use crate::link::testing::{MS, joined, state};
use crate::namespace::NetworkNamespace;
use hexloop_traces::{QueueDiscipline, QueueLimit};
use hexloop_workloads::clock;
use nix::sys::socket::{setsockopt, sockopt};

const INTERFACE: &str = "hxl0n0";

/// Packets of 1000 bytes take a millisecond each, after 10.
const RATE_BPS: u64 = 8_000_000;
const DELAY_NS: u64 = 10 * MS;

fn delayed(settings: LinkSettings) -> Shape {
    Shape {
        state: state(RATE_BPS, DELAY_NS),
        settings,
        outage: Outage::Never,
    }
}

fn unusable() -> Kernel {
    Kernel {
        below_netem: BelowNetem::Unusable("it is left out here".to_owned()),
        ..kernel(FilterKind::U32)
    }
}

/// Two namespaces joined by an interface that is shaped at the near end.
struct Behind {
    far: NetworkNamespace,
    sender: UdpSocket,
    socket: RouteSocket,
    plan: InterfacePlan,
    kernel: Kernel,
}

impl Behind {
    fn new(shape: Shape, kernel: Kernel) -> Behind {
        let [near, far] = joined();
        let work = || {
            let plan = InterfacePlan {
                interface: INTERFACE.to_owned(),
                index: interfaces::index_of(INTERFACE).unwrap(),
                speed_bps: None,
                ..plan(vec![everything(Some(shape), None)])
            };
            let mut socket = interfaces::open_socket().unwrap();
            let steps = steps(&plan, &kernel).unwrap();
            for step in &steps {
                step.apply(&mut socket).unwrap();
            }
            verify(&mut socket, &steps).unwrap();
            let sender = UdpSocket::bind("0.0.0.0:0").unwrap();
            setsockopt(&sender, sockopt::SndBufForce, &(16 << 20)).unwrap();
            (plan, socket, sender)
        };
        let (plan, socket, sender) = near.run(work).unwrap();
        Behind {
            far,
            sender,
            socket,
            plan,
            kernel,
        }
    }

    /// Changes it in place, and looks whether the kernel has what was asked for.
    fn change(&mut self, shape: Shape) {
        self.plan.shaped = vec![everything(Some(shape), None)];
        let steps = steps(&self.plan, &self.kernel).unwrap();
        for step in &steps {
            step.change(&mut self.socket).unwrap();
        }
        verify(&mut self.socket, &steps).unwrap();
    }

    /// Takes what comes at the far end, until nothing has come for half a second: the first byte of each.
    fn receive(&self) -> JoinHandle<Vec<u8>> {
        let bind = || {
            let receiver = UdpSocket::bind("0.0.0.0:9000").unwrap();
            setsockopt(&receiver, sockopt::RcvBufForce, &(16 << 20)).unwrap();
            receiver
        };
        let receiver = self.far.run(bind).unwrap();
        let wait = Duration::from_millis(500);
        receiver.set_read_timeout(Some(wait)).unwrap();
        std::thread::spawn(move || {
            let (mut came, mut buffer) = (Vec::new(), [0; 1500]);
            while receiver.recv(&mut buffer).is_ok() {
                came.push(buffer[0]);
            }
            came
        })
    }

    /// Sends so many packets at once. Returns how many came, and how many could have left in the time
    /// that sending took.
    fn burst(&self, packets: usize) -> (usize, usize) {
        let receiver = self.receive();
        let before = clock::now();
        burst(&self.sender, [10, 77, 0, 2], packets);
        let took_ns = clock::now() - before;
        let came = receiver.join().unwrap().len();
        (came, usize::try_from(took_ns / MS).unwrap())
    }

    /// Sends three packets in the time of two for a second. Returns how many were sent and came.
    fn overload(&self) -> (usize, usize) {
        const PACKETS: u64 = 1500;
        let receiver = self.receive();
        let start = clock::now();
        for number in 0..PACKETS {
            clock::sleep_until(start + number * 2 * MS / 3);
            burst(&self.sender, [10, 77, 0, 2], 1);
        }
        let came = receiver.join().unwrap().len();
        (usize::try_from(PACKETS).unwrap(), came)
    }

    /// What is on the interface, of this kind.
    fn seen(&mut self, kind: &str) -> ObjectSeen {
        let seen = show(&mut self.socket, INTERFACE).unwrap();
        let found = seen
            .into_iter()
            .find(|object| object.what.starts_with(kind));
        found.unwrap_or_else(|| panic!("no {kind}"))
    }
}

/// A burst comes after the delay, at once or in parts: what the queue holds comes, and as the parts go down to it
/// some that are on their way, and those that could leave while it was sent.
fn assert_held(held: usize, (came, could_leave): (usize, usize)) {
    println!("{came} came, {could_leave} could leave while the rest was sent");
    assert!((held..=held + 3 + could_leave).contains(&came), "{came}");
}

#[test]
#[ignore = "needs root, netem, virtual-time"]
fn a_queue_in_bytes_behind_a_delay_holds_what_was_asked_and_follows_its_trace() {
    let bytes = |bytes| delayed(LinkSettings::drop_tail(bytes));
    let mut shaped = Behind::new(bytes(80_000), kernel(FilterKind::U32));
    // Round after round: what was dropped is not counted for ever.
    for _ in 0..3 {
        assert_held(80, shaped.burst(300));
    }
    shaped.change(bytes(70_000));
    assert_held(70, shaped.burst(300));
    let mut of_trace = bytes(70_000);
    of_trace.state.queue_bytes = 100_000;
    shaped.change(of_trace);
    assert_held(100, shaped.burst(300));
    let netem = shaped.seen("netem");
    assert_eq!(netem.backlog_bytes, Some(0));
    assert_eq!(
        netem.drops,
        shaped.seen("bfifo").drops,
        "netem dropped none itself"
    );
}

#[test]
#[ignore = "needs root, netem, virtual-time"]
fn a_queue_in_packets_behind_a_delay_holds_what_was_asked() {
    let packets = |packets| {
        delayed(LinkSettings {
            queue: QueueLimit::Packets(packets),
            ..LinkSettings::drop_tail(1)
        })
    };
    let mut shaped = Behind::new(packets(30), kernel(FilterKind::U32));
    assert_held(30, shaped.burst(200));
    shaped.change(packets(7));
    assert_held(7, shaped.burst(200));
}

#[test]
#[ignore = "needs root, netem, virtual-time"]
fn a_full_drop_head_queue_behind_a_delay_keeps_what_came_last() {
    let settings = LinkSettings {
        queue: QueueLimit::Packets(10),
        discipline: QueueDiscipline::DropHead,
        ..LinkSettings::drop_tail(1)
    };
    let shaped = Behind::new(delayed(settings), kernel(FilterKind::U32));
    let receiver = shaped.receive();
    for number in 0..100 {
        let sent = shaped.sender.send_to(&[number; 972], "10.77.0.2:9000");
        sent.unwrap();
    }
    let came = receiver.join().unwrap();
    assert_eq!(came[came.len() - 10..], (90..100).collect::<Vec<u8>>());
    assert!(came.len() < 90, "{} came of 100", came.len());
}

#[test]
#[ignore = "needs root, netem, virtual-time"]
fn where_netem_is_the_queue_it_holds_what_its_note_says() {
    let settings = LinkSettings::drop_tail(20_000);
    let shape = delayed(settings);
    let told = note(&unusable(), [shape.state], &settings, (1500, 65_600)).unwrap();
    // 20 kB wait and 10 kB are under way, in packets of 1500 bytes.
    assert!(told.contains("limit of 21 packets"), "{told}");
    let shaped = Behind::new(shape, unusable());
    let (came, could_leave) = shaped.burst(200);
    assert!((21..=22 + could_leave).contains(&came), "{came}");
}

fn managed(discipline: QueueDiscipline, ecn: bool) -> Shape {
    delayed(LinkSettings {
        queue: QueueLimit::Packets(1000),
        discipline,
        ecn,
        ..LinkSettings::drop_tail(1)
    })
}

/// What a queue without management would hold, 500 packets, is far from its limit.
fn drops_under_overload(discipline: QueueDiscipline, kind: &str) {
    let shape = managed(discipline, false);
    let mut shaped = Behind::new(shape, kernel(FilterKind::U32));
    for round in 1..=2 {
        let before = shaped.seen(kind).drops.unwrap();
        let (sent, came) = shaped.overload();
        let dropped = shaped.seen(kind).drops.unwrap() - before;
        println!("round {round}: {came} of {sent} came, {kind} dropped {dropped}");
        assert!(dropped > 0, "{kind} dropped nothing");
        assert_eq!(came + usize::try_from(dropped).unwrap(), sent);
        assert_eq!(shaped.seen("netem").backlog_bytes, Some(0));
    }
    // Parameters change in place as well.
    let mut other = shape;
    other.settings.queue = QueueLimit::Packets(900);
    other.state.delay_ns = 2 * DELAY_NS;
    shaped.change(other);
    // PIE may still drop one of more than two: its probability falls slowly (RFC 8033, section 5.1).
    assert_eq!(shaped.burst(2).0, 2);
}

#[test]
#[ignore = "needs root, netem, virtual-time"]
fn codel_behind_a_delay_drops_what_waits_too_long_and_nothing_gets_stuck() {
    drops_under_overload(QueueDiscipline::CODEL, "codel");
}

#[test]
#[ignore = "needs root, netem, virtual-time"]
fn pie_behind_a_delay_drops_what_waits_too_long_and_nothing_gets_stuck() {
    drops_under_overload(QueueDiscipline::PIE, "pie");
}

#[test]
#[ignore = "needs root, netem, virtual-time"]
fn codel_behind_a_delay_marks_where_the_sender_understands_that() {
    let shape = managed(QueueDiscipline::CODEL, true);
    let mut shaped = Behind::new(shape, kernel(FilterKind::U32));
    // ECT(0) of RFC 3168.
    setsockopt(&shaped.sender, sockopt::Ipv4Tos, &2).unwrap();
    let marked = |shaped: &Behind| {
        let read = || fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
        counter(&shaped.far.run(read).unwrap(), "InCEPkts")
    };
    let (sent, came) = shaped.overload();
    assert_eq!(came, sent, "marked packets are not dropped");
    assert!(marked(&shaped) > 0, "nothing was marked");
    assert_eq!(shaped.seen("codel").drops, Some(0));
}

/// A counter of `/proc/net/netstat`: a line of names, then one of values.
fn counter(text: &str, name: &str) -> u64 {
    let lines: Vec<&str> = text.lines().collect();
    let pairs = lines.chunks_exact(2).flat_map(|pair| {
        let words = |line: &str| {
            line.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        words(pair[0]).into_iter().zip(words(pair[1]))
    });
    let mut values = pairs.filter(|(found, _)| found == name);
    values.next().unwrap().1.parse().unwrap()
}

#[test]
#[ignore = "needs root, netem"]
fn every_step_of_a_delay_is_found_again_and_taken_back_with_and_without_a_queue_below_it() {
    let mut peers = [peer("10.0.0.1", 32), peer("fd00::", 64)];
    for one in &mut peers {
        for shape in [&mut one.sent, &mut one.received].into_iter().flatten() {
            shape.state.delay_ns = DELAY_NS;
        }
    }
    for kernel in [kernel(FilterKind::U32), unusable()] {
        with_interface(|socket, index| {
            let steps = steps(&on(index, peers.to_vec()), &kernel).unwrap();
            for applied in 1..=steps.len() {
                for step in &steps[..applied] {
                    step.apply(socket).unwrap();
                }
                verify(socket, &steps[..applied]).unwrap();
                undo_all(socket, &steps[..applied]);
                assert_eq!(root(socket, "hxr0a").unwrap(), Root::Default);
                assert!(verify(socket, &steps).is_err());
            }
        });
    }
}
