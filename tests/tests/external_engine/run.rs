//! A load on a program of the experiment, as a user runs it: readiness, a shaped link, the record.

use std::fs;

use hexloop_tests::sandbox::Sandbox;
use hexloop_tests::summary::check;
use hexloop_tests::system::{System, exclusive};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_hexloop-under-test");
const ENGINE: &str = env!("CARGO_BIN_EXE_mock-engine");

/// A load at 30 ms of delay each way; `PROGRAM` and `READY` are to be filled in.
const EXPERIMENT: &str = r#"
schema = 1
name = "engine"
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
environment = { GREETING = "hello" }
ready = READY
lives = true
[[background]]
name = "telemetry"
job = "udp"
direction = "down"
rate = "1 Mbit/s"
[[background]]
name = "pages"
job = "tcp"
congestion_control = "reno"
direction = "down"
on = "100 ms"
off = "200 ms"
phases = ["asked"]
[[loads]]
name = "asked"
port = 8000
model = "plain"
arrivals = "constant"
rate = "10 /s"
prompt_words = { fixed = 20 }
output_tokens = { fixed = 5 }
arrive_for = "1 s"
deadline = "2 s"
duration = "3 s"
"#;

fn experiment(program: &[&str], ready: &str) -> String {
    let program = serde_json::to_string(program).unwrap();
    EXPERIMENT
        .replace("PROGRAM", &program)
        .replace("READY", ready)
}

#[test]
#[ignore = "needs root"]
fn a_load_beside_other_traffic_pays_for_its_delay_and_leaves_its_record() {
    let _alone = exclusive();
    let sandbox = Sandbox::new(BINARY);
    let before = System::look("");
    let script = format!("echo $GREETING; exec {ENGINE} 0.0.0.0:8000 5");
    let text = experiment(&["sh", "-c", &script], r#"{ http = "8000/health" }"#);
    sandbox.write("experiment.toml", text);
    let arguments = ["run", "experiment.toml", "--output", "output", "--json"];
    let finished = sandbox.run(240, arguments);
    assert!(
        matches!(finished.code(), Some(0 | 6)),
        "{}",
        finished.told()
    );
    before.expect_clean_within(30_000);
    let summary = finished.json();
    let directory = sandbox.path(summary["run_dir"].as_str().unwrap());
    let read = |name: &str| fs::read_to_string(directory.join(name)).unwrap();
    let plan = serde_json::from_str(&read("plan.json")).unwrap();
    let events: Vec<Value> = read("events.ndjson")
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    check(&summary, &plan, &events).unwrap_or_else(|problems| panic!("{}", problems.join("\n")));
    let load = &summary["loads"][0];
    // The first comes 100 ms after the phase's start, one a tenth of a second.
    assert_eq!(
        (&load["requests"], &load["completed"]),
        (&9.into(), &9.into())
    );
    assert_eq!(
        (&load["output_tokens"], &load["prompt_tokens"]),
        (&45.into(), &180.into())
    );
    // There and back, and the server's first gap; a connection that is opened takes as much again.
    assert!(load["ttft_ms"]["min"].as_f64() >= Some(65.0), "{load}");
    assert!(load["tpot_ms"]["p50"].as_f64() > Some(0.0), "{load}");
    assert!(load["uplink_over_downlink"].as_f64() > Some(0.0), "{load}");
    assert!(load["link_wire_bytes_up"].as_u64() > load["http_bytes_up"].as_u64());
    assert_eq!(read("exchanges.csv").lines().count(), 10);
    assert_eq!(read("requests.csv").lines().count(), 10);
    let logs = directory.join("logs");
    let logs = fs::read_dir(logs)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let said: String = logs.map(|path| fs::read_to_string(path).unwrap()).collect();
    assert!(
        said.contains("hello") && said.contains("listening at"),
        "{said}"
    );
    assert!(read("report.html").contains("Load asked"));
    let [telemetry, pages] = summary["background"].as_array().unwrap().as_slice() else {
        panic!("{}", summary["background"]);
    };
    let number = |of: &Value, key: &str| of[key].as_u64().unwrap();
    // 9824 bits a packet are 101 a second, for a second or so.
    assert!(number(telemetry, "sent_packets") > 20, "{telemetry}");
    let received = number(telemetry, "received_packets");
    assert!(received > 0 && received <= number(telemetry, "sent_packets"));
    assert_eq!(number(telemetry, "received_bytes"), 1200 * received);
    assert_eq!(pages["congestion_control"], "reno");
    assert!(number(pages, "received_bytes") > 0);
    assert!(number(pages, "received_bytes") <= number(pages, "sent_bytes"));
}

#[test]
#[ignore = "needs root"]
fn a_program_that_ends_or_is_never_ready_says_so() {
    let _alone = exclusive();
    let sandbox = Sandbox::new(BINARY);
    for (program, ready, said) in [
        (
            ["sh", "-c", "echo bad weights; exit 3"],
            r#"{ line = "listening" }"#,
            "engine ended too early, with exit status 3; it wrote last:\nbad weights",
        ),
        (
            ["sh", "-c", "echo loading; sleep 60"],
            r#"{ tcp = 8000, within = "500 ms" }"#,
            "engine was not ready: a connection to port 8000 within 0.5 s: 127.0.0.1:8000: ",
        ),
    ] {
        sandbox.write("experiment.toml", experiment(&program, ready));
        let arguments = ["run", "experiment.toml", "--output", "output"];
        let finished = sandbox.run(240, arguments);
        finished.expect_code(1).expect_error(&[said]);
    }
}
