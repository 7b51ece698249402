//! The driver, and which GPUs there are.
#![expect(
    unsafe_code,
    reason = "a library with C functions is what this crate is for"
)]

use std::ffi::{CStr, c_char, c_uint, c_void};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlPciInfo_t, nvmlReturn_t};

use super::{GPU_IS_LOST, INVALID_ARGUMENT, NOT_FOUND, STATE, put, put_text, with_gpu, with_state};
use crate::Script;

/// The driver's version.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlSystemGetDriverVersion(to: *mut c_char, length: c_uint) -> nvmlReturn_t {
    with_state(|state| {
        let version = state.script.driver.as_deref().unwrap_or("580.82.07");
        put_text(to, length, version)
    })
}

/// The number of GPUs.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> nvmlReturn_t {
    with_state(|state| {
        let number = c_uint::try_from(state.script.gpus.len()).unwrap_or(0);
        put(count, number)
    })
}

/// A GPU by its number.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetHandleByIndex_v2(
    index: c_uint,
    device: *mut nvmlDevice_t,
) -> nvmlReturn_t {
    with_state(|state| {
        let now_ms = state.now_ms();
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        match state.script.gpus.get(index) {
            None => INVALID_ARGUMENT,
            Some(gpu) if gpu.is_lost(now_ms) => GPU_IS_LOST,
            Some(_) => {
                let handle: *mut c_void = std::ptr::without_provenance_mut(index + 1);
                put(device, handle.cast())
            }
        }
    })
}

/// A GPU by its UUID.
///
/// # Safety
/// `uuid` is a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByUUID(
    uuid: *const c_char,
    device: *mut nvmlDevice_t,
) -> nvmlReturn_t {
    // SAFETY: the caller vouches for it.
    let uuid = unsafe { CStr::from_ptr(uuid) };
    let index = with_found(|script| {
        let mut gpus = script.gpus.iter();
        gpus.position(|gpu| gpu.uuid.as_bytes() == uuid.to_bytes())
    });
    match index.and_then(|index| c_uint::try_from(index).ok()) {
        Some(index) => nvmlDeviceGetHandleByIndex_v2(index, device),
        None => NOT_FOUND,
    }
}

/// What `find` makes of the script, if there is one.
fn with_found<T>(find: impl FnOnce(&Script) -> Option<T>) -> Option<T> {
    STATE
        .lock()
        .ok()?
        .as_ref()
        .and_then(|state| find(&state.script))
}

/// Where a device is on the bus.
///
/// # Safety
/// `to` points to a structure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPciInfo_v3(
    device: nvmlDevice_t,
    to: *mut nvmlPciInfo_t,
) -> nvmlReturn_t {
    with_gpu(device, "pci", |gpu, _| {
        let mut bus_id = [0; 32];
        for (to, byte) in bus_id.iter_mut().zip(gpu.bus_id.bytes()) {
            *to = c_char::from_ne_bytes([byte]);
        }
        let info = nvmlPciInfo_t {
            busIdLegacy: [0; 16],
            domain: 0,
            bus: 0,
            device: 0,
            pciDeviceId: 0,
            pciSubSystemId: 0,
            busId: bus_id,
        };
        put(to, info)
    })
}

/// Its name, with the mark of a stub.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetName(
    device: nvmlDevice_t,
    to: *mut c_char,
    length: c_uint,
) -> nvmlReturn_t {
    with_gpu(device, "name", |gpu, _| {
        put_text(to, length, &gpu.shown_name())
    })
}

/// Its UUID.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetUUID(
    device: nvmlDevice_t,
    to: *mut c_char,
    length: c_uint,
) -> nvmlReturn_t {
    with_gpu(device, "uuid", |gpu, _| put_text(to, length, &gpu.uuid))
}

/// Its architecture.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceGetArchitecture(device: nvmlDevice_t, to: *mut c_uint) -> nvmlReturn_t {
    with_gpu(device, "architecture", |gpu, _| put(to, gpu.architecture))
}
