//! The program that computes on GPUs, started to try them.

use super::{Check, Outcome};
use crate::engine_cuda;
use crate::node::with_causes;

/// Whether jobs can say `device = "cuda:0"`.
pub(super) fn check() -> Check {
    let name = "GPU engine";
    let probed = engine_cuda::find().and_then(|program| {
        let probed = engine_cuda::probe(&program, None)?;
        Ok((program, probed))
    });
    match probed {
        Ok((program, probed)) => {
            let devices = probed.devices.iter().map(|one| one.device.to_string());
            let devices: Vec<String> = devices.collect();
            let detail = format!("{} on {}", program.display(), devices.join(", "));
            Check::new(name, Outcome::Works, detail)
        }
        Err(error) => Check::new(name, Outcome::Limited, with_causes(&error)),
    }
}
