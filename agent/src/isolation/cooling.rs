//! Waits until the machine is as cool as a run asks for.

use std::fs;
use std::path::Path;

use hexloop_proto::CoolingReport;
use hexloop_topologies::plan::CoolPlan;
use hexloop_workloads::clock;

use super::first_line;
use super::gpu::Thermometer;

/// How often the sensors are read.
const LOOK_EVERY_NS: u64 = 100_000_000;

/// What tells a temperature.
enum Sensors {
    Gpus(Box<Thermometer>),
    Zones(Vec<std::path::PathBuf>),
}

impl Sensors {
    /// The GPUs of the nodes, or else the thermal zones of the board.
    fn find(root: &Path, gpus: &[String]) -> Result<(Sensors, String), String> {
        if !gpus.is_empty() {
            let source = format!("NVML: {}", gpus.join(", "));
            let gpus = Box::new(Thermometer::of(gpus.to_vec())?);
            return Ok((Sensors::Gpus(gpus), source));
        }
        let entries = fs::read_dir(root.join("sys/class/thermal"));
        let mut zones: Vec<_> = entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path().join("temp"))
            .filter(|path| path.exists())
            .collect();
        zones.sort();
        if zones.is_empty() {
            return Err("no GPU is given to a node, and the board has no thermal zone".to_owned());
        }
        let source = format!("{} thermal zones", zones.len());
        Ok((Sensors::Zones(zones), source))
    }

    /// The hottest, in degrees Celsius.
    fn hottest_c(&self) -> Result<i32, String> {
        match self {
            Sensors::Gpus(gpus) => gpus.hottest_c(),
            Sensors::Zones(zones) => {
                // Thousandths of a degree; a zone that is switched off gives an error.
                let read = zones
                    .iter()
                    .filter_map(|path| first_line(path)?.parse::<i32>().ok());
                let hottest = read.max().ok_or("no thermal zone tells its temperature")?;
                Ok(hottest.div_euclid(1000) + i32::from(hottest.rem_euclid(1000) > 0))
            }
        }
    }
}

/// Waits; `check` may end the wait with an error.
pub(crate) fn cool<E>(
    root: &Path,
    gpus: &[String],
    plan: &CoolPlan,
    mut check: impl FnMut() -> Result<(), E>,
) -> Result<CoolingReport, E> {
    let mut report = CoolingReport {
        asked_c: plan.to_c,
        limit_ns: plan.limit_ns,
        ..CoolingReport::default()
    };
    let sensors = match Sensors::find(root, gpus) {
        Ok((sensors, source)) => {
            report.source = source;
            sensors
        }
        Err(why) => {
            report.why = Some(why);
            return Ok(report);
        }
    };
    let began = clock::now();
    loop {
        check()?;
        match sensors.hottest_c() {
            Ok(degrees) => {
                report.before_c.get_or_insert(degrees);
                report.after_c = Some(degrees);
            }
            Err(why) => {
                report.why = Some(why);
                report.after_c = None;
                return Ok(report);
            }
        }
        report.waited_ns = clock::now().saturating_sub(began);
        if report.held() == Some(true) || report.waited_ns >= plan.limit_ns {
            return Ok(report);
        }
        clock::sleep_until((clock::now() + LOOK_EVERY_NS).min(began + plan.limit_ns));
    }
}
