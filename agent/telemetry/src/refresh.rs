//! How often a source renews its value.

/// The refresh period of a source whose value was seen to change at these moments: the median
/// gap, in nanoseconds. A single glitch must not decide it, as the smallest gap would let it.
/// `None` below four changes.
#[must_use]
pub fn refresh_period_ns(change_at_ns: impl IntoIterator<Item = u64>) -> Option<u64> {
    let moments: Vec<u64> = change_at_ns.into_iter().collect();
    let mut gaps: Vec<u64> = moments
        .windows(2)
        .map(|pair| pair[1].saturating_sub(pair[0]))
        .collect();
    if gaps.len() < 3 {
        return None;
    }
    gaps.sort_unstable();
    Some(gaps[gaps.len() / 2])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_glitch_does_not_decide_the_refresh_period() {
        assert_eq!(refresh_period_ns([0, 100, 200, 201, 300, 400]), Some(100));
        assert_eq!(refresh_period_ns([0, 100, 200]), None);
        assert_eq!(refresh_period_ns([]), None);
    }
}
