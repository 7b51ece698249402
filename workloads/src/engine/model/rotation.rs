//! The tables of the rotary embedding.

use candle_core::{Device, Tensor};

use super::size;
use crate::model_config::ModelConfig;

/// Cosines and sines of position times frequency. Where the weights bring divisors of the plain
/// frequencies, those are the stretching.
pub(crate) fn rotation(
    config: &ModelConfig,
    divisors: Option<&[f32]>,
) -> candle_core::Result<(Tensor, Tensor)> {
    let frequencies = match divisors {
        None => config.rotary_frequencies(),
        Some(divisors) => {
            let plain = ModelConfig {
                rope_scaling: None,
                ..*config
            };
            let pairs = plain.rotary_frequencies().into_iter().zip(divisors);
            pairs
                .map(|(frequency, divisor)| frequency / f64::from(*divisor))
                .collect()
        }
    };
    let angles = (0..config.max_positions).flat_map(|position| {
        frequencies
            .iter()
            .map(move |frequency| f64::from(position) * frequency)
    });
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the tables are f32 by design"
    )]
    let (cosines, sines): (Vec<f32>, Vec<f32>) = angles
        .map(|angle| (angle.cos() as f32, angle.sin() as f32))
        .unzip();
    let shape = (size(config.max_positions), frequencies.len());
    Ok((
        Tensor::from_vec(cosines, shape, &Device::Cpu)?,
        Tensor::from_vec(sines, shape, &Device::Cpu)?,
    ))
}
