//! A model of the Llama family straight from its formulas, in f64 and without any library: the whole sequence
//! at once, one number after the other.

use std::collections::BTreeMap;
use std::path::Path;

use safetensors::SafeTensors;

use crate::model_config::{ModelConfig, RopeScaling};

type Vector = Vec<f64>;

/// All weights, by their Hugging Face names.
pub(super) struct Reference {
    config: ModelConfig,
    weights: BTreeMap<String, Vector>,
}

fn size(value: u32) -> usize {
    usize::try_from(value).expect("fits")
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(a: &mut [f64], b: &[f64]) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
}

impl Reference {
    pub(super) fn load(directory: &Path) -> Reference {
        let config = std::fs::read_to_string(directory.join("config.json")).expect("read");
        let config = ModelConfig::from_hugging_face_json(&config).expect("a config");
        let bytes = std::fs::read(directory.join("model.safetensors")).expect("read");
        let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let weights = file.tensors().into_iter().map(|(name, view)| {
            let (values, _) = view.data().as_chunks::<4>();
            let values = values
                .iter()
                .map(|value| f64::from(f32::from_le_bytes(*value)));
            (name, values.collect())
        });
        Reference {
            config,
            weights: weights.collect(),
        }
    }

    /// A matrix times a vector, and the matrix's bias if there is one.
    fn times(&self, name: &str, x: &[f64]) -> Vector {
        let mut product: Vector = self.weights[name]
            .chunks(x.len())
            .map(|row| dot(row, x))
            .collect();
        if let Some(bias) = self.weights.get(&name.replace(".weight", ".bias")) {
            add(&mut product, bias);
        }
        product
    }

    /// Norms each head, in models that do.
    fn norm_heads(&self, name: &str, x: &mut [f64]) {
        if self.config.head_norm {
            for head in x.chunks_mut(size(self.config.head_width)) {
                let normed = self.norm(name, head);
                head.copy_from_slice(&normed);
            }
        }
    }

    /// Radians per position of the pair (i, i + half) of a head.
    fn frequency(&self, i: u32) -> f64 {
        let half = f64::from(self.config.head_width / 2);
        let frequency = self.config.rope_theta.powf(-f64::from(i) / half);
        match self.config.rope_scaling {
            None => frequency,
            Some(RopeScaling::Linear { factor }) => frequency / factor,
            Some(RopeScaling::Llama3 {
                factor,
                low_frequency_factor: low,
                high_frequency_factor: high,
                original_positions,
            }) => {
                // How often it turns within the original positions decides.
                let turns = f64::from(original_positions) * frequency / std::f64::consts::TAU;
                let share = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                frequency * (share + (1.0 - share) / factor)
            }
        }
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vector {
        #[expect(clippy::cast_precision_loss, reason = "a width")]
        let mean = dot(x, x) / x.len() as f64;
        let scale = 1.0 / (mean + self.config.rms_norm_eps).sqrt();
        x.iter()
            .zip(&self.weights[name])
            .map(|(x, w)| x * scale * w)
            .collect()
    }

    /// Turns (x_i, x_{i + half}) of each head by position times frequency.
    fn rotate(&self, x: &mut [f64], position: u32) {
        let half = size(self.config.head_width) / 2;
        for head in x.chunks_mut(2 * half) {
            for i in 0..half {
                let frequency = self.frequency(u32::try_from(i).expect("fits"));
                let angle = f64::from(position) * frequency;
                let (a, b) = (head[i], head[i + half]);
                head[i] = a * angle.cos() - b * angle.sin();
                head[i + half] = b * angle.cos() + a * angle.sin();
            }
        }
    }

    fn attend(&self, query: &[f64], keys: &[Vector], values: &[Vector]) -> Vector {
        let width = size(self.config.head_width);
        let group = size(self.config.heads / self.config.kv_heads);
        let window = self.config.sliding_window.map_or(keys.len(), size);
        let first = keys.len().saturating_sub(window);
        let (keys, values) = (&keys[first..], &values[first..]);
        let heads = query.chunks(width).enumerate().flat_map(|(head, query)| {
            let from = head / group * width;
            let scores = keys.iter().map(|key| {
                dot(query, &key[from..from + width]) / f64::from(self.config.head_width).sqrt()
            });
            let powers: Vector = scores.map(f64::exp).collect();
            let total: f64 = powers.iter().sum();
            let mut mixed = vec![0.0; width];
            for (power, value) in powers.iter().zip(values) {
                for (mixed, value) in mixed.iter_mut().zip(&value[from..]) {
                    *mixed += power / total * value;
                }
            }
            mixed
        });
        heads.collect()
    }

    /// Scores of the next token after each of the given ones.
    pub(super) fn scores(&self, tokens: &[u32]) -> Vec<Vector> {
        let width = size(self.config.width);
        let table = &self.weights["model.embed_tokens.weight"];
        let states = tokens
            .iter()
            .map(|token| table[size(*token) * width..][..width].to_vec());
        let mut states: Vec<Vector> = states.collect();
        for layer in 0..self.config.layers {
            let name = |part: &str| format!("model.layers.{layer}.{part}.weight");
            let (mut keys, mut values) = (Vec::new(), Vec::new());
            for (position, x) in (0..).zip(&mut states) {
                let normed = self.norm(&name("input_layernorm"), x);
                let mut query = self.times(&name("self_attn.q_proj"), &normed);
                let mut key = self.times(&name("self_attn.k_proj"), &normed);
                self.norm_heads(&name("self_attn.q_norm"), &mut query);
                self.norm_heads(&name("self_attn.k_norm"), &mut key);
                self.rotate(&mut query, position);
                self.rotate(&mut key, position);
                keys.push(key);
                values.push(self.times(&name("self_attn.v_proj"), &normed));
                let attended = self.attend(&query, &keys, &values);
                add(x, &self.times(&name("self_attn.o_proj"), &attended));
                let normed = self.norm(&name("post_attention_layernorm"), x);
                let gate = self.times(&name("mlp.gate_proj"), &normed);
                let up = self.times(&name("mlp.up_proj"), &normed);
                let inner: Vector = gate
                    .iter()
                    .zip(&up)
                    .map(|(a, b)| a / (1.0 + (-a).exp()) * b)
                    .collect();
                add(x, &self.times(&name("mlp.down_proj"), &inner));
            }
        }
        let last = states.iter().map(|x| self.norm("model.norm.weight", x));
        let head = if self.config.tie_embeddings {
            "model.embed_tokens.weight"
        } else {
            "lm_head.weight"
        };
        last.map(|x| self.times(head, &x)).collect()
    }
}
