//! Links that share a radio cell, with real packets, counted at the receivers.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread;

use hexloop_agent::link::{CellSeat, RelayEngine, SharedCell};
use hexloop_proto::LinkWindow;
use hexloop_topologies::plan::DatapathChoice;
use hexloop_traces::{CellPolicy, CellSettings, Direction, EndPolicy, Trace, UNLIMITED_RATE_BPS};
use hexloop_workloads::clock;

use crate::testbed::{self, MS, Testbed, chain, state};

const CELL_BPS: u64 = 20_000_000;
const LENGTH_NS: u64 = 1500 * MS;
const PAYLOAD: [u8; 1222] = [0; 1222];

fn constant(rate_bps: u64) -> Arc<Trace> {
    testbed::trace(EndPolicy::Loop, &[(1000 * MS, state(rate_bps, 2 * MS))])
}

/// The uplink's windows of every user, of which those that send send more than the cell
/// carries.
fn windows(policy: CellPolicy, users: &[(u32, bool)]) -> Vec<Vec<LinkWindow>> {
    let engine = RelayEngine::new();
    let cell = Arc::new(SharedCell {
        settings: CellSettings::new(policy),
        capacity: Some(constant(CELL_BPS)),
    });
    let beds: Vec<Testbed> = users
        .iter()
        .map(|&(weight, _)| {
            let mut bed = Testbed::new(DatapathChoice::Auto, constant(UNLIMITED_RATE_BPS));
            bed.relay.engine = Some(engine.clone());
            bed.relay.seat = Some(CellSeat {
                cell: Arc::clone(&cell),
                weight,
            });
            bed
        })
        .collect();
    let mut links: Vec<_> = beds.iter().map(Testbed::link).collect();
    let t0 = clock::now() + 50 * MS;
    let receivers: Vec<_> = links
        .iter_mut()
        .map(|link| {
            let (windows, receiver) = sync_channel(10_000);
            link.start(t0, windows).unwrap();
            receiver
        })
        .collect();
    thread::scope(|scope| {
        let sending = beds.iter().zip(users).filter(|(_, (_, sends))| *sends);
        for (bed, _) in sending {
            scope.spawn(|| send(bed, t0));
        }
    });
    for link in &mut links {
        link.stop().unwrap();
    }
    drop(links);
    let uplink = |window: &LinkWindow| window.direction == Direction::Up;
    receivers
        .iter()
        .map(|receiver| receiver.try_iter().filter(uplink).collect())
        .collect()
}

/// A packet of 1250 bytes of IP every 250 us: 40 Mbit/s.
fn send(bed: &Testbed, t0: u64) {
    let address = (bed.plan.ends[1].ipv4, 5003);
    let socket = bed.nodes[0]
        .run(|| UdpSocket::bind("0.0.0.0:0").unwrap())
        .unwrap();
    for number in 0..LENGTH_NS / 250_000 {
        clock::sleep_until(t0 + number * 250_000);
        // Nobody listens: what comes back as an error is as good as sent.
        let _ = socket.send_to(&PAYLOAD, address);
    }
}

/// Bytes of each user that sends, over the windows in which all of them had something
/// waiting, and what the cell carries in those.
fn shares(policy: CellPolicy, users: &[(u32, bool)]) -> (Vec<u64>, u64) {
    let windows = windows(policy, users);
    let sending = windows.iter().zip(users).filter(|(_, (_, sends))| *sends);
    let sending: Vec<_> = sending.map(|(windows, _)| windows).collect();
    let count = sending.iter().map(|windows| windows.len()).min().unwrap();
    let mut bytes = vec![0; sending.len()];
    let mut carried = 0;
    for index in 0..count {
        if sending.iter().all(|windows| windows[index].backlogged) {
            carried += CELL_BPS / 8 * sending[0][index].length_ns / 1_000_000_000;
            for (bytes, windows) in bytes.iter_mut().zip(&sending) {
                *bytes += windows[index].delivered_bytes;
            }
        }
    }
    assert!(carried > 0, "no window in which everybody waited");
    (bytes, carried)
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
fn assert_shares((bytes, carried): &(Vec<u64>, u64), expected: &[f64], what: &str) {
    println!("{what}: {bytes:?} of {carried}");
    for (&bytes, &expected) in bytes.iter().zip(expected) {
        let share = bytes as f64 / *carried as f64;
        assert!(
            (share - expected).abs() < 0.02,
            "{what}: {share} for {expected}"
        );
    }
}

#[test]
#[ignore = "needs root"]
fn the_users_of_a_cell_get_the_shares_of_its_policy_and_all_of_it_together() {
    let equal = [(1, true), (1, true)];
    for policy in [CellPolicy::PROPORTIONAL_FAIR, CellPolicy::RoundRobin] {
        assert_shares(&shares(policy, &equal), &[0.5, 0.5], &policy.to_string());
    }
    let weighted = [(1, true), (3, true)];
    let got = shares(CellPolicy::FixedShare, &weighted);
    assert_shares(&got, &[0.25, 0.75], "fixed-share");
}

#[test]
#[ignore = "needs root"]
fn what_idle_users_leave_goes_to_who_sends() {
    let users = [(1, true), (3, false), (5, false)];
    for policy in [CellPolicy::RoundRobin, CellPolicy::FixedShare] {
        assert_shares(&shares(policy, &users), &[1.0], &policy.to_string());
    }
}

#[test]
#[ignore = "needs root"]
fn datapaths_of_the_kernel_refuse_to_share_a_cell() {
    for datapath in [DatapathChoice::Tc, DatapathChoice::Edt] {
        let mut bed = Testbed::new(datapath, constant(CELL_BPS));
        bed.relay.seat = Some(CellSeat {
            cell: Arc::new(SharedCell {
                settings: CellSettings::new(CellPolicy::RoundRobin),
                capacity: None,
            }),
            weight: 1,
        });
        let error = chain(&bed.try_link().unwrap_err());
        assert!(error.contains("cannot divide a cell"), "{error}");
    }
}
