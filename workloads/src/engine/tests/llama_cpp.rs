//! llama.cpp as an independent implementation: it runs the files written here, and scores the next
//! token as the engine does.

use std::io::Write as _;
use std::process::{Command, Stdio};

use super::family::{family, random_model, tokens};
use super::micro;
use crate::engine::Model;
use crate::engine::gguf::{BlockType, quantise};
use crate::model_config::ModelConfig;

/// Loads a model, and answers a line of JSON with token ids by a line with the 20 likeliest next
/// tokens and the logarithms of their probabilities.
const SCRIPT: &str = r#"
import json, sys, urllib.request, xllamacpp as x
parameters = x.CommonParams()
parameters.model.path = sys.argv[1]
parameters.n_ctx = 64
parameters.n_parallel = 1
parameters.cpuparams.n_threads = 1
parameters.warmup = False
# Its flash attention and its cache round to 16 bits, which alone moves scores by some thousandths.
parameters.cache_type_k = parameters.cache_type_v = x.ggml_type.GGML_TYPE_F32
parameters.flash_attn_type = x.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
server = x.Server(parameters)
for line in sys.stdin:
    # A printable next token, since half a character is not answered; probabilities are as before it.
    question = {"prompt": json.loads(line), "n_predict": 1, "n_probs": 20, "cache_prompt": False,
                "logit_bias": [[66, 1000]]}
    request = urllib.request.Request(server.listening_address + "/completion",
                                     json.dumps(question).encode(),
                                     {"Content-Type": "application/json"})
    answer = json.loads(urllib.request.urlopen(request, timeout=60).read())
    found = answer["completion_probabilities"][0]["top_logprobs"]
    print(json.dumps([[one["id"], one["logprob"]] for one in found]), flush=True)
"#;

/// The logarithm of each token's probability.
fn logarithms(scores: &[f32]) -> Vec<f64> {
    let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers = scores.iter().map(|score| f64::from(score - largest).exp());
    let total = f64::from(largest) + powers.sum::<f64>().ln();
    scores
        .iter()
        .map(|score| f64::from(*score) - total)
        .collect()
}

/// The logarithm of each token's probability after some others.
fn last_logarithms(model: &Model, tokens: &[u32]) -> Vec<f64> {
    let hidden = model.embed(tokens).expect("embeds");
    let mut cache = model.new_cache();
    let hidden = model.forward(&hidden, 0, &mut cache).expect("runs");
    logarithms(&model.logits(&hidden).expect("scores").pop().expect("some"))
}

#[test]
#[ignore = "wants a Python with xllamacpp, named in HEXLOOP_LLAMA_CPP_PYTHON"]
fn llama_cpp_scores_the_next_token_as_the_engine_does() {
    let Some(python) = std::env::var_os("HEXLOOP_LLAMA_CPP_PYTHON") else {
        println!("SKIPPED(llama.cpp) HEXLOOP_LLAMA_CPP_PYTHON names no Python with xllamacpp");
        return;
    };
    for (name, config) in family() {
        // llama.cpp knows no window of its llama architecture.
        if config.sliding_window.is_some() {
            continue;
        }
        let config = ModelConfig {
            width: 256,
            heads: 16,
            kv_heads: 8,
            feed_forward: 512,
            ..config
        };
        let original = random_model(&config);
        let tokenizer = original.path().join("tokenizer.json");
        std::fs::copy(micro().join("tokenizer.json"), tokenizer).expect("copied");
        let full = Model::load_whole(original.path()).expect("loads");
        for block_type in BlockType::ALL {
            let root = tempfile::tempdir().expect("made");
            let written = root.path().join("written");
            quantise(original.path(), block_type, &written).expect("written");
            let model = Model::load_whole(&written).expect("loads");
            let prefixes = [1, 7, 20, 40].map(|length| tokens()[..length].to_vec());
            let lines = prefixes.iter().map(|prefix| format!("{prefix:?}\n"));
            let mut peer = Command::new(&python)
                .args(["-c", SCRIPT])
                .arg(written.join("model.gguf"))
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("starts");
            let mut input = peer.stdin.take().expect("piped");
            input
                .write_all(lines.collect::<String>().as_bytes())
                .expect("written");
            drop(input);
            let output = peer.wait_with_output().expect("ended");
            let answers = String::from_utf8_lossy(&output.stdout);
            let answers: Vec<Vec<(usize, f64)>> = answers
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok())
                .collect();
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(answers.len(), prefixes.len(), "{name} {block_type}: {said}");
            let (mut furthest, mut rounding) = (0.0_f64, 0.0_f64);
            for (prefix, answer) in prefixes.iter().zip(&answers) {
                let (ours, exact) = (
                    last_logarithms(&model, prefix),
                    last_logarithms(&full, prefix),
                );
                assert_eq!(answer.len(), 20);
                for (token, theirs) in answer {
                    furthest = furthest.max((ours[*token] - theirs).abs());
                    rounding = rounding.max((ours[*token] - exact[*token]).abs());
                }
            }
            println!("{name} {block_type}: {furthest:.5} nats apart, {rounding:.5} by rounding");
            // Both multiply blocks with activations of 8 bits, rounded in their own ways, and llama.cpp
            // rounds activations to 16 bits in front of weights of 16: they are no further apart than
            // rounding puts each of them from the exact scores.
            let bound = match block_type {
                BlockType::F32 => 1e-4,
                _ => 2.0 * rounding,
            };
            assert!(furthest < bound, "{name} {block_type}: {furthest}, {bound}");
        }
    }
}
