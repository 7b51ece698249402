//! The keys and values of the tokens seen so far, for the layers that a part of a model holds.

use std::ops::Range;

use candle_core::Tensor;

use super::error::EngineError;
use super::linear::bytes;

/// Room is made in steps of so many positions.
const GROWTH_POSITIONS: usize = 128;

/// Keys and values of one layer: sequences and heads x room x width of a head.
#[derive(Debug)]
struct LayerCache {
    keys: Tensor,
    values: Tensor,
    room: usize,
}

/// What one sequence left behind in the layers of one part of a model.
#[derive(Debug)]
pub struct KeyValueCache {
    layers: Range<u32>,
    filled: Vec<Option<LayerCache>>,
    positions: u32,
}

impl KeyValueCache {
    pub(crate) fn new(layers: Range<u32>) -> KeyValueCache {
        let filled = layers.clone().map(|_| None).collect();
        KeyValueCache {
            layers,
            filled,
            positions: 0,
        }
    }

    /// How many positions it holds.
    #[must_use]
    pub const fn positions(&self) -> u32 {
        self.positions
    }

    /// Memory that it occupies.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let layers = self.filled.iter().flatten();
        layers
            .map(|layer| bytes(&layer.keys) + bytes(&layer.values))
            .sum()
    }

    /// The layers that it is of.
    #[must_use]
    pub fn layers(&self) -> Range<u32> {
        self.layers.clone()
    }

    /// A copy of its first positions, which shares nothing with it.
    ///
    /// # Errors
    /// More positions than it holds, or memory that does not suffice.
    pub fn copy(&self, positions: u32) -> Result<KeyValueCache, EngineError> {
        if positions > self.positions {
            return Err(EngineError::Position {
                position: positions,
                cached: self.positions,
            });
        }
        let mut copy = KeyValueCache::new(self.layers.clone());
        let room = usize::try_from(positions).unwrap_or(usize::MAX);
        let part = |all: &Tensor| -> candle_core::Result<Tensor> {
            let (heads, _, width) = all.dims3()?;
            let part = Tensor::zeros((heads, room, width), all.dtype(), all.device())?;
            part.slice_set(&all.narrow(1, 0, room)?.contiguous()?, 1, 0)?;
            Ok(part)
        };
        let layer = |layer: &LayerCache| -> candle_core::Result<LayerCache> {
            let (keys, values) = (part(&layer.keys)?, part(&layer.values)?);
            Ok(LayerCache { keys, values, room })
        };
        let layers = self.filled.iter().map(|held| {
            let held = held.as_ref().filter(|_| positions > 0);
            held.map(layer).transpose()
        });
        let copied: candle_core::Result<_> = layers.collect();
        copy.filled = copied.map_err(EngineError::tensor("copying keys and values"))?;
        copy.positions = positions;
        Ok(copy)
    }

    /// Forgets the positions from `positions` on.
    pub fn truncate(&mut self, positions: u32) {
        self.positions = self.positions.min(positions);
    }

    pub(crate) fn check(&self, layers: &Range<u32>, position: u32) -> Result<(), EngineError> {
        if self.layers != *layers {
            let (cache, model) = (self.layers.clone(), layers.clone());
            return Err(EngineError::ForeignCache { cache, model });
        }
        if self.positions != position {
            return Err(EngineError::Position {
                position,
                cached: self.positions,
            });
        }
        Ok(())
    }

    /// Counts positions whose keys and values every layer has appended.
    pub(crate) fn advance(&mut self, tokens: u32) {
        self.positions += tokens;
    }

    /// All keys and values so far of the layer of that index in this part; `None` before the first.
    pub(super) fn so_far(&self, index: usize) -> candle_core::Result<Option<(Tensor, Tensor)>> {
        let end = usize::try_from(self.positions).unwrap_or(usize::MAX);
        let Some(layer) = self.filled.get(index).and_then(Option::as_ref) else {
            return Ok(None);
        };
        let so_far = (
            layer.keys.narrow(1, 0, end)?,
            layer.values.narrow(1, 0, end)?,
        );
        Ok(Some(so_far))
    }

    /// Appends keys and values (heads x tokens x width) to the layer of that index in this part,
    /// and returns all of them so far.
    pub(crate) fn append(
        &mut self,
        index: usize,
        keys: &Tensor,
        values: &Tensor,
    ) -> candle_core::Result<(Tensor, Tensor)> {
        let (heads, tokens, width) = keys.dims3()?;
        let start = usize::try_from(self.positions).unwrap_or(usize::MAX);
        let end = start + tokens;
        let Some(slot) = self.filled.get_mut(index) else {
            candle_core::bail!("no layer {index} in this cache");
        };
        let layer = match slot.take() {
            Some(layer) if layer.room >= end => layer,
            old => {
                let room = (end + end / 2).next_multiple_of(GROWTH_POSITIONS);
                let make = || Tensor::zeros((heads, room, width), keys.dtype(), keys.device());
                let layer = LayerCache {
                    keys: make()?,
                    values: make()?,
                    room,
                };
                if let Some(old) = old.filter(|_| start > 0) {
                    layer
                        .keys
                        .slice_set(&old.keys.narrow(1, 0, start)?.contiguous()?, 1, 0)?;
                    layer
                        .values
                        .slice_set(&old.values.narrow(1, 0, start)?.contiguous()?, 1, 0)?;
                }
                layer
            }
        };
        layer.keys.slice_set(&keys.contiguous()?, 1, start)?;
        layer.values.slice_set(&values.contiguous()?, 1, start)?;
        let all = (
            layer.keys.narrow(1, 0, end)?,
            layer.values.narrow(1, 0, end)?,
        );
        *slot = Some(layer);
        Ok(all)
    }
}
