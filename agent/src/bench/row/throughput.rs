//! How much a link carries, and what that costs, beside a bare pair that takes turns with it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use hexloop_topologies::plan::DatapathChoice;
use hexloop_traces::{Direction, LinkState};
use hexloop_workloads::clock;

use super::super::bulk::TcpFlow;
use super::super::scene::{
    BarePair, Counter, LEAD_NS, MS, Nodes, PACKET_BYTES, SECOND, Shaped, Wanted, state, steps,
};
use super::super::schedule::Ideal;
use super::super::{BenchError, Measured, Scale, Seen, flow, frame, to_f64};
use crate::link::{ModeChoice, scheduling};

/// Packets of full size that wait at most.
const QUEUE_PACKETS: u64 = 1000;

/// A flow gets so long to come up to speed.
const WARM_UP_NS: u64 = 100 * MS;

const BLOCK_NS: u64 = 500 * MS;

/// A flood has a generator on each CPU, but no more than so many.
const MOST_GENERATORS: usize = 4;

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
    /// The same from start to end, and the CPU time of this whole process.
    whole: u64,
    process_cpu_ns: u64,
}

/// One TCP flow through a link without limit.
pub(super) fn tcp_unlimited(scale: Scale) -> Result<Measured, BenchError> {
    let blocks = scale.pick(2, 20);
    let trace = steps(&[(SECOND, LinkState::TRANSPARENT)])?;
    let wanted = Wanted::new(DatapathChoice::Relay, trace, QUEUE_PACKETS);
    let bare = BarePair::with_offloads(&wanted)?;
    let mut shaped = Shaped::new(&wanted)?;
    let mut congestion = String::new();
    let mut found = Vec::new();
    for _ in 0..blocks {
        let bare_block = tcp_block(&bare.nodes, &mut congestion)?;
        shaped.start(clock::now())?;
        let block = tcp_block(&shaped.nodes, &mut congestion)?;
        shaped.stop()?;
        found.push([bare_block, block]);
    }
    let mut measured = Measured {
        datapath: shaped.datapath(),
        scale: format!("{blocks} times {} ms on each path", BLOCK_NS / MS),
        notes: vec![format!("congestion control: {congestion}")],
        ..Measured::default()
    };
    measured.add("rate", "Gbit/s", rate(&found, 1, 8e-9));
    measured.add("link_cpu", "CPU-s/Gbit", added_cost(&found, 1e-9, 8e-9));
    measured.add("bare_rate", "Gbit/s", rate(&found, 0, 8e-9));
    measured.add("machine_cpu", "CPU-s/Gbit", cost(&found, 1));
    measured.add("bare_machine_cpu", "CPU-s/Gbit", cost(&found, 0));
    Ok(measured)
}

/// Amount per second, block by block.
fn rate(blocks: &[[Block; 2]], path: usize, unit: f64) -> Seen {
    let of = |pair: &[Block; 2]| [to_f64(pair[path].amount) * unit, pair[path].seconds];
    Seen::Ratio(blocks.iter().map(of).collect())
}

/// CPU seconds of this whole process per gigabit, block by block.
fn cost(blocks: &[[Block; 2]], path: usize) -> Seen {
    let of = |pair: &[Block; 2]| {
        let block = &pair[path];
        [
            to_f64(block.process_cpu_ns) / 1e9,
            to_f64(block.whole) * 8e-9,
        ]
    };
    Seen::Ratio(blocks.iter().map(of).collect())
}

/// CPU time that the link takes beside what the bare pair does for the same amount, block by
/// block: its threads' and the kernel's, whoever that is charged to.
fn added_cost(blocks: &[[Block; 2]], cpu_unit: f64, amount_unit: f64) -> Seen {
    let of = |pair: &[Block; 2]| added(pair, cpu_unit, amount_unit);
    Seen::Mean(blocks.iter().map(of).collect())
}

/// The reciprocal of that, block by block: the amount that one CPU carries in its time.
fn carried_by_one_cpu(blocks: &[[Block; 2]], cpu_unit: f64, amount_unit: f64) -> Seen {
    let of = |pair: &[Block; 2]| [1.0, added(pair, cpu_unit, amount_unit)];
    Seen::Ratio(blocks.iter().map(of).collect())
}

/// CPU time for an amount behind the link, less that of the bare pair.
fn added([bare, link]: &[Block; 2], cpu_unit: f64, amount_unit: f64) -> f64 {
    let each = |block: &Block| {
        let amount = to_f64(block.whole.max(1)) * amount_unit;
        to_f64(block.process_cpu_ns) * cpu_unit / amount
    };
    each(link) - each(bare)
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
    let mut windows = shaped.windows();
    windows.retain(|window| {
        window.direction == Direction::Up
            && window.start_ns >= SHAPED_WARM_UP_NS
            && window.start_ns + window.length_ns <= span_ns
    });
    let mut found: Vec<[f64; 2]> = (0..blocks).map(|_| [0.0; 2]).collect();
    // Where packets always waited, what is missing is the link's fault; elsewhere the sender's.
    let (mut backlogged, mut seen_ns, mut backlogged_ns) = ([0.0; 2], 0, 0);
    for window in &windows {
        let block = usize::try_from((window.start_ns - SHAPED_WARM_UP_NS) / BLOCK_NS);
        if let Some([delivered, asked]) = block.ok().and_then(|block| found.get_mut(block)) {
            let bytes = [window.delivered_bytes, window.trace_bytes].map(to_f64);
            *delivered += bytes[0];
            *asked += bytes[1];
            seen_ns += window.length_ns;
            if window.backlogged {
                backlogged_ns += window.length_ns;
                backlogged = [backlogged[0] + bytes[0], backlogged[1] + bytes[1]];
            }
        }
    }
    let counted = report
        .counters
        .iter()
        .find(|counters| counters.direction == Direction::Up);
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
    let share = 100.0 * to_f64(backlogged_ns) / to_f64(seen_ns.max(1));
    measured.value("backlogged", "% of the time", share);
    let window_ns = wanted.calibration.window_ns;
    let ideal = Ideal {
        curve: &wanted.curve(),
        packet_bytes: u64::from(PACKET_BYTES),
        window_ns,
        span_ns,
    };
    let window_ms = window_ns / MS;
    if let Some(largest) = ideal.largest_while_backlogged(&windows) {
        let while_backlogged = Seen::Ratio(vec![backlogged]);
        measured.add("delivered_while_backlogged", "", while_backlogged);
        measured.value("cumulative_largest", "packets", largest);
        measured.notes.push(format!(
            "cumulative_largest is looked at where windows of {window_ms} ms end, and begins anew with each \
             backlog: what the flow left unused while nothing waited is not the link's error"
        ));
    } else {
        measured.notes.push(format!(
            "in no window of {window_ms} ms did packets wait throughout, so that nothing can be said about \
             the link's own error"
        ));
    }
    Ok(measured)
}

/// The shortest frames, as many as there is room for.
pub(super) fn shortest_frames(scale: Scale) -> Result<Measured, BenchError> {
    let blocks = scale.pick(2, 20);
    let trace = steps(&[(SECOND, LinkState::TRANSPARENT)])?;
    let mut wanted = Wanted::new(DatapathChoice::Relay, trace, QUEUE_PACKETS);
    wanted.relay.mode = ModeChoice::Bulk;
    let bare = BarePair::with_offloads(&wanted)?;
    let mut shaped = Shaped::new(&wanted)?;
    let mut cpus = scheduling::pin(None);
    cpus.truncate(MOST_GENERATORS);
    let mut found = Vec::new();
    for _ in 0..blocks {
        let bare_block = flood_block(&bare.nodes, &cpus)?;
        shaped.start(clock::now())?;
        let block = flood_block(&shaped.nodes, &cpus)?;
        shaped.stop()?;
        found.push([bare_block, block]);
    }
    let mut measured = Measured {
        datapath: shaped.datapath(),
        scale: format!(
            "{blocks} times {} ms on each path, {} generators",
            BLOCK_NS / MS,
            cpus.len()
        ),
        notes: vec![
            "core_rate is what one core carries of the link's own work, link_cpu; on the senders' CPUs \
             it takes turns with making the frames, which costs several times as much"
                .to_owned(),
        ],
        ..Measured::default()
    };
    measured.add("rate", "Mpps", rate(&found, 1, 1e-6));
    measured.add("generator_alone", "Mpps", rate(&found, 0, 1e-6));
    measured.add("link_cpu", "us/packet", added_cost(&found, 1e-3, 1.0));
    // Packets in a microsecond are millions in a second.
    if found.iter().map(|pair| added(pair, 1e-3, 1.0)).sum::<f64>() > 0.0 {
        measured.add("core_rate", "Mpps", carried_by_one_cpu(&found, 1e-3, 1.0));
    } else {
        let why = "core_rate is not known: the bare pair took as much CPU time as the link";
        measured.notes.push(why.to_owned());
    }
    Ok(measured)
}

fn flood_block(nodes: &Nodes, cpus: &[u32]) -> Result<Block, BenchError> {
    let mut sockets = Vec::new();
    for _ in cpus {
        sockets.push(nodes.frame_sender()?);
    }
    let mut counter = Counter::open(nodes, 1)?;
    let [from, to] = &nodes.plan.ends;
    let shortest = frame::shortest(from, to);
    let end = AtomicBool::new(false);
    let cpu_before = clock::process_cpu_ns();
    let first = counter.packets()?;
    let (amount, seconds) = thread::scope(|scope| {
        let (shortest, end) = (&shortest, &end);
        // Whatever happens, the floods end, or the scope would wait for them for ever.
        let flooding = EndOnDrop(end);
        for (mut socket, &cpu) in sockets.into_iter().zip(cpus) {
            let send = move || {
                scheduling::pin(Some(cpu));
                flow::flood(&mut socket, shortest, end)
            };
            let sender = thread::Builder::new().name("hx-flow".to_owned());
            sender
                .spawn_scoped(scope, send)
                .map_err(BenchError::socket("start a flood of frames"))?;
        }
        clock::sleep_until(clock::now() + WARM_UP_NS);
        let (before, from) = (counter.packets()?, clock::now());
        clock::sleep_until(from + BLOCK_NS);
        let (after, to) = (counter.packets()?, clock::now());
        drop(flooding);
        Ok::<_, BenchError>((after - before, to_f64(to - from) / 1e9))
    })?;
    Ok(Block {
        amount,
        seconds,
        whole: counter.packets()? - first,
        process_cpu_ns: clock::process_cpu_ns() - cpu_before,
    })
}

/// Ends floods.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
