//! The shape of a vision encoder.

use std::path::Path;

use serde::Deserialize;

use super::CHANNELS;
use crate::engine::error::EngineError;
use crate::engine::input;
use crate::engine::weights::MOST_CONFIG_BYTES;

/// The largest image side, patch side and width that a config may name: bounds for what is allocated by it.
const MOST: u32 = 1 << 14;

/// The only activation of feed-forward parts that is computed here, which is what `SigLIP` has where nothing is said.
const ACTIVATION: &str = "gelu_pytorch_tanh";

/// The shape of a `SigLIP` vision encoder, by the names of Hugging Face's config.json.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
pub struct VisionConfig {
    /// Side of a square image, in pixels.
    pub image_size: u32,
    /// Side of a square patch.
    pub patch_size: u32,
    /// Width of a patch's state.
    pub hidden_size: u32,
    /// Width between the two maps of a feed-forward part.
    pub intermediate_size: u32,
    /// Layers.
    pub num_hidden_layers: u32,
    /// Heads of the attention.
    pub num_attention_heads: u32,
    /// What norms add to the variance.
    #[serde(default = "usual_epsilon")]
    pub layer_norm_eps: f64,
}

const fn usual_epsilon() -> f64 {
    1e-6
}

/// What stands around it in the files of whole models.
#[derive(Deserialize)]
struct Around {
    model_type: Option<String>,
    hidden_act: Option<String>,
    vision_config: Option<serde_json::Value>,
}

impl VisionConfig {
    /// Reads config.json: a `siglip_vision_model`'s, or that of a model with one as its `vision_config`.
    ///
    /// # Errors
    /// A file that cannot be read, that describes another kind of encoder, or a shape that cannot be.
    pub fn read(path: &Path) -> Result<VisionConfig, EngineError> {
        let text = input::read_text(path, MOST_CONFIG_BYTES)?;
        let unsuitable = |reason: String| EngineError::Unsuitable {
            path: path.to_owned(),
            reason,
        };
        VisionConfig::parse(&text).map_err(unsuitable)
    }

    fn parse(text: &str) -> Result<VisionConfig, String> {
        let json = |error: serde_json::Error| format!("it is no vision encoder's config: {error}");
        let whole: serde_json::Value = serde_json::from_str(text).map_err(json)?;
        let around: Around = serde_json::from_value(whole.clone()).map_err(json)?;
        let own = around.vision_config.unwrap_or(whole);
        let kind: Around = serde_json::from_value(own.clone()).map_err(json)?;
        if kind.model_type.as_deref() != Some("siglip_vision_model") {
            let found = kind.model_type.unwrap_or_else(|| "none".to_owned());
            return Err(format!(
                "its model_type is {found}: only siglip_vision_model is known here"
            ));
        }
        if let Some(other) = kind.hidden_act.filter(|named| named != ACTIVATION) {
            return Err(format!(
                "its hidden_act is {other}: only {ACTIVATION} is computed here"
            ));
        }
        let config: VisionConfig = serde_json::from_value(own).map_err(json)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        let sizes = [
            ("image_size", self.image_size),
            ("patch_size", self.patch_size),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
        ];
        for (name, value) in sizes {
            if !(1..=MOST).contains(&value) {
                return Err(format!("{name} is {value}, not 1 to {MOST}"));
            }
        }
        if !self.image_size.is_multiple_of(self.patch_size) {
            return Err(format!(
                "images of {} pixels a side are no whole number of patches of {}",
                self.image_size, self.patch_size
            ));
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Err(format!(
                "a width of {} is not divided by {} heads",
                self.hidden_size, self.num_attention_heads
            ));
        }
        Ok(())
    }

    /// Patches along a side.
    #[must_use]
    pub const fn side(&self) -> u32 {
        self.image_size / self.patch_size
    }

    /// Patches of an image.
    #[must_use]
    pub const fn patches(&self) -> u32 {
        self.side() * self.side()
    }

    /// Bytes of an image: three a pixel.
    #[must_use]
    pub const fn image_bytes(&self) -> u64 {
        CHANNELS as u64 * self.image_size as u64 * self.image_size as u64
    }

    /// Sides of the squares that so many patches are merged in; `None` where those do not fill the image.
    #[must_use]
    pub fn merged_side(&self, merge: u32) -> Option<u32> {
        let side = merge.isqrt();
        (side > 0 && side * side == merge && self.side().is_multiple_of(side)).then_some(side)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = r#"{ "model_type": "siglip_vision_model", "image_size": 224, "patch_size": 16,
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12 }"#;

    #[test]
    fn a_published_shape_is_read_alone_and_within_a_whole_model() {
        let config = VisionConfig::parse(BASE).unwrap();
        assert_eq!((config.patches(), config.image_bytes()), (196, 150_528));
        assert_eq!(config.merged_side(4), Some(2));
        assert_eq!(config.merged_side(16), None);
        assert_eq!(config.merged_side(3), None);
        let whole = format!(r#"{{ "model_type": "llava", "vision_config": {BASE} }}"#);
        assert_eq!(VisionConfig::parse(&whole).unwrap(), config);
    }

    #[test]
    fn what_is_no_such_encoder_is_refused_in_words() {
        let refused = |old: &str, new: &str| {
            VisionConfig::parse(&BASE.replace(old, new))
                .unwrap_err()
                .clone()
        };
        assert!(refused("siglip_vision_model", "clip_vision_model").contains("clip_vision_model"));
        assert!(refused("224", "225").contains("no whole number of patches"));
        assert!(
            refused("\"num_attention_heads\": 12", "\"num_attention_heads\": 7")
                .contains("7 heads")
        );
        assert!(refused("768", "4294967295").contains("hidden_size"));
        assert!(refused("\"image_size\": 224,", "").contains("image_size"));
        assert!(refused("{", "").contains("config"));
        let activation = |name: &str| format!(r#"{{ "hidden_act": "{name}","#);
        let error = refused("{", &activation("quick_gelu"));
        assert!(error.contains("quick_gelu"), "{error}");
        let same = BASE.replace('{', &activation(ACTIVATION));
        assert_eq!(VisionConfig::parse(&same), VisionConfig::parse(BASE));
    }
}
