//! What the programs and the agent share: the layout of the maps' only elements.

/// The moment from which on packets are shaped, on `CLOCK_MONOTONIC`; all ones: never.
pub(super) const T0: i16 = 0;
/// A fault: what would leave from here ...
pub(super) const PAUSE_FROM: i16 = 8;
/// ... to here, leaves here.
pub(super) const PAUSE_UNTIL: i16 = 16;
pub(super) const CONTROL_BYTES: usize = 24;

/// The integral at which the bottleneck has sent everything that came so far.
pub(super) const CONSUMED: i16 = 0;
/// The latest due time given to a packet, as an offset from T0, so that the next keeps its order.
pub(super) const ORDER: i16 = 8;
/// When the last packet would be at the receiver without jitter.
pub(super) const ARRIVAL: i16 = 16;
/// When it is through the bottleneck.
pub(super) const FINISH: i16 = 24;
/// The latest window that is known to have been idle at some time.
pub(super) const MARKED: i16 = 32;
/// Whether the last packet was lost.
pub(super) const LOST_BEFORE: i16 = 40;
/// Random numbers drawn.
pub(super) const DRAWN: i16 = 48;
/// Packets that were given a due time.
pub(super) const STAMPED: i16 = 56;
/// Packets that found the queue full, or whose due time lies beyond fq's horizon.
pub(super) const DROPPED: i16 = 64;
/// Packets lost as the trace asks.
pub(super) const LOST: i16 = 72;
/// Packets dropped because other CPUs changed `CONSUMED` too often meanwhile.
pub(super) const CONTENDED: i16 = 80;
/// Gaps written to their ring.
pub(super) const GAPS: i16 = 88;
/// Packets that found room in the queue.
pub(super) const ADMITTED: i16 = 96;
/// Packets doubled and damaged as the trace asks.
pub(super) const DOUBLES: i16 = 104;
pub(super) const DAMAGED: i16 = 112;
/// Ring of gaps in the queue, as the receiver sees them: from, to.
pub(super) const GAP_RING: i16 = 120;
pub(super) const GAP_RING_ENTRIES: i32 = 256;
/// Ring of the longest queues: number of the window plus one, units.
pub(super) const PEAK_RING: i16 = GAP_RING + 16 * 256;
pub(super) const PEAK_RING_ENTRIES: i32 = 64;
pub(super) const STATE_BYTES: usize = 120 + 16 * (256 + 64);

/// Due times by the number that a packet carries in its traffic-control index.
pub(super) const DUE_ENTRIES: i32 = 1 << 16;
pub(super) const DUE_BYTES: usize = 8 << 16;

/// When each packet that found room is through the bottleneck, from T0, by its number: where the
/// queue is limited in packets.
pub(super) const FINISH_ENTRIES: i32 = 1 << 16;
pub(super) const FINISH_BYTES: usize = 8 << 16;

/// Histogram of lateness: each power of two is cut into this many buckets.
pub(super) const BUCKET_BITS: u32 = 6;
pub(super) const LATENESS_BYTES: usize = 8 * 64 * 66;

/// A field of eight bytes.
pub(super) fn word(bytes: &[u8], offset: usize) -> u64 {
    let field = bytes.get(offset..offset + 8);
    let field = field.and_then(|field| field.try_into().ok());
    field.map_or(0, u64::from_ne_bytes)
}

/// The same at one of the offsets above.
pub(super) fn field(bytes: &[u8], offset: i16) -> u64 {
    word(bytes, usize::try_from(offset).unwrap_or(usize::MAX / 2))
}

/// A state in which nothing has been sent.
pub(super) fn fresh_state() -> Vec<u8> {
    let mut state = vec![0; STATE_BYTES];
    let marked = usize::try_from(MARKED).unwrap_or(0);
    state[marked..marked + 8].fill(0xff);
    state
}

/// The order to shape from `t0` on.
pub(super) fn control(t0: u64, pause: Option<(u64, u64)>) -> [u8; CONTROL_BYTES] {
    let (from, until) = pause.unwrap_or((0, 0));
    let mut control = [0; CONTROL_BYTES];
    for (place, value) in control.chunks_exact_mut(8).zip([t0, from, until]) {
        place.copy_from_slice(&value.to_ne_bytes());
    }
    control
}

/// The value that a lateness bucket stands for: the largest in it.
pub(super) fn largest_of_bucket(bucket: u64) -> u64 {
    let buckets = 1 << BUCKET_BITS;
    if bucket < buckets {
        return bucket;
    }
    let exponent = bucket / buckets - 1;
    let mantissa = bucket % buckets + buckets;
    let end = u128::from(mantissa + 1) << exponent;
    u64::try_from(end - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_buckets_follow_one_another_without_a_gap() {
        let largest: Vec<u64> = (0..3000).map(largest_of_bucket).collect();
        assert_eq!(largest[..3], [0, 1, 2]);
        assert_eq!(largest[63..66], [63, 64, 65]);
        assert_eq!(largest[127..130], [127, 129, 131]);
        assert!(largest.is_sorted());
        let last = u64::try_from(LATENESS_BYTES / 8 - 1).unwrap();
        assert_eq!(largest_of_bucket(last), u64::MAX);
        let finest = |value: u64| {
            largest
                .iter()
                .position(|&largest| value <= largest)
                .unwrap()
        };
        assert_eq!(finest(128), 128);
        assert_eq!(finest(1_000_000), finest(999_999));
    }

    #[test]
    fn control_and_state_are_laid_out_as_the_program_reads_them() {
        let bytes = control(7, Some((8, 9)));
        assert_eq!(
            [T0, PAUSE_FROM, PAUSE_UNTIL].map(|at| field(&bytes, at)),
            [7, 8, 9]
        );
        let state = fresh_state();
        assert_eq!(field(&state, MARKED), u64::MAX);
        assert_eq!(field(&state, CONSUMED), 0);
    }
}
