//! What can be set, which a driver keeps after the process that set it has ended.
#![expect(
    unsafe_code,
    reason = "a library with C functions is what this crate is for"
)]

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlReturn_t};

use super::{INVALID_ARGUMENT, NO_PERMISSION, STATE, SUCCESS, UNINITIALIZED, put, with_gpu};
use crate::GpuScript;
use crate::settings::Settings;

/// The power limit, in milliwatts.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetEnforcedPowerLimit(
    device: nvmlDevice_t,
    to: *mut c_uint,
) -> nvmlReturn_t {
    with_settings(device, "limit", |settings, _| {
        (put(to, settings.power_limit_mw), settings)
    })
}

/// Looks at what was set on a device, and keeps what `act` makes of it.
pub(super) fn with_settings(
    device: nvmlDevice_t,
    call: &str,
    act: impl FnOnce(Settings, &GpuScript) -> (nvmlReturn_t, Settings),
) -> nvmlReturn_t {
    let path = STATE
        .lock()
        .ok()
        .and_then(|state| Some(state.as_ref()?.path.clone()));
    let Some(path) = path else {
        return UNINITIALIZED;
    };
    with_gpu(device, call, |gpu, _| {
        let before = Settings::read(&path, gpu);
        let (code, after) = act(before, gpu);
        if code == SUCCESS && after != before && after.write(&path, gpu).is_err() {
            return NO_PERMISSION;
        }
        code
    })
}

/// The power limit that was set, in milliwatts.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetPowerManagementLimit(
    device: nvmlDevice_t,
    to: *mut c_uint,
) -> nvmlReturn_t {
    nvmlDeviceGetEnforcedPowerLimit(device, to)
}

/// The limits of the power limit, in milliwatts.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetPowerManagementLimitConstraints(
    device: nvmlDevice_t,
    least: *mut c_uint,
    most: *mut c_uint,
) -> nvmlReturn_t {
    with_gpu(device, "limit", |gpu, _| {
        match put(least, gpu.power_limits_mw.0) {
            SUCCESS => put(most, gpu.power_limits_mw.1),
            code => code,
        }
    })
}

/// Sets the power limit, in milliwatts.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceSetPowerManagementLimit(
    device: nvmlDevice_t,
    limit: c_uint,
) -> nvmlReturn_t {
    with_settings(device, "set_limit", |settings, gpu| {
        let (least, most) = gpu.power_limits_mw;
        if !(least..=most).contains(&limit) {
            return (INVALID_ARGUMENT, settings);
        }
        let settings = Settings {
            power_limit_mw: limit,
            ..settings
        };
        (SUCCESS, settings)
    })
}

/// Whether the driver stays loaded without users.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetPersistenceMode(
    device: nvmlDevice_t,
    to: *mut c_uint,
) -> nvmlReturn_t {
    with_settings(device, "persistence", |settings, _| {
        (put(to, c_uint::from(settings.persistent)), settings)
    })
}

/// Sets that.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceSetPersistenceMode(device: nvmlDevice_t, mode: c_uint) -> nvmlReturn_t {
    with_settings(device, "set_persistence", |settings, _| {
        let settings = Settings {
            persistent: mode != 0,
            ..settings
        };
        (SUCCESS, settings)
    })
}

/// Holds the clock of the multiprocessors between two values, in MHz.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceSetGpuLockedClocks(
    device: nvmlDevice_t,
    _least: c_uint,
    most: c_uint,
) -> nvmlReturn_t {
    with_settings(device, "set_clocks", |settings, _| {
        let settings = Settings {
            locked_mhz: most,
            ..settings
        };
        (SUCCESS, settings)
    })
}

/// Leaves the clocks to the driver again.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceResetGpuLockedClocks(device: nvmlDevice_t) -> nvmlReturn_t {
    with_settings(device, "set_clocks", |settings, _| {
        let settings = Settings {
            locked_mhz: 0,
            ..settings
        };
        (SUCCESS, settings)
    })
}
