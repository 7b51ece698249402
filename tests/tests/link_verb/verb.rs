//! What the command is, gets and returns, and what is written of its link.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use hexloop_tests::pcapng::comments;
use hexloop_tests::sandbox::{Sandbox, finish, pid_of};
use hexloop_tests::system::{System, exclusive, marker};
use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use serde_json::Value;

use crate::harness::{
    BINARY, LIMIT_S, NOBODY, ROUND_TRIP, Who, everybody, link, numbers, run, server,
};

#[test]
fn the_status_of_the_command_is_returned_and_failures_of_the_link_are_125() {
    let _alone = exclusive();
    for who in everybody() {
        for (command, status) in [
            (&["true"][..], 0),
            (&["sh", "-c", "exit 7"], 7),
            (&["sh", "-c", "kill -9 $$"], 137),
            (&["sh", "-c", "kill -TERM $$"], 143),
            (&["/nonexistent/program"], 127),
            (&["/tmp"], 126),
        ] {
            let mut arguments = vec!["--quiet", "--"];
            arguments.extend(command);
            run(who, &arguments).expect_code(status);
        }
    }
}

#[test]
fn bad_input_is_125_and_says_what_to_write() {
    let sandbox = Sandbox::new(BINARY);
    sandbox.write("back.down", "5\n3\n");
    sandbox.write("bad.csv", "# {}\n");
    sandbox.write("empty.down", "\n");
    for (arguments, expected) in [
        (&["--rate", "100"][..], "100 Mbit/s"),
        (&["--rate", "0Mbit/s"], "no rate"),
        (&["--rate", "-5Mbit/s"], "`-5Mbit/s` is not a data rate"),
        (&["--delay", "ten"], "20 ms"),
        (&["--loss", "200%"], "1 %"),
        (&["--loss", "90%", "--loss-burst", "2"], "at least 9000"),
        (&["--queue", "20p"], "--rate"),
        (&["--reorder"], "--jitter"),
        (&["--ecn", "--rate", "5Mbit/s"], "codel"),
        (&["--queue-discipline", "pie"], "--rate"),
        (&["--mtu", "20000"], "9000"),
        (&["ping", "127.0.0.1"], "write `--` before the command"),
        (
            &["--rate", "5Mbit/s", "--queue", "20p,30p"],
            "give one of them in bytes",
        ),
        (&["--down", "missing.down"], "missing.down"),
        (&["--down", "back.down"], "back.down:2:1:"),
        (&["--down", "bad.csv"], "bad.csv:1:"),
        (&["--down", "empty.down"], "empty.down: nothing is in it"),
        (&["--json", "missing/summary.json"], "missing/summary.json"),
        (&["--log", "/proc/none"], "/proc/none"),
        (&["--peer", "'unclosed"], "not closed"),
        (&["--datapath", "magic"], "relay"),
    ] {
        let mut all = vec!["link"];
        all.extend(arguments);
        all.extend(["--", "true"]);
        let finished = sandbox.run(LIMIT_S, all);
        finished.expect_code(125).expect_error(&[expected]);
    }
}

#[test]
fn the_command_is_the_same_user_with_its_environment_and_input_and_no_privileges() {
    let _alone = exclusive();
    for who in everybody() {
        let script = "id -u; pwd; cat; echo $SOMETHING; grep -E '^(CapPrm|CapEff|CapBnd|NoNewPrivs)' \
                      /proc/self/status | cut -f2; echo gateway $HEXLOOP_GATEWAY $HEXLOOP_GATEWAY6";
        let mut command = link(who, &["--quiet", "--", "sh", "-c", script]);
        command.env("SOMETHING", "passed on").stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"typed\n").unwrap();
        let finished = finish(child, LIMIT_S);
        finished.expect_code(0);
        let user = match who {
            Who::Ordinary if geteuid().is_root() => NOBODY,
            _ => geteuid().as_raw(),
        };
        let none = "0000000000000000";
        // ping and its like may be started, and gain nothing.
        let marks = "0000000000003400";
        let lines: Vec<&str> = finished.stdout.lines().collect();
        let expected = [
            &user.to_string(),
            "/",
            "typed",
            "passed on",
            none,
            none,
            marks,
            "1",
        ];
        assert_eq!(lines[..8], expected, "{}", finished.told());
        assert!(
            lines[8].starts_with("gateway 198.19."),
            "{}",
            finished.told()
        );
        assert!(lines[8].contains(" fd68:6c6b:"), "{}", finished.told());
    }
}

#[test]
fn delays_of_links_in_links_add_up_and_every_stage_is_reached() {
    let _alone = exclusive();
    for who in everybody() {
        let innermost = format!(
            "{ROUND_TRIP} round_trip $HEXLOOP_GATEWAY third; round_trip $SECOND second; \
             round_trip $FIRST first; round_trip $FIRST6 first6"
        );
        let script = "FIRST=$HEXLOOP_GATEWAY FIRST6=$HEXLOOP_GATEWAY6 exec $HEXLOOP link -q \
                      --delay 20ms -- sh -c 'SECOND=$HEXLOOP_GATEWAY exec $HEXLOOP link -q \
                      --delay 30ms -- bash -c \"$INNERMOST\"'";
        let mut command = link(who, &["-q", "--delay", "10ms", "--", "sh", "-c", script]);
        command.env("INNERMOST", innermost);
        let finished = finish(command.spawn().unwrap(), LIMIT_S);
        finished.expect_code(0);
        let found = numbers(&finished.stdout);
        let least_us = [60_000, 100_000, 120_000, 120_000];
        assert_eq!(found.len(), least_us.len(), "{}", finished.told());
        for ((stage, us), least_us) in found.iter().zip(least_us) {
            assert!(
                *us >= least_us,
                "{who:?} {stage}: {us} us; {}",
                finished.told()
            );
        }
    }
}

#[test]
fn stages_next_to_each_other_have_their_relays_on_cpus_of_their_own() {
    let _alone = exclusive();
    if std::thread::available_parallelism().unwrap().get() < 2 {
        println!("SKIPPED(one CPU) there is nothing to choose");
        return;
    }
    for who in everybody() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let [outer, inner] = ["outer.json", "inner.json"].map(|name| directory.path().join(name));
        let script = "exec $HEXLOOP link -q --delay 1ms --json $INNER -- true";
        let outer_path = outer.to_str().unwrap();
        let arguments = [
            "-q", "--delay", "1ms", "--json", outer_path, "--", "sh", "-c",
        ];
        let mut command = link(who, &arguments);
        command
            .arg(script)
            .env("INNER", &inner)
            .env_remove("HEXLOOP_DEPTH");
        let finished = finish(command.spawn().unwrap(), LIMIT_S);
        finished.expect_code(0);
        let cpus = [outer, inner].map(|path| {
            let summary: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
            assert_eq!(summary["relay_mode"], "exact", "{summary}");
            let cpus = summary["relay_cpus"].as_array().unwrap().clone();
            assert_eq!(cpus.len(), 1, "{summary}");
            cpus
        });
        assert_ne!(cpus[0], cpus[1], "{who:?}");
    }
}

#[test]
fn links_that_know_nothing_of_each_other_have_their_relays_on_cpus_of_their_own() {
    let _alone = exclusive();
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let allowed = (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap());
    let allowed: Vec<usize> = allowed.collect();
    let last = *allowed.last().unwrap();
    if allowed.len() < 2 {
        println!("SKIPPED(one CPU) there is nothing to choose");
        return;
    }
    for who in everybody() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let in_there = |arguments: &[&str]| {
            let mut command = link(who, arguments);
            command
                .env("XDG_RUNTIME_DIR", directory.path())
                .env_remove("HEXLOOP_DEPTH")
                .env_remove("HEXLOOP_RELAY_CPU");
            command
        };
        let cpu_of_another = |name: &str| {
            let json = directory.path().join(name);
            let path = json.to_str().unwrap();
            let command = in_there(&["-q", "--delay", "1ms", "--json", path, "--", "true"]).spawn();
            finish(command.unwrap(), LIMIT_S).expect_code(0);
            let summary: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
            let cpus = summary["relay_cpus"].as_array().unwrap().clone();
            assert_eq!(cpus.len(), 1, "{summary}");
            usize::try_from(cpus[0].as_u64().unwrap()).unwrap()
        };
        let script = "echo runs; read -r _";
        let mut first = in_there(&["-q", "--delay", "1ms", "--", "sh", "-c", script]);
        let mut first = first.stdin(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        let output = first.stdout.as_mut().unwrap();
        BufReader::new(output).read_line(&mut said).unwrap();
        assert_eq!(said, "runs\n", "{who:?}");
        assert_ne!(cpu_of_another("beside.json"), last, "{who:?}");
        // Killed, it has no time to give anything back.
        first.kill().unwrap();
        first.wait().unwrap();
        assert_eq!(cpu_of_another("after.json"), last, "{who:?}");
    }
}

#[test]
fn a_shell_is_run_where_no_command_is_given_and_its_status_returned() {
    let _alone = exclusive();
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let shell = directory.path().join("shell");
    let script = "#!/bin/sh\nread -r typed\necho \"$# $typed $HEXLOOP_LINK\"\nexit 9\n";
    fs::write(&shell, script).unwrap();
    fs::set_permissions(&shell, fs::Permissions::from_mode(0o755)).unwrap();
    for who in everybody() {
        // Who names no shell gets one all the same.
        for (shell, typed, status, printed) in [
            (
                shell.to_str().unwrap(),
                "hello\n",
                9,
                "0 hello link options\n",
            ),
            ("", "echo $HEXLOOP_LINK; exit 7\n", 7, "link options\n"),
        ] {
            let mut command = link(who, &["-q", "--delay", "1ms"]);
            command
                .env("SHELL", shell)
                .env_remove("HEXLOOP_LINK")
                .stdin(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let mut input = child.stdin.take().unwrap();
            input.write_all(typed.as_bytes()).unwrap();
            drop(input);
            let finished = finish(child, LIMIT_S);
            finished.expect_code(status);
            assert_eq!(finished.stdout, printed, "{who:?} {}", finished.told());
        }
    }
}

#[test]
fn a_file_crosses_the_forwarder_whole_and_a_refused_port_is_refused() {
    let _alone = exclusive();
    let (port, content) = server(3_000_000);
    let script = format!(
        "exec 3<>/dev/tcp/$HEXLOOP_GATEWAY/{port}; echo get >&3; cat <&3; exec 3<&-; \
         (exec 3<>/dev/tcp/$HEXLOOP_GATEWAY/9) 2>&1 | grep -q 'Connection refused' && \
         echo as refused as without it >&2"
    );
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let json = directory.path().join("summary.json");
    let arguments = [
        "--delay",
        "3ms",
        "--json",
        json.to_str().unwrap(),
        "--",
        "bash",
        "-c",
        &script,
    ];
    let mut child = link(Who::Ordinary, &arguments).spawn().unwrap();
    let mut got = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut got).unwrap();
    let finished = finish(child, LIMIT_S);
    finished
        .expect_code(0)
        .expect_error(&["as refused as without it", "forwarder: at most"]);
    assert!(
        got == content,
        "{} bytes differ from {}",
        got.len(),
        content.len()
    );
    let summary: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert_eq!(summary["mode"], "forwarder");
    assert_eq!(summary["command_status"], 0);
    for limit in ["limit_down_bps", "limit_up_bps"] {
        assert!(
            summary["forwarder"][limit].as_u64().unwrap() > 0,
            "{summary}"
        );
    }
    assert_eq!(summary["forwarder"]["refused"], 1);
    let down = &summary["directions"][0];
    assert!(
        down["wire_bytes"].as_u64().unwrap() > 3_000_000,
        "{summary}"
    );
}

#[test]
fn a_signal_to_the_program_reaches_the_command() {
    let _alone = exclusive();
    for who in everybody() {
        let script = "trap 'exit 42' TERM; echo ready; while :; do sleep 0.02; done";
        let mut child = link(who, &["-q", "--", "sh", "-c", script])
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = child.stdout.as_mut().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        kill(pid_of(&child), Signal::SIGTERM).unwrap();
        finish(child, LIMIT_S).expect_code(42);
    }
}

#[test]
fn kill_9_leaves_nothing_behind() {
    let _alone = exclusive();
    for who in everybody() {
        let marker = marker();
        let before = System::look(&marker);
        // What it leaves in the background is in a session of its own.
        let script = "setsid sleep 1000 & echo ready; exec sleep 1000";
        let mut child = link(
            who,
            &[
                "-q",
                "--peer",
                "sleep 1000",
                "--",
                "sh",
                "-c",
                script,
                &marker,
            ],
        )
        .spawn()
        .unwrap();
        let mut line = String::new();
        let output = child.stdout.as_mut().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        assert!(!System::look(&marker).since(&before).is_empty());
        kill(pid_of(&child), Signal::SIGKILL).unwrap();
        child.wait().unwrap();
        before.expect_clean_within(30_000);
    }
}

#[test]
fn the_peer_lives_at_the_far_end_until_the_command_ends() {
    let _alone = exclusive();
    for who in everybody() {
        let peer = "sh -c 'echo from $HEXLOOP_PEER; sleep 1000'";
        let script = format!("{ROUND_TRIP} round_trip $HEXLOOP_PEER peer; echo $HEXLOOP_GATEWAY");
        let finished = run(
            who,
            &[
                "-q", "--delay", "5ms", "--peer", peer, "--", "bash", "-c", &script,
            ],
        );
        finished.expect_code(0).expect_error(&["from 198.19."]);
        let lines: Vec<&str> = finished.stdout.lines().collect();
        assert_eq!(lines.len(), 2, "{}", finished.told());
        assert_eq!(lines[1], "");
        assert!(numbers(lines[0])[0].1 >= 10_000, "{}", finished.told());
        // What cannot be run there is told, and the command is not started.
        let line = ["--peer", "/nonexistent/peer", "--", "echo", "started"];
        let finished = run(who, &line);
        finished
            .expect_code(125)
            .expect_error(&["far end", "No such file"]);
        assert_eq!(finished.stdout, "");
    }
}

#[test]
fn every_packet_is_captured_with_when_it_came_was_due_and_left() {
    let _alone = exclusive();
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let captures = directory.path().join("captures");
    let script = format!("{ROUND_TRIP} round_trip $HEXLOOP_GATEWAY once");
    let path = captures.to_str().unwrap();
    let arguments = [
        "--delay", "5ms", "--pcap", path, "--", "bash", "-c", &script,
    ];
    run(Who::Ordinary, &arguments)
        .expect_code(0)
        .expect_error(&["packets captured"]);
    for name in ["link-down.pcapng", "link-up.pcapng"] {
        let (comments, torn) = comments(&fs::read(captures.join(name)).unwrap()).unwrap();
        assert_eq!(torn, 0, "{name}");
        // Nothing of what was measured before the command was started.
        assert!(comments.len() < 100, "{name}: {} packets", comments.len());
        let delayed = comments
            .iter()
            .filter(|comment| comment.contains("held 5000000 ns"));
        assert!(delayed.count() > 0, "{name}: {comments:#?}");
    }
}

#[test]
fn the_log_has_the_columns_of_a_run_and_adds_up_to_what_crossed() {
    let _alone = exclusive();
    let (port, content) = server(400_000);
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let log = directory.path().join("log");
    let script =
        format!("exec 3<>/dev/tcp/$HEXLOOP_GATEWAY/{port}; echo get >&3; cat <&3 >/dev/null");
    let arguments = [
        "-q",
        "--rate",
        "4Mbit/s",
        "--queue",
        "30p",
        "--log",
        log.to_str().unwrap(),
        "--",
        "bash",
        "-c",
        &script,
    ];
    run(Who::Ordinary, &arguments).expect_code(0);
    let table = fs::read_to_string(log.join("link.csv")).unwrap();
    let mut lines = table.lines();
    let columns = "phase,link,direction,start_ns,length_ns,trace_bytes,delivered_bytes,\
                   delivered_packets,backlogged,queue_bytes,dropped_packets,lost_packets,\
                       marked_packets,duplicated_packets,corrupted_packets";
    assert_eq!(lines.next(), Some(columns));
    let down = lines
        .map(|line| line.split(',').collect::<Vec<_>>())
        .filter(|cells| cells[2] == "down")
        .map(|cells| cells[6].parse::<usize>().unwrap());
    assert!(down.sum::<usize>() >= content.len() * 9 / 10, "{table}");
}
