//! What NVML refuses, in words.

use nvml_wrapper::error::{NvmlError, nvml_try};

use crate::Trouble;
use crate::sys::nvml::FieldError;

/// Something about the library or the machine failed.
pub(super) fn failed(what: &str, error: &NvmlError) -> Trouble {
    Trouble::Failed {
        what: what.to_owned(),
        reason: nvml_reason(error),
    }
}

/// An error of NVML in words. Without its library there is no driver, which is no mystery of a loader.
#[must_use]
pub fn nvml_reason(error: &NvmlError) -> String {
    match error {
        NvmlError::LibloadingError(library) => format!("no NVIDIA driver ({library})"),
        _ => error.to_string(),
    }
}

/// Why a device does not tell something.
pub(super) fn of_call(uuid: &str, what: &str, error: &NvmlError) -> Trouble {
    match error {
        NvmlError::GpuLost => Trouble::Lost {
            device: uuid.to_owned(),
            reason: error.to_string(),
        },
        NvmlError::NotSupported => Trouble::NotSupported {
            source_name: uuid.to_owned(),
            what: what.to_owned(),
        },
        NvmlError::NoPermission => Trouble::NoPermission {
            what: format!("{what} of {uuid}"),
            remedy: "run as root".to_owned(),
        },
        _ => failed(&format!("{what} of {uuid}"), error),
    }
}

/// Why a device does not tell a field; `None` is a field that reads as 0.
pub(super) fn of_field(uuid: &str, what: &str, error: Option<FieldError>) -> Trouble {
    match error {
        None => of_call(uuid, what, &NvmlError::NotSupported),
        Some(FieldError(code)) => match code.map(nvml_try) {
            Some(Err(error)) => of_call(uuid, what, &error),
            _ => Trouble::Failed {
                what: format!("{what} of {uuid}"),
                reason: "it is no whole number, or the library knows no fields".to_owned(),
            },
        },
    }
}
