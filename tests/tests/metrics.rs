//! The page of metrics of a real agent: who may see it, what is on it, and Prometheus itself asked
//! with every query of the dashboard.

#![forbid(unsafe_code)]

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpListener, TcpStream};
    use std::process::{Child, Command, Stdio};
    use std::time::Duration;

    use hexloop_nvml_stub::{GpuScript, Script};
    use hexloop_tests::sandbox::{Sandbox, finish};
    use hexloop_tests::system::exclusive;
    use hexloop_workloads::clock;
    use serde_json::Value;

    const BINARY: &str = env!("CARGO_BIN_EXE_hexloop-under-test");
    const DASHBOARD: &str = include_str!("../../agent/telemetry/grafana/hexloop.json");
    const PATIENCE_NS: u64 = 60_000_000_000;

    fn free_address() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    }

    /// A process that is killed when the test ends, however it ends.
    struct Killed(Child);

    impl Drop for Killed {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// A whole answer to one request.
    fn ask(address: SocketAddr, request: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let head = format!("{request} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Asks until there is an answer that will do.
    #[track_caller]
    fn ask_until(address: SocketAddr, request: &str, will_do: impl Fn(&str) -> bool) -> String {
        let until = clock::now() + PATIENCE_NS;
        loop {
            let answer = ask(address, request).unwrap_or_else(|error| error.to_string());
            if will_do(&answer) {
                return answer;
            }
            assert!(clock::now() < until, "{request}: {answer}");
            clock::sleep_until(clock::now() + 50_000_000);
        }
    }

    fn agent(sandbox: &Sandbox, arguments: &[&str]) -> Command {
        let socket = sandbox.path("runtime/agent");
        let socket = socket.to_str().unwrap();
        let mut words = vec!["agent", "serve", "--lease-on-stdin", "--socket", socket];
        words.extend(arguments);
        let script = Script {
            gpus: vec![GpuScript {
                processes: vec![(0, 0, 1, 1 << 30)],
                ..GpuScript::default()
            }],
            ..Script::default()
        };
        let library = std::env::current_exe()
            .unwrap()
            .with_file_name("libhexloop_nvml_stub.so");
        let text = serde_json::to_vec(&script).unwrap();
        let mut command = sandbox.command(words);
        command
            .env("HEXLOOP_NVML_STUB", sandbox.write("gpu.json", text))
            .env("HEXLOOP_NVML_LIBRARY", library)
            .stdin(Stdio::piped());
        command
    }

    #[test]
    #[ignore = "needs root"]
    fn an_agent_shows_what_it_meters_and_lines_of_external_meters_to_who_asks_rightly() {
        let _alone = exclusive();
        let sandbox = Sandbox::new(BINARY);
        let (page, lines) = (free_address(), free_address());
        let (on, meter) = (page.to_string(), format!("plug=tcp:{lines}"));
        let serving = agent(&sandbox, &["--metrics", &on, "--meter", &meter]).spawn();
        let _serving = Killed(serving.unwrap());
        let good = ask_until(page, "GET /metrics", |answer| answer.contains("200 OK"));
        assert!(
            good.contains("content-type: text/plain; version=0.0.4"),
            "{good}"
        );
        assert!(
            good.contains("hw_energy_joules_total{hw_id=\"GPU-00000000-"),
            "{good}"
        );
        assert!(
            good.contains("of=\"plug, average power, external meter\""),
            "{good}"
        );
        assert!(good.contains("it has sent no reading yet"), "{good}");
        assert!(ask(page, "GET /").unwrap().starts_with("HTTP/1.1 404"));
        assert!(
            ask(page, "POST /metrics")
                .unwrap()
                .starts_with("HTTP/1.1 405")
        );

        let mut plug = TcpStream::connect(lines).unwrap();
        plug.write_all(b"- 41.5\nnonsense\n").unwrap();
        let fed = ask_until(page, "GET /metrics", |answer| {
            answer.contains("hexloop_average_power_watts{hw_id=\"plug\"")
        });
        assert!(fed.contains("hexloop_external_lines_total{meter=\"plug\",outcome=\"refused\"} 1"));
        drop(plug);

        // A second agent finds both ports taken; and nobody sees an open page by accident.
        let other = Sandbox::new(BINARY);
        let second = finish(agent(&other, &["--metrics", &on]).spawn().unwrap(), 60);
        second.expect_code(4);
        second.expect_error(&["cannot show metrics on 127.0.0.1:", "choose another with"]);
        let second = finish(agent(&other, &["--meter", &meter]).spawn().unwrap(), 60);
        second.expect_code(4);
        second.expect_error(&["cannot take lines of the external meter plug"]);
        let open = finish(
            agent(&other, &["--metrics", "0.0.0.0:9"]).spawn().unwrap(),
            60,
        );
        open.expect_code(4);
        open.expect_error(&["could be read from elsewhere", "agent.toml"]);
        let wrong = finish(agent(&other, &["--meter", "plug"]).spawn().unwrap(), 60);
        wrong.expect_code(2);
        wrong.expect_error(&["--meter: expected NAME=unix:PATH"]);
    }

    #[test]
    #[ignore = "needs root, prometheus"]
    fn prometheus_understands_every_query_of_the_dashboard_and_finds_data() {
        let _alone = exclusive();
        let sandbox = Sandbox::new(BINARY);
        let (page, lines, server) = (free_address(), free_address(), free_address());
        let meter = format!("plug=tcp:{lines}");
        let arguments = ["--metrics", &page.to_string(), "--meter", &meter];
        let _serving = Killed(agent(&sandbox, &arguments).spawn().unwrap());
        ask_until(page, "GET /metrics", |answer| answer.contains("200 OK"));
        let mut plug = TcpStream::connect(lines).unwrap();
        plug.write_all(b"- 41.5\n").unwrap();
        let configuration = format!(
            "scrape_configs:\n- job_name: hexloop\n  scrape_interval: 1s\n  static_configs:\n  \
             - targets: ['{page}']\n"
        );
        let configuration = sandbox.write("prometheus.yml", configuration);
        fs::create_dir(sandbox.path("series")).unwrap();
        let prometheus = Command::new("prometheus")
            .arg(format!("--config.file={}", configuration.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                sandbox.path("series").display()
            ))
            .arg(format!("--web.listen-address={server}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let _prometheus = Killed(prometheus.unwrap());
        // Rates take two scrapes.
        let query = |text: &str| {
            let text = text.replace("$__rate_interval", "1m");
            let bytes = text.bytes().map(|byte| format!("%{byte:02x}"));
            format!("GET /api/v1/query?query={}", bytes.collect::<String>())
        };
        let has_data = |answer: &str| answer.contains("\"value\":[");
        ask_until(
            server,
            &query("rate(hexloop_meter_reads_total[1m])"),
            has_data,
        );
        let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
        let panels = dashboard["panels"].as_array().unwrap();
        let (mut found, mut empty) = (0, Vec::new());
        for panel in panels {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let text = target["expr"].as_str().unwrap();
                let answer = ask(server, &query(text)).unwrap();
                assert!(
                    answer.contains("\"status\":\"success\""),
                    "{text}: {answer}"
                );
                if has_data(&answer) {
                    found += 1;
                } else {
                    empty.push(text.to_owned());
                }
            }
        }
        // What an agent shows only while a plan plays, and what this machine may lack: no cpufreq,
        // no pressure, nothing estimated.
        let may_be_empty = |text: &String| {
            [
                "container_",
                "node_throttled",
                "system_cpu_frequency",
                "pressure",
                "estimated",
            ]
            .iter()
            .any(|part| text.contains(part))
        };
        empty.retain(|text| !may_be_empty(text));
        assert!(empty.is_empty(), "no data for {empty:#?}");
        assert!(found > 15, "{found} queries had data");
    }
}
