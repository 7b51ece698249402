//! llama.cpp's own server as a program of an experiment, asked over a shaped link, as a user runs it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use hexloop_tests::sandbox::Sandbox;
use hexloop_tests::summary::check;
use hexloop_tests::system::{System, exclusive};
use serde_json::{Value, json};

const BINARY: &str = env!("CARGO_BIN_EXE_hexloop-under-test");

/// The user that root's jobs run as, unless the machine's owner names another.
const NOBODY: u32 = 65_534;

/// Serves a model at port 8000 of all addresses, says who and where it is, and goes on until it is killed.
const SERVER: &str = r#"
import json, os, signal, sys
import xllamacpp
parameters = xllamacpp.CommonParams()
parameters.model.path = sys.argv[1]
parameters.hostnames = ["0.0.0.0"]
parameters.port = 8000
parameters.n_ctx = 1024
parameters.n_parallel = 2
parameters.cpuparams.n_threads = int(os.environ["SERVER_THREADS"])
parameters.warmup = False
server = xllamacpp.Server(parameters)
with open("/proc/self/status") as status:
    capabilities = [line.split()[1] for line in status if line.startswith("CapEff:")]
print("serving " + json.dumps({
    "user": os.getuid(),
    "capabilities": int(capabilities[0], 16),
    "cpus": sorted(os.sched_getaffinity(0)),
    "network": os.readlink("/proc/self/ns/net"),
    "threads": parameters.cpuparams.n_threads,
}), flush=True)
signal.pause()
"#;

/// Five requests, at 30 ms of delay each way; `PROGRAM` is to be filled in.
const EXPERIMENT: &str = r#"
schema = 1
name = "llama-cpp"
[traces.constant.steps]
rates = ["20 Mbit/s"]
delay = "30 ms"
[nodes.device]
[nodes.edge]
[[links]]
name = "radio"
between = ["device", "edge"]
trace = "constant"
datapath = "relay"
[[commands]]
name = "engine"
node = "edge"
argv = PROGRAM
environment = { SERVER_THREADS = "1" }
ready = { http = "8000/health", within = "60 s" }
lives = true
[[loads]]
name = "asked"
port = 8000
model = "tiny"
arrivals = "constant"
rate = "2 /s"
prompt_words = { fixed = 20 }
output_tokens = { fixed = 12 }
body = '{"ignore_eos": true}'
arrive_for = "3 s"
deadline = "10 s"
duration = "20 s"
"#;

/// The round trip of that link.
const ROUND_TRIP_MS: f64 = 60.0;

/// Why a job cannot run this Python; `None` if it can.
fn why_not(python: &OsStr) -> Option<String> {
    if Path::new(python).starts_with("/tmp") {
        return Some("it lies below /tmp, where nodes have their own".to_owned());
    }
    let mut command = Command::new(python);
    command.args(["-c", "import xllamacpp"]).current_dir("/");
    match command.uid(NOBODY).gid(NOBODY).output() {
        Err(error) => Some(format!(
            "{NOBODY}, the user of jobs, cannot run it: {error}"
        )),
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

#[test]
#[ignore = "needs root"]
fn llama_cpps_server_on_a_node_is_asked_over_a_link_and_the_record_says_how_it_answered() {
    let Some(python) = std::env::var_os("HEXLOOP_LLAMA_CPP_PYTHON") else {
        println!("SKIPPED(llama.cpp) HEXLOOP_LLAMA_CPP_PYTHON names no Python with xllamacpp");
        return;
    };
    if let Some(why) = why_not(&python) {
        println!("SKIPPED(llama.cpp) the Python in HEXLOOP_LLAMA_CPP_PYTHON is no job's: {why}");
        return;
    }
    let _alone = exclusive();
    let sandbox = Sandbox::new(BINARY).with_shared_cache();
    // Nodes see no /tmp but their own, and jobs are nobody's.
    let shown = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    fs::set_permissions(shown.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let (model, server) = (shown.path().join("gguf"), shown.path().join("server.py"));
    fs::write(&server, SERVER).unwrap();
    let quantize = ["model", "quantize", "tiny", "--type", "Q8_0", "--output"];
    let quantize = quantize.iter().map(OsStr::new).chain([model.as_os_str()]);
    sandbox.run(120, quantize).expect_code(0);
    let weights = model.join("model.gguf");
    let program = [
        python.to_str().unwrap(),
        server.to_str().unwrap(),
        weights.to_str().unwrap(),
    ];
    let text = EXPERIMENT.replace("PROGRAM", &serde_json::to_string(&program).unwrap());

    let before = System::look("");
    let summary = sandbox.play(&text, &[]).json();
    before.expect_clean_within(30_000);
    let directory = sandbox.path(summary["run_dir"].as_str().unwrap());
    let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
    let plan: Value = serde_json::from_str(&read("plan.json")).unwrap();
    let events: Vec<Value> = read("events.ndjson")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    check(&summary, &plan, &events).unwrap_or_else(|problems| panic!("{}", problems.join("\n")));
    expect_a_job(&plan, &read("logs/edge.engine.log"));
    expect_answers(&summary);
    assert_eq!(read("exchanges.csv").lines().count(), 6);
    assert_eq!(read("requests.csv").lines().count(), 6);
}

/// The server ran as programs of an experiment do: unprivileged, on its node's CPUs, in its node's network, with the
/// environment that it was given.
fn expect_a_job(plan: &Value, said: &str) {
    let serving = said
        .lines()
        .find_map(|line| line.strip_prefix("serving "))
        .unwrap_or_else(|| panic!("the server never said that it serves:\n{said}"));
    let serving: Value = serde_json::from_str(serving).unwrap();
    assert_ne!(serving["user"], 0, "{serving}");
    assert_eq!(serving["capabilities"], 0, "{serving}");
    assert_eq!(serving["threads"], 1, "{serving}");
    let nodes = plan["nodes"].as_array().unwrap();
    let edge = nodes.iter().find(|node| node["name"] == "edge").unwrap();
    assert_eq!(serving["cpus"], edge["cpus"], "{serving}");
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    assert_ne!(serving["network"], json!(own.to_str().unwrap()));
}

/// Every request was answered with as many tokens as it asked for, by way of the link.
fn expect_answers(summary: &Value) {
    let load = &summary["loads"][0];
    let number = |key: &str| load[key].as_u64().unwrap();
    // The first comes 500 ms after the phase's start, two in a second.
    assert_eq!(number("requests"), 5, "{load}");
    assert_eq!(load["endings"], json!({ "completed": 5 }), "{load}");
    assert_eq!((number("completed"), number("failed")), (5, 0), "{load}");
    assert_eq!(number("output_tokens"), 60, "{load}");
    assert_eq!(number("counted_by_server"), 5, "{load}");
    assert!(number("prompt_tokens") > 0, "{load}");
    for first in ["first_byte_ms", "ttft_ms", "ttft_from_send_ms"] {
        assert!(load[first]["min"].as_f64() >= Some(ROUND_TRIP_MS), "{load}");
    }
    assert!(number("http_bytes_up") > 0 && number("http_bytes_down") > 0);
    assert!(
        number("link_wire_bytes_up") > number("http_bytes_up"),
        "{load}"
    );
    assert!(
        number("link_wire_bytes_down") > number("http_bytes_down"),
        "{load}"
    );
    let checks = summary["checks"].as_array().unwrap();
    let lateness = checks.iter().find(|check| {
        check["subject"] == "asked"
            && check["quantity"] == "send lateness p99 of the load generator"
    });
    let measured = lateness.and_then(|check| check["measured"].as_str());
    assert!(
        measured.is_some_and(|text| text.contains("(n = 5)")),
        "{checks:?}"
    );
}
