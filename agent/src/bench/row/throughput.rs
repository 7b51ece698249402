//! How much a link carries, and what that costs, beside a bare pair that takes turns with it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use hexloop_topologies::plan::DatapathChoice;
use hexloop_traces::LinkState;
use hexloop_workloads::clock;

use super::super::bulk::TcpFlow;
use super::super::scene::{
    BarePair, Counter, LEAD_NS, MS, Nodes, SECOND, Shaped, Wanted, other_cpu, state, steps,
};
use super::super::{BenchError, Measured, Scale, Seen, flow, frame, to_f64};
use crate::link::{ModeChoice, scheduling};

/// Packets of full size that wait at most.
const QUEUE_PACKETS: u64 = 1000;

/// A flow gets so long to come up to speed.
const WARM_UP_NS: u64 = 100 * MS;

const BLOCK_NS: u64 = 500 * MS;

/// The rate of the shaped flow.
const SHAPED_BPS: u64 = 3_000_000_000;

/// The shaped flow gets so long to come up to speed.
const SHAPED_WARM_UP_NS: u64 = 500 * MS;

/// What one block saw.
#[derive(Debug, Clone, Copy)]
struct Block {
    /// Payload bytes or packets that arrived after the warm-up.
    amount: u64,
    seconds: f64,
    /// The same from start to end, and CPU time of the link's threads and of this whole process.
    whole: u64,
    link_cpu_ns: u64,
    process_cpu_ns: u64,
}

/// One TCP flow through a link without limit.
pub(super) fn tcp_unlimited(scale: Scale) -> Result<Measured, BenchError> {
    let blocks = scale.pick(2, 10);
    let trace = steps(&[(SECOND, LinkState::TRANSPARENT)])?;
    let wanted = Wanted::new(DatapathChoice::Relay, trace, QUEUE_PACKETS);
    let bare = BarePair::with_offloads(&wanted)?;
    let mut shaped = Shaped::new(&wanted)?;
    let mut congestion = String::new();
    let mut found = Vec::new();
    for _ in 0..blocks {
        let bare_block = tcp_block(&bare.nodes, &mut congestion)?;
        shaped.start(clock::now())?;
        let mut block = tcp_block(&shaped.nodes, &mut congestion)?;
        block.link_cpu_ns = shaped.stop()?.relay_cpu_ns;
        found.push([bare_block, block]);
    }
    let mut measured = Measured {
        datapath: shaped.datapath(),
        scale: format!("{blocks} times {} ms on each path", BLOCK_NS / MS),
        notes: vec![format!("congestion control: {congestion}")],
        ..Measured::default()
    };
    measured.add("rate", "Gbit/s", rate(&found, 1, 8e-9));
    measured.add(
        "link_cpu",
        "CPU-s/Gbit",
        cost(&found, 1, |block| block.link_cpu_ns),
    );
    measured.add("bare_rate", "Gbit/s", rate(&found, 0, 8e-9));
    measured.add(
        "machine_cpu",
        "CPU-s/Gbit",
        cost(&found, 1, |block| block.process_cpu_ns),
    );
    measured.add(
        "bare_machine_cpu",
        "CPU-s/Gbit",
        cost(&found, 0, |block| block.process_cpu_ns),
    );
    Ok(measured)
}

/// Amount per second, block by block.
fn rate(blocks: &[[Block; 2]], path: usize, unit: f64) -> Seen {
    let of = |pair: &[Block; 2]| [to_f64(pair[path].amount) * unit, pair[path].seconds];
    Seen::Ratio(blocks.iter().map(of).collect())
}

/// CPU seconds per gigabit, block by block.
fn cost(blocks: &[[Block; 2]], path: usize, cpu_ns: impl Fn(&Block) -> u64) -> Seen {
    let of = |pair: &[Block; 2]| {
        let block = &pair[path];
        [to_f64(cpu_ns(block)) / 1e9, to_f64(block.whole) * 8e-9]
    };
    Seen::Ratio(blocks.iter().map(of).collect())
}

/// A connection from its opening to its end.
fn tcp_block(nodes: &Nodes, congestion: &mut String) -> Result<Block, BenchError> {
    let cpu_before = clock::process_cpu_ns();
    let flow = TcpFlow::start(nodes)?;
    congestion.clone_from(&flow.congestion);
    let start = clock::now() + WARM_UP_NS;
    clock::sleep_until(start);
    let (before, from) = (flow.received(), clock::now());
    clock::sleep_until(start + BLOCK_NS);
    let (after, to) = (flow.received(), clock::now());
    drop(flow);
    Ok(Block {
        amount: after - before,
        seconds: to_f64(to - from) / 1e9,
        whole: after,
        link_cpu_ns: 0,
        process_cpu_ns: clock::process_cpu_ns() - cpu_before,
    })
}

/// One TCP flow through a link at 3 Gbit/s.
pub(super) fn tcp_shaped(scale: Scale) -> Result<Measured, BenchError> {
    let blocks = scale.pick(2, 20);
    let trace = steps(&[(SECOND, state(SHAPED_BPS, 0))])?;
    let wanted = Wanted::new(DatapathChoice::Relay, trace, QUEUE_PACKETS);
    let mut shaped = Shaped::new(&wanted)?;
    let t0 = clock::now() + LEAD_NS;
    shaped.start(t0)?;
    clock::sleep_until(t0);
    let flow = TcpFlow::start(&shaped.nodes)?;
    let span_ns = SHAPED_WARM_UP_NS + blocks * BLOCK_NS;
    clock::sleep_until(t0 + span_ns);
    let congestion = flow.congestion.clone();
    drop(flow);
    let report = shaped.stop()?;
    // The tap at the receiver counts packets, also those that came in as one.
    let mut found = vec![[0.0; 2]; usize::try_from(blocks).unwrap_or(0)];
    for window in shaped.windows() {
        let end_ns = window.start_ns + window.length_ns;
        let block = window.start_ns.checked_sub(SHAPED_WARM_UP_NS);
        let block = block.and_then(|since_ns| usize::try_from(since_ns / BLOCK_NS).ok());
        if let Some([delivered, asked]) = block.and_then(|block| found.get_mut(block))
            && window.direction == hexloop_traces::Direction::Up
            && end_ns <= span_ns
        {
            *delivered += to_f64(window.delivered_bytes);
            *asked += to_f64(window.trace_bytes);
        }
    }
    let counted = report
        .counters
        .iter()
        .find(|counters| counters.direction == hexloop_traces::Direction::Up);
    let carried = counted.map_or(0, |counters| counters.wire_bytes);
    let mut measured = Measured {
        datapath: shaped.datapath(),
        scale: format!("{blocks} times {} ms", BLOCK_NS / MS),
        notes: vec![format!("congestion control: {congestion}")],
        ..Measured::default()
    };
    measured.add("delivered_over_trace", "", Seen::Ratio(found));
    let gigabits = to_f64(carried) * 8e-9;
    let cost = to_f64(report.relay_cpu_ns) / 1e9 / gigabits.max(f64::MIN_POSITIVE);
    measured.value("link_cpu", "CPU-s/Gbit", cost);
    Ok(measured)
}

/// The shortest frames, as many as there is room for.
pub(super) fn shortest_frames(scale: Scale) -> Result<Measured, BenchError> {
    let blocks = scale.pick(2, 10);
    let trace = steps(&[(SECOND, LinkState::TRANSPARENT)])?;
    let mut wanted = Wanted::new(DatapathChoice::Relay, trace, QUEUE_PACKETS);
    wanted.relay.mode = ModeChoice::Bulk;
    let bare = BarePair::with_offloads(&wanted)?;
    let mut shaped = Shaped::new(&wanted)?;
    let mut found = Vec::new();
    for _ in 0..blocks {
        let bare_block = flood_block(&bare.nodes)?;
        shaped.start(clock::now())?;
        let mut block = flood_block(&shaped.nodes)?;
        block.link_cpu_ns = shaped.stop()?.relay_cpu_ns;
        found.push([bare_block, block]);
    }
    let cpu_ns: u64 = found.iter().map(|[_, block]| block.link_cpu_ns).sum();
    let packets: u64 = found.iter().map(|[_, block]| block.whole).sum();
    let mut measured = Measured {
        datapath: shaped.datapath(),
        scale: format!("{blocks} times {} ms on each path", BLOCK_NS / MS),
        ..Measured::default()
    };
    measured.add("rate", "Mpps", rate(&found, 1, 1e-6));
    measured.add("generator_alone", "Mpps", rate(&found, 0, 1e-6));
    let cost_us = to_f64(cpu_ns) / 1e3 / to_f64(packets.max(1));
    measured.value("link_cpu", "us/packet", cost_us);
    Ok(measured)
}

fn flood_block(nodes: &Nodes) -> Result<Block, BenchError> {
    let mut socket = nodes.frame_sender()?;
    let mut counter = Counter::open(nodes, 1)?;
    let [from, to] = &nodes.plan.ends;
    let shortest = frame::shortest(from, to);
    let end = AtomicBool::new(false);
    let cpu = other_cpu();
    let cpu_before = clock::process_cpu_ns();
    let first = counter.packets()?;
    let (amount, seconds) = thread::scope(|scope| {
        let (socket, shortest, end) = (&mut socket, &shortest, &end);
        let send = move || {
            scheduling::pin(cpu);
            flow::flood(socket, shortest, end)
        };
        let sender = thread::Builder::new().name("hx-flow".to_owned());
        let sender = sender
            .spawn_scoped(scope, send)
            .map_err(BenchError::socket("start a flood of frames"))?;
        let measured = (|| {
            clock::sleep_until(clock::now() + WARM_UP_NS);
            let (before, from) = (counter.packets()?, clock::now());
            clock::sleep_until(from + BLOCK_NS);
            let (after, to) = (counter.packets()?, clock::now());
            Ok::<_, BenchError>((after - before, to_f64(to - from) / 1e9))
        })();
        end.store(true, Ordering::Relaxed);
        sender
            .join()
            .map_err(|_panic| BenchError::panicked("hx-flow"))?;
        measured
    })?;
    Ok(Block {
        amount,
        seconds,
        whole: counter.packets()? - first,
        link_cpu_ns: 0,
        process_cpu_ns: clock::process_cpu_ns() - cpu_before,
    })
}
