//! TheaterQ's trace files.

use std::io::Write;

use super::super::{RowSource, Spans};
use super::{Exported, PACKET_BYTES, failed};
use crate::{Direction, LinkState, TraceError, UNLIMITED_RATE_BPS};

/// Which of TheaterQ's line formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TheaterqForm {
    /// Keep, latency, rate, loss, limit.
    Simple,
    /// With jitter, duplicates and routes.
    Extended,
}

/// TheaterQ's own limit, where the trace leaves the queue to the link.
const DEFAULT_LIMIT_PACKETS: u32 = 1000;

/// Square root of 3, by which the half-width of a uniform jitter exceeds its standard deviation.
const UNIFORM_WIDTH: f64 = 1.732_050_807_568_877_2;

/// Writes one direction as entries that each keep for whole microseconds; the times at which they
/// begin are rounded down, so that no error adds up. The limit counts packets.
///
/// # Errors
/// The rows cannot be read, or `sink` takes no more.
pub fn theaterq(
    source: impl RowSource,
    direction: Direction,
    form: TheaterqForm,
    sink: &mut impl Write,
) -> Result<Exported, TraceError> {
    let mut spans = Spans::new(source);
    let mut exported = Exported::default();
    let fields = match form {
        TheaterqForm::Simple => "KEEP,LATENCY,RATE,LOSS,LIMIT",
        TheaterqForm::Extended => "KEEP,LATENCY,JITTER,RATE,LOSS,LIMIT,DUP_PROB,DUP_DELAY,ROUTE_ID",
    };
    writeln!(sink, "# {fields}").map_err(failed)?;
    while let Some((row, until_ns)) = spans.next_span()? {
        let keep_us = until_ns / 1000 - row.t_ns / 1000;
        if keep_us == 0 {
            exported.warn("rows shorter than a microsecond are left out");
            continue;
        }
        let state = row.direction(direction);
        entry(sink, form, keep_us, state, &mut exported).map_err(failed)?;
        exported.entries += 1;
    }
    if exported.entries == 0 {
        return Err(TraceError::Generator {
            setting: "theaterq",
            problem: "the trace is shorter than a microsecond".to_owned(),
        });
    }
    Ok(exported)
}

fn entry(
    sink: &mut impl Write,
    form: TheaterqForm,
    keep_us: u64,
    state: &LinkState,
    exported: &mut Exported,
) -> std::io::Result<()> {
    // A rate of 0 does not limit there, so that an outage must lose what it would hold.
    let (rate, loss_ppb) = match state.rate_bps {
        0 => {
            exported.warn("packets in an outage are lost; hexloop holds them in the queue");
            (0, 1_000_000_000)
        }
        UNLIMITED_RATE_BPS => (0, state.loss_ppb),
        rate => (rate, state.loss_ppb),
    };
    let latency = state.delay_ns;
    let loss = scaled(loss_ppb);
    let limit = match state.queue_bytes {
        0 => DEFAULT_LIMIT_PACKETS,
        bytes => bytes.div_ceil(PACKET_BYTES),
    };
    if state.corrupt_ppb > 0 {
        exported.warn("corruption is not in the file");
    }
    if state.loss_burst_milli > 1000 {
        exported.warn("losses are independent in the file");
    }
    match form {
        TheaterqForm::Simple => {
            if state.jitter_ns > 0 || state.dup_ppb > 0 {
                exported.warn("jitter and duplicates are not in the simple form; use the extended");
            }
            writeln!(sink, "{keep_us},{latency},{rate},{loss},{limit}")
        }
        TheaterqForm::Extended => {
            let jitter = deviation(state.jitter_ns);
            let duplicates = scaled(state.dup_ppb);
            writeln!(
                sink,
                "{keep_us},{latency},{jitter},{rate},{loss},{limit},{duplicates},0,1"
            )
        }
    }
}

/// Parts of 10^9 as parts of 2^32 - 1.
fn scaled(ppb: u32) -> u64 {
    (u64::from(ppb) * u64::from(u32::MAX) + 500_000_000) / 1_000_000_000
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "less than the half-width, which has 32 bits"
)]
fn deviation(half_width_ns: u32) -> u64 {
    libm::round(f64::from(half_width_ns) / UNIFORM_WIDTH) as u64
}
