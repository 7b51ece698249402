//! A vision encoder learns, is kept and is read back.

use super::*;
use crate::engine::Model;
use crate::engine::tests::copy_of_micro;
use crate::engine::vision::VisionEncoder;

#[test]
fn an_encoder_learns_to_tell_things_apart_and_is_kept_whole() {
    let root = copy_of_micro();
    let recipe = Recipe::by_name("micro").unwrap();
    let pools = pools().unwrap();
    let mut language = Network::load(root.path()).unwrap();
    language.adapt(BTreeMap::new());
    let variables = first(1, language.config().width).unwrap();
    let tensors = variables
        .iter()
        .map(|(name, variable)| (name.clone(), variable.as_tensor().clone()));
    let tokenizer = TextTokenizer::load(root.path()).unwrap();
    let lesson = Lesson {
        language,
        encoder: vision::network::Network::new(config(), tensors.collect()),
        question: tokenizer.encode(QUESTION).unwrap(),
        tokenizer,
    };
    let own = Recipe {
        batch: 8,
        warmup_steps: 2,
        ..recipe_of(&recipe)
    };
    let classifier = classifier(1).unwrap();
    let mut alone = variables.clone();
    alone.retain(|name, _| !name.starts_with("multi_modal_projector"));
    alone.insert(CLASSIFIER.to_owned(), classifier.clone());
    let mut losses = Vec::new();
    teach(
        &own,
        (&alone, 40),
        (&pools, &mut |loss| losses.push(loss)),
        |step, which| lesson.gradients_alone(&scenes(&own, 2 * step + which), &classifier),
    )
    .unwrap();
    let mean = |some: &[f64]| some.iter().sum::<f64>() / some.iter().map(|_| 1.0).sum::<f64>();
    assert!(mean(&losses[35..]) < mean(&losses[..5]) - 0.5, "{losses:?}");

    // What is seen reaches the answer through the frozen model, and moves the projector alone with the encoder.
    let (loss, gradients) = lesson.gradients(&scenes(&own, 0), 4).unwrap();
    assert!(loss.is_finite());
    assert!(
        variables
            .values()
            .all(|variable| gradients.get(variable).is_some())
    );

    let report = VisionReport {
        recipe: own,
        vision_sha256: sha256(&recipe),
        parameters: 1,
        training_loss: loss,
        held_out_shares: vec![(1, lesson.share_named(1).unwrap())],
        seconds: 1.0,
    };
    assert!(!is_current(&recipe, root.path()));
    keep(&recipe, root.path(), (&variables, &report)).unwrap();
    assert!(is_current(&recipe, root.path()));
    let model = Model::load_whole(root.path()).unwrap();
    let encoder = VisionEncoder::load(root.path(), &model).unwrap();
    let scene = images::scene(1);
    let seen = encoder.encode(&scene.image, 4).unwrap();
    assert_eq!((seen.tokens(), seen.width()), (16, model.config().width));
    let refused = |image: &[u8], merge| encoder.encode(image, merge).unwrap_err().to_string();
    assert!(refused(&scene.image[1..], 4).contains("12287 bytes"));
    assert!(refused(&scene.image, 3).contains("3 patches"));

    let path = root.path().join(VISION_DIRECTORY).join(WEIGHTS_FILE);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let error = VisionEncoder::load(root.path(), &model).unwrap_err();
    assert!(error.to_string().contains("truncated"), "{error}");
    std::fs::remove_file(&path).unwrap();
    assert!(!is_current(&recipe, root.path()));
    assert!(VisionEncoder::load(root.path(), &model).is_err());
}
