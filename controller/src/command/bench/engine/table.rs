//! The document as a table for terminals.

use std::fmt::Write as _;

use hexloop_proto::Measurement;
use hexloop_workloads::engine::bench::BenchPhase;

use super::peers::Peer;
use super::roofline::Roofline;
use super::{EngineDocument, EngineRow};
use crate::format::{count_to_f64, grouped, significant};

/// The table.
pub(super) fn table(document: &EngineDocument) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_table(&mut text, document);
    text
}

fn gigabytes(bytes: f64) -> String {
    significant(bytes / 1e9)
}

fn or_dash(measurement: &Measurement) -> String {
    measurement
        .value()
        .map_or_else(|| "-".to_owned(), significant)
}

fn write_table(text: &mut String, document: &EngineDocument) -> std::fmt::Result {
    let machine = &document.machine;
    writeln!(
        text,
        "{}; {}, {} CPUs\n{}, {} threads; {} parameters, weights {} GB, loaded in {} s",
        machine.kernel,
        machine.cpu_model,
        machine.cpus,
        document.engine_path,
        document.asked.threads,
        grouped(document.parameters),
        gigabytes(count_to_f64(document.weight_bytes)),
        significant(document.load_s)
    )?;
    writeln!(
        text,
        "prompts of {} tokens, {} made of each; windows of {} s at least\n",
        document.asked.prompt_tokens,
        document.asked.output_tokens,
        significant(crate::format::ns_to_s(document.asked.window_ns))
    )?;
    writeln!(
        text,
        "phase    batch    tokens/s  roofline  of it  weights GB/s  cache GB        W   J/token  active J/token"
    )?;
    for row in &document.rows {
        write_row(text, row)?;
    }
    if let Some(reason) = &document.no_room {
        writeln!(text, "{reason}")?;
    }
    write_roofline(text, &document.roofline)?;
    for peer in &document.peers {
        write_peer(text, peer)?;
    }
    match &document.idle_w {
        Measurement::Unavailable { why } => writeln!(text, "energy: Unavailable: {why}"),
        idle => writeln!(
            text,
            "idle with the model loaded: {} W, {}",
            or_dash(idle),
            source(idle)
        ),
    }
}

/// The two ceilings, where they meet, and whether throughput grows up to there.
fn write_roofline(text: &mut String, roofline: &Roofline) -> std::fmt::Result {
    let told = |measurement: &Measurement, unit: &str| match measurement.value() {
        Some(value) => format!("{} {unit}, {}", gigabytes(value), source(measurement)),
        None => format!("Unavailable: {}", source(measurement)),
    };
    writeln!(
        text,
        "roofline: reads {}\nroofline: multiplies {}",
        told(&roofline.bandwidth_bytes_per_s, "GB/s"),
        told(&roofline.peak_products_per_s, "G products/s")
    )?;
    match roofline.ridge_batch.value() {
        Some(ridge) => writeln!(
            text,
            "ridge: from a batch of {} on multiplying takes longer than reading",
            significant(ridge)
        )?,
        None => writeln!(
            text,
            "ridge: Unavailable: {}",
            source(&roofline.ridge_batch)
        )?,
    }
    writeln!(text, "{}", roofline.growth.told())
}

fn write_peer(text: &mut String, peer: &Peer) -> std::fmt::Result {
    match (&peer.build, &peer.unavailable) {
        (Some(build), None) => writeln!(text, "\nbeside {build}")?,
        (_, why) => {
            let why = why.as_deref().unwrap_or_default();
            writeln!(text, "\nbeside {}: Unavailable: {why}", peer.name)?;
        }
    }
    for row in &peer.rows {
        writeln!(
            text,
            "{:8} {} of its speed ({} to {} in {} rounds)",
            name_of(row.phase),
            significant(row.ratio),
            significant(row.ratio_least),
            significant(row.ratio_most),
            row.own_tokens_per_s.len()
        )?;
    }
    Ok(())
}

const fn name_of(phase: BenchPhase) -> &'static str {
    match phase {
        BenchPhase::Idle => "idle",
        BenchPhase::Prefill => "prefill",
        BenchPhase::Decode => "decode",
    }
}

fn source(measurement: &Measurement) -> &str {
    match measurement {
        Measurement::Measured { source, .. }
        | Measurement::Derived { source, .. }
        | Measurement::Estimated { source, .. } => source,
        Measurement::Unavailable { why } => why,
    }
}

fn write_row(text: &mut String, row: &EngineRow) -> std::fmt::Result {
    let phase = name_of(row.phase);
    writeln!(
        text,
        "{phase:8} {:>5} {:>11} {:>9} {:>6} {:>13} {:>9} {:>8} {:>9} {:>15}",
        row.batch,
        significant(row.tokens_per_s),
        or_dash(&row.roofline.tokens_per_s),
        or_dash(&row.roofline.reached),
        gigabytes(row.weight_bytes_per_s),
        gigabytes(count_to_f64(row.cache_bytes)),
        or_dash(&row.power_w),
        or_dash(&row.j_per_token),
        or_dash(&row.active_j_per_token)
    )
}
