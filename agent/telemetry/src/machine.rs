//! All meters of a machine.

use std::path::PathBuf;

use crate::{
    Channel, ExternalFeed, GpuState, HwmonMeter, Meter, NvmlMeter, Origin, PerfMeter, PmicMeter,
    PowercapMeter, Scope, Subject, Trouble,
};

/// Where the sources of a machine are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The root of the file system that holds `sys`: `/`, or a directory of a test.
    pub root: PathBuf,
    /// The NVML library; `None` looks for the driver's.
    pub nvml: Option<PathBuf>,
    /// Whether NVML is looked for at all.
    pub with_nvml: bool,
    /// Whether that root is the machine's own.
    pub origin: Origin,
}

impl Places {
    /// This machine.
    #[must_use]
    pub fn here() -> Places {
        Places {
            root: PathBuf::from("/"),
            nvml: None,
            with_nvml: true,
            origin: Origin::Hardware,
        }
    }

    /// The variable that names another root of the file system, for tests and demonstrations.
    pub const ROOT_VARIABLE: &'static str = "HEXLOOP_TELEMETRY_ROOT";
    /// The variable that names another NVML library.
    pub const NVML_VARIABLE: &'static str = "HEXLOOP_NVML_LIBRARY";

    /// This machine, or what the two variables put in its place; then everything is marked a stub.
    #[must_use]
    pub fn from_environment() -> Places {
        let mut places = Places::here();
        if let Some(root) = std::env::var_os(Places::ROOT_VARIABLE) {
            places.root = root.into();
            places.origin = Origin::Stub;
        }
        places.nvml = std::env::var_os(Places::NVML_VARIABLE).map(PathBuf::from);
        places
    }
}

/// One source: what it offers, or why there is none; another one for each thing that a source which
/// offers something withholds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The source.
    pub source: &'static str,
    /// What it is about.
    pub subject: Subject,
    /// Its channels in words, or the reason.
    pub outcome: Result<Vec<String>, Trouble>,
}

/// The meters that were found, and what was tried.
pub struct MachineMeters {
    meters: Vec<Box<dyn Meter>>,
    channels: Vec<Channel>,
    findings: Vec<Finding>,
    /// Readings of the meter that is being read.
    of_one: Vec<crate::Reading>,
}

impl std::fmt::Debug for MachineMeters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MachineMeters")
            .field("channels", &self.channels)
            .finish_non_exhaustive()
    }
}

impl MachineMeters {
    /// Tries every source.
    #[must_use]
    pub fn find(places: &Places) -> MachineMeters {
        let mut found = MachineMeters {
            meters: Vec::new(),
            channels: Vec::new(),
            findings: Vec::new(),
            of_one: Vec::new(),
        };
        let (root, origin) = (&places.root, places.origin);
        if places.with_nvml {
            found.take("NVML", NvmlMeter::find(places.nvml.as_deref()));
        }
        let powercap = PowercapMeter::find(&root.join("sys/class/powercap"), origin);
        let has_powercap = powercap.is_ok();
        found.take("RAPL (powercap)", powercap);
        let mut perf = PerfMeter::find(&root.join("sys/bus/event_source/devices"), origin);
        if let (Ok(meter), true) = (&mut perf, has_powercap) {
            // Both count the same registers: one of them is enough for the sum.
            meter.leave_out_of_the_sum();
        }
        found.take("RAPL (perf)", perf);
        let hwmon = root.join("sys/class/hwmon");
        let i2c = root.join("sys/bus/i2c/drivers");
        found.take(
            "board sensors (hwmon)",
            HwmonMeter::find(&hwmon, &i2c, origin),
        );
        if let Some(program) = vcgencmd(places) {
            found.take("Raspberry Pi 5 PMIC", PmicMeter::find(program, origin));
        }
        found
    }

    fn take<M: Meter + 'static>(&mut self, source: &'static str, meter: Result<M, Trouble>) {
        let mut withheld = Vec::new();
        let outcome = meter.map(|meter| {
            let described = meter.channels().iter().map(Channel::describe).collect();
            withheld.extend_from_slice(meter.withheld());
            self.add(Box::new(meter));
            described
        });
        self.findings.push(Finding {
            source,
            subject: Subject::Energy,
            outcome,
        });
        let withheld = withheld.into_iter().map(|(subject, trouble)| Finding {
            source,
            subject,
            outcome: Err(trouble),
        });
        self.findings.extend(withheld);
    }

    /// Tries every source, and adds external meters, read by the clock `now`. One of them that
    /// stands for the machine takes all others out of the sum. Where nothing else can be summed
    /// up, the first one of the whole machine does, unless it says that it must not.
    #[must_use]
    pub fn find_with(places: &Places, feeds: &[ExternalFeed], now: fn() -> u64) -> MachineMeters {
        let mut found = MachineMeters::find(places);
        if feeds.iter().any(|feed| feed.spec().counted == Some(true)) {
            for channel in &mut found.channels {
                channel.counted = false;
            }
        }
        for feed in feeds {
            let meter = feed.meter(Origin::Hardware, now);
            found.take("external meter", Ok(meter));
        }
        if !found.channels.iter().any(|channel| channel.counted) {
            let may = |channel: &&mut Channel| {
                channel.scope == Scope::Machine
                    && feeds.iter().any(|feed| {
                        feed.spec().counted.is_none() && feed.spec().name == channel.device
                    })
            };
            if let Some(channel) = found.channels.iter_mut().find(may) {
                channel.counted = true;
            }
        }
        found
    }

    fn add(&mut self, meter: Box<dyn Meter>) {
        self.channels.extend_from_slice(meter.channels());
        self.meters.push(meter);
    }

    /// The meters in the order of their channels: what each is called, and how many channels it has.
    #[must_use]
    pub fn meters(&self) -> Vec<(String, usize)> {
        let meters = self.meters.iter();
        meters
            .map(|meter| (meter.name().to_owned(), meter.channels().len()))
            .collect()
    }

    /// Every channel, in the order of [`MachineMeters::read`].
    #[must_use]
    pub fn channels(&self) -> &[Channel] {
        &self.channels
    }

    /// What was tried, and how it came out.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// Whether any channel comes from a stub.
    #[must_use]
    pub fn has_stub(&self) -> bool {
        let mut channels = self.channels.iter();
        channels.any(|channel| channel.origin == Origin::Stub)
    }

    /// Why nothing can be counted into a sum, in words; `None` if something can.
    #[must_use]
    pub fn why_nothing(&self) -> Option<String> {
        if self.channels.iter().any(|channel| channel.counted) {
            return None;
        }
        let reasons: Vec<String> = self
            .findings
            .iter()
            .filter_map(|finding| {
                Some(format!(
                    "{}: {}",
                    finding.source,
                    finding.outcome.as_ref().err()?
                ))
            })
            .collect();
        Some(format!("no sensor ({})", reasons.join("; ")))
    }

    /// Reads everything now, in the order of [`MachineMeters::channels`].
    pub fn read(&mut self, readings: &mut Vec<crate::Reading>) {
        self.read_each(readings, |_, _| ());
    }

    /// The same; `around` is told of each meter, by its place, before (`true`) and after it is read.
    pub fn read_each(
        &mut self,
        readings: &mut Vec<crate::Reading>,
        mut around: impl FnMut(usize, bool),
    ) {
        readings.clear();
        for (place, meter) in self.meters.iter_mut().enumerate() {
            around(place, true);
            meter.read(&mut self.of_one);
            around(place, false);
            readings.append(&mut self.of_one);
        }
    }

    /// Clocks, temperature, memory, utilisation and processes of every GPU, by UUID: slower to read
    /// than energy and power, and read less often.
    #[must_use]
    pub fn gpu_states(&mut self) -> Vec<(String, Result<GpuState, Trouble>)> {
        self.meters
            .iter_mut()
            .flat_map(|meter| meter.gpu_states())
            .collect()
    }
}

/// `vcgencmd` exists on Raspberry Pis; elsewhere there is nothing to say about it.
fn vcgencmd(places: &Places) -> Option<PathBuf> {
    ["usr/bin/vcgencmd", "opt/vc/bin/vcgencmd"]
        .map(|path| places.root.join(path))
        .into_iter()
        .find(|path| path.exists())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn stub_root(files: &[(&str, &str)]) -> (tempfile::TempDir, Places) {
        let root = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let places = Places {
            root: root.path().to_path_buf(),
            nvml: None,
            with_nvml: false,
            origin: Origin::Stub,
        };
        (root, places)
    }

    #[test]
    fn a_machine_without_any_meter_says_why_for_every_source() {
        let (_root, places) = stub_root(&[]);
        let meters = MachineMeters::find(&places);
        assert!(meters.channels().is_empty());
        let why = meters.why_nothing().unwrap();
        for source in ["RAPL (powercap)", "RAPL (perf)", "board sensors (hwmon)"] {
            assert!(why.contains(source), "{why}");
        }
    }

    #[test]
    fn an_external_meter_that_stands_for_the_machine_takes_the_others_out_of_the_sum() {
        let (_root, places) = stub_root(&[
            ("sys/class/powercap/intel-rapl:0/name", "package-0\n"),
            ("sys/class/powercap/intel-rapl:0/energy_uj", "77\n"),
            (
                "sys/class/powercap/intel-rapl:0/max_energy_range_uj",
                "262143328850\n",
            ),
        ]);
        let nothing = tempfile::tempdir().unwrap();
        let with = |root: &std::path::Path, counted| {
            let feed = ExternalFeed::new(crate::ExternalSpec {
                name: "plug".to_owned(),
                scope: Scope::Machine,
                counted,
            });
            let places = Places {
                root: root.to_path_buf(),
                ..places.clone()
            };
            let meters = MachineMeters::find_with(&places, &[feed], || 0);
            let counted = meters.channels().iter().map(|channel| channel.counted);
            counted.collect::<Vec<bool>>()
        };
        assert_eq!(with(&places.root, Some(true)), [false, true]);
        assert_eq!(with(&places.root, Some(false)), [true, false]);
        assert_eq!(with(&places.root, None), [true, false]);
        assert_eq!(with(nothing.path(), None), [true], "nothing else can");
        assert_eq!(with(nothing.path(), Some(false)), [false]);
    }

    #[test]
    fn a_stub_root_is_named_a_stub_in_every_channel() {
        let (_root, places) = stub_root(&[
            ("sys/class/powercap/intel-rapl:0/name", "package-0\n"),
            ("sys/class/powercap/intel-rapl:0/energy_uj", "77\n"),
            (
                "sys/class/powercap/intel-rapl:0/max_energy_range_uj",
                "262143328850\n",
            ),
            ("sys/class/hwmon/hwmon0/name", "ina3221\n"),
            ("sys/class/hwmon/hwmon0/in1_label", "VDD_IN\n"),
            ("sys/class/hwmon/hwmon0/in1_input", "5000\n"),
            ("sys/class/hwmon/hwmon0/curr1_input", "2000\n"),
        ]);
        let mut meters = MachineMeters::find(&places);
        assert!(meters.has_stub() && meters.why_nothing().is_none());
        assert!(
            meters
                .channels()
                .iter()
                .all(|channel| channel.origin == Origin::Stub)
        );
        let mut readings = Vec::new();
        meters.read(&mut readings);
        assert_eq!(readings, [Ok(77), Ok(10_000_000)]);
    }
}
