//! Links between nodes: two interfaces, and between them something that delivers packets when
//! the trace says.
//!
//! A [`Link`] is built once, measured by [`Link::calibrate`], and then played once per phase by
//! [`Link::start`] and [`Link::stop`]. Outside of those it is transparent: packets pass at once.

mod error;

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use hexloop_proto::{LateHistogram, LinkCalibration, LinkCounters, LinkWindow};
use hexloop_topologies::plan::{CalibrationPlan, FaultPlan, LinkPlan};
use hexloop_traces::{Direction, Trace};
use hexloop_workloads::clock::MonotonicNs;

use crate::namespace::NetworkNamespace;

pub use error::LinkError;

/// What a link is built from.
#[derive(Debug, Clone)]
pub struct LinkSpec<'a> {
    /// The link of the plan.
    pub plan: &'a LinkPlan,
    /// The trace that it follows.
    pub trace: Arc<Trace>,
    /// Faults to inject in what is played; the reference stays as asked.
    pub faults: &'a FaultPlan,
    /// How it is measured.
    pub calibration: &'a CalibrationPlan,
    /// Seed of losses and jitter.
    pub seed: u64,
    /// The CPU that the link's threads are pinned to; `None` leaves them free.
    pub relay_cpu: Option<u32>,
    /// The namespaces of the nodes at its ends, in the order of the plan.
    pub ends: [&'a NetworkNamespace; 2],
}

/// How a link works here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkDescription {
    /// `relay` or `tc`.
    pub datapath: &'static str,
    /// Why this one, in words.
    pub reason: String,
    /// Scheduling of its thread, such as `SCHED_FIFO 20 on CPU 1`.
    pub scheduling: String,
}

/// What a link says at the end of a phase.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkPhaseReport {
    /// Counters of both receiving interfaces over the phase.
    pub counters: Vec<LinkCounters>,
    /// Lateness of the shaper.
    pub lateness: Vec<(Direction, LateHistogram)>,
    /// CPU time of the link's threads over the phase.
    pub relay_cpu_ns: u64,
    /// The CPUs that those threads may run on.
    pub relay_cpus: Vec<u32>,
    /// Windows that were not recorded because the reader was slow.
    pub windows_dropped: u64,
}

/// A link that exists. Dropping it ends its threads and takes its interfaces away.
#[derive(Debug)]
pub struct Link {}

impl Link {
    /// Makes the interfaces in both namespaces, with their addresses, and starts the datapath.
    ///
    /// # Errors
    /// The datapath that the plan asks for cannot be built here; the message says what failed.
    pub fn build(spec: &LinkSpec<'_>) -> Result<Link, LinkError> {
        Err(LinkError::NotPlaying {
            link: spec.plan.name.clone(),
        })
    }

    /// Which datapath is in use, and why.
    #[must_use]
    pub fn description(&self) -> LinkDescription {
        LinkDescription {
            datapath: "relay",
            reason: String::new(),
            scheduling: String::new(),
        }
    }

    /// Measures both directions, one after the other, and returns one result for each.
    ///
    /// # Errors
    /// A socket failed.
    pub fn calibrate(&mut self) -> Result<Vec<LinkCalibration>, LinkError> {
        Err(LinkError::NotPlaying {
            link: String::new(),
        })
    }

    /// Plays the trace from `t0` on. Windows go to `windows` as they close, without ever
    /// waiting for the reader: what does not fit is dropped and counted.
    ///
    /// # Errors
    /// The link's thread is gone.
    pub fn start(
        &mut self,
        _t0: MonotonicNs,
        _windows: SyncSender<LinkWindow>,
    ) -> Result<(), LinkError> {
        Err(LinkError::NotPlaying {
            link: String::new(),
        })
    }

    /// Ends the playback; packets that still wait are delivered at once.
    ///
    /// # Errors
    /// The link is not playing, or its thread is gone.
    pub fn stop(&mut self) -> Result<LinkPhaseReport, LinkError> {
        Err(LinkError::NotPlaying {
            link: String::new(),
        })
    }
}
