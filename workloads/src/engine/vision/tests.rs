//! Encoders compute the published formulas, and what cannot be is refused.

use std::collections::BTreeMap;

use candle_core::Device;

use super::*;
use crate::engine::model::size;
use crate::engine::train::noise::Noise;

const CONFIG: VisionConfig = VisionConfig {
    image_size: 8,
    patch_size: 2,
    hidden_size: 6,
    intermediate_size: 10,
    num_hidden_layers: 2,
    num_attention_heads: 2,
    layer_norm_eps: 1e-6,
};
const TEXT_WIDTH: u32 = 4;

fn weights() -> BTreeMap<String, Vec<f32>> {
    let named = shapes(&CONFIG, TEXT_WIDTH).into_iter();
    let drawn = named.map(|(name, shape)| {
        let count: u32 = shape.iter().product();
        let values = Noise::new(3, &name).normal(size(count), 0.4);
        (name, values)
    });
    drawn.collect()
}

fn network(weights: &BTreeMap<String, Vec<f32>>) -> Network {
    let tensors = shapes(&CONFIG, TEXT_WIDTH)
        .into_iter()
        .map(|(name, shape)| {
            let shape: Vec<usize> = shape.into_iter().map(size).collect();
            let tensor = Tensor::from_vec(weights[&name].clone(), shape, &Device::Cpu);
            (name, tensor.unwrap())
        });
    Network::new(CONFIG, tensors.collect())
}

fn image() -> Vec<u8> {
    (0..192_u32)
        .map(|at| u8::try_from(at * 37 % 256).unwrap())
        .collect()
}

type Rows = Vec<Vec<f64>>;

/// The same in f64, number by number.
struct Reference<'a>(&'a BTreeMap<String, Vec<f32>>);

impl Reference<'_> {
    fn of(&self, name: &str) -> Vec<f64> {
        self.0[name].iter().copied().map(f64::from).collect()
    }

    fn map(&self, rows: &Rows, name: &str) -> Rows {
        let (weight, bias) = (
            self.of(&format!("{name}.weight")),
            self.of(&format!("{name}.bias")),
        );
        let map = |row: &Vec<f64>| {
            let outputs = weight.chunks(row.len()).zip(&bias);
            let product = |of: &[f64]| of.iter().zip(row).map(|(w, x)| w * x).sum::<f64>();
            outputs.map(|(of, bias)| product(of) + bias).collect()
        };
        rows.iter().map(map).collect()
    }

    fn norm(&self, rows: &Rows, name: &str) -> Rows {
        let (weight, bias) = (
            self.of(&format!("{name}.weight")),
            self.of(&format!("{name}.bias")),
        );
        let norm = |row: &Vec<f64>| {
            let count = f64::from(u32::try_from(row.len()).unwrap());
            let mean = row.iter().sum::<f64>() / count;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
            let scaled = row.iter().zip(weight.iter().zip(&bias));
            scaled
                .map(|(x, (w, b))| (x - mean) / (variance + 1e-6).sqrt() * w + b)
                .collect()
        };
        rows.iter().map(norm).collect()
    }

    fn attend(&self, rows: &Rows, name: &str) -> Rows {
        let of = |map: &str| self.map(rows, &format!("{name}.{map}"));
        let (queries, keys, values) = (of("q_proj"), of("k_proj"), of("v_proj"));
        let mut attended = vec![Vec::new(); rows.len()];
        for head in 0..2 {
            let part = |row: &Vec<f64>| row[3 * head..3 * (head + 1)].to_vec();
            for (query, out) in queries.iter().map(part).zip(&mut attended) {
                let scores = keys.iter().map(part).map(|key| {
                    let product: f64 = query.iter().zip(&key).map(|(q, k)| q * k).sum();
                    (product / 3_f64.sqrt()).exp()
                });
                let scores: Vec<f64> = scores.collect();
                let sum: f64 = scores.iter().sum();
                for channel in 0..3 {
                    let of_values = values.iter().map(part).zip(&scores);
                    out.push(
                        of_values
                            .map(|(value, score)| value[channel] * score / sum)
                            .sum(),
                    );
                }
            }
        }
        self.map(&attended, &format!("{name}.out_proj"))
    }

    fn visual_tokens(&self, image: &[u8], square: usize) -> Rows {
        let mut patches = Rows::new();
        for (top, left) in (0..4).flat_map(|top| (0..4).map(move |left| (top, left))) {
            let mut patch = Vec::new();
            for channel in 0..3 {
                for (y, x) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                    let at = (2 * top + y) * 8 + 2 * left + x;
                    patch.push(f64::from(image[3 * at + channel]) / 127.5 - 1.0);
                }
            }
            patches.push(patch);
        }
        let mut states = self.map(&patches, "vision_model.embeddings.patch_embedding");
        let positions = self.of("vision_model.embeddings.position_embedding.weight");
        for (row, position) in states.iter_mut().zip(positions.chunks(6)) {
            row.iter_mut().zip(position).for_each(|(x, p)| *x += p);
        }
        let add = |one: &Rows, other: &Rows| -> Rows {
            let pairs = one.iter().zip(other);
            pairs
                .map(|(one, other)| one.iter().zip(other).map(|(a, b)| a + b).collect())
                .collect()
        };
        for layer in 0..2 {
            let name = format!("vision_model.encoder.layers.{layer}");
            let normed = self.norm(&states, &format!("{name}.layer_norm1"));
            states = add(&states, &self.attend(&normed, &format!("{name}.self_attn")));
            let normed = self.norm(&states, &format!("{name}.layer_norm2"));
            let mut inner = self.map(&normed, &format!("{name}.mlp.fc1"));
            for x in inner.iter_mut().flatten() {
                let turned = (2.0 / std::f64::consts::PI).sqrt() * (*x + 0.044_715 * x.powi(3));
                *x = 0.5 * *x * (1.0 + turned.tanh());
            }
            states = add(&states, &self.map(&inner, &format!("{name}.mlp.fc2")));
        }
        let states = self.norm(&states, "vision_model.post_layernorm");
        let merged = 4 / square;
        let mut means = Rows::new();
        for (top, left) in (0..merged).flat_map(|top| (0..merged).map(move |left| (top, left))) {
            let mut mean = vec![0.0; 6];
            for (y, x) in (0..square).flat_map(|y| (0..square).map(move |x| (y, x))) {
                let row = &states[(top * square + y) * 4 + left * square + x];
                let share = f64::from(u32::try_from(square * square).unwrap());
                mean.iter_mut()
                    .zip(row)
                    .for_each(|(mean, x)| *mean += x / share);
            }
            means.push(mean);
        }
        let mut inner = self.map(&means, "multi_modal_projector.linear_1");
        for x in inner.iter_mut().flatten() {
            *x = 0.5 * *x * (1.0 + libm::erf(*x / 2_f64.sqrt()));
        }
        self.map(&inner, "multi_modal_projector.linear_2")
    }
}

#[test]
fn visual_tokens_are_those_of_the_formulas_merged_or_not() {
    let weights = weights();
    let network = network(&weights);
    let image = image();
    let pixels = network::patches(&CONFIG, &[&image]).unwrap();
    let states = network.encode(&pixels).unwrap();
    for square in [1, 2, 4] {
        let found = network.project(&states, square).unwrap();
        let found = found.to_vec2::<f32>().unwrap();
        let expected = Reference(&weights).visual_tokens(&image, size(square));
        assert_eq!(found.len(), expected.len());
        let pairs = found.iter().flatten().zip(expected.iter().flatten());
        for (found, expected) in pairs {
            assert!(
                (f64::from(*found) - expected).abs() < 1e-4,
                "{found} {expected}"
            );
        }
    }
}

#[test]
fn images_of_a_batch_do_not_see_each_other() {
    let network = network(&weights());
    let (one, other) = (image(), vec![9; 192]);
    let of = |images: &[&[u8]]| {
        let pixels = network::patches(&CONFIG, images).unwrap();
        let states = network.encode(&pixels).unwrap();
        network
            .project(&states, 2)
            .unwrap()
            .to_vec2::<f32>()
            .unwrap()
    };
    let together = of(&[&one, &other]);
    let alone = [of(&[&one]), of(&[&other])].concat();
    for (together, alone) in together.iter().flatten().zip(alone.iter().flatten()) {
        assert!((together - alone).abs() < 1e-5, "{together} {alone}");
    }
}
