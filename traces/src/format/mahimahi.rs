//! Import of mahimahi's packet delivery files.
//!
//! One whole number of milliseconds per line, never decreasing; each line is one opportunity to
//! deliver a packet of 1500 bytes of IP (1504 of the TUN frame) at that moment. Repeated lines
//! are further opportunities. The file repeats after its last value.
//!
//! An opportunity at t becomes rate in the millisecond that *ends* at t (one at 0: in the
//! first), so that what mahimahi has delivered by any whole millisecond after the first, the
//! trace has too, and every byte of the file is in the trace exactly.

use std::collections::BTreeMap;

use crate::generate::MOST_ROWS;
use crate::{
    Diagnostics, Direction, EndPolicy, LinkState, TRACE_SCHEMA, Trace, TraceError, TraceMetadata,
    TraceRow, TraceStatus, UNLIMITED_RATE_BPS,
};

/// Bits of IP in one opportunity.
const OPPORTUNITY_BITS: u64 = 1500 * 8;

const NS_PER_MS: u64 = 1_000_000;

/// What a mahimahi file leaves open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportSettings {
    /// The name of the recording.
    pub scenario: String,
    /// One-way delay of each direction.
    pub delay_ns: u64,
    /// Queue before the bottleneck; 0 leaves it to the link.
    pub queue_bytes: u32,
}

/// One file: how many opportunities there are in each millisecond that has any.
struct Opportunities {
    /// Index of the millisecond, count; in order.
    counts: Vec<(u64, u64)>,
    period_ms: u64,
}

/// Makes a looping trace from the text of a `.down` file and, where there is one, an `.up` file;
/// without it the uplink has no limit.
///
/// Where the two have different periods, the trace is as long as the longer one and the shorter
/// one is repeated and cut at its end; the metadata says so.
///
/// # Errors
/// The first mistake, with its line and column (and whether it is in the uplink's file), or more
/// rows than this program makes.
pub fn parse(down: &str, up: Option<&str>, settings: &ImportSettings) -> Result<Trace, TraceError> {
    let down = read(down, Direction::Down)?;
    let up = up.map(|text| read(text, Direction::Up)).transpose()?;
    let up_period_ms = up.as_ref().map_or(down.period_ms, |up| up.period_ms);
    let duration_ms = down.period_ms.max(up_period_ms);
    let duration_ns = duration_ms
        .checked_mul(NS_PER_MS)
        .ok_or_else(|| TraceError::Generator {
            setting: "mahimahi",
            problem: format!("the period of {duration_ms} ms is longer than 584 years"),
        })?;

    let mut changes: BTreeMap<u64, [Option<u64>; 2]> = BTreeMap::new();
    add_changes(&mut changes, 0, &down, duration_ms)?;
    match &up {
        Some(up) => add_changes(&mut changes, 1, up, duration_ms)?,
        None => changes.entry(0).or_default()[1] = Some(UNLIMITED_RATE_BPS),
    }
    let mut rates = [0; 2];
    let mut rows = Vec::with_capacity(changes.len());
    for (at_ms, change) in changes {
        for (rate, new) in rates.iter_mut().zip(change) {
            *rate = new.unwrap_or(*rate);
        }
        let state = |rate_bps| LinkState {
            rate_bps,
            delay_ns: settings.delay_ns,
            queue_bytes: settings.queue_bytes,
            ..LinkState::TRANSPARENT
        };
        rows.push(TraceRow {
            t_ns: at_ms * NS_PER_MS,
            down: state(rates[0]),
            up: state(rates[1]),
            diagnostics: Diagnostics::default(),
        });
    }
    let mut notes = vec![
        "imported from mahimahi; an opportunity is 1500 bytes of IP, spread over the millisecond \
         that ends with it"
            .to_owned(),
    ];
    if up.is_none() {
        notes.push("the recording has no uplink; the uplink is not limited".to_owned());
    } else if up_period_ms != down.period_ms {
        notes.push(format!(
            "the downlink repeats after {} ms, the uplink after {up_period_ms} ms; the shorter \
             one was repeated and cut at {duration_ms} ms",
            down.period_ms
        ));
    }
    let metadata = TraceMetadata {
        schema: TRACE_SCHEMA,
        scenario: settings.scenario.clone(),
        status: TraceStatus::Recorded,
        duration_ns,
        end: EndPolicy::Loop,
        seed: None,
        generator: "hexloop mahimahi import v1".to_owned(),
        configuration: BTreeMap::new(),
        notes,
        provenance: crate::Provenance::default(),
    };
    Trace::new(metadata, rows)
}

/// Reads the lines of one file.
fn read(text: &str, direction: Direction) -> Result<Opportunities, TraceError> {
    let mut counts: Vec<(u64, u64)> = Vec::new();
    let mut previous_ms = 0;
    let mut last_line = 1;
    // A file ends with a line feed; only that one may be followed by nothing.
    let text = text.strip_suffix('\n').unwrap_or(text);
    for (index, line) in text.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        last_line = index + 1;
        let error = |problem: String| TraceError::Syntax {
            line: index + 1,
            column: 1,
            problem: format!("{problem} (mahimahi {}link)", direction.name()),
        };
        let digits = !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_digit());
        let Some(at_ms) = digits.then(|| line.parse::<u64>().ok()).flatten() else {
            let shown: String = line.chars().take(40).collect();
            return Err(error(format!(
                "`{shown}` is no moment; expected one whole number of milliseconds per line"
            )));
        };
        if at_ms < previous_ms {
            return Err(error(format!(
                "time goes back from {previous_ms} ms to {at_ms} ms"
            )));
        }
        previous_ms = at_ms;
        let slot = at_ms.saturating_sub(1);
        match counts.last_mut() {
            Some((last, count)) if *last == slot => *count += 1,
            _ => counts.push((slot, 1)),
        }
    }
    if previous_ms == 0 {
        return Err(TraceError::Syntax {
            line: last_line,
            column: 1,
            problem: format!(
                "the last moment is 0 ms; expected the period, more than 0 (mahimahi {}link)",
                direction.name()
            ),
        });
    }
    Ok(Opportunities {
        counts,
        period_ms: previous_ms,
    })
}

/// Adds the moments at which one direction's rate changes, repeated until `duration_ms`.
fn add_changes(
    changes: &mut BTreeMap<u64, [Option<u64>; 2]>,
    index: usize,
    file: &Opportunities,
    duration_ms: u64,
) -> Result<(), TraceError> {
    let too_many = || TraceError::Generator {
        setting: "mahimahi",
        problem: format!("the recording gives more than {MOST_ROWS} rows"),
    };
    let mut current = None;
    let mut set = |at_ms: u64, rate_bps: u64| {
        if at_ms >= duration_ms || current == Some(rate_bps) {
            return Ok(());
        }
        current = Some(rate_bps);
        changes.entry(at_ms).or_default()[index] = Some(rate_bps);
        match u64::try_from(changes.len()) {
            Ok(rows) if rows <= MOST_ROWS => Ok(()),
            _ => Err(too_many()),
        }
    };
    let repeats = duration_ms.div_ceil(file.period_ms);
    // Rows that merge are not counted above, but take their time.
    let slots = u64::try_from(file.counts.len()).unwrap_or(u64::MAX);
    if repeats.saturating_mul(slots) > 4 * MOST_ROWS {
        return Err(too_many());
    }
    for repeat in 0..repeats {
        let mut end_ms = repeat * file.period_ms;
        for &(slot, count) in &file.counts {
            let start_ms = repeat * file.period_ms + slot;
            if start_ms > end_ms {
                set(end_ms, 0)?;
            }
            let rate_bps = count.saturating_mul(OPPORTUNITY_BITS * 1_000);
            set(start_ms, rate_bps)?;
            end_ms = start_ms + 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CapacityCurve;
    use proptest::prelude::*;

    fn settings() -> ImportSettings {
        ImportSettings {
            scenario: "test".to_owned(),
            delay_ns: 10_000_000,
            queue_bytes: 150_000,
        }
    }

    fn text(moments: &[u64]) -> String {
        moments.iter().map(|at_ms| format!("{at_ms}\n")).collect()
    }

    #[test]
    fn opportunities_become_rates_in_the_millisecond_that_they_end() {
        let trace = parse("0\n1\n2\n2\n5\n", Some("5\n"), &settings()).unwrap();
        let rates: Vec<_> = trace
            .rows()
            .iter()
            .map(|row| (row.t_ns / NS_PER_MS, row.down.rate_bps / 12_000_000))
            .collect();
        assert_eq!(rates, [(0, 2), (2, 0), (4, 1)]);
        assert_eq!(trace.duration_ns(), 5_000_000);
        assert_eq!(trace.metadata().end, EndPolicy::Loop);
        let up = CapacityCurve::new(&trace, Direction::Up);
        assert_eq!(up.bits_between(0, 4_000_000), 0);
        assert_eq!(up.bits_between(0, 10_000_000), 24_000);
    }

    #[test]
    fn a_recording_without_uplink_does_not_limit_it() {
        let trace = parse("1\n2", None, &settings()).unwrap();
        assert_eq!(trace.rows().len(), 1);
        assert_eq!(trace.rows()[0].up.rate_bps, UNLIMITED_RATE_BPS);
        assert_eq!(trace.rows()[0].down.rate_bps, 12_000_000);
    }

    #[test]
    fn mistakes_are_reported_with_their_line() {
        for (down, up, line, problem) in [
            ("1\nx\n", None, 2, "whole number of milliseconds"),
            ("1\n\n2\n", None, 2, "whole number of milliseconds"),
            ("", None, 1, "whole number"),
            ("3\n2\n", None, 2, "goes back from 3 ms to 2 ms"),
            ("0\n0\n", None, 2, "more than 0"),
            ("1\n", Some("1\n-1\n"), 2, "(mahimahi uplink)"),
            ("99999999999999999999\n", None, 1, "whole number"),
        ] {
            let error = parse(down, up, &settings()).unwrap_err();
            assert_eq!(error.position(), Some((line, 1)), "{error}");
            assert!(error.to_string().contains(problem), "{error}");
        }
    }

    #[test]
    fn a_tiny_file_cannot_ask_for_endless_rows_or_time() {
        assert!(parse("1\n2\n2\n", Some("4000000000000\n"), &settings()).is_err());
        assert!(parse(&text(&[u64::MAX]), None, &settings()).is_err());
    }

    proptest! {
        #[test]
        fn every_byte_of_the_files_is_in_the_trace(
            mut down in prop::collection::vec(0_u64..300, 1..400),
            mut up in prop::collection::vec(0_u64..300, 1..400),
        ) {
            // Equal periods, so that nothing is cut.
            for moments in [&mut down, &mut up] {
                moments.push(300);
                moments.sort_unstable();
            }
            let trace = parse(&text(&down), Some(&text(&up)), &settings()).unwrap();
            for (direction, moments) in [(Direction::Down, &down), (Direction::Up, &up)] {
                let curve = CapacityCurve::new(&trace, direction);
                for until_ms in [1, 2, 50, 150, 299, 300] {
                    let delivered = moments.iter().filter(|&&at_ms| at_ms <= until_ms).count();
                    prop_assert_eq!(
                        curve.bits_between(0, until_ms * NS_PER_MS),
                        u64::try_from(delivered).unwrap() * OPPORTUNITY_BITS
                    );
                }
            }
        }

        #[test]
        fn no_text_makes_the_importer_panic(down: String, numbers in "[0-9\n]{0,100}", up: Option<String>) {
            let _ = parse(&down, up.as_deref(), &settings());
            let _ = parse(&numbers, up.as_deref(), &settings());
            let _ = parse(&numbers, Some(&numbers), &settings());
        }
    }
}
