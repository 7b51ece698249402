//! What can be measured, one function per kind of row.

mod capture;
mod exact;
mod interface;
mod latency;
mod loaded;
mod many;
mod star;
mod tc;
mod throughput;

use hexloop_topologies::plan::DatapathChoice;

use super::scene::MS;
use super::{BenchError, Measured, Scale};
use crate::link::LinkError;
use crate::node::with_causes;
use hexloop_proto::{LateHistogram, LinkWindow};

/// How and with whose judgement rows are measured.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// How much.
    pub scale: Scale,
    /// Whether a run with these windows and this lateness of one direction is believed, as the
    /// verdict on runs does it.
    pub believe: &'a dyn Fn(&[LinkWindow], &LateHistogram) -> bool,
    /// The bounds of that verdict for the receiver's own account: the 99th percentile of lateness against the ideal
    /// schedule, in nanoseconds.
    pub most_late_ns: f64,
    /// And |delivered / trace - 1|.
    pub largest_rate_error: f64,
}

impl std::fmt::Debug for Ask<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ask")
            .field("scale", &self.scale)
            .finish_non_exhaustive()
    }
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its name, such as `relay-exact-10ms`.
    pub name: &'static str,
    /// What is measured, in words.
    pub what: &'static str,
    work: fn(&Ask<'_>) -> Result<Measured, BenchError>,
}

/// All of them, in the order of the table.
pub const ROWS: [Row; 17] = [
    Row {
        name: "relay-exact-10ms",
        what: "relay, 12/48/120/300 Mbit/s in 10 ms steps, 400 Mbit/s offered",
        work: |ask| exact::ten_milliseconds(DatapathChoice::Relay, ask.scale),
    },
    Row {
        name: "relay-exact-1ms",
        what: "relay, ten rates from 12 to 300 Mbit/s in 1 ms steps, 400 Mbit/s offered",
        work: |ask| exact::one_millisecond(DatapathChoice::Relay, ask.scale),
    },
    Row {
        name: "relay-round-trip",
        what: "relay, no limit, no delay: round trips of 64 bytes every 0.5 ms, bare pair in turn",
        work: |ask| latency::added(ask.scale),
    },
    Row {
        name: "relay-delay-10ms",
        what: "relay, 10 ms each way: round trips every 1 ms, bare pair in turn",
        work: |ask| latency::delayed(10 * MS, ask.scale),
    },
    Row {
        name: "relay-tcp",
        what: "relay, no limit: one TCP flow, bare pair in turn",
        work: |ask| throughput::tcp_unlimited(ask.scale),
    },
    Row {
        name: "relay-tcp-3g",
        what: "relay, one TCP flow in packets of MTU size at 3 Gbit/s",
        work: |ask| throughput::tcp_shaped(ask.scale),
    },
    Row {
        name: "relay-bulk-64",
        what: "relay, no limit: frames of 64 bytes, bare pair in turn",
        work: |ask| throughput::shortest_frames(ask.scale),
    },
    Row {
        name: "relay-200-links",
        what: "relay, 200 links at 5 Mbit/s in 1 ms steps, one machine",
        work: |ask| many::links(ask.scale),
    },
    Row {
        name: "star-1000",
        what: "a star of 1000 nodes, each with its first process, its namespaces and its link; \
               memory_per_node is what all processes of hexloop hold of it (Pss), over the nodes",
        work: |ask| star::star(ask.scale),
    },
    Row {
        name: "relay-loaded",
        what: "relay-exact-10ms while eight threads burn CPU time",
        work: |ask| loaded::exact_under_load(ask.scale),
    },
    Row {
        name: "relay-loaded-verdict",
        what: "relay without real-time rights, idle and under load in turn: its verdict against \
               the receiver's own account",
        work: loaded::verdicts,
    },
    Row {
        name: "relay-capture",
        what: "relay-exact-10ms without and with a capture of its packets (`--pcap`) in turn",
        work: |ask| capture::cost(ask.scale),
    },
    Row {
        name: "tc-10ms",
        what: "tc, 12/48/120/300 Mbit/s in 10 ms steps, 400 Mbit/s offered",
        work: |ask| exact::ten_milliseconds(DatapathChoice::Tc, ask.scale),
    },
    Row {
        name: "tc-1ms",
        what: "tc, ten rates from 12 to 300 Mbit/s in 1 ms steps, 400 Mbit/s offered",
        work: |ask| exact::one_millisecond(DatapathChoice::Tc, ask.scale),
    },
    Row {
        name: "tc-interface-10ms",
        what: "an interface shaped as `hexloop link apply` does it, 12/48/120/300 Mbit/s in 10 ms steps, \
               400 Mbit/s offered",
        work: |ask| interface::ten_milliseconds(ask.scale),
    },
    Row {
        name: "tc-change",
        what: "tc, one change in place by a prepared message; and 64 in one send",
        work: |_| tc::change(),
    },
    Row {
        name: "edt-1ms",
        what: "edt, ten rates from 12 to 300 Mbit/s in 1 ms steps, 400 Mbit/s offered",
        work: |ask| exact::one_millisecond(DatapathChoice::Edt, ask.scale),
    },
];

/// Measures one row.
///
/// # Errors
/// This machine cannot do it ([`BenchError::Unavailable`]), or something failed.
pub fn measure(row: &Row, ask: &Ask<'_>) -> Result<Measured, BenchError> {
    match (row.work)(ask) {
        // A datapath that cannot be built here is a fact about this machine, not a failure.
        Err(BenchError::Link(error @ LinkError::NoDatapath { .. })) => {
            Err(BenchError::Unavailable {
                why: with_causes(&error),
            })
        }
        other => other,
    }
}
