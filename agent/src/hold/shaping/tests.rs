//! A trace with outages, followed on a kernel that has plug.

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::Duration;

use super::*;
use crate::link::interfaces;
use crate::link::tc::interface::{BelowNetem, FilterKind, draw_ifb_address};
use crate::link::testing::{MS, joined, state, trace};
use crate::undo::NamespaceIdentity;

const PACKETS: usize = 200;
const GAP_NS: u64 = 2 * MS;
const OUTAGE_NS: std::ops::Range<u64> = 100 * MS..200 * MS;

/// When each packet was sent and came, since the start, and how late the follower ever was.
struct Played {
    sent_and_came: Vec<(u64, u64)>,
    latest_ns: u64,
}

/// Sends a packet every 2 ms over an interface that follows a trace with an outage.
fn played(delay_ns: u64) -> Played {
    let [near, far] = joined();
    let rows = [8_000_000, 0, 4_000_000, 8_000_000];
    let trace = trace(
        EndPolicy::Loop,
        &rows.map(|rate_bps| (100 * MS, state(rate_bps, delay_ns))),
    );
    let receiver = far
        .run(|| UdpSocket::bind("0.0.0.0:9000").unwrap())
        .unwrap();
    let wait = Duration::from_millis(500);
    receiver.set_read_timeout(Some(wait)).unwrap();
    let receiver = std::thread::spawn(move || {
        let mut came = vec![0; PACKETS];
        let mut buffer = [0; 500];
        while receiver.recv(&mut buffer).is_ok() {
            came[usize::from(buffer[0])] = clock::since_boot_ns();
        }
        came
    });
    let (start_ns, sent, latest_ns) = near.run(|| follow_and_send(&trace)).unwrap();
    let came = receiver.join().unwrap();
    let came = came.into_iter().map(|at: u64| at.saturating_sub(start_ns));
    Played {
        sent_and_came: sent.into_iter().zip(came).collect(),
        latest_ns,
    }
}

/// From when on the trace was followed, when each packet was sent since, and how late the follower was.
fn follow_and_send(trace: &Trace) -> (u64, Vec<u64>, u64) {
    let interface = InterfaceIdentity {
        namespace: NamespaceIdentity::of_this_thread().unwrap(),
        index: interfaces::index_of("hxl0n0").unwrap(),
        name: "hxl0n0".to_owned(),
    };
    let shaping = Shaping {
        interface: &interface,
        ifb_address: draw_ifb_address().unwrap(),
        mtu: 1500,
        longest_bytes: 65_600,
        speed_bps: None,
        trace,
        curves: curves(trace),
        settings: LinkSettings::drop_tail(1_000_000),
        peers: &[],
        kernel: Kernel {
            filters: FilterKind::U32,
            below_netem: BelowNetem::Counted,
            lacks: BTreeSet::new(),
        },
        outages: Outages::of(trace),
    };
    let mut socket = RouteSocket::open().unwrap();
    for step in shaping.check().unwrap() {
        step.apply(&mut socket).unwrap();
    }
    let sender = UdpSocket::bind("0.0.0.0:0").unwrap();
    let monotonic_ns = clock::now();
    let start_ns = clock::since_boot_ns();
    let ahead_ns = start_ns - monotonic_ns;
    let mut follower = Follower::new(&shaping, start_ns);
    let (mut sent, mut latest_ns) = (Vec::new(), 0);
    while sent.len() < PACKETS {
        let number = u8::try_from(sent.len()).unwrap();
        let send_ns = start_ns + u64::from(number) * GAP_NS;
        let follow_ns = follower.next_boot_ns().unwrap();
        clock::sleep_until(send_ns.min(follow_ns) - ahead_ns);
        let now_ns = clock::since_boot_ns();
        if now_ns >= follow_ns {
            assert!(follower.go_on(&mut socket).unwrap());
            latest_ns = latest_ns.max(clock::since_boot_ns() - follow_ns);
        }
        if now_ns >= send_ns {
            sent.push(now_ns - start_ns);
            sender.send_to(&[number; 472], "10.77.0.2:9000").unwrap();
        }
    }
    // What waits has its time to leave.
    for _ in 0..50 {
        clock::sleep_until(clock::now() + MS);
        assert!(follower.go_on(&mut socket).unwrap());
    }
    (start_ns, sent, latest_ns)
}

fn holds_in_the_outage(delay_ns: u64) {
    const ROUNDS: usize = 20;
    const HELD_UP_NS: u64 = 3 * MS;
    for round in 0..ROUNDS {
        let played = played(delay_ns);
        if played.latest_ns > HELD_UP_NS {
            println!(
                "round {round}: held up for {} ns: once more",
                played.latest_ns
            );
            continue;
        }
        let closed_ns = OUTAGE_NS.start + HELD_UP_NS..OUTAGE_NS.end;
        let mut held = 0;
        for (sent_ns, came_ns) in played.sent_and_came {
            assert!(came_ns > 0, "what was sent at {sent_ns} never came");
            let told = format!("sent at {sent_ns}, came at {came_ns}");
            assert!(!closed_ns.contains(&came_ns), "{told}, in the outage");
            let ready_ns = sent_ns + delay_ns;
            // 50 packets of 4000 bits wait at its end; 4 Mbit/s take them and those that come in 100 ms.
            if OUTAGE_NS.contains(&ready_ns) {
                held += usize::from(came_ns >= OUTAGE_NS.end);
            } else if !(OUTAGE_NS.start..320 * MS).contains(&ready_ns) {
                assert!(came_ns < ready_ns + 2 * HELD_UP_NS, "{told}, far too late");
            }
        }
        assert!((48..=50).contains(&held), "{held} packets were held");
        return;
    }
    panic!("the machine held up each of {ROUNDS} rounds");
}

#[test]
#[ignore = "needs root, netem, virtual-time"]
fn an_outage_holds_what_waits_and_lets_it_go_when_it_is_over() {
    holds_in_the_outage(0);
}

#[test]
#[ignore = "needs root, netem, virtual-time"]
fn an_outage_holds_what_was_delayed_before_it() {
    holds_in_the_outage(20 * MS);
}

#[test]
fn following_that_was_held_up_once_takes_no_longer_a_rest() {
    let mut effort = Effort::default();
    let mut usual = |took_ns| {
        effort.note(took_ns);
        effort.usual_ns
    };
    assert_eq!(usual(MS), 0);
    assert_eq!(usual(MS), MS);
    assert_eq!(usual(50 * MS), MS);
    assert_eq!(usual(MS), MS);
    assert_eq!(usual(20 * MS), MS);
    // Now it takes that long.
    assert_eq!(usual(25 * MS), 20 * MS);
}
