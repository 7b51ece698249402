//! Seeded random streams that do not disturb each other.

use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use sha2::{Digest, Sha256};

/// A random stream that belongs to one purpose.
///
/// The stream depends only on the seed and the purpose's name, so adding another consumer of
/// randomness shifts nobody else's numbers.
#[must_use]
pub fn stream(seed: u64, purpose: &str) -> ChaCha12Rng {
    let mut hasher = Sha256::new();
    hasher.update(b"hexloop random stream v1\0");
    hasher.update(seed.to_le_bytes());
    hasher.update(purpose.as_bytes());
    ChaCha12Rng::from_seed(hasher.finalize().into())
}
