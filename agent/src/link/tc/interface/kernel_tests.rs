//! The steps on a kernel: applied, read back, and taken back.

use std::net::UdpSocket;
use std::time::Duration;

use super::tests::{everything, kernel, peer, plan, shape};
use super::*;
use crate::link::interfaces;
use crate::link::netlink::RouteSocket;
use crate::link::tc::codec::Discipline;
use crate::link::testing::{MS, joined, run, state, trace};
use crate::namespace::NetworkNamespace;
use hexloop_traces::{CapacityCurve, Direction, EndPolicy, Schedule};
use hexloop_workloads::clock;
use nix::sys::socket::{setsockopt, sockopt};

/// An interface `hxr0a` in a namespace of its own.
pub(super) fn with_interface(work: impl FnOnce(&mut RouteSocket, u32) + Send) {
    let namespace = NetworkNamespace::create().unwrap();
    let done = namespace.run(|| {
        interfaces::build_lone_ports(0, 1500).unwrap();
        let index = interfaces::index_of("hxr0a").unwrap();
        work(&mut interfaces::open_socket().unwrap(), index);
    });
    done.unwrap();
}

pub(super) fn on(index: u32, shaped: Vec<Shaped>) -> InterfacePlan {
    InterfacePlan {
        interface: "hxr0a".to_owned(),
        index,
        speed_bps: None,
        ..plan(shaped)
    }
}

pub(super) fn undo_all(socket: &mut RouteSocket, steps: &[TcStep]) {
    for step in steps.iter().rev() {
        if let Some(undo) = step.undo() {
            undo.apply(socket).unwrap();
            // A second time does no harm.
            undo.apply(socket).unwrap();
        }
    }
}

#[test]
#[ignore = "needs root"]
fn every_step_is_found_again_and_taken_back_after_each_of_them() {
    let kind = classifier_here().unwrap();
    println!("{kind:?}");
    let mut port = peer("fd00:1::5", 128);
    port.traffic = Traffic::Peer {
        address: "fd00:1::5".parse().unwrap(),
        prefix_bits: 128,
        transport: Some(Transport::Tcp),
        port: Some(5001),
    };
    let mut udp = peer("10.0.0.9", 32);
    udp.traffic = Traffic::Peer {
        address: "10.0.0.9".parse().unwrap(),
        prefix_bits: 32,
        transport: Some(Transport::Udp),
        port: Some(53),
    };
    for shaped in [
        vec![everything(
            Some(shape(1_000_000)),
            Some(shape(80_000_000_000)),
        )],
        vec![
            peer("10.0.0.1", 32),
            peer("10.7.0.0", 16),
            peer("fd00::", 64),
            port,
            udp,
        ],
    ] {
        with_interface(|socket, index| {
            let steps = steps(&on(index, shaped), &kernel(kind)).unwrap();
            for applied in 1..=steps.len() {
                for step in &steps[..applied] {
                    step.apply(socket)
                        .unwrap_or_else(|error| panic!("{}: {error:?}", step.describe()));
                }
                verify(socket, &steps[..applied]).unwrap();
                undo_all(socket, &steps[..applied]);
                assert_eq!(root(socket, "hxr0a").unwrap(), Root::Default);
                assert!(verify(socket, &steps).is_err());
            }
            for step in &steps {
                step.apply(socket).unwrap();
            }
            assert_eq!(root(socket, "hxr0a").unwrap(), Root::Ours);
            // What is there is not made again.
            for step in steps.iter().filter(|step| step.undo().is_some()) {
                let error = step.apply(socket).unwrap_err();
                let LinkError::Netlink { source, .. } = &error else {
                    panic!("{error:?}");
                };
                assert_eq!(source.raw_os_error(), Some(libc::EEXIST), "{error:?}");
            }
            println!("{:#?}", show(socket, "hxr0a").unwrap());
        });
    }
}

#[test]
#[ignore = "needs root"]
fn the_link_behind_an_interface_is_found_and_taken_away_by_another_name_and_no_other_is() {
    let kind = classifier_here().unwrap();
    with_interface(|socket, index| {
        let shaped = vec![everything(None, Some(shape(1_000_000)))];
        let steps = steps(&on(index, shaped), &kernel(kind)).unwrap();
        for step in &steps {
            step.apply(socket).unwrap();
        }
        let name = ifb_name(index);
        run(&format!("ip link set {name} down"));
        run(&format!("ip link set {name} name other0"));
        run("ip link set other0 up");
        // Somebody else's, which has the name that ours had.
        run(&format!("ip link add {name} type ifb"));
        for step in &steps {
            step.change(socket).unwrap();
        }
        verify(socket, &steps).unwrap();
        undo_all(socket, &steps);
        assert!(interfaces::index_of("other0").is_err());
        assert!(interfaces::index_of(&name).is_ok());
    });
}

#[test]
#[ignore = "needs root"]
fn a_discipline_that_no_kernel_has_is_found_lacking_and_one_that_all_have_is_not() {
    let none = Discipline::Foreign("hx_none".to_owned());
    let some = Discipline::Bfifo(30_000);
    let found = netns::lacking(&[none.clone(), some.clone()]).unwrap();
    assert_eq!(found, BTreeSet::from(["hx_none".to_owned()]));
    // What comes after one that is there is not asked about, and there is no choice of one.
    assert!(netns::lacking(&[some, none.clone()]).unwrap().is_empty());
    assert!(netns::lacking(&[none]).unwrap().is_empty());
}

#[test]
#[ignore = "needs root, netem"]
fn a_queue_that_stands_in_is_found_again_and_changed_in_place() {
    let without_codel = Kernel {
        lacks: BTreeSet::from(["codel".to_owned()]),
        ..kernel(FilterKind::U32)
    };
    let mut first = shape(10_000_000);
    first.settings.discipline = hexloop_traces::QueueDiscipline::CODEL;
    let mut second = first;
    second.settings.queue = hexloop_traces::QueueLimit::Packets(77);
    with_interface(|socket, index| {
        let steps_of = |shape| {
            let plan = on(index, vec![everything(Some(shape), None)]);
            steps(&plan, &without_codel).unwrap()
        };
        let made = steps_of(first);
        for step in &made {
            step.apply(socket).unwrap();
        }
        verify(socket, &made).unwrap();
        let changed = steps_of(second);
        for step in &changed {
            step.change(socket).unwrap();
        }
        verify(socket, &changed).unwrap();
        assert!(verify(socket, &made).is_err());
        let seen = show(socket, "hxr0a").unwrap();
        let is_fair = |object: &ObjectSeen| object.what.starts_with("fq_codel");
        assert!(seen.iter().any(is_fair), "{seen:?}");
        undo_all(socket, &made);
    });
}

#[test]
#[ignore = "needs root"]
fn a_foreign_root_is_recognised_and_survives_our_undo() {
    with_interface(|socket, index| {
        run("tc qdisc add dev hxr0a root handle 1: tbf rate 1mbit burst 5kb limit 10kb");
        let foreign = Root::Foreign {
            kind: "tbf".to_owned(),
            handle: Handle::new(1, 0),
        };
        assert_eq!(root(socket, "hxr0a").unwrap(), foreign);
        let steps = steps(
            &on(index, vec![everything(Some(shape(1_000_000)), None)]),
            &kernel(FilterKind::U32),
        )
        .unwrap();
        assert!(steps[0].apply(socket).is_err());
        assert!(steps[0].undo().unwrap().apply(socket).is_err());
        assert_eq!(root(socket, "hxr0a").unwrap(), foreign);
        let seen = show(socket, "hxr0a").unwrap();
        assert!(seen[0].what.contains("tbf, 1000000 bit/s"), "{seen:?}");
    });
}

#[test]
#[ignore = "needs root, netem, virtual-time"]
fn three_hundred_peers_get_each_their_own_rate_and_the_rest_none() {
    peers_get_each_their_own_rate_and_the_rest_none(FilterKind::Flower);
}

#[test]
#[ignore = "needs root, virtual-time"]
fn three_hundred_peers_in_a_hash_table_get_each_their_own_rate_and_the_rest_none() {
    peers_get_each_their_own_rate_and_the_rest_none(FilterKind::U32);
}

fn peers_get_each_their_own_rate_and_the_rest_none(filters: FilterKind) {
    const PEERS: u16 = 300;
    const PAYLOAD: usize = 1472;
    const IP_BITS: u64 = (1472 + 28) * 8;
    const PACKETS: usize = 12;
    let [near, far] = joined();
    let address = |number: u16| {
        let [high, low] = number.to_be_bytes();
        [10, 9, high, low]
    };
    // Five to fifteen packets a second.
    let rate_bps = |number: u16| 60_000 + u64::from(number) * 400;
    let receiver = far
        .run(|| UdpSocket::bind("0.0.0.0:9000").unwrap())
        .unwrap();
    receiver
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let sender = near
        .run(|| {
            let shaped = (0..PEERS).map(|number| Shaped {
                sent: Some(shape(rate_bps(number))),
                received: None,
                ..peer(&std::net::Ipv4Addr::from(address(number)).to_string(), 32)
            });
            let plan = InterfacePlan {
                interface: "hxl0n0".to_owned(),
                index: interfaces::index_of("hxl0n0").unwrap(),
                speed_bps: None,
                ..plan(shaped.collect())
            };
            let steps = steps(&plan, &kernel(filters)).unwrap();
            let mut socket = interfaces::open_socket().unwrap();
            for step in &steps {
                step.apply(&mut socket).unwrap();
            }
            verify(&mut socket, &steps).unwrap();
            UdpSocket::bind("0.0.0.0:0").unwrap()
        })
        .unwrap();
    // Every peer is sent twelve packets at once, and one that is not shaped as well.
    std::thread::spawn(move || {
        let mut payload = [0; PAYLOAD];
        let start = clock::now();
        for number in 0..=PEERS {
            // The receiver gets its turn in between.
            clock::sleep_until(start + u64::from(number) * 5_000_000);
            payload[..2].copy_from_slice(&number.to_be_bytes());
            let to = std::net::Ipv4Addr::from(address(number));
            for _ in 0..PACKETS {
                sender.send_to(&payload, (to, 9000)).unwrap();
            }
        }
    });
    let mut arrivals = vec![Vec::new(); usize::from(PEERS) + 1];
    let mut buffer = [0; 1500];
    while let Ok(length) = receiver.recv(&mut buffer) {
        assert_eq!(length, PAYLOAD);
        let number = u16::from_be_bytes([buffer[0], buffer[1]]);
        arrivals[usize::from(number)].push(clock::now());
    }
    for (number, arrivals) in arrivals.iter().enumerate() {
        assert_eq!(arrivals.len(), PACKETS, "peer {number}");
    }
    for number in 0..PEERS {
        let arrivals = &arrivals[usize::from(number)];
        // While it was sent to, the processor had other things to do: the last six tell.
        let gap_ns = (arrivals[PACKETS - 1] - arrivals[PACKETS - 6]) / 5;
        let expected_ns = IP_BITS * 1_000_000_000 / rate_bps(number);
        let error = gap_ns.abs_diff(expected_ns) * 100 / expected_ns;
        assert!(error <= 3, "peer {number}: {gap_ns}, not {expected_ns}");
    }
}

/// Sends so many packets of 1000 bytes at once.
pub(super) fn burst(sender: &UdpSocket, to: [u8; 4], packets: usize) {
    let to = (std::net::Ipv4Addr::from(to), 9000);
    for _ in 0..packets {
        sender.send_to(&[7; 972], to).unwrap();
    }
}

/// What an interface that was steered sent in each direction and what its trace allowed, in bytes.
struct Steered {
    sent_and_asked: Vec<(Direction, u64, u64)>,
    /// The longest time that a look at the classes came late while the last third ran.
    latest_ns: u64,
}

/// Steers both directions of an interface with this delay over a trace with steps of 10 ms for 1.5 s.
fn steered_over_steps(delay_ns: u64, below_netem: &BelowNetem) -> Steered {
    const PACKETS: usize = 2500;
    let [near, far] = joined();
    let rows = [3, 12, 6, 9, 4, 12].map(|mbit| (10 * MS, state(mbit * 1_000_000, delay_ns)));
    let trace = trace(EndPolicy::Loop, &rows);
    let schedules: [Schedule; 2] =
        Direction::BOTH.map(|direction| CapacityCurve::new(&trace, direction).into());
    let bind = || {
        let socket = UdpSocket::bind("0.0.0.0:9000").unwrap();
        setsockopt(&socket, sockopt::SndBufForce, &(16 << 20)).unwrap();
        socket
    };
    let (near_socket, far_socket) = (near.run(bind).unwrap(), far.run(bind).unwrap());
    near.run(|| {
        let first = Shape {
            state: rows[0].1,
            settings: LinkSettings::drop_tail(4_000_000),
            outage: Outage::Never,
        };
        let index = interfaces::index_of("hxl0n0").unwrap();
        let plan = InterfacePlan {
            interface: "hxl0n0".to_owned(),
            index,
            ..plan(vec![everything(Some(first), Some(first))])
        };
        let kernel = Kernel {
            filters: FilterKind::U32,
            below_netem: below_netem.clone(),
            lacks: BTreeSet::new(),
        };
        let steps = steps(&plan, &kernel).unwrap();
        let mut socket = interfaces::open_socket().unwrap();
        for step in &steps {
            step.apply(&mut socket).unwrap();
        }
        let mut classes = SteeredClasses::of(&mut socket, &steps, index, 1500).unwrap();
        // More waits from the start than the trace lets through: no sender has to keep up.
        burst(&near_socket, [10, 77, 0, 2], PACKETS);
        burst(&far_socket, [10, 77, 0, 1], PACKETS);
        let start = clock::now();
        let (mut next_ns, mut latest_ns, mut before) = (0, 0, None);
        while next_ns < 1500 * MS {
            clock::sleep_until(start + next_ns);
            let now_ns = clock::now() - start;
            if now_ns > 1000 * MS {
                latest_ns = now_ns.saturating_sub(next_ns).max(latest_ns);
            }
            let step_ns = (now_ns / (10 * MS) + 1) * 10 * MS;
            next_ns = classes
                .steer(&mut socket, &schedules, now_ns, (step_ns, 0))
                .unwrap();
            let at_ns = clock::now() - start;
            if before.is_none() && at_ns > 100 * MS {
                before = Some((at_ns, classes.sent_bytes(&mut socket)));
            }
        }
        let (from_ns, before) = before.unwrap();
        let asked = schedules[0].bits_between(from_ns, clock::now() - start) / 8;
        let after = classes.sent_bytes(&mut socket);
        let both = before.into_iter().zip(after);
        Steered {
            sent_and_asked: both
                .map(|((direction, from), (_, to))| (direction, to - from, asked))
                .collect(),
            latest_ns,
        }
    })
    .unwrap()
}

/// The guest's clock goes on where its machine has no time for it, and the rate of a step that has
/// long been over still holds. Steering makes up for that afterwards: a round that was held up near
/// its end, when there is no afterwards, is done again.
#[test]
#[ignore = "needs root, virtual-time"]
fn an_interface_follows_the_steps_of_a_trace_both_ways_to_four_packets() {
    follows_the_steps(0, &BelowNetem::Counted);
}

#[test]
#[ignore = "needs root, netem, virtual-time"]
fn an_interface_that_delays_follows_them_as_closely() {
    follows_the_steps(25 * MS, &BelowNetem::Counted);
}

#[test]
#[ignore = "needs root, netem, virtual-time"]
fn an_interface_whose_netem_is_its_queue_follows_them_as_closely() {
    let unusable = BelowNetem::Unusable("it is left out here".to_owned());
    follows_the_steps(25 * MS, &unusable);
}

fn follows_the_steps(delay_ns: u64, below_netem: &BelowNetem) {
    const ROUNDS: usize = 20;
    const HELD_UP_NS: u64 = 3 * MS;
    for round in 0..ROUNDS {
        let found = steered_over_steps(delay_ns, below_netem);
        println!("round {round}: {:?}", found.sent_and_asked);
        if found.latest_ns > HELD_UP_NS {
            println!("held up for {} ns: once more", found.latest_ns);
            continue;
        }
        assert_eq!(found.sent_and_asked.len(), 2);
        for (direction, sent, asked) in found.sent_and_asked {
            assert!(sent.abs_diff(asked) <= 4 * 1000, "{direction:?}");
        }
        return;
    }
    panic!("the machine held up each of {ROUNDS} rounds");
}
