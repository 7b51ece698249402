//! Energy and power.
#![expect(
    unsafe_code,
    reason = "a library with C functions is what this crate is for"
)]

use std::ffi::{c_int, c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlFieldValue_t, nvmlReturn_t};

use super::{INVALID_ARGUMENT, NOT_SUPPORTED, SUCCESS, put, with_gpu};

/// `NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION`, `NVML_FI_DEV_POWER_AVERAGE`, `NVML_FI_DEV_POWER_INSTANT`.
const FIELD_ENERGY: u32 = 83;
const FIELD_AVERAGE: u32 = 185;
const FIELD_INSTANT: u32 = 186;

/// The energy counter, in millijoules.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetTotalEnergyConsumption(
    device: nvmlDevice_t,
    to: *mut c_ulonglong,
) -> nvmlReturn_t {
    with_gpu(device, "energy", |gpu, now_ms| {
        match gpu.shown("counter_mj", now_ms) {
            Some(value) => put(to, value),
            None => NOT_SUPPORTED,
        }
    })
}

/// Average power, in milliwatts.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetPowerUsage(device: nvmlDevice_t, to: *mut c_uint) -> nvmlReturn_t {
    with_gpu(device, "power", |gpu, now_ms| {
        match gpu.shown("average_mw", now_ms) {
            Some(value) => put(to, c_uint::try_from(value).unwrap_or(c_uint::MAX)),
            None => NOT_SUPPORTED,
        }
    })
}

/// Fields, each with its own code.
///
/// # Safety
/// `values` points to `count` structures.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetFieldValues(
    device: nvmlDevice_t,
    count: c_int,
    values: *mut nvmlFieldValue_t,
) -> nvmlReturn_t {
    with_gpu(device, "fields", |gpu, now_ms| {
        let count = usize::try_from(count).unwrap_or(0);
        if values.is_null() {
            return INVALID_ARGUMENT;
        }
        // SAFETY: the caller vouches for `count` structures.
        let values = unsafe { std::slice::from_raw_parts_mut(values, count) };
        for value in values {
            let number = match (value.fieldId, value.scopeId) {
                (FIELD_ENERGY, 0) => gpu.shown("counter_mj", now_ms),
                (FIELD_AVERAGE, 0) => gpu.shown("average_mw", now_ms),
                (FIELD_INSTANT, 0) => gpu.shown("instant_mw", now_ms),
                _ => None,
            };
            value.nvmlReturn = number.map_or(NOT_SUPPORTED, |_| SUCCESS);
            // `NVML_VALUE_TYPE_UNSIGNED_LONG_LONG`.
            value.valueType = 3;
            value.value.ullVal = number.unwrap_or(0);
            value.timestamp = i64::try_from(now_ms.saturating_mul(1_000)).unwrap_or(i64::MAX);
        }
        SUCCESS
    })
}
