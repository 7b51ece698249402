//! Power and energy sensors of the hwmon class, and the INA3221 rails of Jetson boards in both
//! layouts of their driver.

use std::fs;
use std::path::{Path, PathBuf};

use super::powercap::read_number;
use super::{Meter, Reading};
use crate::{Channel, Origin, Quality, Quantity, Scope, Trouble};

/// Sensors of boards.
#[derive(Debug)]
pub struct HwmonMeter {
    channels: Vec<Channel>,
    sensors: Vec<Sensor>,
}

/// Where one channel is read.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Sensor {
    /// A file in the channel's unit.
    Direct(PathBuf),
    /// A file in milliwatts (the older INA3221 driver).
    Milliwatts(PathBuf),
    /// Millivolts and milliamperes; their product is microwatts.
    VoltsTimesAmperes(PathBuf, PathBuf),
}

/// Rails that feed others: where one of them is present, the others are parts of it.
const INPUT_RAILS: [&str; 4] = ["VDD_IN", "POM_5V_IN", "VDD_5V_IN", "SYS_VIN_HV"];

/// A rail that is a part of another on boards without an input rail.
const PARTIAL_RAILS: [&str; 1] = ["VDDQ_VDD2_1V8AO"];

impl HwmonMeter {
    /// Looks below `class`, usually `/sys/class/hwmon`, and below `i2c`, usually
    /// `/sys/bus/i2c/drivers`, for the driver `ina3221x` that old Jetson kernels have.
    ///
    /// # Errors
    /// There is no sensor of power or energy.
    pub fn find(class: &Path, i2c: &Path, origin: Origin) -> Result<HwmonMeter, Trouble> {
        let mut found = Vec::new();
        for directory in sorted(class) {
            let chip = word(&directory.join("name")).unwrap_or_default();
            if chip.starts_with("ina3221") || chip.starts_with("ina238") {
                found.extend(rails(&directory, &chip));
            } else {
                found.extend(plain(&directory, &chip));
            }
        }
        for device in sorted(&i2c.join("ina3221x")) {
            for directory in sorted(&device) {
                let is_iio = directory
                    .file_name()
                    .and_then(|name| name.to_str())
                    .is_some_and(|name| name.starts_with("iio:device"));
                if is_iio {
                    found.extend(old_rails(&directory));
                }
            }
        }
        if found.is_empty() {
            return Err(Trouble::NotSupported {
                source_name: "this machine".to_owned(),
                what: format!(
                    "board sensors: no power or energy below {} or {}",
                    class.display(),
                    i2c.display()
                ),
            });
        }
        let has_input = found
            .iter()
            .any(|(channel, _)| INPUT_RAILS.contains(&channel.device.as_str()));
        let (mut channels, sensors): (Vec<Channel>, Vec<Sensor>) = found.into_iter().unzip();
        for channel in &mut channels {
            channel.origin = origin;
            let name = channel.device.as_str();
            if channel.scope == Scope::Rail {
                channel.counted = if has_input {
                    INPUT_RAILS.contains(&name)
                } else {
                    !PARTIAL_RAILS.contains(&name)
                };
            }
        }
        Ok(HwmonMeter { channels, sensors })
    }
}

fn sorted(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn word(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// `in1_label`, `in1_input` (mV), `curr1_input` (mA), as the driver in Linux writes them.
fn rails(directory: &Path, chip: &str) -> Vec<(Channel, Sensor)> {
    (1..=3)
        .filter_map(|number| {
            let label = word(&directory.join(format!("in{number}_label")))?;
            let millivolts = directory.join(format!("in{number}_input"));
            let milliamperes = directory.join(format!("curr{number}_input"));
            if !millivolts.exists() || !milliamperes.exists() {
                return None;
            }
            Some((
                power_channel(
                    label,
                    Scope::Rail,
                    format!("hwmon {chip} in{number} x curr{number}"),
                ),
                Sensor::VoltsTimesAmperes(millivolts, milliamperes),
            ))
        })
        .collect()
}

/// `rail_name_0`, `in_power0_input` (mW), as the driver of old Jetson kernels writes them.
fn old_rails(directory: &Path) -> Vec<(Channel, Sensor)> {
    (0..3)
        .filter_map(|number| {
            let label = word(&directory.join(format!("rail_name_{number}")))?;
            let file = directory.join(format!("in_power{number}_input"));
            file.exists().then(|| {
                let source = format!("ina3221x in_power{number}");
                (
                    power_channel(label, Scope::Rail, source),
                    Sensor::Milliwatts(file),
                )
            })
        })
        .collect()
}

/// `power1_input` or `power1_average` (uW) and `energy1_input` (uJ) of any other chip. They are not
/// counted into the machine's sum: what they cover is not known.
fn plain(directory: &Path, chip: &str) -> Vec<(Channel, Sensor)> {
    let mut found = Vec::new();
    for number in 1..=64 {
        let label = |kind: &str| {
            word(&directory.join(format!("{kind}{number}_label")))
                .unwrap_or_else(|| format!("{chip} {kind}{number}"))
        };
        let instant = directory.join(format!("power{number}_input"));
        let average = directory.join(format!("power{number}_average"));
        if instant.exists() {
            let source = format!("hwmon {chip} power{number}_input");
            let channel = power_channel(label("power"), Scope::Machine, source);
            found.push((channel, Sensor::Direct(instant)));
        } else if average.exists() {
            let source = format!("hwmon {chip} power{number}_average");
            let mut channel = power_channel(label("power"), Scope::Machine, source);
            channel.quantity = Quantity::AveragePower {
                window_ns: average_window_ns(directory, number),
            };
            found.push((channel, Sensor::Direct(average)));
        }
        let energy = directory.join(format!("energy{number}_input"));
        if energy.exists() {
            let source = format!("hwmon {chip} energy{number}_input");
            let mut channel = power_channel(label("energy"), Scope::Package, source);
            channel.quantity = Quantity::EnergyCounter { wraps_at_uj: None };
            found.push((channel, Sensor::Direct(energy)));
        }
    }
    for (channel, _) in &mut found {
        channel.counted = false;
    }
    found
}

/// `power1_average_interval` is in milliseconds.
fn average_window_ns(directory: &Path, number: u32) -> Option<u64> {
    let text = word(&directory.join(format!("power{number}_average_interval")))?;
    text.parse::<u64>().ok()?.checked_mul(1_000_000)
}

fn power_channel(device: String, scope: Scope, source: String) -> Channel {
    Channel {
        device,
        scope,
        quantity: Quantity::InstantPower,
        quality: Quality::Measured,
        source,
        counted: true,
        origin: Origin::Hardware,
    }
}

impl Sensor {
    fn read(&self) -> Reading {
        match self {
            Sensor::Direct(file) => read_number(file),
            Sensor::Milliwatts(file) => Ok(read_number(file)?.saturating_mul(1_000)),
            Sensor::VoltsTimesAmperes(millivolts, milliamperes) => {
                Ok(read_number(millivolts)?.saturating_mul(read_number(milliamperes)?))
            }
        }
    }
}

impl Meter for HwmonMeter {
    fn name(&self) -> &str {
        "board sensors (hwmon)"
    }

    fn channels(&self) -> &[Channel] {
        &self.channels
    }

    fn read(&mut self, readings: &mut Vec<Reading>) {
        readings.clear();
        readings.extend(self.sensors.iter().map(Sensor::read));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (name, text) in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, format!("{text}\n")).unwrap();
        }
    }

    fn found(root: &Path) -> Result<HwmonMeter, Trouble> {
        HwmonMeter::find(&root.join("hwmon"), &root.join("i2c"), Origin::Stub)
    }

    fn table(meter: &mut HwmonMeter) -> Vec<(String, u64, bool)> {
        let mut readings = Vec::new();
        meter.read(&mut readings);
        let channels = meter.channels().iter();
        channels
            .zip(readings)
            .map(|(channel, reading)| (channel.device.clone(), reading.unwrap(), channel.counted))
            .collect()
    }

    #[test]
    fn the_rails_of_an_orin_are_volts_times_amperes_and_its_input_is_the_sum() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            &[
                ("hwmon/hwmon1/name", "ina3221"),
                ("hwmon/hwmon1/in1_label", "VDD_IN"),
                ("hwmon/hwmon1/in1_input", "5048"),
                ("hwmon/hwmon1/curr1_input", "1200"),
                ("hwmon/hwmon1/in2_label", "VDD_CPU_GPU_CV"),
                ("hwmon/hwmon1/in2_input", "5040"),
                ("hwmon/hwmon1/curr2_input", "400"),
            ],
        );
        let expected = [
            ("VDD_IN".to_owned(), 6_057_600, true),
            ("VDD_CPU_GPU_CV".to_owned(), 2_016_000, false),
        ];
        assert_eq!(table(&mut found(root.path()).unwrap()), expected);
    }

    #[test]
    fn the_old_driver_tells_milliwatts_and_without_an_input_rail_all_are_added() {
        let root = tempfile::tempdir().unwrap();
        let device = "i2c/ina3221x/1-0040/iio:device0";
        write(
            root.path(),
            &[
                (&format!("{device}/rail_name_0"), "GPU"),
                (&format!("{device}/in_power0_input"), "1500"),
                (&format!("{device}/rail_name_1"), "CPU"),
                (&format!("{device}/in_power1_input"), "900"),
            ],
        );
        let expected = [
            ("GPU".to_owned(), 1_500_000, true),
            ("CPU".to_owned(), 900_000, true),
        ];
        assert_eq!(table(&mut found(root.path()).unwrap()), expected);
    }

    #[test]
    fn other_chips_are_read_but_not_added_because_nobody_knows_what_they_cover() {
        let root = tempfile::tempdir().unwrap();
        write(
            root.path(),
            &[
                ("hwmon/hwmon0/name", "amd_energy"),
                ("hwmon/hwmon0/energy1_label", "Esocket0"),
                ("hwmon/hwmon0/energy1_input", "123456"),
                ("hwmon/hwmon2/name", "power_meter"),
                ("hwmon/hwmon2/power1_average", "250000000"),
                ("hwmon/hwmon2/power1_average_interval", "1000"),
            ],
        );
        let mut meter = found(root.path()).unwrap();
        assert_eq!(
            meter.channels()[1].quantity,
            Quantity::AveragePower {
                window_ns: Some(1_000_000_000)
            }
        );
        let expected = [
            ("Esocket0".to_owned(), 123_456, false),
            ("power_meter power1".to_owned(), 250_000_000, false),
        ];
        assert_eq!(table(&mut meter), expected);
        assert!(found(&root.path().join("nothing")).is_err());
    }
}
