//! Training: its operations against their formulas and differences, its result against what it
//! promises.

use candle_core::{Device, Result, Tensor, Var};

use super::network::Network;
use super::noise::Noise;
use super::operations::{
    Heads, Rotation, causal_softmax, cross_entropy, exp, merge_heads, rms_norm, split_heads,
    swiglu, times_transposed,
};
use super::{TrainingReport, train};
use crate::engine::tests::micro;
use crate::engine::{Model, verify};
use crate::model_config::ModelConfig;
use crate::recipe::Recipe;

fn random(purpose: &str, shape: &[usize]) -> Var {
    let count = shape.iter().product();
    let values = Noise::new(9, purpose).normal(count, 1.0);
    Var::from_vec(values, shape, &Device::Cpu).expect("a tensor")
}

/// Holds the gradient of a weighted sum of `operation` against central differences in every
/// value of every argument.
fn assert_gradient(name: &str, arguments: &[Var], operation: impl Fn(&[Var]) -> Result<Tensor>) {
    let shape = operation(arguments).expect("runs").dims().to_vec();
    let weights = random("weights", if shape.is_empty() { &[1] } else { &shape });
    let weights = weights.reshape(shape).expect("as many");
    let total = |arguments: &[Var]| {
        let product = (operation(arguments)? * &weights)?;
        product.flatten_all()?.sum_all()
    };
    let gradients = total(arguments)
        .and_then(|total| total.backward())
        .expect("backward");
    for (index, argument) in arguments.iter().enumerate() {
        let gradient = gradients.get(argument).expect("a gradient");
        let gradient = gradient
            .flatten_all()
            .and_then(|flat| flat.to_vec1::<f32>());
        let values = argument
            .flatten_all()
            .and_then(|flat| flat.to_vec1::<f32>())
            .expect("f32");
        for (element, gradient) in gradient.expect("f32").into_iter().enumerate() {
            let at = |step: f32| {
                let mut moved = values.clone();
                moved[element] += step;
                let moved = Tensor::from_vec(moved, argument.shape(), &Device::Cpu);
                let moved = moved
                    .and_then(|moved| Var::from_tensor(&moved))
                    .expect("a tensor");
                let mut arguments = arguments.to_vec();
                arguments[index] = moved;
                total(&arguments)
                    .and_then(|total| total.to_scalar::<f32>())
                    .expect("a number")
            };
            let step = 1e-2;
            let difference = (at(step) - at(-step)) / (2.0 * step);
            // The third derivative times step^2 / 6, and f32 rounding of the sums over the step.
            let bound = 2e-3 * (1.0 + gradient.abs());
            assert!(
                (difference - gradient).abs() < bound,
                "{name}, argument {index}, value {element}: {gradient} and {difference}"
            );
        }
    }
}

fn rotation(positions: u16, half: u16) -> Rotation {
    let angles = (0..positions).flat_map(|p| (0..half).map(move |i| f32::from(p * 3 + i)));
    let (cosines, sines) = angles.map(|angle| (angle.cos(), angle.sin())).unzip();
    Rotation {
        cosines: std::sync::Arc::new(cosines),
        sines: std::sync::Arc::new(sines),
    }
}

#[test]
fn the_gradient_of_every_operation_is_the_slope_of_its_value() {
    let (a, b, w) = (
        random("a", &[4, 6]),
        random("b", &[3, 6]),
        random("w", &[6]),
    );
    let square = random("square", &[4, 3, 3]);
    let heads = Heads {
        tokens: 2,
        heads: 3,
        width: 2,
    };
    assert_gradient("times-transposed", &[a.clone(), b], |x| {
        times_transposed(&x[0], &x[1])
    });
    let batch = [random("p", &[2, 3, 4]), random("q", &[2, 5, 4])];
    assert_gradient("batched times-transposed", &batch, |x| {
        times_transposed(&x[0], &x[1])
    });
    assert_gradient("rms-norm", &[a.clone(), w], |x| {
        rms_norm(&x[0], &x[1], 1e-5)
    });
    assert_gradient("swiglu", &[a.clone(), random("c", &[4, 6])], |x| {
        swiglu(&x[0], &x[1])
    });
    assert_gradient("split-heads", std::slice::from_ref(&a), |x| {
        split_heads(&x[0], heads.clone(), Some(rotation(2, 1)))
    });
    assert_gradient("merge-heads", &[random("d", &[6, 2, 2])], |x| {
        merge_heads(&x[0], heads.clone())
    });
    assert_gradient("causal-softmax", &[square], |x| {
        causal_softmax(&x[0], 3, 0.7)
    });
    assert_gradient("cross-entropy", &[a], |x| {
        cross_entropy(&x[0], vec![0, 5, 2, 2])
    });
}

#[test]
fn splitting_and_merging_heads_undo_each_other() {
    let x = random("x", &[6, 8]);
    let heads = Heads {
        tokens: 3,
        heads: 4,
        width: 2,
    };
    let there = split_heads(&x, heads.clone(), None).expect("split");
    assert_eq!(there.dims(), [8, 3, 2]);
    let back = merge_heads(&there, heads).expect("merged");
    let values = |x: &Tensor| x.to_vec2::<f32>().expect("f32");
    assert_eq!(values(&back), values(&x));
}

#[test]
fn the_fast_exponential_is_within_its_stated_error() {
    for step in -870..=880_i16 {
        let x = f32::from(step) / 10.0;
        let exact = f64::from(x).exp();
        let error = (f64::from(exp(x)) / exact - 1.0).abs();
        // 3e-7 of the series, and half a unit of x * log2(e) in the last place for large x.
        assert!(error < 3e-7 + 1.2e-7 * f64::from(x.abs()), "e^{x}: {error}");
    }
}

fn small() -> ModelConfig {
    ModelConfig {
        layers: 2,
        width: 16,
        heads: 4,
        kv_heads: 2,
        head_width: 4,
        feed_forward: 24,
        vocabulary: 300,
        max_positions: 32,
        tie_embeddings: false,
        ..Recipe::by_name("micro").expect("exists").config
    }
}

#[test]
fn an_untied_head_is_trained_too() {
    let network = Network::new(&small(), 3).expect("made");
    let loss = network
        .loss(&[&[1, 2, 3, 4], &[5, 6, 7, 8]])
        .expect("computed");
    let gradients = loss.backward().expect("computed");
    for (name, variable) in network.variables() {
        assert!(gradients.get(variable).is_some(), "{name} has no gradient");
    }
}

fn train_into(directory: &std::path::Path, recipe: &Recipe) -> TrainingReport {
    let mut steps = 0;
    let report = train(recipe, directory, &mut |progress| {
        steps += 1;
        assert_eq!((progress.step, progress.steps), (steps, recipe.steps));
        assert!(progress.loss.is_finite());
    });
    assert_eq!(steps, recipe.steps);
    report.expect("trained")
}

#[test]
fn training_learns_and_the_same_recipe_gives_the_same_bytes() {
    let recipe = Recipe::by_name("micro").expect("exists");
    let again = tempfile::tempdir().expect("made");
    let report = train_into(again.path(), &recipe);

    let chance = f64::from(recipe.config.vocabulary).ln();
    let TrainingReport {
        untrained_loss,
        held_out_loss,
        held_out_top1,
        ..
    } = report;
    assert!(
        (untrained_loss - chance).abs() < 0.3,
        "{untrained_loss}, and ln V is {chance}"
    );
    assert!(
        held_out_loss < 0.6 * chance,
        "{held_out_loss}, and ln V is {chance}"
    );
    assert!(held_out_top1 > 0.2, "{held_out_top1}");

    for file in ["config.json", "tokenizer.json", "model.safetensors"] {
        let first = std::fs::read(micro().join(file)).expect("read");
        assert_eq!(
            first,
            std::fs::read(again.path().join(file)).expect("read"),
            "{file}"
        );
    }
    let first = std::fs::read(micro().join("training.json")).expect("read");
    let first: TrainingReport = serde_json::from_slice(&first).expect("a report");
    assert_eq!(first.weights_sha256, report.weights_sha256);
    assert_eq!(verify(again.path()).expect("whole"), recipe.config);
    let model = Model::load_whole(again.path()).expect("loads");
    assert_eq!(model.weight_bytes(), 4 * recipe.config.parameters());
}

#[test]
fn recipes_that_ask_for_the_impossible_are_refused() {
    let micro = Recipe::by_name("micro").expect("exists");
    let directory = tempfile::tempdir().expect("made");
    let vocabulary = ModelConfig {
        vocabulary: 100,
        ..micro.config
    };
    for (recipe, word) in [
        (
            Recipe {
                batch: 3,
                ..micro.clone()
            },
            "batch",
        ),
        (
            Recipe {
                sequence: 4_096,
                ..micro.clone()
            },
            "sequences",
        ),
        (
            Recipe {
                held_out_bytes: 1,
                sequence: 500,
                ..micro.clone()
            },
            "text",
        ),
        (
            Recipe {
                config: vocabulary,
                ..micro
            },
            "vocabulary",
        ),
    ] {
        let error = train(&recipe, directory.path(), &mut |_| ()).expect_err("refused");
        assert!(error.to_string().contains(word), "{error}");
    }
}
