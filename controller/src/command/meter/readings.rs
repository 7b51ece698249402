//! The readings as they come: written to DIR/power.csv and DIR/gpu.csv, and of GPUs what the summary
//! needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::BufWriter;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use hexloop_agent::play::EventSink;
use hexloop_agent::telemetry::power::PowerSampler;
use hexloop_proto::{Event, EventBody, GpuSample, MeterChannel};
use hexloop_workloads::clock::MonotonicNs;
use tokio::sync::mpsc::{Receiver, channel};

use crate::exit_code::ExitCode;
use crate::failure::{Failure, OrFail};
use crate::record::{GPU_COLUMNS, POWER_COLUMNS, gpu_row, write_power};

/// Events that may wait to be written: ten seconds at the highest rate.
const BACKLOG: usize = 1_000;

type Rows = csv::Writer<BufWriter<File>>;

/// The span of the command among those of the readings.
const COMMAND: &str = "command";

/// What one GPU was seen doing while the command ran.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct GpuSeen {
    pub(super) looks: u64,
    pub(super) memory_peak_bytes: Option<u64>,
    busy: (u64, u64),
    pub(super) sm_clock_mhz: Option<(u32, u32)>,
    pub(super) temperature_c: Option<(u32, u32)>,
    pub(super) throttled: Option<bool>,
    pub(super) mig: Option<bool>,
    pub(super) mps_processes: Option<u64>,
    pub(super) foreign_processes: BTreeSet<u32>,
    pub(super) trouble: Option<String>,
}

fn widened(range: Option<(u32, u32)>, value: Option<u32>) -> Option<(u32, u32)> {
    match (range, value) {
        (Some((least, most)), Some(value)) => Some((least.min(value), most.max(value))),
        (None, Some(value)) => Some((value, value)),
        (range, None) => range,
    }
}

impl GpuSeen {
    fn take(&mut self, sample: &GpuSample) {
        self.looks += 1;
        if let Some(trouble) = &sample.trouble {
            self.trouble = Some(trouble.clone());
            return;
        }
        self.memory_peak_bytes = self.memory_peak_bytes.max(sample.memory_used_bytes);
        if let Some(percent) = sample.busy_percent {
            self.busy = (self.busy.0 + u64::from(percent), self.busy.1 + 1);
        }
        self.sm_clock_mhz = widened(self.sm_clock_mhz, sample.sm_clock_mhz);
        self.temperature_c = widened(self.temperature_c, sample.temperature_c);
        self.throttled = match (self.throttled, sample.throttled) {
            (Some(true), _) => Some(true),
            (before, now) => now.or(before),
        };
        self.mig = sample.mig.or(self.mig);
        self.mps_processes = self.mps_processes.max(sample.mps_processes);
        self.foreign_processes
            .extend(sample.foreign_processes.iter().flatten());
    }

    /// Mean share of time in which a kernel ran, in percent.
    pub(super) fn busy_percent(&self) -> Option<f64> {
        crate::format::ratio(self.busy.0, self.busy.1)
    }
}

/// What was seen, and what is not in the tables.
#[derive(Debug, Default)]
pub(super) struct Seen {
    pub(super) gpus: BTreeMap<String, GpuSeen>,
    pub(super) dropped: u64,
    failed: Option<csv::Error>,
}

/// Readings that are being taken.
#[derive(Debug)]
pub(super) struct Readings {
    sink: Arc<EventSink>,
    thread: JoinHandle<Seen>,
}

/// The tables, if they were asked for.
struct Tables {
    channels: Vec<MeterChannel>,
    power: Option<Rows>,
    gpu: Option<Rows>,
}

impl Tables {
    fn open(directory: Option<&Path>, channels: Vec<MeterChannel>) -> Result<Tables, Failure> {
        let Some(directory) = directory else {
            return Ok(Tables {
                channels,
                power: None,
                gpu: None,
            });
        };
        let open = |name: &str, columns: &[&str]| {
            let path = directory.join(name);
            let doing = || format!("cannot write {}", path.display());
            let file = File::create(&path).or_fail(ExitCode::Failed, doing)?;
            let mut rows = csv::Writer::from_writer(BufWriter::new(file));
            rows.write_record(columns)
                .or_fail(ExitCode::Failed, doing)?;
            Ok(rows)
        };
        fs::create_dir_all(directory).or_fail(ExitCode::Failed, || {
            format!("cannot make {}", directory.display())
        })?;
        let has_gpu = channels.iter().any(|channel| channel.scope == "GPU");
        Ok(Tables {
            power: Some(open("power.csv", &POWER_COLUMNS)?),
            gpu: has_gpu.then(|| open("gpu.csv", &GPU_COLUMNS)).transpose()?,
            channels,
        })
    }

    fn write(&mut self, phase: &str, body: &EventBody) -> csv::Result<()> {
        match (body, &mut self.power, &mut self.gpu) {
            (EventBody::Meters(batch), Some(rows), _) => {
                write_power(rows, phase, &self.channels, batch)
            }
            (EventBody::Gpu(sample), _, Some(rows)) => rows.write_record(gpu_row(phase, sample)),
            _ => Ok(()),
        }
    }

    fn flush(self) -> csv::Result<()> {
        for mut rows in self.power.into_iter().chain(self.gpu) {
            rows.flush()?;
        }
        Ok(())
    }
}

impl Readings {
    /// Makes the tables, and takes what spans give from now on.
    pub(super) fn begin(
        directory: Option<&Path>,
        channels: Vec<MeterChannel>,
    ) -> Result<Readings, Failure> {
        let tables = Tables::open(directory, channels)?;
        let (sender, receiver) = channel(BACKLOG);
        let thread = std::thread::Builder::new()
            .name("hx-readings".to_owned())
            .spawn(move || take(receiver, tables))
            .or_fail(ExitCode::Failed, || {
                "cannot start the thread that takes readings".to_owned()
            })?;
        Ok(Readings {
            sink: Arc::new(EventSink::new(sender)),
            thread,
        })
    }

    /// Readings belong to this span from now on.
    pub(super) fn begin_span(
        &self,
        sampler: &PowerSampler,
        name: &str,
        t0: MonotonicNs,
        roots: Vec<u32>,
    ) {
        self.sink.begin_phase(name, t0);
        sampler.begin_phase(t0, &self.sink, roots);
    }

    /// Readings belong to no span from now on.
    pub(super) fn end_span(&self, sampler: &PowerSampler) {
        sampler.end_phase();
        self.sink.end_phase();
    }

    /// Writes what is left. The first failure is reported here: the command was not to suffer.
    pub(super) fn finish(self) -> Result<Seen, Failure> {
        self.sink.flush();
        drop(self.sink);
        let joined = self.thread.join();
        let mut seen = joined.map_err(|_panic| {
            let message = "the thread that takes readings ended badly: not all of them are written";
            Failure::message(ExitCode::Failed, message)
        })?;
        match seen.failed.take() {
            None => Ok(seen),
            Some(error) => {
                Err(error).or_fail(ExitCode::Failed, || "cannot write the readings".to_owned())
            }
        }
    }
}

fn take(mut events: Receiver<Event>, mut tables: Tables) -> Seen {
    let mut seen = Seen::default();
    while let Some(event) = events.blocking_recv() {
        let phase = event.phase.as_deref().unwrap_or_default();
        match &event.body {
            EventBody::Dropped { count } => seen.dropped += count,
            EventBody::Gpu(sample) if phase == COMMAND => {
                seen.gpus
                    .entry(sample.uuid.clone())
                    .or_default()
                    .take(sample);
            }
            _ => {}
        }
        if seen.failed.is_none() {
            seen.failed = tables.write(phase, &event.body).err();
        }
    }
    let flushed = tables.flush();
    seen.failed = seen.failed.or(flushed.err());
    seen
}
