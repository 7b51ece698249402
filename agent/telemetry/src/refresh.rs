//! How often a source renews its value.

/// The refresh period of a source whose value was seen to change at these moments, in nanoseconds:
/// the mean of the gaps from half the median gap to three of them. A single glitch must not decide
/// it, as the smallest gap would let it, nor a pause, as the mean of all would; and where the
/// source is looked at hardly more often than it is renewed, as a counter that is dear to read is,
/// the median alone would be the time between two looks. `None` below four changes.
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
    let median = gaps[gaps.len() / 2];
    gaps.retain(|gap| (median / 2..=median.saturating_mul(3)).contains(gap));
    let count = u64::try_from(gaps.len()).unwrap_or(u64::MAX).max(1);
    Some(gaps.iter().sum::<u64>() / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_that_are_hardly_more_frequent_than_refreshes_do_not_hide_their_period() {
        // Renewed every 100, looked at every 80: seen to change at the first look after each.
        let changes = (1_u64..=41).map(|tick| (tick * 100).div_ceil(80) * 80);
        let period = refresh_period_ns(changes).unwrap();
        assert!((98..=102).contains(&period), "{period}");
    }

    #[test]
    fn one_glitch_does_not_decide_the_refresh_period() {
        assert_eq!(refresh_period_ns([0, 100, 200, 201, 300, 400]), Some(99));
        assert_eq!(refresh_period_ns([0, 100, 200, 900, 1_000]), Some(100));
        assert_eq!(refresh_period_ns([0, 100, 200]), None);
        assert_eq!(refresh_period_ns([]), None);
    }
}
