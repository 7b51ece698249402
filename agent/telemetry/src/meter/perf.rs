//! RAPL through perf events (`/sys/bus/event_source/devices/power*`), which needs `CAP_PERFMON` or
//! `kernel.perf_event_paranoid <= 0` instead of root.

use std::fs;
use std::path::Path;

use super::{Meter, Reading, Subject};
use crate::sys::perf::PerfCounter;
use crate::{Channel, Origin, Quality, Quantity, Scope, Trouble};

/// The counters of the packages by perf.
#[derive(Debug)]
pub struct PerfMeter {
    channels: Vec<Channel>,
    events: Vec<(PerfCounter, f64)>,
    /// Events that could not be opened.
    withheld: Vec<(Subject, Trouble)>,
}

/// What the files of one event say.
#[derive(Debug, Clone, PartialEq)]
struct EventFile {
    name: String,
    config: u64,
    /// Joules per count.
    scale: f64,
}

impl PerfMeter {
    /// Looks for the unit `power` below `root`, usually `/sys/bus/event_source/devices`, and opens
    /// its events on one CPU of each package.
    ///
    /// # Errors
    /// No such unit, one without events (as virtual machines have it: that is no RAPL), or no
    /// permission.
    pub fn find(root: &Path, origin: Origin) -> Result<PerfMeter, Trouble> {
        let mut channels = Vec::new();
        let mut events = Vec::new();
        let mut withheld: Vec<(Subject, Trouble)> = Vec::new();
        let mut withhold = |trouble: Trouble| {
            // Each core's CPU may refuse the same event.
            let one = (Subject::Energy, trouble);
            if !withheld.contains(&one) {
                withheld.push(one);
            }
        };
        for unit in ["power", "power_core"] {
            let directory = root.join(unit);
            if !directory.is_dir() {
                continue;
            }
            let files = event_files(&directory.join("events"));
            if files.is_empty() {
                withhold(Trouble::NotSupported {
                    source_name: format!("the perf unit `{unit}`"),
                    what: "any event: its directory of events is empty, which is no RAPL"
                        .to_owned(),
                });
                continue;
            }
            // Without its number the unit would be taken for unit 0, which counts cycles.
            let Some(kind) = read_u32(&directory.join("type")) else {
                withhold(Trouble::Failed {
                    what: directory.join("type").display().to_string(),
                    reason: "it holds no number of a perf unit".to_owned(),
                });
                continue;
            };
            let cpus = fs::read_to_string(directory.join("cpumask")).unwrap_or_default();
            for cpu in cpu_list(&cpus) {
                for file in &files {
                    match PerfCounter::open(kind, file.config, cpu) {
                        Ok(counter) => {
                            channels.push(channel(unit, file, cpu, origin));
                            events.push((counter, file.scale));
                        }
                        Err(error) => withhold(refusal(unit, &file.name, &error)),
                    }
                }
            }
        }
        if events.is_empty() {
            let last = withheld.pop().map(|(_, trouble)| trouble);
            return Err(last.unwrap_or_else(|| Trouble::NotSupported {
                source_name: "this kernel or machine".to_owned(),
                what: format!("RAPL by perf: no unit `power` below {}", root.display()),
            }));
        }
        Ok(PerfMeter {
            channels,
            events,
            withheld,
        })
    }
}

impl PerfMeter {
    /// For a machine on which the same registers are counted by another meter.
    pub(crate) fn leave_out_of_the_sum(&mut self) {
        for channel in &mut self.channels {
            channel.counted = false;
        }
    }
}

fn refusal(unit: &str, event: &str, error: &std::io::Error) -> Trouble {
    let what = format!("perf event {unit}/{event}/");
    if matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM)) {
        Trouble::NoPermission {
            what,
            remedy: "give CAP_PERFMON, or sysctl kernel.perf_event_paranoid=0".to_owned(),
        }
    } else {
        Trouble::Failed {
            what,
            reason: error.to_string(),
        }
    }
}

fn read_u32(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// `energy-pkg` and its like, each with `energy-pkg.scale`; in order of name.
fn event_files(directory: &Path) -> Vec<EventFile> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    let mut files: Vec<EventFile> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_str()?.to_owned();
            if !name.starts_with("energy-") || name.contains('.') {
                return None;
            }
            // `event=0x02`, as Documentation/ABI/testing/sysfs-bus-event_source-devices-events has it.
            let text = fs::read_to_string(entry.path()).ok()?;
            let code = text.trim().strip_prefix("event=")?;
            let config = match code.strip_prefix("0x") {
                Some(hexadecimal) => u64::from_str_radix(hexadecimal, 16).ok()?,
                None => code.parse().ok()?,
            };
            let scale = fs::read_to_string(directory.join(format!("{name}.scale"))).ok()?;
            let scale = scale.trim().parse().ok()?;
            Some(EventFile {
                name,
                config,
                scale,
            })
        })
        .collect();
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files
}

/// `0,18` or `0-3,7`.
fn cpu_list(text: &str) -> Vec<u32> {
    let mut cpus = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        match part.split_once('-') {
            Some((first, last)) => {
                if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) {
                    cpus.extend(first..=last.min(first.saturating_add(4_095)));
                }
            }
            None => cpus.extend(part.parse::<u32>().ok()),
        }
    }
    cpus
}

fn channel(unit: &str, file: &EventFile, cpu: u32, origin: Origin) -> Channel {
    let (scope, counted) = match file.name.as_str() {
        "energy-pkg" => (Scope::Package, true),
        "energy-ram" => (Scope::Dram, true),
        "energy-psys" => (Scope::Machine, false),
        _ => (Scope::Cores, false),
    };
    Channel {
        device: format!("{} of cpu {cpu}", file.name),
        scope,
        quantity: Quantity::EnergyCounter { wraps_at_uj: None },
        quality: Quality::Measured,
        source: format!("RAPL (perf {unit}/{}/)", file.name),
        counted,
        origin,
    }
}

impl Meter for PerfMeter {
    fn name(&self) -> &str {
        "RAPL (perf)"
    }

    fn channels(&self) -> &[Channel] {
        &self.channels
    }

    fn withheld(&self) -> &[(Subject, Trouble)] {
        &self.withheld
    }

    fn read(&mut self, readings: &mut Vec<Reading>) {
        readings.clear();
        for ((counter, scale), channel) in self.events.iter().zip(&self.channels) {
            let count = counter.read().map_err(|error| Trouble::Failed {
                what: channel.source.clone(),
                reason: error.to_string(),
            });
            readings.push(count.map(|count| microjoules(count, *scale)));
        }
    }
}

/// The kernel's counter has 64 bits and 2^-32 J per count: 2^53 counts are 2 MJ, above which the
/// last microjoules round.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the count is not negative, and the result fits for any energy of this world"
)]
fn microjoules(count: u64, joules_per_count: f64) -> u64 {
    (count as f64 * joules_per_count * 1e6) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_directory_of_events_is_no_rapl() {
        let root = tempfile::tempdir().unwrap();
        let unit = root.path().join("power");
        fs::create_dir_all(unit.join("events")).unwrap();
        fs::write(unit.join("type"), "9\n").unwrap();
        fs::write(unit.join("cpumask"), "0\n").unwrap();
        let trouble = PerfMeter::find(root.path(), Origin::Stub).unwrap_err();
        assert!(trouble.to_string().contains("is no RAPL"), "{trouble}");
        let nowhere = PerfMeter::find(Path::new("/nowhere"), Origin::Stub).unwrap_err();
        assert!(nowhere.to_string().contains("no unit `power`"), "{nowhere}");
    }

    #[test]
    fn a_unit_without_its_number_is_not_taken_for_the_counter_of_cycles() {
        let root = tempfile::tempdir().unwrap();
        let events = root.path().join("power/events");
        fs::create_dir_all(&events).unwrap();
        fs::write(events.join("energy-pkg"), "event=0x00\n").unwrap();
        fs::write(events.join("energy-pkg.scale"), "1e-9\n").unwrap();
        fs::write(root.path().join("power/cpumask"), "0\n").unwrap();
        let trouble = PerfMeter::find(root.path(), Origin::Stub).unwrap_err();
        assert!(
            trouble.to_string().contains("no number of a perf unit"),
            "{trouble}"
        );
    }

    #[test]
    fn the_files_of_an_event_give_its_code_and_scale() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("energy-pkg"), "event=0x02\n").unwrap();
        fs::write(
            root.path().join("energy-pkg.scale"),
            "2.3283064365386962890625e-10\n",
        )
        .unwrap();
        fs::write(root.path().join("energy-pkg.unit"), "Joules\n").unwrap();
        fs::write(root.path().join("energy-ram"), "event=0x03\n").unwrap();
        let files = event_files(root.path());
        assert_eq!(
            files.len(),
            1,
            "an event without a scale is of no use: {files:?}"
        );
        assert_eq!((files[0].name.as_str(), files[0].config), ("energy-pkg", 2));
        assert_eq!(microjoules(1 << 33, files[0].scale), 2_000_000);
    }

    #[test]
    fn lists_of_cpus_are_read_as_the_kernel_writes_them() {
        assert_eq!(cpu_list("0,18\n"), [0, 18]);
        assert_eq!(cpu_list("0-2,7"), [0, 1, 2, 7]);
        assert!(cpu_list("\n").is_empty());
    }
}
