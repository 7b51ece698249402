//! The slow things about a GPU: what moves its power, and who uses it.

use std::collections::BTreeMap;

use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::enums::gpm::GpmMetricId;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use serde::{Deserialize, Serialize};

use crate::sys::gpm::LastSample;

/// What is read of the performance counters, in this order.
const ACTIVITY: [GpmMetricId; 4] = [
    GpmMetricId::SmUtil,
    GpmMetricId::SmOccupancy,
    GpmMetricId::AnyTensorUtil,
    GpmMetricId::DramBwUtil,
];

/// What is kept of a GPU from look to look.
#[derive(Debug, Default)]
pub(super) struct Seen {
    sample: LastSample,
    /// When the use of processes was last told, in microseconds of the driver's clock.
    use_until_us: u64,
}

impl Seen {
    /// Gives back to the library what it owns.
    pub(super) fn free(&mut self, nvml: &Nvml) {
        self.sample.free(nvml);
    }
}

/// How busy the parts of a GPU were between two looks, by its performance counters (GPM, Hopper and
/// later), in hundredths of a percent; `None` is what it does not count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuActivity {
    /// Multiprocessors with a warp assigned, averaged over them.
    pub sm: Option<u32>,
    /// Warps that were active over those that there is room for.
    pub occupancy: Option<u32>,
    /// Multiprocessors that did tensor operations.
    pub tensor: Option<u32>,
    /// Bandwidth of the memory in use.
    pub memory_bandwidth: Option<u32>,
}

/// One process on a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuProcess {
    /// As the host sees it.
    pub pid: u32,
    /// Memory of the GPU in bytes, where the driver tells it.
    pub memory_bytes: Option<u64>,
    /// Its share of the multiprocessors' time since the last look, in percent; not told where the
    /// GPU is cut into instances.
    pub sm_percent: Option<u32>,
}

/// A GPU at one moment; `None` is what it does not tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuState {
    /// Memory in use, in bytes.
    pub memory_used_bytes: Option<u64>,
    /// All of its memory, in bytes.
    pub memory_total_bytes: Option<u64>,
    /// Share of time in which a kernel ran, in percent, over the driver's own window.
    pub busy_percent: Option<u32>,
    /// Share of time in which memory was accessed, in percent.
    pub memory_busy_percent: Option<u32>,
    /// Clock of the multiprocessors, in MHz.
    pub sm_clock_mhz: Option<u32>,
    /// Clock of the memory, in MHz.
    pub memory_clock_mhz: Option<u32>,
    /// Temperature of the die, in degrees Celsius.
    pub temperature_c: Option<u32>,
    /// Why its clocks are lower than they could be: bits of `nvmlClocksThrottleReasons` of nvml.h.
    pub throttle_reasons: Option<u64>,
    /// Performance state, 0 is the highest.
    pub performance_state: Option<u32>,
    /// The power limit in force, in milliwatts.
    pub power_limit_mw: Option<u32>,
    /// Whether it is cut into instances (MIG); then power is that of the whole board.
    pub mig: Option<bool>,
    /// Processes that compute on it; `None` where the driver does not say.
    pub processes: Option<Vec<GpuProcess>>,
    /// How many of them come through the multi-process service (MPS).
    pub mps_processes: Option<usize>,
    /// What its performance counters say since the last look; `None` the first time, and where
    /// [`GpuState::without_activity`] says why.
    pub activity: Option<GpuActivity>,
    /// Why there are no performance counters.
    pub without_activity: Option<String>,
}

impl GpuState {
    /// Reads everything that the device tells.
    pub(super) fn read(device: &Device<'_>, seen: &mut Seen) -> GpuState {
        let memory = device.memory_info().ok();
        let utilization = device.utilization_rates().ok();
        let processes = device.running_compute_processes().ok();
        let used = use_of_processes(device, &mut seen.use_until_us);
        let (activity, without_activity) = match seen.sample.next(device, &ACTIVITY) {
            Ok(values) => (values.map(|values| activity(&values)), None),
            Err(error) => (None, Some(error.to_string())),
        };
        GpuState {
            memory_used_bytes: memory.as_ref().map(|memory| memory.used),
            memory_total_bytes: memory.map(|memory| memory.total),
            busy_percent: utilization.as_ref().map(|rates| rates.gpu),
            memory_busy_percent: utilization.map(|rates| rates.memory),
            sm_clock_mhz: device.clock_info(Clock::SM).ok(),
            memory_clock_mhz: device.clock_info(Clock::Memory).ok(),
            temperature_c: device.temperature(TemperatureSensor::Gpu).ok(),
            throttle_reasons: device
                .current_throttle_reasons()
                .ok()
                .map(|reasons| reasons.bits()),
            performance_state: device
                .performance_state()
                .ok()
                .map(|state| state.as_c())
                .filter(|state| *state <= 15),
            power_limit_mw: device.enforced_power_limit().ok(),
            mig: mig(device),
            processes: processes.map(|processes| {
                processes
                    .into_iter()
                    .map(|process| GpuProcess {
                        pid: process.pid,
                        memory_bytes: match process.used_gpu_memory {
                            UsedGpuMemory::Used(bytes) => Some(bytes),
                            UsedGpuMemory::Unavailable => None,
                        },
                        sm_percent: used.as_ref().map(|used| {
                            // Nobody tells of a process that did nothing.
                            used.get(&process.pid).copied().unwrap_or(0)
                        }),
                    })
                    .collect()
            }),
            mps_processes: device
                .mps_running_compute_processes()
                .ok()
                .map(|processes| processes.len()),
            activity,
            without_activity,
        }
    }

    /// Whether something other than idleness, an application's own setting or a sync boost
    /// holds its clocks down: power, heat or a brake (bits 0x04, 0x08, 0x20, 0x40, 0x80 of
    /// `nvmlClocksThrottleReasons`).
    #[must_use]
    pub fn is_throttled(&self) -> Option<bool> {
        Some(self.throttle_reasons? & 0xec != 0)
    }
}

/// The use of the multiprocessors by each process since the last look; `None` where the driver
/// does not tell. It finds nothing on an idle GPU, and tells more than everything of processes that
/// are no more.
fn use_of_processes(device: &Device<'_>, until_us: &mut u64) -> Option<BTreeMap<u32, u32>> {
    let samples = match device.process_utilization_stats(*until_us) {
        Ok(samples) => samples,
        Err(NvmlError::NotFound) => return Some(BTreeMap::new()),
        Err(_) => return None,
    };
    let latest_us = samples.iter().map(|sample| sample.timestamp).max();
    *until_us = latest_us.unwrap_or(*until_us).max(*until_us);
    let sound = samples.iter().filter(|sample| sample.sm_util <= 100);
    Some(sound.map(|sample| (sample.pid, sample.sm_util)).collect())
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and 100 percent"
)]
fn activity(values: &[Option<f64>]) -> GpuActivity {
    let hundredths = |place: usize| {
        let percent = values.get(place).copied().flatten()?;
        (0.0..=100.0)
            .contains(&percent)
            .then(|| (percent * 100.0).round() as u32)
    };
    GpuActivity {
        sm: hundredths(0),
        occupancy: hundredths(1),
        tensor: hundredths(2),
        memory_bandwidth: hundredths(3),
    }
}

fn mig(device: &Device<'_>) -> Option<bool> {
    match device.mig_mode() {
        Ok(mode) => Some(mode.current != 0),
        // What cannot be cut is not cut.
        Err(NvmlError::NotSupported) => Some(false),
        Err(_) => None,
    }
}
