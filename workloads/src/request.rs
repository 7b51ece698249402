//! Requests: when they arrive and what they ask.

use libm::log;
use rand_chacha::ChaCha12Rng;
use rand_core::Rng;
use serde::{Deserialize, Serialize};

/// A stream of requests with exponential gaps (a Poisson process), drawn in advance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestStream {
    /// Mean arrivals per 1000 seconds (an integer, so that plans compare exactly).
    pub arrivals_per_kilosecond: u64,
    /// Prompt length in tokens, the same for every request.
    pub prompt_tokens: u32,
    /// Tokens to generate, the same for every request (generation never stops earlier).
    pub output_tokens: u32,
    /// How long requests keep arriving, from T0.
    pub arrivals_for_ns: u64,
    /// A request that has not ended so long after its scheduled time has failed.
    pub deadline_ns: u64,
}

/// One request of the schedule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScheduledRequest {
    /// Number within its phase, from 0.
    pub id: u32,
    /// When it is to be sent, as an offset from T0.
    pub due_ns: u64,
    /// The seed its prompt is drawn from.
    pub prompt_seed: u64,
    /// Prompt length in tokens.
    pub prompt_tokens: u32,
    /// Tokens to generate.
    pub output_tokens: u32,
}

/// A uniform draw from the open interval (0, 1), from 53 bits.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "53 bits fit an f64 exactly")]
pub fn open_unit(random: &mut ChaCha12Rng) -> f64 {
    ((random.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

impl RequestStream {
    /// Draws the whole schedule before anything runs, so that a late answer cannot delay the
    /// next request (no coordinated omission).
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "gaps are positive and far below 2^53 ns"
    )]
    pub fn schedule(&self, random: &mut ChaCha12Rng) -> Vec<ScheduledRequest> {
        let mut requests = Vec::new();
        if self.arrivals_per_kilosecond == 0 {
            return requests;
        }
        let mean_gap_ns = 1e12 / self.arrivals_per_kilosecond as f64;
        let mut due_ns = 0_u64;
        for id in 0.. {
            due_ns += (-log(open_unit(random)) * mean_gap_ns) as u64;
            if due_ns >= self.arrivals_for_ns {
                break;
            }
            requests.push(ScheduledRequest {
                id,
                due_ns,
                prompt_seed: random.next_u64(),
                prompt_tokens: self.prompt_tokens,
                output_tokens: self.output_tokens,
            });
        }
        requests
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::SeedableRng;

    fn stream() -> RequestStream {
        RequestStream {
            arrivals_per_kilosecond: 2_000_000,
            prompt_tokens: 16,
            output_tokens: 8,
            arrivals_for_ns: 20_000_000_000,
            deadline_ns: 1_000_000_000,
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule() {
        let draw = |seed| stream().schedule(&mut ChaCha12Rng::seed_from_u64(seed));
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
    }

    #[test]
    fn gaps_are_exponential_with_the_stated_mean() {
        let requests = stream().schedule(&mut ChaCha12Rng::seed_from_u64(1));
        // 40 000 expected; four standard deviations of a Poisson count are 800.
        assert!(
            (39_200..40_800).contains(&requests.len()),
            "{}",
            requests.len()
        );
        let longer_than_mean = requests
            .windows(2)
            .filter(|pair| pair[1].due_ns - pair[0].due_ns > 500_000)
            .count();
        #[expect(clippy::cast_precision_loss, reason = "small counts")]
        let share = longer_than_mean as f64 / requests.len() as f64;
        assert!((share - (-1.0_f64).exp()).abs() < 0.01, "{share}");
    }
}
