//! What exits are trained on: a model that stays as it is, and what it makes of a text.

use std::path::Path;

use candle_core::{Error, Result, Tensor, bail};

use crate::engine::error::EngineError;
use crate::engine::model::Model;
use crate::engine::tensors::{EMBEDDING, FINAL_NORM, HEAD};
use crate::engine::train::network::Network;
use crate::engine::weights::Weights;
use crate::model_config::ModelConfig;

/// A model whose own weights stay as they are, in f32 on the CPU.
pub(super) trait Backbone: Sync {
    /// Its shape.
    fn config(&self) -> &ModelConfig;

    /// The weights of its last norm: width.
    fn final_norm(&self) -> Result<Tensor>;

    /// Its output head: vocabulary x width.
    fn output_head(&self) -> Result<Tensor>;

    /// The states after each of some layers, counted from 1 (tokens of all sequences x width), and what the last
    /// layer says: the most probable token after each token. Nothing of it has a gradient. A sequence has one token
    /// more than it is asked about.
    fn after(&self, layers: &[u32], sequences: &[&[u32]]) -> Result<(Vec<Tensor>, Vec<u32>)>;
}

impl Backbone for Network {
    fn config(&self) -> &ModelConfig {
        Network::config(self)
    }

    fn final_norm(&self) -> Result<Tensor> {
        Network::final_norm(self)
    }

    fn output_head(&self) -> Result<Tensor> {
        Network::output_head(self)
    }

    fn after(&self, layers: &[u32], sequences: &[&[u32]]) -> Result<(Vec<Tensor>, Vec<u32>)> {
        let (states, said) = self.after_each_layer(sequences)?;
        let chosen = layers.iter().map(|layer| {
            let mut counted = (1..).zip(&states);
            match counted.find(|(number, _)| number == layer) {
                Some((_, states)) => Ok(states.clone()),
                None => bail!("no states after layer {layer}"),
            }
        });
        Ok((chosen.collect::<Result<_>>()?, said))
    }
}

/// Any checkpoint that the engine loads, as the engine computes it.
#[derive(Debug)]
pub(super) struct Checkpoint {
    model: Model,
    norm: Tensor,
    /// As numbers, because gradients go through it.
    head: Tensor,
}

impl Checkpoint {
    pub(super) fn load(directory: &Path) -> std::result::Result<Checkpoint, EngineError> {
        let model = Model::load_whole(directory)?;
        let config = model.config();
        let name = if config.tie_embeddings {
            EMBEDDING
        } else {
            HEAD
        };
        let mut weights = Weights::open(directory)?;
        let head = weights.vector(&(name.to_owned(), vec![config.vocabulary, config.width]))?;
        let norm = weights.vector(&(FINAL_NORM.to_owned(), vec![config.width]))?;
        Ok(Checkpoint { model, norm, head })
    }
}

impl Backbone for Checkpoint {
    fn config(&self) -> &ModelConfig {
        self.model.config()
    }

    fn final_norm(&self) -> Result<Tensor> {
        Ok(self.norm.clone())
    }

    fn output_head(&self) -> Result<Tensor> {
        Ok(self.head.clone())
    }

    fn after(&self, layers: &[u32], sequences: &[&[u32]]) -> Result<(Vec<Tensor>, Vec<u32>)> {
        let mut states: Vec<Vec<Tensor>> = vec![Vec::new(); layers.len()];
        let mut said = Vec::new();
        for sequence in sequences {
            let inputs = &sequence[..sequence.len().saturating_sub(1)];
            let mut hidden = self.model.embed(inputs).map_err(Error::wrap)?;
            for layer in 0..self.config().layers {
                let one = layer..layer + 1;
                let mut cache = self.model.new_cache_of(one.clone());
                let passed = self.model.forward_layers(one, &hidden, 0, &mut cache);
                hidden = passed.map_err(Error::wrap)?;
                for (chosen, states) in layers.iter().zip(&mut states) {
                    if *chosen == layer + 1 {
                        states.push(hidden.states.clone());
                    }
                }
            }
            said.extend(self.model.next_tokens(&hidden).map_err(Error::wrap)?);
        }
        let joined = states.iter().map(|states| Tensor::cat(states, 0));
        Ok((joined.collect::<Result<_>>()?, said))
    }
}
