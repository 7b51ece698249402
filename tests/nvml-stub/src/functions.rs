//! The functions by NVML's names.
#![expect(
    unsafe_code,
    reason = "a library with C functions is what this crate is for"
)]

pub mod gpm;

use std::ffi::{CStr, OsString};
use std::ffi::{c_char, c_int, c_uint, c_ulonglong, c_void};
use std::os::unix::ffi::OsStringExt as _;
use std::sync::Mutex;

use hexloop_workloads::clock;
use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlFieldValue_t, nvmlMemory_v2_t, nvmlPciInfo_t, nvmlProcessInfo_t,
    nvmlReturn_t, nvmlUtilization_t,
};

use crate::settings::Settings;
use crate::{GpuScript, Script};

/// Codes of nvml.h, `nvmlReturn_enum`.
const SUCCESS: nvmlReturn_t = 0;
const UNINITIALIZED: nvmlReturn_t = 1;
const INVALID_ARGUMENT: nvmlReturn_t = 2;
const NOT_SUPPORTED: nvmlReturn_t = 3;
const INSUFFICIENT_SIZE: nvmlReturn_t = 7;
const NO_PERMISSION: nvmlReturn_t = 4;
const NOT_FOUND: nvmlReturn_t = 6;
const GPU_IS_LOST: nvmlReturn_t = 15;

/// `NVML_FI_DEV_TOTAL_ENERGY_CONSUMPTION`, `NVML_FI_DEV_POWER_AVERAGE`, `NVML_FI_DEV_POWER_INSTANT`.
const FIELD_ENERGY: u32 = 83;
const FIELD_AVERAGE: u32 = 185;
const FIELD_INSTANT: u32 = 186;

struct State {
    script: Script,
    /// The script's file: what was set lies beside it.
    path: OsString,
    /// Users of the library in this process: only the first one of a script begins its time.
    users: u32,
    began_ns: u64,
    /// Where time stands, if somebody has put it there.
    fixed_ns: Option<u64>,
}

static STATE: Mutex<Option<State>> = Mutex::new(None);

/// The script's path, where the process has set it itself.
static SCRIPT: Mutex<Option<OsString>> = Mutex::new(None);

impl State {
    fn now_ms(&self) -> u64 {
        let since_start_ns = || clock::now().saturating_sub(self.began_ns);
        self.fixed_ns.unwrap_or_else(since_start_ns) / 1_000_000
    }
}

fn with_state(act: impl FnOnce(&mut State) -> nvmlReturn_t) -> nvmlReturn_t {
    let Ok(mut state) = STATE.lock() else {
        return UNINITIALIZED;
    };
    state.as_mut().map_or(UNINITIALIZED, act)
}

/// Runs `act` with a device's script and the time, unless the device is lost or `call` is one that
/// it does not support.
fn with_gpu(
    device: nvmlDevice_t,
    call: &str,
    act: impl FnOnce(&GpuScript, u64) -> nvmlReturn_t,
) -> nvmlReturn_t {
    with_state(|state| {
        let now_ms = state.now_ms();
        // A handle is the device's index plus one.
        let Some(gpu) = device
            .addr()
            .checked_sub(1)
            .and_then(|index| state.script.gpus.get(index))
        else {
            return INVALID_ARGUMENT;
        };
        if gpu.latency_us > 0 {
            clock::sleep_until(clock::now() + gpu.latency_us * 1_000);
        }
        if gpu.is_lost(now_ms) {
            return GPU_IS_LOST;
        }
        if gpu.not_supported.iter().any(|name| name == call) {
            return NOT_SUPPORTED;
        }
        if gpu.no_permission.iter().any(|name| name == call) {
            return NO_PERMISSION;
        }
        act(gpu, now_ms)
    })
}

/// Writes a value through a pointer that the caller vouches for.
fn put<T>(to: *mut T, value: T) -> nvmlReturn_t {
    if to.is_null() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: NVML's callers pass pointers to writable values of the documented type.
    unsafe { to.write(value) };
    SUCCESS
}

fn put_text(to: *mut c_char, length: c_uint, text: &str) -> nvmlReturn_t {
    let length = usize::try_from(length).unwrap_or(0);
    if to.is_null() || text.len() >= length {
        return INSUFFICIENT_SIZE;
    }
    for (offset, byte) in text.bytes().chain([0]).enumerate() {
        let character = c_char::from_ne_bytes([byte]);
        put(to.wrapping_add(offset), character);
    }
    SUCCESS
}

/// Puts time where it stands from now on, in nanoseconds since the start.
#[unsafe(no_mangle)]
pub extern "C" fn hexloop_stub_set_time_ns(at_ns: c_ulonglong) {
    let _code = with_state(|state| {
        state.fixed_ns = Some(at_ns);
        SUCCESS
    });
}

/// Names the script, in place of the environment; takes hold with the next `nvmlInit_v2`.
///
/// # Safety
/// `path` is a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn hexloop_stub_set_script(path: *const c_char) {
    // SAFETY: the caller vouches for it.
    let path = unsafe { CStr::from_ptr(path) };
    if let Ok(mut script) = SCRIPT.lock() {
        *script = Some(OsString::from_vec(path.to_bytes().to_vec()));
    }
}

/// Reads the script.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> nvmlReturn_t {
    /// `NVML_ERROR_DRIVER_NOT_LOADED`.
    const DRIVER_NOT_LOADED: nvmlReturn_t = 9;
    let named = SCRIPT.lock().ok().and_then(|script| script.clone());
    let named = named.or_else(|| std::env::var_os("HEXLOOP_NVML_STUB"));
    let script = named.and_then(|path| {
        let text = std::fs::read(&path).ok()?;
        Some((serde_json::from_slice::<Script>(&text).ok()?, path))
    });
    let Some((script, path)) = script else {
        return DRIVER_NOT_LOADED;
    };
    let code = script.init_code;
    let mut script = script;
    for gpu in &mut script.gpus {
        // A recording that cannot be read must not look like a GPU that works.
        if gpu.load().is_err() {
            return DRIVER_NOT_LOADED;
        }
    }
    if let Ok(mut state) = STATE.lock() {
        if let Some(state) = state.as_mut().filter(|it| it.users > 0 && it.path == path) {
            state.users += 1;
            return code;
        }
        *state = Some(State {
            script,
            path,
            users: 1,
            began_ns: clock::now(),
            fixed_ns: None,
        });
    }
    code
}

/// As [`nvmlInit_v2`]; the flags change nothing.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlInitWithFlags(_flags: c_uint) -> nvmlReturn_t {
    nvmlInit_v2()
}

/// Forgets nothing: another user of the library in this process goes on.
#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> nvmlReturn_t {
    with_state(|state| {
        state.users = state.users.saturating_sub(1);
        SUCCESS
    })
}

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
fn with_settings(
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
