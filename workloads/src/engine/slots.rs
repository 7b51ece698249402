//! Continuous batching: the keys and values of several sequences of different lengths side by side,
//! so that one pass makes one token of each.
//!
//! Filled slots are always the first ones: where one is emptied the last takes its place.

use std::ops::Range;

use candle_core::{DType, Tensor};

use super::cache::KeyValueCache;
use super::compute::Compute;
use super::error::EngineError;
use super::linear::bytes;
use super::memory;
use super::model::size;
use crate::model_config::ModelConfig;

/// The keys and values of several sequences, in the layers of one part of a model.
#[derive(Debug)]
pub struct Slots {
    layers: Range<u32>,
    /// Of each layer: slots and key-value heads x room x width of a head.
    keys: Vec<Tensor>,
    values: Vec<Tensor>,
    kv_heads: usize,
    room: u32,
    count: usize,
    /// How many positions each filled slot holds.
    positions: Vec<u32>,
}

/// What one pass over the filled slots needs.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) sequences: usize,
    /// Sequences x 1 x 1 x positions.
    pub(super) mask: Tensor,
    /// Sequences x 1 x half a head's width.
    pub(super) cosines: Tensor,
    pub(super) sines: Tensor,
    /// Where each sequence's new keys go: sequences and key-value heads x 1 x width of a head.
    pub(super) places: Tensor,
}

impl Slots {
    pub(super) fn new(
        config: &ModelConfig,
        layers: Range<u32>,
        compute: &Compute,
        slots: u32,
        positions: u32,
    ) -> Result<Slots, EngineError> {
        if positions > config.max_positions {
            return Err(EngineError::TooLong {
                positions: u64::from(positions),
                max_positions: config.max_positions,
            });
        }
        let needed = memory::key_value_bytes(config, &layers, compute, (slots, positions));
        let what = format!("keys and values of {slots} sequences of {positions} positions");
        memory::check(what, needed, compute.memory_left())?;
        let (count, kv_heads) = (size(slots), size(config.kv_heads));
        let shape = (count * kv_heads, size(positions), size(config.head_width));
        let make = |_| Tensor::zeros(shape, compute.dtype(), compute.device());
        let make = || layers.clone().map(make).collect::<Result<Vec<_>, _>>();
        let making = || EngineError::tensor("making room for keys and values");
        Ok(Slots {
            keys: make().map_err(making())?,
            values: make().map_err(making())?,
            layers,
            kv_heads,
            room: positions,
            count,
            positions: Vec::new(),
        })
    }

    /// How many slots are filled.
    #[must_use]
    pub fn filled(&self) -> u32 {
        u32::try_from(self.positions.len()).unwrap_or(u32::MAX)
    }

    /// How many positions each filled slot holds.
    #[must_use]
    pub fn positions(&self) -> &[u32] {
        &self.positions
    }

    /// Memory that they occupy, filled or not.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.keys.iter().chain(&self.values).map(bytes).sum()
    }

    /// Fills the next slot with a sequence that has passed through the same layers, and returns
    /// its number.
    ///
    /// # Errors
    /// No empty slot, a cache of other layers, or one that is longer than a slot.
    pub fn fill(&mut self, cache: &KeyValueCache) -> Result<u32, EngineError> {
        let (slot, positions) = (self.positions.len(), cache.positions());
        cache.check(&self.layers, positions)?;
        if slot == self.count {
            return Err(EngineError::NoSlot { slots: slot });
        }
        if positions > self.room {
            return Err(EngineError::TooLong {
                positions: u64::from(positions),
                max_positions: self.room,
            });
        }
        let copied = self.keys.iter().zip(&self.values).enumerate();
        let copied = copied.map(|(index, (all_keys, all_values))| {
            let Some((keys, values)) = cache.so_far(index)? else {
                return Ok(());
            };
            let start = slot * self.kv_heads;
            for (all, one) in [(all_keys, keys), (all_values, values)] {
                all.narrow(0, start, self.kv_heads)?
                    .slice_set(&one.contiguous()?, 1, 0)?;
            }
            Ok(())
        });
        let copied: candle_core::Result<()> = copied.collect();
        copied.map_err(EngineError::tensor("filling a slot"))?;
        self.positions.push(positions);
        Ok(u32::try_from(slot).unwrap_or(u32::MAX))
    }

    /// The sequence in a slot, in a cache of its own: to be kept, or sent elsewhere.
    ///
    /// # Errors
    /// A slot that is not filled.
    pub fn copy_out(&self, slot: u32) -> Result<KeyValueCache, EngineError> {
        let missing = EngineError::NoSlot {
            slots: self.positions.len(),
        };
        let positions = *self.positions.get(size(slot)).ok_or(missing)?;
        let mut cache = KeyValueCache::new(self.layers.clone());
        let part = |all: &Tensor| {
            all.narrow(0, size(slot) * self.kv_heads, self.kv_heads)?
                .narrow(1, 0, size(positions))
        };
        for (index, (keys, values)) in self.keys.iter().zip(&self.values).enumerate() {
            let copied =
                part(keys).and_then(|keys| cache.append(index, &keys, &part(values)?).map(drop));
            copied.map_err(EngineError::tensor("copying a slot"))?;
        }
        cache.advance(positions);
        Ok(cache)
    }

    /// Empties a slot. The last filled one takes its place, and with it its number.
    ///
    /// # Errors
    /// A slot that is not filled.
    pub fn empty(&mut self, slot: u32) -> Result<(), EngineError> {
        let slot = size(slot);
        let last = self.positions.len().checked_sub(1);
        let last = last.filter(|last| slot <= *last);
        let last = last.ok_or(EngineError::NoSlot {
            slots: self.positions.len(),
        })?;
        if slot < last {
            let moved = self.keys.iter().chain(&self.values).map(|all| {
                let heads = self.kv_heads;
                // A copy: what is written may not be read from the same storage.
                let from = all.narrow(0, last * heads, heads)?.copy()?;
                all.narrow(0, slot * heads, heads)?.slice_set(&from, 1, 0)
            });
            let moved: candle_core::Result<()> = moved.collect();
            moved.map_err(EngineError::tensor("moving a slot"))?;
        }
        self.positions.swap_remove(slot);
        Ok(())
    }

    /// Forgets the positions from `positions` on, in every slot.
    pub fn truncate(&mut self, positions: u32) {
        for held in &mut self.positions {
            *held = (*held).min(positions);
        }
    }

    pub(super) fn longest(&self) -> u32 {
        self.positions.iter().copied().max().unwrap_or(0)
    }

    pub(super) fn check(&self, layers: &Range<u32>, tokens: u32) -> Result<(), EngineError> {
        if self.layers != *layers {
            return Err(EngineError::ForeignCache {
                cache: self.layers.clone(),
                model: layers.clone(),
            });
        }
        if self.filled() != tokens || tokens == 0 {
            return Err(EngineError::SlotTokens {
                tokens,
                filled: self.filled(),
            });
        }
        let positions = u64::from(self.longest()) + 1;
        if positions > u64::from(self.room) {
            return Err(EngineError::TooLong {
                positions,
                max_positions: self.room,
            });
        }
        Ok(())
    }

    /// What a pass over one more token of each filled slot needs.
    pub(super) fn steps(
        &self,
        rotation: &(Tensor, Tensor),
        compute: &Compute,
        window: Option<u32>,
    ) -> candle_core::Result<Step> {
        let (sequences, device) = (self.positions.len(), compute.device());
        let all = self.longest() + 1;
        let window = window.unwrap_or(u32::MAX);
        let row = |own: &u32| {
            let own = *own;
            let sees = move |seen: u32| seen <= own && own - seen < window;
            (0..all).map(move |seen| if sees(seen) { 0.0 } else { f32::NEG_INFINITY })
        };
        let mask: Vec<f32> = self.positions.iter().flat_map(row).collect();
        let mask = Tensor::from_vec(mask, (sequences, 1, 1, size(all)), device)?;
        let positions = Tensor::new(self.positions.as_slice(), device)?;
        let rows = |table: &Tensor| table.index_select(&positions, 0)?.unsqueeze(1);
        let width = self.keys.first().map_or(Ok(0), |keys| keys.dim(2))?;
        let places = positions
            .reshape((sequences, 1))?
            .broadcast_as((sequences, self.kv_heads * width))?
            .contiguous()?
            .reshape((sequences * self.kv_heads, 1, width))?;
        Ok(Step {
            sequences,
            mask: mask.to_dtype(compute.dtype())?,
            cosines: rows(&rotation.0)?,
            sines: rows(&rotation.1)?,
            places: places.to_dtype(DType::U32)?,
        })
    }

    /// Writes one position of each filled slot, in the layer of that index, and returns all keys
    /// and values of the filled slots up to the longest.
    pub(super) fn append(
        &self,
        index: usize,
        places: &Tensor,
        keys: &Tensor,
        values: &Tensor,
    ) -> candle_core::Result<(Tensor, Tensor)> {
        let filled = self.positions.len() * self.kv_heads;
        let all = size(self.longest()) + 1;
        let append = |every: &[Tensor], new: &Tensor| {
            let Some(every) = every.get(index) else {
                candle_core::bail!("no layer {index} in these slots");
            };
            let every = every.narrow(0, 0, filled)?;
            every.scatter_set(places, &new.contiguous()?, 1)?;
            every.narrow(1, 0, all)
        };
        Ok((append(&self.keys, keys)?, append(&self.values, values)?))
    }

    pub(super) fn advance(&mut self) {
        for positions in &mut self.positions {
            *positions += 1;
        }
    }
}
