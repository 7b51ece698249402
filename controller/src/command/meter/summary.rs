//! What a command cost, as JSON. Pure.

use std::ffi::OsString;

use hexloop_agent::attended::AttendedEnd;
use hexloop_agent::telemetry::power::{MeanPower, SampledWindow};
use hexloop_proto::{IdlePower, Measurement, MeterChannel, MeteringCost, TickWindow, Unmetered};
use hexloop_workloads::clock::MonotonicNs;
use serde::Serialize;

use super::readings::{GpuSeen, Seen};
use crate::format::{count_to_f64, ns_to_s, rounded};
use crate::summary::{
    CounterGap, MeteringSummary, Missing, Quantity, derived_from, gaps_between, metering, missing,
    quantity, subtracted, unavailable,
};

/// From when to when something was metered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) from: MonotonicNs,
    pub(super) to: MonotonicNs,
}

impl Span {
    /// The command's.
    pub(super) const fn of(end: &AttendedEnd) -> Span {
        Span {
            from: end.began,
            to: end.ended,
        }
    }

    const fn length_ns(self) -> u64 {
        self.to.saturating_sub(self.from)
    }
}

/// What was metered.
#[derive(Debug)]
pub(super) struct Metered<'a> {
    pub(super) command: &'a [OsString],
    pub(super) end: AttendedEnd,
    pub(super) channels: Vec<MeterChannel>,
    pub(super) unmetered: Vec<Unmetered>,
    pub(super) gross: SampledWindow,
    /// Before and after, where it was metered.
    pub(super) idle: [Option<(Span, SampledWindow)>; 2],
}

/// The document.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Summary {
    pub(super) schema: u32,
    pub(super) hexloop: &'static str,
    /// `hardware`, or `stub` where any channel was put in a device's place by a test; `none`.
    pub(super) source: &'static str,
    pub(super) command: Vec<String>,
    pub(super) command_status: u8,
    pub(super) duration_s: f64,
    /// The whole machine: what its meters that do not overlap add up to.
    #[serde(flatten)]
    pub(super) machine: Energy,
    pub(super) channels: Vec<ChannelSummary>,
    /// Devices that have a counter and instantaneous power: (integral - counter) / counter.
    pub(super) counter_gaps: Vec<CounterGap>,
    /// Whether any of them is apart by more than 5 %.
    pub(super) suspect: bool,
    /// What the command used beside energy.
    pub(super) used: Used,
    pub(super) gpus: Vec<GpuSummary>,
    /// What sampling cost; `null` where there was nothing to read.
    pub(super) overhead: Option<MeteringSummary>,
    pub(super) unavailable: Vec<Missing>,
    pub(super) notes: Vec<String>,
}

/// Energy over the command's time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Energy {
    /// Gross, in joules.
    pub(super) energy_j: Quantity,
    /// What the edges of the window leave open of it, in joules.
    pub(super) uncertainty_j: Option<f64>,
    /// Mean power in watts: of counters between their ticks.
    pub(super) power_w: Quantity,
    /// What is left open of it: a tick came at some moment since the reading before.
    pub(super) power_uncertainty_w: Option<f64>,
    /// Power without the command, in watts.
    pub(super) idle_before_w: Quantity,
    pub(super) idle_after_w: Quantity,
    /// What is subtracted: the mean of both.
    pub(super) idle_w: Quantity,
    /// Half of the difference of both, and what their windows leave open, in watts.
    pub(super) idle_uncertainty_w: Option<f64>,
    /// Gross less idle power times the command's time, in joules.
    pub(super) above_idle_j: Quantity,
    /// What gross energy and idle power leave open of it, in joules.
    pub(super) above_idle_uncertainty_j: Option<f64>,
}

/// One channel of a meter.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct ChannelSummary {
    pub(super) device: String,
    /// Which part of the machine it covers.
    pub(super) scope: String,
    pub(super) quantity: String,
    /// Where it is read.
    pub(super) source: String,
    /// Whether it is part of the whole machine's energy.
    pub(super) counted: bool,
    /// How often the source renews its value, as it was seen.
    pub(super) refresh_period_ms: Option<f64>,
    /// Of a counter, the part of the command's time between its ticks.
    pub(super) ticks: Option<TickWindow>,
    #[serde(flatten)]
    pub(super) energy: Energy,
}

/// What a command used beside energy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Used {
    pub(super) cpu_user_s: f64,
    pub(super) cpu_system_s: f64,
    /// The most that one of its processes had resident, in bytes.
    pub(super) peak_memory_bytes: Quantity,
    pub(super) voluntary_switches: u64,
    pub(super) involuntary_switches: u64,
}

/// What a GPU did meanwhile.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct GpuSummary {
    pub(super) uuid: String,
    pub(super) looks: u64,
    pub(super) memory_peak_bytes: Option<u64>,
    /// Mean share of time in which a kernel ran.
    pub(super) busy_percent: Option<f64>,
    /// Lowest and highest.
    pub(super) sm_clock_mhz: Option<(u32, u32)>,
    pub(super) temperature_c: Option<(u32, u32)>,
    /// Whether power, heat or a brake held its clocks down at any look.
    pub(super) throttled: Option<bool>,
    pub(super) mig: Option<bool>,
    pub(super) mps_processes: Option<u64>,
    /// Processes on it that the command did not start.
    pub(super) foreign_processes: Vec<u32>,
    /// Why it could not be looked at, if that happened.
    pub(super) trouble: Option<String>,
}

/// Sums up.
pub(super) fn summarise(
    metered: &Metered<'_>,
    cost: Option<&MeteringCost>,
    seen: Seen,
    mut notes: Vec<String>,
    status: u8,
) -> Summary {
    let Metered { end, channels, .. } = metered;
    let span = Span::of(end);
    let by_channel = &metered.gross.channels;
    let counter_gaps = gaps_between(channels, by_channel);
    if seen.dropped > 0 {
        notes.push(format!(
            "{} batches of readings could not be written in time and are missing in the tables",
            seen.dropped
        ));
    }
    let foreign: usize = seen
        .gpus
        .values()
        .map(|gpu| gpu.foreign_processes.len())
        .sum();
    if foreign > 0 {
        notes
            .push("processes of others were on a GPU: their energy is in these figures".to_owned());
    }
    Summary {
        schema: 1,
        hexloop: crate::VERSION,
        source: match channels.as_slice() {
            [] => "none",
            some if some.iter().any(|channel| channel.stub) => "stub",
            _ => "hardware",
        },
        command: metered
            .command
            .iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect(),
        command_status: status,
        duration_s: rounded(ns_to_s(span.length_ns()), 6),
        machine: energy(
            span,
            (&metered.gross.energy_j, metered.gross.uncertainty_j),
            &metered.gross.power,
            |place, when| {
                let (span, window) = metered.idle[place].as_ref()?;
                Some(window.power.idle(when, span.length_ns()))
            },
        ),
        channels: channels
            .iter()
            .zip(by_channel.iter().zip(&metered.gross.channels_power))
            .enumerate()
            .map(|(number, (channel, (one, power)))| {
                let energy = energy(
                    span,
                    (&one.energy_j, one.uncertainty_j),
                    power,
                    |place, when| {
                        let (span, window) = metered.idle[place].as_ref()?;
                        let power = window.channels_power.get(number)?;
                        Some(power.idle(when, span.length_ns()))
                    },
                );
                ChannelSummary {
                    device: channel.device.clone(),
                    scope: channel.scope.clone(),
                    quantity: channel.quantity.clone(),
                    source: channel.source.clone(),
                    counted: channel.counted,
                    refresh_period_ms: one
                        .refresh_period_ns
                        .map(|ns| rounded(count_to_f64(ns) / 1e6, 3)),
                    ticks: one.ticks,
                    energy,
                }
            })
            .collect(),
        suspect: counter_gaps.iter().any(CounterGap::is_suspect),
        counter_gaps,
        used: used(end),
        gpus: seen.gpus.into_iter().map(gpu).collect(),
        overhead: cost.map(metering),
        unavailable: metered.unmetered.iter().map(missing).collect(),
        notes,
    }
}

/// The energy of the machine or of a channel; `idle` is asked for what was metered before (0) and
/// after (1) the command.
fn energy(
    span: Span,
    (gross, open_j): (&Measurement, Option<f64>),
    power: &MeanPower,
    idle: impl Fn(usize, &str) -> Option<IdlePower>,
) -> Energy {
    let (before, after) = (idle(0, "before"), idle(1, "after"));
    let gross_j = quantity(gross);
    let why = gross_j
        .reason
        .clone()
        .unwrap_or_else(|| "idle power was not metered".to_owned());
    let told = |idle: &Option<IdlePower>| {
        idle.as_ref()
            .map_or_else(|| unavailable(&why), |idle| quantity(&idle.power_w))
    };
    let (idle_before_w, idle_after_w) = (told(&before), told(&after));
    // What kept the idle spans from having a value is the better reason.
    let why_no_idle = idle_before_w
        .reason
        .clone()
        .or_else(|| idle_after_w.reason.clone());
    let why_no_idle = why_no_idle.unwrap_or_else(|| why.clone());
    let (idle_w, idle_uncertainty_w) = subtracted(before.as_ref(), after.as_ref(), &why_no_idle);
    let length_s = ns_to_s(span.length_ns());
    Energy {
        power_w: quantity(&power.power_w),
        power_uncertainty_w: power.uncertainty_w.map(|open| rounded(open, 9)),
        above_idle_j: match (gross_j.value, idle_w.value) {
            (Some(joules), Some(idle_w)) => derived_from(
                gross_j.quality,
                joules - idle_w * length_s,
                "gross energy less idle power times length",
            ),
            (None, _) => unavailable(&why),
            (Some(_), None) => unavailable(&why_no_idle),
        },
        above_idle_uncertainty_j: open_j
            .zip(idle_uncertainty_w)
            .map(|(gross_j, idle_w)| rounded(gross_j + idle_w * length_s, 9)),
        energy_j: gross_j,
        uncertainty_j: open_j.map(|open| rounded(open, 9)),
        idle_before_w,
        idle_after_w,
        idle_w,
        idle_uncertainty_w,
    }
}

fn used(end: &AttendedEnd) -> Used {
    let used = &end.used;
    let (peak, least) = (used.peak_memory_bytes, used.least_memory_bytes);
    Used {
        cpu_user_s: rounded(ns_to_s(used.user_ns), 6),
        cpu_system_s: rounded(ns_to_s(used.system_ns), 6),
        peak_memory_bytes: if peak > least {
            quantity(&Measurement::Measured {
                value: count_to_f64(peak),
                source: "getrusage, largest process".to_owned(),
            })
        } else {
            unavailable(&format!(
                "less than the {} MB that this program has: the kernel counts from the fork on",
                least / 1_000_000
            ))
        },
        voluntary_switches: used.voluntary_switches,
        involuntary_switches: used.involuntary_switches,
    }
}

fn gpu((uuid, seen): (String, GpuSeen)) -> GpuSummary {
    GpuSummary {
        uuid,
        looks: seen.looks,
        busy_percent: seen.busy_percent().map(|percent| rounded(percent, 3)),
        memory_peak_bytes: seen.memory_peak_bytes,
        sm_clock_mhz: seen.sm_clock_mhz,
        temperature_c: seen.temperature_c,
        throttled: seen.throttled,
        mig: seen.mig,
        mps_processes: seen.mps_processes,
        foreign_processes: seen.foreign_processes.into_iter().collect(),
        trouble: seen.trouble,
    }
}
