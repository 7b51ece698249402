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

/// The effective linear SINR of linear SINRs, for the hot path: the same bits on every machine, and
/// within 1e-4 dB of [`effective_sinr_db`] where `beta` is below ten times the result, as it is for
/// schemes that are worth a try. 0 without SINRs.
#[must_use]
#[inline]
pub fn effective_sinr(beta: f64, sinr: &[f64]) -> f64 {
    Mapping::new(beta).of(sinr)
}

/// A beta prepared for [`effective_sinr`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Mapping {
    beta: f64,
    scale: f64,
}

impl Mapping {
    pub(super) fn new(beta: f64) -> Mapping {
        Mapping {
            beta,
            scale: -core::f64::consts::LOG2_E / beta,
        }
    }

    /// The effective SINR of SINRs that are `density` times those of the slice.
    #[inline]
    pub(super) fn of_scaled(self, sinr: &[f64], density: f64) -> f64 {
        let scaled = Mapping {
            beta: self.beta / density,
            scale: self.scale * density,
        };
        density * scaled.of(sinr)
    }

    #[inline]
    pub(super) fn of(self, sinr: &[f64]) -> f64 {
        // Lanes of four in a fixed order: the compiler computes them side by side. What is infinite
        // adds nothing to any of them. Seven digits are enough: the error is that of the SINRs.
        let (chunks, rest) = sinr.as_chunks::<4>();
        let mut last = [f32::INFINITY; 4];
        let mut at = 0;
        // Not an iterator: a call of its would cost as much as all of this.
        while at < rest.len() {
            last[at] = narrow(rest[at]);
            at += 1;
        }
        let mut lanes = last;
        for chunk in chunks {
            let lane = |at: usize| least_of(narrow(chunk[at]), lanes[at]);
            lanes = [lane(0), lane(1), lane(2), lane(3)];
        }
        let least = least_of(least_of(lanes[0], lanes[1]), least_of(lanes[2], lanes[3]));
        if least.is_infinite() {
            return if sinr.is_empty() { 0.0 } else { f64::INFINITY };
        }
        let mut sums = last;
        sum_of_terms(chunks, least, narrow(self.scale), &mut sums);
        let sum = f64::from((sums[0] + sums[1]) + (sums[2] + sums[3]));
        f64::from(least) - self.beta * (logarithm(sum) - logarithm_of_count(sinr.len()))
    }
}

/// Turns what `lanes` holds into terms and adds those of the chunks, in their order.
///
/// Not inlined: beside the sum that follows, the compiler would compute two lanes at a time.
#[inline(never)]
fn sum_of_terms(chunks: &[[f64; 4]], least: f32, scale: f32, lanes: &mut [f32; 4]) {
    let mut sums = *lanes;
    for sum in &mut sums {
        *sum = power_of_two((*sum - least) * scale);
    }
    for chunk in chunks {
        for (sum, sinr) in sums.iter_mut().zip(chunk) {
            *sum += power_of_two((narrow(*sinr) - least) * scale);
        }
    }
    *lanes = sums;
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "seven digits are enough")]
const fn narrow(value: f64) -> f32 {
    value as f32
}

#[inline]
fn least_of(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

/// 2^x for x <= 0 with a relative error below 3e-7: the whole part goes into the exponent, the
/// rest, within a half, through the Taylor polynomial of exp(x ln 2).
#[inline]
fn power_of_two(x: f32) -> f32 {
    /// 1.5 x 2^23: adding it leaves the nearest whole number in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let x = if x > -126.0 { x } else { -126.0 };
    let rounded = x + ROUND;
    let rest = (x - (rounded - ROUND)) * core::f32::consts::LN_2;
    // In pairs (Estrin), which wait less for each other than Horner's scheme does.
    let square = rest * rest;
    let [low, middle] = [1.0 + rest, 0.5 + rest * (1.0 / 6.0)];
    let high = (1.0 / 24.0 + rest * (1.0 / 120.0)) + square * (1.0 / 720.0);
    let power = (low + square * middle) + (square * square) * high;
    f32::from_bits(power.to_bits().wrapping_add(rounded.to_bits() << 23))
}

/// The natural logarithm of a normal number with an error below 1e-10: the exponent is split off so
/// that the rest m is within a factor of the root of 2 of one, and ln m = 2 artanh((m - 1) / (m + 1)).
#[inline]
const fn logarithm(x: f64) -> f64 {
    /// Bits of the root of a half.
    const ROOT: u64 = 0x3FE6_A09E_667F_3BCD;
    let bits = x.to_bits();
    #[expect(clippy::cast_possible_wrap, reason = "bits of a positive number")]
    let exponent = (bits.wrapping_sub(ROOT) as i64) >> 52;
    #[expect(clippy::cast_sign_loss, reason = "it wraps back")]
    let rest = f64::from_bits(bits.wrapping_sub((exponent << 52) as u64));
    let t = (rest - 1.0) / (rest + 1.0);
    let square = t * t;
    let fourth = square * square;
    let [low, middle] = [1.0 + square * (1.0 / 3.0), 1.0 / 5.0 + square * (1.0 / 7.0)];
    let high = 1.0 / 9.0 + square * (1.0 / 11.0);
    let series = (low + fourth * middle) + (fourth * fourth) * high;
    #[expect(clippy::cast_precision_loss, reason = "an exponent of 11 bits")]
    let exponent = exponent as f64;
    exponent * core::f64::consts::LN_2 + 2.0 * t * series
}

/// Logarithms of how many SINRs there may be.
static LOGARITHMS: [f64; 65] = {
    let mut logarithms = [0.0; 65];
    let mut count = 1_u32;
    while count < 65 {
        logarithms[count as usize] = logarithm(count as f64);
        count += 1;
    }
    logarithms
};

#[inline]
fn logarithm_of_count(count: usize) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "counts of subbands are far below 2^53"
    )]
    let compute = || logarithm(count as f64);
    LOGARITHMS.get(count).copied().unwrap_or_else(compute)
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
        let mut compared = 0;
        for case in 0..2000 {
            let sinr_db: Vec<f64> = (0..18)
                .map(|at| -10.0 + 45.0 * rng.uniform(case * 32 + at))
                .collect();
            let beta = libm::exp(6.0 * rng.uniform(case * 32 + 31));
            let sinr: Vec<f64> = sinr_db.iter().map(|&db| linear(db)).collect();
            let exact = effective_sinr_db(beta, &sinr_db).unwrap();
            let fast = decibel(effective_sinr(beta, &sinr));
            if beta < 10.0 * linear(exact) {
                compared += 1;
                assert!((exact - fast).abs() < 1e-4, "{exact} {fast} {beta}");
            }
        }
        assert!(compared > 800, "{compared}");
    }

    #[test]
    fn the_fast_logarithm_has_ten_digits() {
        for at in 0..4_000 {
            let x = libm::exp(f64::from(at - 3_000) / 40.0);
            let error = logarithm(x) - libm::log(x);
            assert!(error.abs() < 1e-10, "{x}: {error}");
        }
    }

    #[test]
    fn logarithms_of_counts_are_those_that_are_computed() {
        for count in 1..200_u32 {
            let kept = logarithm_of_count(count as usize);
            let computed = logarithm(f64::from(count));
            assert_eq!(kept.to_bits(), computed.to_bits(), "{count}");
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
