//! RAPL through the powercap files of Linux (Documentation/power/powercap/powercap.rst).

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{Meter, Reading, Subject};
use crate::{Channel, Origin, Quality, Quantity, Scope, Trouble};

/// The counters of the packages, their parts and the platform.
#[derive(Debug)]
pub struct PowercapMeter {
    channels: Vec<Channel>,
    files: Vec<PathBuf>,
    /// Zones whose counters may not be read.
    withheld: Vec<(Subject, Trouble)>,
}

impl PowercapMeter {
    /// Looks for zones below `root`, usually `/sys/class/powercap`.
    ///
    /// # Errors
    /// There are none, or they may not be read: since 2020 (CVE-2020-8694) only root may.
    pub fn find(root: &Path, origin: Origin) -> Result<PowercapMeter, Trouble> {
        let mut zones = Vec::new();
        let mut withheld = Vec::new();
        for name in zone_names(root) {
            let directory = root.join(&name);
            let file = directory.join("energy_uj");
            match fs::read_to_string(&file) {
                Ok(text) if text.trim().parse::<u64>().is_ok() => {}
                Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                    withheld.push((Subject::Energy, forbidden(&file)));
                    continue;
                }
                _ => continue,
            }
            let label = read_word(&directory.join("name")).unwrap_or_else(|| name.clone());
            let range_uj = read_word(&directory.join("max_energy_range_uj"))
                .and_then(|text| text.parse().ok());
            zones.push((name, label, range_uj, file));
        }
        if zones.is_empty() {
            let last = withheld.pop().map(|(_, trouble)| trouble);
            return Err(last.unwrap_or_else(|| Trouble::NotSupported {
                source_name: "this kernel or machine".to_owned(),
                what: format!("RAPL: no zone with a counter below {}", root.display()),
            }));
        }
        let channels = zones
            .iter()
            .map(|(name, label, range_uj, _)| channel(name, label, *range_uj, origin))
            .collect();
        let files = zones.into_iter().map(|(.., file)| file).collect();
        Ok(PowercapMeter {
            channels,
            files,
            withheld,
        })
    }
}

/// A file that only others may read.
fn forbidden(file: &Path) -> Trouble {
    Trouble::NoPermission {
        what: file.display().to_string(),
        remedy: "run as root, or let your group read it (chgrp, chmod g+r)".to_owned(),
    }
}

/// `intel-rapl:0`, `intel-rapl:0:1`: not `intel-rapl-mmio:0`, which counts the same once more.
/// AMD's packages come under the same name. In numerical order.
fn zone_names(root: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(root) else {
        return Vec::new();
    };
    let mut zones: Vec<(Vec<u32>, String)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_str()?.to_owned();
            let numbers = name.strip_prefix("intel-rapl:")?;
            let numbers: Result<Vec<u32>, _> = numbers.split(':').map(str::parse).collect();
            Some((numbers.ok()?, name))
        })
        .collect();
    zones.sort();
    zones.into_iter().map(|(_, name)| name).collect()
}

fn read_word(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn channel(name: &str, label: &str, range_uj: Option<u64>, origin: Origin) -> Channel {
    let (scope, counted) = match label {
        "psys" => (Scope::Machine, false),
        "dram" => (Scope::Dram, true),
        "core" | "uncore" => (Scope::Cores, false),
        _ => (Scope::Package, true),
    };
    // A part is named after its package: `intel-rapl:1:0` belongs to package 1.
    let package = name.split(':').nth(1).unwrap_or("0");
    let device = match scope {
        Scope::Package | Scope::Machine => label.to_owned(),
        _ => format!("package-{package} {label}"),
    };
    Channel {
        device,
        scope,
        quantity: Quantity::EnergyCounter {
            wraps_at_uj: range_uj,
        },
        quality: Quality::Measured,
        source: format!("RAPL (powercap {name})"),
        counted,
        origin,
    }
}

impl Meter for PowercapMeter {
    fn name(&self) -> &str {
        "RAPL (powercap)"
    }

    fn channels(&self) -> &[Channel] {
        &self.channels
    }

    fn withheld(&self) -> &[(Subject, Trouble)] {
        &self.withheld
    }

    fn read(&mut self, readings: &mut Vec<Reading>) {
        readings.clear();
        readings.extend(self.files.iter().map(|file| read_number(file)));
    }
}

/// The whole number in a file.
pub(super) fn read_number(file: &Path) -> Reading {
    let failed = |reason: String| Trouble::Failed {
        what: file.display().to_string(),
        reason,
    };
    let text = fs::read_to_string(file).map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => forbidden(file),
        _ => failed(error.to_string()),
    })?;
    let text = text.trim();
    text.parse()
        .map_err(|error| failed(format!("`{text}` is not a whole number ({error})")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(root: &Path, name: &str, label: &str, energy_uj: u64) {
        let directory = root.join(name);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join("name"), format!("{label}\n")).unwrap();
        fs::write(directory.join("energy_uj"), format!("{energy_uj}\n")).unwrap();
        fs::write(directory.join("max_energy_range_uj"), "262143328850\n").unwrap();
    }

    #[test]
    fn packages_and_dram_are_counted_their_parts_and_the_platform_are_not() {
        let root = tempfile::tempdir().unwrap();
        zone(root.path(), "intel-rapl:0", "package-0", 10);
        zone(root.path(), "intel-rapl:0:0", "core", 4);
        zone(root.path(), "intel-rapl:0:1", "dram", 3);
        zone(root.path(), "intel-rapl:1", "psys", 20);
        zone(root.path(), "intel-rapl-mmio:0", "package-0", 10);
        let mut meter = PowercapMeter::find(root.path(), Origin::Stub).unwrap();
        let found: Vec<(&str, bool)> = meter
            .channels()
            .iter()
            .map(|channel| (channel.device.as_str(), channel.counted))
            .collect();
        assert_eq!(
            found,
            [
                ("package-0", true),
                ("package-0 core", false),
                ("package-0 dram", true),
                ("psys", false)
            ]
        );
        let mut readings = Vec::new();
        meter.read(&mut readings);
        assert_eq!(readings, [Ok(10), Ok(4), Ok(3), Ok(20)]);
        fs::write(root.path().join("intel-rapl:0/energy_uj"), "twelve").unwrap();
        meter.read(&mut readings);
        let trouble = readings[0].clone().unwrap_err().to_string();
        assert!(
            trouble.contains("`twelve` is not a whole number"),
            "{trouble}"
        );
    }

    #[test]
    fn a_machine_without_zones_says_so() {
        let root = tempfile::tempdir().unwrap();
        let trouble = PowercapMeter::find(root.path(), Origin::Stub).unwrap_err();
        assert!(
            trouble.to_string().contains("no zone with a counter"),
            "{trouble}"
        );
    }
}
