//! TheaterQ's trace files, simple and extended.
//!
//! Simple: keep (us), latency (ns), rate (bit/s), loss, limit. Extended: keep, latency, jitter,
//! rate, loss, limit, probability and delay of duplicates, route, and in later versions a queue.
//! Lines that do not begin with a digit are comments. A rate of 0 (or -1) does not limit; losses
//! are parts of 2^32 - 1. The limit counts packets unless the queue was set up to count bytes.

use super::{
    Cell, Delimiter, Facts, ImportOptions, Importer, Quantity, Record, Recording, Timeline,
    direction, records,
};
use crate::{Direction, EndPolicy, Trace, TraceError, UNLIMITED_RATE_BPS};

pub(super) const IMPORTER: Importer = Importer {
    name: "theaterq",
    about: "TheaterQ, simple (5 fields) or extended (9 or 10); one file a direction; --select limit=bytes where it counts bytes",
    most_files: 2,
    detect,
    import,
};

/// Bytes that a packet of the limit counts for: one full Ethernet payload of IP.
const PACKET_BYTES: u64 = 1500;

/// Square root of 3, by which the half-width of a uniform jitter exceeds its standard deviation.
const UNIFORM_WIDTH: f64 = 1.732_050_807_568_877_2;

fn detect(recording: &Recording<'_>) -> bool {
    let mut entries = entries(*recording).take(20).peekable();
    entries.peek().is_some()
        && entries.all(|record| {
            matches!(record.cells.len(), 5 | 9 | 10)
                && record.cells.iter().all(|cell| {
                    let digits = cell.text.strip_prefix('-').unwrap_or(cell.text);
                    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
                })
        })
}

fn entries(recording: Recording<'_>) -> impl Iterator<Item = Record<'_>> {
    records(recording, Delimiter::Comma).filter(|record| {
        let first = record
            .cells
            .first()
            .and_then(|cell| cell.text.bytes().next());
        first.is_some_and(|byte| byte.is_ascii_digit())
    })
}

fn whole(cell: Cell<'_>) -> Result<u64, TraceError> {
    if cell.text == "-1" {
        return Ok(u64::MAX);
    }
    let digits = cell.text.bytes().all(|byte| byte.is_ascii_digit());
    let value = digits.then(|| cell.text.parse().ok()).flatten();
    value.ok_or_else(|| cell.error("expected a whole number"))
}

fn share_ppb(cell: Cell<'_>) -> Result<u64, TraceError> {
    let scaled =
        u32::try_from(whole(cell)?).map_err(|_error| cell.error("expected parts of 4294967295"))?;
    let most = u64::from(u32::MAX);
    Ok((u64::from(scaled) * 1_000_000_000 + most / 2) / most)
}

#[derive(Default)]
struct Ignored {
    duplicate_delay: bool,
    route: bool,
}

fn import(recordings: &[Recording<'_>], options: &ImportOptions) -> Result<Trace, TraceError> {
    let limit_bytes = match options.select.get("limit").map(String::as_str) {
        None | Some("packets") => PACKET_BYTES,
        Some("bytes") => 1,
        Some(other) => {
            let place = Recording::first(recordings).place(1, 1);
            return Err(place.error(format!("limit={other}: expected packets or bytes")));
        }
    };
    let mut changes = Vec::new();
    let mut ignored = Ignored::default();
    let mut end_ns = 0;
    let mut lengths = Vec::new();
    for (direction, recording) in direction::of_pair(recordings, options) {
        let length = read(
            recording,
            direction,
            limit_bytes,
            &mut changes,
            &mut ignored,
        )?;
        end_ns = end_ns.max(length);
        lengths.push(length);
    }
    let mut notes = vec!["imported from TheaterQ".to_owned()];
    if limit_bytes == PACKET_BYTES {
        notes.push(format!(
            "a packet of a limit counts for {PACKET_BYTES} bytes"
        ));
    }
    if ignored.duplicate_delay {
        notes.push("delays of duplicates are not kept".to_owned());
    }
    if ignored.route {
        notes.push("routes are not kept: packets stay in order".to_owned());
    }
    if lengths.iter().any(|&length| length != end_ns) {
        notes.push("the directions have different lengths; the shorter one holds".to_owned());
    }
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

/// Adds the entries of a file; its length.
fn read(
    recording: Recording<'_>,
    direction: Direction,
    limit_bytes: u64,
    changes: &mut Vec<(i64, Quantity, u64)>,
    ignored: &mut Ignored,
) -> Result<i64, TraceError> {
    let mut at_ns = 0_i64;
    let mut fields = None;
    for record in entries(recording) {
        let count = record.cells.len();
        if !matches!(count, 5 | 9 | 10) || fields.is_some_and(|fields| fields != count) {
            return Err(record.place.error(format!(
                "the entry has {count} fields; expected 5 (simple) or 9 or 10 (extended), the \
                 same in every line"
            )));
        }
        fields = Some(count);
        let simple = count == 5;
        let cell = |simple_index: usize, extended_index: usize| {
            let index = if simple { simple_index } else { extended_index };
            record.cell(index, "a number")
        };
        let rate = match whole(cell(2, 3)?)? {
            0 => UNLIMITED_RATE_BPS,
            rate => rate,
        };
        let mut set = |quantity, value| changes.push((at_ns, quantity, value));
        set(Quantity::Rate(direction), rate);
        set(Quantity::Delay(direction), whole(cell(1, 1)?)?);
        set(Quantity::Loss(direction), share_ppb(cell(3, 4)?)?);
        let limit = whole(cell(4, 5)?)?.saturating_mul(limit_bytes);
        set(Quantity::Queue(direction), limit.min(u32::MAX.into()));
        if !simple {
            let deviation = whole(record.cell(2, "the jitter")?)?;
            set(Quantity::Jitter(direction), half_width(deviation));
            set(
                Quantity::Duplicates(direction),
                share_ppb(record.cell(6, "duplicates")?)?,
            );
            ignored.duplicate_delay |= whole(record.cell(7, "their delay")?)? != 0;
            ignored.route |= whole(record.cell(8, "the route")?)? != 0;
        }
        let keep = cell(0, 0)?;
        at_ns = i64::try_from(whole(keep)?)
            .ok()
            .filter(|&us| us > 0)
            .and_then(|us| us.checked_mul(1000))
            .and_then(|ns| at_ns.checked_add(ns))
            .ok_or_else(|| keep.error("expected microseconds, more than 0 and less than 2^53"))?;
    }
    if at_ns == 0 {
        let place = recording.end();
        return Err(place.error("expected an entry before this: KEEP,LATENCY,RATE,LOSS,LIMIT"));
    }
    Ok(at_ns)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "bounded by the range of 32 bits just after"
)]
fn half_width(deviation_ns: u64) -> u64 {
    (libm::round(deviation_ns as f64 * UNIFORM_WIDTH) as u64).min(u32::MAX.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn imported(text: &str, options: &ImportOptions) -> Result<Trace, TraceError> {
        import(&[Recording { name: "t", text }], options)
    }

    #[test]
    fn simple_and_extended_entries_are_read() {
        let text = "# KEEP,LATENCY,...\n1000,5000000,12000000,2147483648,10\n2000,0,0,0,20\n";
        assert!(detect(&Recording { name: "t", text }));
        let trace = imported(text, &ImportOptions::default()).unwrap();
        let first = &trace.rows()[0].down;
        assert_eq!((first.rate_bps, first.delay_ns), (12_000_000, 5_000_000));
        assert_eq!((first.loss_ppb, first.queue_bytes), (500_000_000, 15_000));
        assert_eq!(trace.rows()[1].down.rate_bps, UNLIMITED_RATE_BPS);
        assert_eq!(trace.duration_ns(), 3_000_000);

        let text = "1000,5000000,1000,-1,0,3000,4294967295,7,1\n";
        let mut options = ImportOptions::default();
        options
            .select
            .insert("limit".to_owned(), "bytes".to_owned());
        let trace = imported(text, &options).unwrap();
        let first = &trace.rows()[0].down;
        assert_eq!((first.jitter_ns, first.dup_ppb), (1732, 1_000_000_000));
        assert_eq!(
            (first.rate_bps, first.queue_bytes),
            (UNLIMITED_RATE_BPS, 3000)
        );
        assert_eq!(trace.metadata().notes.len(), 4);
    }

    #[test]
    fn mistakes_are_named_with_file_line_and_column() {
        for (text, place) in [
            ("", "t:1:1"),
            ("nothing\n", "t:1:1"),
            ("1,2,3\n", "t:1:1"),
            ("1,2,3,4,5\n1,2,3,4,5,6,7,8,9\n", "t:2:1"),
            ("0,2,3,4,5\n", "t:1:1"),
            ("1,2,x,4,5\n", "t:1:5"),
            ("1,2,3,4294967296,5\n", "t:1:7"),
            ("18446744073709551615,2,3,4,5\n", "t:1:1"),
        ] {
            let error = imported(text, &ImportOptions::default())
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(place), "{error}");
        }
    }
}
