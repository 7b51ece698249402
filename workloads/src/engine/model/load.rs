//! Reads layers and ends of a model from its files.

use std::ops::Range;
use std::path::Path;

use super::rotation::rotation;
use super::{Head, Model, Parts};
use crate::engine::compute::Compute;
use crate::engine::error::EngineError;
use crate::engine::gguf::BlockType;
use crate::engine::halves::Half;
use crate::engine::layer::Layer;
use crate::engine::linear::{Maps, Matrix, bytes};
use crate::engine::memory::Needed;
use crate::engine::tensors::{EMBEDDING, FINAL_NORM, HEAD};
use crate::engine::weights::{Weights, read_config};

impl Model {
    /// Loads the layers of `layers`, and the ends that `parts` names, from a model's directory, to
    /// compute on the CPU in f32.
    ///
    /// # Errors
    /// Files that are missing, truncated or damaged, layers that the model does not have, or more
    /// memory than is left.
    pub fn load(directory: &Path, layers: Range<u32>, parts: Parts) -> Result<Model, EngineError> {
        Model::load_on(directory, layers, parts, &Compute::cpu())
    }

    /// The same, to compute on another device or in other numbers.
    ///
    /// # Errors
    /// See [`Model::load`]; and a device that has no room for it.
    pub fn load_on(
        directory: &Path,
        layers: Range<u32>,
        parts: Parts,
        compute: &Compute,
    ) -> Result<Model, EngineError> {
        Model::load_in_blocks(directory, layers, parts, (compute, None))
    }

    /// The same, with the matrices in blocks of fewer bits where a type is given: those that
    /// [`crate::engine::gguf::quantise`] would store. In another precision than f32 they are kept as numbers of it,
    /// rounded as the blocks are: see [`Model::kept`].
    ///
    /// # Errors
    /// See [`Model::load_on`]; a model that is in blocks already.
    pub fn load_in_blocks(
        directory: &Path,
        layers: Range<u32>,
        parts: Parts,
        (compute, blocks): (&Compute, Option<BlockType>),
    ) -> Result<Model, EngineError> {
        Model::load_shared(directory, layers, parts, (compute, blocks, None))
    }

    /// The same, or half of each of the layers alone.
    pub(in super::super) fn load_shared(
        directory: &Path,
        layers: Range<u32>,
        parts: Parts,
        (compute, blocks, half): (&Compute, Option<BlockType>, Option<Half>),
    ) -> Result<Model, EngineError> {
        let config = read_config(directory)?;
        let shape = match half {
            Some(half) => half.shape(&config)?,
            None => config,
        };
        if layers.start > layers.end || layers.end > config.layers {
            return Err(EngineError::Layers {
                range: layers,
                layers: config.layers,
            });
        }
        let mut weights =
            Weights::open_in_blocks(directory, compute, blocks.map(|of| (of, config)))?;
        // Of halves the whole matrices are read.
        let reading = Needed::of(&weights, &config, &layers, parts).reading;
        let needed = Needed {
            reading,
            ..Needed::of(&weights, &shape, &layers, parts)
        };
        needed.check(&layers, compute.memory_left())?;
        let table = |name: &str| (name.to_owned(), vec![config.vocabulary, config.width]);
        let needs_table = parts.embedding || (parts.head && config.tie_embeddings);
        let embedding = needs_table
            .then(|| weights.matrix(&table(EMBEDDING)))
            .transpose()?;
        let mut weight_bytes = embedding.as_ref().map_or(0, Matrix::bytes);
        let head = if parts.head {
            let (matrix, is_own) = match &embedding {
                Some(embedding) if config.tie_embeddings => (embedding.clone(), false),
                _ => (weights.matrix(&table(HEAD))?, true),
            };
            let joining = EngineError::tensor("joining weights");
            let scores = Maps::one(matrix, None).map_err(joining)?;
            let norm = weights.vector(&(FINAL_NORM.to_owned(), vec![config.width]))?;
            weight_bytes += bytes(&norm) + if is_own { scores.bytes() } else { 0 };
            Some(Head { norm, scores })
        } else {
            None
        };
        let loaded = layers
            .clone()
            .map(|layer| Layer::load(&mut weights, &config, (layer, half)));
        let loaded: Vec<Layer> = loaded.collect::<Result<_, _>>()?;
        let divisors = weights.frequency_divisors(&config)?;
        let place = |(cosines, sines)| Ok((compute.place(&cosines)?, compute.place(&sines)?));
        let rotation = rotation(&config, divisors.as_deref())
            .and_then(place)
            .map_err(EngineError::tensor("computing the rotary embedding"))?;
        weight_bytes += loaded.iter().map(Layer::bytes).sum::<u64>();
        Ok(Model {
            config,
            half,
            shape,
            compute: compute.clone(),
            range: layers,
            embedding: embedding.filter(|_| parts.embedding),
            layers: loaded,
            head,
            rotary_order: weights.rotary_order(),
            rotation,
            weight_bytes,
            kept: weights.kept(),
        })
    }

    /// Loads all of a model.
    ///
    /// # Errors
    /// See [`Model::load`].
    pub fn load_whole(directory: &Path) -> Result<Model, EngineError> {
        let layers = read_config(directory)?.layers;
        Model::load(
            directory,
            0..layers,
            Parts {
                embedding: true,
                head: true,
            },
        )
    }
}
