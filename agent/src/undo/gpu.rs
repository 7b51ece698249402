//! Settings of a GPU that NVML changes, with the value that they had.
//!
//! Notes do not name a library: what a note names would be loaded as root. Whoever puts another
//! library in NVML's place (`HEXLOOP_NVML_LIBRARY`) does it for the undoing too.

use std::fmt;
use std::io;

use hexloop_telemetry::Places;
use nvml_wrapper::Nvml;
use nvml_wrapper::device::Device;
use nvml_wrapper::enums::device::GpuLockedClocksSetting;
use nvml_wrapper::error::NvmlError;
use serde::{Deserialize, Serialize};

/// A setting of a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GpuSetting {
    /// Whether the driver stays loaded without users: 0 or 1.
    PersistenceMode,
    /// The power limit in milliwatts.
    PowerLimit,
    /// The clock that the multiprocessors are held to, in MHz; 0 leaves it to the driver. NVML has
    /// no call that tells it: what was locked before is not known, and undone is unlocked.
    LockedClock,
}

impl fmt::Display for GpuSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GpuSetting::PersistenceMode => "persistence mode",
            GpuSetting::PowerLimit => "power limit",
            GpuSetting::LockedClock => "locked clock",
        })
    }
}

impl GpuSetting {
    /// The word in the list of allowed settings of `agent.toml`.
    pub const CLASS: &'static str = "nvml";

    /// What it is now on the GPU of that unique id; for a locked clock 0.
    ///
    /// # Errors
    /// There is no driver, no such GPU, or it does not tell.
    pub fn read(self, gpu: &str) -> io::Result<u32> {
        let nvml = nvml().map_err(io::Error::other)?;
        let device = nvml.device_by_uuid(gpu).map_err(io::Error::other)?;
        self.read_from(&device)
    }

    /// Sets it, and reads it back where NVML tells it.
    ///
    /// # Errors
    /// There is no driver, no such GPU, it refuses, or is not what was set.
    pub(crate) fn write(self, gpu: &str, value: u32) -> io::Result<()> {
        let nvml = nvml().map_err(io::Error::other)?;
        let mut device = nvml.device_by_uuid(gpu).map_err(io::Error::other)?;
        self.write_to(&mut device, value)
    }

    fn read_from(self, device: &Device<'_>) -> io::Result<u32> {
        let read = match self {
            GpuSetting::PersistenceMode => device.is_in_persistent_mode().map(u32::from),
            GpuSetting::PowerLimit => device.power_management_limit(),
            GpuSetting::LockedClock => Ok(0),
        };
        read.map_err(io::Error::other)
    }

    fn write_to(self, device: &mut Device<'_>, value: u32) -> io::Result<()> {
        let written = match self {
            GpuSetting::PersistenceMode => device.set_persistent(value != 0),
            GpuSetting::PowerLimit => device.set_power_management_limit(value),
            GpuSetting::LockedClock if value == 0 => device.reset_gpu_locked_clocks(),
            GpuSetting::LockedClock => {
                device.set_gpu_locked_clocks(GpuLockedClocksSetting::Numeric {
                    min_clock_mhz: value,
                    max_clock_mhz: value,
                })
            }
        };
        written.map_err(io::Error::other)?;
        match self {
            GpuSetting::LockedClock => Ok(()),
            _ => read_back(value, self.read_from(device)?),
        }
    }

    /// Puts the old value back, unless somebody else has changed it since.
    pub(super) fn restore(self, gpu: &str, old: u32, ours: u32) -> io::Result<bool> {
        let nvml = match nvml() {
            Ok(nvml) => nvml,
            // Without its driver a card has no settings.
            Err(NvmlError::DriverNotLoaded | NvmlError::LibraryNotFound) => return Ok(true),
            Err(error) => return Err(io::Error::other(error)),
        };
        let mut device = match nvml.device_by_uuid(gpu) {
            Ok(device) => device,
            // A card that was taken out, or fell off the bus, took its settings along.
            Err(NvmlError::NotFound | NvmlError::InvalidArg | NvmlError::GpuLost) => {
                return Ok(true);
            }
            Err(error) => return Err(io::Error::other(error)),
        };
        let is_ours = match self {
            GpuSetting::LockedClock => ours != old,
            _ => is_ours_to_restore(self.read_from(&device)?, old, ours),
        };
        if is_ours {
            self.write_to(&mut device, old)?;
        }
        Ok(true)
    }
}

/// NVML, or what a test has put in its place.
pub(crate) fn nvml() -> Result<Nvml, NvmlError> {
    let places = Places::from_environment();
    let mut builder = Nvml::builder();
    if let Some(path) = &places.nvml {
        builder.lib_path(path.as_os_str());
    }
    builder.init()
}

/// Whether what we set is still there, and differs from what was there before.
const fn is_ours_to_restore(now: u32, old: u32, ours: u32) -> bool {
    now == ours && now != old
}

fn read_back(asked: u32, now: u32) -> io::Result<()> {
    if now == asked {
        return Ok(());
    }
    let message = format!("it reads {now} after {asked} was set");
    Err(io::Error::other(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_still_ours_is_put_back() {
        assert!(is_ours_to_restore(300_000, 400_000, 300_000));
        assert!(!is_ours_to_restore(350_000, 400_000, 300_000), "theirs now");
        assert!(!is_ours_to_restore(1, 1, 1), "it was so before");
    }

    #[test]
    fn what_was_set_and_did_not_stay_is_an_error() {
        read_back(7, 7).unwrap();
        let error = read_back(7, 8).unwrap_err().to_string();
        assert!(error.contains('7') && error.contains('8'), "{error}");
    }
}
