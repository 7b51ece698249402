//! A vision encoder beside a model, with random weights.

use std::path::Path;

use super::family::write_tensors;
use crate::engine::train::noise::Noise;
use crate::engine::vision::{VisionConfig, config_text, shapes};
use crate::engine::weights::{CONFIG_FILE, WEIGHTS_FILE};
use crate::recipe::VISION_DIRECTORY;

/// As small as an encoder can be and still have all that one has.
pub(super) const SMALL: VisionConfig = VisionConfig {
    image_size: 8,
    patch_size: 4,
    hidden_size: 8,
    intermediate_size: 12,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    layer_norm_eps: 1e-6,
};

/// Writes the description of an encoder into a model's directory.
pub(super) fn write_description(model: &Path, config: &VisionConfig) {
    let place = model.join(VISION_DIRECTORY);
    std::fs::create_dir(&place).expect("made");
    std::fs::write(place.join(CONFIG_FILE), config_text(config)).expect("written");
}

/// Writes an encoder into the directory of a model of that width.
pub(super) fn write_encoder(model: &Path, config: &VisionConfig, text_width: u32) {
    write_description(model, config);
    let drawn = shapes(config, text_width).into_iter();
    let drawn = drawn.map(|(name, shape)| {
        let count: u32 = shape.iter().product();
        let inputs: u32 = shape.iter().skip(1).product();
        let spread = 1.0 / f64::from(inputs).sqrt();
        let count = usize::try_from(count).expect("small");
        let values = Noise::new(9, &name).normal(count, spread);
        (name, (shape, values))
    });
    let path = model.join(VISION_DIRECTORY).join(WEIGHTS_FILE);
    write_tensors(&path, &drawn.collect());
}
