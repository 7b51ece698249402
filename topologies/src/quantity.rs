//! Quantities that are this format's own: rates of events (`1.5 /s`) and limits of queues.

use hexloop_traces::units::{BitRate, ByteSize};
use hexloop_traces::{QueueLimit, UNLIMITED_RATE_BPS};

/// Reads the limit of a queue: `300 kB`, or `200 packets` (also `200p`).
pub(crate) fn queue_limit(text: &str) -> Option<QueueLimit> {
    let text = text.trim();
    let packets = ["packets", "packet", "p"]
        .iter()
        .find_map(|unit| text.strip_suffix(unit));
    match packets {
        Some(number) => number.trim_end().parse().ok().map(QueueLimit::Packets),
        None => text
            .parse()
            .ok()
            .map(|size: ByteSize| QueueLimit::Bytes(size.bytes)),
    }
}

/// Reads a rate that may be no limit at all: `100 Mbit/s`, `unlimited`.
pub(crate) fn rate_bps(text: &str) -> Option<u64> {
    if text.trim() == "unlimited" {
        return Some(UNLIMITED_RATE_BPS);
    }
    let rate: BitRate = text.parse().ok()?;
    (rate.bps <= HIGHEST_RATE_BPS).then_some(rate.bps)
}

/// The highest rate that is a limit: 10^15 bit/s, as in traces.
const HIGHEST_RATE_BPS: u64 = 1_000_000_000_000_000;

/// How a rate is written.
pub(crate) const RATE_EXAMPLES: &str =
    "`100 Mbit/s` (units: bit/s, kbit/s, Mbit/s, Gbit/s, Tbit/s), `0 bit/s`, `unlimited`";

/// How the limit of a queue is written.
pub(crate) const QUEUE_EXAMPLES: &str = "`300 kB` (units: B, kB, MB, GB, KiB, MiB, GiB, packets)";

/// The smallest and largest queues in bytes: one packet of full size, and what memory may hold.
pub(crate) const QUEUE_BYTES: std::ops::RangeInclusive<u64> = 1_500..=1 << 30;

/// The same in packets.
pub(crate) const QUEUE_PACKETS: std::ops::RangeInclusive<u32> = 1..=1_000_000;

/// Reads `1.5 /s` as events per 1000 seconds, so that plans compare exactly.
pub(crate) fn per_kilosecond(text: &str) -> Option<u64> {
    let number = text.trim().strip_suffix("/s")?.trim_end();
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 3 {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let thousandths: u64 = format!("{fraction:0<3}").parse().ok()?;
    let value = whole.checked_mul(1000)?.checked_add(thousandths)?;
    (1..=1_000_000_000).contains(&value).then_some(value)
}

/// How a rate of events is written.
pub(crate) const PER_SECOND_EXAMPLES: &str = "`1.5 /s` (at most three decimals, above 0)";

#[cfg(test)]
mod tests {
    use super::{per_kilosecond, queue_limit, rate_bps};
    use hexloop_traces::QueueLimit;

    #[test]
    fn a_rate_has_its_unit_or_is_unlimited() {
        assert_eq!(rate_bps("20 Mbit/s"), Some(20_000_000));
        assert_eq!(rate_bps("0 bit/s"), Some(0));
        assert_eq!(rate_bps("unlimited"), Some(u64::MAX));
        for text in ["20", "-1 bit/s", "1001 Tbit/s", "none"] {
            assert_eq!(rate_bps(text), None, "{text}");
        }
    }

    #[test]
    fn a_queue_is_limited_in_bytes_or_in_packets() {
        assert_eq!(queue_limit("300 kB"), Some(QueueLimit::Bytes(300_000)));
        for text in ["200 packets", "200p", " 200  packets "] {
            assert_eq!(queue_limit(text), Some(QueueLimit::Packets(200)), "{text}");
        }
        for text in [
            "200",
            "packets",
            "-1 packets",
            "1.5 packets",
            "4294967296p",
            "3 kBit",
        ] {
            assert_eq!(queue_limit(text), None, "{text}");
        }
    }

    #[test]
    fn a_rate_of_events_is_read_exactly_and_needs_its_unit() {
        assert_eq!(per_kilosecond("1.5 /s"), Some(1_500));
        assert_eq!(per_kilosecond("20/s"), Some(20_000));
        for text in [
            "1.5",
            "/s",
            "0 /s",
            "-1 /s",
            "1.2345 /s",
            "1.5 /min",
            "1e3 /s",
            "1. 5 /s",
        ] {
            assert_eq!(per_kilosecond(text), None, "{text}");
        }
    }
}
