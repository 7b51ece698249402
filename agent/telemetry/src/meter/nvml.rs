//! GPUs of NVIDIA through NVML.

mod pace;
mod refusal;
mod state;

use std::path::Path;

use hexloop_workloads::clock;
use nvml_wrapper::enums::device::DeviceArchitecture;
use nvml_wrapper::{Device, Nvml};

use super::{Meter, Reading, Subject};
use crate::sys::nvml::{Field, FieldError, field_values};
use crate::{Channel, Origin, Quality, Quantity, Scope, Trouble};

use pace::Pace;
use refusal::failed;
pub use refusal::nvml_reason;
use state::Seen;
pub use state::{GpuActivity, GpuProcess, GpuState};

/// `NVML_FI_DEV_POWER_AVERAGE`: averaged over one second.
const POWER_AVERAGE: u32 = 185;
/// `NVML_FI_DEV_POWER_INSTANT`.
const POWER_INSTANT: u32 = 186;
/// `NVML_POWER_SCOPE_GPU`, `_MODULE`, `_MEMORY`.
const SCOPES: [(u32, Scope); 3] = [(0, Scope::Gpu), (1, Scope::Module), (2, Scope::GpuMemory)];
/// The window of averages, by the documentation of `nvmlDeviceGetPowerUsage`.
const AVERAGE_WINDOW_NS: u64 = 1_000_000_000;

/// What a GPU's name holds where a test's library stands in for NVML.
const STUB_MARK: &str = "stub";

/// The energy counters and powers of every GPU.
pub struct NvmlMeter {
    nvml: Nvml,
    gpus: Vec<Gpu>,
    channels: Vec<Channel>,
    withheld: Vec<(Subject, Trouble)>,
    values: Vec<Result<u64, FieldError>>,
}

struct Gpu {
    index: u32,
    uuid: String,
    counter: bool,
    counter_pace: Pace,
    fields: Vec<Field>,
    /// `nvmlDeviceGetPowerUsage`, where no field tells power.
    usage: bool,
    /// What is kept from look to look at the slow things.
    seen: Seen,
}

impl std::fmt::Debug for NvmlMeter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NvmlMeter")
            .field("channels", &self.channels)
            .finish_non_exhaustive()
    }
}

impl NvmlMeter {
    /// Loads NVML (from `library` if one is named) and tries what each GPU supports.
    ///
    /// # Errors
    /// No library, no driver, or no GPU that tells energy or power.
    pub fn find(library: Option<&Path>) -> Result<NvmlMeter, Trouble> {
        let mut builder = Nvml::builder();
        if let Some(path) = library {
            builder.lib_path(path.as_os_str());
        }
        let nvml = builder.init().map_err(|error| failed("NVML", &error))?;
        let count = nvml
            .device_count()
            .map_err(|error| failed("the number of GPUs", &error))?;
        let (mut gpus, mut channels, mut withheld) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..count {
            let device = nvml
                .device_by_index(index)
                .map_err(|error| failed(&format!("GPU {index}"), &error))?;
            let gpu = probe(&device, index, &mut channels, &mut withheld)?;
            gpus.push(gpu);
        }
        if channels.is_empty() {
            return Err(Trouble::NotSupported {
                source_name: format!("NVML with {count} GPUs"),
                what: "energy or power of any of them".to_owned(),
            });
        }
        Ok(NvmlMeter {
            nvml,
            gpus,
            channels,
            withheld,
            values: Vec::new(),
        })
    }

    /// The version of the driver.
    #[must_use]
    pub fn driver(&self) -> String {
        let version = self.nvml.sys_driver_version();
        version.unwrap_or_else(|error| format!("unknown ({error})"))
    }
}

impl Drop for NvmlMeter {
    fn drop(&mut self) {
        for gpu in &mut self.gpus {
            gpu.seen.free(&self.nvml);
        }
    }
}

/// Adds the channels that a GPU supports, and what it withholds of those that others have.
fn probe(
    device: &Device<'_>,
    index: u32,
    channels: &mut Vec<Channel>,
    withheld: &mut Vec<(Subject, Trouble)>,
) -> Result<Gpu, Trouble> {
    let uuid = device
        .uuid()
        .map_err(|error| failed(&format!("the UUID of GPU {index}"), &error))?;
    let name = device.name().unwrap_or_default();
    let origin = if name.contains(STUB_MARK) {
        Origin::Stub
    } else {
        Origin::Hardware
    };
    let mut add = |scope: Scope, quantity: Quantity, source: String, counted: bool| {
        channels.push(Channel {
            device: uuid.clone(),
            scope,
            quantity,
            quality: Quality::Measured,
            source,
            counted,
            origin,
        });
    };
    let counter = match device.total_energy_consumption() {
        Ok(_) => {
            let quantity = Quantity::EnergyCounter { wraps_at_uj: None };
            add(Scope::Gpu, quantity, "NVML total energy".to_owned(), true);
            true
        }
        Err(error) => {
            let refusal = refusal::of_call(&uuid, "the energy counter", &error);
            withheld.push((Subject::Energy, refusal));
            false
        }
    };
    // A sample is the call that may be refused; that there are counters says nothing of that.
    if let Err(error) = device.gpm_sample() {
        let refusal = refusal::of_call(&uuid, "performance counters (GPM)", &error);
        withheld.push((Subject::Activity, refusal));
    }
    let asked: Vec<(Field, Scope)> = [POWER_INSTANT, POWER_AVERAGE]
        .into_iter()
        .flat_map(|id| SCOPES.map(|(scope, covers)| (Field { id, scope }, covers)))
        .collect();
    let fields: Vec<Field> = asked.iter().map(|(field, _)| *field).collect();
    let mut values = Vec::new();
    let mut kept = Vec::new();
    if let Err(error) = field_values(device, &fields, &mut values) {
        values = vec![Err(error); fields.len()];
    }
    for ((field, scope), value) in asked.iter().zip(&values) {
        let (quantity, name) = if field.id == POWER_INSTANT {
            (Quantity::InstantPower, "POWER_INSTANT")
        } else {
            let window_ns = Some(AVERAGE_WINDOW_NS);
            (Quantity::AveragePower { window_ns }, "POWER_AVERAGE")
        };
        let source = format!("NVML field {} ({name}), {}", field.id, scope.name());
        // A scope that is not there reads as 0 on some drivers instead of failing.
        if matches!(value, Ok(1..)) {
            kept.push(*field);
            let counted = *scope == Scope::Gpu && field.id == POWER_INSTANT && !counter;
            add(*scope, quantity, source, counted);
        } else if *scope == Scope::Gpu {
            // Of the other scopes most GPUs have none.
            let field = format!("the field {} ({name})", field.id);
            let refusal = refusal::of_field(&uuid, &field, value.err());
            withheld.push((Subject::Power, refusal));
        }
    }
    let usage = kept.is_empty() && device.power_usage().is_ok();
    if usage {
        let (quantity, what) = usage_quantity(device);
        let source = format!("NVML power usage ({what})");
        add(Scope::Gpu, quantity, source, !counter);
    }
    Ok(Gpu {
        index,
        uuid,
        counter,
        fields: kept,
        usage,
        counter_pace: Pace::default(),
        seen: Seen::default(),
    })
}

/// `nvmlDeviceGetPowerUsage` is a one-second average from Ampere on, GA100 apart, and
/// instantaneous before (documentation of the call).
fn usage_quantity(device: &Device<'_>) -> (Quantity, &'static str) {
    let average = Quantity::AveragePower {
        window_ns: Some(AVERAGE_WINDOW_NS),
    };
    let is_ga100 = device.name().is_ok_and(|name| name.contains("A100"));
    match device.architecture() {
        Ok(
            DeviceArchitecture::Kepler
            | DeviceArchitecture::Maxwell
            | DeviceArchitecture::Pascal
            | DeviceArchitecture::Volta
            | DeviceArchitecture::Turing,
        ) => (Quantity::InstantPower, "instantaneous before Ampere"),
        Ok(DeviceArchitecture::Ampere) if is_ga100 => {
            (Quantity::InstantPower, "instantaneous on GA100")
        }
        Ok(_) => (average, "average over 1 s"),
        Err(_) => (
            Quantity::AveragePower { window_ns: None },
            "average or instantaneous: the architecture is unknown",
        ),
    }
}

/// The energy counter, in microjoules, when it is due.
fn read_counter(device: &Device<'_>, uuid: &str, pace: &mut Pace) -> Reading {
    let began_ns = clock::now();
    if !pace.is_due(began_ns) {
        return Err(Trouble::NotDue {
            device: uuid.to_owned(),
            period_ns: pace.period_ns(),
        });
    }
    let millijoules = device.total_energy_consumption();
    pace.made(began_ns, clock::now());
    let microjoules = millijoules.map(|energy| energy.saturating_mul(1_000));
    microjoules.map_err(|error| refusal::of_call(uuid, "the energy counter", &error))
}

impl Meter for NvmlMeter {
    fn name(&self) -> &str {
        "NVML"
    }

    fn channels(&self) -> &[Channel] {
        &self.channels
    }

    fn withheld(&self) -> &[(Subject, Trouble)] {
        &self.withheld
    }

    fn gpu_states(&mut self) -> Vec<(String, Result<GpuState, Trouble>)> {
        let nvml = &self.nvml;
        let state = |gpu: &mut Gpu| {
            nvml.device_by_index(gpu.index)
                .map(|device| GpuState::read(&device, &mut gpu.seen))
                .map_err(|error| refusal::of_call(&gpu.uuid, "the device", &error))
        };
        let gpus = self.gpus.iter_mut();
        gpus.map(|gpu| (gpu.uuid.clone(), state(gpu))).collect()
    }

    fn read(&mut self, readings: &mut Vec<Reading>) {
        readings.clear();
        for gpu in &mut self.gpus {
            let device = match self.nvml.device_by_index(gpu.index) {
                Ok(device) => device,
                Err(error) => {
                    let count =
                        usize::from(gpu.counter) + gpu.fields.len() + usize::from(gpu.usage);
                    let trouble = refusal::of_call(&gpu.uuid, "the device", &error);
                    readings.extend(std::iter::repeat_n(Err(trouble), count));
                    continue;
                }
            };
            if gpu.counter {
                readings.push(read_counter(&device, &gpu.uuid, &mut gpu.counter_pace));
            }
            if !gpu.fields.is_empty() {
                match field_values(&device, &gpu.fields, &mut self.values) {
                    Ok(()) => readings.extend(self.values.iter().map(|value| {
                        let refused =
                            |error| refusal::of_field(&gpu.uuid, "a field of power", Some(error));
                        let milliwatts = value.map_err(refused)?;
                        Ok(milliwatts.saturating_mul(1_000))
                    })),
                    Err(error) => {
                        let trouble = refusal::of_field(&gpu.uuid, "fields of power", Some(error));
                        readings.extend(std::iter::repeat_n(Err(trouble), gpu.fields.len()));
                    }
                }
            }
            if gpu.usage {
                let milliwatts = device.power_usage();
                let microwatts = milliwatts.map(|power| u64::from(power) * 1_000);
                readings.push(
                    microwatts.map_err(|error| refusal::of_call(&gpu.uuid, "the power", &error)),
                );
            }
        }
    }
}
