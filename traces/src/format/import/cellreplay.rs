//! CellReplay's recordings: base delays with light packet trains, and heavy packet deliveries.
//!
//! The heavy files are lists of milliseconds as mahimahi's, but of packets of 1400 bytes of
//! payload, and give the rate. The light files' first two columns are a moment and the base
//! delay then, both in ms. CellReplay draws a straight line between two base delays; here each
//! holds until the next.

use super::{
    Delimiter, Facts, ImportOptions, Importer, Missing, Quantity, Recording, Timeline, decimal_ns,
    delay_ns, direction, records,
};
use crate::{Direction, EndPolicy, Trace, TraceError};

pub(super) const IMPORTER: Importer = Importer {
    name: "cellreplay",
    about: "CellReplay: up-pdo, down-pdo, up-delay-light-pdo, down-delay-light-pdo; any of them",
    most_files: 4,
    detect: |recording| recording.name.ends_with("light-pdo") && is_light(*recording),
    import,
};

/// IP bytes of a heavy packet: 1400 bytes of payload, UDP and IPv4 headers.
const PACKET_BITS: u64 = (1400 + 8 + 20) * 8;

const NS_PER_MS: u32 = 1_000_000;

/// A file of one number per line is heavy, one of three or more is light.
fn is_light(recording: Recording<'_>) -> bool {
    records(recording, Delimiter::Blank)
        .next()
        .is_some_and(|record| record.cells.len() > 1)
}

fn import(recordings: &[Recording<'_>], options: &ImportOptions) -> Result<Trace, TraceError> {
    let mut notes = vec![
        "imported from CellReplay: heavy deliveries are the rate, at 1428 bytes of IP each, in the \
         millisecond that ends with them; base delays hold until the next one"
            .to_owned(),
        "light packet trains and size offsets are not used".to_owned(),
    ];
    let mut changes = Vec::new();
    let mut end_ms = [0_u64; 2];
    let mut last_ns = 0;
    for (index, recording) in recordings.iter().enumerate() {
        let guess = if index % 2 == 0 {
            options.direction
        } else {
            options.direction.reverse()
        };
        let direction = direction::of_name(recording.name).unwrap_or(guess);
        if is_light(*recording) {
            last_ns = last_ns.max(light(*recording, direction, &mut changes)?);
        } else {
            let side = usize::from(direction == Direction::Up);
            end_ms[side] = end_ms[side].max(heavy(*recording, direction, &mut changes)?);
        }
    }
    let [down_ms, up_ms] = end_ms;
    if down_ms > 0 && up_ms > 0 && down_ms != up_ms {
        notes.push(format!(
            "the downlink ends after {down_ms} ms, the uplink after {up_ms} ms; the shorter one \
             carries nothing after its end"
        ));
    }
    let end_ns = i64::try_from(down_ms.max(up_ms))
        .ok()
        .and_then(|ms| ms.checked_mul(NS_PER_MS.into()))
        .unwrap_or(i64::MAX);
    let end_ns = if end_ns == 0 {
        last_ns.saturating_add(NS_PER_MS.into())
    } else {
        end_ns
    };
    changes.retain(|(at_ns, ..)| *at_ns < end_ns);
    Timeline::of_steps(changes, recordings)?.into_trace(
        Facts {
            format: IMPORTER.name,
            recordings,
            end: EndPolicy::Loop,
            sampled: false,
            end_ns: Some(end_ns),
            notes,
        },
        options,
    )
}

/// Adds the rates of a heavy file; its last millisecond.
fn heavy(
    recording: Recording<'_>,
    direction: Direction,
    changes: &mut Vec<(i64, Quantity, u64)>,
) -> Result<u64, TraceError> {
    let mut counts: Vec<(u64, u64)> = Vec::new();
    let mut previous_ms = 0;
    for record in records(recording, Delimiter::Blank) {
        let cell = record.cell(0, "milliseconds")?;
        let digits = cell.text.bytes().all(|byte| byte.is_ascii_digit());
        let at_ms = digits
            .then(|| cell.text.parse::<u64>().ok())
            .flatten()
            .filter(|&at_ms| at_ms < u64::from(u32::MAX) * 1000 && record.cells.len() == 1)
            .ok_or_else(|| cell.error("expected one whole number of milliseconds per line"))?;
        if at_ms < previous_ms {
            return Err(cell.error(format!("time goes back from {previous_ms} ms")));
        }
        previous_ms = at_ms;
        let slot = at_ms.saturating_sub(1);
        match counts.last_mut() {
            Some((last, count)) if *last == slot => *count += 1,
            _ => counts.push((slot, 1)),
        }
    }
    if previous_ms == 0 {
        let place = recording.end();
        return Err(place.error("expected moments of more than 0 ms before this"));
    }
    let mut end = 0;
    for (slot, count) in counts {
        let mut push = |ms: u64, bps: u64| {
            let at_ns = i64::try_from(ms).unwrap_or(i64::MAX / 2_000_000);
            changes.push((at_ns * i64::from(NS_PER_MS), Quantity::Rate(direction), bps));
        };
        if slot > end {
            push(end, 0);
        }
        push(slot, count.saturating_mul(PACKET_BITS * 1000));
        end = slot + 1;
    }
    Ok(previous_ms)
}

/// Adds the base delays of a light file; its last moment.
fn light(
    recording: Recording<'_>,
    direction: Direction,
    changes: &mut Vec<(i64, Quantity, u64)>,
) -> Result<i64, TraceError> {
    let mut previous_ns = 0;
    for record in records(recording, Delimiter::Blank) {
        let time = record.cell(0, "milliseconds")?;
        let delay = record.cell(1, "the base delay in milliseconds")?;
        let at_ns = decimal_ns(time.text, NS_PER_MS).map_err(|problem| time.error(problem))?;
        if at_ns < previous_ns {
            return Err(time.error("time goes back; expected rows in order of time"));
        }
        previous_ns = at_ns;
        let base_ns = delay_ns(delay.text, NS_PER_MS, Missing::Never)
            .map_err(|problem| delay.error(problem))?;
        let base_ns = base_ns.unwrap_or(0);
        changes.push((at_ns, Quantity::Delay(direction), base_ns));
    }
    Ok(previous_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heavy_files_are_rates_and_light_files_are_delays() {
        let recordings = [
            Recording {
                name: "x/up-delay-light-pdo",
                text: "0 20 1 2\n5 30 1\n9 25 1\n",
            },
            Recording {
                name: "x/down-pdo",
                text: "1\n1\n3\n10\n",
            },
            Recording {
                name: "x/up-pdo",
                text: "2\n10\n",
            },
        ];
        let trace = import(&recordings, &ImportOptions::default()).unwrap();
        let first = &trace.rows()[0];
        assert_eq!(first.down.rate_bps, 2 * 1428 * 8 * 1000);
        assert_eq!((first.up.rate_bps, first.up.delay_ns), (0, 20_000_000));
        let at_5 = trace
            .rows()
            .iter()
            .find(|row| row.t_ns == 5_000_000)
            .unwrap();
        assert_eq!((at_5.up.delay_ns, at_5.down.rate_bps), (30_000_000, 0));
        assert_eq!(trace.duration_ns(), 10_000_000);
        assert_eq!(trace.metadata().provenance.sources.len(), 3);
    }

    #[test]
    fn mistakes_are_named_with_file_line_and_column() {
        for (text, place) in [
            ("", "x:1:1"),
            ("0\n", "x:1:1"),
            ("1\n0\n", "x:2:1"),
            ("1\n2 3\n", "x:2:1"),
            ("0 20 1\n1 -5 1\n", "x:2:3"),
            ("0 20 1\n1\n", "x:2:1"),
        ] {
            let recording = Recording { name: "x", text };
            let error = import(&[recording], &ImportOptions::default()).unwrap_err();
            assert!(error.to_string().starts_with(place), "{error}");
        }
    }
}
