//! Mahimahi's packet delivery files.

use std::io::Write;

use super::super::{RowSource, Spans};
use super::{Exported, failed};
use crate::{Direction, TraceError, UNLIMITED_RATE_BPS};

/// Bit-nanoseconds x 10^-9 of one opportunity: 1500 bytes of IP.
const OPPORTUNITY: u128 = 1500 * 8 * 1_000_000_000;

const NS_PER_MS: u64 = 1_000_000;

/// What mahimahi keeps up with, in bit/s: above, it spends its time on the file.
const FAST_BPS: u64 = 1_000_000_000;

/// The most lines that are written: four billion.
const MOST_LINES: u64 = 1 << 32;

/// Writes one direction as opportunities of 1500 bytes of IP, each at the end of the millisecond
/// that completes it: what is left over is carried on, so that at every millisecond the file has
/// delivered as many bytes as the trace, less what is below one packet.
///
/// The file repeats after its last line, which must stand at the trace's end: where the last
/// millisecond completes no packet, one is added there, and the period carries at most one packet
/// too much.
///
/// # Errors
/// A rate without limit, a trace of 0 bytes, more than 2^32 lines, or `sink` takes no more.
pub fn mahimahi(
    source: impl RowSource,
    direction: Direction,
    sink: &mut impl Write,
) -> Result<Exported, TraceError> {
    let mut spans = Spans::new(source);
    let duration_ns = spans.metadata().duration_ns;
    let period_ms = duration_ns.div_ceil(NS_PER_MS);
    let mut exported = Exported::default();
    if !duration_ns.is_multiple_of(NS_PER_MS) {
        exported.warn(format!(
            "the trace of {duration_ns} ns repeats after {period_ms} ms"
        ));
    }
    let mut owed = 0_u128;
    let mut last_line_ms = 0;
    let mut lost_delay = false;
    while let Some((row, until_ns)) = spans.next_span()? {
        let state = row.direction(direction);
        if state.rate_bps == UNLIMITED_RATE_BPS {
            return Err(TraceError::Impossible {
                row: 0,
                field: format!("{}_rate_bps", direction.name()),
                value: format!("unlimited at {} ns", row.t_ns),
                expected: "a limited rate: mahimahi has no other".into(),
            });
        }
        if state.rate_bps > FAST_BPS {
            exported.warn("rates above 1 Gbit/s: mahimahi may not keep up with its file");
        }
        lost_delay |= state.delay_ns > 0 || state.loss_ppb > 0;
        let mut from_ns = row.t_ns;
        while from_ns < until_ns {
            let ms = from_ns / NS_PER_MS;
            let end_ns = (ms + 1).saturating_mul(NS_PER_MS).min(until_ns);
            owed += u128::from(state.rate_bps) * u128::from(end_ns - from_ns);
            from_ns = end_ns;
            let at_end = end_ns.is_multiple_of(NS_PER_MS) || end_ns == duration_ns;
            while at_end && owed >= OPPORTUNITY {
                owed -= OPPORTUNITY;
                last_line_ms = ms + 1;
                exported.entries += 1;
                writeln!(sink, "{last_line_ms}").map_err(failed)?;
            }
            if exported.entries > MOST_LINES {
                return Err(TraceError::Generator {
                    setting: "mahimahi",
                    problem: format!("the trace gives more than {MOST_LINES} lines"),
                });
            }
        }
    }
    if exported.entries == 0 && owed == 0 {
        return Err(TraceError::Generator {
            setting: "mahimahi",
            problem: format!(
                "the {}link carries nothing at all, which mahimahi cannot say",
                direction.name()
            ),
        });
    }
    if last_line_ms < period_ms {
        exported.entries += 1;
        writeln!(sink, "{period_ms}").map_err(failed)?;
        exported.warn(format!(
            "a packet was added at {period_ms} ms, where the file repeats"
        ));
    }
    if lost_delay {
        exported.warn("delays and losses are not in the file; use mm-delay and mm-loss");
    }
    Ok(exported)
}
