//! A shell script that plays one direction with htb and netem.

use std::io::Write;

use super::super::{RowSource, Spans};
use super::{Exported, PACKET_BYTES, failed};
use crate::{Direction, LinkState, TraceError, UNLIMITED_RATE_BPS};

/// The most rows of a script.
const MOST_ROWS: u64 = 200_000;

/// The rate that stands for no limit, in bit/s.
const UNLIMITED_SCRIPT_BPS: u64 = 100_000_000_000;

const HEAD: &str = r#"#!/bin/sh
# Plays a trace on one network interface with htb and netem, as root:
#   sh SCRIPT INTERFACE
# The interface's root queueing discipline is replaced, and deleted at the end or on a signal.
# Every row takes the time of two tc commands on top of its own, so that the script falls behind
# slowly; hexloop itself plays a trace exactly. Needs a sleep that takes fractions.
set -eu
DEV=${1:?the network interface, such as eth0}
finish() { tc qdisc del dev "$DEV" root 2>/dev/null || true; }
trap 'finish; exit 130' INT
trap 'finish; exit 143' TERM
trap finish EXIT
tc qdisc replace dev "$DEV" root handle 1: htb default 10
tc class add dev "$DEV" parent 1: classid 1:10 htb rate 100gbit
tc qdisc add dev "$DEV" parent 1:10 handle 10: netem limit 1000
# rate in bit/s, delay and jitter in us, loss, duplicates, corruption in %, packets, seconds
row() {
  tc class change dev "$DEV" parent 1: classid 1:10 htb rate "${1}bit" ceil "${1}bit"
  tc qdisc change dev "$DEV" parent 1:10 handle 10: netem delay "${2}us" "${3}us" \
    loss "${4}%" duplicate "${5}%" corrupt "${6}%" limit "${7}"
  sleep "$8"
}
"#;

/// Writes a POSIX shell script for one direction. The user runs it: it changes an interface.
///
/// # Errors
/// More than 200000 rows, or `sink` takes no more.
pub fn netem(
    source: impl RowSource,
    direction: Direction,
    sink: &mut impl Write,
) -> Result<Exported, TraceError> {
    let mut spans = Spans::new(source);
    let mut exported = Exported::default();
    sink.write_all(HEAD.as_bytes()).map_err(failed)?;
    let name: String = spans
        .metadata()
        .scenario
        .chars()
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .take(200)
        .collect();
    writeln!(sink, "# {name}, {}link", direction.name()).map_err(failed)?;
    while let Some((row, until_ns)) = spans.next_span()? {
        exported.entries += 1;
        if exported.entries > MOST_ROWS {
            return Err(TraceError::Generator {
                setting: "netem",
                problem: format!(
                    "the script would have more than {MOST_ROWS} rows; use a longer step, such as \
                     --step \"100 ms\""
                ),
            });
        }
        let length_ns = until_ns - row.t_ns;
        if length_ns < 20_000_000 {
            exported.warn("rows shorter than 20 ms: the script cannot keep up; use --step");
        }
        let line = line(row.direction(direction), length_ns, &mut exported);
        writeln!(sink, "{line}").map_err(failed)?;
    }
    Ok(exported)
}

fn line(state: &LinkState, length_ns: u64, exported: &mut Exported) -> String {
    let (rate, loss_ppb) = match state.rate_bps {
        0 => {
            exported.warn("packets in an outage are lost; hexloop holds them in the queue");
            (UNLIMITED_SCRIPT_BPS, 1_000_000_000)
        }
        UNLIMITED_RATE_BPS => (UNLIMITED_SCRIPT_BPS, state.loss_ppb),
        rate => (rate.min(UNLIMITED_SCRIPT_BPS), state.loss_ppb),
    };
    if state.loss_burst_milli > 1000 {
        exported.warn("losses are independent in the script");
    }
    // netem holds packets for the delay in the same queue that the limit counts.
    let under_way = u128::from(rate) * u128::from(state.delay_ns) / 8_000_000_000;
    let queued = match state.queue_bytes {
        0 => u128::from(PACKET_BYTES) * 1000,
        bytes => bytes.into(),
    };
    let limit = (under_way + queued)
        .div_ceil(PACKET_BYTES.into())
        .min(10_000_000);
    format!(
        "row {rate} {} {} {} {} {} {limit} {}.{:09}",
        thousandths(state.delay_ns),
        thousandths(state.jitter_ns.into()),
        percent(loss_ppb),
        percent(state.dup_ppb),
        percent(state.corrupt_ppb),
        length_ns / 1_000_000_000,
        length_ns % 1_000_000_000
    )
}

/// Nanoseconds as microseconds.
fn thousandths(ns: u64) -> String {
    format!("{}.{:03}", ns / 1000, ns % 1000)
}

/// Parts of 10^9 as percent.
fn percent(ppb: u32) -> String {
    format!("{}.{:07}", ppb / 10_000_000, ppb % 10_000_000)
}
