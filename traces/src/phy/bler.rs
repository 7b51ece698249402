//! Block error rate of a code block over white Gaussian noise: our own curves.
//!
//! The NR LDPC codes were simulated for every pair of modulation and code rate of the MCS tables
//! and eight sizes (`examples/ldpc_monte_carlo`, results in `data/phy/ldpc_monte_carlo.csv`), and a
//! normal distribution in dB was fitted to each (`examples/bler_fit`). Between the sizes median and
//! deviation follow 1/sqrt(size), the way finite blocklength does (Polyanskiy, Poor and Verdu,
//! IEEE Trans. Inf. Theory 56(5), 2010). Below about 1e-3 nothing was counted: there the curve is
//! an extrapolation ([`BlerCurve::basis`]).

use super::data::numbers;
use super::error::PhyError;
use super::mcs::CodingScheme;

/// Pairs of modulation and code rate.
const PAIRS: usize = 47;
/// The simulated sizes of code blocks.
const SIZES: [u32; 8] = [40, 100, 200, 500, 1000, 2000, 3840, 8448];
/// Modulation order, code rate x 1024, bits, median and deviation in dB and whether it was
/// simulated, each times 1000.
static CURVES: [i32; COLUMNS * PAIRS * SIZES.len()] =
    numbers(include_str!("../../data/phy/bler_curves.csv"), 3);
const COLUMNS: usize = 6;
/// Failures were counted from here up.
const LEAST_COUNTED: f64 = 1e-3;

/// What a value rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Basis {
    /// Simulated at this size of code block.
    Simulated,
    /// Between two simulated sizes.
    Interpolated,
    /// Where nothing was simulated.
    Extrapolated,
}

/// The error rate of one code block as a function of Es/N0: the tail of a normal distribution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlerCurve {
    median_db: f64,
    deviation_db: f64,
    basis: Basis,
}

impl BlerCurve {
    /// The curve of a scheme for code blocks of `code_block_bits`, check bits included.
    ///
    /// # Errors
    /// No code block of this rate has that size (TS 38.212, 5.2.2): fewer than 40 bits, or more
    /// than 8448, or 3840 at rates up to 1/4.
    pub fn of(scheme: CodingScheme, code_block_bits: u32) -> Result<BlerCurve, PhyError> {
        let most = if scheme.code_rate_x2048() <= 512 {
            3840
        } else {
            8448
        };
        PhyError::check("code_block_bits", code_block_bits, SIZES[0], most)?;
        let order = 1000 * i32::from(scheme.modulation_order());
        let rate = 500 * i32::from(scheme.code_rate_x2048());
        let of_scheme = |row: &[i32]| row[0] == order && row[1] == rate;
        let pair = CURVES
            .chunks_exact(COLUMNS * SIZES.len())
            .find(|rows| of_scheme(rows));
        let rows = pair.ok_or_else(|| {
            let scheme = format!("{} bits at rate {}", scheme.modulation_order(), rate);
            PhyError::new("scheme", &scheme, "a scheme of an MCS table")
        })?;
        let after = SIZES
            .iter()
            .position(|&size| size >= code_block_bits)
            .unwrap_or(7);
        let before = if SIZES[after] == code_block_bits {
            after
        } else {
            after.saturating_sub(1)
        };
        let value = |size: usize, column: usize| f64::from(rows[COLUMNS * size + column]) / 1000.0;
        let place = |bits: u32| 1.0 / libm::sqrt(f64::from(bits));
        let part = if before == after {
            0.0
        } else {
            let whole = place(SIZES[after]) - place(SIZES[before]);
            (place(code_block_bits) - place(SIZES[before])) / whole
        };
        let between = |column| {
            let start = value(before, column);
            start + part * (value(after, column) - start)
        };
        Ok(BlerCurve {
            median_db: between(3),
            deviation_db: between(4),
            basis: if value(before, 5) * value(after, 5) < 0.5 {
                Basis::Extrapolated
            } else if before == after {
                Basis::Simulated
            } else {
                Basis::Interpolated
            },
        })
    }

    /// The Es/N0 at which half of the blocks fail, in dB.
    #[must_use]
    pub const fn median_db(&self) -> f64 {
        self.median_db
    }

    /// The error rate of one code block at `esno_db`.
    #[must_use]
    #[inline]
    pub fn error_rate(&self, esno_db: f64) -> f64 {
        let deviations = (esno_db - self.median_db) / self.deviation_db;
        0.5 * libm::erfc(deviations * core::f64::consts::FRAC_1_SQRT_2)
    }

    /// The error rate of a transport block of `blocks` code blocks, which fails if one does.
    #[must_use]
    #[inline]
    pub fn transport_error_rate(&self, esno_db: f64, blocks: u32) -> f64 {
        let one = self.error_rate(esno_db);
        if blocks == 1 {
            return one;
        }
        -libm::expm1(f64::from(blocks) * libm::log1p(-one))
    }

    /// The Es/N0 in dB at which a transport block of `blocks` code blocks fails at `rate`.
    #[must_use]
    pub fn esno_db(&self, rate: f64, blocks: u32) -> f64 {
        // The curve falls strictly; 60 halvings of 24 deviations reach the last bit.
        let mut low = self.median_db - 12.0 * self.deviation_db;
        let mut high = self.median_db + 12.0 * self.deviation_db;
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if self.transport_error_rate(middle, blocks) > rate {
                low = middle;
            } else {
                high = middle;
            }
        }
        high
    }

    /// What the error rate at `esno_db` rests on.
    #[must_use]
    pub fn basis(&self, esno_db: f64) -> Basis {
        if self.error_rate(esno_db) < LEAST_COUNTED {
            Basis::Extrapolated
        } else {
            self.basis
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::mcs::McsTable;
    use super::*;

    fn curve(index: u64, bits: u32) -> BlerCurve {
        BlerCurve::of(McsTable::Qam64.scheme(index).unwrap(), bits).unwrap()
    }

    #[test]
    fn a_tenth_fails_within_0_3_db_of_an_independent_simulation() {
        // MCS table 1, code blocks of about 500 bits, 20 iterations: Es/N0 in dB.
        let points = [
            (9, 3.49),
            (12, 5.28),
            (14, 7.31),
            (16, 8.88),
            (18, 9.97),
            (20, 11.99),
            (24, 15.85),
            (27, 18.67),
        ];
        for (index, expected_db) in points {
            let found_db = curve(index, 500).esno_db(0.1, 1);
            assert!(
                (found_db - expected_db).abs() < 0.3,
                "MCS {index}: {found_db}"
            );
        }
    }

    #[test]
    fn every_scheme_has_curves_that_improve_with_size_and_stay_above_shannon() {
        for table in McsTable::ALL {
            for scheme in table.schemes() {
                let shannon_db = 10.0 * libm::log10(libm::exp2(scheme.efficiency()) - 1.0);
                let mut before_db = f64::INFINITY;
                for bits in SIZES {
                    let Ok(curve) = BlerCurve::of(scheme, bits) else {
                        assert!(bits > 3840 && scheme.code_rate() <= 0.25);
                        continue;
                    };
                    let at_db = curve.esno_db(0.1, 1);
                    assert!(at_db > shannon_db, "{scheme:?} {bits}");
                    // 100 bits at a high rate fill whole symbols worse than 40 bits do.
                    if bits >= 200 {
                        assert!(at_db < before_db + 0.3, "{scheme:?} {bits} {at_db}");
                    }
                    if bits > 40 {
                        assert_eq!(curve.basis(curve.median_db()), Basis::Simulated);
                    }
                    before_db = at_db;
                }
            }
        }
    }

    #[test]
    fn curves_tell_what_was_counted() {
        let schemes: Vec<CodingScheme> = McsTable::ALL
            .into_iter()
            .flat_map(McsTable::schemes)
            .collect();
        let text = include_str!("../../data/phy/ldpc_monte_carlo.csv");
        let (mut compared, mut worst) = (0, 0.0_f64);
        for line in text.lines() {
            let fields: Vec<f64> = line.split(',').filter_map(|f| f.parse().ok()).collect();
            let [order, rate, bits, _, esno_db, blocks, failed] = fields[..] else {
                continue;
            };
            let is_it = |scheme: &&CodingScheme| {
                f64::from(scheme.modulation_order())
                    .total_cmp(&order)
                    .is_eq()
                    && scheme.code_rate_x1024().total_cmp(&rate).is_eq()
            };
            let scheme = *schemes.iter().find(is_it).unwrap();
            let bits = SIZES
                .into_iter()
                .find(|&size| f64::from(size) >= bits)
                .unwrap();
            let curve = BlerCurve::of(scheme, bits).unwrap();
            if curve.basis(curve.median_db()) != Basis::Simulated {
                continue;
            }
            let rate = curve.error_rate(esno_db);
            let deviation = libm::sqrt((rate * (1.0 - rate)).max(1e-3) / blocks);
            worst = worst.max((rate - failed / blocks).abs() / deviation);
            compared += 1;
        }
        assert!(compared > 2000, "{compared}");
        // Of so many counts, some lie four standard deviations off; more is the shape's error.
        assert!(worst < 6.0, "{worst}");
    }

    #[test]
    fn error_rates_fall_from_one_to_nothing() {
        let curve = curve(10, 777);
        let rates: Vec<f64> = (0..200)
            .map(|at| curve.error_rate(f64::from(at) / 10.0 - 5.0))
            .collect();
        assert!(rates[0] > 0.999 && rates[199] < 1e-9);
        assert!(rates.windows(2).all(|pair| pair[1] <= pair[0]));
        assert_eq!(curve.basis(curve.median_db()), Basis::Interpolated);
        assert_eq!(curve.basis(curve.median_db() + 5.0), Basis::Extrapolated);
    }

    #[test]
    fn a_transport_block_fails_if_one_of_its_code_blocks_does() {
        let curve = curve(20, 8448);
        let esno_db = curve.esno_db(0.01, 1);
        let one = curve.error_rate(esno_db);
        let three = curve.transport_error_rate(esno_db, 3);
        assert!((three - (1.0 - (1.0 - one) * (1.0 - one) * (1.0 - one))).abs() < 1e-12);
        assert!((curve.transport_error_rate(curve.esno_db(0.1, 3), 3) - 0.1).abs() < 1e-9);
    }

    #[test]
    fn sizes_that_no_code_block_has_are_refused() {
        let scheme = McsTable::Qam64.scheme(28).unwrap();
        assert!(BlerCurve::of(scheme, 39).is_err());
        assert!(BlerCurve::of(scheme, 8449).is_err());
        assert!(BlerCurve::of(McsTable::Qam64.scheme(0).unwrap(), 3841).is_err());
    }
}
