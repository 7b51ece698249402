//! Many links on one machine, each with traffic of its own.

use std::io::IoSlice;
use std::sync::mpsc::Receiver;
use std::thread;

use hexloop_proto::LinkWindow;
use hexloop_topologies::plan::{DatapathChoice, FaultPlan, LinkPlan};
use hexloop_traces::Direction;
use hexloop_workloads::clock;

use super::super::scene::{
    self, LEAD_NS, MS, PACKET_BYTES, SECOND, Wanted, other_cpu, state, steps,
};
use super::super::schedule::Ideal;
use super::super::{BenchError, Measured, Scale, frame, length, to_f64};
use crate::link::scheduling;
use crate::link::{Link, RelayEngine, interfaces};
use crate::namespace::NetworkNamespace;
use crate::sys::packet::{
    Intake, PacketSocket, PacketSocketOptions, ReceiveBuffers, SEND_BATCH, SpreadSender,
    VirtioHeader,
};

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

const SENDS_ONLY: PacketSocketOptions = PacketSocketOptions {
    intake: Intake::Nothing,
    headers: false,
};

/// Every so manieth link has a tap of the bench's own beside the product's, whose windows judge
/// all: a second tap on each would cost each packet what no link of a run costs.
const TAPPED: usize = 10;

/// The floor: so long, in steps like the relay's. (Receivers' rings hold what comes meanwhile.)
const FLOOR_NS: u64 = 500 * MS;
const FLOOR_STEP_NS: u64 = 400_000;

/// One of many links, all between the same two namespaces.
struct One {
    link: Link,
    sender: PacketSocket,
    tap: Option<PacketSocket>,
    windows: Option<Receiver<LinkWindow>>,
    frame: Vec<u8>,
    _port: std::net::UdpSocket,
    arrivals_ns: Vec<u64>,
}

/// What was seen of all links.
#[derive(Default)]
struct Found {
    /// By the windows of each, in percent.
    largest: f64,
    wrong_links: u32,
    /// By the bench's own taps, in packets.
    largest_cumulative: f64,
}

pub(super) fn links(scale: Scale) -> Result<Measured, BenchError> {
    let count = scale.pick(20, 200);
    let span_ns = scale.pick(2, 10) * SECOND;
    let rates = RATES_MBPS.map(|mbps| (MS, state(mbps * 1_000_000, 0)));
    let mut wanted = Wanted::new(DatapathChoice::Relay, steps(&rates)?, QUEUE_PACKETS);
    wanted.calibration.window_ns = SECOND;
    // One engine serves them all, as in a run.
    let engine = RelayEngine::new();
    wanted.relay.engine = Some(engine.clone());
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
    for (number, (link, plan)) in Link::build_all(&specs)?.into_iter().zip(&plans).enumerate() {
        links.push(One::new(link, plan, &ends, number % TAPPED == 0)?);
    }
    let datapath = scene::describe(&links[0].link);

    let t0 = clock::now() + LEAD_NS * u64::from(count) / 10 + LEAD_NS;
    for one in &mut links {
        let (windows, receiver) = scene::window_channel();
        one.link.start(t0, windows)?;
        one.windows = Some(receiver);
    }
    let process_before_ns = clock::process_cpu_ns();
    // Beyond the grace after which the last window is closed.
    let bench_cpu_ns = drive(&mut links, t0, t0 + span_ns + 3 * TICK_NS)?;
    let process_cpu_ns = clock::process_cpu_ns() - process_before_ns;
    let mut missed = 0;
    let mut packets = 0;
    for one in &mut links {
        missed += one
            .tap
            .as_ref()
            .map_or(0, |tap| tap.take_drops().unwrap_or(0));
        let report = one.link.stop()?;
        missed += report.packets_missed;
        let counters = report.counters.iter();
        packets += counters.map(|counters| counters.packets).sum::<u64>();
    }
    if missed > 0 {
        let why = format!("the receivers missed {missed} packets");
        return Err(BenchError::Spoilt { why });
    }
    let found = judge(&mut links, &wanted, span_ns)?;
    let [floor_us, batched_us] = floors_us(&links, &engine, packets * SECOND / span_ns)?;
    Link::take_down_all(links.into_iter().map(|one| one.link).collect());

    let link_cpu_ns = process_cpu_ns.saturating_sub(bench_cpu_ns);
    let share = |cpu_ns: f64| 100.0 * cpu_ns / to_f64(span_ns);
    let mut measured = Measured {
        datapath,
        scale: format!("{count} links, {} s", span_ns / SECOND),
        notes: vec![format!(
            "the floor is what sending the same packets out of the same ports takes, their receipt by \
             the far ends included; floor_batched, with all of a step in one system call; windows by the \
             links' own taps, beside the bench's on every {TAPPED}th"
        )],
        ..Measured::default()
    };
    measured.value("window_error_largest", "%", found.largest);
    measured.value("link_cpu", "% of a core", share(to_f64(link_cpu_ns)));
    for (name, floor_us) in [("floor_cpu", floor_us), ("floor_batched", batched_us)] {
        let floor_ns = floor_us * 1e3 * to_f64(packets);
        measured.value(name, "% of a core", share(floor_ns));
    }
    let each_us = to_f64(link_cpu_ns) / 1e3 / to_f64(packets.max(1));
    measured.value("link_cpu_each", "us/packet", each_us);
    measured.value("floor_cpu_each", "us/packet", floor_us);
    let wrong_links = f64::from(found.wrong_links);
    measured.value("links_beyond_1_percent", "links", wrong_links);
    measured.value("cumulative_largest", "packets", found.largest_cumulative);
    measured.value("bench_cpu", "% of a core", share(to_f64(bench_cpu_ns)));
    Ok(measured)
}

/// Compares what arrived with the trace: each link by its windows, some packet by packet too.
fn judge(links: &mut [One], wanted: &Wanted, span_ns: u64) -> Result<Found, BenchError> {
    let curve = wanted.curve();
    let ideal = Ideal {
        curve: &curve,
        packet_bytes: u64::from(PACKET_BYTES),
        window_ns: SECOND,
        span_ns,
    };
    let mut found = Found::default();
    for (number, one) in links.iter_mut().enumerate() {
        let windows = one.windows.take().into_iter().flatten();
        let errors: Vec<f64> = windows
            .filter(|window| window.direction == Direction::Up && window.start_ns < span_ns)
            .map(|window| {
                let (delivered, asked) = (window.delivered_bytes, window.trace_bytes);
                100.0 * to_f64(delivered.abs_diff(asked)) / to_f64(asked.max(1))
            })
            .collect();
        if length(&errors) != span_ns / SECOND {
            let why = format!("link {number} reported {} windows", errors.len());
            return Err(BenchError::Spoilt { why });
        }
        let mut worst = errors.into_iter().fold(0.0, f64::max);
        if one.tap.is_some() {
            let seen = ideal.compare(&one.arrivals_ns);
            worst = seen
                .window_errors_percent
                .iter()
                .copied()
                .fold(worst, f64::max);
            let cumulative = seen.largest_cumulative_packets;
            found.largest_cumulative = found.largest_cumulative.max(cumulative);
        }
        found.largest = found.largest.max(worst);
        found.wrong_links += u32::from(worst > 1.0);
    }
    Ok(found)
}

/// The least that sending such packets takes, in microseconds of CPU time for each: one by one, each
/// out of its port's own socket; and as many as are due in a step in one system call, by one socket.
fn floors_us(
    links: &[One],
    engine: &RelayEngine,
    packets_per_s: u64,
) -> Result<[f64; 2], BenchError> {
    let namespace = engine.namespace()?;
    // As they leave the relay: with a header that says that nothing is left to do.
    let header = VirtioHeader::default().to_bytes();
    let whole: Vec<Vec<u8>> = links
        .iter()
        .map(|one| [&header[..], &one.frame].concat())
        .collect();
    let (mut senders, mut exits, mut frames) = (Vec::new(), Vec::new(), Vec::new());
    for (one, whole) in links.iter().zip(&whole) {
        let Some([_, port]) = one.link.relay_ports() else {
            let why = "the links have no ports to send out of".to_owned();
            return Err(BenchError::Unavailable { why });
        };
        let opened = namespace.run(|| {
            let headers = true;
            let socket = PacketSocket::open(
                &port,
                PacketSocketOptions {
                    headers,
                    ..SENDS_ONLY
                },
            )?;
            Ok((socket, SpreadSender::exit(&port)?))
        })?;
        let (socket, exit) = opened.map_err(BenchError::socket("open a port for the floor"))?;
        senders.push((socket, IoSlice::new(whole)));
        exits.push(exit);
        frames.push(IoSlice::new(whole));
    }
    let spread = namespace.run(SpreadSender::open)?;
    let spread = spread.map_err(BenchError::socket("open a socket for the floor"))?;
    let step_packets = usize::try_from(packets_per_s * FLOOR_STEP_NS / SECOND).unwrap_or(1);
    let step_packets = step_packets.max(1);
    let alone = on_thread("hx-flow", move || {
        let mut turn = senders.iter().cycle();
        us_per_packet(|| {
            for (socket, frame) in turn.by_ref().take(step_packets) {
                // What the kernel refuses has cost something too.
                let _ = socket.send(std::slice::from_ref(frame));
            }
            step_packets
        })
    })??;
    let together = step_packets.min(SEND_BATCH).min(frames.len());
    let mut place = 0;
    let batched = on_thread("hx-flow", || {
        us_per_packet(|| {
            place = if place + 2 * together > frames.len() {
                0
            } else {
                place + together
            };
            let batch = place..place + together;
            // What is refused counts for nothing, so that no refusal looks cheap.
            spread
                .send(&exits[batch.clone()], &frames[batch])
                .unwrap_or(0)
        })
    })??;
    Ok([alone, batched])
}

/// Sends in steps for a while, and returns the CPU time for each packet that was sent.
fn us_per_packet(mut send: impl FnMut() -> usize) -> Result<f64, BenchError> {
    scheduling::pin(scene::relay_cpu());
    scheduling::make_punctual();
    let start = clock::now();
    let (cpu_before_ns, mut sent) = (clock::thread_cpu_ns(), 0_usize);
    let mut step = start;
    while step < start + FLOOR_NS {
        clock::sleep_until(step);
        sent += send();
        step += FLOOR_STEP_NS;
    }
    let cpu_ns = clock::thread_cpu_ns() - cpu_before_ns;
    match u64::try_from(sent) {
        Ok(sent) if sent > 0 => Ok(to_f64(cpu_ns) / 1e3 / to_f64(sent)),
        _ => Err(BenchError::Unavailable {
            why: "the kernel took no packet for the floor".to_owned(),
        }),
    }
}

fn on_thread<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> Result<T, BenchError> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(name.to_owned());
        let thread = thread
            .spawn_scoped(scope, work)
            .map_err(BenchError::socket(format!("start thread {name}")))?;
        thread.join().map_err(|_panic| BenchError::panicked(name))
    })
}

impl One {
    fn new(
        link: Link,
        plan: &LinkPlan,
        ends: &[NetworkNamespace; 2],
        tapped: bool,
    ) -> Result<One, BenchError> {
        let [from, to] = &plan.ends;
        let address = (to.ipv4, PORT);
        let port = ends[1].run(move || std::net::UdpSocket::bind(address))?;
        let tap = tapped.then(|| open(plan, &ends[1], 1, RING)).transpose()?;
        Ok(One {
            link,
            sender: open(plan, &ends[0], 0, SENDS_ONLY)?,
            tap,
            windows: None,
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
    options: PacketSocketOptions,
) -> Result<PacketSocket, BenchError> {
    let interface = &plan.ends[end].interface;
    let opened = interfaces::inside(plan, namespace, || {
        PacketSocket::open(interface, options).map_err(|source| crate::link::LinkError::Socket {
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
    on_thread("hx-flow", work)
}

fn record(links: &mut [One], t0: u64, buffers: &mut ReceiveBuffers) {
    let pair = clock::ClockPair::read();
    for one in links {
        let arrivals_ns = &mut one.arrivals_ns;
        let Some(tap) = &mut one.tap else { continue };
        // What could not be read is missing from the arrivals, and so is told as an error.
        let _ = tap.receive(2 * RING_FRAMES, buffers, |frame| {
            let at = pair.to_monotonic(frame.realtime_ns);
            if frame.wire_bytes == usize::from(PACKET_BYTES) + 14 {
                arrivals_ns.extend(at.checked_sub(t0));
            }
        });
    }
}
