//! A backbone with adapters beside it.

use std::path::Path;

use super::Part;
use crate::engine::adapters::{self, Adapters, LoadedAdapter};
use crate::engine::{Hidden, KeyValueCache, Slots};
use crate::serve::error::JobError;

impl Part {
    /// Does something that is no pass at the pace of this node.
    pub(in crate::serve) fn at_pace<T>(&self, work: impl FnOnce() -> T) -> T {
        self.pace.run(work)
    }

    /// Loads the adapter in a directory.
    pub(in crate::serve) fn load_adapter(
        &self,
        directory: &Path,
    ) -> Result<LoadedAdapter, JobError> {
        let loaded = self.model.load_adapter(directory);
        loaded.map_err(super::failed("load an adapter for", &self.directory))
    }

    /// Puts adapters beside each other, in that order.
    pub(in crate::serve) fn stack_adapters(
        &self,
        loaded: &[&LoadedAdapter],
    ) -> Result<Adapters, JobError> {
        let stacked = self.model.stack_adapters(loaded);
        stacked.map_err(self.failed())
    }

    /// Carries tokens through this part, which starts with the embedding, and one of the adapters.
    pub(in crate::serve) fn carry_adapted(
        &self,
        tokens: &[u32],
        cache: &mut KeyValueCache,
        adapter: (&Adapters, u32),
    ) -> Result<Hidden, JobError> {
        let carried = self.pace.run(|| {
            let states = self.model.embed(tokens)?;
            let position = cache.positions();
            let carried = self
                .model
                .forward_adapted(&states, position, cache, adapter)?;
            self.compute.wait()?;
            Ok(carried)
        });
        carried.map_err(self.failed())
    }

    /// One token of every sequence through the whole model, each with its adapter, and the tokens that follow.
    pub(in crate::serve) fn carry_slots_adapted(
        &self,
        tokens: &[u32],
        slots: &mut Slots,
        adapters: (&Adapters, &[Option<u32>]),
    ) -> Result<Vec<u32>, JobError> {
        let carried = self.pace.run(|| {
            let states = self.model.embed(tokens)?;
            let states = self.model.forward_slots_adapted(&states, slots, adapters)?;
            self.compute.wait()?;
            self.model.next_tokens(&states)
        });
        carried.map_err(self.failed())
    }

    /// Scores after each token of a text, with an adapter or with none, at the machine's own speed: nobody waits
    /// for it.
    pub(in crate::serve) fn scores_at_once(
        &self,
        tokens: &[u32],
        adapter: Option<(&Adapters, u32)>,
    ) -> Result<Vec<Vec<f32>>, JobError> {
        let mut cache = self.new_cache();
        let scored = self.model.embed(tokens).and_then(|states| {
            let states = match adapter {
                Some(adapter) => self
                    .model
                    .forward_adapted(&states, 0, &mut cache, adapter)?,
                None => self.model.forward(&states, 0, &mut cache)?,
            };
            self.model.logits(&states)
        });
        scored.map_err(self.failed())
    }

    /// Parameters of the whole model; of an adapter of that rank beside it, if one is given.
    pub(in crate::serve) fn parameters(&self, rank: Option<u32>) -> u64 {
        match rank {
            Some(rank) => adapters::parameters(self.config(), rank),
            None => self.config().parameters(),
        }
    }

    /// The tokens of a text.
    pub(in crate::serve) fn encode_text(&self, text: &str) -> Result<Vec<u32>, JobError> {
        self.tokenizer.encode(text).map_err(self.failed())
    }
}
