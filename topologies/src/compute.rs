//! Where a node's engine computes: how it is read from a file.

use hexloop_workloads::device::{ComputeDevice, ComputeSettings, Precision};

use crate::check::Reporter;
use crate::problem::quoted;
use crate::section::Section;

/// A node's device and precision, and the UUID or number of its GPU if that device is one. Its
/// processes see that GPU alone, as the first one.
pub(crate) fn node(
    reporter: &mut Reporter<'_>,
    section: &Section<'_>,
) -> (ComputeSettings, Option<String>) {
    let device = section.text("device");
    let gpu = match device.parse() {
        Ok(ComputeDevice::Cpu) => None,
        Ok(ComputeDevice::Cuda(number)) => Some(number.to_string()),
        Err(_) if is_uuid(&device) => Some(device),
        Err(_) => {
            let message = format!("`device`: {} is no device", quoted(&device));
            let help = "write `cpu`, `cuda:0`, or the UUID of a GPU (`hexloop doctor` lists them)";
            reporter.report(section.place("device"), message, Some(help.to_owned()));
            None
        }
    };
    let precision = section.text("precision").parse().unwrap_or_default();
    let mut refuse = |key: &str, message: &str, help: &str| {
        let message = message.to_owned();
        reporter.report(section.place(key), message, Some(help.to_owned()));
    };
    match &gpu {
        None if precision == Precision::Bf16 => refuse(
            "precision",
            "`precision`: CPUs do not multiply bf16 here",
            "choose f32 or f16, or a GPU as `device`",
        ),
        // 1 slows nothing down: with it the command line takes out what a file says.
        Some(_) if section.sound("slowdown").is_some() && section.integer("slowdown") > 1 => {
            refuse(
                "slowdown",
                "`slowdown` multiplies CPU time, and this node computes on a GPU",
                "take it out (on the command line: set it to 1), or lock the GPU's clock (`gpu_clock_mhz`)",
            );
        }
        Some(gpu)
            if section
                .optional_text("gpu")
                .is_some_and(|other| other != *gpu) =>
        {
            refuse(
                "gpu",
                "`gpu` names another GPU than `device`",
                "take it out: the device is the node's GPU",
            );
        }
        _ => {}
    }
    let device = match gpu {
        Some(_) => ComputeDevice::Cuda(0),
        None => ComputeDevice::Cpu,
    };
    (ComputeSettings { device, precision }, gpu)
}

/// Whether a text has the form of a GPU's UUID, as the driver gives it.
pub(crate) fn is_uuid(text: &str) -> bool {
    text.starts_with("GPU-") || text.starts_with("MIG-")
}
