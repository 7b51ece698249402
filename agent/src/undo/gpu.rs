//! Settings of a GPU that NVML changes, with the value that they had.

use std::fmt;
use std::io;

use nvml_wrapper::Nvml;
use nvml_wrapper::device::Device;
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
}

impl fmt::Display for GpuSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            GpuSetting::PersistenceMode => "persistence mode",
            GpuSetting::PowerLimit => "power limit",
        })
    }
}

impl GpuSetting {
    fn read(self, device: &Device<'_>) -> Result<u32, NvmlError> {
        match self {
            GpuSetting::PersistenceMode => device.is_in_persistent_mode().map(u32::from),
            GpuSetting::PowerLimit => device.power_management_limit(),
        }
    }

    fn write(self, device: &mut Device<'_>, value: u32) -> Result<(), NvmlError> {
        match self {
            GpuSetting::PersistenceMode => device.set_persistent(value != 0),
            GpuSetting::PowerLimit => device.set_power_management_limit(value),
        }
    }

    /// Puts the old value back, unless somebody else has changed it since.
    pub(super) fn restore(self, gpu: &str, old: u32, ours: u32) -> io::Result<bool> {
        let nvml = Nvml::init().map_err(io::Error::other)?;
        let mut device = match nvml.device_by_uuid(gpu) {
            Ok(device) => device,
            // A card that was taken out took its settings along.
            Err(NvmlError::NotFound | NvmlError::InvalidArg) => return Ok(true),
            Err(error) => return Err(io::Error::other(error)),
        };
        let now = self.read(&device).map_err(io::Error::other)?;
        if now == ours && now != old {
            self.write(&mut device, old).map_err(io::Error::other)?;
        }
        Ok(true)
    }
}
