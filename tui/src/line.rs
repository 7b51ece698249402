//! What has happened since the last line of a phase, and that line.

use std::collections::BTreeMap;

use hexloop_proto::{Direction, LinkWindow, NodeSample, Outcome, RequestRecord};

/// One direction of a link since the last line.
#[derive(Debug, Clone, Default)]
struct LinkTally {
    length_ns: u64,
    trace_bytes: u64,
    delivered_bytes: u64,
    queue_bytes: u64,
    outage: bool,
}

/// CPU time of a node at two of its samples.
#[derive(Debug, Clone, Copy, Default)]
struct NodeTally {
    at_ns: u64,
    cpu_ns: u64,
    line_at_ns: u64,
    line_cpu_ns: u64,
}

/// How requests ended so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) completed: u64,
    pub(crate) unfinished: u64,
    pub(crate) failed: u64,
}

/// What a phase's lines are made of.
#[derive(Debug, Clone, Default)]
pub(crate) struct PhaseTally {
    pub(crate) ended: Ended,
    last_first_token_ns: Option<u64>,
    links: BTreeMap<(String, Direction), LinkTally>,
    nodes: BTreeMap<String, NodeTally>,
}

impl PhaseTally {
    pub(crate) fn request(&mut self, record: &RequestRecord) {
        match record.outcome {
            Outcome::Completed => self.ended.completed += 1,
            Outcome::Unfinished => self.ended.unfinished += 1,
            Outcome::Failed { .. } => self.ended.failed += 1,
        }
        if let Some(first) = record.token_ns.first() {
            self.last_first_token_ns = Some(first.saturating_sub(record.scheduled_ns));
        }
    }

    /// Takes a window; `is_granted` says whether it is compared with what a cell granted.
    pub(crate) fn window(&mut self, window: &LinkWindow, is_granted: bool) {
        let tally = self
            .links
            .entry((window.link.clone(), window.direction))
            .or_default();
        tally.length_ns += window.length_ns;
        tally.trace_bytes = tally.trace_bytes.saturating_add(window.trace_bytes);
        tally.delivered_bytes += window.delivered_bytes;
        tally.queue_bytes = tally.queue_bytes.max(window.queue_bytes);
        tally.outage |= window.trace_bytes == 0 && !is_granted;
    }

    pub(crate) fn sample(&mut self, sample: &NodeSample) {
        let tally = self.nodes.entry(sample.node.clone()).or_default();
        tally.at_ns = sample.at_ns;
        tally.cpu_ns = sample.cpu_ns;
    }

    /// The line, after which the rates are counted anew.
    pub(crate) fn line(&mut self, phase: &str, second: u64, offered: Option<u64>) -> String {
        let mut parts = vec![format!("{phase} {second:>3} s")];
        if let Some(offered) = offered {
            parts.push(format!("requests {}/{offered}", self.ended.completed));
        }
        if let Some(first_token_ns) = self.last_first_token_ns {
            parts.push(format!("last ttft {}", milliseconds(first_token_ns)));
        }
        let several = self
            .links
            .keys()
            .any(|(link, _)| self.links.keys().any(|(b, _)| link != b));
        let (mut outage, mut quiet) = (false, 0_u32);
        for ((link, direction), tally) in &mut self.links {
            if tally.length_ns == 0 {
                continue;
            }
            // Of several links the line tells those on which something moves.
            let is_quiet = tally.delivered_bytes == 0 && tally.queue_bytes == 0 && !tally.outage;
            if several && is_quiet {
                quiet += 1;
                *tally = LinkTally::default();
                continue;
            }
            let name = if several {
                format!("{link} ")
            } else {
                String::new()
            };
            let asked = rate(tally.trace_bytes, tally.length_ns);
            let delivered = rate(tally.delivered_bytes, tally.length_ns);
            let queue = bytes(tally.queue_bytes);
            let direction = direction.name();
            parts.push(format!(
                "{name}{direction} {delivered} of {asked}, queue {queue}"
            ));
            outage |= tally.outage;
            *tally = LinkTally::default();
        }
        if quiet > 0 {
            parts.push(format!("{quiet} directions of links quiet"));
        }
        for (node, tally) in &mut self.nodes {
            let wall_ns = tally.at_ns.saturating_sub(tally.line_at_ns);
            let cpu_ns = tally.cpu_ns.saturating_sub(tally.line_cpu_ns);
            let share = (cpu_ns * 100).checked_div(wall_ns);
            if let Some(percent) = share {
                parts.push(format!("{node} cpu {percent} %"));
            }
            (tally.line_at_ns, tally.line_cpu_ns) = (tally.at_ns, tally.cpu_ns);
        }
        if outage {
            parts.push("OUTAGE".to_owned());
        }
        parts.join(" | ")
    }
}

#[expect(clippy::cast_precision_loss, reason = "for printing only")]
fn milliseconds(ns: u64) -> String {
    format!("{:.1} ms", ns as f64 / 1e6)
}

/// An average rate; more than a Tbit/s is what a link without limit says.
#[expect(clippy::cast_precision_loss, reason = "for printing only")]
fn rate(bytes: u64, ns: u64) -> String {
    let bps = 8e9 * bytes as f64 / ns as f64;
    if !bps.is_finite() {
        "-".to_owned()
    } else if bps >= 1e12 {
        "unlimited".to_owned()
    } else {
        format!("{:.2} Mbit/s", bps / 1e6)
    }
}

#[expect(clippy::cast_precision_loss, reason = "for printing only")]
fn bytes(bytes: u64) -> String {
    if bytes < 1000 {
        format!("{bytes} B")
    } else {
        format!("{:.1} kB", bytes as f64 / 1e3)
    }
}
