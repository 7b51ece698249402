//! `hexloop model exits` as a user calls it: what it writes and tells, what it refuses, and that a run takes no
//! exits of another model.

#![forbid(unsafe_code)]

#[cfg(test)]
mod tests {
    use std::fs;

    use hexloop_tests::sandbox::{Finished, Sandbox};
    use hexloop_tests::system::{System, exclusive};

    const BINARY: &str = env!("CARGO_BIN_EXE_hexloop-under-test");

    /// The shape of a checkpoint so small that nothing takes long.
    const SHAPE: &str = r#"{"architectures":["LlamaForCausalLM"],"model_type":"llama",
        "hidden_size":32,"intermediate_size":64,"num_hidden_layers":3,"num_attention_heads":2,
        "num_key_value_heads":1,"head_dim":16,"vocab_size":384,"max_position_embeddings":512,
        "rms_norm_eps":1e-5,"rope_theta":10000.0,"tie_word_embeddings":true,
        "hidden_act":"silu","bos_token_id":0,"eos_token_id":1,"torch_dtype":"float32"}"#;

    const PARAGRAPH: &str = "The bridge was closed, and the carts went the long way.\n\n";

    const FILES: [&str; 2] = ["exits.safetensors", "exits.json"];

    /// A text, and checkpoints with weights of these seeds: `model-1`, ...
    fn with_checkpoints(seeds: &[u32]) -> Sandbox {
        let sandbox = Sandbox::new(BINARY);
        sandbox.write("config.json", SHAPE);
        sandbox.write("text.txt", PARAGRAPH.repeat(20));
        for seed in seeds {
            let (seed, output) = (seed.to_string(), format!("model-{seed}"));
            let arguments = [
                "model",
                "random",
                "config.json",
                "--seed",
                &seed,
                "--output",
                &output,
            ];
            sandbox.run(60, arguments).expect_code(0);
        }
        sandbox
    }

    /// Trains exits in a few steps, with these arguments more.
    #[track_caller]
    fn train<'a>(sandbox: &Sandbox, more: impl IntoIterator<Item = &'a str>) -> Finished {
        let usual = ["model", "exits", "--steps", "2", "--sequence", "16"];
        sandbox.run(120, usual.into_iter().chain(more))
    }

    #[test]
    fn exits_are_written_beside_the_weights_which_stay_as_they_are() {
        let sandbox = with_checkpoints(&[1]);
        let weights = || fs::read(sandbox.path("model-1/random-weights.json")).unwrap();
        let before = weights();
        let finished = train(&sandbox, ["model-1", "--text", "text.txt", "--json"]);
        let told = finished.expect_code(0).json();
        let layers: Vec<_> = told["exits"].as_array().unwrap().iter().collect();
        assert_eq!(layers.len(), 2, "{told}");
        for (exit, layer) in layers.into_iter().zip([1, 2]) {
            assert_eq!(exit["layer"], layer, "{told}");
            let agreement = exit["agreement"].as_f64().unwrap();
            assert!((0.0..=1.0).contains(&agreement), "{told}");
        }
        assert_eq!(told["recipe"]["steps"], 2, "{told}");
        assert!(told["held_out_tokens"].as_u64() > Some(0), "{told}");
        let info = sandbox.run(60, ["model", "info", "model-1", "--json"]);
        let info = info.expect_code(0).json();
        assert_eq!(told["weights_sha256"], info["weights_sha256"]);

        let kept = fs::read_to_string(sandbox.path("model-1/exits.json")).unwrap();
        let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
        assert_eq!(kept, told);
        assert!(sandbox.path("model-1/exits.safetensors").is_file());
        assert_eq!(weights(), before);
    }

    #[test]
    fn exits_go_where_they_are_wanted_after_the_layers_that_are_named() {
        let sandbox = with_checkpoints(&[1]);
        let arguments = [
            "model-1",
            "--text",
            "text.txt",
            "--layers",
            "2",
            "--output",
            "elsewhere",
        ];
        let finished = train(&sandbox, arguments);
        finished.expect_code(0);
        for part in ["elsewhere", "which no exit has learnt from", "after     2"] {
            assert!(finished.stdout.contains(part), "{}", finished.told());
        }
        assert!(
            !finished.stdout.contains("after     1"),
            "{}",
            finished.told()
        );
        for file in FILES {
            assert!(sandbox.path("elsewhere").join(file).is_file());
            assert!(!sandbox.path("model-1").join(file).exists());
        }
    }

    #[test]
    fn what_cannot_be_trained_is_refused_with_its_reason_and_leaves_nothing() {
        let sandbox = with_checkpoints(&[1]);
        sandbox.write("short.txt", "too short");
        let text = ["--text", "text.txt"];
        let refused = |arguments: &[&str], code: i32, words: &[&str]| {
            let finished = train(&sandbox, arguments.iter().copied());
            finished.expect_code(code).expect_error(words);
            assert!(finished.stdout.is_empty(), "{}", finished.told());
            for file in FILES {
                assert!(!sandbox.path("model-1").join(file).exists(), "{file}");
            }
        };
        let of = |more: &[&'static str]| [&["model-1"][..], &text[..], more].concat();
        refused(&of(&["--layers", "1,3"]), 3, &["layer 3", "choose 1 to 2"]);
        refused(&of(&["--layers", "first"]), 2, &["--layers"]);
        refused(&["model-1"], 2, &["--text"]);
        let missing = ["model-1", "--text", "nowhere.txt"];
        refused(&missing, 3, &["nowhere.txt"]);
        let short = ["model-1", "--text", "short.txt"];
        refused(&short, 3, &["short.txt", "a longer text"]);
        let nowhere = ["nowhere", "--text", "text.txt"];
        refused(&nowhere, 3, &["nowhere", "config.json"]);
        let recipe = ["tiny", "--text", "text.txt"];
        refused(&recipe, 3, &["built-in model tiny", "--output"]);
        let untrained = ["tiny", "--text", "text.txt", "--output", "elsewhere"];
        refused(&untrained, 1, &["hexloop model train tiny"]);
        assert!(!sandbox.path("elsewhere").exists());
    }

    #[test]
    fn no_steps_and_sequences_beyond_the_models_positions_are_refused() {
        let sandbox = with_checkpoints(&[1]);
        let usual = ["model", "exits", "model-1", "--text", "text.txt"];
        for (option, value, code, words) in [
            ("--steps", "0", 2, "--steps"),
            ("--sequence", "513", 3, "choose 1 to 512"),
        ] {
            let finished = sandbox.run(60, usual.into_iter().chain([option, value]));
            finished.expect_code(code).expect_error(&[words]);
        }
    }

    #[test]
    fn exits_that_are_there_are_not_written_over() {
        let sandbox = with_checkpoints(&[1]);
        for file in FILES {
            let path = sandbox.path("model-1").join(file);
            fs::write(&path, "mine").unwrap();
            let finished = train(&sandbox, ["model-1", "--text", "text.txt"]);
            finished
                .expect_code(3)
                .expect_error(&[file, "not written over"]);
            assert_eq!(fs::read(&path).unwrap(), b"mine");
            fs::remove_file(&path).unwrap();
        }
    }

    /// A study of early exits on a checkpoint, `MODEL`.
    const EXPERIMENT: &str = r#"
schema = 1
name = "exits"
[traces.constant.steps]
rates = ["20 Mbit/s"]
delay = "5 ms"
[nodes.device]
[nodes.edge]
[[links]]
name = "radio"
between = ["device", "edge"]
trace = "constant"
[model]
directory = "MODEL"
[[studies]]
name = "exits"
technique = "early-exit"
path = ["device", "edge"]
cuts = ["1"]
thresholds = ["50 %"]
prompts = 1
prompt_tokens = 8
output_tokens = 4
round_trips = ["10 ms"]
rates = ["5 Mbit/s"]
limit = "20 s"
"#;

    #[test]
    fn a_run_refuses_exits_of_another_model_of_the_same_shape() {
        let _alone = exclusive();
        let sandbox = with_checkpoints(&[1, 2]);
        train(&sandbox, ["model-1", "--text", "text.txt"]).expect_code(0);
        for file in FILES {
            fs::copy(
                sandbox.path("model-1").join(file),
                sandbox.path("model-2").join(file),
            )
            .unwrap();
        }
        let hash = |model: &str| {
            let info = sandbox.run(60, ["model", "info", model, "--json"]);
            let told = info.expect_code(0).json();
            told["weights_sha256"].as_str().unwrap()[..12].to_owned()
        };
        let before = System::look("");
        let model = sandbox.path("model-2");
        let text = EXPERIMENT.replace("MODEL", model.to_str().unwrap());
        sandbox.write("experiment.toml", text);
        let arguments = ["run", "experiment.toml", "--output", "output", "--json"];
        let finished = sandbox.run(180, arguments);
        let file = model.join("exits.json");
        finished.expect_code(3).expect_error(&[
            file.to_str().unwrap(),
            &hash("model-1"),
            &hash("model-2"),
            "hexloop model exits",
        ]);
        assert!(finished.stdout.is_empty(), "{}", finished.told());
        before.expect_clean_within(30_000);
    }
}
