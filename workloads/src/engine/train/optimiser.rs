//! AdamW, Loshchilov and Hutter 2019, algorithm 2, one pass over each weight.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Var, bail};

use crate::recipe::Recipe;

const BETA_1: f32 = 0.9;
const BETA_2: f32 = 0.95;
const EPSILON: f32 = 1e-8;
/// Gradients together longer than this are shortened to it.
const LONGEST_GRADIENT: f64 = 1.0;

/// What is remembered of one tensor's gradients.
struct Moments {
    gradient: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
    decayed: bool,
}

/// The optimiser and its memory.
pub(super) struct AdamW {
    moments: BTreeMap<String, Mutex<Moments>>,
    step: u32,
}

/// One step's numbers.
#[derive(Clone, Copy)]
struct Rates {
    learning_rate: f32,
    decay: f32,
    shorten: f32,
    correction_1: f32,
    correction_2: f32,
}

struct Update<'a> {
    moments: &'a Mutex<Moments>,
    rates: Rates,
}

impl InplaceOp1 for Update<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, weights: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (CpuStorage::F32(weights), Some((start, end))) = (weights, layout.contiguous_offsets())
        else {
            bail!("weights in training are contiguous f32");
        };
        let mut moments = self.moments.lock().unwrap_or_else(PoisonError::into_inner);
        let Moments {
            gradient,
            first,
            second,
            decayed,
        } = &mut *moments;
        let Rates {
            learning_rate,
            decay,
            shorten,
            correction_1,
            correction_2,
        } = self.rates;
        let keep = if *decayed {
            1.0 - learning_rate * decay
        } else {
            1.0
        };
        let memory = first.iter_mut().zip(second).zip(gradient);
        for (weight, ((first, second), gradient)) in weights[start..end].iter_mut().zip(memory) {
            let gradient = *gradient * shorten;
            *first = BETA_1 * *first + (1.0 - BETA_1) * gradient;
            *second = BETA_2 * *second + (1.0 - BETA_2) * gradient * gradient;
            let direction = (*first * correction_1) / ((*second * correction_2).sqrt() + EPSILON);
            *weight = *weight * keep - learning_rate * direction;
        }
        Ok(())
    }
}

/// Learning rate of a step (from 0): linear warm-up, then a cosine down to a tenth.
fn learning_rate(recipe: &Recipe, step: u32) -> f64 {
    if step < recipe.warmup_steps {
        return recipe.learning_rate * f64::from(step + 1) / f64::from(recipe.warmup_steps);
    }
    let length = f64::from(recipe.steps.saturating_sub(recipe.warmup_steps).max(1));
    let done = f64::from(step - recipe.warmup_steps) / length;
    let cosine = libm::cos(std::f64::consts::PI * done.min(1.0));
    recipe.learning_rate * (0.1 + 0.9 * (1.0 + cosine) / 2.0)
}

impl AdamW {
    pub(super) fn new(variables: &BTreeMap<String, Var>) -> AdamW {
        let moments = variables.iter().map(|(name, variable)| {
            let zeros = vec![0.0; variable.elem_count()];
            let decayed = variable.rank() == 2;
            let moments = Moments {
                gradient: zeros.clone(),
                first: zeros.clone(),
                second: zeros,
                decayed,
            };
            (name.clone(), Mutex::new(moments))
        });
        AdamW {
            moments: moments.collect(),
            step: 0,
        }
    }

    /// Moves the weights along the mean of the gradients of equal shares of a batch.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "rates are computed in f64, used in f32"
    )]
    pub(super) fn step(
        &mut self,
        recipe: &Recipe,
        variables: &BTreeMap<String, Var>,
        shares: &[GradStore],
    ) -> Result<()> {
        let mut square = 0.0;
        for (name, variable) in variables {
            let Some(moments) = self.moments.get_mut(name) else {
                bail!("no memory of {name}");
            };
            let moments = moments.get_mut().unwrap_or_else(PoisonError::into_inner);
            gather(&mut moments.gradient, variable, shares)?;
            // Blocks first: shorter sums, and the compiler can hold several at once.
            let blocks = moments.gradient.chunks(64);
            let sums = blocks.map(|block| block.iter().map(|value| value * value).sum::<f32>());
            square += sums.map(f64::from).sum::<f64>();
        }
        let length = square.sqrt();
        let shorten = if length > LONGEST_GRADIENT {
            LONGEST_GRADIENT / length
        } else {
            1.0
        };
        let learning_rate = learning_rate(recipe, self.step);
        self.step += 1;
        let steps = f64::from(self.step);
        let correction = |beta: f32| (1.0 / (1.0 - libm::pow(f64::from(beta), steps))) as f32;
        let rates = Rates {
            learning_rate: learning_rate as f32,
            decay: recipe.weight_decay as f32,
            shorten: shorten as f32,
            correction_1: correction(BETA_1),
            correction_2: correction(BETA_2),
        };
        for (name, variable) in variables {
            if let Some(moments) = self.moments.get(name) {
                variable.inplace_op1(&Update { moments, rates })?;
            }
        }
        Ok(())
    }
}

/// Mean of a tensor's gradients.
fn gather(into: &mut [f32], variable: &Var, shares: &[GradStore]) -> Result<()> {
    into.fill(0.0);
    for share in shares {
        let Some(gradient) = share.get(variable) else {
            bail!("a weight without a gradient");
        };
        let gradient = gradient.flatten_all()?.to_vec1::<f32>()?;
        for (into, gradient) in into.iter_mut().zip(gradient) {
            *into += gradient;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a handful of shares")]
    let share = 1.0 / shares.len() as f32;
    for value in into {
        *value *= share;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_learning_rate_climbs_to_its_height_and_falls_to_a_tenth() {
        let recipe = Recipe::by_name("tiny").expect("exists");
        let rates: Vec<f64> = (0..recipe.steps)
            .map(|step| learning_rate(&recipe, step))
            .collect();
        let highest = rates.iter().copied().fold(0.0, f64::max);
        assert!((highest - recipe.learning_rate).abs() < 1e-12);
        assert!(rates[0] < recipe.learning_rate * 0.2);
        let last = *rates.last().expect("steps");
        assert!(
            (0.1..0.11).contains(&(last / recipe.learning_rate)),
            "{last}"
        );
    }
}
