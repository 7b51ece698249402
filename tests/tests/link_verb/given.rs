//! What a command behind a link has of whoever started the program: descriptors, limits, a trace.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use hexloop_tests::sandbox::{Finished, finish};
use hexloop_tests::system::exclusive;
use serde_json::Value;

use crate::harness::{LIMIT_S, Who, as_user, everybody, link, run, server};

/// What a shell does with the words of `hexloop link ARGUMENTS` as its own arguments.
pub(crate) fn by_a_shell(who: Who, script: &str, arguments: &[&str]) -> Finished {
    let asked = link(who, arguments);
    let mut command = Command::new("bash");
    command
        .args(["-c", script, "bash"])
        .arg(asked.get_program())
        .args(asked.get_args())
        .current_dir("/")
        .env_remove("SUDO_UID")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    as_user(who, &mut command);
    finish(command.spawn().unwrap(), LIMIT_S)
}

#[test]
fn descriptors_that_the_program_was_started_with_are_the_commands_and_no_others() {
    let _alone = exclusive();
    for who in everybody() {
        let count = "ls /proc/self/fd | wc -l";
        let script = format!(r#"exec 7<<<"from whoever started it"; {count}; exec "$@""#);
        let inside = format!("{count}; cat <&7");
        let finished = by_a_shell(who, &script, &["-q", "--", "bash", "-c", &inside]);
        finished.expect_code(0);
        // Whatever else the tests were started with is the same on both sides.
        let lines: Vec<&str> = finished.stdout.lines().collect();
        assert_eq!(lines[0], lines[1], "{who:?}: {lines:?}");
        assert_eq!(lines[2..], ["from whoever started it"], "{who:?}");
    }
}

#[test]
fn the_command_may_open_as_many_descriptors_as_whoever_started_the_program() {
    let _alone = exclusive();
    for who in everybody() {
        let script = r#"ulimit -Sn 321; exec "$@""#;
        let finished = by_a_shell(who, script, &["-q", "--", "sh", "-c", "ulimit -Sn"]);
        finished.expect_code(0);
        assert_eq!(finished.stdout, "321\n", "{who:?}");
    }
}

#[test]
fn a_recording_of_mahimahi_limits_the_direction_that_it_is_given_for() {
    let _alone = exclusive();
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    // One packet of 1500 bytes in a millisecond: 12 Mbit/s.
    fs::write(path("tram.down"), "1\n").unwrap();
    let (port, content) = server(1_500_000);
    let script = format!("exec 3<>/dev/tcp/$HEXLOOP_GATEWAY/{port}; echo get >&3; wc -c <&3");
    let json = path("summary.json");
    let down = path("tram.down");
    let arguments = [
        "--down", &down, "--slots", "1ms", "--json", &json, "--", "bash", "-c", &script,
    ];
    let finished = run(Who::Ordinary, &arguments);
    finished.expect_code(0);
    assert_eq!(finished.stdout.trim(), content.len().to_string());
    let summary: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    let limited = [0, 1].map(|place| summary["directions"][place]["limited"].as_bool());
    assert_eq!(limited, [Some(true), Some(false)], "{summary}");
    // 1.5 MB and the headers of its packets.
    let duration_s = summary["duration_s"].as_f64().unwrap();
    assert!(duration_s > 1.0, "{summary}");
    let notes = summary["notes"].to_string();
    assert!(
        !notes.contains("mahimahi"),
        "it was asked as mm-link has it: {notes}"
    );
}
