//! The thread that reads every meter of energy and power while a plan is played.

mod costs;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use hexloop_proto::{
    ChannelEnergy, EventBody, GpuSample, IdlePower, Measurement, MeterChannel, MeterReadings,
    MeteringCost, TickWindow, Unmetered,
};
use hexloop_telemetry::{
    Channel, EnergyBook, ExternalFeed, Finding, GpuState, MachineMeters, Origin, Quality, Quantity,
    Reading, Trouble,
};
use hexloop_workloads::clock::{self, MonotonicNs};

use costs::Costs;

use super::board::Board;
use super::node::descendants;
use super::sources::MeterSources;
use crate::isolation::IsolationError;
use crate::isolation::meters::{Metering, require};
use crate::play::EventSink;

/// Time between two looks at the slow things about GPUs: 5 Hz.
const STATE_PERIOD_NS: u64 = 200_000_000;

/// Readings of so much time go into one event.
const EVENT_PERIOD_NS: u64 = 100_000_000;

/// How long readings of a phase go on after its end: counters of GPUs and packages are renewed every 100 ms or more
/// often, and tell only then what was used until the end.
const TAIL_NS: u64 = 200_000_000;

/// A running sampler, or why there is nothing to sample.
#[derive(Debug)]
pub struct PowerSampler {
    shared: Arc<Shared>,
    channels: Vec<Channel>,
    findings: Vec<Finding>,
    /// Why nothing can be summed up, if so.
    why_nothing: Option<String>,
    thread: Option<JoinHandle<MeteringCost>>,
}

#[derive(Debug)]
struct Shared {
    book: Mutex<EnergyBook>,
    phase: Mutex<Option<Phase>>,
    /// From when on readings are kept outside of phases, and those that came since.
    kept: Mutex<Option<(MonotonicNs, MeterReadings)>>,
    end: AtomicBool,
    /// Where readings are shown to who looks from outside.
    board: Option<Arc<Board>>,
}

/// Readings are events while a phase is under way.
#[derive(Debug)]
struct Phase {
    t0: MonotonicNs,
    events: Arc<EventSink>,
    /// First processes of the nodes: what descends from them is ours.
    roots: Vec<u32>,
    /// Readings that are no event yet.
    batch: MeterReadings,
}

impl Phase {
    /// Takes the readings of one moment; so many of them are an event.
    fn push(&mut self, at: MonotonicNs, readings: &[Reading], reads_per_event: usize) {
        add(&mut self.batch, (self.t0, at), readings);
        if self.batch.at_ns.len() >= reads_per_event {
            self.tell();
        }
    }

    /// Makes an event of what was read since the last one.
    fn tell(&mut self) {
        if !self.batch.at_ns.is_empty() {
            let batch = std::mem::take(&mut self.batch);
            self.events.emit(EventBody::Meters(batch));
        }
    }
}

/// Adds the readings of one moment to others since T0; what came before that is none of them.
fn add(to: &mut MeterReadings, (t0, at): (MonotonicNs, MonotonicNs), readings: &[Reading]) {
    let Some(since_t0_ns) = at.checked_sub(t0) else {
        return;
    };
    to.at_ns.push(since_t0_ns);
    let values = readings.iter();
    let values = values.map(|reading| reading.as_ref().ok().copied());
    to.values.push(values.collect());
}

/// What a window amounts to.
#[derive(Debug, Clone, PartialEq)]
pub struct SampledWindow {
    /// Energy of the machine, in joules.
    pub energy_j: Measurement,
    /// What the edges of the window leave open of it.
    pub uncertainty_j: Option<f64>,
    /// Mean power of the machine; of counters between their ticks, which is nearer than energy over
    /// time.
    pub power: MeanPower,
    /// Energy of every channel.
    pub channels: Vec<ChannelEnergy>,
    /// Mean power of every channel.
    pub channels_power: Vec<MeanPower>,
}

/// Mean power over a window.
#[derive(Debug, Clone, PartialEq)]
pub struct MeanPower {
    /// In watts, or why there is none.
    pub power_w: Measurement,
    /// What is left open of it, in watts.
    pub uncertainty_w: Option<f64>,
}

impl MeanPower {
    const fn unavailable(why: String) -> MeanPower {
        MeanPower {
            power_w: Measurement::Unavailable { why },
            uncertainty_w: None,
        }
    }

    /// The same as the idle power of a span.
    #[must_use]
    pub fn idle(&self, when: &str, span_ns: u64) -> IdlePower {
        IdlePower {
            when: when.to_owned(),
            span_ns,
            power_w: self.power_w.clone(),
            uncertainty_w: self.uncertainty_w,
            channels_w: Vec::new(),
            readings: None,
        }
    }
}

impl SampledWindow {
    /// The window as an idle span, with what every channel read in it.
    #[must_use]
    pub fn idle(&self, when: &str, span_ns: u64, readings: MeterReadings) -> IdlePower {
        let channels = self.channels_power.iter();
        IdlePower {
            channels_w: channels.map(|channel| channel.power_w.clone()).collect(),
            readings: Some(readings),
            ..self.power.idle(when, span_ns)
        }
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl PowerSampler {
    /// Looks for meters and reads them from now on.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(sources: &MeterSources) -> io::Result<PowerSampler> {
        let meters = sources.find();
        let period_ns = sources.period_ns();
        let channels = meters.channels().to_vec();
        let findings = meters.findings().to_vec();
        let why_nothing = meters.why_nothing();
        let shared = Arc::new(Shared {
            book: Mutex::new(EnergyBook::new(&channels, period_ns)),
            phase: Mutex::new(None),
            kept: Mutex::new(None),
            end: AtomicBool::new(false),
            board: sources.board.clone(),
        });
        if let Some(board) = &shared.board {
            board.begin_sampling(&meters);
        }
        let thread = if channels.is_empty() {
            None
        } else {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name("hx-power".to_owned());
            Some(builder.spawn(move || sample(meters, &shared, period_ns))?)
        };
        Ok(PowerSampler {
            shared,
            channels,
            findings,
            why_nothing,
            thread,
        })
    }

    /// The channels, as they are recorded.
    #[must_use]
    pub fn channels(&self) -> Vec<MeterChannel> {
        self.channels.iter().map(recorded).collect()
    }

    /// What is not metered, and why.
    #[must_use]
    pub fn unmetered(&self) -> Vec<Unmetered> {
        let why = |finding: &Finding| {
            Some(Unmetered {
                source: finding.source.to_owned(),
                why: finding.outcome.as_ref().err()?.to_string(),
            })
        };
        self.findings.iter().filter_map(why).collect()
    }

    /// Fails where a meter is missing that is asked for.
    pub(crate) fn require<E: From<IsolationError>>(
        &self,
        asked: &[String],
        feeds: &[ExternalFeed],
        pause: impl FnMut(MonotonicNs) -> Result<(), E>,
    ) -> Result<(), E> {
        let metering = Metering {
            channels: &self.channels,
            findings: &self.findings,
            feeds,
            why_nothing: self.why_nothing.as_deref(),
        };
        require(asked, metering, pause)
    }

    /// Why there is no energy yet, or ever.
    #[must_use]
    pub fn outlook(&self) -> Measurement {
        let why = match &self.why_nothing {
            Some(why) => why.clone(),
            None => "given per phase and at the end of the run".to_owned(),
        };
        Measurement::Unavailable { why }
    }

    /// Whether anything can be summed up.
    #[must_use]
    pub const fn can_sum(&self) -> bool {
        self.why_nothing.is_none()
    }

    /// Readings are events from now on, with times since `t0`.
    pub fn begin_phase(&self, t0: MonotonicNs, events: &Arc<EventSink>, roots: Vec<u32>) {
        *held(&self.shared.phase) = Some(Phase {
            t0,
            events: Arc::clone(events),
            roots,
            batch: MeterReadings::default(),
        });
    }

    /// Readings are no events any more once counters have told what was used until now; those that were none yet become
    /// the last one.
    pub fn end_phase(&self) {
        let tells_late = |channel: &Channel| {
            channel.counted && matches!(channel.quantity, Quantity::EnergyCounter { .. })
        };
        if self.channels.iter().any(tells_late) {
            clock::sleep_until(clock::now().saturating_add(TAIL_NS));
        }
        if let Some(mut phase) = held(&self.shared.phase).take() {
            phase.tell();
        }
    }

    /// Readings are kept from this moment on, until they are taken.
    pub fn keep_readings(&self, from: MonotonicNs) {
        *held(&self.shared.kept) = Some((from, MeterReadings::default()));
    }

    /// What was read since readings are kept; no more are.
    pub fn take_readings(&self) -> MeterReadings {
        let kept = held(&self.shared.kept).take();
        kept.map(|(_, readings)| readings).unwrap_or_default()
    }

    /// What a window amounts to, for the machine and for every channel.
    #[must_use]
    pub fn window(&self, from: MonotonicNs, to: MonotonicNs) -> SampledWindow {
        let book = held(&self.shared.book);
        let window = book.window(from, to);
        let (channels, channels_power): (Vec<ChannelEnergy>, Vec<MeanPower>) = window
            .iter()
            .zip(&self.channels)
            .map(|(one, channel)| of_channel(channel, &one.energy))
            .unzip();
        let sum = match &self.why_nothing {
            Some(why) => Err(why.clone()),
            None => book.sum(&window).map_err(|trouble| trouble.to_string()),
        };
        let (energy_j, uncertainty_j, power) = match sum {
            Ok(sum) => {
                let counted = self.channels.iter().filter(|channel| channel.counted);
                let is_estimated = counted.clone().any(|one| one.quality == Quality::Estimated);
                let is_counter = counted.clone().all(|one| one.quantity.is_counter());
                let source = self.sum_source();
                let told = |value| told(value, source.clone(), is_estimated, is_counter);
                let power = MeanPower {
                    power_w: told(sum.power_w),
                    uncertainty_w: Some(sum.power_uncertainty_w),
                };
                (told(sum.energy_j), Some(sum.uncertainty_j), power)
            }
            Err(why) => (
                Measurement::Unavailable { why: why.clone() },
                None,
                MeanPower::unavailable(why),
            ),
        };
        SampledWindow {
            energy_j,
            uncertainty_j,
            power,
            channels,
            channels_power,
        }
    }

    /// The energy of the machine from the first reading to the last.
    #[must_use]
    pub fn whole(&self) -> Measurement {
        let reach = held(&self.shared.book).reach();
        match reach {
            Some((from, to)) => self.window(from, to).energy_j,
            None => match &self.why_nothing {
                Some(why) => Measurement::Unavailable { why: why.clone() },
                None => Measurement::Unavailable {
                    why: "no meter was read".to_owned(),
                },
            },
        }
    }

    /// `2 x NVML total energy, RAPL (powercap intel-rapl:0)`.
    fn sum_source(&self) -> String {
        let mut parts: Vec<(usize, String)> = Vec::new();
        for channel in self.channels.iter().filter(|channel| channel.counted) {
            let mark = if channel.origin == Origin::Stub {
                " (stub)"
            } else {
                ""
            };
            let name = format!("{}{mark}", channel.source);
            match parts.iter_mut().find(|(_, known)| *known == name) {
                Some((count, _)) => *count += 1,
                None => parts.push((1, name)),
            }
        }
        let words = parts.into_iter().map(|(count, name)| match count {
            1 => name,
            _ => format!("{count} x {name}"),
        });
        words.collect::<Vec<String>>().join(", ")
    }

    /// Forgets what lies before a moment.
    pub fn forget_before(&self, at: MonotonicNs) {
        held(&self.shared.book).forget_before(at);
    }

    /// Ends it: what the readings cost; `None` where there was nothing to read.
    pub fn finish(self) -> Option<MeteringCost> {
        self.shared.end.store(true, Ordering::Relaxed);
        let cost = self.thread.and_then(|thread| thread.join().ok());
        if let Some(board) = &self.shared.board {
            board.end_sampling();
        }
        cost
    }
}

/// A channel as it is recorded.
fn recorded(channel: &Channel) -> MeterChannel {
    MeterChannel {
        device: channel.device.clone(),
        scope: channel.scope.name().to_owned(),
        quantity: channel.quantity.name().to_owned(),
        average_window_ns: match channel.quantity {
            Quantity::AveragePower { window_ns } => window_ns,
            _ => None,
        },
        wraps_at_uj: match channel.quantity {
            Quantity::EnergyCounter { wraps_at_uj } => wraps_at_uj,
            _ => None,
        },
        source: channel.source.clone(),
        estimated: channel.quality == Quality::Estimated,
        counted: channel.counted,
        stub: channel.origin == Origin::Stub,
    }
}

/// A value by how it came about.
fn told(value: f64, source: String, is_estimated: bool, is_counter: bool) -> Measurement {
    match (is_estimated, is_counter) {
        (true, _) => Measurement::Estimated { value, source },
        (false, true) => Measurement::Measured { value, source },
        (false, false) => Measurement::Derived { value, source },
    }
}

fn of_channel(
    channel: &Channel,
    energy: &Result<hexloop_telemetry::WindowEnergy, Trouble>,
) -> (ChannelEnergy, MeanPower) {
    let window = match energy {
        Ok(window) => window,
        Err(trouble) => {
            let why = trouble.to_string();
            let energy = ChannelEnergy {
                energy_j: Measurement::Unavailable { why: why.clone() },
                uncertainty_j: None,
                refresh_period_ns: None,
                ticks: None,
            };
            return (energy, MeanPower::unavailable(why));
        }
    };
    let is_counter = channel.quantity.is_counter();
    let is_estimated = channel.quality == Quality::Estimated;
    let source = match is_estimated || is_counter {
        true => channel.source.clone(),
        false => format!("integral of {}", channel.source),
    };
    let energy = ChannelEnergy {
        energy_j: told(window.energy_j, source, is_estimated, is_counter),
        uncertainty_j: Some(window.uncertainty_j),
        refresh_period_ns: Some(window.refresh_period_ns),
        ticks: window.ticks.map(|ticks| TickWindow {
            first_after_ns: ticks.first_after_ns,
            last_after_ns: ticks.last_after_ns,
            energy_j: ticks.energy_j,
        }),
    };
    let source = channel.source.clone();
    let power = MeanPower {
        power_w: told(window.power_w, source, is_estimated, is_counter),
        uncertainty_w: Some(window.power_uncertainty_w),
    };
    (energy, power)
}

fn sample(mut meters: MachineMeters, shared: &Shared, period_ns: u64) -> MeteringCost {
    let began = clock::now();
    let reads_per_state = (STATE_PERIOD_NS / period_ns).max(1);
    let reads_per_event = usize::try_from(EVENT_PERIOD_NS / period_ns)
        .unwrap_or(1)
        .max(1);
    let mut readings: Vec<Reading> = Vec::new();
    let mut costs = Costs::new(&meters);
    let mut cost = MeteringCost {
        period_ns,
        ..MeteringCost::default()
    };
    let mut due = began;
    while !shared.end.load(Ordering::Relaxed) {
        clock::sleep_until(due);
        let at = clock::now();
        costs.read(&mut meters, &mut readings);
        held(&shared.book).push(at, &readings);
        if let Some((from, kept)) = &mut *held(&shared.kept) {
            add(kept, (*from, at), &readings);
        }
        if let Some(board) = &shared.board {
            board.show(at, &readings);
        }
        let t0 = held(&shared.phase).as_mut().map(|phase| {
            phase.push(at, &readings, reads_per_event);
            phase.t0
        });
        let sees_states =
            cost.reads.is_multiple_of(reads_per_state) && (t0.is_some() || shared.board.is_some());
        if sees_states {
            let states = costs.states(&mut meters);
            if let Some(board) = &shared.board {
                board.show_gpus(&states);
            }
            // A phase that has ended meanwhile has no use for them.
            let phase = held(&shared.phase);
            if let Some(phase) = phase.as_ref().filter(|phase| Some(phase.t0) == t0) {
                for (uuid, state) in states {
                    let sample = gpu_sample(uuid, at.saturating_sub(phase.t0), state, &phase.roots);
                    phase.events.emit(EventBody::Gpu(sample));
                }
            }
        }
        cost.reads += 1;
        due += period_ns;
        let now = clock::now();
        if now > due + period_ns {
            cost.late += 1;
            due = now;
        }
    }
    cost.cpu_ns = clock::thread_cpu_ns();
    cost.wall_ns = clock::now().saturating_sub(began);
    costs.tell(&mut cost);
    cost
}

fn gpu_sample(
    uuid: String,
    at_ns: u64,
    state: Result<GpuState, Trouble>,
    roots: &[u32],
) -> GpuSample {
    let state = match state {
        Ok(state) => state,
        Err(trouble) => {
            return GpuSample {
                uuid,
                at_ns,
                trouble: Some(trouble.to_string()),
                ..GpuSample::default()
            };
        }
    };
    let processes = state
        .processes
        .as_ref()
        .map(|all| all.iter().map(|process| process.pid).collect::<Vec<u32>>());
    let foreign_processes = processes.as_ref().map(|all| {
        if all.is_empty() {
            return Vec::new();
        }
        let ours: BTreeSet<u32> = roots
            .iter()
            .flat_map(|root| descendants(*root))
            .chain(roots.iter().copied())
            .collect();
        let foreign = all.iter().filter(|pid| !ours.contains(pid));
        foreign.copied().collect()
    });
    GpuSample {
        uuid,
        at_ns,
        trouble: None,
        memory_used_bytes: state.memory_used_bytes,
        busy_percent: state.busy_percent,
        sm_clock_mhz: state.sm_clock_mhz,
        memory_clock_mhz: state.memory_clock_mhz,
        temperature_c: state.temperature_c,
        throttle_reasons: state.throttle_reasons,
        throttled: state.is_throttled(),
        performance_state: state.performance_state,
        mig: state.mig,
        processes,
        foreign_processes,
        memory_busy_percent: state.memory_busy_percent,
        power_limit_mw: state.power_limit_mw,
        mps_processes: state
            .mps_processes
            .and_then(|number| u64::try_from(number).ok()),
        process_use: state
            .processes
            .iter()
            .flatten()
            .map(|process| (process.pid, process.memory_bytes, process.sm_percent))
            .collect(),
        activity: state.activity.map(|activity| {
            [
                activity.sm,
                activity.occupancy,
                activity.tensor,
                activity.memory_bandwidth,
            ]
        }),
        without_activity: state.without_activity,
    }
}
