//! Hybrid ARQ: transport blocks that are sent again until they are decoded.
//!
//! What the receiver keeps of failed attempts is one number: with chase combining the sum of the
//! effective SINRs, with incremental redundancy the sum of the information that they carry, by
//! Shannon's formula with the gap of the scheme's own curve. Failures are nested: who fails
//! with more would have failed with less, so that the probability of failing the first k attempts
//! is that of one attempt with all that was combined.

use super::bler::BlerCurve;
use super::code_block::{BaseGraph, Segmentation};
use super::error::PhyError;
use super::mcs::CodingScheme;

/// What a retransmission adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Combining {
    /// The same bits again.
    Chase,
    /// Further check bits, as long as the base graph has some; the same bits afterwards.
    #[default]
    IncrementalRedundancy,
}

/// How transport blocks are repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HarqSettings {
    /// Blocks that may be under way at the same time, 1 to 32.
    pub processes: u8,
    /// Attempts until a block is given up, 1 to 8.
    pub maximum_attempts: u8,
    /// What a retransmission adds.
    pub combining: Combining,
}

impl Default for HarqSettings {
    /// 16 processes, four attempts, incremental redundancy.
    fn default() -> HarqSettings {
        HarqSettings {
            processes: 16,
            maximum_attempts: 4,
            combining: Combining::default(),
        }
    }
}

/// The most attempts that may be asked for.
pub const MOST_ATTEMPTS: usize = 8;

impl HarqSettings {
    pub(super) fn check(&self) -> Result<(), PhyError> {
        PhyError::check("HARQ processes", self.processes, 1, 32)?;
        PhyError::check("HARQ attempts", self.maximum_attempts, 1, 8)?;
        Ok(())
    }
}

/// How a transport block is coded, as far as its failures go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BlockCode {
    curve: BlerCurve,
    blocks: u32,
    /// SINR at the curve's median over the SINR of Shannon's formula.
    gap: f64,
    /// Attempts that can carry new check bits.
    fresh_attempts: u8,
    /// By how many attempts' bits a block is spread over, from 1: what its rate then needs by
    /// Shannon's formula, linear.
    needed: [f64; MOST_ATTEMPTS],
}

impl BlockCode {
    /// The code of a transport block of `transport_block_bits`.
    ///
    /// # Errors
    /// There is no curve for its code blocks ([`BlerCurve::of`]).
    pub fn of(scheme: CodingScheme, transport_block_bits: u32) -> Result<BlockCode, PhyError> {
        let segmentation = Segmentation::of(transport_block_bits, scheme);
        let curve = BlerCurve::of(scheme, segmentation.block_bits)?;
        let mother_rate = match segmentation.base_graph {
            BaseGraph::One => 1.0 / 3.0,
            BaseGraph::Two => 1.0 / 5.0,
        };
        let mut fresh_attempts = 1;
        while fresh_attempts < 8 && scheme.code_rate() / f64::from(fresh_attempts) > mother_rate {
            fresh_attempts += 1;
        }
        let median = super::eesm::linear(curve.median_db());
        let mut needed = [0.0; MOST_ATTEMPTS];
        for (uses, needed) in (1_u32..).zip(&mut needed) {
            *needed = libm::exp2(scheme.efficiency() / f64::from(uses)) - 1.0;
        }
        Ok(BlockCode {
            curve,
            needed,
            blocks: segmentation.blocks,
            gap: median / needed[0],
            fresh_attempts,
        })
    }

    /// The curve of one code block.
    #[must_use]
    pub const fn curve(&self) -> &BlerCurve {
        &self.curve
    }

    /// Es/N0 in dB at which the first attempt fails at `rate`.
    #[must_use]
    pub fn esno_db(&self, rate: f64) -> f64 {
        self.curve.esno_db(rate, self.blocks)
    }

    /// The probability that the block is not decoded from what was combined.
    #[must_use]
    #[inline]
    pub fn failure(&self, combined: &Combined) -> f64 {
        let esno_db = combined.esno_db(self);
        self.curve.transport_error_rate(esno_db, self.blocks)
    }
}

/// What a receiver has of one transport block.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Combined {
    attempts: u8,
    sum: f64,
    /// Product of 1 + SINR / gap: 2 to the power of the information in bits per symbol.
    product: f64,
}

impl Combined {
    /// Attempts so far.
    #[must_use]
    pub const fn attempts(&self) -> u8 {
        self.attempts
    }

    /// With one more attempt at the effective linear SINR `sinr`.
    #[must_use]
    #[inline]
    pub fn with(self, code: &BlockCode, combining: Combining, sinr: f64) -> Combined {
        let attempts = self.attempts.saturating_add(1);
        if self.attempts == 0 {
            return Combined {
                attempts,
                sum: sinr,
                product: 0.0,
            };
        }
        if combining == Combining::Chase {
            return Combined {
                attempts,
                sum: self.sum + sinr,
                product: 0.0,
            };
        }
        let before = if self.attempts == 1 {
            1.0 + self.sum / code.gap
        } else {
            self.product
        };
        let product = if attempts <= code.fresh_attempts {
            before * (1.0 + sinr / code.gap)
        } else {
            // The same bits again, spread over what was sent: energy, not information.
            let uses = f64::from(code.fresh_attempts);
            let mean = root(before, code.fresh_attempts) - 1.0;
            libm::pow(1.0 + mean + sinr / code.gap / uses, uses)
        };
        Combined {
            attempts,
            sum: self.sum + sinr,
            product,
        }
    }

    /// The Es/N0 in dB at which the first attempt alone would be as far from its median.
    #[inline]
    fn esno_db(&self, code: &BlockCode) -> f64 {
        if self.product <= 0.0 {
            return super::eesm::decibel(self.sum);
        }
        // The same margin at the lower rate: the mean SINR against what that rate needs.
        let uses = self.attempts.min(code.fresh_attempts).max(1);
        let mean = root(self.product, uses) - 1.0;
        let needed = code.needed[usize::from(uses - 1).min(MOST_ATTEMPTS - 1)];
        code.curve.median_db() + super::eesm::decibel(mean / needed)
    }
}

/// The root of that degree of a positive number; square roots where that is enough.
#[inline]
fn root(of: f64, degree: u8) -> f64 {
    match degree {
        1 => of,
        2 => libm::sqrt(of),
        4 => libm::sqrt(libm::sqrt(of)),
        degree => libm::pow(of, 1.0 / f64::from(degree)),
    }
}

/// What HARQ does to a block under a steady SINR.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct HarqOutlook {
    /// Mean number of retransmissions of a block that is decoded.
    pub mean_retransmissions: f64,
    /// Variance of it.
    pub variance: f64,
    /// Probability that a block is given up.
    pub residual: f64,
}

impl HarqOutlook {
    /// The outlook of `code` at the effective linear SINR `sinr`, whose first attempt fails at
    /// `first_failure`.
    #[must_use]
    pub fn new(
        code: &BlockCode,
        settings: &HarqSettings,
        sinr: f64,
        first_failure: f64,
    ) -> HarqOutlook {
        let mut combined = Combined::default().with(code, settings.combining, sinr);
        let mut failure = first_failure;
        let (mut mean, mut squares) = (0.0, 0.0);
        for retransmission in 1..settings.maximum_attempts {
            if failure < 1e-12 {
                break;
            }
            combined = combined.with(code, settings.combining, sinr);
            let next = code.failure(&combined).min(failure);
            let decoded = failure - next;
            let count = f64::from(retransmission);
            mean += decoded * count;
            squares += decoded * count * count;
            failure = next;
        }
        let decoded = (1.0 - failure).max(1e-12);
        let mean = mean / decoded;
        HarqOutlook {
            mean_retransmissions: mean,
            variance: (squares / decoded - mean * mean).max(0.0),
            residual: failure,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::eesm::linear;
    use super::super::mcs::McsTable;
    use super::*;

    fn code(index: u64) -> BlockCode {
        BlockCode::of(McsTable::Qam64.scheme(index).unwrap(), 2976).unwrap()
    }

    fn failure(code: &BlockCode, combining: Combining, sinrs_db: &[f64]) -> f64 {
        let combined = sinrs_db.iter().fold(Combined::default(), |combined, &db| {
            combined.with(code, combining, linear(db))
        });
        code.failure(&combined)
    }

    #[test]
    fn chase_combining_adds_three_decibels_for_a_repetition() {
        let code = code(14);
        let at_db = code.esno_db(0.1);
        let half_db = at_db - 10.0 * libm::log10(2.0);
        assert!((failure(&code, Combining::Chase, &[half_db; 2]) - 0.1).abs() < 1e-6);
    }

    #[test]
    fn incremental_redundancy_is_better_than_chase_and_equal_where_no_bits_are_left() {
        for index in [5, 14, 20, 27] {
            let code = code(index);
            let low_db = code.curve().median_db() - 4.0;
            let chase = failure(&code, Combining::Chase, &[low_db; 2]);
            let redundancy = failure(&code, Combining::IncrementalRedundancy, &[low_db; 2]);
            assert!(redundancy <= chase + 1e-12, "{index}: {redundancy} {chase}");
        }
        // Rate 120/1024 is below the mother code's.
        let code = code(0);
        let low_db = code.curve().median_db() - 3.0;
        let chase = failure(&code, Combining::Chase, &[low_db; 2]);
        let redundancy = failure(&code, Combining::IncrementalRedundancy, &[low_db; 2]);
        assert!((chase - redundancy).abs() < 1e-9);
    }

    #[test]
    fn more_attempts_never_fail_more_often() {
        for index in 0..29 {
            let code = code(index);
            let sinr = linear(code.curve().median_db() - 8.0);
            for combining in [Combining::Chase, Combining::IncrementalRedundancy] {
                let mut combined = Combined::default();
                let mut before = 1.0;
                for _ in 0..8 {
                    combined = combined.with(&code, combining, sinr);
                    let now = code.failure(&combined);
                    assert!(
                        now <= before + 1e-12,
                        "{index} {combining:?} {now} {before}"
                    );
                    before = now;
                }
            }
        }
    }

    #[test]
    fn the_outlook_counts_retransmissions_and_what_is_given_up() {
        let code = code(14);
        let settings = HarqSettings::default();
        let sinr = linear(code.esno_db(0.1));
        let outlook = HarqOutlook::new(&code, &settings, sinr, 0.1);
        assert!(
            (outlook.mean_retransmissions - 0.1).abs() < 0.01,
            "{outlook:?}"
        );
        assert!(outlook.residual < 1e-9);
        let once = HarqSettings {
            maximum_attempts: 1,
            ..settings
        };
        let outlook = HarqOutlook::new(&code, &once, sinr, 0.1);
        assert!((outlook.residual - 0.1).abs() < 1e-12);
        assert!(outlook.mean_retransmissions.abs() < 1e-12);
    }
}
