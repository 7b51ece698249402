//! The device that a model computes on, opened.

use candle_core::{DType, Device, Tensor};

use super::error::{EngineError, first_line};
use super::memory::{self, Left};
use crate::device::{ComputeDevice, Precision};

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
        match self.precision {
            Precision::F32 => DType::F32,
            Precision::F16 => DType::F16,
            Precision::Bf16 => DType::BF16,
        }
    }

    /// Whether matrices in blocks of few bits are multiplied as they are: both the engine and the tensor library
    /// have products of blocks with f32 alone.
    pub(crate) const fn keeps_blocks(&self) -> bool {
        matches!(self.precision, Precision::F32)
    }

    /// Bytes of one of its numbers.
    pub(crate) fn number_bytes(&self) -> u64 {
        u64::try_from(self.dtype().size_in_bytes()).unwrap_or(u64::MAX)
    }

    /// Memory that a tensor of that shape occupies in its numbers.
    pub(crate) fn tensor_bytes(&self, shape: &[u32]) -> u64 {
        let sizes = shape.iter().copied().map(u64::from);
        sizes.fold(self.number_bytes(), u64::saturating_mul)
    }

    /// What its memory has left; `None` where nobody can tell.
    pub(crate) fn memory_left(&self) -> Option<Left> {
        match &self.device {
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => {
                let (free, _) = device.cuda_stream().context().mem_get_info().ok()?;
                Some(Left {
                    bytes: u64::try_from(free).unwrap_or(u64::MAX),
                    source: format!("free memory of {}", self.name),
                })
            }
            device if device.is_cpu() => memory::of_machine(),
            _ => None,
        }
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
