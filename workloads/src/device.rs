//! Where a model computes, and in which numbers; said without the engine, which opens it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

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

/// The numbers that weights and hidden states are kept in. Beside f32, blocks of GGUF stay what they are; in any
/// other precision they become numbers of it, because nothing multiplies them with such.
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

/// Where a process computes, and in which numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ComputeSettings {
    /// The device, as the process sees it.
    pub device: ComputeDevice,
    /// What dense weights and hidden states are kept in.
    pub precision: Precision,
}

impl ComputeSettings {
    /// Whether these are those of a process that was told nothing.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == ComputeSettings::default()
    }
}

/// A device that computed what it was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbedDevice {
    /// Its name in jobs.
    pub device: ComputeDevice,
    /// Library and kernels.
    pub engine_path: String,
}

/// What `hexloop-engine-cuda probe` tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// Version of hexloop that it was built from.
    pub version: String,
    /// The GPUs that compute.
    pub devices: Vec<ProbedDevice>,
    /// Why there are no more.
    pub then: String,
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
}
