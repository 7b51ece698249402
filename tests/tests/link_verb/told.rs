//! Where the words go and what is written when something fails: the command's status is returned all the same.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Stdio;

use hexloop_tests::sandbox::{Finished, finish, pid_of, within_ms};
use hexloop_tests::system::exclusive;
use nix::sys::signal::{Signal, kill};
use serde_json::Value;

use crate::harness::{LIMIT_S, Who, everybody, link, run};

/// A directory that everybody may write to.
fn open_directory() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    directory
}

fn read(path: &str) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn words_that_nobody_can_read_change_neither_status_nor_summary() {
    let _alone = exclusive();
    let directory = open_directory();
    let json = directory.path().join("summary.json");
    let json = json.to_str().unwrap();
    let full = || Stdio::from(File::create("/dev/full").unwrap());
    let unread = || {
        let (_, writer) = std::io::pipe().unwrap();
        Stdio::from(writer)
    };
    let sinks: [&dyn Fn() -> Stdio; 2] = [&full, &unread];
    for sink in sinks {
        let arguments = ["--delay", "1ms", "--json", json, "--", "sh", "-c", "exit 3"];
        let mut command = link(Who::Ordinary, &arguments);
        command.stderr(sink());
        finish(command.spawn().unwrap(), LIMIT_S).expect_code(3);
        assert_eq!(read(json)["command_status"], 3);
        fs::remove_file(json).unwrap();
    }
}

#[test]
fn a_signal_that_comes_before_the_command_is_started_is_what_ends_it() {
    let _alone = exclusive();
    for who in everybody() {
        let directory = open_directory();
        let mark = directory.path().join("was-run");
        let mark = mark.to_str().unwrap();
        let mut command = link(who, &["--delay", "1ms", "--", "touch", mark]);
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        let pid = pid_of(&child);
        // From then on it is not killed by it, and has yet to make the link.
        let blocks = within_ms(10_000, || {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
            let mask = u64::from_str_radix(mask.unwrap().trim(), 16).unwrap();
            mask & 1 << (Signal::SIGTERM as i32 - 1) != 0
        });
        assert!(blocks);
        kill(pid, Signal::SIGTERM).unwrap();
        let finished = finish(child, LIMIT_S);
        finished
            .expect_code(130)
            .expect_error(&["SIGTERM came before the command was started"]);
        assert!(!fs::exists(mark).unwrap(), "{who:?}: it was run");
    }
}

#[test]
fn whatever_fails_the_summary_tells_it() {
    let _alone = exclusive();
    let directory = open_directory();
    let json = directory.path().join("summary.json");
    let json = json.to_str().unwrap();
    let expect_failed = |finished: &Finished, reason: &str| {
        finished.expect_code(125);
        let summary = read(json);
        assert_eq!(summary["verdict"], "invalid", "{summary}");
        assert!(summary["command_status"].is_null(), "{summary}");
        let reasons = summary["reasons"].to_string();
        assert!(reasons.contains(reason), "{reasons}");
    };
    let nobody = ["--json", json, "--peer", "/nonexistent/peer", "--", "true"];
    let finished = run(Who::Ordinary, &nobody);
    expect_failed(&finished, "cannot run the command at the far end");
    // What was written of another run does not stay.
    let bad = ["--json", json, "--down", "/nonexistent/trace", "--", "true"];
    let finished = run(Who::Ordinary, &bad);
    expect_failed(&finished, "/nonexistent/trace");
}

#[test]
fn a_log_that_cannot_be_written_costs_the_log_and_not_the_summary() {
    let _alone = exclusive();
    let directory = open_directory();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    symlink("/dev/full", path("link.csv")).unwrap();
    let (json, log) = (path("summary.json"), path(""));
    let arguments = [
        "--json",
        &json,
        "--log",
        &log,
        "--",
        "sh",
        "-c",
        "sleep 1; exit 3",
    ];
    let finished = run(Who::Ordinary, &arguments);
    finished
        .expect_code(125)
        .expect_error(&["verdict:", "link.csv", "No space left"]);
    assert_eq!(read(&json)["command_status"], 3);
}
