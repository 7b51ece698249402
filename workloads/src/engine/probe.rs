//! The devices that this program can compute on, found out by computing on them.

use std::io::{self, Write};

use candle_core::Tensor;

use super::compute::Compute;
use super::error::EngineError;
use super::path_on;
use crate::device::{ComputeDevice, Precision, Probed, ProbedDevice};

/// GPUs that are tried at most.
const MOST_GPUS: u32 = 64;

/// Tries one GPU after another.
///
/// # Errors
/// Output that cannot be written.
pub fn run_probe(mut output: impl Write) -> io::Result<()> {
    let mut devices = Vec::new();
    let mut then = format!("{MOST_GPUS} are tried at most");
    for number in 0..MOST_GPUS {
        match probe(ComputeDevice::Cuda(number)) {
            Ok(device) => devices.push(device),
            Err(error) => {
                then = error.to_string();
                break;
            }
        }
    }
    let probed = Probed {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        devices,
        then,
    };
    serde_json::to_writer_pretty(&mut output, &probed)?;
    writeln!(output)
}

/// A product of two small matrices, which a device must get right.
fn probe(name: ComputeDevice) -> Result<ProbedDevice, EngineError> {
    let compute = Compute::open(name, Precision::F32)?;
    let probing = || EngineError::tensor("multiplying two small matrices");
    let numbers: Vec<f32> = (1_u8..=16).map(f32::from).collect();
    let product = |device: &candle_core::Device| {
        let matrix = Tensor::from_slice(&numbers, (4, 4), device)?;
        matrix.matmul(&matrix)?.to_vec2::<f32>()
    };
    let found = product(compute.device()).map_err(probing())?;
    let expected = product(&candle_core::Device::Cpu).map_err(probing())?;
    // Whole numbers below 2^24: exact in any order of summing.
    if found != expected {
        return Err(EngineError::Device {
            device: name,
            reason: "it multiplies two small matrices wrongly".to_owned(),
        });
    }
    Ok(ProbedDevice {
        device: name,
        engine_path: path_on(&compute),
    })
}
