//! The thread that samples every node, and the machine's CPUs, during a phase.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use hexloop_proto::{CoreSample, EventBody, NodeCounters, NodeSample};
use hexloop_workloads::clock::{self, MonotonicNs};

use super::sink::EventSink;
use crate::telemetry::board::Board;
use crate::telemetry::cores::CoreWatch;
use crate::telemetry::counting::NodeCounting;
use crate::telemetry::node::{NodeMeter, NodeUsage};

/// Time between samples.
const SAMPLE_EVERY_NS: u64 = 100_000_000;

/// Samples between two looks at what changes slowly or costs more: one a second.
const SAMPLES_PER_LOOK: u64 = 10;

/// What the nodes used over a phase, by name.
pub(super) type UsageByNode = BTreeMap<String, NodeUsage>;

/// What was used over a phase.
#[derive(Debug, Default)]
pub(super) struct PhaseUse {
    /// By the nodes.
    pub(super) nodes: UsageByNode,
    /// What else the kernel counted of them.
    pub(super) counters: BTreeMap<String, NodeCounters>,
    /// By the machine's CPUs.
    pub(super) cores: Option<CoreSample>,
}

/// What a sampler reads beside the nodes, and who else sees it.
#[derive(Debug, Clone)]
pub(super) struct Around {
    /// Where readings are shown.
    pub(super) board: Option<Arc<Board>>,
    /// The root of the machine's file system.
    pub(super) root: PathBuf,
}

/// A running sampler.
#[derive(Debug)]
pub(super) struct Sampler {
    end: Arc<AtomicBool>,
    thread: JoinHandle<PhaseUse>,
}

impl Sampler {
    /// Samples from `t0` on.
    pub(super) fn start(
        meters: Vec<(String, NodeMeter)>,
        t0: MonotonicNs,
        events: Arc<EventSink>,
        around: Around,
    ) -> io::Result<Sampler> {
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let thread = std::thread::Builder::new()
            .name("hx-meter".to_owned())
            .spawn(move || sample(&meters, t0, (&events, &around), &ended))?;
        Ok(Sampler { end, thread })
    }

    /// Ends it: CPU time and throttled periods since T0, and the highest memory.
    pub(super) fn finish(self, events: &EventSink) -> PhaseUse {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_else(|_panic| {
            let message = "the thread that samples the nodes ended badly: what they used in this phase is not known, \
                           whatever the record says";
            events.emit(EventBody::Warning {
                message: message.to_owned(),
            });
            PhaseUse::default()
        })
    }
}

fn sample(
    meters: &[(String, NodeMeter)],
    t0: MonotonicNs,
    (events, around): (&EventSink, &Around),
    end: &AtomicBool,
) -> PhaseUse {
    clock::sleep_until(t0);
    let before: Vec<NodeUsage> = meters.iter().map(|(_, meter)| meter.read()).collect();
    let counting = meters.iter().map(|(_, meter)| NodeCounting::begin(meter));
    let mut counting: Vec<NodeCounting> = counting.collect();
    let mut cores = CoreWatch::begin(&around.root, t0);
    let mut used = UsageByNode::new();
    let mut due = t0;
    let mut samples = 0_u64;
    loop {
        // The last look comes after the end was asked for, so that it covers everything.
        let last = end.load(Ordering::Relaxed);
        for ((node, meter), before) in meters.iter().zip(&before) {
            let now = meter.read();
            let since = NodeUsage {
                cpu_ns: now.cpu_ns.saturating_sub(before.cpu_ns),
                memory_bytes: now.memory_bytes,
                throttled_periods: now
                    .throttled_periods
                    .zip(before.throttled_periods)
                    .map(|(now, before)| now.saturating_sub(before)),
            };
            let entry = used.entry(node.clone()).or_default();
            let memory_bytes = entry.memory_bytes.max(since.memory_bytes);
            *entry = NodeUsage {
                memory_bytes,
                ..since
            };
            let sample = NodeSample {
                node: node.clone(),
                at_ns: clock::now().saturating_sub(t0),
                cpu_ns: since.cpu_ns,
                memory_bytes: since.memory_bytes,
                throttled_periods: since.throttled_periods,
            };
            if let Some(board) = &around.board {
                board.show_node(node, since);
            }
            events.emit_due(Some(due), EventBody::NodeSample(sample));
        }
        samples += 1;
        if last || samples.is_multiple_of(SAMPLES_PER_LOOK) {
            let sample = cores.look(clock::now());
            events.emit_due(Some(due), EventBody::Cores(sample));
        }
        if last {
            let counters = meters.iter().zip(counting);
            let counters = counters
                .map(|((node, meter), counting)| (node.clone(), counting.finish(meter)))
                .collect();
            return PhaseUse {
                nodes: used,
                counters,
                cores: Some(cores.whole()),
            };
        }
        if samples.is_multiple_of(SAMPLES_PER_LOOK) {
            for ((_, meter), counting) in meters.iter().zip(&mut counting) {
                counting.look(meter);
            }
        }
        due += SAMPLE_EVERY_NS;
        // In small steps, so that the end is not waited for.
        while clock::now() < due && !end.load(Ordering::Relaxed) {
            clock::sleep_until(due.min(clock::now() + SAMPLE_EVERY_NS / 5));
        }
    }
}
