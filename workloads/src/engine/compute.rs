//! Where a model computes, and in which numbers.

use std::fmt;
use std::str::FromStr;

use candle_core::{DType, Device, Tensor};
use serde::{Deserialize, Serialize};

use super::error::{EngineError, first_line};

/// The device that computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum ComputeDevice {
    /// The CPUs that the process may use.
    #[default]
    Cpu,
    /// An NVIDIA GPU, by its number among those that CUDA shows to the process.
    Cuda(u32),
}

/// The numbers that dense weights and hidden states are kept in. Blocks of GGUF stay what they are,
/// and hidden states beside them are f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an f32.
    Bf16,
}

impl fmt::Display for ComputeDevice {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ComputeDevice::Cpu => formatter.write_str("cpu"),
            ComputeDevice::Cuda(number) => write!(formatter, "cuda:{number}"),
        }
    }
}

impl FromStr for ComputeDevice {
    type Err = String;

    fn from_str(text: &str) -> Result<ComputeDevice, String> {
        let number = text.strip_prefix("cuda:").map(str::parse);
        match (text, number) {
            ("cpu", _) => Ok(ComputeDevice::Cpu),
            (_, Some(Ok(number))) => Ok(ComputeDevice::Cuda(number)),
            _ => Err(format!(
                "{text:?} is no device: say cpu, or cuda: and a number"
            )),
        }
    }
}

impl From<ComputeDevice> for String {
    fn from(device: ComputeDevice) -> String {
        device.to_string()
    }
}

impl TryFrom<String> for ComputeDevice {
    type Error = String;

    fn try_from(text: String) -> Result<ComputeDevice, String> {
        text.parse()
    }
}

impl Precision {
    /// All of them.
    pub const ALL: [Precision; 3] = [Precision::F32, Precision::F16, Precision::Bf16];

    /// As it is written in files and arguments.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::F16 => "f16",
            Precision::Bf16 => "bf16",
        }
    }

    pub(crate) const fn dtype(self) -> DType {
        match self {
            Precision::F32 => DType::F32,
            Precision::F16 => DType::F16,
            Precision::Bf16 => DType::BF16,
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Precision, String> {
        let found = Precision::ALL.into_iter().find(|one| one.name() == text);
        found.ok_or_else(|| format!("{text:?} is no precision: say f32, f16 or bf16"))
    }
}

/// A device that was opened, and the numbers that a model keeps on it.
#[derive(Debug, Clone)]
pub struct Compute {
    name: ComputeDevice,
    device: Device,
    precision: Precision,
}

impl Compute {
    /// The CPUs, in f32.
    #[must_use]
    pub const fn cpu() -> Compute {
        Compute {
            name: ComputeDevice::Cpu,
            device: Device::Cpu,
            precision: Precision::F32,
        }
    }

    /// Opens a device.
    ///
    /// # Errors
    /// A GPU where there is none or which this program was not built for, and bf16 on CPUs, which
    /// the tensor library does not multiply there.
    pub fn open(name: ComputeDevice, precision: Precision) -> Result<Compute, EngineError> {
        let refuse = |reason: String| EngineError::Device {
            device: name,
            reason,
        };
        let device = match name {
            ComputeDevice::Cpu if precision == Precision::Bf16 => {
                let reason = "CPUs do not multiply bf16 here: choose f32 or f16";
                return Err(refuse(reason.to_owned()));
            }
            ComputeDevice::Cpu => Device::Cpu,
            ComputeDevice::Cuda(_) if !cfg!(feature = "cuda") => {
                let reason = "this program computes on CPUs only; hexloop-engine-cuda, which \
                              .ci/cuda builds, computes on NVIDIA GPUs";
                return Err(refuse(reason.to_owned()));
            }
            ComputeDevice::Cuda(number) => {
                let number = usize::try_from(number).unwrap_or(usize::MAX);
                // One stream for all threads. The library's other constructor gives each thread
                // its own, and then what one thread wrote is read by another before it is there.
                let opened = Device::new_cuda_with_stream(number);
                opened.map_err(|error| refuse(first_line(&error)))?
            }
        };
        Ok(Compute {
            name,
            device,
            precision,
        })
    }

    /// Which device.
    #[must_use]
    pub const fn device_name(&self) -> ComputeDevice {
        self.name
    }

    /// Which numbers.
    #[must_use]
    pub const fn precision(&self) -> Precision {
        self.precision
    }

    pub(crate) const fn device(&self) -> &Device {
        &self.device
    }

    pub(crate) const fn dtype(&self) -> DType {
        self.precision.dtype()
    }

    /// A tensor as this device keeps it.
    pub(crate) fn place(&self, tensor: &Tensor) -> candle_core::Result<Tensor> {
        // Narrowed first, so that fewer bytes go to the device.
        tensor.to_dtype(self.dtype())?.to_device(&self.device)
    }

    /// Waits until the device has done all that it was told.
    ///
    /// # Errors
    /// Failures of the device.
    pub fn wait(&self) -> Result<(), EngineError> {
        let waited = self.device.synchronize();
        waited.map_err(EngineError::tensor("waiting for the device"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_and_precisions_are_read_as_they_are_written() {
        for device in [ComputeDevice::Cpu, ComputeDevice::Cuda(3)] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        for precision in Precision::ALL {
            assert_eq!(precision.to_string().parse(), Ok(precision));
        }
        for wrong in ["gpu", "cuda", "cuda:", "cuda:-1", "cuda:x"] {
            assert!(wrong.parse::<ComputeDevice>().is_err(), "{wrong}");
        }
        assert!("f64".parse::<Precision>().is_err());
    }

    #[test]
    #[cfg(not(feature = "cuda"))]
    fn what_this_program_cannot_compute_on_is_refused_with_what_can() {
        let refused = |device, precision| {
            let error = Compute::open(device, precision).unwrap_err();
            error.to_string()
        };
        assert!(refused(ComputeDevice::Cuda(0), Precision::F16).contains("hexloop-engine-cuda"));
        assert!(refused(ComputeDevice::Cpu, Precision::Bf16).contains("f32 or f16"));
    }
}
