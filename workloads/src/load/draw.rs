//! What is drawn for a load: moments and lengths, all from its seed, each purpose on a stream of its own.

use libm::{cos, exp, log, pow, round, sqrt};
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng as _, SeedableRng as _};

use super::spec::{Arrivals, Length, LoadSpec, Think};
use crate::request::open_unit;

/// The most requests of one load: their schedule is held in memory.
pub(super) const MOST_REQUESTS: usize = 1_000_000;

/// The stream that arrivals are drawn from; conversations take those above it.
const ARRIVALS: u64 = 0;

/// The stream of a user's thinking.
const THINKING: u64 = 1 << 62;

/// Random numbers of one purpose.
pub(super) fn stream(seed: u64, purpose: u64) -> ChaCha12Rng {
    let mut random = ChaCha12Rng::seed_from_u64(seed);
    random.set_stream(purpose);
    random
}

/// Random numbers of one conversation.
pub(super) fn of_conversation(seed: u64, number: u32) -> ChaCha12Rng {
    stream(seed, ARRIVALS + 1 + u64::from(number))
}

/// Random numbers of one user of a closed loop.
pub(super) fn of_user(seed: u64, user: u32) -> ChaCha12Rng {
    stream(seed, THINKING + u64::from(user))
}

impl LoadSpec {
    /// When conversations begin, as offsets from T0, if that is known before anything is sent; `None`
    /// for closed loops, whose users wait for answers.
    #[must_use]
    pub fn schedule(&self, seed: u64) -> Option<Vec<u64>> {
        let mut random = stream(seed, ARRIVALS);
        let until = self.arrivals_for_ns;
        match &self.arrivals {
            Arrivals::Poisson { per_kilosecond } | Arrivals::Server { per_kilosecond } => {
                let gap = || -log(open_unit(&mut random));
                Some(moments(*per_kilosecond, until, gap))
            }
            Arrivals::Constant { per_kilosecond } => Some(moments(*per_kilosecond, until, || 1.0)),
            Arrivals::Gamma {
                per_kilosecond,
                variation_percent,
            } => {
                let variation = f64::from(*variation_percent) / 100.0;
                let shape = 1.0 / (variation * variation);
                let gap = || gamma(&mut random, shape) / shape;
                Some(moments(*per_kilosecond, until, gap))
            }
            Arrivals::Recorded { moments_ns } => {
                let within = moments_ns.iter().copied().filter(|at| *at < until);
                Some(within.collect())
            }
            Arrivals::Offline { samples } => Some(vec![0; usize::try_from(*samples).unwrap_or(0)]),
            Arrivals::Closed { .. } | Arrivals::SingleStream | Arrivals::MultiStream { .. } => None,
        }
    }
}

/// Moments with such gaps, in units of their mean, before an end. Each is the rounded sum of all gaps
/// before it, so that no rounding adds up.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "positive, and far below 2^53 ns"
)]
fn moments(per_kilosecond: u64, until_ns: u64, mut gap: impl FnMut() -> f64) -> Vec<u64> {
    let mut moments = Vec::new();
    if per_kilosecond == 0 {
        return moments;
    }
    let mean_gap_ns = 1e12 / per_kilosecond as f64;
    let mut sum = 0.0;
    while moments.len() < MOST_REQUESTS {
        sum += gap();
        let at_ns = round(sum * mean_gap_ns) as u64;
        if at_ns >= until_ns {
            break;
        }
        moments.push(at_ns);
    }
    moments
}

/// A standard normal draw (Box and Muller 1958).
fn normal(random: &mut ChaCha12Rng) -> f64 {
    let radius = sqrt(-2.0 * log(open_unit(random)));
    radius * cos(2.0 * std::f64::consts::PI * open_unit(random))
}

/// A gamma draw of that shape and scale 1 (Marsaglia and Tsang 2000, with their boost below shape 1).
fn gamma(random: &mut ChaCha12Rng, shape: f64) -> f64 {
    if shape < 1.0 {
        let boost = pow(open_unit(random), 1.0 / shape);
        return boost * gamma(random, shape + 1.0);
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / sqrt(9.0 * d);
    loop {
        let x = normal(random);
        let v = (1.0 + c * x) * (1.0 + c * x) * (1.0 + c * x);
        if v <= 0.0 {
            continue;
        }
        if log(open_unit(random)) < 0.5 * x * x + d - d * v + d * log(v) {
            return d * v;
        }
    }
}

impl Length {
    /// The draw for the request of that number.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "bounded below 2^32"
    )]
    pub(super) fn draw(&self, random: &mut ChaCha12Rng, number: u32) -> u32 {
        match self {
            Length::Fixed { count } => *count,
            Length::Uniform { least, most } => {
                let span = u64::from(most.saturating_sub(*least)) + 1;
                // The bias of the remainder is below 2^-32.
                let offset = u32::try_from(random.next_u64() % span).unwrap_or(0);
                least.saturating_add(offset)
            }
            Length::Lognormal {
                median,
                sigma_percent,
                most,
            } => {
                let sigma = f64::from(*sigma_percent) / 100.0;
                let drawn = round(f64::from(*median) * exp(sigma * normal(random)));
                drawn.clamp(1.0, f64::from(*most).max(1.0)) as u32
            }
            Length::Listed { counts } => {
                let count = counts.len().max(1);
                let place = usize::try_from(number).unwrap_or(0) % count;
                counts.get(place).copied().unwrap_or(0)
            }
        }
    }
}

impl Think {
    /// How long it lasts this time.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "positive, and far below 2^53 ns"
    )]
    pub(super) fn draw(self, random: &mut ChaCha12Rng) -> u64 {
        if self.exponential {
            round(-log(open_unit(random)) * self.mean_ns as f64) as u64
        } else {
            self.mean_ns
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECONDS: u64 = 1_000_000_000;

    fn spec(arrivals: Arrivals, arrivals_for_ns: u64) -> LoadSpec {
        super::super::tests::plain(arrivals, arrivals_for_ns)
    }

    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    fn mean_and_variation(moments: &[u64]) -> (f64, f64) {
        let gaps: Vec<f64> = moments
            .windows(2)
            .map(|pair| (pair[1] - pair[0]) as f64)
            .collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let square = gaps.iter().map(|gap| (gap - mean) * (gap - mean));
        let deviation = sqrt(square.sum::<f64>() / gaps.len() as f64);
        (mean, deviation / mean)
    }

    #[test]
    fn gaps_have_the_mean_and_the_variation_that_were_asked_for() {
        // 100 arrivals a second for 400 s: 40 000 gaps of 10 ms.
        let per_kilosecond = 100_000;
        for (variation_percent, tolerance) in [(50, 0.01), (100, 0.02), (300, 0.15)] {
            let arrivals = Arrivals::Gamma {
                per_kilosecond,
                variation_percent,
            };
            let moments = spec(arrivals, 400 * SECONDS).schedule(3).unwrap();
            let (mean, variation) = mean_and_variation(&moments);
            let asked = f64::from(variation_percent) / 100.0;
            assert!((mean / 1e7 - 1.0).abs() < 0.06, "{mean}");
            assert!(
                (variation - asked).abs() < tolerance * asked.max(1.0),
                "{variation}"
            );
        }
        let poisson = spec(Arrivals::Poisson { per_kilosecond }, 400 * SECONDS);
        let (mean, variation) = mean_and_variation(&poisson.schedule(3).unwrap());
        assert!((mean / 1e7 - 1.0).abs() < 0.02 && (variation - 1.0).abs() < 0.02);
    }

    #[test]
    fn constant_arrivals_come_at_equal_gaps_and_recorded_ones_when_they_were() {
        let per_kilosecond = 2_000;
        let moments = spec(Arrivals::Constant { per_kilosecond }, 2 * SECONDS).schedule(1);
        assert_eq!(moments.unwrap(), [SECONDS / 2, SECONDS, 3 * SECONDS / 2]);
        let moments_ns = vec![0, 5, 7, 2 * SECONDS];
        let recorded = spec(Arrivals::Recorded { moments_ns }, SECONDS).schedule(1);
        assert_eq!(recorded.unwrap(), [0, 5, 7]);
        let offline = spec(Arrivals::Offline { samples: 3 }, SECONDS).schedule(1);
        assert_eq!(offline.unwrap(), [0, 0, 0]);
        assert_eq!(spec(Arrivals::SingleStream, SECONDS).schedule(1), None);
    }

    #[test]
    fn a_seed_means_the_same_schedule_and_another_another() {
        let poisson = || {
            spec(
                Arrivals::Server {
                    per_kilosecond: 5_000,
                },
                20 * SECONDS,
            )
        };
        assert_eq!(poisson().schedule(4), poisson().schedule(4));
        assert_ne!(poisson().schedule(4), poisson().schedule(5));
    }

    #[test]
    fn lengths_keep_to_their_bounds_and_their_median() {
        let mut random = stream(1, 9);
        let mut draws = |length: &Length| -> Vec<u32> {
            (0..4001)
                .map(|number| length.draw(&mut random, number))
                .collect()
        };
        let uniform = draws(&Length::Uniform { least: 3, most: 5 });
        assert!(uniform.iter().all(|drawn| (3..=5).contains(drawn)));
        assert!([3, 4, 5].iter().all(|wanted| uniform.contains(wanted)));
        let mut lognormal = draws(&Length::Lognormal {
            median: 100,
            sigma_percent: 80,
            most: 1000,
        });
        lognormal.sort_unstable();
        // The median's standard error is 1.25 sigma / sqrt(n) = 1.6 %.
        assert!((93..=107).contains(&lognormal[2000]), "{}", lognormal[2000]);
        assert!(lognormal[0] >= 1 && lognormal[4000] <= 1000);
        let listed = draws(&Length::Listed { counts: vec![7, 8] });
        assert_eq!(listed[..3], [7, 8, 7]);
    }
}
