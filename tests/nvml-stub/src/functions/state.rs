//! Memory, use, clocks, temperature and processes.
#![expect(
    unsafe_code,
    reason = "a library with C functions is what this crate is for"
)]

use std::ffi::{c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlMemory_v2_t, nvmlProcessInfo_t, nvmlReturn_t, nvmlUtilization_t,
};

use super::settings::with_settings;
use super::{INSUFFICIENT_SIZE, INVALID_ARGUMENT, NOT_SUPPORTED, SUCCESS, put, with_gpu};

/// Its memory: 80 GiB, of which its processes use what the script says.
///
/// # Safety
/// `to` points to a structure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo_v2(
    device: nvmlDevice_t,
    to: *mut nvmlMemory_v2_t,
) -> nvmlReturn_t {
    const TOTAL: u64 = 80 << 30;
    with_gpu(device, "memory", |gpu, now_ms| {
        let used = gpu.processes(now_ms).map(|(_, bytes)| bytes).sum::<u64>();
        let memory = nvmlMemory_v2_t {
            version: 0,
            total: TOTAL,
            reserved: 0,
            free: TOTAL.saturating_sub(used),
            used,
        };
        put(to, memory)
    })
}

/// Busy while it draws more than at first.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetUtilizationRates(
    device: nvmlDevice_t,
    to: *mut nvmlUtilization_t,
) -> nvmlReturn_t {
    with_gpu(device, "utilization", |gpu, now_ms| {
        let busy = gpu.instant_mw(now_ms) > gpu.instant_mw(0);
        let gpu = if busy { 100 } else { 0 };
        put(
            to,
            nvmlUtilization_t {
                gpu,
                memory: gpu / 2,
            },
        )
    })
}

/// Its temperature, in degrees Celsius.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetTemperature(
    device: nvmlDevice_t,
    _sensor: c_uint,
    to: *mut c_uint,
) -> nvmlReturn_t {
    with_gpu(device, "temperature", |gpu, now_ms| {
        match gpu.shown("temperature_c", now_ms) {
            Some(value) => put(to, c_uint::try_from(value).unwrap_or(c_uint::MAX)),
            None => NOT_SUPPORTED,
        }
    })
}

/// Clocks, in MHz: those of an H100, or what they were locked to.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetClockInfo(
    device: nvmlDevice_t,
    clock: c_uint,
    to: *mut c_uint,
) -> nvmlReturn_t {
    with_settings(device, "clocks", |settings, _| {
        let code = match (clock, settings.locked_mhz) {
            (2, _) => put(to, 2_619),
            (_, 0) => put(to, 1_980),
            (_, locked) => put(to, locked),
        };
        (code, settings)
    })
}

/// Why its clocks are low.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetCurrentClocksThrottleReasons(
    device: nvmlDevice_t,
    to: *mut c_ulonglong,
) -> nvmlReturn_t {
    with_gpu(device, "throttle", |gpu, now_ms| {
        put(to, gpu.throttle_reasons(now_ms))
    })
}

/// Performance state 0.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetPerformanceState(
    device: nvmlDevice_t,
    to: *mut c_uint,
) -> nvmlReturn_t {
    with_gpu(device, "performance", |_, _| put(to, 0))
}

/// Whether it is cut into instances.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMigMode(
    device: nvmlDevice_t,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> nvmlReturn_t {
    with_gpu(device, "mig", |gpu, _| {
        let mode = c_uint::from(gpu.mig);
        match put(current, mode) {
            SUCCESS => put(pending, mode),
            code => code,
        }
    })
}

/// Processes that compute on it.
///
/// # Safety
/// `count` points to the number of structures that `infos` has room for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    device: nvmlDevice_t,
    count: *mut c_uint,
    infos: *mut nvmlProcessInfo_t,
) -> nvmlReturn_t {
    with_gpu(device, "processes", |gpu, now_ms| {
        if count.is_null() {
            return INVALID_ARGUMENT;
        }
        // SAFETY: the pointer is not null, and the caller vouches for it.
        let room = unsafe { count.read() };
        let running: Vec<(u32, u64)> = gpu.processes(now_ms).collect();
        let code = put(
            count,
            c_uint::try_from(running.len()).unwrap_or(c_uint::MAX),
        );
        if running.is_empty() || code != SUCCESS {
            return code;
        }
        if infos.is_null() || running.len() > usize::try_from(room).unwrap_or(0) {
            return INSUFFICIENT_SIZE;
        }
        for (offset, (pid, bytes)) in running.into_iter().enumerate() {
            let info = nvmlProcessInfo_t {
                pid,
                usedGpuMemory: bytes,
                gpuInstanceId: c_uint::MAX,
                computeInstanceId: c_uint::MAX,
            };
            put(infos.wrapping_add(offset), info);
        }
        SUCCESS
    })
}

/// Nobody comes through the multi-process service.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetMPSComputeRunningProcesses_v3(
    device: nvmlDevice_t,
    count: *mut c_uint,
    _infos: *mut nvmlProcessInfo_t,
) -> nvmlReturn_t {
    with_gpu(device, "mps", |_, _| put(count, 0))
}
