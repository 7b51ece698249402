//! Low-rank adapters of a shared backbone (technique 13 of the surveys): what many tasks have each of their own
//! is a pair of small matrices beside the query and the value map of every layer,
//!
//! ```text
//! q = W_q x + s B_q A_q x        v = W_v x + s B_v A_v x        s = alpha / r
//! ```
//!
//! (`LoRA`, arXiv 2106.09685), so that only those are loaded for a task, `2 P_A` bytes in 16 bits with
//! `P_A = r L (2 d + H h + H_kv h)`, and sequences of different tasks pass through the backbone together: each row
//! of a batch is multiplied with its own pair (as in S-LoRA, arXiv 2311.03285, without its kernels).
//!
//! Files are those of PEFT. What would change the formulas above, and what adapts other maps, is refused.

mod files;
mod merge;

use std::path::PathBuf;

use candle_core::Tensor;

use super::cache::KeyValueCache;
use super::error::EngineError;
use super::hidden::Hidden;
use super::linear::bytes;
use super::model::{Model, size};
use super::slots::Slots;

pub(crate) use self::files::{Half, config_text, tensor_name};
pub use self::files::{LoadedAdapter, rank_of, stored_parameters};
pub use self::merge::{check_room_to_merge, merged_weights};

/// The pairs of all adapters beside one map, one below the other.
#[derive(Debug)]
struct Stack {
    /// Adapters x rank x inputs.
    down: Tensor,
    /// Adapters x outputs x rank, with the scale in it.
    up: Tensor,
}

/// Adapters for the layers of one part of a model. The one behind the last changes nothing.
#[derive(Debug)]
pub struct Adapters {
    /// Of each layer, queries and values.
    layers: Vec<[Stack; 2]>,
    count: u32,
    stored_bytes: u64,
}

/// Which adapters some states pass through.
#[derive(Debug, Clone)]
pub(super) struct Adapted<'a> {
    adapters: &'a Adapters,
    rows: Rows,
}

#[derive(Debug, Clone)]
enum Rows {
    /// All through the same.
    One(usize),
    /// Each row through its own.
    Each(Tensor),
}

impl Adapters {
    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// What was read of their files: the bytes of their matrices, as they are stored.
    #[must_use]
    pub const fn stored_bytes(&self) -> u64 {
        self.stored_bytes
    }

    /// Memory that they occupy.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let stacks = self.layers.iter().flatten();
        stacks
            .map(|stack| bytes(&stack.down) + bytes(&stack.up))
            .sum()
    }
}

/// Parameters of an adapter of that rank beside the query and value maps of a model.
#[must_use]
pub const fn parameters(config: &crate::model_config::ModelConfig, rank: u32) -> u64 {
    let queries = config.heads * config.head_width;
    let values = config.kv_heads * config.head_width;
    rank as u64 * config.layers as u64 * (2 * config.width + queries + values) as u64
}

impl Model {
    /// Loads adapters from their directories (`adapter_config.json`, `adapter_model.safetensors`); nothing of
    /// the backbone is read again.
    ///
    /// # Errors
    /// Files that are missing or damaged, adapters of other maps, or of a model of another shape.
    pub fn load_adapters(&self, directories: &[PathBuf]) -> Result<Adapters, EngineError> {
        let loaded = directories
            .iter()
            .map(|directory| self.load_adapter(directory));
        let loaded: Vec<LoadedAdapter> = loaded.collect::<Result<_, _>>()?;
        self.stack_adapters(&loaded.iter().collect::<Vec<_>>())
    }

    /// Puts adapters that were loaded for the layers of this part beside each other, in that order. Those of
    /// lower rank than the highest are filled with zeros.
    ///
    /// # Errors
    /// An adapter of other layers, or a device that has no room for them.
    pub fn stack_adapters(&self, loaded: &[&LoadedAdapter]) -> Result<Adapters, EngineError> {
        let rank = loaded.iter().map(|adapter| adapter.rank).max().unwrap_or(1);
        let stacking = || EngineError::tensor("stacking adapters");
        let layers = (0..self.layers().len()).map(|layer| {
            let stack = |map: usize| self.stack(loaded, (layer, map), size(rank));
            Ok([stack(0)?, stack(1)?])
        });
        let layers: candle_core::Result<Vec<[Stack; 2]>> = layers.collect();
        Ok(Adapters {
            layers: layers.map_err(stacking())?,
            count: u32::try_from(loaded.len()).unwrap_or(u32::MAX),
            stored_bytes: loaded.iter().map(|adapter| adapter.stored_bytes).sum(),
        })
    }

    /// The pairs of one map, with nothing behind the last.
    fn stack(
        &self,
        loaded: &[&LoadedAdapter],
        (layer, map): (usize, usize),
        rank: usize,
    ) -> candle_core::Result<Stack> {
        let model = self.config();
        let heads = if map == 0 {
            model.heads
        } else {
            model.kv_heads
        };
        let outputs = size(heads * model.head_width);
        let (dtype, device) = (self.compute().dtype(), self.compute().device());
        let mut downs = Vec::new();
        let mut ups = Vec::new();
        for adapter in loaded {
            let pair = adapter.layers.get(layer).and_then(|pairs| pairs.get(map));
            let Some([down, up]) = pair else {
                candle_core::bail!("an adapter without layer {layer}");
            };
            let missing = rank - size(adapter.rank);
            downs.push(down.pad_with_zeros(0, 0, missing)?);
            ups.push(up.pad_with_zeros(1, 0, missing)?);
        }
        downs.push(Tensor::zeros((rank, size(model.width)), dtype, device)?);
        ups.push(Tensor::zeros((outputs, rank), dtype, device)?);
        Ok(Stack {
            down: Tensor::stack(&downs, 0)?,
            up: Tensor::stack(&ups, 0)?,
        })
    }

    /// [`Model::forward`] with an adapter.
    ///
    /// # Errors
    /// As there; and an adapter that is not among them, or that was loaded for other layers.
    pub fn forward_adapted(
        &self,
        hidden: &Hidden,
        position: u32,
        cache: &mut KeyValueCache,
        (adapters, adapter): (&Adapters, u32),
    ) -> Result<Hidden, EngineError> {
        self.places(adapters, &[Some(adapter)])?;
        let adapted = Adapted {
            adapters,
            rows: Rows::One(size(adapter)),
        };
        let layers = self.layers();
        self.forward_through(layers, hidden, (position, cache), Some(adapted))
    }

    /// [`Model::forward_slots`] with an adapter for each filled slot, or none.
    ///
    /// # Errors
    /// As there; as many adapters as there are filled slots are needed, all among those that were loaded.
    pub fn forward_slots_adapted(
        &self,
        hidden: &Hidden,
        slots: &mut Slots,
        (adapters, of_slots): (&Adapters, &[Option<u32>]),
    ) -> Result<Hidden, EngineError> {
        let places = self.places(adapters, of_slots)?;
        let filled = slots.filled();
        if u32::try_from(places.len()) != Ok(filled) {
            return Err(EngineError::SlotTokens {
                tokens: u32::try_from(places.len()).unwrap_or(u32::MAX),
                filled,
            });
        }
        let rows = Tensor::new(places, self.compute().device());
        let rows = rows.map_err(EngineError::tensor("naming adapters"))?;
        let adapted = Adapted {
            adapters,
            rows: Rows::Each(rows),
        };
        self.forward_slots_through(hidden, slots, Some(adapted))
    }

    /// The place of the adapter of each row; the one behind the last for none.
    fn places(
        &self,
        adapters: &Adapters,
        of_rows: &[Option<u32>],
    ) -> Result<Vec<u32>, EngineError> {
        if adapters.layers.len() != self.layers().len() {
            return Err(EngineError::NoAdapter {
                adapter: 0,
                adapters: 0,
            });
        }
        let known = |adapter: &Option<u32>| match adapter {
            Some(adapter) if *adapter >= adapters.count => Err(EngineError::NoAdapter {
                adapter: *adapter,
                adapters: adapters.count,
            }),
            adapter => Ok(adapter.unwrap_or(adapters.count)),
        };
        of_rows.iter().map(known).collect()
    }
}

impl Adapted<'_> {
    /// What the adapters of the rows add to the queries and to the values of a layer.
    pub(super) fn add(
        &self,
        layer: usize,
        states: &Tensor,
        [queries, values]: [&Tensor; 2],
    ) -> candle_core::Result<[Tensor; 2]> {
        let Some(stacks) = self.adapters.layers.get(layer) else {
            candle_core::bail!("no adapters for layer {layer}");
        };
        let add = |stack: &Stack, to: &Tensor| {
            let delta = match &self.rows {
                Rows::One(adapter) => {
                    let (down, up) = (stack.down.get(*adapter)?, stack.up.get(*adapter)?);
                    states.matmul(&down.t()?)?.matmul(&up.t()?)?
                }
                // Each row by itself, so that who is beside it changes nothing.
                Rows::Each(rows) => {
                    let down = stack.down.index_select(rows, 0)?;
                    let up = stack.up.index_select(rows, 0)?;
                    let column = states.unsqueeze(2)?.contiguous()?;
                    up.matmul(&down.matmul(&column)?)?.squeeze(2)?
                }
            };
            to + delta.to_dtype(to.dtype())?
        };
        let [of_queries, of_values] = stacks;
        Ok([add(of_queries, queries)?, add(of_values, values)?])
    }
}
