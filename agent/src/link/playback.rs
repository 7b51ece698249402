//! A datapath with what it plays.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use hexloop_traces::{CapacityCurve, Direction, LinkSettings, Trace};
use hexloop_workloads::clock::MonotonicNs;

use super::edt::EdtPlayer;
use super::histogram::NanosecondHistogram;
use super::relay::{Play, Played, Relay, RelayEngine, RelayMode, ShaperWindow};
use super::remote::RemoteDatapath;
use super::scheduling::Scheduling;
use super::tc::TcPlayer;
use super::{LinkError, LinkSpec, interfaces};
use crate::namespace::NetworkNamespace;

/// Windows that may wait for the tap: a second of both directions, within bounds.
const FEWEST_WINDOWS: u64 = 64;
const MOST_WINDOWS: u64 = 4096;

/// What makes packets wait.
#[derive(Debug)]
pub(crate) enum Datapath {
    /// The userspace relay, and the namespace that its ports live in.
    Relay {
        /// Dropped first: its thread holds the ports.
        relay: Relay,
        /// Whose threads serve it.
        engine: RelayEngine,
        /// Goes away when the last link of the engine does.
        _namespace: Arc<NetworkNamespace>,
    },
    /// Queueing disciplines on the nodes' own interfaces.
    Tc(TcPlayer),
    /// Departure times that a BPF program gives, and the namespace that its ports live in.
    Edt {
        /// Dropped first: its filters are on the ports.
        edt: EdtPlayer,
        /// Goes away, with the ports, when this handle does.
        _namespace: NetworkNamespace,
    },
}

/// With whom a link that shares a cell plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Company {
    /// With nobody: what is measured then is the link.
    Alone,
    /// With the other users of its cell, if it has one.
    Cell,
}

/// A datapath and the trace that it plays, faults included.
#[derive(Debug)]
pub(crate) struct Playback {
    datapath: Datapath,
    curves: [CapacityCurve; 2],
    settings: LinkSettings,
    mtu: u32,
    window_ns: u64,
    longest_delay_ns: u64,
    seed: u64,
    has_cell: bool,
}

impl Playback {
    pub(crate) fn new(datapath: Datapath, spec: &LinkSpec<'_>, played: &Trace) -> Playback {
        let plan = spec.plan;
        Playback {
            datapath,
            curves: Direction::BOTH.map(|direction| CapacityCurve::new(played, direction)),
            settings: plan.settings,
            mtu: plan.mtu,
            window_ns: spec.calibration.window_ns,
            longest_delay_ns: longest_delay_ns(played),
            seed: spec.seed,
            has_cell: spec.relay.seat.is_some(),
        }
    }

    /// Plays from `t0` on; windows come out of the receiver that is returned.
    pub(crate) fn play(
        &self,
        t0: MonotonicNs,
        pause: Option<(u64, u64)>,
        company: Company,
    ) -> Result<Receiver<ShaperWindow>, LinkError> {
        let backlog = 2_000_000_000 / self.window_ns.max(1);
        let backlog = backlog.clamp(FEWEST_WINDOWS, MOST_WINDOWS);
        let (windows, receiver) = sync_channel(usize::try_from(backlog).unwrap_or(0));
        let play = Play {
            t0,
            curves: self.curves.clone(),
            settings: self.settings,
            mtu: self.mtu,
            window_ns: self.window_ns,
            longest_delay_ns: self.longest_delay_ns,
            seed: self.seed,
            windows,
            pause,
            shares_cell: self.has_cell && company == Company::Cell,
        };
        match &self.datapath {
            Datapath::Relay { relay, .. } => relay.play(play)?,
            Datapath::Tc(player) => player.play(play)?,
            Datapath::Edt { edt, .. } => edt.play(play)?,
        }
        Ok(receiver)
    }

    /// Ends the playback.
    pub(crate) fn stop(&self) -> Result<Played, LinkError> {
        match &self.datapath {
            Datapath::Relay { relay, .. } => relay.stop(),
            Datapath::Tc(player) => player.stop(),
            Datapath::Edt { edt, .. } => edt.stop(),
        }
    }

    /// The lateness alone, for calibration.
    pub(crate) fn stop_for_lateness(&self) -> Result<[NanosecondHistogram; 2], LinkError> {
        Ok(self.stop()?.lateness)
    }

    /// What changes it from another thread.
    pub(super) fn remote(&self) -> RemoteDatapath {
        match &self.datapath {
            Datapath::Relay { relay, .. } if relay.mode() == RelayMode::Exact => {
                RemoteDatapath::Relay(relay.remote())
            }
            Datapath::Relay { .. } => {
                RemoteDatapath::Fixed("relay in a mode that passes packets through")
            }
            Datapath::Tc(player) => RemoteDatapath::Tc(player.remote()),
            Datapath::Edt { edt, .. } => RemoteDatapath::Edt(edt.remote()),
        }
    }

    /// How far the bytes of a datapath that steers them were from the trace at most.
    pub(crate) fn largest_error_bytes(&self) -> Option<[u64; 2]> {
        match &self.datapath {
            Datapath::Tc(player) => Some(player.largest_error_bytes()),
            Datapath::Relay { .. } | Datapath::Edt { .. } => None,
        }
    }

    pub(crate) const fn name(&self) -> &'static str {
        match &self.datapath {
            Datapath::Relay { .. } => "relay",
            Datapath::Tc(_) => "tc",
            Datapath::Edt { .. } => "edt",
        }
    }

    /// The relay's mode, and the engine that serves it.
    pub(crate) const fn relay(&self) -> Option<(RelayMode, &RelayEngine)> {
        match &self.datapath {
            Datapath::Relay { relay, engine, .. } => Some((relay.mode(), engine)),
            Datapath::Tc(_) | Datapath::Edt { .. } => None,
        }
    }

    /// The relay's ports, in the order of the ends.
    pub(crate) fn relay_ports(&self) -> Option<[String; 2]> {
        match &self.datapath {
            Datapath::Relay { relay, .. } => Some(interfaces::relay_ports(relay.number())),
            Datapath::Tc(_) | Datapath::Edt { .. } => None,
        }
    }

    pub(crate) fn scheduling(&self) -> &Scheduling {
        match &self.datapath {
            Datapath::Relay { relay, .. } => relay.scheduling(),
            Datapath::Tc(player) => player.scheduling(),
            Datapath::Edt { edt, .. } => edt.scheduling(),
        }
    }
}

/// The longest delay of both directions.
pub(crate) fn longest_delay_ns(trace: &Trace) -> u64 {
    let states = trace.states().flat_map(|(_, states)| states);
    states.map(|state| state.delay_ns).max().unwrap_or(0)
}
