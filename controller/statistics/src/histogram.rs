//! Histograms of latency, and the `.hlog` files that other tools read.

use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};

/// Shortest latency that is told apart: 1 us.
const SHORTEST_NS: u64 = 1_000;

/// Longest latency that is told apart: 1 h.
const LONGEST_NS: u64 = 3_600_000_000_000;

/// Significant decimal digits.
const DIGITS: u8 = 3;

/// Divides the maximum that is printed beside each histogram: nanoseconds to milliseconds.
const NS_PER_MS: f64 = 1e6;

/// A histogram that could not be made or written.
#[derive(Debug, thiserror::Error)]
pub enum HistogramError {
    /// The library refused the bounds.
    #[error("cannot make a histogram from 1 us to 1 h with {DIGITS} digits")]
    Bounds(#[source] hdrhistogram::CreationError),
    /// The file could not be written.
    #[error("cannot write the histogram log")]
    Write(#[source] io::Error),
}

/// Latencies in nanoseconds, 1 us to 1 h at 3 significant digits; longer ones are counted apart
/// and never clamped.
#[derive(Debug, Clone)]
pub struct LatencyHistogram {
    histogram: Histogram<u64>,
    overflow: u64,
}

impl LatencyHistogram {
    /// The histogram of some latencies.
    ///
    /// # Errors
    /// Never with bounds that the library takes.
    pub fn of(latencies_ns: impl IntoIterator<Item = u64>) -> Result<Self, HistogramError> {
        let histogram = Histogram::new_with_bounds(SHORTEST_NS, LONGEST_NS, DIGITS);
        let histogram = histogram.map_err(HistogramError::Bounds)?;
        let mut latencies = LatencyHistogram {
            histogram,
            overflow: 0,
        };
        for latency_ns in latencies_ns {
            latencies.record(latency_ns);
        }
        Ok(latencies)
    }

    fn record(&mut self, latency_ns: u64) {
        if latency_ns > LONGEST_NS || self.histogram.record(latency_ns).is_err() {
            self.overflow += 1;
        }
    }

    /// How many latencies it holds, those beyond an hour not counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// How many latencies were beyond an hour.
    #[must_use]
    pub const fn overflow(&self) -> u64 {
        self.overflow
    }

    /// The histogram itself, for drawing.
    #[must_use]
    pub const fn histogram(&self) -> &Histogram<u64> {
        &self.histogram
    }
}

/// One line of a histogram log.
#[derive(Debug, Clone)]
pub struct Interval {
    /// What it holds, such as `split.ttft-scheduled`. Characters that the format does not allow
    /// (comma, blank, line ends) become `_`.
    pub tag: String,
    /// Start, as an offset from the base time, in nanoseconds; the format keeps milliseconds.
    pub start_ns: u64,
    /// Length in nanoseconds.
    pub length_ns: u64,
    /// The latencies.
    pub latencies: LatencyHistogram,
}

/// Writes a histogram log (format 1.3, V2 compressed histograms of nanoseconds) that
/// HdrHistogram's tools read. The bytes depend on the arguments alone.
///
/// # Errors
/// The writer's.
pub fn write_interval_log(
    output: &mut impl Write,
    base_wall_clock_ns: u64,
    intervals: &[Interval],
) -> Result<(), HistogramError> {
    let mut serializer = V2DeflateSerializer::new();
    let base = UNIX_EPOCH + Duration::from_nanos(base_wall_clock_ns);
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("[Histogram log format version 1.3]")
        .add_comment("[Values are nanoseconds]")
        .with_base_time(base)
        .with_max_value_divisor(NS_PER_MS)
        .begin_log_with(output, &mut serializer)
        .map_err(HistogramError::Write)?;
    for Interval {
        tag,
        start_ns,
        length_ns,
        latencies,
    } in intervals
    {
        let tag: String = tag.chars().map(allowed).collect();
        if latencies.overflow > 0 {
            let comment = format!(
                "{tag}: {} values beyond 1 h are not in it",
                latencies.overflow
            );
            log.write_comment(&comment).map_err(HistogramError::Write)?;
        }
        let (start, length) = (
            Duration::from_nanos(*start_ns),
            Duration::from_nanos(*length_ns),
        );
        log.write_histogram(&latencies.histogram, start, length, Tag::new(&tag))
            .map_err(|error| HistogramError::Write(io::Error::other(error)))?;
    }
    Ok(())
}

const fn allowed(character: char) -> char {
    match character {
        ',' | ' ' | '\r' | '\n' => '_',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    #[test]
    fn latencies_beyond_an_hour_are_counted_and_not_clamped() {
        let hour = 3_600_000_000_000;
        let latencies = LatencyHistogram::of([0, 1, hour, hour + 1, u64::MAX]).unwrap();
        assert_eq!((latencies.count(), latencies.overflow()), (3, 2));
        assert!(latencies.histogram().max() >= hour);
    }

    #[test]
    fn values_keep_three_digits() {
        let latencies = LatencyHistogram::of([123_456_789]).unwrap();
        let found = latencies.histogram().value_at_quantile(0.5);
        assert!(found.abs_diff(123_456_789) < 123_456, "{found}");
    }

    fn log() -> Vec<u8> {
        let interval = |tag: &str, start_ns, values: &[u64]| Interval {
            tag: tag.to_owned(),
            start_ns,
            length_ns: 1_000_000_000,
            latencies: LatencyHistogram::of(values.iter().copied()).unwrap(),
        };
        let intervals = [
            interval("edge.ttft", 0, &[5_000_000, 7_000_000]),
            interval("a b,c\n", 1_500_000_000, &[u64::MAX]),
        ];
        let mut bytes = Vec::new();
        write_interval_log(&mut bytes, 1_790_000_000_250_000_000, &intervals).unwrap();
        bytes
    }

    #[test]
    fn a_log_reads_back_with_tags_times_and_maxima() {
        let bytes = log();
        let entries: Vec<LogEntry<'_>> = IntervalLogIterator::new(&bytes)
            .collect::<Result<_, _>>()
            .unwrap();
        let LogEntry::BaseTime(base) = entries[0] else {
            panic!("{entries:?}")
        };
        assert_eq!(base, Duration::from_millis(1_790_000_000_250));
        let LogEntry::Interval(first) = &entries[1] else {
            panic!("{entries:?}")
        };
        assert_eq!(first.tag().unwrap().as_str(), "edge.ttft");
        assert!((first.max() - 7.0).abs() < 0.01, "{}", first.max());
        let LogEntry::Interval(second) = &entries[2] else {
            panic!("{entries:?}")
        };
        assert_eq!(second.tag().unwrap().as_str(), "a_b_c_");
        assert_eq!(second.start_timestamp(), Duration::from_millis(1500));
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(
            text.contains("#a_b_c_: 1 values beyond 1 h are not in it"),
            "{text}"
        );
    }

    #[test]
    fn the_same_latencies_give_the_same_bytes() {
        assert_eq!(log(), log());
    }
}
