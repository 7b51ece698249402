//! Packets of 9000 bytes.

use hexloop_topologies::plan::DatapathChoice;
use hexloop_traces::{EndPolicy, LinkSettings};

use crate::testbed::{MS, Testbed, described, ratio, state, trace};
use crate::traffic::packets_of_both_families_arrive_whole;

#[test]
#[ignore = "needs root"]
fn the_relay_carries_packets_of_nine_thousand_bytes() {
    carries_packets_of_nine_thousand_bytes(DatapathChoice::Relay);
}

#[test]
#[ignore = "needs root"]
fn tc_carries_packets_of_nine_thousand_bytes() {
    carries_packets_of_nine_thousand_bytes(DatapathChoice::Tc);
}

#[test]
#[ignore = "needs root, fq"]
fn edt_carries_packets_of_nine_thousand_bytes() {
    carries_packets_of_nine_thousand_bytes(DatapathChoice::Edt);
}

/// They arrive whole, alone and cut from longer ones, and when the trace says.
fn carries_packets_of_nine_thousand_bytes(datapath: DatapathChoice) {
    let steps = [30, 90, 60].map(|mbit| (100 * MS, state(mbit * 1_000_000, 0)));
    let mut testbed = Testbed::new(datapath, trace(EndPolicy::Loop, &steps));
    testbed.plan.mtu = 9000;
    testbed.plan.settings = LinkSettings::drop_tail(1_000_000);
    testbed.calibration.packet_payload_bytes = 8900;
    packets_of_both_families_arrive_whole(&testbed);
    for result in testbed.calibrated() {
        let text = described(&result);
        assert!((ratio(&result) - 1.0).abs() < 0.02, "{text}");
        assert!(result.backlogged_windows >= 50, "{text}");
    }
}
