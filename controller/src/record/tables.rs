//! The records as CSV: one header row, units in the names, empty for null, so that pandas and
//! DuckDB read them as they are.

use std::collections::BTreeMap;
use std::io;

use hexloop_proto::{GpuSample, LinkWindow, MeterChannel, MeterReadings};
use hexloop_workloads::job::{Outcome, RequestRecord};

use crate::energy::{idle_power, known_idle, request_energies};
use crate::format::rounded;
use crate::results::{PhaseResults, Results};

type Rows = csv::Writer<Vec<u8>>;

fn finish(rows: Rows) -> csv::Result<Vec<u8>> {
    rows.into_inner()
        .map_err(|error| csv::Error::from(error.into_error()))
}

fn text<T: ToString>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// Everything that the events say once more as tables and histograms: file names and contents.
///
/// # Errors
/// A histogram cannot hold a value, or a table cannot be written to memory.
pub(crate) fn tables(results: &Results) -> Result<Vec<(&'static str, Vec<u8>)>, anyhow::Error> {
    let mut tables = vec![
        ("requests.csv", request_table(results)?),
        ("samples.csv", sample_table(results)?),
        ("link.csv", link_table(results)?),
        ("power.csv", power_table(results)?),
        ("gpu.csv", gpu_table(results)?),
        ("cores.csv", core_table(results)?),
        ("latency.hlog", super::histogram_log(results)?),
    ];
    if results
        .phases
        .iter()
        .any(|phase| !phase.exchanges.is_empty())
    {
        tables.push(("exchanges.csv", exchange_table(results)?));
    }
    Ok(tables)
}

/// One row per request. Its energy is its share of the meters' intervals of 100 ms, above idle: derived,
/// and empty where nothing can be split.
///
/// # Errors
/// Never: it is written to memory.
pub fn request_table(results: &Results) -> csv::Result<Vec<u8>> {
    let mut rows = csv::Writer::from_writer(Vec::new());
    rows.write_record([
        "phase",
        "request",
        "scheduled_ns",
        "sent_ns",
        "first_token_ns",
        "last_token_ns",
        "prompt_tokens",
        "output_tokens",
        "outcome",
        "failure",
        "payload_up_bytes",
        "payload_down_bytes",
        "token_times_ns",
        "tokens",
        "derived_energy_j",
        "derived_energy_uncertainty_j",
    ])?;
    let idle = idle_power(&known_idle(&results.idle));
    let list = |values: &mut dyn Iterator<Item = String>| values.collect::<Vec<_>>().join(" ");
    for phase in &results.phases {
        // Where there are none, the cells stay empty, and the summary says why.
        let energies = request_energies(results, phase, idle).ok();
        let energies: BTreeMap<u32, (f64, Option<f64>)> = energies
            .map(|found| (found.split.requests_j, found.uncertainty_j))
            .into_iter()
            .flat_map(|(requests, open)| requests.into_iter().zip(open))
            .map(|((id, energy_j), open_j)| (id, (energy_j, open_j)))
            .collect();
        for record in phase.requests.values() {
            let energy = energies.get(&record.id);
            let (outcome, failure) = match &record.outcome {
                Outcome::Completed => ("completed", String::new()),
                Outcome::Unfinished => ("unfinished", String::new()),
                Outcome::Failed { reason } => ("failed", reason.clone()),
            };
            rows.write_record([
                phase.name.clone(),
                record.id.to_string(),
                record.scheduled_ns.to_string(),
                record.sent_ns.to_string(),
                text(record.token_ns.first()),
                text(record.token_ns.last()),
                prompt_tokens(phase, record),
                output_tokens(phase, record).to_string(),
                outcome.to_owned(),
                failure,
                record.payload.up.to_string(),
                record.payload.down.to_string(),
                list(&mut record.token_ns.iter().map(u64::to_string)),
                list(&mut record.tokens.iter().map(u32::to_string)),
                text(energy.map(|energy| rounded(energy.0, 9))),
                text(energy.and_then(|energy| Some(rounded(energy.1?, 9)))),
            ])?;
        }
    }
    finish(rows)
}

/// Tokens of a prompt; empty where only a server could have counted them and did not.
fn prompt_tokens(phase: &PhaseResults, record: &RequestRecord) -> String {
    match phase.exchanges.get(&record.id) {
        Some(exchange) => text(exchange.prompt_tokens),
        None => record.prompt_tokens.to_string(),
    }
}

/// Tokens of an answer: of a server's, as it counted, else events that carried text.
fn output_tokens(phase: &PhaseResults, record: &RequestRecord) -> usize {
    match phase.exchanges.get(&record.id) {
        Some(exchange) => {
            let counted = exchange.output_tokens.map(usize::try_from);
            counted
                .and_then(Result::ok)
                .unwrap_or(record.token_ns.len())
        }
        None => record.tokens.len(),
    }
}

/// One row per exchange with a server.
///
/// # Errors
/// Never: it is written to memory.
fn exchange_table(results: &Results) -> csv::Result<Vec<u8>> {
    let mut rows = csv::Writer::from_writer(Vec::new());
    rows.write_record([
        "phase",
        "request",
        "conversation",
        "turn",
        "ending",
        "status",
        "connected_ns",
        "first_byte_ns",
        "last_byte_ns",
        "burst_bytes",
        "events",
        "text_bytes",
        "prompt_words",
        "prompt_tokens",
        "output_tokens",
    ])?;
    for phase in &results.phases {
        for exchange in phase.exchanges.values() {
            let bursts: Vec<String> = exchange.bursts.iter().map(u32::to_string).collect();
            rows.write_record([
                phase.name.clone(),
                exchange.id.to_string(),
                exchange.conversation.to_string(),
                exchange.turn.to_string(),
                exchange.ending.name().to_owned(),
                text(exchange.status),
                text(exchange.connected_ns),
                text(exchange.first_byte_ns),
                text(exchange.last_byte_ns),
                bursts.join(" "),
                exchange.pieces.to_string(),
                exchange.text_bytes.to_string(),
                exchange.prompt_words.to_string(),
                text(exchange.prompt_tokens),
                text(exchange.output_tokens),
            ])?;
        }
    }
    finish(rows)
}

/// One row per sample of a node.
///
/// # Errors
/// Never: it is written to memory.
pub fn sample_table(results: &Results) -> csv::Result<Vec<u8>> {
    let mut rows = csv::Writer::from_writer(Vec::new());
    rows.write_record([
        "phase",
        "node",
        "at_ns",
        "cpu_ns",
        "memory_bytes",
        "throttled_periods",
    ])?;
    for phase in &results.phases {
        for sample in &phase.samples {
            rows.write_record([
                phase.name.clone(),
                sample.node.clone(),
                sample.at_ns.to_string(),
                sample.cpu_ns.to_string(),
                sample.memory_bytes.to_string(),
                text(sample.throttled_periods),
            ])?;
        }
    }
    finish(rows)
}

/// The columns of link.csv.
pub(crate) const LINK_COLUMNS: [&str; 15] = [
    "phase",
    "link",
    "direction",
    "start_ns",
    "length_ns",
    "trace_bytes",
    "delivered_bytes",
    "delivered_packets",
    "backlogged",
    "queue_bytes",
    "dropped_packets",
    "lost_packets",
    "marked_packets",
    "duplicated_packets",
    "corrupted_packets",
];

/// One row of link.csv.
pub(crate) fn link_row(phase: &str, window: &LinkWindow) -> [String; LINK_COLUMNS.len()] {
    [
        phase.to_owned(),
        window.link.clone(),
        window.direction.name().to_owned(),
        window.start_ns.to_string(),
        window.length_ns.to_string(),
        window.trace_bytes.to_string(),
        window.delivered_bytes.to_string(),
        window.delivered_packets.to_string(),
        window.backlogged.to_string(),
        window.queue_bytes.to_string(),
        window.dropped_packets.to_string(),
        window.lost_packets.to_string(),
        window.marked_packets.to_string(),
        window.duplicated_packets.to_string(),
        window.corrupted_packets.to_string(),
    ]
}

/// One row per window of each direction of each link; `phase` is empty during calibration.
///
/// # Errors
/// Never: it is written to memory.
pub fn link_table(results: &Results) -> csv::Result<Vec<u8>> {
    let mut rows = csv::Writer::from_writer(Vec::new());
    rows.write_record(LINK_COLUMNS)?;
    let calibration = results
        .calibration_windows
        .iter()
        .map(|window| ("", window));
    let phases = results.phases.iter();
    let phases = phases.flat_map(|p| p.windows.iter().map(|window| (p.name.as_str(), window)));
    for (phase, window) in calibration.chain(phases) {
        rows.write_record(link_row(phase, window))?;
    }
    finish(rows)
}

/// One row per reading of a channel of a meter: microjoules of a counter, or microwatts.
///
/// # Errors
/// Never: it is written to memory.
fn power_table(results: &Results) -> csv::Result<Vec<u8>> {
    let mut rows = csv::Writer::from_writer(Vec::new());
    rows.write_record(POWER_COLUMNS)?;
    let channels = results.agent.as_ref().map(|agent| agent.meters.as_slice());
    for phase in &results.phases {
        for batch in &phase.meters {
            write_power(&mut rows, &phase.name, channels.unwrap_or_default(), batch)?;
        }
    }
    finish(rows)
}

/// The columns of power.csv.
pub(crate) const POWER_COLUMNS: [&str; 8] = [
    "phase", "at_ns", "device", "scope", "quantity", "source", "unit", "value",
];

/// Rows of power.csv.
///
/// # Errors
/// They cannot be written.
pub(crate) fn write_power<W: io::Write>(
    rows: &mut csv::Writer<W>,
    phase: &str,
    channels: &[MeterChannel],
    batch: &MeterReadings,
) -> csv::Result<()> {
    for (at_ns, values) in batch.at_ns.iter().zip(&batch.values) {
        for (channel, value) in channels.iter().zip(values) {
            let unit = if channel.is_counter() { "uJ" } else { "uW" };
            rows.write_record([
                phase,
                &at_ns.to_string(),
                &channel.device,
                &channel.scope,
                &channel.quantity,
                &channel.source,
                unit,
                &text(*value),
            ])?;
        }
    }
    Ok(())
}

/// One row per core and second of a phase.
///
/// # Errors
/// Never: it is written to memory.
fn core_table(results: &Results) -> csv::Result<Vec<u8>> {
    let mut rows = csv::Writer::from_writer(Vec::new());
    rows.write_record([
        "phase",
        "at_ns",
        "span_ns",
        "cpu",
        "busy_ns",
        "steal_ns",
        "frequency_hz",
    ])?;
    for phase in &results.phases {
        for sample in &phase.cores {
            for core in &sample.cores {
                rows.write_record([
                    phase.name.clone(),
                    sample.at_ns.to_string(),
                    sample.span_ns.to_string(),
                    core.cpu.to_string(),
                    core.busy_ns.to_string(),
                    core.steal_ns.to_string(),
                    text(core.frequency_hz),
                ])?;
            }
        }
    }
    finish(rows)
}

/// A figure of each process of a GPU, in the order of its processes; empty where it is not told.
fn of_processes(
    sample: &GpuSample,
    figure: impl Fn(&(u32, Option<u64>, Option<u32>)) -> String,
) -> String {
    let figures = sample.process_use.iter().map(figure);
    figures.collect::<Vec<String>>().join(" ")
}

/// One row per look at a GPU.
///
/// # Errors
/// Never: it is written to memory.
fn gpu_table(results: &Results) -> csv::Result<Vec<u8>> {
    let mut rows = csv::Writer::from_writer(Vec::new());
    rows.write_record(GPU_COLUMNS)?;
    for phase in &results.phases {
        for sample in &phase.gpus {
            rows.write_record(gpu_row(&phase.name, sample))?;
        }
    }
    finish(rows)
}

/// The columns of gpu.csv.
pub(crate) const GPU_COLUMNS: [&str; 23] = [
    "phase",
    "at_ns",
    "uuid",
    "trouble",
    "memory_used_bytes",
    "busy_percent",
    "sm_clock_mhz",
    "memory_clock_mhz",
    "temperature_c",
    "throttle_reasons",
    "performance_state",
    "mig",
    "processes",
    "foreign_processes",
    "memory_busy_percent",
    "power_limit_mw",
    "mps_processes",
    "process_memory_bytes",
    "process_sm_percent",
    "sm_active_percent",
    "sm_occupancy_percent",
    "tensor_active_percent",
    "memory_bandwidth_percent",
];

/// One row of gpu.csv.
pub(crate) fn gpu_row(phase: &str, sample: &GpuSample) -> [String; GPU_COLUMNS.len()] {
    let percent = |hundredths: Option<u32>| text(hundredths.map(|value| f64::from(value) / 100.0));
    let list = |pids: &Option<Vec<u32>>| {
        let pids = pids.as_deref().unwrap_or_default().iter();
        pids.map(u32::to_string).collect::<Vec<String>>().join(" ")
    };
    let activity = sample.activity.unwrap_or_default();
    [
        phase.to_owned(),
        sample.at_ns.to_string(),
        sample.uuid.clone(),
        text(sample.trouble.as_ref()),
        text(sample.memory_used_bytes),
        text(sample.busy_percent),
        text(sample.sm_clock_mhz),
        text(sample.memory_clock_mhz),
        text(sample.temperature_c),
        text(sample.throttle_reasons),
        text(sample.performance_state),
        text(sample.mig),
        list(&sample.processes),
        list(&sample.foreign_processes),
        text(sample.memory_busy_percent),
        text(sample.power_limit_mw),
        text(sample.mps_processes),
        of_processes(sample, |one| text(one.1)),
        of_processes(sample, |one| text(one.2)),
        percent(activity[0]),
        percent(activity[1]),
        percent(activity[2]),
        percent(activity[3]),
    ]
}
