//! Performance counters (GPM) and the use of processes, which follow from the script.
#![expect(
    unsafe_code,
    reason = "a library with C functions is what this crate is for"
)]

use std::ffi::{c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlGpmMetricsGet_t, nvmlGpmSample_t, nvmlGpmSupport_t,
    nvmlProcessUtilizationSample_t, nvmlReturn_t,
};

use super::{
    INSUFFICIENT_SIZE, INVALID_ARGUMENT, NOT_SUPPORTED, SUCCESS, put, with_gpu, with_state,
};

/// Hopper, in NVML's numbering of architectures.
const HOPPER: u32 = 9;
/// `NVML_ERROR_NOT_FOUND`: nobody has used the device since.
const NOT_FOUND: nvmlReturn_t = 6;

/// What a sample holds: the device, as its number plus one, and when.
struct Sample {
    device: usize,
    at_ms: u64,
}

/// Whether the device has such counters: Hopper and later.
///
/// # Safety
/// `support` points to a structure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlGpmQueryDeviceSupport(
    device: nvmlDevice_t,
    support: *mut nvmlGpmSupport_t,
) -> nvmlReturn_t {
    with_gpu(device, "gpm", |gpu, _| {
        if support.is_null() {
            return INVALID_ARGUMENT;
        }
        // SAFETY: the pointer is not null, and the caller vouches for it.
        unsafe { (*support).isSupportedDevice = c_uint::from(gpu.architecture >= HOPPER) };
        SUCCESS
    })
}

/// A sample without anything in it.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlGpmSampleAlloc(sample: *mut nvmlGpmSample_t) -> nvmlReturn_t {
    let empty = Box::new(Sample {
        device: 0,
        at_ms: 0,
    });
    put(sample, Box::into_raw(empty).cast())
}

/// Frees a sample.
///
/// # Safety
/// It came from [`nvmlGpmSampleAlloc`] and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlGpmSampleFree(sample: nvmlGpmSample_t) -> nvmlReturn_t {
    if sample.is_null() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: the caller vouches for it.
    drop(unsafe { Box::from_raw(sample.cast::<Sample>()) });
    SUCCESS
}

/// Fills a sample.
///
/// # Safety
/// It came from [`nvmlGpmSampleAlloc`] and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlGpmSampleGet(
    device: nvmlDevice_t,
    sample: nvmlGpmSample_t,
) -> nvmlReturn_t {
    with_gpu(device, "gpm", |gpu, at_ms| {
        if gpu.architecture < HOPPER {
            return NOT_SUPPORTED;
        }
        let filled = Sample {
            device: device.addr(),
            at_ms,
        };
        put(sample.cast::<Sample>(), filled)
    })
}

/// Metrics between two samples: the share of time in which the GPU drew more than at first is its
/// use; tensor cores work half of that, memory a quarter.
///
/// # Safety
/// `get` points to a structure with two samples from [`nvmlGpmSampleAlloc`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlGpmMetricsGet(get: *mut nvmlGpmMetricsGet_t) -> nvmlReturn_t {
    if get.is_null() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: the pointer is not null, and the caller vouches for it.
    let get = unsafe { &mut *get };
    let (before, after) = (get.sample1.cast::<Sample>(), get.sample2.cast::<Sample>());
    if before.is_null() || after.is_null() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: the caller vouches for both.
    let before = unsafe { before.read() };
    // SAFETY: as above.
    let after = unsafe { after.read() };
    with_state(|state| {
        let index = after.device.checked_sub(1);
        let Some(gpu) = index.and_then(|index| state.script.gpus.get(index)) else {
            return INVALID_ARGUMENT;
        };
        let busy = 100.0 * gpu.busy_share(before.at_ms, after.at_ms);
        let count = usize::try_from(get.numMetrics).unwrap_or(0);
        for metric in get.metrics.iter_mut().take(count) {
            // `nvmlGpmMetricId_t`: 1 graphics, 2 multiprocessors, 3 occupancy, 5 tensor cores, 10 memory.
            let value = match metric.metricId {
                1 | 2 => Some(busy),
                3 | 5 => Some(busy / 2.0),
                10 => Some(busy / 4.0),
                _ => None,
            };
            metric.nvmlReturn = value.map_or(NOT_SUPPORTED, |_| SUCCESS);
            metric.value = value.unwrap_or(0.0);
        }
        SUCCESS
    })
}

/// How much each process used the GPU since a moment, in microseconds: all of what it was used, by
/// the first; not where it is cut into instances.
///
/// # Safety
/// `count` points to the number of structures that `samples` has room for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetProcessUtilization(
    device: nvmlDevice_t,
    samples: *mut nvmlProcessUtilizationSample_t,
    count: *mut c_uint,
    since_us: c_ulonglong,
) -> nvmlReturn_t {
    with_gpu(device, "process-utilization", |gpu, now_ms| {
        if gpu.mig {
            return NOT_SUPPORTED;
        }
        if count.is_null() {
            return INVALID_ARGUMENT;
        }
        let running: Vec<(u32, u64)> = gpu.processes(now_ms).collect();
        let share = gpu.busy_share(since_us / 1_000, now_ms);
        if running.is_empty() || share == 0.0 {
            return NOT_FOUND;
        }
        // SAFETY: the pointer is not null, and the caller vouches for it.
        let room = unsafe { count.read() };
        put(
            count,
            c_uint::try_from(running.len()).unwrap_or(c_uint::MAX),
        );
        if samples.is_null() || running.len() > usize::try_from(room).unwrap_or(0) {
            return INSUFFICIENT_SIZE;
        }
        for (offset, (pid, _)) in running.into_iter().enumerate() {
            let percent = if offset == 0 { percent(share) } else { 0 };
            let sample = nvmlProcessUtilizationSample_t {
                pid,
                timeStamp: now_ms.saturating_mul(1_000),
                smUtil: percent,
                memUtil: percent / 2,
                encUtil: 0,
                decUtil: 0,
            };
            put(samples.wrapping_add(offset), sample);
        }
        SUCCESS
    })
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of 1 in percent"
)]
fn percent(share: f64) -> c_uint {
    (share * 100.0).round() as c_uint
}
