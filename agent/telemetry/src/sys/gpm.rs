//! The last sample of a GPU's performance counters (GPM), kept from look to look.

use nvml_wrapper::enums::gpm::GpmMetricId;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::gpm::{GpmSample, gpm_metrics_get};
use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings::nvmlGpmSample_t;

/// A sample that outlives the borrow of the library that it came from. Its owner keeps the library
/// loaded, and gives it back with [`LastSample::free`].
#[derive(Debug, Default)]
pub(crate) struct LastSample(Option<nvmlGpmSample_t>);

#[expect(unsafe_code, reason = "a handle is a pointer")]
// SAFETY: a sample belongs to no thread (nvml.h); it is only used through `&mut self`.
unsafe impl Send for LastSample {}

impl LastSample {
    /// Takes a sample: each metric between the last one and this; none the first time.
    ///
    /// # Errors
    /// The device has no such counters, or they cannot be read.
    pub(crate) fn next(
        &mut self,
        device: &Device<'_>,
        metrics: &[GpmMetricId],
    ) -> Result<Option<Vec<Option<f64>>>, NvmlError> {
        let now = device.gpm_sample()?;
        let before = self.0.take().map(|handle| {
            #[expect(unsafe_code, reason = "the wrapper's sample borrows the library")]
            // SAFETY: the handle came from a sample of the same library, which gave it up.
            unsafe {
                GpmSample::from_handle(device.nvml(), handle)
            }
        });
        let outcome = before
            .map(|before| gpm_metrics_get(device.nvml(), &before, &now, metrics))
            .transpose();
        self.0 = Some(now.into_handle());
        let values = outcome?.map(|results| {
            let values = results.into_iter();
            values.map(|one| one.ok().map(|one| one.value)).collect()
        });
        Ok(values)
    }

    /// Gives it back to the library that it came from.
    pub(crate) fn free(&mut self, nvml: &Nvml) {
        if let Some(handle) = self.0.take() {
            #[expect(unsafe_code, reason = "the wrapper's sample borrows the library")]
            // SAFETY: as above; dropping the sample frees it.
            drop(unsafe { GpmSample::from_handle(nvml, handle) });
        }
    }
}
