//! Which rates a round trip is tried at.

use crate::study::{Grid, RowRecord};

/// The rate at which round trips are measured: so high that bytes take no time worth mention.
pub(super) const ECHO_RATE_BPS: u64 = 1_000_000_000;

/// Chooses the rates of a row: around its critical rate, if that is asked for and it has one.
pub(super) fn row(
    grid: &Grid,
    round_trip_ns: u64,
    (echo_ns, echoes): (u64, u32),
    critical_rate_bps: Option<u64>,
) -> RowRecord {
    let rates_bps = match critical_rate_bps {
        Some(critical) if !grid.around_percent.is_empty() => {
            let of = |percent: &u32| {
                let rate = u128::from(critical) * u128::from(*percent) / 100;
                u64::try_from(rate).unwrap_or(u64::MAX).max(1)
            };
            grid.around_percent.iter().map(of).collect()
        }
        _ => grid.rates_bps.clone(),
    };
    RowRecord {
        round_trip_ns,
        echo_ns,
        echoes,
        critical_rate_bps,
        rates_bps,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_lie_around_the_critical_one_and_are_the_given_ones_where_there_is_none() {
        let grid = Grid {
            round_trips_ns: vec![1],
            rates_bps: vec![7],
            around_percent: vec![50, 200],
        };
        let rates = |critical| row(&grid, 1, (2, 3), critical).rates_bps;
        assert_eq!(rates(Some(1000)), [500, 2000]);
        assert_eq!(rates(None), [7]);
        let given = Grid {
            around_percent: Vec::new(),
            ..grid.clone()
        };
        assert_eq!(row(&given, 1, (2, 3), Some(1000)).rates_bps, [7]);
    }
}
