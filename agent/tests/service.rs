//! The agent's service over its socket: who gets in, what is refused, and that it ends with its
//! owner.

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt};
    use std::os::unix::process::CommandExt;
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Stdio};

    use hexloop_agent::guardian;
    use hexloop_agent::process::{ProcessIdentity, SelfCommand};
    use hexloop_agent::serve::{self, ServeOptions};
    use hexloop_proto::PROTOCOL_VERSION;
    use hexloop_proto::service::agent_client::AgentClient;
    use hexloop_proto::service::{HelloRequest, PlayRequest};
    use hexloop_topologies::plan::PLAN_SCHEMA;
    use hexloop_workloads::clock;
    use hyper_util::rt::TokioIo;
    use tokio::net::UnixStream;
    use tonic::Code;
    use tonic::transport::{Channel, Endpoint, Uri};

    fn this_program() -> SelfCommand {
        let arguments = [
            "--exact",
            "tests::plays_the_part_it_is_given",
            "--nocapture",
            "--",
        ];
        SelfCommand::with_arguments(arguments.iter().map(Into::into).collect())
    }

    /// Not a test of its own: other tests start this program again to play a part.
    #[test]
    fn plays_the_part_it_is_given() {
        let arguments: Vec<String> = std::env::args().skip_while(|a| a != "--").skip(1).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        match arguments[..] {
            ["guard", "--ledger", ledger] => {
                guardian::run(Path::new(ledger)).unwrap();
            }
            ["serve", root] => {
                let root = Path::new(root);
                // Whoever holds the lease makes the socket's directory.
                let mut private = fs::DirBuilder::new();
                private.recursive(true).mode(0o700);
                private.create(root.join("private")).unwrap();
                let options = ServeOptions {
                    socket: root.join("private/agent.sock"),
                    state_directory: root.join("state"),
                    lease_on_stdin: true,
                    program: this_program(),
                    metrics: None,
                    meters: Vec::new(),
                    rate_hz: 100,
                };
                serve::run(&options).unwrap();
            }
            ["knock", socket] => block_on(async {
                let mut client = connect(PathBuf::from(socket)).await.unwrap();
                let hello = HelloRequest {
                    protocol_version: PROTOCOL_VERSION,
                };
                client.hello(hello).await.unwrap();
            }),
            _ => assert!(arguments.is_empty(), "{arguments:?}"),
        }
    }

    struct Agent {
        child: Child,
        socket: PathBuf,
    }

    fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
        let deadline = clock::now() + 60_000_000_000;
        while !condition() {
            assert!(clock::now() < deadline, "{what}");
            clock::sleep_until(clock::now() + 2_000_000);
        }
    }

    fn start(root: &Path) -> Agent {
        let mut command = this_program().part("serve");
        let child = command
            .arg(root)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let socket = root.join("private/agent.sock");
        wait_until("the agent listens", || {
            fs::metadata(&socket).is_ok_and(|m| m.permissions().mode() & 0o777 == 0o600)
        });
        Agent { child, socket }
    }

    async fn connect(socket: PathBuf) -> Result<AgentClient<Channel>, tonic::transport::Error> {
        let connector = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
        });
        let endpoint = Endpoint::from_static("http://agent.invalid");
        Ok(AgentClient::new(
            endpoint.connect_with_connector(connector).await?,
        ))
    }

    fn block_on<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(work)
    }

    #[test]
    #[ignore = "needs root"]
    fn wrong_versions_and_broken_plans_are_refused_and_a_broken_run_says_that_it_is_down() {
        let root = tempfile::tempdir().unwrap();
        let mut agent = start(root.path());
        let directory = fs::metadata(agent.socket.parent().unwrap()).unwrap();
        assert_eq!(directory.permissions().mode() & 0o777, 0o700);
        block_on(async {
            let mut client = connect(agent.socket.clone()).await.unwrap();
            let hello = |protocol_version| HelloRequest { protocol_version };
            let reply = client
                .hello(hello(PROTOCOL_VERSION))
                .await
                .unwrap()
                .into_inner();
            assert_eq!(reply.protocol_version, PROTOCOL_VERSION);
            let refused = client.hello(hello(PROTOCOL_VERSION + 1)).await.unwrap_err();
            assert_eq!(refused.code(), Code::FailedPrecondition);
            assert!(refused.message().contains("same version"), "{refused}");
            let play = |plan_json: &[u8]| PlayRequest {
                plan_json: plan_json.to_vec(),
                traces: Vec::new(),
                model_directory: "/nowhere".to_owned(),
                draft_model_directory: String::new(),
                capture: None,
            };
            let refused = client.play(play(b"{}")).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument);
            let empty_plan = format!("{{\"schema\":{PLAN_SCHEMA},{EMPTY_PLAN}");
            // Two in a row: the second is taken only because the first is down completely.
            for _ in 0..2 {
                let mut events = client
                    .play(play(empty_plan.as_bytes()))
                    .await
                    .unwrap()
                    .into_inner();
                let mut told = Vec::new();
                while let Some(event) = events.message().await.unwrap() {
                    told.push(String::from_utf8(event.event_json).unwrap());
                }
                let failed = told
                    .iter()
                    .find(|event| event.contains(r#""event":"failed""#));
                assert!(failed.unwrap().contains("model directory"), "{told:?}");
                let last = told.last().unwrap();
                assert!(
                    last.contains(r#""event":"taken-down","leftovers":[]"#),
                    "{last}"
                );
            }
        });
        drop(agent.child.stdin.take());
        assert!(agent.child.wait().unwrap().success());
        assert!(!agent.socket.exists());
        assert_eq!(
            fs::read_dir(root.path().join("state/ledgers"))
                .unwrap()
                .count(),
            0
        );
    }

    #[test]
    #[ignore = "needs root"]
    fn a_user_other_than_the_agent_s_own_is_not_let_in() {
        let root = tempfile::tempdir().unwrap();
        let mut agent = start(root.path());
        // Even where the file modes would allow it.
        for path in [root.path(), agent.socket.parent().unwrap(), &agent.socket] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
        }
        let program = root.path().join("program");
        fs::copy("/proc/self/exe", &program).unwrap();
        for (user, let_in) in [(65_534, false), (0, true)] {
            let mut command = Command::new(&program);
            let status = command
                .args([
                    "--exact",
                    "tests::plays_the_part_it_is_given",
                    "--",
                    "knock",
                ])
                .arg(&agent.socket)
                .uid(user)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .unwrap();
            assert_eq!(status.success(), let_in, "user {user}");
        }
        drop(agent.child.stdin.take());
        agent.child.wait().unwrap();
    }

    #[test]
    #[ignore = "needs root"]
    fn a_killed_agent_leaves_no_socket_and_no_ledger() {
        let root = tempfile::tempdir().unwrap();
        let mut agent = start(root.path());
        let identity = ProcessIdentity::of(agent.child.id()).unwrap();
        agent.child.kill().unwrap();
        agent.child.wait().unwrap();
        assert!(!identity.is_alive());
        wait_until("the socket is removed", || !agent.socket.exists());
        let ledgers = root.path().join("state/ledgers");
        wait_until("the ledger is removed", || {
            fs::read_dir(&ledgers).unwrap().count() == 0
        });
    }

    /// What an empty plan holds, after its schema.
    const EMPTY_PLAN: &str = r#""experiment":"empty","preset":null,"seed":1,
        "nodes":[],"links":[],"cells":[],"uncalibrated":[],"traffic":[],"events":[],
        "calibration":{"flow_ns":0,"packet_payload_bytes":0,"probe_gap_ns":0,"window_ns":0},
        "model":{"source":{"recipe":"tiny"},"layers":1,"width":1,"bytes_per_activation":4},
        "phases":[],"commands":[],
        "verdict":{"rate_error_ppm":0,"delay_error_ns":0,"delay_error_ppm":0,
        "shaper_lateness_ns":0,"send_lateness_ppm":0,"backlogged_windows":0,"relay_cpu_ppm":0},
        "expectations":[],"faults":{"stop_relay_ns":0,"scale_rate_ppm":0,"add_delay_ns":0,
        "delay_sends_ns":0,"burn_relay_cpu":false}}"#;
}
