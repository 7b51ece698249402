//! The functions by NVML's names.
#![expect(
    unsafe_code,
    reason = "a library with C functions is what this crate is for"
)]

pub mod gpm;
pub mod identity;
pub mod power;
pub mod settings;
pub mod state;

use std::ffi::{CStr, OsString, c_char, c_uint, c_ulonglong};
use std::os::unix::ffi::OsStringExt as _;
use std::sync::Mutex;

use hexloop_workloads::clock;
use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlReturn_t};

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
