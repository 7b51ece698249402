//! Hugging Face transformers as an independent implementation of every model of the family.

use std::process::Command;

use super::family::{family, random_model, scores, tokens};

/// Loads a model in f32 and prints its scores of every token of the vocabulary after every token.
const SCRIPT: &str = r#"
import json, sys, torch, transformers
torch.set_num_threads(1)
model = transformers.AutoModelForCausalLM.from_pretrained(
    sys.argv[1], dtype=torch.float32, attn_implementation="eager")
with torch.no_grad():
    scores = model(torch.tensor([json.loads(sys.argv[2])])).logits[0]
print(json.dumps({"class": type(model).__name__, "version": transformers.__version__,
                  "scores": scores.tolist()}))
"#;

#[test]
#[ignore = "wants a Python with transformers and torch, named in HEXLOOP_TRANSFORMERS_PYTHON"]
fn transformers_scores_every_token_as_the_engine_does() {
    let Some(python) = std::env::var_os("HEXLOOP_TRANSFORMERS_PYTHON") else {
        println!("SKIPPED(transformers) HEXLOOP_TRANSFORMERS_PYTHON names no Python with it");
        return;
    };
    for (name, config) in family() {
        let directory = random_model(&config);
        let output = Command::new(&python)
            .args(["-c", SCRIPT])
            .arg(directory.path())
            .arg(format!("{:?}", tokens()))
            .output()
            .expect("starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{name}: {said}");
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(answer["class"], config.architecture.class(), "{name}");
        let ours = scores(directory.path(), &tokens());
        let theirs = answer["scores"].as_array().expect("positions");
        assert_eq!(theirs.len(), ours.len());
        let largest = ours.iter().flatten().fold(0.0_f32, |a, b| a.max(b.abs()));
        let mut furthest = 0.0_f64;
        for (ours, theirs) in ours.iter().zip(theirs) {
            let theirs = theirs.as_array().expect("scores");
            assert_eq!(theirs.len(), ours.len());
            for (ours, theirs) in ours.iter().zip(theirs) {
                let apart = f64::from(*ours) - theirs.as_f64().expect("a number");
                furthest = furthest.max(apart.abs());
            }
        }
        let furthest = furthest / f64::from(largest);
        let version = &answer["version"];
        println!("{name}: {furthest:.2e} of the largest score apart, transformers {version}");
        assert!(furthest < 2e-5, "{name}: {furthest}");
    }
}
