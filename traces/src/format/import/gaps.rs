//! Time without samples.

/// What becomes of a gap: a time without samples that is longer than the options let pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GapPolicy {
    /// The import fails and names the gap.
    #[default]
    Refuse,
    /// The last sample holds until the next.
    Hold,
    /// Nothing is carried from one usual distance after the last sample until the next.
    Outage,
}

/// The usual distance between moments: the median. `None` of fewer than two.
pub(super) fn usual_distance_ns(moments: &[i64]) -> Option<u64> {
    let mut distances: Vec<u64> = moments
        .windows(2)
        .map(|pair| pair[1].abs_diff(pair[0]))
        .collect();
    if distances.is_empty() {
        return None;
    }
    let middle = distances.len() / 2;
    Some(*distances.select_nth_unstable(middle).1)
}
