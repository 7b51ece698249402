//! GPUs of nodes: found by UUID or number, and set for the time of a run where that is allowed.

use std::path::Path;

use hexloop_proto::AskedAndGot;
use hexloop_telemetry::nvml_reason;
use hexloop_topologies::plan::{GpuPlan, Plan};
use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor};

use super::topology::{node_of_device, nodes_of, numa_nodes};
use super::{IsolationError, Settled, Settling, ranges};
use crate::change::Changes;
use crate::undo::{GpuSetting, nvml};

/// A GPU of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gpu {
    /// Its number.
    pub(crate) number: u32,
    /// Its UUID.
    pub(crate) uuid: String,
    /// What it is called.
    pub(crate) name: String,
    /// Its NUMA node, where the firmware says it.
    pub(crate) numa_node: Option<u32>,
    /// Least and largest power limit, in milliwatts.
    pub(crate) power_limits_mw: Option<(u32, u32)>,
}

/// The GPUs of this machine, or why none can be found.
pub(crate) fn list(root: &Path) -> Result<Vec<Gpu>, String> {
    let nvml = nvml().map_err(|error| nvml_reason(&error))?;
    let count = nvml.device_count().map_err(|error| nvml_reason(&error))?;
    let one = |number| {
        let device = nvml.device_by_index(number)?;
        let bus_id = device.pci_info().ok().map(|info| info.bus_id);
        let limits = device.power_management_limit_constraints().ok();
        Ok(Gpu {
            number,
            uuid: device.uuid()?,
            name: device.name().unwrap_or_default(),
            numa_node: bus_id.and_then(|bus_id| node_of_device(root, &bus_id)),
            power_limits_mw: limits.map(|limits| (limits.min_limit, limits.max_limit)),
        })
    };
    let gpus: Result<Vec<Gpu>, nvml_wrapper::error::NvmlError> = (0..count).map(one).collect();
    gpus.map_err(|error| error.to_string())
}

/// The GPU that is meant by a UUID or a number.
fn find<'a>(gpus: &'a [Gpu], asked: &str) -> Option<&'a Gpu> {
    gpus.iter()
        .find(|gpu| gpu.uuid == asked || asked.parse() == Ok(gpu.number))
}

fn unknown(node: &str, asked: &str, gpus: &Result<Vec<Gpu>, String>) -> IsolationError {
    let known = match gpus {
        Ok(gpus) if gpus.is_empty() => "it has no GPU".to_owned(),
        Ok(gpus) => {
            let words = gpus
                .iter()
                .map(|gpu| format!("{} is {} ({})", gpu.number, gpu.uuid, gpu.name));
            words.collect::<Vec<_>>().join("; ")
        }
        Err(why) => format!("none can be found: {why}"),
    };
    IsolationError::UnknownGpu {
        node: node.to_owned(),
        asked: asked.to_owned(),
        known,
    }
}

pub(super) fn settle(
    settling: &Settling<'_>,
    plan: &Plan,
    changes: &mut Changes<'_>,
    settled: &mut Settled,
) -> Result<(), IsolationError> {
    let wanted: Vec<(&str, &[u32], &GpuPlan)> = plan
        .nodes
        .iter()
        .filter_map(|node| {
            let gpu = node.isolation.gpu.as_ref()?;
            Some((node.name.as_str(), node.cpus.as_slice(), gpu))
        })
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let known = list(settling.root);
    let gpus = known.as_deref().unwrap_or_default();
    let numa = numa_nodes(settling.root);
    for (node, cpus, asked) in wanted {
        let gpu = find(gpus, &asked.gpu).ok_or_else(|| unknown(node, &asked.gpu, &known))?;
        let near = nodes_of(&numa, cpus);
        let place = gpu.numa_node.filter(|_| numa.len() > 1);
        settled.settings.push(AskedAndGot {
            what: format!("GPU of {node}"),
            asked: Some(asked.gpu.clone()),
            got: Some(gpu.uuid.clone()),
            note: Some(match place {
                Some(place) => format!("{}, on NUMA node {place}", gpu.name),
                None => gpu.name.clone(),
            }),
            held: Some(true),
            ..AskedAndGot::default()
        });
        if let Some(place) = place.filter(|place| !near.contains(place)) {
            let near = ranges(&near);
            settled.warnings.push(format!(
                "the GPU of node {node} is on NUMA node {place}, its CPUs are on {near}"
            ));
        }
        settled.gpus.insert(node.to_owned(), gpu.uuid.clone());
        set(settling, gpu, asked, changes, &mut settled.settings)?;
    }
    Ok(())
}

fn set(
    settling: &Settling<'_>,
    gpu: &Gpu,
    asked: &GpuPlan,
    changes: &mut Changes<'_>,
    settings: &mut Vec<AskedAndGot>,
) -> Result<(), IsolationError> {
    if let (Some(limit), Some((least, most))) = (asked.power_limit_mw, gpu.power_limits_mw)
        && !(least..=most).contains(&limit)
    {
        return Err(IsolationError::NotOffered {
            what: format!("the power limit of {}", gpu.uuid),
            asked: format!("{} W", limit / 1000),
            offered: format!("{} to {} W", least.div_ceil(1000), most / 1000),
        });
    }
    let wishes = [
        (GpuSetting::PersistenceMode, asked.persistence.then_some(1)),
        (GpuSetting::PowerLimit, asked.power_limit_mw),
        (GpuSetting::LockedClock, asked.clock_mhz),
    ];
    for (setting, wish) in wishes {
        let what = format!("{setting} of {}", gpu.uuid);
        let in_words = |value: u32| words(setting, value);
        let before = setting.read(&gpu.uuid).ok();
        if let Some(value) = wish {
            changes.gpu(settling.allowed, &gpu.uuid, setting, value)?;
        }
        if setting == GpuSetting::LockedClock {
            // The driver does not tell what was locked: the clock itself is what can be read.
            let clock = current_clock_mhz(&gpu.uuid);
            settings.push(AskedAndGot {
                what,
                asked: wish.map(in_words),
                got: clock.map(in_words),
                note: Some("got is the present clock: NVML has no call for the lock".to_owned()),
                ..AskedAndGot::default()
            });
            continue;
        }
        let got = setting.read(&gpu.uuid).ok();
        settings.push(AskedAndGot {
            what,
            asked: wish.map(in_words),
            before: before.map(in_words),
            got: got.map(in_words),
            note: got.is_none().then(|| "its driver does not tell".to_owned()),
            held: wish.map(|wish| got == Some(wish)),
        });
    }
    Ok(())
}

fn words(setting: GpuSetting, value: u32) -> String {
    match setting {
        GpuSetting::PersistenceMode => if value == 0 { "off" } else { "on" }.to_owned(),
        GpuSetting::PowerLimit => format!("{} W", value / 1000),
        GpuSetting::LockedClock => format!("{value} MHz"),
    }
}

fn current_clock_mhz(uuid: &str) -> Option<u32> {
    let nvml = nvml().ok()?;
    let device = nvml.device_by_uuid(uuid).ok()?;
    device.clock_info(Clock::Graphics).ok()
}

/// The temperature of GPUs.
pub(crate) struct Thermometer {
    nvml: Nvml,
    uuids: Vec<String>,
}

impl Thermometer {
    /// For these GPUs.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub(crate) fn of(uuids: Vec<String>) -> Result<Thermometer, String> {
        let nvml = nvml().map_err(|error| error.to_string())?;
        Ok(Thermometer { nvml, uuids })
    }

    /// The hottest of them, in degrees Celsius.
    pub(crate) fn hottest_c(&self) -> Result<i32, String> {
        let mut hottest = None;
        for uuid in &self.uuids {
            let device = self.nvml.device_by_uuid(uuid.as_str());
            let read = device.and_then(|device| device.temperature(TemperatureSensor::Gpu));
            let degrees = read.map_err(|error| format!("{uuid}: {error}"))?;
            let degrees = i32::try_from(degrees).unwrap_or(i32::MAX);
            hottest = Some(hottest.map_or(degrees, |before: i32| before.max(degrees)));
        }
        hottest.ok_or_else(|| "no GPU".to_owned())
    }
}
