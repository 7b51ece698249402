//! Coding hidden states for a link and back: see [`Coding`] for what each coding keeps.
//!
//! Layouts, all little-endian, token after token:
//!
//! | coding | bytes of a token's state of `d` channels |
//! |---|---|
//! | f32 | `d` x f32 |
//! | f16 | `d` x f16, saturated at the largest finite value |
//! | int8 | f32 scale `t`, `d` x i8; the value is `q t s_c` |
//! | int4 | for each group of 32 channels a bf16 scale; then two channels a byte, the first in the low half, each `q + 8` |
//! | top-k | `ceil(d / 8)` x (u16 channel, f16 value), channels rising |
//!
//! In int8 the scales `s_c` of the channels (`d` x bf16) come in front of the first frame of a request:
//! the largest magnitude of each channel over the tokens of the prompt, so that channels with outliers
//! do not take the others' resolution (the observation of LLM.int8(), arXiv 2208.07339, and `SmoothQuant`,
//! arXiv 2211.10438). They stay for the request; `t` follows each token.

use half::{bf16, f16};

use super::error::EngineError;
use super::hidden::Hidden;
use super::state_bytes::StateBytes;
use crate::coding::{Coding, INT4_GROUP, TOP_K_WIDEST, top_k};

/// The smallest scale of a channel, as a share of the largest: what a silent channel of the prompt
/// may still say later.
const LEAST_CHANNEL_SCALE: f32 = 1.0 / 1024.0;

/// One direction of one request: what its earlier frames said belongs to the later ones.
#[derive(Debug, Clone)]
pub struct StateCoder {
    coding: Coding,
    width: usize,
    /// The scales of int8's channels, once the first frame has passed.
    channel_scales: Vec<f32>,
}

impl StateCoder {
    /// For states of so many channels.
    ///
    /// # Errors
    /// A width of 0, or one whose channels the coding cannot name.
    pub fn new(coding: Coding, width: u32) -> Result<StateCoder, EngineError> {
        let too_wide = coding == Coding::TopK && width > TOP_K_WIDEST;
        let channels = usize::try_from(width).ok().filter(|width| *width > 0);
        match channels {
            Some(width) if !too_wide => Ok(StateCoder {
                coding,
                width,
                channel_scales: Vec::new(),
            }),
            _ => Err(EngineError::CodingWidth { coding, width }),
        }
    }

    /// Whether states arrive as they were sent, bit for bit.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.coding.is_exact()
    }

    /// The states as they go on the link.
    ///
    /// # Errors
    /// States of another width, or values that are no numbers: a lossy coding has no room for them.
    pub fn encode<'a>(&mut self, states: &'a Hidden) -> Result<StateBytes<'a>, EngineError> {
        if self.coding.is_exact() {
            return states.le_bytes();
        }
        let values = states.values()?;
        if !values.len().is_multiple_of(self.width) || values.iter().any(|value| value.is_nan()) {
            return Err(self.wrong(4 * values.len()));
        }
        let mut bytes = Vec::with_capacity(self.frame_bytes(values.len() / self.width));
        if self.coding == Coding::Int8 && self.channel_scales.is_empty() {
            self.channel_scales = channel_scales(&values, self.width);
            for scale in &self.channel_scales {
                bytes.extend(bf16::from_f32(*scale).to_le_bytes());
            }
        }
        for state in values.chunks_exact(self.width) {
            match self.coding {
                Coding::F32 => {}
                Coding::F16 => bytes.extend(state.iter().flat_map(|value| half_bytes(*value))),
                Coding::Int8 => int8(state, &self.channel_scales, &mut bytes),
                Coding::Int4 => int4(state, &mut bytes),
                Coding::TopK => largest(state, &mut bytes),
            }
        }
        Ok(StateBytes::coded(bytes))
    }

    /// What [`StateCoder::encode`] made at the other end, as far as the coding kept it.
    ///
    /// # Errors
    /// A number of bytes that makes no states, scales that are no numbers, channels that do not rise.
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Hidden, EngineError> {
        let wrong = || self.wrong(bytes.len());
        let width = u32::try_from(self.width).unwrap_or(u32::MAX);
        if self.coding.is_exact() {
            return Hidden::from_le_bytes(bytes, width);
        }
        let mut rest = bytes;
        if self.coding == Coding::Int8 && self.channel_scales.is_empty() {
            let (scales, states) = bytes.split_at_checked(2 * self.width).ok_or_else(wrong)?;
            let scales: Vec<f32> = shorts(scales)
                .map(|bits| bf16::from_bits(bits).to_f32())
                .collect();
            if !scales.iter().all(|scale| scale.is_finite()) {
                return Err(wrong());
            }
            (self.channel_scales, rest) = (scales, states);
        }
        let token_bytes = self.token_bytes();
        if rest.is_empty() || !rest.len().is_multiple_of(token_bytes) {
            return Err(self.wrong(bytes.len()));
        }
        let mut values = Vec::with_capacity(rest.len() / token_bytes * self.width);
        for state in rest.chunks_exact(token_bytes) {
            let decoded = match self.coding {
                Coding::F32 => None,
                Coding::F16 => {
                    values.extend(shorts(state).map(|bits| f16::from_bits(bits).to_f32()));
                    Some(())
                }
                Coding::Int8 => from_int8(state, &self.channel_scales, &mut values),
                Coding::Int4 => from_int4(state, self.width, &mut values),
                Coding::TopK => from_largest(state, self.width, &mut values),
            };
            decoded.ok_or_else(|| self.wrong(bytes.len()))?;
        }
        Hidden::from_values(values, width)
    }

    fn token_bytes(&self) -> usize {
        let width = u64::try_from(self.width).unwrap_or(u64::MAX);
        usize::try_from(self.coding.token_bytes(width)).unwrap_or(usize::MAX)
    }

    fn frame_bytes(&self, tokens: usize) -> usize {
        let width = u64::try_from(self.width).unwrap_or(u64::MAX);
        let opening = usize::try_from(self.coding.opening_bytes(width)).unwrap_or(0);
        opening.saturating_add(tokens.saturating_mul(self.token_bytes()))
    }

    fn wrong(&self, bytes: usize) -> EngineError {
        EngineError::CodedBytes {
            coding: self.coding,
            bytes,
            width: u32::try_from(self.width).unwrap_or(u32::MAX),
        }
    }
}

/// Little-endian 16-bit numbers.
fn shorts(bytes: &[u8]) -> impl Iterator<Item = u16> {
    let (shorts, _) = bytes.as_chunks::<2>();
    shorts.iter().map(|short| u16::from_le_bytes(*short))
}

fn half_bytes(value: f32) -> [u8; 2] {
    let most = f16::MAX.to_f32();
    f16::from_f32(value.clamp(-most, most)).to_le_bytes()
}

fn magnitude(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |most, value| most.max(value.abs()))
}

/// `value / scale` as the nearest integer of at most that magnitude.
#[expect(clippy::cast_possible_truncation, reason = "clamped to what fits")]
fn quantised(value: f32, scale: f32, most: f32) -> i8 {
    if scale > 0.0 {
        (value / scale).round().clamp(-most, most) as i8
    } else {
        0
    }
}

/// The largest magnitude of each channel, as bf16 holds it.
fn channel_scales(values: &[f32], width: usize) -> Vec<f32> {
    let mut scales = vec![0.0_f32; width];
    for state in values.chunks_exact(width) {
        for (scale, value) in scales.iter_mut().zip(state) {
            *scale = scale.max(value.abs());
        }
    }
    let most = magnitude(&scales);
    let least = if most > 0.0 {
        most * LEAST_CHANNEL_SCALE
    } else {
        1.0
    };
    let most = bf16::MAX.to_f32();
    scales
        .iter()
        .map(|scale| bf16::from_f32(scale.clamp(least, most)).to_f32())
        .collect()
}

fn int8(state: &[f32], channels: &[f32], bytes: &mut Vec<u8>) {
    let pairs = || state.iter().zip(channels);
    let most = pairs().map(|(value, scale)| (value / scale).abs());
    let scale = most.fold(0.0, f32::max) / 127.0;
    bytes.extend(scale.to_le_bytes());
    bytes.extend(
        pairs()
            .flat_map(|(value, channel)| quantised(*value, scale * channel, 127.0).to_le_bytes()),
    );
}

fn from_int8(state: &[u8], channels: &[f32], values: &mut Vec<f32>) -> Option<()> {
    let (scale, numbers) = state.split_first_chunk::<4>()?;
    let scale = f32::from_le_bytes(*scale);
    let numbers = numbers.iter().map(|byte| i8::from_le_bytes([*byte]));
    let of_channel = |(number, channel): (i8, &f32)| f32::from(number) * scale * channel;
    values.extend(numbers.zip(channels).map(of_channel));
    scale.is_finite().then_some(())
}

/// Channels of a group, as a length.
const GROUP: usize = INT4_GROUP as usize;

fn int4(state: &[f32], bytes: &mut Vec<u8>) {
    let scales = state.chunks(GROUP).map(|group| {
        let scale = (magnitude(group) / 7.0).min(bf16::MAX.to_f32());
        bf16::from_f32(scale)
    });
    let scales: Vec<bf16> = scales.collect();
    bytes.extend(scales.iter().flat_map(|scale| scale.to_le_bytes()));
    let groups = state.chunks(GROUP).zip(&scales);
    let mut numbers = Vec::with_capacity(state.len());
    for (group, scale) in groups {
        let scale = scale.to_f32();
        let of_value = |value: &f32| (quantised(*value, scale, 7.0) + 8).unsigned_abs();
        numbers.extend(group.iter().map(of_value));
    }
    for pair in numbers.chunks(2) {
        let low = pair.first().copied().unwrap_or(8);
        let high = pair.get(1).copied().unwrap_or(8);
        bytes.push(low | high << 4);
    }
}

fn from_int4(state: &[u8], width: usize, values: &mut Vec<f32>) -> Option<()> {
    let (scales, numbers) = state.split_at_checked(2 * width.div_ceil(GROUP))?;
    let scales: Vec<f32> = shorts(scales)
        .map(|bits| bf16::from_bits(bits).to_f32())
        .collect();
    let finite = scales.iter().all(|scale| scale.is_finite());
    let numbers = numbers.iter().flat_map(|byte| [byte & 15, byte >> 4]);
    let of_channel = |(channel, number): (usize, u8)| {
        let scale = scales.get(channel / GROUP).copied().unwrap_or(0.0);
        (f32::from(number) - 8.0) * scale
    };
    values.extend(numbers.take(width).enumerate().map(of_channel));
    finite.then_some(())
}

fn largest(state: &[f32], bytes: &mut Vec<u8>) {
    let width = u64::try_from(state.len()).unwrap_or(u64::MAX);
    let kept = usize::try_from(top_k(width)).unwrap_or(usize::MAX);
    let mut channels: Vec<(usize, f32)> = state.iter().copied().enumerate().collect();
    if kept < channels.len() {
        // The lower channel where two are equally large, so that every machine keeps the same.
        let order = |(one, a): &(usize, f32), (other, b): &(usize, f32)| {
            b.abs().total_cmp(&a.abs()).then(one.cmp(other))
        };
        channels.select_nth_unstable_by(kept, order);
    }
    channels.truncate(kept);
    channels.sort_unstable_by_key(|(channel, _)| *channel);
    for (channel, value) in channels {
        bytes.extend(u16::try_from(channel).unwrap_or(u16::MAX).to_le_bytes());
        bytes.extend(half_bytes(value));
    }
}

fn from_largest(state: &[u8], width: usize, values: &mut Vec<f32>) -> Option<()> {
    let start = values.len();
    values.resize(start + width, 0.0);
    let own = values.get_mut(start..)?;
    let mut numbers = shorts(state);
    let mut least = 0;
    while let (Some(channel), Some(bits)) = (numbers.next(), numbers.next()) {
        let channel = usize::from(channel);
        if channel < least {
            return None;
        }
        *own.get_mut(channel)? = f16::from_bits(bits).to_f32();
        least = channel + 1;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn states(values: &[f32], width: u32) -> Hidden {
        Hidden::from_values(values.to_vec(), width).expect("whole states")
    }

    /// Through the link and back, a prompt and then a token.
    fn carried(coding: Coding, values: &[f32], width: u32) -> Vec<f32> {
        let coder = StateCoder::new(coding, width).expect("a width");
        let (mut here, mut there) = (coder.clone(), coder);
        let width = usize::try_from(width).expect("small");
        let (prompt, token) = values.split_at(values.len() - width);
        let mut arrived = Vec::new();
        for (first, part) in [(true, prompt), (false, token)] {
            let sent = states(part, u32::try_from(width).expect("small"));
            let bytes = here.encode(&sent).expect("numbers");
            let wide = u64::try_from(width).expect("small");
            let opening = if first { coding.opening_bytes(wide) } else { 0 };
            let tokens = u64::from(sent.tokens());
            let expected = opening + tokens * coding.token_bytes(wide);
            assert_eq!(bytes.len() as u64, expected, "{coding}: the formula");
            let there = there.decode(&bytes).expect("what was encoded");
            arrived.extend(there.values().expect("on the CPU"));
        }
        arrived
    }

    /// The largest error that a coding may make of each channel of a state.
    fn bounds(coding: Coding, state: &[f32], prompt: &[f32]) -> Vec<f32> {
        let channels = channel_scales(prompt, state.len());
        let ratios = state.iter().zip(&channels);
        let most = ratios.map(|(value, scale)| (value / scale).abs());
        let token_scale = most.fold(0.0, f32::max) / 127.0;
        let of_channel = |(channel, value): (usize, &f32)| match coding {
            Coding::F16 => value.abs() / 2048.0 + 6e-8,
            Coding::Int8 => token_scale * channels[channel] * 0.5001,
            Coding::Int4 => {
                let start = channel / GROUP * GROUP;
                let group = &state[start..(start + GROUP).min(state.len())];
                // Half a step, and what its scale was rounded by.
                magnitude(group) / 7.0 * (0.5 + 7.0 / 256.0)
            }
            Coding::F32 | Coding::TopK => 0.0,
        };
        state.iter().enumerate().map(of_channel).collect()
    }

    proptest! {
        #[test]
        fn states_arrive_within_what_their_coding_keeps(
            width in 1_u32..80,
            values in prop::collection::vec(-1e3_f32..1e3, 80 * 4),
        ) {
            let wide = usize::try_from(width).expect("small");
            let values = &values[..wide * 4];
            for coding in [Coding::F32, Coding::F16, Coding::Int8, Coding::Int4] {
                let arrived = carried(coding, values, width);
                prop_assert_eq!(arrived.len(), values.len());
                for (state, arrived) in values.chunks(wide).zip(arrived.chunks(wide)) {
                    let bounds = bounds(coding, state, &values[..wide * 3]);
                    for ((sent, arrived), bound) in state.iter().zip(arrived).zip(bounds) {
                        let error = (sent - arrived).abs();
                        prop_assert!(error <= bound, "{coding}: {sent} became {arrived}, {bound}");
                    }
                }
            }
        }

        #[test]
        fn arbitrary_bytes_are_states_or_an_error(
            bytes in prop::collection::vec(any::<u8>(), 0..600),
            width in 1_u32..40,
        ) {
            for coding in Coding::ALL {
                let mut coder = StateCoder::new(coding, width).expect("a width");
                if let Ok(states) = coder.decode(&bytes) {
                    prop_assert_eq!(states.width(), width);
                    prop_assert!(states.tokens() > 0);
                }
            }
        }
    }

    #[test]
    fn an_outlier_channel_takes_no_resolution_from_the_others() {
        let state = [100.0, 0.5, -0.25, 0.125];
        let values = [state; 3].concat();
        let arrived = carried(Coding::Int8, &values, 4);
        for (sent, arrived) in values.iter().zip(arrived) {
            assert!(
                (sent - arrived).abs() <= sent.abs() / 100.0,
                "{sent}: {arrived}"
            );
        }
    }

    #[test]
    fn top_k_keeps_the_largest_eighth_and_nothing_else() {
        let state: Vec<f32> = (0..16_i8)
            .map(f32::from)
            .map(|value| value - 12.0)
            .collect();
        let values = [state.clone(), state].concat();
        let mut expected = vec![0.0; 16];
        expected[0] = -12.0;
        expected[1] = -11.0;
        let expected = [expected.clone(), expected].concat();
        assert_eq!(carried(Coding::TopK, &values, 16), expected);
    }

    #[test]
    fn what_has_no_place_in_a_coding_is_refused() {
        let mut coder = StateCoder::new(Coding::Int8, 2).expect("a width");
        assert!(coder.encode(&states(&[1.0, f32::NAN], 2)).is_err());
        assert!(StateCoder::new(Coding::Int8, 0).is_err());
        assert!(StateCoder::new(Coding::TopK, TOP_K_WIDEST + 1).is_err());
        let mut falling = StateCoder::new(Coding::TopK, 16).expect("a width");
        assert!(falling.decode(&[3, 0, 0, 0, 3, 0, 0, 0]).is_err());
        assert!(falling.decode(&[3, 0, 0, 0, 16, 0, 0, 0]).is_err());
    }
}
