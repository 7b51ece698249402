//! Exponential effective SINR mapping: one number for the SINRs of many resource elements.
//!
//! `effective = -beta ln(mean(exp(-sinr / beta)))` with linear SINRs (ITU-R M.2135 and the link
//! to system mapping of 3GPP R1-031303).

use super::error::PhyError;

/// The effective SINR in dB of SINRs in dB.
///
/// The differences to the smallest SINR are averaged through `expm1` and `log1p`, so that it is
/// exact to 1e-12 whatever the ratio of `beta` and the SINRs.
///
/// # Errors
/// `beta` is not a positive number, there is no SINR, or one is not a number.
pub fn effective_sinr_db(beta: f64, sinr_db: &[f64]) -> Result<f64, PhyError> {
    if sinr_db.is_empty() {
        return Err(PhyError::new(
            "sinr_db_per_re",
            &"empty",
            "one SINR or more",
        ));
    }
    if let Some(wrong) = sinr_db.iter().find(|sinr| !sinr.is_finite()) {
        return Err(PhyError::new("sinr_db_per_re", wrong, "finite numbers"));
    }
    if !(beta.is_finite() && beta > 0.0) {
        return Err(PhyError::new("beta", &beta, "a positive number"));
    }
    let least_db = sinr_db.iter().fold(f64::INFINITY, |a, &b| a.min(b));
    let least = linear(least_db);
    // Relative to the smallest, which has the most weight: no difference of large numbers.
    let relative = |sinr: &f64| linear(sinr - least_db) - 1.0;
    let terms = sinr_db
        .iter()
        .map(|sinr| libm::expm1(-relative(sinr) * (least / beta)));
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of resource elements are far below 2^53"
    )]
    let mean = terms.sum::<f64>() / sinr_db.len() as f64;
    let gain = -libm::log1p(mean) * (beta / least);
    Ok(least_db + 10.0 * libm::log1p(gain) / core::f64::consts::LN_10)
}

/// 10^(db / 10).
#[must_use]
pub fn linear(db: f64) -> f64 {
    libm::pow(10.0, db / 10.0)
}

/// 10 log10(ratio).
#[must_use]
pub fn decibel(ratio: f64) -> f64 {
    10.0 * libm::log10(ratio)
}

/// The effective linear SINR of linear SINRs, for the hot path: within 1e-6 dB of
/// [`effective_sinr_db`], the same bits on every machine. 0 without SINRs.
#[must_use]
pub fn effective_sinr(beta: f64, sinr: &[f64]) -> f64 {
    let mut least = f64::INFINITY;
    for &value in sinr {
        least = if value < least { value } else { least };
    }
    if sinr.is_empty() || least.is_infinite() {
        return if sinr.is_empty() { 0.0 } else { least };
    }
    let scale = -core::f64::consts::LOG2_E / beta;
    // Four sums in a fixed order: the compiler may compute them side by side.
    let mut sums = [0.0; 4];
    let mut chunks = sinr.chunks_exact(4);
    for chunk in &mut chunks {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum += power_of_two((value - least) * scale);
        }
    }
    for (sum, value) in sums.iter_mut().zip(chunks.remainder()) {
        *sum += power_of_two((value - least) * scale);
    }
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of subbands are far below 2^53"
    )]
    let mean = ((sums[0] + sums[1]) + (sums[2] + sums[3])) / sinr.len() as f64;
    least - beta * libm::log(mean)
}

/// 2^x for x <= 0 with a relative error below 2e-9: the whole part goes into the exponent, the
/// rest, within a half, through the Taylor polynomial of exp(x ln 2).
#[inline]
fn power_of_two(x: f64) -> f64 {
    /// 1.5 x 2^52: adding it leaves the nearest whole number in the lowest bits.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let x = if x > -1000.0 { x } else { -1000.0 };
    let rounded = x + ROUND;
    let rest = (x - (rounded - ROUND)) * core::f64::consts::LN_2;
    let high = 1.0 / 120.0 + rest * (1.0 / 720.0 + rest * (1.0 / 5040.0 + rest / 40320.0));
    let low =
        1.0 + rest * (1.0 + rest * (0.5 + rest * (1.0 / 6.0 + rest * (1.0 / 24.0 + rest * high))));
    f64::from_bits(low.to_bits().wrapping_add(rounded.to_bits() << 52))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CounterRng;

    #[test]
    fn equal_sinrs_are_their_own_effective_sinr() {
        for sinr in [-40.0, 0.0, 17.25, 60.0] {
            for beta in [1e-3, 1.0, 50.0, 1e6] {
                let effective = effective_sinr_db(beta, &[sinr; 7]).unwrap();
                assert!((effective - sinr).abs() < 1e-12, "{beta} {sinr}");
            }
        }
    }

    #[test]
    fn two_sinrs_give_the_closed_form() {
        // beta ln 2 - beta ln(e^(-a/beta) + e^(-b/beta)) with a = 1, b = 10, beta = 2.
        let sum = libm::exp(-0.5) + libm::exp(-5.0);
        let expected = decibel(-2.0 * libm::log(sum / 2.0));
        assert!((effective_sinr_db(2.0, &[0.0, 10.0]).unwrap() - expected).abs() < 1e-12);
    }

    #[test]
    fn a_large_beta_gives_the_mean_and_a_small_one_the_least() {
        let sinr = [-3.0, 5.0, 20.0];
        let mean = decibel(sinr.iter().map(|&db| linear(db)).sum::<f64>() / 3.0);
        assert!((effective_sinr_db(1e12, &sinr).unwrap() - mean).abs() < 1e-9);
        let small = effective_sinr_db(1e-6, &sinr).unwrap();
        assert!((small + 3.0).abs() < 1e-5);
        // exp(-sinr) alone would vanish.
        let strong = effective_sinr_db(1.0, &[60.0, 61.0]).unwrap();
        assert!(strong.is_finite() && strong >= 60.0);
    }

    #[test]
    fn the_hot_path_agrees_with_the_exact_one() {
        let rng = CounterRng::new(3, "eesm", "test");
        for case in 0..2000 {
            let sinr_db: Vec<f64> = (0..18)
                .map(|at| -10.0 + 45.0 * rng.uniform(case * 32 + at))
                .collect();
            let beta = libm::exp(6.0 * rng.uniform(case * 32 + 31));
            let sinr: Vec<f64> = sinr_db.iter().map(|&db| linear(db)).collect();
            let exact = effective_sinr_db(beta, &sinr_db).unwrap();
            let fast = decibel(effective_sinr(beta, &sinr));
            assert!((exact - fast).abs() < 1e-6, "{exact} {fast} {beta}");
        }
    }

    #[test]
    fn what_is_no_sinr_is_refused() {
        assert!(effective_sinr_db(1.0, &[]).is_err());
        assert!(effective_sinr_db(0.0, &[1.0]).is_err());
        assert!(effective_sinr_db(1.0, &[f64::NAN]).is_err());
        assert!(effective_sinr(1.0, &[]).abs() < f64::MIN_POSITIVE);
    }
}
