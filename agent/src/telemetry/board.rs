//! What was read last, for who looks at the agent from outside: written by the samplers of a plan,
//! and filled in by reading the meters when asked while no plan is under way.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hexloop_telemetry::{
    Channel, CounterStep, CounterTrack, Finding, GpuState, MachineMeters, Quantity, Reading,
    Trouble,
};
use hexloop_workloads::clock::{self, MonotonicNs};

use super::node::NodeUsage;
use super::sources::MeterSources;

/// What is shown.
#[derive(Debug, Default)]
pub struct Board {
    state: Mutex<State>,
    /// The meters that are read when asked; kept so that counters are followed from look to look.
    own: Mutex<Option<MachineMeters>>,
}

/// The state of a GPU as it was last read.
pub type GpuLook = (String, Result<GpuState, Trouble>);

#[derive(Debug, Default)]
struct State {
    channels: Vec<Shown>,
    findings: Vec<Finding>,
    gpus: Vec<GpuLook>,
    /// A plan's sampler writes; who looks does not read the meters as well.
    sampled: bool,
    phase: Option<String>,
    nodes: BTreeMap<String, NodeUsage>,
    reads: u64,
}

/// One channel with what was last read of it.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The channel.
    pub channel: Channel,
    /// The last reading; `None` before the first.
    pub reading: Option<Reading>,
    /// For counters: energy since this agent began to read them, in microjoules.
    pub total_uj: u64,
    track: Option<CounterTrack>,
}

/// Everything that is shown, at one moment.
#[derive(Debug, Clone, Default)]
pub struct Look {
    /// Every channel.
    pub channels: Vec<Shown>,
    /// What was tried, and how it came out.
    pub findings: Vec<Finding>,
    /// Every GPU.
    pub gpus: Vec<GpuLook>,
    /// The phase under way.
    pub phase: Option<String>,
    /// What the nodes have used since it began.
    pub nodes: BTreeMap<String, NodeUsage>,
    /// Readings of all channels since the agent began.
    pub reads: u64,
}

impl Board {
    fn held(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A sampler begins to write: these are its channels.
    pub fn begin_sampling(&self, meters: &MachineMeters) {
        let mut state = self.held();
        state.sampled = true;
        state.set_channels(meters);
    }

    /// It has ended.
    pub fn end_sampling(&self) {
        let mut state = self.held();
        state.sampled = false;
        state.phase = None;
        state.nodes.clear();
    }

    /// Takes the readings of one moment, in the order of the channels.
    pub fn show(&self, at: MonotonicNs, readings: &[Reading]) {
        self.held().take(at, readings);
    }

    /// Takes the states of the GPUs.
    pub fn show_gpus(&self, gpus: &[GpuLook]) {
        self.held().gpus = gpus.to_vec();
    }

    /// A phase begins, or ends with `None`.
    pub fn show_phase(&self, phase: Option<&str>) {
        let mut state = self.held();
        state.phase = phase.map(str::to_owned);
        state.nodes.clear();
    }

    /// Takes what a node has used since the phase began.
    pub fn show_node(&self, node: &str, usage: NodeUsage) {
        self.held().nodes.insert(node.to_owned(), usage);
    }

    /// What is shown now. While no sampler writes, the meters are read first, which may take
    /// milliseconds.
    #[must_use]
    pub fn look(&self, sources: &MeterSources) -> Look {
        if !self.held().sampled {
            self.read_for_itself(sources);
        }
        let state = self.held();
        Look {
            channels: state.channels.clone(),
            findings: state.findings.clone(),
            gpus: state.gpus.clone(),
            phase: state.phase.clone(),
            nodes: state.nodes.clone(),
            reads: state.reads,
        }
    }

    fn read_for_itself(&self, sources: &MeterSources) {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let meters = own.get_or_insert_with(|| sources.find());
        let mut readings = Vec::new();
        let at = clock::now();
        meters.read(&mut readings);
        let gpus = meters.gpu_states();
        let mut state = self.held();
        if state.sampled {
            // A plan has begun meanwhile: its sampler's channels are the ones that are shown.
            return;
        }
        state.set_channels(meters);
        state.take(at, &readings);
        state.gpus = gpus;
    }
}

impl State {
    /// The channels are these from now on; counters that were there before go on.
    fn set_channels(&mut self, meters: &MachineMeters) {
        let mut before = std::mem::take(&mut self.channels);
        let known = |one: &Shown, channel: &Channel| one.channel.describe() == channel.describe();
        self.channels = meters
            .channels()
            .iter()
            .map(|channel| {
                let place = before.iter().position(|one| known(one, channel));
                let mut shown = match place {
                    Some(place) => before.swap_remove(place),
                    None => Shown::new(channel),
                };
                shown.channel = channel.clone();
                shown
            })
            .collect();
        self.findings = meters.findings().to_vec();
    }

    fn take(&mut self, at: MonotonicNs, readings: &[Reading]) {
        self.reads += 1;
        for (shown, reading) in self.channels.iter_mut().zip(readings) {
            if let (Err(Trouble::NotDue { .. }), Some(_)) = (reading, &shown.reading) {
                // What was read last stays.
                continue;
            }
            if let (Some(track), Ok(value)) = (&mut shown.track, reading) {
                if let CounterStep::Moved(tick) = track.push(at, *value) {
                    shown.total_uj = tick.total_uj;
                }
                track.forget_before(at);
            }
            shown.reading = Some(reading.clone());
        }
    }
}

impl Shown {
    fn new(channel: &Channel) -> Shown {
        Shown {
            channel: channel.clone(),
            reading: None,
            total_uj: 0,
            track: match channel.quantity {
                Quantity::EnergyCounter { wraps_at_uj } => {
                    Some(CounterTrack::new(channel.device.clone(), wraps_at_uj))
                }
                _ => None,
            },
        }
    }
}
