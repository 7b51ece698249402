//! What a pass that makes one token of each sequence has to read and to multiply: what the roofline is drawn from.

use serde::{Deserialize, Serialize};

use super::compute::Compute;
use super::layer::Layer;
use super::linear::bytes;
use super::model::Model;
use crate::model_config::ModelConfig;

/// What a pass has to do at least, over all layers of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassWork {
    /// Bytes of the weights, which are read once however many sequences there are. Of an embedding table only some
    /// rows are read: it counts where it is the output head as well.
    pub weight_bytes: u64,
    /// Products of a number of a state with a weight, for each token.
    pub token_products: u64,
    /// Bytes of the keys and values of one position of one sequence.
    pub position_bytes: u64,
    /// Products of a token with the keys and values of one position.
    pub position_products: u64,
    /// Whether all products are of f32 numbers: those of other types have another peak.
    pub of_numbers: bool,
}

impl PassWork {
    /// Of no weights.
    pub(crate) const NONE: PassWork = PassWork {
        weight_bytes: 0,
        token_products: 0,
        position_bytes: 0,
        position_products: 0,
        of_numbers: true,
    };

    /// Adds what other weights take in the same pass.
    pub(crate) fn add(&mut self, other: &PassWork) {
        self.weight_bytes += other.weight_bytes;
        self.token_products += other.token_products;
        self.position_bytes += other.position_bytes;
        self.position_products += other.position_products;
        self.of_numbers &= other.of_numbers;
    }

    /// Of the keys and values in one layer: each query head is multiplied with a key and weighs a value.
    fn of_attention(config: &ModelConfig, compute: &Compute) -> PassWork {
        let width = u64::from(config.head_width);
        PassWork {
            position_bytes: 2 * u64::from(config.kv_heads) * width * compute.number_bytes(),
            position_products: 2 * u64::from(config.heads) * width,
            ..PassWork::NONE
        }
    }
}

impl Model {
    /// What a pass through this part has to read and to multiply.
    #[must_use]
    pub fn pass_work(&self) -> PassWork {
        let mut work = PassWork::NONE;
        let attention = PassWork::of_attention(self.config(), self.compute());
        for layer in &self.layers {
            work.add(&layer.work());
            work.add(&attention);
        }
        if let Some((norm, scores)) = self.head_weights() {
            work.add(scores.work());
            work.weight_bytes += bytes(norm);
        }
        work
    }
}

impl Layer {
    fn work(&self) -> PassWork {
        let mut work = PassWork::NONE;
        for maps in self.maps() {
            work.add(maps.work());
        }
        work.weight_bytes += self.norms().map(bytes).sum::<u64>();
        work
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::micro;

    #[test]
    fn a_pass_reads_every_weight_once_and_multiplies_with_every_matrix() {
        let model = Model::load_whole(micro()).expect("loads");
        let (config, work) = (*model.config(), model.pass_work());
        // The table of the tied embedding is the head's matrix: everything that is held is read.
        assert!(config.tie_embeddings);
        assert_eq!(work.weight_bytes, model.weight_bytes());
        let norms = u64::from((2 * config.layers + 1) * config.width);
        assert_eq!(work.token_products, work.weight_bytes / 4 - norms);
        let of_layer = |heads: u32| u64::from(2 * heads * config.head_width);
        let layers = u64::from(config.layers);
        assert_eq!(work.position_bytes, 4 * layers * of_layer(config.kv_heads));
        assert_eq!(work.position_products, layers * of_layer(config.heads));
        assert!(work.of_numbers);
    }

    #[test]
    fn products_with_other_numbers_make_the_whole_one_of_others() {
        let mut work = PassWork::NONE;
        work.add(&PassWork {
            of_numbers: false,
            ..PassWork::NONE
        });
        work.add(&PassWork::NONE);
        assert!(!work.of_numbers);
    }
}
