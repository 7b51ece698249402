//! How exactly what arrives follows the trace.

use std::sync::mpsc::channel;
use std::thread;

use hexloop_proto::LinkWindow;
use hexloop_topologies::plan::DatapathChoice;
use hexloop_traces::{CapacityCurve, Direction, LinkState};
use hexloop_workloads::clock;

use super::super::flow::{self, Paced};
use super::super::scene::{
    LEAD_NS, MS, Nodes, PACKET_BYTES, SECOND, Shaped, Wanted, other_cpu, state, steps,
};
use super::super::schedule::{Exactness, Ideal};
use super::super::{BenchError, Measured, Scale, Seen, frame, to_f64};
use crate::link::tap::{Recording, Taps};
use crate::link::{LinkPhaseReport, scheduling};
use crate::sys::packet::PacketSocket;

/// Port of the flow.
const PORT: u16 = 47_003;

/// 400 Mbit/s in packets of 1500 bytes.
const OFFERED_PACKETS_PER_S: u64 = 400_000_000 / (8 * 1500);

/// Packets that wait at most: 10 ms at the highest rate, and some.
pub(super) const QUEUE_PACKETS: u64 = 300;

/// Such a queue runs empty when the sender pauses for longer than this at the highest rate.
const LONGEST_PAUSE_NS: u64 = 10 * MS;

/// The recorder goes on for so long after the span.
const TAIL_NS: u64 = 20 * MS;

/// A wall clock that was set by more than this falsifies the kernel's stamps.
const LARGEST_STEP_NS: u64 = 1_000_000;

const WINDOW_NS: u64 = 10 * MS;

/// Rates of the 1 ms steps, in Mbit/s: ten from 12 to 300, in an order with large steps.
const RATES_MBPS: [u64; 10] = [12, 140, 268, 44, 172, 300, 76, 204, 108, 236];

/// 12/48/120/300 Mbit/s, 10 ms each.
pub(super) fn four_rates() -> Vec<(u64, LinkState)> {
    [12, 48, 120, 300]
        .map(|mbps| (10 * MS, state(mbps * 1_000_000, 0)))
        .to_vec()
}

pub(super) fn ten_milliseconds(
    datapath: DatapathChoice,
    scale: Scale,
) -> Result<Measured, BenchError> {
    measure(datapath, &four_rates(), QUEUE_PACKETS, scale)
}

pub(super) fn one_millisecond(
    datapath: DatapathChoice,
    scale: Scale,
) -> Result<Measured, BenchError> {
    let rates = RATES_MBPS.map(|mbps| (MS, state(mbps * 1_000_000, 0)));
    measure(datapath, &rates, QUEUE_PACKETS, scale)
}

/// Plays these steps in a loop under a flow that is faster, and compares what arrives.
pub(super) fn measure(
    datapath: DatapathChoice,
    rates: &[(u64, LinkState)],
    queue_packets: u64,
    scale: Scale,
) -> Result<Measured, BenchError> {
    let span_ns = scale.pick(SECOND, 10 * SECOND);
    let wanted = Wanted::new(datapath, steps(rates)?, queue_packets);
    let mut shaped = Shaped::new(&wanted)?;
    let Run {
        found,
        paced,
        report,
        ..
    } = run(&mut shaped, &wanted.curve(), span_ns)?;

    let mut measured = Measured {
        datapath: shaped.datapath(),
        scale: format!("{} s", span_ns / SECOND),
        ..Measured::default()
    };
    tell(&mut measured, found);
    let cpu_percent = 100.0 * to_f64(report.relay_cpu_ns) / to_f64(span_ns);
    measured.value("link_cpu", "% of a core", cpu_percent);
    measured.spoilt = complaint(paced, queue_packets);
    Ok(measured)
}

/// How exactly what arrived followed the trace.
pub(super) fn tell(measured: &mut Measured, found: Exactness) {
    let cumulative_percent = 100.0 * (found.delivered_over_trace - 1.0).abs();
    measured.add("window_error", "%", Seen::Mean(found.window_errors_percent));
    measured.value("cumulative_error", "%", cumulative_percent);
    measured.value(
        "cumulative_largest",
        "packets",
        found.largest_cumulative_packets,
    );
    let late_us: Vec<f64> = found.lateness_ns.iter().map(|ns| ns / 1e3).collect();
    for (name, per_mille) in [("late_p50", 500), ("late_p99", 990)] {
        let values = late_us.clone();
        measured.add(name, "us", Seen::Quantile { per_mille, values });
    }
}

/// A saturated run of a link.
pub(super) struct Run {
    /// What the receiver saw, against the ideal schedule.
    pub(super) found: Exactness,
    pub(super) paced: Paced,
    pub(super) report: LinkPhaseReport,
    /// What the link's own tap and shaper say about the flow's direction.
    pub(super) windows: Vec<LinkWindow>,
}

/// Saturates a link from T0 on, and compares what arrives with the trace.
pub(super) fn run(
    shaped: &mut Shaped,
    curve: &CapacityCurve,
    span_ns: u64,
) -> Result<Run, BenchError> {
    let mut flow = Flow::open(&shaped.nodes, shaped.nodes.frame_sender()?)?;
    let mut taps = shaped.nodes.taps()?;
    taps.drain();
    let t0 = clock::now() + LEAD_NS;
    shaped.start(t0)?;
    let (recording, paced) = flow.run(&mut taps, t0, span_ns)?;
    let report = shaped.stop()?;
    let mut windows = shaped.windows();
    windows.retain(|window| {
        window.direction == Direction::Up && window.start_ns + window.length_ns <= span_ns
    });
    Ok(Run {
        found: compare(&recording, t0, curve, span_ns)?,
        paced,
        report,
        windows,
    })
}

/// The packets of the flow that were recorded, against the ideal schedule.
pub(super) fn compare(
    recording: &Recording,
    t0: u64,
    curve: &CapacityCurve,
    span_ns: u64,
) -> Result<Exactness, BenchError> {
    if recording.missed > 0 || recording.clock_step_ns.unsigned_abs() > LARGEST_STEP_NS {
        let why = format!(
            "the receiver missed {} packets and saw the wall clock step by {} us",
            recording.missed,
            recording.clock_step_ns / 1000
        );
        return Err(BenchError::Spoilt { why });
    }
    let [_down, up] = &recording.arrivals;
    let ours = up.iter().filter(|arrival| arrival.udp_port == Some(PORT));
    let arrivals: Vec<u64> = ours.map(|arrival| arrival.at.saturating_sub(t0)).collect();
    let ideal = Ideal {
        curve,
        packet_bytes: u64::from(PACKET_BYTES),
        window_ns: WINDOW_NS,
        span_ns,
    };
    Ok(ideal.compare(&arrivals))
}

/// What is wrong with how the flow was sent. (What a full queue refuses is no fault.)
pub(super) fn complaint(paced: Paced, queue_packets: u64) -> Option<String> {
    let pause_ms = to_f64(paced.longest_pause_ns) / 1e6;
    let lasts_ns = LONGEST_PAUSE_NS * queue_packets / QUEUE_PACKETS;
    (paced.longest_pause_ns > lasts_ns).then(|| {
        let lasts_ms = lasts_ns / MS;
        format!(
            "the sender was held up for {pause_ms:.1} ms, and the queue lasts {lasts_ms} ms at the \
             highest rate: it may have run empty"
        )
    })
}

/// What the flow needs: made before T0 is chosen.
pub(super) struct Flow {
    sender: PacketSocket,
    frame: Vec<u8>,
    _port: std::net::UdpSocket,
}

impl Flow {
    pub(super) fn open(nodes: &Nodes, sender: PacketSocket) -> Result<Flow, BenchError> {
        let [from, to] = &nodes.plan.ends;
        Ok(Flow {
            sender,
            frame: frame::datagram(from, to, PORT, PACKET_BYTES),
            _port: nodes.swallow(PORT)?,
        })
    }

    /// Sends from T0 to a little after the span, and records what arrives meanwhile.
    pub(super) fn run(
        &mut self,
        taps: &mut Taps,
        t0: u64,
        span_ns: u64,
    ) -> Result<(Recording, Paced), BenchError> {
        let end = t0 + span_ns + TAIL_NS;
        let cpu = other_cpu();
        // The shaper's own windows are not asked for.
        let (_, no_windows) = channel();
        let (socket, frame) = (&mut self.sender, &self.frame);
        thread::scope(|scope| {
            let named = |name: &str| thread::Builder::new().name(name.to_owned());
            let send = move || {
                scheduling::pin(cpu);
                scheduling::make_punctual();
                flow::paced(socket, frame, OFFERED_PACKETS_PER_S, t0, end)
            };
            let sender = named("hx-flow").spawn_scoped(scope, send);
            let sender = sender.map_err(BenchError::socket("start the sender of a flow"))?;
            let record = move || {
                scheduling::pin(cpu);
                taps.record(t0, end, &no_windows)
            };
            let recorder = named("hx-record").spawn_scoped(scope, record);
            let recorder = recorder.map_err(BenchError::socket("start the recorder of a flow"))?;
            let paced = sender
                .join()
                .map_err(|_panic| BenchError::panicked("hx-flow"))?;
            let recording = recorder
                .join()
                .map_err(|_panic| BenchError::panicked("hx-record"))?;
            Ok((recording, paced))
        })
    }
}
