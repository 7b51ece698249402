//! Two nodes and what joins them: a link of the product, or a bare pair to compare it with.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use hexloop_proto::LinkWindow;
use hexloop_topologies::plan::{CalibrationPlan, DatapathChoice, FaultPlan, LinkEnd, LinkPlan};
use hexloop_traces::{
    CapacityCurve, Diagnostics, Direction, EndPolicy, LinkSettings, LinkState, TRACE_SCHEMA, Trace,
    TraceMetadata, TraceRow, TraceStatus,
};
use hexloop_workloads::clock::MonotonicNs;

use super::BenchError;
use crate::link::tap::Taps;
use crate::link::{Link, LinkPhaseReport, LinkSpec, RelayOptions, interfaces};
use crate::namespace::NetworkNamespace;
use crate::sys::packet::{Intake, PacketSocket, PacketSocketOptions};

pub(super) const MS: u64 = 1_000_000;
pub(super) const SECOND: u64 = 1_000_000_000;

/// Packets of the flows whose exactness is judged, in IP bytes.
pub(super) const PACKET_BYTES: u16 = 1500;

/// From the order to play to T0.
pub(super) const LEAD_NS: u64 = 50 * MS;

/// What a link of the bench is like.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) datapath: DatapathChoice,
    pub(super) trace: Arc<Trace>,
    pub(super) settings: LinkSettings,
    pub(super) calibration: CalibrationPlan,
    pub(super) relay: RelayOptions,
}

impl Wanted {
    /// A link that follows a trace, with a queue of so many packets of full size.
    pub(super) fn new(datapath: DatapathChoice, trace: Trace, queue_packets: u64) -> Wanted {
        Wanted {
            relay: RelayOptions::default(),
            datapath,
            trace: Arc::new(trace),
            settings: LinkSettings::drop_tail(queue_packets * u64::from(PACKET_BYTES)),
            calibration: CalibrationPlan {
                flow_ns: SECOND,
                packet_payload_bytes: u32::from(PACKET_BYTES) - 28,
                probe_gap_ns: MS,
                window_ns: 10 * MS,
            },
        }
    }

    /// The integral of the direction that the bench's flows take.
    pub(super) fn curve(&self) -> CapacityCurve {
        CapacityCurve::new(&self.trace, Direction::Up)
    }
}

/// A trace that repeats these steps, the same in both directions.
pub(super) fn steps(steps: &[(u64, LinkState)]) -> Result<Trace, BenchError> {
    let mut t_ns = 0;
    let mut rows = Vec::with_capacity(steps.len());
    for &(length_ns, state) in steps {
        rows.push(TraceRow {
            t_ns,
            down: state,
            up: state,
            diagnostics: Diagnostics::default(),
        });
        t_ns += length_ns;
    }
    let metadata = TraceMetadata {
        schema: TRACE_SCHEMA,
        scenario: "bench".to_owned(),
        status: TraceStatus::Control,
        duration_ns: t_ns,
        end: EndPolicy::Loop,
        seed: None,
        generator: "hexloop bench link".to_owned(),
        configuration: BTreeMap::new(),
        notes: Vec::new(),
        provenance: hexloop_traces::Provenance::default(),
    };
    Ok(Trace::new(metadata, rows)?)
}

pub(super) const fn state(rate_bps: u64, delay_ns: u64) -> LinkState {
    LinkState {
        rate_bps,
        delay_ns,
        ..LinkState::TRANSPARENT
    }
}

/// The CPU of the relay's threads: the last of those that this process may use, if it has two.
pub(super) fn relay_cpu() -> Option<u32> {
    let cpus = crate::link::scheduling::pin(None);
    cpus.last().copied().filter(|_| cpus.len() > 1)
}

/// The CPU of what sends and receives for the bench: the first, if there are two.
pub(super) fn other_cpu() -> Option<u32> {
    let cpus = crate::link::scheduling::pin(None);
    cpus.first().copied().filter(|_| cpus.len() > 1)
}

/// The plan of a link by number. Names and addresses stay apart from those of runs.
pub(super) fn link_plan(number: u16, wanted: &Wanted) -> LinkPlan {
    let [high, low] = number.to_be_bytes();
    let end = |side: u8| {
        let letter = if side == 0 { 'a' } else { 'b' };
        // A /30 of 198.19.0.0/16 (RFC 2544) per link and end: number * 4 + 1 or 2.
        let host = u32::from(number % 16_384) * 4 + u32::from(side) + 1;
        LinkEnd {
            node: format!("bench{number}{letter}"),
            interface: format!("hx{number}{letter}"),
            ipv4: IpAddr::V4(Ipv4Addr::from_bits(0xc613_0000 + host)),
            ipv6: IpAddr::V6(Ipv6Addr::new(
                0xfd68,
                0x7866,
                number,
                0,
                0,
                0,
                0,
                u16::from(side) + 1,
            )),
            mac: [0x02, 0x68, 0x79, high, low, side + 1],
        }
    };
    LinkPlan {
        name: format!("bench{number}"),
        index: number,
        ends: [end(0), end(1)],
        trace: "bench".to_owned(),
        trace_sha256: String::new(),
        datapath: wanted.datapath,
        mode: hexloop_topologies::plan::RelayModePlan::default(),
        mtu: u32::from(PACKET_BYTES),
        settings: wanted.settings,
    }
}

/// Two nodes of their own.
#[derive(Debug)]
pub(super) struct Nodes {
    pub(super) namespaces: [NetworkNamespace; 2],
    pub(super) plan: LinkPlan,
}

impl Nodes {
    fn new(wanted: &Wanted) -> Result<Nodes, BenchError> {
        Ok(Nodes {
            namespaces: [NetworkNamespace::create()?, NetworkNamespace::create()?],
            plan: link_plan(0, wanted),
        })
    }

    /// Does something in the namespace of the sending (0) or receiving (1) node.
    pub(super) fn inside<T: Send>(
        &self,
        node: usize,
        work: impl FnOnce() -> std::io::Result<T> + Send,
        action: &str,
    ) -> Result<T, BenchError> {
        self.namespaces[node]
            .run(work)?
            .map_err(BenchError::socket(action))
    }

    /// A socket that sends whole frames out of the first node, past the disciplines of its interface:
    /// there is nothing to queue for on a veth.
    pub(super) fn frame_sender(&self) -> Result<PacketSocket, BenchError> {
        self.sender(PacketSocket::bypass_queue)
    }

    /// One whose frames the disciplines of its interface get.
    pub(super) fn queued_sender(&self) -> Result<PacketSocket, BenchError> {
        self.sender(|_| Ok(()))
    }

    fn sender(
        &self,
        prepare: impl FnOnce(&PacketSocket) -> std::io::Result<()> + Send,
    ) -> Result<PacketSocket, BenchError> {
        let options = PacketSocketOptions {
            intake: Intake::Nothing,
            headers: false,
        };
        let interface = self.plan.ends[0].interface.clone();
        let open = move || {
            let socket = PacketSocket::open(&interface, options)?;
            prepare(&socket)?;
            Ok(socket)
        };
        self.inside(0, open, "open the packet socket of a flow")
    }

    /// Packet sockets on both receiving interfaces, in the order of [`Direction::BOTH`].
    pub(super) fn taps(&self) -> Result<Taps, BenchError> {
        let tap = |end: usize| {
            let interface = &self.plan.ends[end].interface;
            let opened = self.namespaces[end].run(|| Taps::open_one(interface, u64::MAX))?;
            Ok::<_, BenchError>(opened?)
        };
        Ok(Taps::on([tap(0)?, tap(1)?]))
    }

    /// Keeps a UDP port of the receiving node open, so that nothing is answered with ICMP. Nobody
    /// reads it: the tap sees what arrives.
    pub(super) fn swallow(&self, port: u16) -> Result<std::net::UdpSocket, BenchError> {
        let address = (self.plan.ends[1].ipv4, port);
        self.inside(
            1,
            move || std::net::UdpSocket::bind(address),
            "open the port that a flow goes to",
        )
    }
}

/// Two nodes joined by a bare pair of interfaces, offloads as the kernel makes them or off.
#[derive(Debug)]
pub(super) struct BarePair {
    pub(super) nodes: Nodes,
}

impl BarePair {
    /// With every offload that the kernel gives a veth pair.
    pub(super) fn with_offloads(wanted: &Wanted) -> Result<BarePair, BenchError> {
        let nodes = Nodes::new(wanted)?;
        let [first, second] = &nodes.namespaces;
        interfaces::build_bare(&nodes.plan, [first, second])?;
        Ok(BarePair { nodes })
    }
}

/// Two nodes joined by a link of the product.
#[derive(Debug)]
pub(super) struct Shaped {
    /// Dropped before the nodes that it joins.
    pub(super) link: Link,
    pub(super) nodes: Nodes,
    from_tap: Option<Receiver<LinkWindow>>,
}

impl Shaped {
    pub(super) fn new(wanted: &Wanted) -> Result<Shaped, BenchError> {
        let nodes = Nodes::new(wanted)?;
        let [first, second] = &nodes.namespaces;
        let faults = FaultPlan::default();
        let link = Link::build(&specification(
            &nodes.plan,
            wanted,
            &faults,
            [first, second],
        ))?;
        Ok(Shaped {
            link,
            nodes,
            from_tap: None,
        })
    }

    /// What shapes its packets, in words.
    pub(super) fn datapath(&self) -> String {
        describe(&self.link)
    }

    /// Plays from `t0` on.
    pub(super) fn start(&mut self, t0: MonotonicNs) -> Result<(), BenchError> {
        let (windows, receiver) = window_channel();
        self.from_tap = Some(receiver);
        Ok(self.link.start(t0, windows)?)
    }

    /// The windows of the last playback, which has ended.
    pub(super) fn windows(&mut self) -> Vec<LinkWindow> {
        let windows = self.from_tap.take();
        windows.map_or_else(Vec::new, |windows| windows.into_iter().collect())
    }

    /// Ends the playback.
    pub(super) fn stop(&mut self) -> Result<LinkPhaseReport, BenchError> {
        Ok(self.link.stop()?)
    }
}

/// Room for all windows of a row that is read when it has ended: 20 s of both directions.
const MOST_WINDOWS: usize = 4096;

/// Where the windows of a row go.
pub(super) fn window_channel() -> (SyncSender<LinkWindow>, Receiver<LinkWindow>) {
    sync_channel(MOST_WINDOWS)
}

/// What shapes the packets of a link, in words.
pub(super) fn describe(link: &Link) -> String {
    let description = link.description();
    match description.mode {
        Some(mode) => format!(
            "{} ({}), {}",
            description.datapath,
            mode.name(),
            description.scheduling
        ),
        None => format!("{}, {}", description.datapath, description.scheduling),
    }
}

/// What a link of the product is built from.
pub(super) fn specification<'a>(
    plan: &'a LinkPlan,
    wanted: &'a Wanted,
    faults: &'a FaultPlan,
    ends: [&'a NetworkNamespace; 2],
) -> LinkSpec<'a> {
    LinkSpec {
        plan,
        trace: Arc::clone(&wanted.trace),
        faults,
        calibration: &wanted.calibration,
        seed: 1,
        relay_cpu: relay_cpu(),
        ends,
        relay: wanted.relay.clone(),
    }
}

/// The counters of a node's interface: what has arrived there.
#[derive(Debug)]
pub(super) struct Counter {
    socket: crate::link::netlink::RouteSocket,
    index: u32,
}

impl Counter {
    pub(super) fn open(nodes: &Nodes, node: usize) -> Result<Counter, BenchError> {
        let interface = &nodes.plan.ends[node].interface;
        let opened = nodes.namespaces[node].run(|| {
            Ok::<_, crate::link::LinkError>(Counter {
                socket: interfaces::open_socket()?,
                index: interfaces::index_of(interface)?,
            })
        })?;
        Ok(opened?)
    }

    /// Packets.
    pub(super) fn packets(&mut self) -> Result<u64, BenchError> {
        Ok(interfaces::received(&mut self.socket, self.index)?.1)
    }
}
