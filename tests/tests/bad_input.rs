//! Bad input of every kind: a clear error with its remedy, the documented exit code, and nothing
//! left behind. Each test hands its input to `hexloop run`, which must refuse it before anything
//! is made.

#![forbid(unsafe_code)]

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use hexloop_tests::experiment::{QUICKSTART, quickstart_with};
    use hexloop_tests::sandbox::{Finished, Sandbox, finish};
    use hexloop_tests::system::{System, exclusive};

    const BINARY: &str = env!("CARGO_BIN_EXE_hexloop-under-test");

    /// Runs an experiment that must be refused with this code, these words on standard error, and
    /// nothing left.
    #[track_caller]
    fn refused(text: &str, code: i32, words: &[&str]) {
        let sandbox = Sandbox::new(BINARY);
        refused_in(&sandbox, text, code, words);
    }

    #[track_caller]
    fn refused_in(sandbox: &Sandbox, text: &str, code: i32, words: &[&str]) {
        let _alone = exclusive();
        let before = System::look("");
        sandbox.write("experiment.toml", text);
        let output = sandbox.output();
        let output = output.to_str().unwrap();
        let finished = sandbox.run(
            180,
            ["run", "experiment.toml", "--output", output, "--json"],
        );
        finished.expect_code(code).expect_error(words);
        assert!(finished.stdout.is_empty(), "{}", finished.told());
        before.expect_clean_within(30_000);
        expect_empty(&sandbox.output());
        expect_empty(&sandbox.path("runtime"));
    }

    #[track_caller]
    fn expect_empty(directory: &Path) {
        let left: Vec<_> = fs::read_dir(directory).unwrap().flatten().collect();
        assert!(left.is_empty(), "left in {}: {left:?}", directory.display());
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place_and_a_suggestion() {
        let text = quickstart_with(&[("cpu_quota = \"50", "cpu_qouta = \"50")]);
        refused(&text, 3, &["experiment.toml:", "cpu_qouta", "cpu_quota"]);
    }

    #[test]
    fn a_wrong_unit_is_refused_with_its_place() {
        let text = quickstart_with(&[("duration = \"20 s\"", "duration = \"20 kB\"")]);
        refused(&text, 3, &["experiment.toml:", "20 kB"]);
    }

    #[test]
    fn every_mistake_is_told_at_once() {
        let text = quickstart_with(&[
            ("cpu_quota = \"50", "cpu_qouta = \"50"),
            ("duration = \"20 s\"", "duration = \"20 kB\""),
        ]);
        refused(&text, 3, &["cpu_qouta", "20 kB"]);
    }

    #[test]
    fn a_missing_trace_is_refused_by_name() {
        refused(
            &with_trace_file("no-such-trace.csv"),
            3,
            &["no-such-trace.csv"],
        );
    }

    fn with_trace_file(name: &str) -> String {
        let file = format!("[traces.street]\nfile = \"{name}\"\n\n");
        let text = quickstart_with(&[(generator(), &file)]);
        // The presets change the generator that is no longer there.
        text.split("\n# Presets").next().unwrap().to_owned()
    }

    /// The section of the file that generates the trace.
    fn generator() -> &'static str {
        let start = QUICKSTART.find("[traces.street]\n").unwrap();
        let end = QUICKSTART.find("# The device is slow").unwrap();
        &QUICKSTART[start..end]
    }

    #[test]
    fn a_trace_that_goes_back_in_time_is_refused_with_file_and_row() {
        let sandbox = Sandbox::new(BINARY);
        let generated = sandbox.run(180, ["trace", "gen", "step", "--duration", "60 s"]);
        generated.expect_code(0);
        let mut lines: Vec<&str> = generated.stdout.lines().collect();
        let rows = lines.len();
        assert!(rows > 6, "{}", generated.told());
        lines.swap(rows - 2, rows - 3);
        sandbox.write("backwards.csv", lines.join("\n") + "\n");
        let words = ["backwards.csv", "back"];
        refused_in(&sandbox, &with_trace_file("backwards.csv"), 3, &words);
    }

    #[test]
    fn an_undeclared_node_is_refused_with_the_declared_ones() {
        let text = quickstart_with(&[("[\"device\", \"edge\"]", "[\"device\", \"egde\"]")]);
        refused(&text, 3, &["experiment.toml:", "egde", "edge"]);
    }

    #[test]
    fn a_cut_beyond_the_layers_is_refused_with_the_number_of_layers() {
        let text = quickstart_with(&[("layers_on_device = 2", "layers_on_device = 99")]);
        refused(&text, 3, &["experiment.toml:", "99"]);
    }

    #[test]
    fn a_link_to_itself_is_refused() {
        let text = quickstart_with(&[("[\"device\", \"edge\"]", "[\"edge\", \"edge\"]")]);
        refused(&text, 3, &["experiment.toml:", "edge"]);
    }

    #[test]
    fn a_file_that_is_not_there_is_refused_by_name() {
        let sandbox = Sandbox::new(BINARY);
        let finished = sandbox.run(180, ["run", "nowhere.toml"]);
        finished.expect_code(3).expect_error(&["nowhere.toml"]);
    }

    #[test]
    fn an_unknown_option_is_a_matter_of_usage() {
        let sandbox = Sandbox::new(BINARY);
        sandbox
            .run(180, ["run", "x.toml", "--no-such-option"])
            .expect_code(2);
    }

    /// A tokenizer of the sixteen first letters.
    const TOKENIZER: &str = r#"{"version":"1.0","truncation":null,"padding":null,
        "added_tokens":[],"normalizer":null,"pre_tokenizer":null,"post_processor":null,
        "decoder":null,"model":{"type":"BPE","dropout":null,"unk_token":null,
        "continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,
        "byte_fallback":false,"vocab":{"a":0,"b":1,"c":2,"d":3,"e":4,"f":5,"g":6,"h":7,"i":8,
        "j":9,"k":10,"l":11,"m":12,"n":13,"o":14,"p":15},"merges":[]}}"#;

    /// A checkpoint whose weights end early.
    fn truncated_checkpoint(sandbox: &Sandbox) -> String {
        let directory = sandbox.path("checkpoint");
        fs::create_dir(&directory).unwrap();
        let config = r#"{"architectures":["LlamaForCausalLM"],"model_type":"llama",
            "hidden_size":8,"intermediate_size":16,"num_hidden_layers":2,"num_attention_heads":2,
            "num_key_value_heads":1,"head_dim":4,"vocab_size":16,"max_position_embeddings":512,
            "rms_norm_eps":1e-5,"rope_theta":10000.0,"tie_word_embeddings":true,
            "hidden_act":"silu","bos_token_id":0,"eos_token_id":1,"torch_dtype":"float32"}"#;
        fs::write(directory.join("config.json"), config).unwrap();
        fs::write(directory.join("tokenizer.json"), TOKENIZER).unwrap();
        let header = r#"{"model.embed_tokens.weight":{"dtype":"F32","shape":[16,8],"data_offsets":[0,512]}}"#;
        let mut weights = u64::try_from(header.len()).unwrap().to_le_bytes().to_vec();
        weights.extend_from_slice(header.as_bytes());
        weights.extend_from_slice(&[0; 100]);
        fs::write(directory.join("model.safetensors"), weights).unwrap();
        directory.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_truncated_model_is_refused_by_file() {
        let sandbox = Sandbox::new(BINARY);
        let directory = truncated_checkpoint(&sandbox);
        let checkpoint = format!("directory = \"{directory}\"");
        let text = quickstart_with(&[
            ("recipe = \"tiny\"", &checkpoint),
            ("layers_on_device = 2", "layers_on_device = 1"),
        ]);
        refused_in(&sandbox, &text, 3, &["model.safetensors"]);
    }

    #[test]
    fn a_second_agent_on_the_same_socket_is_refused() {
        let sandbox = Sandbox::new(BINARY);
        let _alone = exclusive();
        let before = System::look("");
        let socket = sandbox.path("runtime/agent.sock");
        let arguments = ["agent", "serve", "--socket", socket.to_str().unwrap()];
        let mut first = sandbox.command(arguments).spawn().unwrap();
        let is_there = hexloop_tests::sandbox::within_ms(60_000, || socket.exists());
        let second = sandbox.run(180, arguments);
        first.kill().unwrap();
        first.wait().unwrap();
        assert!(is_there, "the first agent made no socket");
        assert_eq!(second.code(), Some(4), "{}", second.told());
        second.expect_error(&["agent.sock"]);
        before.expect_clean_within(30_000);
    }

    /// Runs the quickstart through a shell that first changes what the process may do.
    #[track_caller]
    fn run_after(sandbox: &Sandbox, wrapper: &[&str], script: &str) -> Finished {
        sandbox.write("experiment.toml", QUICKSTART);
        let plain = sandbox.command([""; 0]);
        let mut command = Command::new(wrapper[0]);
        command
            .args(&wrapper[1..])
            .args(["sh", "-c", script, "sh"])
            .arg(sandbox.binary());
        command.args([
            "run",
            "experiment.toml",
            "--preset",
            "smoke",
            "--output",
            "output",
        ]);
        command.current_dir(sandbox.path(""));
        command.envs(
            plain
                .get_envs()
                .filter_map(|(key, value)| Some((key, value?))),
        );
        command.stdin(std::process::Stdio::null());
        command
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped());
        finish(command.spawn().unwrap(), 180)
    }

    #[test]
    #[ignore = "needs root"]
    fn without_any_privilege_the_error_says_how_to_allow_it() {
        let sandbox = Sandbox::new(BINARY);
        let _alone = exclusive();
        let before = System::look("");
        // The model is not there, and a minute of training it would be in vain.
        // An ordinary user in whose user namespace no further one may be made.
        let wrapper = [
            "unshare",
            "--user",
            "--map-user=1000",
            "--map-group=1000",
            "--keep-caps",
        ];
        let script = "echo 0 >/proc/sys/user/max_user_namespaces && \
            exec setpriv --ambient-caps=-all --inh-caps=-all --no-new-privs -- \"$@\"";
        let finished = run_after(&sandbox, &wrapper, script);
        finished
            .expect_code(4)
            .expect_error(&["user namespace", "max_user_namespaces"]);
        before.expect_clean_within(30_000);
        for made in ["output", "cache", "state", "runtime"] {
            expect_empty(&sandbox.path(made));
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn a_full_disk_is_told_before_anything_is_made() {
        let sandbox = Sandbox::new(BINARY);
        let _alone = exclusive();
        let before = System::look("");
        let script = "mount -t tmpfs -o size=64k tmpfs output && exec \"$@\"";
        let finished = run_after(&sandbox, &["unshare", "--mount"], script);
        finished.expect_code(4).expect_error(&["output", "space"]);
        before.expect_clean_within(30_000);
    }
}
