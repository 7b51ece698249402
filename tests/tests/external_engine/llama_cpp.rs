//! Loads against llama.cpp's own server, with a file that is written here.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use hexloop_tests::sandbox::Sandbox;
use hexloop_workloads::load::{Api, Arrivals, Length, Mix};

use crate::harness::{load, play_at};

const BINARY: &str = env!("CARGO_BIN_EXE_hexloop-under-test");

/// Serves a model at a port of its own choice, says where, and goes on until its input ends.
const SCRIPT: &str = r#"
import sys, xllamacpp as x
parameters = x.CommonParams()
parameters.model.path = sys.argv[1]
parameters.n_ctx = 2048
parameters.n_parallel = 4
parameters.cpuparams.n_threads = 1
parameters.warmup = False
server = x.Server(parameters)
print(server.listening_address, flush=True)
sys.stdin.read()
"#;

#[test]
#[ignore = "wants a Python with xllamacpp, named in HEXLOOP_LLAMA_CPP_PYTHON"]
fn llama_cpps_server_answers_completions_and_chats_as_its_records_say() {
    let Some(python) = std::env::var_os("HEXLOOP_LLAMA_CPP_PYTHON") else {
        println!("SKIPPED(llama.cpp) HEXLOOP_LLAMA_CPP_PYTHON names no Python with xllamacpp");
        return;
    };
    let sandbox = Sandbox::new(BINARY).with_shared_cache();
    let arguments = [
        "model", "quantize", "tiny", "--type", "Q8_0", "--output", "gguf",
    ];
    sandbox.run(120, arguments).expect_code(0);
    let mut server = Command::new(python)
        .args(["-c", SCRIPT])
        .arg(sandbox.path("gguf").join("model.gguf"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(server.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let address = said
        .find_map(|line| line.strip_prefix("http://").map(str::to_owned))
        .unwrap();
    let endpoint: SocketAddr = address.trim_end_matches('/').parse().unwrap();

    let moments_ns = vec![0; 6];
    let mut completions = load("tiny", Arrivals::Recorded { moments_ns });
    completions.output_tokens = Length::Fixed { count: 12 };
    completions.body = r#"{"ignore_eos": true}"#.to_owned();
    let mut chat = load("tiny", Arrivals::SingleStream);
    chat.api = Api::Chat;
    chat.mix = Mix::Chat {
        turns: Length::Fixed { count: 3 },
        pause_ns: 0,
    };
    chat.prompt_words = Length::Fixed { count: 4 };
    chat.body.clone_from(&completions.body);
    for (load, stop_after, least) in [(completions, None, 6), (chat, Some(6), 6)] {
        let tokens = load.output_tokens.largest();
        let told = play_at(endpoint, load, stop_after);
        let completed = told
            .exchanges
            .iter()
            .filter(|it| it.ending.name() == "completed");
        let completed: Vec<_> = completed.collect();
        assert!(completed.len() >= least, "{:?}", told.exchanges);
        for exchange in completed {
            assert_eq!(exchange.output_tokens, Some(tokens), "{exchange:?}");
            assert!(
                exchange.prompt_tokens > Some(0) && exchange.pieces > 0,
                "{exchange:?}"
            );
        }
        for record in told.records.iter().filter(|it| !it.token_ns.is_empty()) {
            let first_ms = (record.token_ns[0] - record.sent_ns) / 1_000_000;
            println!(
                "request {}: {} events, the first after {first_ms} ms, {} B up, {} B down",
                record.id,
                record.token_ns.len(),
                record.payload.up,
                record.payload.down
            );
        }
    }
    // Its input ends, and so does it.
    drop(server.stdin.take());
    server.wait().unwrap();
}
