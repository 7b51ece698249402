//! The thread that samples every node during a phase.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use hexloop_proto::{EventBody, NodeSample};
use hexloop_workloads::clock::{self, MonotonicNs};

use super::sink::EventSink;
use crate::telemetry::node::{NodeMeter, NodeUsage};

/// Time between samples.
const SAMPLE_EVERY_NS: u64 = 100_000_000;

/// What the nodes used over a phase, by name.
pub(super) type UsageByNode = BTreeMap<String, NodeUsage>;

/// A running sampler.
#[derive(Debug)]
pub(super) struct Sampler {
    end: Arc<AtomicBool>,
    thread: JoinHandle<UsageByNode>,
}

impl Sampler {
    /// Samples from `t0` on.
    pub(super) fn start(
        meters: Vec<(String, NodeMeter)>,
        t0: MonotonicNs,
        events: Arc<EventSink>,
    ) -> io::Result<Sampler> {
        let end = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&end);
        let thread = std::thread::Builder::new()
            .name("hx-meter".to_owned())
            .spawn(move || sample(&meters, t0, &events, &ended))?;
        Ok(Sampler { end, thread })
    }

    /// Ends it: CPU time and throttled periods since T0, and the highest memory.
    pub(super) fn finish(self) -> UsageByNode {
        self.end.store(true, Ordering::Relaxed);
        self.thread.join().unwrap_or_default()
    }
}

fn sample(
    meters: &[(String, NodeMeter)],
    t0: MonotonicNs,
    events: &EventSink,
    end: &AtomicBool,
) -> UsageByNode {
    clock::sleep_until(t0);
    let before: Vec<NodeUsage> = meters.iter().map(|(_, meter)| meter.read()).collect();
    let mut used = UsageByNode::new();
    let mut due = t0;
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
            events.emit_due(Some(due), EventBody::NodeSample(sample));
        }
        if last {
            return used;
        }
        due += SAMPLE_EVERY_NS;
        // In small steps, so that the end is not waited for.
        while clock::now() < due && !end.load(Ordering::Relaxed) {
            clock::sleep_until(due.min(clock::now() + SAMPLE_EVERY_NS / 5));
        }
    }
}
