//! Prefixes whose keys and values are kept, by their tokens: a sequence that begins like one of them
//! need not compute what they have in common (technique 14 of the surveys).

use std::collections::BTreeMap;
use std::ops::Bound;

use super::cache::KeyValueCache;
use super::error::EngineError;

/// Keys and values of some sequences within a bound of memory; the one that was used least recently
/// makes room.
#[derive(Debug)]
pub struct PrefixStore {
    most_bytes: u64,
    held_bytes: u64,
    /// Sequences that share a prefix stand beside each other.
    held: BTreeMap<Vec<u32>, Held>,
    uses: u64,
    counts: PrefixCounts,
}

#[derive(Debug)]
struct Held {
    cache: KeyValueCache,
    used: u64,
}

/// What came of looking.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PrefixCounts {
    /// Sequences that began like one that was kept.
    pub hits: u64,
    /// Sequences that began like none.
    pub misses: u64,
    /// Positions of all of them.
    pub asked_positions: u64,
    /// Positions of those that need not be computed.
    pub reused_positions: u64,
    /// Sequences that made room for others.
    pub evicted: u64,
}

/// How many tokens two sequences begin with alike.
fn common(one: &[u32], other: &[u32]) -> usize {
    one.iter()
        .zip(other)
        .take_while(|(one, other)| one == other)
        .count()
}

impl PrefixStore {
    /// An empty one that holds at most so many bytes of keys and values.
    #[must_use]
    pub const fn new(most_bytes: u64) -> PrefixStore {
        PrefixStore {
            most_bytes,
            held_bytes: 0,
            held: BTreeMap::new(),
            uses: 0,
            counts: PrefixCounts {
                hits: 0,
                misses: 0,
                asked_positions: 0,
                reused_positions: 0,
                evicted: 0,
            },
        }
    }

    /// What came of looking so far.
    #[must_use]
    pub const fn counts(&self) -> PrefixCounts {
        self.counts
    }

    /// Memory that is held.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.held_bytes
    }

    /// Sequences that are held.
    #[must_use]
    pub fn sequences(&self) -> usize {
        self.held.len()
    }

    /// The kept sequence that begins most like this one, and with how many tokens. In the order of their
    /// tokens it stands beside where this one would.
    fn nearest(&self, tokens: &[u32]) -> Option<(&Vec<u32>, usize)> {
        let before = self
            .held
            .range::<[u32], _>((Bound::Unbounded, Bound::Included(tokens)));
        let after = self
            .held
            .range::<[u32], _>((Bound::Excluded(tokens), Bound::Unbounded));
        let beside = before.last().into_iter().chain(after.take(1));
        beside
            .map(|(kept, _)| (kept, common(kept, tokens)))
            .max_by_key(|(_, shared)| *shared)
            .filter(|(_, shared)| *shared > 0)
    }

    /// A cache with as many first positions of a sequence as a kept one has in common with it, at most
    /// `most`; `None` if none begins like it.
    ///
    /// # Errors
    /// Memory that does not suffice for the copy.
    pub fn reuse(
        &mut self,
        tokens: &[u32],
        most: u32,
    ) -> Result<Option<KeyValueCache>, EngineError> {
        self.counts.asked_positions += u64::try_from(tokens.len()).unwrap_or(u64::MAX);
        let found = self.nearest(tokens);
        let found = found.map(|(kept, shared)| (kept.clone(), shared));
        let shared = found.as_ref().map_or(0, |(_, shared)| {
            u32::try_from(*shared).unwrap_or(u32::MAX).min(most)
        });
        let held = found.and_then(|(kept, _)| self.held.get_mut(&kept));
        let Some(held) = held.filter(|_| shared > 0) else {
            self.counts.misses += 1;
            return Ok(None);
        };
        self.uses += 1;
        held.used = self.uses;
        self.counts.hits += 1;
        self.counts.reused_positions += u64::from(shared);
        held.cache.copy(shared).map(Some)
    }

    /// The cache of a sequence that is kept as it is.
    #[must_use]
    pub fn get(&mut self, tokens: &[u32]) -> Option<&KeyValueCache> {
        let held = self.held.get_mut(tokens)?;
        self.uses += 1;
        held.used = self.uses;
        Some(&held.cache)
    }

    /// Keeps a copy of the first positions of a cache, those of `tokens`; `false` if they alone are more
    /// than may be held.
    ///
    /// # Errors
    /// A cache of fewer positions, or memory that does not suffice for the copy.
    pub fn keep(&mut self, tokens: &[u32], cache: &KeyValueCache) -> Result<bool, EngineError> {
        let positions = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
        let copy = cache.copy(positions)?;
        let bytes = copy.bytes();
        if bytes > self.most_bytes {
            return Ok(false);
        }
        if let Some(old) = self.held.remove(tokens) {
            self.held_bytes -= old.cache.bytes();
        }
        while self.held_bytes + bytes > self.most_bytes {
            let oldest = self.held.iter().min_by_key(|(_, held)| held.used);
            let Some(oldest) = oldest.map(|(tokens, _)| tokens.clone()) else {
                break;
            };
            if let Some(old) = self.held.remove(&oldest) {
                self.held_bytes -= old.cache.bytes();
                self.counts.evicted += 1;
            }
        }
        self.uses += 1;
        self.held_bytes += bytes;
        let held = Held {
            cache: copy,
            used: self.uses,
        };
        self.held.insert(tokens.to_vec(), held);
        Ok(true)
    }
}
