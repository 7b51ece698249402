//! The slow things about a GPU: what moves its power, and who uses it.

use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};
use nvml_wrapper::enums::device::UsedGpuMemory;
use nvml_wrapper::error::NvmlError;
use serde::{Deserialize, Serialize};

/// One process on a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuProcess {
    /// As the host sees it.
    pub pid: u32,
    /// Memory of the GPU in bytes, where the driver tells it.
    pub memory_bytes: Option<u64>,
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
}

impl GpuState {
    /// Reads everything that the device tells.
    #[must_use]
    pub fn read(device: &Device<'_>) -> GpuState {
        let memory = device.memory_info().ok();
        let utilization = device.utilization_rates().ok();
        let processes = device.running_compute_processes().ok();
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
                    })
                    .collect()
            }),
            mps_processes: device
                .mps_running_compute_processes()
                .ok()
                .map(|processes| processes.len()),
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

fn mig(device: &Device<'_>) -> Option<bool> {
    match device.mig_mode() {
        Ok(mode) => Some(mode.current != 0),
        // What cannot be cut is not cut.
        Err(NvmlError::NotSupported) => Some(false),
        Err(_) => None,
    }
}
