//! Keys and values as bytes: cut out of a cache, coded for a link or a disk, and put into another cache,
//! perhaps another process's. See [`KvCoding`] for what each coding keeps.
//!
//! A layer's bytes, all little-endian: its keys, then its values, of each the heads one after the other,
//! of a head the positions, of a position the channels.
//!
//! | coding | keys, and values |
//! |---|---|
//! | f32 | f32 numbers |
//! | f16 | f16 numbers, saturated at the largest finite value |
//! | int8 | bf16 scales, then i8 each; the value is `q s` |
//! | int4 | bf16 scales, then two channels a byte, the first in the low half, each `q + 8` |
//!
//! Scales of keys: of each head, for each 32 positions, one for each channel. Scales of values: of each
//! head, for each position, one for each 32 channels. Keys have been rotated for their positions, so that
//! they belong where they were made.

use std::ops::Range;

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};

use super::cache::KeyValueCache;
use super::error::EngineError;
use super::model::{Model, size};
use crate::coding::kv::{KvCoding, KvShape, SCALE_GROUP};

impl Model {
    /// What the keys and values of a sequence through the layers of this part are.
    #[must_use]
    pub fn kv_shape(&self) -> KvShape {
        let layers = self.layers();
        KvShape {
            layers: layers.end.saturating_sub(layers.start),
            kv_heads: self.config().kv_heads,
            head_width: self.config().head_width,
        }
    }

    /// The keys and values of some positions of a sequence, layer by layer.
    ///
    /// # Errors
    /// A cache of other layers, positions that it does not hold, or values that are no numbers: a coding
    /// of integers has no room for them.
    pub fn export(
        &self,
        cache: &KeyValueCache,
        positions: Range<u32>,
        coding: KvCoding,
    ) -> Result<Vec<Vec<u8>>, EngineError> {
        cache.check(&self.layers(), cache.positions())?;
        if positions.start > positions.end || positions.end > cache.positions() {
            return Err(EngineError::Position {
                position: positions.end,
                cached: cache.positions(),
            });
        }
        let shape = self.kv_shape();
        let (start, count) = (size(positions.start), positions.end - positions.start);
        let part = |all: &Tensor| {
            all.narrow(1, start, size(count))?
                .to_device(&Device::Cpu)?
                .to_dtype(DType::F32)?
                .flatten_all()?
                .to_vec1::<f32>()
        };
        let layer = |(index, layer): (usize, u32)| {
            let reading = || EngineError::tensor("reading keys and values");
            let Some((keys, values)) = cache.so_far(index).map_err(reading())? else {
                return Ok(Vec::new());
            };
            let both = [
                part(&keys).map_err(reading())?,
                part(&values).map_err(reading())?,
            ];
            let rows = Rows::of(shape, count);
            encode(&both, rows, coding).ok_or(EngineError::StoredNumbers { layer })
        };
        (0..).zip(self.layers()).map(layer).collect()
    }

    /// Puts positions that were exported from a cache of the same model in front of which there is
    /// exactly what this one holds, behind those that it holds.
    ///
    /// # Errors
    /// A cache of other layers, positions beyond the model's, or bytes that are no layers of so many
    /// positions in that coding. The cache is as it was then.
    pub fn import(
        &self,
        cache: &mut KeyValueCache,
        positions: u32,
        coding: KvCoding,
        layers: &[impl AsRef<[u8]>],
    ) -> Result<(), EngineError> {
        cache.check(&self.layers(), cache.positions())?;
        let shape = self.kv_shape();
        let end = u64::from(cache.positions()) + u64::from(positions);
        if end > u64::from(self.config().max_positions) {
            return Err(EngineError::TooLong {
                positions: end,
                max_positions: self.config().max_positions,
            });
        }
        let rows = Rows::of(shape, positions);
        let wrong = |bytes: usize| EngineError::StoredBytes {
            coding,
            bytes,
            positions,
        };
        let layers: Vec<&[u8]> = layers.iter().map(AsRef::as_ref).collect();
        if u32::try_from(layers.len()) != Ok(shape.layers) {
            return Err(wrong(layers.iter().map(|layer| layer.len()).sum()));
        }
        let decoded = layers
            .into_iter()
            .map(|bytes| decode(bytes, rows, coding).ok_or_else(|| wrong(bytes.len())));
        let decoded = decoded.collect::<Result<Vec<_>, _>>()?;
        if positions == 0 {
            return Ok(());
        }
        let (dtype, device) = (self.compute().dtype(), self.compute().device());
        let tensor = |numbers: Vec<f32>| {
            let shape = (rows.heads, rows.positions, rows.width);
            Tensor::from_vec(numbers, shape, &Device::Cpu)?
                .to_dtype(dtype)?
                .to_device(device)
        };
        for (index, [keys, values]) in decoded.into_iter().enumerate() {
            let put = tensor(keys).and_then(|keys| cache.append(index, &keys, &tensor(values)?));
            put.map_err(EngineError::tensor("storing keys and values"))?;
        }
        cache.advance(positions);
        Ok(())
    }
}

/// How the numbers of one layer's keys, or values, are ordered.
#[derive(Debug, Clone, Copy)]
struct Rows {
    heads: usize,
    positions: usize,
    width: usize,
}

/// Of what scales are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Keys,
    Values,
}

const GROUP: usize = SCALE_GROUP as usize;

impl Rows {
    fn of(shape: KvShape, positions: u32) -> Rows {
        Rows {
            heads: size(shape.kv_heads),
            positions: size(positions),
            width: size(shape.head_width),
        }
    }

    const fn rows(self) -> usize {
        self.heads * self.positions
    }

    /// Scales in all.
    const fn scales(self, kind: Kind) -> usize {
        match kind {
            Kind::Keys => self.heads * self.positions.div_ceil(GROUP) * self.width,
            Kind::Values => self.rows() * self.width.div_ceil(GROUP),
        }
    }

    /// Which of them a row has.
    const fn scales_of(self, kind: Kind, row: usize) -> Range<usize> {
        match kind {
            Kind::Keys => {
                let (head, position) = (row / self.positions, row % self.positions);
                let group = head * self.positions.div_ceil(GROUP) + position / GROUP;
                group * self.width..(group + 1) * self.width
            }
            Kind::Values => {
                let groups = self.width.div_ceil(GROUP);
                row * groups..(row + 1) * groups
            }
        }
    }
}

impl Kind {
    const BOTH: [Kind; 2] = [Kind::Keys, Kind::Values];

    /// How many channels of a row share a scale.
    const fn channels(self) -> usize {
        match self {
            Kind::Keys => 1,
            Kind::Values => GROUP,
        }
    }
}

/// The largest integer.
const fn most(coding: KvCoding) -> f32 {
    match coding {
        KvCoding::Int4 => 7.0,
        _ => 127.0,
    }
}

/// A layer's bytes; `None` where integers are to hold what is no number.
fn encode(both: &[Vec<f32>; 2], rows: Rows, coding: KvCoding) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for (kind, numbers) in Kind::BOTH.into_iter().zip(both) {
        match coding {
            KvCoding::F32 => bytes.extend(numbers.iter().flat_map(|value| value.to_le_bytes())),
            KvCoding::F16 => {
                let most = f16::MAX.to_f32();
                let half = |value: &f32| f16::from_f32(value.clamp(-most, most)).to_le_bytes();
                bytes.extend(numbers.iter().flat_map(half));
            }
            KvCoding::Int8 | KvCoding::Int4 => {
                if !numbers.iter().all(|value| value.is_finite()) {
                    return None;
                }
                integers(numbers, (kind, rows), coding, &mut bytes);
            }
        }
    }
    Some(bytes)
}

/// The least bf16 number that is not below a magnitude, or the largest there is.
fn scale(magnitude: f32) -> bf16 {
    let magnitude = magnitude.min(bf16::MAX.to_f32());
    let near = bf16::from_f32(magnitude);
    if near.to_f32() < magnitude {
        bf16::from_bits(near.to_bits() + 1)
    } else {
        near
    }
}

fn integers(numbers: &[f32], (kind, rows): (Kind, Rows), coding: KvCoding, bytes: &mut Vec<u8>) {
    let most = most(coding);
    let mut magnitudes = vec![0.0_f32; rows.scales(kind)];
    for (index, row) in numbers.chunks_exact(rows.width).enumerate() {
        let own = magnitudes.get_mut(rows.scales_of(kind, index));
        for (magnitude, channels) in own.into_iter().flatten().zip(row.chunks(kind.channels())) {
            let largest = channels
                .iter()
                .fold(0.0_f32, |most, value| most.max(value.abs()));
            *magnitude = magnitude.max(largest);
        }
    }
    let scales: Vec<bf16> = magnitudes
        .iter()
        .map(|magnitude| scale(magnitude / most))
        .collect();
    bytes.extend(scales.iter().flat_map(|scale| scale.to_le_bytes()));
    let mut quantised = Vec::with_capacity(rows.width);
    for (index, row) in numbers.chunks_exact(rows.width).enumerate() {
        quantised.clear();
        let own = scales.get(rows.scales_of(kind, index)).unwrap_or_default();
        for (scale, channels) in own.iter().zip(row.chunks(kind.channels())) {
            let scale = scale.to_f32();
            quantised.extend(channels.iter().map(|value| integer(*value, scale, most)));
        }
        if coding == KvCoding::Int8 {
            bytes.extend(quantised.iter().flat_map(|integer| integer.to_le_bytes()));
        } else {
            bytes.extend(quantised.chunks(2).map(pair));
        }
    }
}

/// `value / scale` as the nearest integer of at most that magnitude.
#[expect(clippy::cast_possible_truncation, reason = "clamped to what fits")]
fn integer(value: f32, scale: f32, most: f32) -> i8 {
    if scale > 0.0 {
        (value / scale).round().clamp(-most, most) as i8
    } else {
        0
    }
}

/// Two 4-bit integers in a byte, the first in the low half.
fn pair(integers: &[i8]) -> u8 {
    let half = |index: usize| {
        let integer = integers.get(index).copied().unwrap_or(0);
        u8::try_from(integer + 8).unwrap_or(0) & 0x0f
    };
    half(0) | (half(1) << 4)
}

/// Keys and values of a layer; `None` if it is not so many bytes, or a scale is no number.
fn decode(bytes: &[u8], rows: Rows, coding: KvCoding) -> Option<[Vec<f32>; 2]> {
    let numbers = rows.rows() * rows.width;
    let mut rest = bytes;
    let mut both = [Vec::new(), Vec::new()];
    for (kind, into) in Kind::BOTH.into_iter().zip(&mut both) {
        match coding {
            KvCoding::F32 => {
                let taken = take(&mut rest, 4 * numbers)?;
                let (words, _) = taken.as_chunks::<4>();
                into.extend(words.iter().map(|word| f32::from_le_bytes(*word)));
            }
            KvCoding::F16 => {
                let taken = take(&mut rest, 2 * numbers)?;
                into.extend(shorts(taken).map(|bits| f16::from_bits(bits).to_f32()));
            }
            KvCoding::Int8 | KvCoding::Int4 => {
                let scales = take(&mut rest, 2 * rows.scales(kind))?;
                let scales: Vec<f32> = shorts(scales)
                    .map(|bits| bf16::from_bits(bits).to_f32())
                    .collect();
                if !scales.iter().all(|scale| scale.is_finite()) {
                    return None;
                }
                let row_bytes = if coding == KvCoding::Int8 {
                    rows.width
                } else {
                    rows.width.div_ceil(2)
                };
                let integers = take(&mut rest, rows.rows() * row_bytes)?;
                into.reserve(numbers);
                for (index, row) in integers.chunks_exact(row_bytes.max(1)).enumerate() {
                    let own = scales.get(rows.scales_of(kind, index))?;
                    let spread = own
                        .iter()
                        .flat_map(|scale| std::iter::repeat_n(*scale, kind.channels()))
                        .take(rows.width);
                    if coding == KvCoding::Int8 {
                        let integer = |byte: &u8| f32::from(byte.cast_signed());
                        into.extend(row.iter().map(integer).zip(spread).map(product));
                    } else {
                        let halves = |byte: &u8| [*byte & 0x0f, *byte >> 4];
                        let integer = |half: u8| f32::from(half) - 8.0;
                        let integers = row.iter().flat_map(halves).map(integer);
                        into.extend(integers.zip(spread).map(product));
                    }
                }
            }
        }
    }
    rest.is_empty().then_some(both)
}

fn product((integer, scale): (f32, f32)) -> f32 {
    integer * scale
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(bytes)?;
    *rest = left;
    Some(taken)
}

/// Little-endian 16-bit numbers.
fn shorts(bytes: &[u8]) -> impl Iterator<Item = u16> {
    let (shorts, _) = bytes.as_chunks::<2>();
    shorts.iter().map(|short| u16::from_le_bytes(*short))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROWS: Rows = Rows {
        heads: 2,
        positions: 70,
        width: 40,
    };

    /// Channels of very different sizes, as keys have them.
    fn numbers() -> [Vec<f32>; 2] {
        let value = |index: usize| {
            let size = if index % 40 == 7 { 30.0 } else { 1.0 };
            #[expect(clippy::cast_precision_loss, reason = "small")]
            let wave = ((index * 7919 % 1009) as f32 / 504.5 - 1.0) * size;
            wave
        };
        [0, 5600].map(|from| (from..from + 5600).map(value).collect())
    }

    fn shape() -> KvShape {
        KvShape {
            layers: 1,
            kv_heads: 2,
            head_width: 40,
        }
    }

    #[test]
    fn every_coding_has_the_bytes_of_the_formula_and_reads_back_within_half_a_step() {
        let both = numbers();
        for coding in KvCoding::ALL {
            let bytes = encode(&both, ROWS, coding).unwrap();
            let formula = coding.layer_bytes(shape(), 70);
            assert_eq!(u64::try_from(bytes.len()), Ok(formula), "{coding}");
            let back = decode(&bytes, ROWS, coding).unwrap();
            // Of keys the step is that of the channel: only the large one is coarse.
            let steps = match coding {
                KvCoding::F32 => [0.0, 0.0],
                KvCoding::F16 => [1.0 / 2048.0, 30.0 / 2048.0],
                KvCoding::Int8 => [1.01 / 254.0, 30.3 / 254.0],
                KvCoding::Int4 => [1.01 / 14.0, 30.3 / 14.0],
            };
            for (index, (value, read)) in both[0].iter().zip(&back[0]).enumerate() {
                let step = steps[usize::from(index % 40 == 7)];
                assert!((value - read).abs() <= step, "{coding} {value} {read}");
            }
            // Of values, a large channel coarsens those of its group alone.
            for (index, (value, read)) in both[1].iter().zip(&back[1]).enumerate() {
                let step = steps[usize::from(index % 40 < 32)];
                assert!((value - read).abs() <= step, "{coding} {value} {read}");
            }
        }
    }

    #[test]
    fn bytes_that_are_no_layer_are_refused_whatever_they_are() {
        let both = numbers();
        for coding in KvCoding::ALL {
            let mut bytes = encode(&both, ROWS, coding).unwrap();
            assert!(decode(&bytes[1..], ROWS, coding).is_none());
            bytes.push(0);
            assert!(decode(&bytes, ROWS, coding).is_none());
        }
        let mut broken = encode(&both, ROWS, KvCoding::Int8).unwrap();
        broken[..2].copy_from_slice(&bf16::NAN.to_le_bytes());
        assert!(decode(&broken, ROWS, KvCoding::Int8).is_none());
        let mut numbers = numbers();
        numbers[1][3] = f32::NAN;
        assert!(encode(&numbers, ROWS, KvCoding::Int4).is_none());
        assert!(encode(&numbers, ROWS, KvCoding::F32).is_some());
    }

    #[test]
    fn scales_are_never_below_what_they_are_of() {
        for magnitude in [0.0, 1.0, 1.001, 0.333, 3e38, f32::MAX] {
            let scale = scale(magnitude);
            assert!(scale.to_f32() >= magnitude.min(bf16::MAX.to_f32()));
            assert!(scale.is_finite());
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_a_layer_of_that_length_or_are_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
            positions in 0_u32..40,
            which in 0_usize..4,
        ) {
            let coding = KvCoding::ALL[which];
            let shape = KvShape { layers: 1, kv_heads: 1, head_width: 3 };
            let formula = coding.layer_bytes(shape, positions);
            let fits = u64::try_from(bytes.len()) == Ok(formula);
            match decode(&bytes, Rows::of(shape, positions), coding) {
                Some([keys, values]) => {
                    prop_assert!(fits);
                    prop_assert_eq!((keys.len(), values.len()), (3 * size(positions), 3 * size(positions)));
                }
                // Of the right length only scales can be wrong.
                None => prop_assert!(!fits || coding.has_scales()),
            }
        }
    }
}
