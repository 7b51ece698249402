//! Keys and values that are cut out of a part's caches, or put into them.

use super::Part;
use crate::coding::kv::{KvCoding, KvShape};
use crate::engine::KeyValueCache;
use crate::serve::error::JobError;

impl Part {
    /// What the keys and values of a sequence are.
    pub(in crate::serve) fn kv_shape(&self) -> KvShape {
        self.model.kv_shape()
    }

    /// Those of the first positions of a cache, layer by layer.
    pub(in crate::serve) fn export(
        &self,
        cache: &KeyValueCache,
        positions: u32,
        coding: KvCoding,
    ) -> Result<Vec<Vec<u8>>, JobError> {
        let export = || self.model.export(cache, 0..positions, coding);
        self.pace.run(export).map_err(self.failed())
    }

    /// A new cache with those of its first positions, as they came over a link; what is wrong with them in
    /// words.
    pub(in crate::serve) fn import(
        &self,
        positions: u32,
        coding: KvCoding,
        layers: &[impl AsRef<[u8]>],
    ) -> Result<KeyValueCache, String> {
        let import = || {
            let mut cache = self.new_cache();
            self.model
                .import(&mut cache, positions, coding, layers)
                .map(|()| cache)
        };
        self.pace.run(import).map_err(|error| error.to_string())
    }

    /// The scores after each of some tokens behind what a cache holds, at the machine's own speed: nobody
    /// waits for them.
    pub(in crate::serve) fn scores(
        &self,
        tokens: &[u32],
        cache: &mut KeyValueCache,
    ) -> Result<Vec<Vec<f32>>, JobError> {
        let mut scored = || {
            let states = self.model.embed(tokens)?;
            let position = cache.positions();
            let states = self.forward(self.layers(), &states, position, cache)?;
            self.model.logits(&states)
        };
        scored().map_err(self.failed())
    }
}
