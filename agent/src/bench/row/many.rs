//! Many links on one machine, each with traffic of its own.

use std::io::IoSlice;
use std::thread;

use hexloop_topologies::plan::{DatapathChoice, FaultPlan, LinkPlan};
use hexloop_workloads::clock;

use super::super::scene::{
    self, LEAD_NS, MS, PACKET_BYTES, SECOND, Wanted, other_cpu, state, steps,
};
use super::super::schedule::Ideal;
use super::super::{BenchError, Measured, Scale, frame, to_f64};
use crate::link::scheduling;
use crate::link::{Link, RelayEngine, interfaces};
use crate::namespace::NetworkNamespace;
use crate::sys::packet::{Intake, PacketSocket, PacketSocketOptions, ReceiveBuffers};

const PORT: u16 = 47_006;

/// Five rates with a mean of 5 Mbit/s.
const RATES_MBPS: [u64; 5] = [2, 8, 4, 6, 5];

/// What every link is offered: 6 Mbit/s in packets of 1500 bytes, in bursts of 10 ms.
const TICK_NS: u64 = 10 * MS;
const PACKETS_PER_TICK: usize = 5;

/// 40 ms at the mean rate.
const QUEUE_PACKETS: u64 = 20;

/// Frames that a receiver has room for: half a second of its link.
const RING_FRAMES: usize = 256;

const RING: PacketSocketOptions = PacketSocketOptions {
    intake: Intake::Ring {
        snap_bytes: 64,
        frames: RING_FRAMES,
    },
    headers: false,
};

/// One of many links, all between the same two namespaces.
struct One {
    link: Link,
    sender: PacketSocket,
    tap: PacketSocket,
    frame: Vec<u8>,
    _port: std::net::UdpSocket,
    arrivals_ns: Vec<u64>,
}

pub(super) fn links(scale: Scale) -> Result<Measured, BenchError> {
    let count = scale.pick(20, 200);
    let span_ns = scale.pick(2, 10) * SECOND;
    let rates = RATES_MBPS.map(|mbps| (MS, state(mbps * 1_000_000, 0)));
    let mut wanted = Wanted::new(DatapathChoice::Relay, steps(&rates)?, QUEUE_PACKETS);
    // One engine serves them all, as in a run.
    wanted.relay.engine = Some(RelayEngine::new());
    let ends = [NetworkNamespace::create()?, NetworkNamespace::create()?];
    let plans: Vec<_> = (0..count)
        .map(|number| scene::link_plan(number, &wanted))
        .collect();
    let faults = FaultPlan::default();
    let specs: Vec<_> = plans
        .iter()
        .map(|plan| scene::specification(plan, &wanted, &faults, [&ends[0], &ends[1]]))
        .collect();
    let mut links = Vec::new();
    for (link, plan) in Link::build_all(&specs)?.into_iter().zip(&plans) {
        links.push(One::new(link, plan, &ends)?);
    }
    let datapath = scene::describe(&links[0].link);

    let t0 = clock::now() + LEAD_NS * u64::from(count) / 10 + LEAD_NS;
    for one in &mut links {
        let (windows, _) = scene::window_channel();
        one.link.start(t0, windows)?;
    }
    let process_before_ns = clock::process_cpu_ns();
    let bench_cpu_ns = drive(&mut links, t0, t0 + span_ns + TICK_NS)?;
    let process_cpu_ns = clock::process_cpu_ns() - process_before_ns;
    let mut missed = 0;
    for one in &mut links {
        missed += one.tap.take_drops().unwrap_or(0);
        one.link.stop()?;
    }
    if missed > 0 {
        let why = format!("the receivers missed {missed} packets");
        return Err(BenchError::Spoilt { why });
    }

    let curve = wanted.curve();
    let ideal = Ideal {
        curve: &curve,
        packet_bytes: u64::from(PACKET_BYTES),
        window_ns: SECOND,
        span_ns,
    };
    let link_cpu_ns = process_cpu_ns.saturating_sub(bench_cpu_ns);
    let (mut largest, mut wrong_links, mut largest_cumulative) = (0.0_f64, 0_u32, 0.0_f64);
    for one in &links {
        let found = ideal.compare(&one.arrivals_ns);
        let worst = found
            .window_errors_percent
            .iter()
            .copied()
            .fold(0.0, f64::max);
        largest = largest.max(worst);
        wrong_links += u32::from(worst > 1.0);
        largest_cumulative = largest_cumulative.max(found.largest_cumulative_packets);
    }
    Link::take_down_all(links.into_iter().map(|one| one.link).collect());
    let mut measured = Measured {
        datapath,
        scale: format!("{count} links, {} s", span_ns / SECOND),
        ..Measured::default()
    };
    measured.value("window_error_largest", "%", largest);
    measured.value(
        "link_cpu",
        "% of a core",
        100.0 * to_f64(link_cpu_ns) / to_f64(span_ns),
    );
    measured.value("links_beyond_1_percent", "links", f64::from(wrong_links));
    measured.value("cumulative_largest", "packets", largest_cumulative);
    measured.value(
        "bench_cpu",
        "% of a core",
        100.0 * to_f64(bench_cpu_ns) / to_f64(span_ns),
    );
    Ok(measured)
}

impl One {
    fn new(link: Link, plan: &LinkPlan, ends: &[NetworkNamespace; 2]) -> Result<One, BenchError> {
        let [from, to] = &plan.ends;
        let socket = |end: usize| open(plan, &ends[end], end);
        let address = (to.ipv4, PORT);
        let port = ends[1].run(move || std::net::UdpSocket::bind(address))?;
        Ok(One {
            link,
            sender: socket(0)?,
            tap: socket(1)?,
            frame: frame::datagram(from, to, PORT, PACKET_BYTES),
            _port: port.map_err(BenchError::socket("open the port that a flow goes to"))?,
            arrivals_ns: Vec::new(),
        })
    }
}

fn open(
    plan: &LinkPlan,
    namespace: &NetworkNamespace,
    end: usize,
) -> Result<PacketSocket, BenchError> {
    let interface = &plan.ends[end].interface;
    let opened = interfaces::inside(plan, namespace, || {
        PacketSocket::open(interface, RING).map_err(|source| crate::link::LinkError::Socket {
            action: format!("open a packet socket on interface {interface}"),
            source,
        })
    })?;
    Ok(opened)
}

/// Sends over all links and records what arrives, in turn, on one thread; returns its CPU time.
fn drive(links: &mut [One], t0: u64, end: u64) -> Result<u64, BenchError> {
    let cpu = other_cpu();
    let work = || {
        scheduling::pin(cpu);
        scheduling::make_punctual();
        let mut buffers = ReceiveBuffers::new();
        let mut tick = t0;
        while tick < end {
            clock::sleep_until(tick);
            for one in &mut *links {
                let batch = [IoSlice::new(&one.frame); 2 * PACKETS_PER_TICK];
                // The first tick fills the queue; what the kernel refuses is as good as dropped.
                let count = PACKETS_PER_TICK * (1 + usize::from(tick == t0));
                let _ = one.sender.send(&batch[..count]);
            }
            record(links, t0, &mut buffers);
            tick += TICK_NS;
        }
        clock::thread_cpu_ns()
    };
    thread::scope(|scope| {
        let driver = thread::Builder::new().name("hx-flow".to_owned());
        let driver = driver
            .spawn_scoped(scope, work)
            .map_err(BenchError::socket("start the sender of many flows"))?;
        driver
            .join()
            .map_err(|_panic| BenchError::panicked("hx-flow"))
    })
}

fn record(links: &mut [One], t0: u64, buffers: &mut ReceiveBuffers) {
    let pair = clock::ClockPair::read();
    for one in links {
        let arrivals_ns = &mut one.arrivals_ns;
        let _ = one.tap.receive(2 * RING_FRAMES, buffers, |frame| {
            let at = pair.to_monotonic(frame.realtime_ns);
            if frame.wire_bytes == usize::from(PACKET_BYTES) + 14 {
                arrivals_ns.extend(at.checked_sub(t0));
            }
        });
    }
}
