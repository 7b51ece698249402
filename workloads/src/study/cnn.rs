//! The control for studies of splits: a convolutional network, whose layers get narrower. Unlike in a dense
//! decoder the cut decides what crosses the link, so that the best cut moves towards the device step by step as
//! the rate falls.
//!
//! The shape is that of VGG-16 (Simonyan and Zisserman 2015, configuration D) for images of 224 x 224: products of
//! its convolutions and fully connected layers, and what is left after each pooling. What the layers compute is
//! waited for, at a stated speed of each node; as many bytes as they would hand on, one for each activation,
//! really cross the link.

use serde::{Deserialize, Serialize};

use super::HopBytes;
use super::split::wire_bytes_of_frame;
use crate::wire::HEADER_BYTES;

/// A block of layers behind which the network may be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// Multiplications and additions for an image.
    pub products: u64,
    /// Activations that it hands on.
    pub activations: u64,
}

/// Channels and convolutions of the five blocks that end in a pooling.
const CONVOLUTIONS: [(u64, u32); 5] = [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)];

/// Outputs of the fully connected layers.
const CONNECTED: [u64; 3] = [4096, 4096, 1000];

/// Width and height of an image, and its channels.
const IMAGE: (u64, u64) = (224, 3);

/// Taps of a filter: 3 x 3.
const TAPS: u64 = 9;

/// The blocks of the network, from the image on.
#[must_use]
pub fn blocks() -> Vec<Block> {
    let (mut side, mut channels) = IMAGE;
    let mut blocks = Vec::new();
    for (wider, convolutions) in CONVOLUTIONS {
        let mut products = 0;
        for _ in 0..convolutions {
            products += side * side * channels * wider * TAPS;
            channels = wider;
        }
        // The pooling halves each side.
        side /= 2;
        blocks.push(Block {
            products,
            activations: side * side * channels,
        });
    }
    let mut inputs = side * side * channels;
    for outputs in CONNECTED {
        blocks.push(Block {
            products: inputs * outputs,
            activations: outputs,
        });
        inputs = outputs;
    }
    blocks
}

/// Blocks of the network.
#[must_use]
pub fn block_count() -> u32 {
    u32::try_from(CONVOLUTIONS.len() + CONNECTED.len()).unwrap_or(u32::MAX)
}

/// The network is divided over two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Convolutional {
    /// Blocks on the first node; with all of them nothing crosses the link.
    pub cut: u32,
    /// Products that the first node does in a microsecond.
    pub near_per_us: u64,
    /// The same of the second.
    pub far_per_us: u64,
}

impl Convolutional {
    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> String {
        format!("cnn {}/{}", self.cut, block_count())
    }

    /// Whether the first node has all of it.
    #[must_use]
    pub fn is_whole(self) -> bool {
        self.cut >= block_count()
    }

    fn split(self) -> usize {
        usize::try_from(self.cut).unwrap_or(usize::MAX)
    }

    /// How long the first node computes for an image.
    #[must_use]
    pub fn near_ns(self) -> u64 {
        let products: u64 = blocks()
            .iter()
            .take(self.split())
            .map(|of| of.products)
            .sum();
        products * 1000 / self.near_per_us.max(1)
    }

    /// How long the second does.
    #[must_use]
    pub fn far_ns(self) -> u64 {
        let products: u64 = blocks()
            .iter()
            .skip(self.split())
            .map(|of| of.products)
            .sum();
        products * 1000 / self.far_per_us.max(1)
    }

    /// Bytes that cross the link, one for each activation at the cut.
    #[must_use]
    pub fn activation_bytes(self) -> u64 {
        let last = self.split().checked_sub(1);
        let at_cut = last.and_then(|last| blocks().get(last).copied());
        at_cut
            .filter(|_| !self.is_whole())
            .map_or(0, |block| block.activations)
    }

    /// What an image puts on the link: the activations and a closing frame, and 4 bytes back.
    #[must_use]
    pub fn hop_bytes(self) -> HopBytes {
        if self.is_whole() {
            return HopBytes::default();
        }
        HopBytes {
            up: 2 * HEADER_BYTES + self.activation_bytes(),
            down: HEADER_BYTES + 4,
            frames_up: 2,
            frames_down: 1,
        }
    }

    /// How long an image takes: both nodes, and where something crosses the link that and the round trip of an
    /// empty frame.
    #[must_use]
    pub fn image_ns(self, (echo_ns, rate_bps): (u64, u64)) -> u64 {
        if self.is_whole() {
            return self.near_ns();
        }
        let wire = wire_bytes_of_frame(self.activation_bytes()) + wire_bytes_of_frame(4);
        let link = u128::from(wire) * 8 * 1_000_000_000 / u128::from(rate_bps.max(1));
        let link = u64::try_from(link).unwrap_or(u64::MAX);
        self.near_ns() + self.far_ns() + echo_ns + link
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_has_the_products_and_widths_of_vgg_16() {
        let blocks = blocks();
        let products: u64 = blocks.iter().map(|block| block.products).sum();
        // 15.5 thousand million (3GPP TR 22.874 names as many for an image).
        assert_eq!(products, 15_470_264_320);
        let activations: Vec<u64> = blocks.iter().map(|block| block.activations).collect();
        let pooled = [
            112 * 112 * 64,
            56 * 56 * 128,
            28 * 28 * 256,
            14 * 14 * 512,
            7 * 7 * 512,
        ];
        assert_eq!(activations[..5], pooled);
        assert_eq!(activations[5..], [4096, 4096, 1000]);
        assert_eq!(block_count(), 8);
    }

    #[test]
    fn the_best_cut_moves_towards_the_device_as_the_rate_falls() {
        let arm = |cut| Convolutional {
            cut,
            near_per_us: 25_000,
            far_per_us: 250_000,
        };
        let best = |rate_bps| {
            let cuts = 1..=block_count();
            cuts.min_by_key(|cut| arm(*cut).image_ns((2_000_000, rate_bps)))
        };
        let rates = [100_000_000, 20_000_000, 8_000_000, 1_000_000];
        assert_eq!(rates.map(best), [1, 2, 3, 8].map(Some));
        assert_eq!(arm(8).hop_bytes(), HopBytes::default());
        assert_eq!(arm(5).hop_bytes().up, 32 + 25_088);
        assert!(arm(1).near_ns() + arm(1).far_ns() < arm(8).near_ns());
    }
}
