//! Queueing disciplines of the kernel.

use std::sync::Arc;

use hexloop_topologies::plan::DatapathChoice;
use hexloop_traces::{CapacityCurve, Direction, LinkState, Trace};

use crate::testbed::{MS, Testbed, described, ratio, state};
use crate::traffic::{arrivals, packets_of_both_families_arrive_whole, trace};

#[test]
#[ignore = "needs root, virtual-time"]
fn tc_delivers_what_a_changing_trace_allows() {
    // Without delay, so that htb and a plain queue do.
    let rows = trace(&[
        (500 * MS, state(12_000_000, 0)),
        (500 * MS, state(48_000_000, 0)),
        (500 * MS, state(100_000_000, 0)),
    ]);
    for result in Testbed::new(DatapathChoice::Tc, rows).calibrated() {
        assert!(
            (ratio(&result) - 1.0).abs() < 0.02,
            "{}",
            described(&result)
        );
        assert!(result.backlogged_windows >= 50, "{}", described(&result));
    }
}

/// The four rates of the reference measurement of plain htb stepping.
fn four_rates(step_ns: u64) -> Arc<Trace> {
    let rates = [12, 48, 120, 300];
    trace(&rates.map(|rate| (step_ns, state(rate * 1_000_000, 0))))
}

#[test]
#[ignore = "needs root, virtual-time"]
fn tc_steers_its_bytes_to_the_trace_in_steps_of_ten_and_of_one_millisecond() {
    for (step_ns, allowed) in [(10 * MS, 0.005), (MS, 0.01)] {
        for result in Testbed::new(DatapathChoice::Tc, four_rates(step_ns)).calibrated() {
            let text = described(&result);
            assert!((ratio(&result) - 1.0).abs() < allowed, "{step_ns}: {text}");
            assert!(result.backlogged_windows >= 50, "{step_ns}: {text}");
        }
    }
}

#[test]
#[ignore = "needs root, netem, virtual-time"]
fn tc_delays_and_limits_where_the_kernel_has_netem() {
    let rows = trace(&[
        (1000 * MS, state(20_000_000, 10 * MS)),
        (500 * MS, state(40_000_000, 5 * MS)),
    ]);
    for result in Testbed::new(DatapathChoice::Tc, rows).calibrated() {
        assert!(
            (ratio(&result) - 1.0).abs() < 0.03,
            "{}",
            described(&result)
        );
        assert!(
            result.delay_error.p50_ns.unwrap() < 2_000_000,
            "{}",
            described(&result)
        );
    }
}

#[test]
#[ignore = "needs root"]
fn tcp_and_udp_of_both_address_families_cross_tc_with_whole_checksums() {
    let mut testbed = Testbed::new(
        DatapathChoice::Tc,
        trace(&[(60_000 * MS, state(200_000_000, 0))]),
    );
    testbed.plan.name = "tc".to_owned();
    packets_of_both_families_arrive_whole(&testbed);
}

#[test]
#[ignore = "needs root, netem, virtual-time"]
fn tc_keeps_jittered_packets_in_order_unless_reordering_is_asked_for() {
    let jittered = LinkState {
        jitter_ns: 4_000_000,
        ..state(100_000_000, 5 * MS)
    };
    let mut testbed = Testbed::new(DatapathChoice::Tc, trace(&[(60_000 * MS, jittered)]));
    let found = arrivals(&testbed, 300, MS, 200);
    assert_eq!(found.len(), 300);
    assert!(found.is_sorted(), "{found:?}");
    let delays = found.iter().map(|(number, at)| at - 10 * MS - number * MS);
    let delays: Vec<u64> = delays.collect();
    assert!(delays.iter().any(|&delay| delay < 6 * MS), "{delays:?}");
    assert!(delays.iter().any(|&delay| delay > 8 * MS), "{delays:?}");
    testbed.plan.settings.reorder = true;
    let found = arrivals(&testbed, 300, MS, 200);
    assert_eq!(found.len(), 300);
    assert!(!found.is_sorted());
}

#[test]
#[ignore = "needs root, netem, virtual-time"]
fn tc_loses_in_bursts_of_the_length_that_the_trace_asks_for() {
    let lossy = LinkState {
        loss_ppb: 200_000_000,
        loss_burst_milli: 4000,
        ..state(100_000_000, MS)
    };
    let testbed = Testbed::new(DatapathChoice::Tc, trace(&[(60_000 * MS, lossy)]));
    let found = arrivals(&testbed, 4000, MS / 2, 200);
    let lost = 4000 - found.len();
    let bursts = found
        .windows(2)
        .filter(|pair| pair[1].0 > pair[0].0 + 1)
        .count();
    assert!((600..1000).contains(&lost), "{lost} of 4000 lost");
    let mean = lost * 10 / bursts;
    assert!((30..=50).contains(&mean), "{lost} lost in {bursts} bursts");
}

#[test]
#[ignore = "needs root, netem, virtual-time"]
fn tc_and_the_relay_deliver_the_same_packets_when_the_trace_says() {
    let rows = trace(&[
        (100 * MS, state(4_000_000, 10 * MS)),
        (100 * MS, state(12_000_000, 15 * MS)),
        (50 * MS, state(0, 15 * MS)),
        (150 * MS, state(8_000_000, 5 * MS)),
    ]);
    // 500 bytes of IP every 0.6 ms: 6.7 Mbit/s, queued in the first row and in the outage.
    let ideal = ideal_arrivals(&rows, 1000, 600_000, 500);
    for datapath in [DatapathChoice::Relay, DatapathChoice::Tc] {
        let found = arrivals(&Testbed::new(datapath, rows.clone()), 1000, 600_000, 472);
        assert_eq!(found.len(), 1000, "{datapath:?}");
        let compared = found.iter().zip(&ideal).enumerate();
        let errors = compared.map(|(place, ((number, at), ideal))| {
            assert_eq!(*number, u64::try_from(place).unwrap());
            at.abs_diff(*ideal)
        });
        let mut errors: Vec<u64> = errors.collect();
        errors.sort_unstable();
        println!(
            "{datapath:?}: {} {} {}",
            errors[500], errors[990], errors[999]
        );
        // htb sends a packet at the start of its own time (1 ms at 4 Mbit/s), the relay at
        // its end; the receiver is woken when the one processor of the guest is free.
        assert!(errors[500] <= 1_500_000, "{datapath:?}: {errors:?}");
    }
}

/// When packets arrive at best that are sent up at even distances from 10 ms on.
fn ideal_arrivals(trace: &Trace, packets: u64, gap_ns: u64, ip_bytes: u64) -> Vec<u64> {
    let curve = CapacityCurve::new(trace, Direction::Up);
    let (mut free_ns, mut latest_ns) = (0, 0);
    let arrivals = (0..packets).map(|number| {
        let sent_ns = 10 * MS + number * gap_ns;
        free_ns = curve.finish_ns(sent_ns.max(free_ns), ip_bytes * 8).unwrap();
        latest_ns = latest_ns.max(free_ns + curve.state_at(free_ns).delay_ns);
        latest_ns
    });
    arrivals.collect()
}
