//! Vectors of texts, for an index.

use super::Part;
use crate::engine::EngineError;
use crate::serve::error::JobError;

impl Part {
    /// The mean of the states of some tokens after half of the layers: what they are about, before the
    /// later layers turn to what comes next.
    pub(in crate::serve) fn pooled(&self, tokens: &[u32]) -> Result<Vec<f32>, JobError> {
        let pool = || self.pool(tokens);
        self.pace.run(pool).map_err(self.failed())
    }

    /// The same at the machine's own speed: nobody waits for it.
    pub(in crate::serve) fn pooled_at_once(&self, tokens: &[u32]) -> Result<Vec<f32>, JobError> {
        self.pool(tokens).map_err(self.failed())
    }

    fn pool(&self, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        let layers = 0..self.all_layers().div_ceil(2);
        let mut cache = self.new_cache_of(layers.clone());
        let states = self.model.embed(tokens)?;
        let states = self.forward(layers, &states, 0, &mut cache)?;
        let values = states.values()?;
        let width = usize::try_from(self.width()).unwrap_or(usize::MAX);
        let mut sum = vec![0.0_f32; width];
        for state in values.chunks_exact(width) {
            for (sum, value) in sum.iter_mut().zip(state) {
                *sum += value;
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "few tokens")]
        let count = tokens.len().max(1) as f32;
        Ok(sum.into_iter().map(|sum| sum / count).collect())
    }
}
