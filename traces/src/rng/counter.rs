//! Random numbers by index: the n-th draw of a process is a function, not a position in a stream.
//!
//! Philox4x32-10 (J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
//! Adding an entity, changing the step of time or computing in parallel shifts nobody's numbers.

use sha2::{Digest, Sha256};

/// Multipliers and key increments of Philox4x32 (table 2 and section 4 of the paper).
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const KEY_INCREMENTS: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: u32 = 10;

/// The random numbers of one process of one entity, such as the shadowing of the link to cell 3.
///
/// Two processes share no numbers but by the birthday bound of 128 bits of key and counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CounterRng {
    key: [u32; 2],
    /// The upper half of every counter: with the key, what tells processes apart.
    domain: [u32; 2],
}

impl CounterRng {
    /// The numbers of `process` (what is drawn, such as `shadowing`) of `entity` (whose, such as
    /// `cell 3`) under `seed`.
    #[must_use]
    pub fn new(seed: u64, entity: &str, process: &str) -> CounterRng {
        let mut hasher = Sha256::new();
        hasher.update(b"hexloop counter v1\0");
        hasher.update(seed.to_le_bytes());
        hasher.update(entity.as_bytes());
        hasher.update([0]);
        hasher.update(process.as_bytes());
        let digest = hasher.finalize();
        let word = |at: usize| {
            u32::from_le_bytes([digest[at], digest[at + 1], digest[at + 2], digest[at + 3]])
        };
        CounterRng {
            key: [word(0), word(4)],
            domain: [word(8), word(12)],
        }
    }

    /// The four independent words of draw `index`.
    #[must_use]
    #[inline]
    pub fn words(&self, index: u64) -> [u32; 4] {
        let counter = [low(index), low(index >> 32), self.domain[0], self.domain[1]];
        philox(counter, self.key)
    }

    /// Draw `index` as a number in [0, 1) with 53 random bits.
    #[must_use]
    #[inline]
    pub fn uniform(&self, index: u64) -> f64 {
        let [a, b, ..] = self.words(index);
        unit(a, b)
    }

    /// Two independent numbers in [0, 1) of draw `index`; the first is [`CounterRng::uniform`]'s.
    #[must_use]
    #[inline]
    pub fn uniform_pair(&self, index: u64) -> [f64; 2] {
        let [a, b, c, d] = self.words(index);
        [unit(a, b), unit(c, d)]
    }

    /// Two independent standard normal numbers of draw `index` (Box and Muller 1958).
    #[must_use]
    #[inline]
    pub fn normal_pair(&self, index: u64) -> [f64; 2] {
        let [first, second] = self.uniform_pair(index);
        // 1 - u lies in (0, 1], so that the logarithm is finite.
        let radius = libm::sqrt(-2.0 * libm::log(1.0 - first));
        let angle = core::f64::consts::TAU * second;
        let (sine, cosine) = libm::sincos(angle);
        [radius * cosine, radius * sine]
    }

    /// A standard normal number: the first of [`CounterRng::normal_pair`].
    #[must_use]
    #[inline]
    pub fn normal(&self, index: u64) -> f64 {
        self.normal_pair(index)[0]
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is wanted")]
const fn low(value: u64) -> u32 {
    value as u32
}

/// 53 of 64 random bits as a multiple of 2^-53: exact in f64.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
fn unit(a: u32, b: u32) -> f64 {
    let bits = (u64::from(a) << 32 | u64::from(b)) >> 11;
    bits as f64 * (1.0 / 9_007_199_254_740_992.0)
}

fn philox(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..ROUNDS {
        let first = u64::from(MULTIPLIERS[0]) * u64::from(counter[0]);
        let second = u64::from(MULTIPLIERS[1]) * u64::from(counter[2]);
        counter = [
            low(second >> 32) ^ counter[1] ^ key[0],
            low(second),
            low(first >> 32) ^ counter[3] ^ key[1],
            low(first),
        ];
        key = [
            key[0].wrapping_add(KEY_INCREMENTS[0]),
            key[1].wrapping_add(KEY_INCREMENTS[1]),
        ];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn philox_gives_the_known_answers_of_its_authors() {
        // kat_vectors of Random123, "philox4x32 10".
        assert_eq!(
            philox([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn a_draw_depends_on_seed_entity_process_and_index_alone() {
        let draw =
            |seed, entity, process, index| CounterRng::new(seed, entity, process).words(index);
        let one = draw(1, "a", "b", 0);
        assert_eq!(one, draw(1, "a", "b", 0));
        for other in [
            draw(2, "a", "b", 0),
            draw(1, "b", "b", 0),
            draw(1, "a", "a", 0),
            draw(1, "ab", "", 0),
            draw(1, "a", "b", 1),
            draw(1, "a", "b", 1 << 32),
        ] {
            assert_ne!(one, other);
        }
    }

    #[test]
    fn numbers_have_the_moments_of_their_distributions() {
        let rng = CounterRng::new(7, "test", "moments");
        let count = 200_000u32;
        let (mut uniform, mut sum, mut square, mut product) = (0.0, 0.0, 0.0, 0.0);
        for index in 0..count {
            let value = rng.uniform(u64::from(index));
            assert!((0.0..1.0).contains(&value));
            uniform += value;
            let [a, b] = rng.normal_pair(u64::from(index));
            sum += a + b;
            square += a * a + b * b;
            product += a * b;
        }
        let n = f64::from(count);
        // Five standard errors: 1/sqrt(12 n), 1/sqrt(2 n), sqrt(2/(2 n)), 1/sqrt(n).
        assert!((uniform / n - 0.5).abs() < 5.0 / libm::sqrt(12.0 * n));
        assert!((sum / (2.0 * n)).abs() < 5.0 / libm::sqrt(2.0 * n));
        assert!((square / (2.0 * n) - 1.0).abs() < 5.0 / libm::sqrt(n));
        assert!((product / n).abs() < 5.0 / libm::sqrt(n));
    }
}
