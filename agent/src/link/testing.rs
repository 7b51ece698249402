//! Traces and pairs of namespaces for tests.

use std::process::Command;

use hexloop_topologies::plan::{DatapathChoice, LinkEnd, LinkPlan, RelayModePlan};
use hexloop_traces::generate::control;
use hexloop_traces::{EndPolicy, LinkSettings, LinkState, Trace};

use crate::link::interfaces;
use crate::namespace::NetworkNamespace;

pub(crate) const MS: u64 = 1_000_000;

pub(crate) const fn state(rate_bps: u64, delay_ns: u64) -> LinkState {
    LinkState {
        rate_bps,
        delay_ns,
        ..LinkState::TRANSPARENT
    }
}

/// A trace of rows with their lengths, the same in both directions.
pub(crate) fn trace(end: EndPolicy, steps: &[(u64, LinkState)]) -> Trace {
    control::states(end, steps).unwrap()
}

/// Runs a command that has to succeed.
pub(crate) fn run(command: &str) {
    let mut words = command.split_whitespace();
    let status = Command::new(words.next().unwrap())
        .args(words)
        .status()
        .unwrap();
    assert!(status.success(), "{command}");
}

/// A link between two nodes.
pub(crate) fn plan() -> LinkPlan {
    let end = |number: u8| LinkEnd {
        node: format!("node{number}"),
        interface: format!("hxl0n{number}"),
        ipv4: [10, 77, 0, number + 1].into(),
        ipv6: [0xfd77, 0, 0, 0, 0, 0, 0, u16::from(number) + 1].into(),
        mac: [2, 0x68, 0x78, 0, 0, number],
    };
    LinkPlan {
        name: "pair".to_owned(),
        index: 0,
        ends: [end(0), end(1)],
        trace: String::new(),
        trace_sha256: String::new(),
        datapath: DatapathChoice::Tc,
        mode: RelayModePlan::default(),
        mtu: 1500,
        settings: LinkSettings::drop_tail(1),
    }
}

/// Two namespaces joined by a pair; the far one answers for all of 10.9.0.0/16.
pub(crate) fn joined() -> [NetworkNamespace; 2] {
    let [near, far] = [(); 2].map(|()| NetworkNamespace::create().unwrap());
    interfaces::build_bare(&plan(), [&near, &far]).unwrap();
    near.run(|| run("ip route add 10.9.0.0/16 via 10.77.0.2"))
        .unwrap();
    far.run(|| run("ip route add local 10.9.0.0/16 dev lo"))
        .unwrap();
    [near, far]
}
