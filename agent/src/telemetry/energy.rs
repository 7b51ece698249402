//! Energy of the machine over a span of time, from counters of the GPUs (NVML) and of the CPU
//! packages (RAPL). Without a counter there is no number, only the reason.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use hexloop_proto::Measurement;
use nvml_wrapper::Nvml;

/// Where Linux shows RAPL counters.
const POWERCAP: &str = "/sys/class/powercap";

/// The energy counters of this machine.
pub struct EnergyMeter {
    nvml: Result<Nvml, String>,
    packages: Vec<Package>,
    no_packages: String,
}

impl fmt::Debug for EnergyMeter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnergyMeter")
            .field("nvml", &self.nvml.as_ref().map(|_| "loaded"))
            .field("packages", &self.packages)
            .finish_non_exhaustive()
    }
}

/// A CPU package with a RAPL counter.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Package {
    counter: PathBuf,
    /// The counter starts again from 0 beyond this.
    range_uj: u64,
}

/// Every counter at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnergyReading {
    /// Millijoules per GPU; `None` where it could not be read.
    gpus_mj: Vec<Option<u64>>,
    /// Microjoules per package.
    packages_uj: Vec<Option<u64>>,
}

impl EnergyMeter {
    /// Looks for counters.
    #[must_use]
    pub fn new() -> EnergyMeter {
        EnergyMeter::with_powercap(Path::new(POWERCAP), true)
    }

    /// The same with RAPL below another root, and without NVML if it is not wanted.
    #[must_use]
    pub fn with_powercap(root: &Path, with_nvml: bool) -> EnergyMeter {
        let nvml = if with_nvml {
            Nvml::init().map_err(|error| format!("no NVML library ({error})"))
        } else {
            Err("no NVML library".to_owned())
        };
        let packages = packages_below(root);
        let no_packages = format!("no RAPL that can be read at {}", root.display());
        EnergyMeter {
            nvml,
            packages,
            no_packages,
        }
    }

    /// Which counters there are, or why there is none.
    ///
    /// # Errors
    /// There is no counter: the reason in words.
    pub fn describe(&self) -> Result<String, String> {
        let gpus = self
            .nvml
            .as_ref()
            .ok()
            .and_then(|nvml| nvml.device_count().ok())
            .unwrap_or(0);
        match (gpus, self.packages.len()) {
            (0, 0) => Err(self.why()),
            (gpus, packages) => Ok(source(usize::try_from(gpus).unwrap_or(0), packages)),
        }
    }

    fn why(&self) -> String {
        let nvml = match &self.nvml {
            Ok(_) => "no GPU with an energy counter",
            Err(why) => why,
        };
        format!("no sensor: {nvml}, {}", self.no_packages)
    }

    /// Reads every counter now.
    #[must_use]
    pub fn read(&self) -> EnergyReading {
        let mut gpus_mj = Vec::new();
        if let Ok(nvml) = &self.nvml {
            for index in 0..nvml.device_count().unwrap_or(0) {
                let device = nvml.device_by_index(index);
                gpus_mj.push(
                    device
                        .and_then(|device| device.total_energy_consumption())
                        .ok(),
                );
            }
        }
        let number = |path: &PathBuf| fs::read_to_string(path).ok()?.trim().parse().ok();
        let packages_uj = self
            .packages
            .iter()
            .map(|package| number(&package.counter))
            .collect();
        EnergyReading {
            gpus_mj,
            packages_uj,
        }
    }

    /// Energy between two readings, in joules.
    #[must_use]
    pub fn between(&self, before: &EnergyReading, after: &EnergyReading) -> Measurement {
        let unavailable = |why: String| Measurement::Unavailable { why };
        let mut millijoules = 0;
        let mut gpus = 0;
        for (before, after) in before.gpus_mj.iter().zip(&after.gpus_mj) {
            let (Some(before), Some(after)) = (before, after) else {
                continue;
            };
            // It restarts when the driver is loaded again, and it is never still.
            match after.checked_sub(*before) {
                Some(difference) if difference > 0 => millijoules += difference,
                _ => return unavailable("the NVML energy counter restarted or stood still".into()),
            }
            gpus += 1;
        }
        let mut microjoules = 0;
        let mut packages = 0;
        for ((package, before), after) in self
            .packages
            .iter()
            .zip(&before.packages_uj)
            .zip(&after.packages_uj)
        {
            let (Some(before), Some(after)) = (before, after) else {
                continue;
            };
            // One turn at most: the range is tens of minutes even at full load.
            microjoules += after
                .checked_sub(*before)
                .unwrap_or_else(|| (package.range_uj.saturating_sub(*before)) + after);
            packages += 1;
        }
        if gpus + packages == 0 {
            return unavailable(self.why());
        }
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53 in any run")]
        let value = millijoules as f64 / 1e3 + microjoules as f64 / 1e6;
        Measurement::Measured {
            value,
            source: source(gpus, packages),
        }
    }
}

impl Default for EnergyMeter {
    fn default() -> EnergyMeter {
        EnergyMeter::new()
    }
}

fn source(gpus: usize, packages: usize) -> String {
    match (gpus, packages) {
        (0, packages) => format!("RAPL, {packages} packages; GPUs not counted"),
        (gpus, 0) => format!("NVML energy counter, {gpus} GPUs; CPUs not counted"),
        (gpus, packages) => {
            format!("NVML energy counter, {gpus} GPUs, and RAPL, {packages} packages")
        }
    }
}

/// `intel-rapl:0` and its like; not their parts (`intel-rapl:0:0`), which they include, and not
/// `intel-rapl-mmio`, which counts the same once more.
fn packages_below(root: &Path) -> Vec<Package> {
    let Ok(zones) = fs::read_dir(root) else {
        return Vec::new();
    };
    let mut packages: Vec<Package> = zones
        .flatten()
        .filter_map(|zone| {
            let name = zone.file_name();
            let number = name.to_str()?.strip_prefix("intel-rapl:")?;
            number.parse::<u32>().ok()?;
            let counter = zone.path().join("energy_uj");
            fs::read_to_string(&counter)
                .ok()?
                .trim()
                .parse::<u64>()
                .ok()?;
            let range = fs::read_to_string(zone.path().join("max_energy_range_uj")).ok()?;
            Some(Package {
                counter,
                range_uj: range.trim().parse().ok()?,
            })
        })
        .collect();
    packages.sort_by(|a, b| a.counter.cmp(&b.counter));
    packages
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(root: &Path, name: &str, energy_uj: u64) {
        let zone = root.join(name);
        fs::create_dir_all(&zone).unwrap();
        fs::write(zone.join("energy_uj"), format!("{energy_uj}\n")).unwrap();
        fs::write(zone.join("max_energy_range_uj"), "1000000000\n").unwrap();
    }

    #[test]
    fn packages_are_added_up_and_a_counter_that_turned_over_is_not_negative() {
        let root = tempfile::tempdir().unwrap();
        zone(root.path(), "intel-rapl:0", 999_000_000);
        zone(root.path(), "intel-rapl:1", 5_000_000);
        zone(root.path(), "intel-rapl:0:0", 1);
        zone(root.path(), "intel-rapl-mmio:0", 1);
        let meter = EnergyMeter::with_powercap(root.path(), false);
        let before = meter.read();
        zone(root.path(), "intel-rapl:0", 1_000_000);
        zone(root.path(), "intel-rapl:1", 6_500_000);
        let Measurement::Measured { value, source } = meter.between(&before, &meter.read()) else {
            panic!("measured");
        };
        assert!((value - 3.5).abs() < 1e-9, "{value}");
        assert!(source.starts_with("RAPL, 2 packages"), "{source}");
    }

    #[test]
    fn without_a_counter_there_is_a_reason_and_no_number() {
        let meter = EnergyMeter::with_powercap(Path::new("/nowhere/powercap"), false);
        let reading = meter.read();
        let Measurement::Unavailable { why } = meter.between(&reading, &reading) else {
            panic!("unavailable");
        };
        assert!(why.starts_with("no sensor: no NVML library"), "{why}");
        assert!(why.contains("/nowhere/powercap"), "{why}");
        assert_eq!(meter.describe(), Err(why));
    }
}
