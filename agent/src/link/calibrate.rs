//! Measuring a link before anything is run over it: a flow that is faster than the trace in one
//! direction, probes on the empty queue of the other.
//!
//! The sender's own account is not believed: bytes, packets and arrival times are those of the
//! receiving interface.

mod evaluate;
mod traffic;

use hexloop_proto::{LinkCalibration, LinkWindow};
use hexloop_topologies::plan::{CalibrationPlan, FaultPlan, LinkPlan};
use hexloop_traces::Direction;
use hexloop_workloads::clock::{self, MonotonicNs};

use super::histogram::NanosecondHistogram;
use super::playback::{Company, Playback};
use super::reference::Reference;
use super::tap::{DeliveredWindows, Recording, Taps};
use super::{CalibrationReport, LinkError, scheduling};
use crate::namespace::NetworkNamespace;
use evaluate::{Delays, Delivered};
use traffic::{Channel, FLOW_PORT, PROBE_PORT, Sent};

/// From the order to play to T0: threads start meanwhile.
const LEAD_NS: u64 = 50_000_000;

/// Probes may arrive this late and still count.
const TAIL_NS: u64 = 300_000_000;

/// What is calibrated, and how.
#[derive(Debug)]
pub(super) struct Bench<'a> {
    pub(super) plan: &'a LinkPlan,
    pub(super) calibration: &'a CalibrationPlan,
    pub(super) faults: &'a FaultPlan,
    pub(super) references: &'a [Reference; 2],
    pub(super) ends: [&'a NetworkNamespace; 2],
    pub(super) cpu: Option<u32>,
}

struct Flow {
    delivered: Delivered,
    delays: Delays,
    lateness: NanosecondHistogram,
    clock_step_ns: i64,
    windows: Vec<LinkWindow>,
    windows_dropped: u64,
    packets_missed: u64,
}

impl Bench<'_> {
    /// Measures both directions: each has the flow once and the probes once.
    pub(super) fn run(
        &self,
        taps: &mut Taps,
        playback: &Playback,
    ) -> Result<CalibrationReport, LinkError> {
        let [down_flow, up_flow] = [
            self.measure(Direction::Down, taps, playback)?,
            self.measure(Direction::Up, taps, playback)?,
        ];
        // The probes of one measurement travel against its flow.
        let directions = vec![
            self.result(Direction::Down, &down_flow, &up_flow),
            self.result(Direction::Up, &up_flow, &down_flow),
        ];
        Ok(CalibrationReport {
            directions,
            windows_dropped: down_flow.windows_dropped + up_flow.windows_dropped,
            packets_missed: down_flow.packets_missed + up_flow.packets_missed,
            windows: [down_flow.windows, up_flow.windows].concat(),
        })
    }

    fn result(&self, direction: Direction, flow: &Flow, probes: &Flow) -> LinkCalibration {
        let larger = |a: i64, b: i64| if a.abs() >= b.abs() { a } else { b };
        LinkCalibration {
            link: self.plan.name.clone(),
            direction,
            backlogged_windows: flow.delivered.windows,
            delivered_bytes: flow.delivered.bytes,
            trace_bytes: flow.delivered.trace_bytes,
            delay_error: probes.delays.error.summary(),
            asked_delay_ns: probes.delays.asked_median_ns,
            probes_lost: probes.delays.lost,
            lateness: flow.lateness.summary(),
            clock_step_ns: larger(flow.clock_step_ns, probes.clock_step_ns),
        }
    }

    fn channel(&self, direction: Direction, port: u16) -> Result<Channel, LinkError> {
        let sender = usize::from(direction == Direction::Down);
        Channel::open(
            self.plan,
            (self.plan.sender(direction), self.ends[sender]),
            (self.plan.receiver(direction), self.ends[1 - sender]),
            port,
        )
    }

    fn measure(
        &self,
        direction: Direction,
        taps: &mut Taps,
        playback: &Playback,
    ) -> Result<Flow, LinkError> {
        let reverse = direction.reverse();
        let [side, reverse_side] = [direction, reverse].map(|d| usize::from(d == Direction::Up));
        let flow = self.channel(direction, FLOW_PORT)?;
        let probes = self.channel(reverse, PROBE_PORT)?;
        let length_ns = self.calibration.flow_ns;
        let stop_ns = self.faults.stop_relay_ns;
        let pause = (stop_ns > 0).then_some((length_ns / 2, length_ns / 2 + stop_ns));
        taps.drain();
        let t0 = clock::now() + LEAD_NS;
        let windows = playback.play(t0, pause, Company::Alone)?;
        let end = t0 + length_ns + TAIL_NS;
        let reference = &self.references[side];
        let calibration = self.calibration;
        let cpu = self.cpu;
        let (sent, recording) = std::thread::scope(|scope| {
            let named = |name: &str| std::thread::Builder::new().name(name.to_owned());
            let failed = |source| LinkError::Thread {
                name: "hx-calibrate".to_owned(),
                source,
            };
            let sender = named("hx-flow").spawn_scoped(scope, move || {
                scheduling::make_punctual();
                flow.saturate(reference.curve(), t0, calibration);
            });
            sender.map_err(failed)?;
            let prober = named("hx-probe").spawn_scoped(scope, move || {
                scheduling::make_punctual();
                probes.probe(t0, calibration)
            });
            let prober = prober.map_err(failed)?;
            let recorder = named("hx-record").spawn_scoped(scope, move || {
                scheduling::pin(cpu);
                taps.record(t0, end, &windows)
            });
            let recording = recorder.map_err(failed)?.join();
            let gone = |name| LinkError::ThreadGone {
                link: self.plan.name.clone(),
                name,
            };
            let sent: Vec<Sent> = prober.join().map_err(|_panic| gone("probes"))?;
            Ok::<_, LinkError>((sent, recording.map_err(|_panic| gone("recorder"))?))
        })?;
        let lateness = playback.stop_for_lateness()?;
        let (windows, windows_dropped) = self.windows(direction, &recording, t0);
        let window_ns = calibration.window_ns;
        Ok(Flow {
            delivered: evaluate::delivered(
                &recording.arrivals[side],
                &backlogged(&windows),
                (t0, window_ns),
                reference,
            ),
            delays: evaluate::delays(
                &sent,
                &recording.arrivals[reverse_side],
                (t0, end),
                &self.references[reverse_side],
            ),
            lateness: lateness[side].clone(),
            clock_step_ns: recording.clock_step_ns,
            windows,
            windows_dropped,
            packets_missed: recording.missed,
        })
    }

    /// The windows that lie wholly within the flow, and how many of them are missing.
    fn windows(
        &self,
        direction: Direction,
        recording: &Recording,
        t0: MonotonicNs,
    ) -> (Vec<LinkWindow>, u64) {
        let side = usize::from(direction == Direction::Up);
        let window_ns = self.calibration.window_ns;
        let mut counts = DeliveredWindows::default();
        for arrival in &recording.arrivals[side] {
            if let Some(since_ns) = arrival.at.checked_sub(t0) {
                counts.add(since_ns / window_ns, arrival.ip_bytes, arrival.packets);
            }
        }
        let flow_ns = self.calibration.flow_ns;
        let within = recording.windows.iter().filter(|window| {
            window.direction == direction && (window.index + 1) * window_ns <= flow_ns
        });
        let reference = &self.references[side];
        let windows = within
            .map(|window| counts.window(&self.plan.name, reference, *window, window_ns))
            .collect();
        (windows, counts.skipped)
    }
}

/// The numbers of those that were backlogged from end to end.
fn backlogged(windows: &[LinkWindow]) -> Vec<u64> {
    windows
        .iter()
        .filter(|window| window.backlogged)
        .map(|window| window.start_ns / window.length_ns.max(1))
        .collect()
}
