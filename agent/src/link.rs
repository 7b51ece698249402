//! Links between nodes: two interfaces, and between them something that delivers packets when
//! the trace says.
//!
//! A [`Link`] is built once, measured by [`Link::calibrate`], and then played once per phase by
//! [`Link::start`] and [`Link::stop`]. Outside of those it is transparent: packets pass at once.
//! What is delivered is counted by `tap` at the receiving interfaces; the shaper's own books
//! only say in which windows its queue was never empty.

mod books;
mod calibrate;
mod edt;
mod error;
pub(crate) mod histogram;
pub(crate) mod interfaces;
pub(crate) mod netlink;
pub(crate) mod news;
mod playback;
mod played;
mod probe;
mod reference;
mod relay;
mod remote;
pub(crate) mod scheduling;
mod shaper;
pub(crate) mod tap;
pub mod tc;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod together;
mod trouble;
pub(crate) mod wrong;

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use hexloop_proto::{LateHistogram, LinkCalibration, LinkCounters, LinkWindow};
use hexloop_topologies::plan::{CalibrationPlan, FaultPlan, LinkPlan};
use hexloop_traces::{Direction, LinkChange, Trace};
use hexloop_workloads::clock::MonotonicNs;

use crate::namespace::NetworkNamespace;
use crate::sys::packet::ReceiveBuffers;
use netlink::RouteSocket;
use playback::{Company, Playback};
use reference::Reference;
use tap::{TapStation, Taps, Watch};

#[cfg(feature = "failpoints")]
pub use crate::sys::bpf::{BpfKind, BpfObject, bpf_objects};
pub use error::LinkError;
pub use relay::{
    CellSeat, ModeChoice, Observer, PassedPacket, PassedPackets, RelayEngine, RelayMode, SharedCell,
};
pub use remote::LinkRemote;
pub(crate) use scheduling::make_punctual;
pub(crate) use tc::measure_change_cost;

/// Destination, source and type.
const ETHERNET_HEADER_BYTES: usize = 14;

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
    /// How it is relayed, if it is.
    pub relay: RelayOptions,
}

/// How a link is relayed.
#[derive(Debug, Clone, Default)]
pub struct RelayOptions {
    /// Whose threads serve it; `None` gives it threads of its own.
    pub engine: Option<RelayEngine>,
    /// The mode that is asked for.
    pub mode: ModeChoice,
    /// Whether a thread passes packets on also where the kernel could.
    pub in_userspace: bool,
    /// Who is shown every packet.
    pub observer: Option<Observer>,
    /// The cell that it shares with other links of the same engine.
    pub seat: Option<CellSeat>,
}

/// How a link works here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkDescription {
    /// `relay`, `tc` or `edt`.
    pub datapath: &'static str,
    /// How the relay works; `None` for another datapath.
    pub mode: Option<RelayMode>,
    /// Why this one, in words.
    pub reason: String,
    /// Scheduling of its thread, such as `SCHED_FIFO 20 on CPU 1`.
    pub scheduling: String,
}

impl LinkDescription {
    /// What its lateness counts: each of the `packets` that left, or each of the `rows` of the trace that
    /// were set in one direction, where the kernel sends and is only told the rows.
    #[must_use]
    pub fn lateness_counts(&self) -> &'static str {
        match self.datapath {
            "tc" => "rows",
            _ => "packets",
        }
    }
}

/// What a link says at the end of a phase.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkPhaseReport {
    /// Counters of both receiving interfaces over the phase.
    pub counters: Vec<LinkCounters>,
    /// Lateness of the shaper.
    pub lateness: Vec<(Direction, LateHistogram)>,
    /// The largest distance between the bytes that left the bottleneck and the trace while
    /// packets waited, in the order of [`Direction::BOTH`]; `None` where no bytes are steered.
    pub largest_error_bytes: Option<[u64; 2]>,
    /// CPU time of the link's threads over the phase.
    pub relay_cpu_ns: u64,
    /// The CPUs that those threads may run on.
    pub relay_cpus: Vec<u32>,
    /// Largest step of the wall clock between two looks of the tap, with its sign.
    pub clock_step_ns: i64,
    /// Windows that were not recorded because they found no room.
    pub windows_dropped: u64,
    /// Packets that the taps did not see because they found no room.
    pub packets_missed: u64,
    /// Packets that were lost on the machine otherwise than the trace asks, in words.
    pub warnings: Vec<String>,
}

/// What calibrating a link found.
#[derive(Debug, Clone, PartialEq)]
pub struct CalibrationReport {
    /// One result per direction.
    pub directions: Vec<LinkCalibration>,
    /// The windows of the direction that had the flow; each starts at its own flow's T0.
    pub windows: Vec<LinkWindow>,
    /// Windows that were not recorded because they found no room.
    pub windows_dropped: u64,
    /// Packets that the taps did not see because they found no room.
    pub packets_missed: u64,
}

/// A link that exists. Dropping it ends its threads and takes its interfaces away.
#[derive(Debug)]
pub struct Link {
    /// Dropped first: its thread holds the interfaces.
    playback: Playback,
    plan: LinkPlan,
    calibration: CalibrationPlan,
    faults: FaultPlan,
    reason: String,
    /// In the order of [`Direction::BOTH`].
    references: [Reference; 2],
    /// Dropped behind the datapath, which must not see its ports go.
    ends: Ends,
    relay_cpu: Option<u32>,
    counters: [Counter; 2],
    /// `None` while their thread has them.
    taps: Option<Taps>,
    /// The thread that reads them, for a datapath without an engine.
    own_taps: TapStation,
    /// What the counters read at the last [`Link::mark`].
    marked: Option<[(u64, u64); 2]>,
    watching: Option<Watching>,
}

/// The counters of one receiving interface.
#[derive(Debug)]
struct Counter {
    socket: RouteSocket,
    index: u32,
}

#[derive(Debug)]
struct Watching {
    taps: tap::Watching,
    at_start: [(u64, u64); 2],
}

impl Link {
    /// Makes the interfaces in both namespaces, with their addresses, and starts the datapath.
    ///
    /// # Errors
    /// The datapath that the plan asks for cannot be built here; the message says what failed.
    pub fn build(spec: &LinkSpec<'_>) -> Result<Link, LinkError> {
        let plan = spec.plan;
        let played = played::with_faults(&spec.trace, spec.faults);
        let (datapath, reason) = probe::build(spec, &played)?;
        let peak_bps = probe::peak_bps(&played);
        let receivers = Direction::BOTH.map(|direction| {
            let end = usize::from(direction == Direction::Up);
            (plan.receiver(direction), spec.ends[end])
        });
        let [down, up] = receivers.map(|(end, namespace)| {
            interfaces::inside(plan, namespace, || {
                let index = interfaces::index_of(&end.interface)?;
                let counter = Counter {
                    socket: interfaces::open_socket()?,
                    index,
                };
                Ok((Taps::open_one(&end.interface, peak_bps)?, counter))
            })
        });
        let ((down_tap, down_counter), (up_tap, up_counter)) = (down?, up?);
        let [first, second] = spec.ends.map(NetworkNamespace::try_clone);
        let cloned = |source| LinkError::Namespace {
            link: plan.name.clone(),
            source,
        };
        Ok(Link {
            playback: Playback::new(datapath, spec, &played),
            plan: plan.clone(),
            calibration: spec.calibration.clone(),
            faults: spec.faults.clone(),
            reason,
            references: Direction::BOTH.map(|direction| Reference::new(&spec.trace, direction)),
            ends: Ends {
                plan: plan.clone(),
                namespaces: [first.map_err(cloned)?, second.map_err(cloned)?],
            },
            relay_cpu: spec.relay_cpu,
            counters: [down_counter, up_counter],
            taps: Some(Taps {
                sockets: [down_tap, up_tap],
                buffers: ReceiveBuffers::new(),
            }),
            own_taps: TapStation::default(),
            marked: None,
            watching: None,
        })
    }

    /// The relay's ports in the namespace of its engine, in the order of the ends.
    pub(crate) fn relay_ports(&self) -> Option<[String; 2]> {
        self.playback.relay_ports()
    }

    /// Which datapath is in use, and why.
    #[must_use]
    pub fn description(&self) -> LinkDescription {
        LinkDescription {
            datapath: self.playback.name(),
            mode: self.playback.relay().map(|(mode, _)| mode),
            reason: self.reason.clone(),
            scheduling: self.playback.scheduling().description.clone(),
        }
    }

    fn not_playing(&self) -> LinkError {
        LinkError::NotPlaying {
            link: self.plan.name.clone(),
        }
    }

    /// Measures both directions, one after the other.
    ///
    /// # Errors
    /// A socket or thread failed, or the link is playing.
    pub fn calibrate(&mut self) -> Result<CalibrationReport, LinkError> {
        let Some(taps) = &mut self.taps else {
            return Err(LinkError::Playing {
                link: self.plan.name.clone(),
            });
        };
        let bench = calibrate::Bench {
            plan: &self.plan,
            calibration: &self.calibration,
            faults: &self.faults,
            references: &self.references,
            ends: self.ends.namespaces.each_ref(),
            cpu: self.relay_cpu,
        };
        bench.run(taps, &self.playback)
    }

    /// A handle to change it by while it plays.
    #[must_use]
    pub fn remote(&self) -> LinkRemote {
        LinkRemote::new(
            self.plan.name.clone(),
            self.playback.remote(),
            self.references.clone(),
        )
    }

    /// From here on, packets belong to the next [`Link::stop`]'s report: those that open the
    /// jobs' connections before T0 too. Without a mark the account begins with [`Link::start`].
    ///
    /// # Errors
    /// The counters cannot be read.
    pub fn mark(&mut self) -> Result<(), LinkError> {
        self.marked = Some(self.received()?);
        Ok(())
    }

    /// Plays the trace from `t0` on. Windows go to `windows` as they close, without ever
    /// waiting for the reader: what does not fit is dropped and counted.
    ///
    /// # Errors
    /// The link is playing already, its thread is gone, or another one cannot be started.
    pub fn start(
        &mut self,
        t0: MonotonicNs,
        windows: SyncSender<LinkWindow>,
    ) -> Result<(), LinkError> {
        let Some(taps) = &mut self.taps else {
            return Err(LinkError::Playing {
                link: self.plan.name.clone(),
            });
        };
        taps.drain();
        for reference in &self.references {
            reference.reset();
        }
        let at_start = match self.marked.take() {
            Some(marked) => marked,
            None => self.received()?,
        };
        let watch = Watch {
            link: self.plan.name.clone(),
            t0,
            window_ns: self.calibration.window_ns,
            references: self.references.clone(),
            from_shaper: self.playback.play(t0, None, Company::Cell)?,
            windows,
            cpu: self.relay_cpu,
        };
        let Some(taps) = self.taps.take() else {
            return Err(self.not_playing());
        };
        let station = match self.playback.relay() {
            Some((_, engine)) => engine.taps(),
            None => &self.own_taps,
        };
        let taps = station.watch(watch, taps)?;
        self.watching = Some(Watching { taps, at_start });
        Ok(())
    }

    /// Changes one direction of what is played from `at` on or, if that is gone by, from now on.
    /// A packet in service is rescaled exactly. Returns the offset from T0 at which the change
    /// takes hold.
    ///
    /// # Errors
    /// The link is not playing, its thread is gone, or its datapath cannot do it.
    pub fn change(
        &self,
        direction: Direction,
        at: MonotonicNs,
        change: LinkChange,
    ) -> Result<u64, LinkError> {
        self.remote().change(&[direction], at, change)
    }

    /// Ends the playback; packets that still wait are delivered at once.
    ///
    /// # Errors
    /// The link is not playing, or its thread is gone.
    pub fn stop(&mut self) -> Result<LinkPhaseReport, LinkError> {
        let Some(watching) = self.watching.take() else {
            return Err(self.not_playing());
        };
        let at_end = self.received();
        let played = self.playback.stop();
        let watched = watching.taps.finish()?;
        self.taps = Some(watched.taps);
        let played = match played {
            Ok(played) => played,
            // An interface that failed says more than what failed because of it.
            Err(error) => {
                trouble::judge_interfaces(&self.plan, [None; 2], watched.failures)?;
                return Err(error);
            }
        };
        let mut warnings = trouble::judge(&self.plan, &played, watched.failures)?;
        warnings.extend(trouble::demotions());
        let at_end = at_end?;
        let counters = Direction::BOTH
            .into_iter()
            .enumerate()
            .map(|(side, direction)| {
                let (bytes_before, packets_before) = watching.at_start[side];
                let (bytes, packets) = at_end[side];
                let joined = played.joined[side];
                LinkCounters {
                    link: self.plan.name.clone(),
                    direction,
                    wire_bytes: bytes.saturating_sub(bytes_before) + joined.header_bytes,
                    packets: packets.saturating_sub(packets_before) + joined.packets,
                }
            });
        let [down, up] = &played.lateness;
        Ok(LinkPhaseReport {
            counters: counters.collect(),
            lateness: vec![
                (Direction::Down, down.summary()),
                (Direction::Up, up.summary()),
            ],
            largest_error_bytes: self.playback.largest_error_bytes(),
            relay_cpu_ns: played.cpu_ns + watched.cpu_ns,
            relay_cpus: self.playback.scheduling().cpus.clone(),
            clock_step_ns: watched.clock_step_ns,
            windows_dropped: watched.windows_dropped,
            packets_missed: watched.missed,
            warnings,
        })
    }

    fn received(&mut self) -> Result<[(u64, u64); 2], LinkError> {
        let mut received = [(0, 0); 2];
        let counters = self.counters.iter_mut().zip(Direction::BOTH);
        for ((counter, direction), place) in counters.zip(&mut received) {
            let look = interfaces::look(&mut counter.socket, counter.index)?;
            look.expect(&self.plan, self.plan.receiver(direction))?;
            *place = look.received;
        }
        Ok(received)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(watching) = self.watching.take() {
            // Nobody is left who would take their reports.
            let _ = self.playback.stop();
            let _ = watching.taps.finish();
        }
    }
}

/// The nodes' interfaces, which are removed when this is dropped: the nodes' namespaces may outlive
/// the link. A pair goes with either of its ends.
#[derive(Debug)]
struct Ends {
    plan: LinkPlan,
    namespaces: [NetworkNamespace; 2],
}

impl Drop for Ends {
    fn drop(&mut self) {
        for (end, namespace) in self.plan.ends.iter().zip(&self.namespaces) {
            // The other end may have taken it along; what stays goes with its namespace.
            let _ =
                interfaces::inside(&self.plan, namespace, || interfaces::remove(&end.interface));
        }
    }
}
