//! The mean of a few values with its interval.

/// Quantiles 0.975 of Student's t with 1 to 10 degrees of freedom.
const FEW: [f64; 10] = [
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
];
/// That of the normal distribution.
pub const NORMAL: f64 = 1.959_964;

/// The mean of some values and the ends of its 95 % interval by Student's t, which takes the values for
/// independent and not far from normal; `None` of fewer than two.
#[must_use]
pub fn mean_interval(values: &[f64]) -> Option<[f64; 3]> {
    let degrees = u32::try_from(values.len()).ok()?.checked_sub(1)?;
    if degrees == 0 {
        return None;
    }
    let count = f64::from(degrees) + 1.0;
    let mean = values.iter().sum::<f64>() / count;
    let squares = values.iter().map(|value| (value - mean) * (value - mean));
    let error = (squares.sum::<f64>() / f64::from(degrees) / count).sqrt();
    let half = t_975(degrees) * error;
    Some([mean, mean - half, mean + half])
}

/// The sum of some values over the sum of others, and its 95 % interval by the spread of the pairs about that
/// ratio (Cochran 1977, section 6.3); `None` of fewer than two pairs, or where the second sum is not positive.
#[must_use]
pub fn ratio_of_sums(pairs: &[(f64, f64)]) -> Option<[f64; 3]> {
    let degrees = u32::try_from(pairs.len()).ok()?.checked_sub(1)?;
    let of = pairs.iter().map(|(_, of)| of).sum::<f64>();
    if degrees == 0 || of <= 0.0 {
        return None;
    }
    let ratio = pairs.iter().map(|(value, _)| value).sum::<f64>() / of;
    let squares = pairs.iter().map(|(value, of)| {
        let off = value - ratio * of;
        off * off
    });
    let count = f64::from(degrees) + 1.0;
    let error = (squares.sum::<f64>() * count / f64::from(degrees)).sqrt() / of;
    let half = t_975(degrees) * error;
    Some([ratio, ratio - half, ratio + half])
}

/// The quantile 0.975 of Student's t with so many degrees of freedom, one at least (beyond ten by Abramowitz and
/// Stegun 1964, 26.7.5).
fn t_975(degrees: u32) -> f64 {
    let few = usize::try_from(degrees)
        .ok()
        .and_then(|degrees| FEW.get(degrees.checked_sub(1)?));
    if let Some(quantile) = few {
        return *quantile;
    }
    let (z, n) = (NORMAL, f64::from(degrees));
    let power = |exponent: i32| z.powi(exponent);
    z + (power(3) + z) / 4.0 / n
        + (5.0 * power(5) + 16.0 * power(3) + 3.0 * z) / 96.0 / n.powi(2)
        + (3.0 * power(7) + 19.0 * power(5) + 17.0 * power(3) - 15.0 * z) / 384.0 / n.powi(3)
        + (79.0 * power(9) + 776.0 * power(7) + 1482.0 * power(5) - 1920.0 * power(3) - 945.0 * z)
            / 92_160.0
            / n.powi(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_few_and_of_many_degrees_are_those_of_the_tables() {
        for (degrees, quantile) in [
            (1, 12.7062),
            (3, 3.1824),
            (10, 2.2281),
            (11, 2.2010),
            (20, 2.0860),
            (30, 2.0423),
            (120, 1.9799),
        ] {
            assert!(
                (t_975(degrees) - quantile).abs() < 1e-4,
                "{degrees}: {}",
                t_975(degrees)
            );
        }
    }

    #[test]
    fn an_interval_of_a_mean_has_the_width_of_the_formula_and_needs_two_values() {
        let [mean, low, high] = mean_interval(&[1.0, 2.0, 3.0, 4.0]).unwrap();
        // Standard deviation 1.2910, over two, times 3.1824.
        assert!((mean - 2.5).abs() < 1e-12);
        assert!((high - mean - 2.0542).abs() < 1e-3 && (mean - low - 2.0542).abs() < 1e-3);
        assert_eq!(mean_interval(&[1.0]), None);
        assert_eq!(mean_interval(&[]), None);
    }

    #[test]
    fn a_ratio_of_sums_weighs_each_pair_by_its_size_and_is_exact_where_all_pairs_agree() {
        let [ratio, low, high] = ratio_of_sums(&[(2.0, 1.0), (20.0, 10.0), (6.0, 3.0)]).unwrap();
        assert!(
            (ratio - 2.0).abs() < 1e-12 && (low - 2.0).abs() < 1e-9 && (high - 2.0).abs() < 1e-9
        );
        let [ratio, low, high] = ratio_of_sums(&[(1.0, 1.0), (30.0, 10.0)]).unwrap();
        assert!((ratio - 31.0 / 11.0).abs() < 1e-12 && low < ratio && ratio < high);
        assert_eq!(ratio_of_sums(&[(1.0, 1.0)]), None);
        assert_eq!(ratio_of_sums(&[(1.0, 0.0), (1.0, 0.0)]), None);
    }
}
