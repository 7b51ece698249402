//! Builds a link between two throw-away namespaces with each datapath.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use hexloop_agent::link::{Link, LinkSpec, RelayOptions};
use hexloop_agent::namespace::NetworkNamespace;
use hexloop_topologies::plan::{CalibrationPlan, DatapathChoice, FaultPlan, LinkEnd, LinkPlan};
use hexloop_traces::{
    Diagnostics, EndPolicy, LinkSettings, LinkState, TRACE_SCHEMA, Trace, TraceMetadata, TraceRow,
    TraceStatus,
};

use super::{Finding, bad, good, missing};

/// What each datapath can do here. Runs need one of them.
pub(super) fn findings() -> Vec<Finding> {
    let tried = [
        ("relay datapath", DatapathChoice::Relay, 0),
        ("tc datapath", DatapathChoice::Tc, 1),
        ("edt datapath", DatapathChoice::Edt, 2),
    ]
    .map(|(name, choice, index)| (name, choice, attempt(choice, index)));
    let one_works = tried.iter().any(|(_, _, result)| result.is_ok());
    tried
        .into_iter()
        .map(|(name, choice, result)| match result {
            Ok(detail) => good(name, detail),
            Err(why) if one_works => missing(name, why).with_remedy(remedy(choice)),
            Err(why) => {
                let remedy = format!("a run needs a datapath: {}", remedy(choice));
                bad(name, why, remedy)
            }
        })
        .collect()
}

/// What to do where a datapath does not work.
const fn remedy(choice: DatapathChoice) -> &'static str {
    match choice {
        DatapathChoice::Relay | DatapathChoice::Auto => {
            "run as root or allow user namespaces, on a kernel with veth and packet sockets \
             (`modprobe veth af_packet`)"
        }
        DatapathChoice::Tc => {
            "load htb and netem (`modprobe sch_htb sch_netem`; some distributions have them in a \
             package of further kernel modules), or stay with the relay, which needs neither"
        }
        DatapathChoice::Edt => {
            "as root, load fq and the BPF classifier (`modprobe sch_fq cls_bpf`), or stay with the \
             relay, which needs neither"
        }
    }
}

fn attempt(choice: DatapathChoice, index: u8) -> Result<String, String> {
    let with_causes = |error: anyhow::Error| format!("{error:#}");
    let namespace = || NetworkNamespace::create().map_err(|error| with_causes(error.into()));
    let (first, second) = (namespace()?, namespace()?);
    let trace = trace().map_err(|error| with_causes(error.into()))?;
    let plan = plan(choice, index);
    let calibration = CalibrationPlan {
        flow_ns: 3_000_000_000,
        packet_payload_bytes: 1_400,
        probe_gap_ns: 2_000_000,
        window_ns: 50_000_000,
    };
    let link = Link::build(&LinkSpec {
        plan: &plan,
        trace: Arc::new(trace),
        faults: &FaultPlan::default(),
        calibration: &calibration,
        seed: 1,
        relay_cpu: None,
        ends: [&first, &second],
        relay: RelayOptions::default(),
    })
    .map_err(|error| with_causes(error.into()))?;
    let description = link.description();
    Ok(format!(
        "built a link with delay and loss; {}",
        description.scheduling
    ))
}

fn plan(datapath: DatapathChoice, index: u8) -> LinkPlan {
    let end = |last: u8| LinkEnd {
        node: format!("n{last}"),
        interface: format!("hx{index}e{last}"),
        ipv4: Ipv4Addr::new(10, 99, index, last).into(),
        ipv6: Ipv6Addr::new(0xfd99, 0, 0, u16::from(index), 0, 0, 0, u16::from(last)).into(),
        mac: [2, 0x68, 0x78, 0xff, index, last],
    };
    LinkPlan {
        name: "doctor".to_owned(),
        index: u16::from(index),
        ends: [end(1), end(2)],
        trace: "doctor".to_owned(),
        trace_sha256: String::new(),
        datapath,
        mode: hexloop_topologies::plan::RelayModePlan::default(),
        mtu: 1500,
        settings: LinkSettings::drop_tail(100_000),
    }
}

/// One second at 10 Mbit/s with 5 ms of delay and a little loss.
fn trace() -> Result<Trace, hexloop_traces::TraceError> {
    let state = LinkState {
        rate_bps: 10_000_000,
        delay_ns: 5_000_000,
        loss_ppb: 1_000_000,
        ..LinkState::TRANSPARENT
    };
    let metadata = TraceMetadata {
        schema: TRACE_SCHEMA,
        scenario: "doctor".to_owned(),
        status: TraceStatus::Control,
        duration_ns: 1_000_000_000,
        end: EndPolicy::Hold,
        seed: None,
        generator: "hexloop doctor".to_owned(),
        configuration: BTreeMap::new(),
        notes: Vec::new(),
        provenance: hexloop_traces::Provenance::default(),
    };
    let diagnostics = Diagnostics::default();
    Trace::new(
        metadata,
        vec![TraceRow {
            t_ns: 0,
            down: state,
            up: state,
            diagnostics,
        }],
    )
}
