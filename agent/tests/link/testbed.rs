//! Two namespaces and what a link between them is built from, for the tests with real packets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::thread;

use hexloop_agent::link::{CalibrationReport, Link, LinkError, LinkSpec, RelayOptions};
use hexloop_agent::namespace::NetworkNamespace;
use hexloop_proto::LinkCalibration;
use hexloop_topologies::plan::{CalibrationPlan, DatapathChoice, FaultPlan, LinkEnd, LinkPlan};
use hexloop_traces::generate::control;
use hexloop_traces::{EndPolicy, LinkSettings, LinkState, Trace};

pub(crate) const MS: u64 = 1_000_000;

pub(crate) fn state(rate_bps: u64, delay_ns: u64) -> LinkState {
    LinkState {
        rate_bps,
        delay_ns,
        ..LinkState::TRANSPARENT
    }
}

pub(crate) fn trace(end: EndPolicy, steps: &[(u64, LinkState)]) -> Arc<Trace> {
    Arc::new(control::states(end, steps).unwrap())
}

fn end(number: u8) -> LinkEnd {
    LinkEnd {
        node: format!("node{number}"),
        interface: format!("hxl0n{number}"),
        ipv4: IpAddr::V4(Ipv4Addr::new(10, 77, 0, number + 1)),
        ipv6: IpAddr::V6(Ipv6Addr::new(
            0xfd77,
            0,
            0,
            0,
            0,
            0,
            0,
            u16::from(number) + 1,
        )),
        mac: [2, 0x68, 0x78, 0, 0, number],
    }
}

/// Two nodes, and what a link between them is built from.
pub(crate) struct Testbed {
    pub(crate) nodes: [NetworkNamespace; 2],
    pub(crate) plan: LinkPlan,
    pub(crate) calibration: CalibrationPlan,
    pub(crate) faults: FaultPlan,
    pub(crate) trace: Arc<Trace>,
    pub(crate) relay: RelayOptions,
}

impl Testbed {
    pub(crate) fn new(datapath: DatapathChoice, trace: Arc<Trace>) -> Testbed {
        Testbed {
            nodes: [
                NetworkNamespace::create().unwrap(),
                NetworkNamespace::create().unwrap(),
            ],
            plan: LinkPlan {
                name: "air".to_owned(),
                index: 0,
                ends: [end(0), end(1)],
                trace: "control".to_owned(),
                trace_sha256: String::new(),
                datapath,
                mode: hexloop_topologies::plan::RelayModePlan::default(),
                mtu: 1500,
                settings: LinkSettings::drop_tail(250_000),
            },
            calibration: CalibrationPlan {
                flow_ns: 3000 * MS,
                packet_payload_bytes: 1222,
                probe_gap_ns: 5 * MS,
                window_ns: 20 * MS,
            },
            faults: FaultPlan::default(),
            trace,
            relay: RelayOptions::default(),
        }
    }

    pub(crate) fn link(&self) -> Link {
        self.try_link()
            .unwrap_or_else(|error| panic!("{}", chain(&error)))
    }

    pub(crate) fn try_link(&self) -> Result<Link, LinkError> {
        let last_cpu = thread::available_parallelism().unwrap().get() - 1;
        Link::build(&LinkSpec {
            plan: &self.plan,
            trace: Arc::clone(&self.trace),
            faults: &self.faults,
            calibration: &self.calibration,
            seed: 1,
            relay_cpu: u32::try_from(last_cpu).ok(),
            ends: [&self.nodes[0], &self.nodes[1]],
            relay: self.relay.clone(),
        })
    }

    pub(crate) fn calibrated(&self) -> Vec<LinkCalibration> {
        let mut link = self.link();
        println!("{:?}", link.description());
        let report = link.calibrate().unwrap();
        assert_eq!(report.packets_missed + report.windows_dropped, 0);
        assert_windows_fit(&report, self.calibration.window_ns);
        for result in &report.directions {
            println!("{}", described(result));
        }
        report.directions
    }
}

pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

pub(crate) fn described(result: &LinkCalibration) -> String {
    let (late, error) = (&result.lateness, &result.delay_error);
    format!(
        "{:?}: {:.6} over {} windows; late {:?}/{:?}/{:?} of {}; delay {} error {:?}/{:?}/{:?} \
         of {}, lost {}; step {}",
        result.direction,
        ratio(result),
        result.backlogged_windows,
        late.p50_ns,
        late.p99_ns,
        late.max_ns,
        late.count,
        result.asked_delay_ns,
        error.p50_ns,
        error.p99_ns,
        error.max_ns,
        error.count,
        result.probes_lost,
        result.clock_step_ns,
    )
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
pub(crate) fn ratio(result: &LinkCalibration) -> f64 {
    result.delivered_bytes as f64 / result.trace_bytes as f64
}

/// The windows of each direction follow one another from its own flow's start.
fn assert_windows_fit(report: &CalibrationReport, window_ns: u64) {
    for result in &report.directions {
        let ours = report
            .windows
            .iter()
            .filter(|window| window.direction == result.direction);
        let starts: Vec<u64> = ours.clone().map(|window| window.start_ns).collect();
        let expected: Vec<u64> = (0..)
            .step_by(usize::try_from(window_ns).unwrap())
            .take(starts.len())
            .collect();
        assert_eq!(starts, expected);
        let compared = ours
            .filter(|window| window.backlogged && window.trace_bytes > 0)
            .count();
        assert!(u64::try_from(compared).unwrap() >= result.backlogged_windows);
        assert!(compared > 0);
    }
}
