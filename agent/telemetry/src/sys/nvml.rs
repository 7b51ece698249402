//! `nvmlDeviceGetFieldValues` with scopes, which the wrapper leaves at 0.

use nvml_wrapper::Device;
use nvml_wrapper_sys::bindings::{nvmlFieldValue_t, nvmlReturn_t, nvmlValue_t};

/// A field of a device in a scope: 0 is the GPU, 1 the module, 2 the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Field {
    /// `NVML_FI_DEV_...` of nvml.h.
    pub(crate) id: u32,
    /// `NVML_POWER_SCOPE_...` of nvml.h.
    pub(crate) scope: u32,
}

/// The function is missing in the library, or failed as a whole: NVML's code, if it gave one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FieldError(pub(crate) Option<nvmlReturn_t>);

/// Reads whole-number fields of one device in one call, in order; each its value or NVML's code.
pub(crate) fn field_values(
    device: &Device<'_>,
    fields: &[Field],
    values: &mut Vec<Result<u64, FieldError>>,
) -> Result<(), FieldError> {
    values.clear();
    let Ok(function) = device.nvml().lib().nvmlDeviceGetFieldValues.as_ref() else {
        return Err(FieldError(None));
    };
    let mut raw: Vec<nvmlFieldValue_t> = fields
        .iter()
        .map(|field| nvmlFieldValue_t {
            fieldId: field.id,
            scopeId: field.scope,
            timestamp: 0,
            latencyUsec: 0,
            valueType: 0,
            nvmlReturn: 0,
            value: nvmlValue_t { ullVal: 0 },
        })
        .collect();
    let count = i32::try_from(raw.len()).map_err(|_too_many| FieldError(None))?;
    #[expect(unsafe_code, reason = "the wrapper cannot ask for a scope")]
    // SAFETY: the handle is used only while the device, and with it the library, is borrowed.
    let handle = unsafe { device.handle() };
    #[expect(unsafe_code, reason = "the wrapper cannot ask for a scope")]
    // SAFETY: `raw` has `count` live elements of the structure that the function fills.
    let code = unsafe { function(handle, count, raw.as_mut_ptr()) };
    if code != 0 {
        return Err(FieldError(Some(code)));
    }
    values.extend(raw.iter().map(|value| {
        if value.nvmlReturn == 0 {
            whole(value)
        } else {
            Err(FieldError(Some(value.nvmlReturn)))
        }
    }));
    Ok(())
}

/// The value by its type (`nvmlValueType_t` of nvml.h): 1 unsigned int, 2 unsigned long, 3 unsigned
/// long long. Others are not whole numbers that may be added up.
fn whole(value: &nvmlFieldValue_t) -> Result<u64, FieldError> {
    match value.valueType {
        1 => {
            #[expect(unsafe_code, reason = "the value is a union")]
            // SAFETY: every bit pattern is a valid integer, and the value type says which it is.
            let number = unsafe { value.value.uiVal };
            Ok(u64::from(number))
        }
        2 | 3 => {
            #[expect(unsafe_code, reason = "the value is a union")]
            // SAFETY: as above; both types have 64 bits on the platforms that NVML exists for.
            let number = unsafe { value.value.ullVal };
            Ok(number)
        }
        _ => Err(FieldError(None)),
    }
}
