//! What somebody else does to a link while a command runs behind it, in a network of the test's own.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use hexloop_agent::namespace::NetworkNamespace;
use hexloop_tests::sandbox::finish;
use hexloop_tests::system::exclusive;
use serde_json::Value;

use crate::harness::{LIMIT_S, Who, link};

/// A link whose command has begun, seen from the network that it ends in.
struct Disturbed {
    outside: NetworkNamespace,
    child: Child,
    told: Receiver<String>,
    /// The far end's interface.
    interface: String,
    directory: tempfile::TempDir,
}

fn output_of(network: &NetworkNamespace, line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let run = || Command::new(words[0]).args(&words[1..]).output().unwrap();
    let output = network.run(run).unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

impl Disturbed {
    /// Runs a script behind a link, after it has said where its far end is.
    fn begin(script: &str) -> Disturbed {
        let outside = NetworkNamespace::create().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let summary = directory.path().join("summary.json");
        let script = format!("echo $HEXLOOP_GATEWAY; {script}");
        let start = || {
            let mut command = link(
                Who::Root,
                &[
                    "--rate",
                    "20Mbit/s",
                    "--delay",
                    "1ms",
                    "--json",
                    summary.to_str().unwrap(),
                    "--",
                    "sh",
                    "-c",
                    &script,
                ],
            );
            command.stdin(std::process::Stdio::piped());
            command.spawn().unwrap()
        };
        let mut child = outside.run(start).unwrap();
        let mut line = String::new();
        let output = child.stdout.as_mut().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        let gateway = format!(" {}/", line.trim());
        let addresses = output_of(&outside, "ip -o -4 address show");
        let mut lines = addresses.lines();
        let own = lines.find(|line| line.contains(&gateway)).unwrap();
        let interface = own.split_whitespace().nth(1).unwrap().to_owned();
        let (tell, told) = channel();
        let errors = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || {
            for line in errors.lines() {
                // A test that has failed hears no more.
                let _ = tell.send(line.unwrap());
            }
        });
        Disturbed {
            outside,
            child,
            told,
            interface,
            directory,
        }
    }

    /// Does something to the far end, and waits until that is told.
    fn disturb(&mut self, what: &str, told: &str) {
        output_of(&self.outside, &what.replace("END", &self.interface));
        let expected = format!("interface {} {told}", self.interface);
        loop {
            let limit = Duration::from_secs(LIMIT_S);
            let line = self.told.recv_timeout(limit);
            let line = line.unwrap_or_else(|_| panic!("nobody told that the {expected}"));
            if line.contains(&expected) {
                assert!(line.starts_with("link: "), "{line}");
                assert!(
                    line.contains("leave interfaces whose names begin"),
                    "{line}"
                );
                return;
            }
        }
    }

    /// The summary and what was told last, once the program has ended with 125.
    fn end(self) -> (Value, String) {
        finish(self.child, LIMIT_S).expect_code(125);
        let text = fs::read_to_string(self.directory.path().join("summary.json")).unwrap();
        let left = output_of(&self.outside, "ip -o link show");
        assert_eq!(left.lines().count(), 1, "only lo is left: {left}");
        let told: Vec<String> = self.told.iter().collect();
        (serde_json::from_str(&text).unwrap(), told.join("\n"))
    }
}

fn expect_invalid(summary: &Value, told: &str) {
    assert_eq!(summary["verdict"], "invalid", "{summary}");
    assert!(told.contains("verdict: INVALID"), "{told}");
    assert!(told.contains("error: the link failed"), "{told}");
    // What a link that failed has not counted is no number.
    assert_eq!(summary["directions"][0]["packets"], Value::Null);
}

#[test]
#[ignore = "needs root"]
fn a_command_behind_a_link_that_goes_away_is_ended_with_all_that_it_started_and_told_why() {
    let _alone = exclusive();
    // The second one does not want to end.
    for (script, status) in [
        ("sleep 1000; echo after", 128 + 15),
        ("trap '' TERM; while :; do sleep 1000; done", 128 + 9),
    ] {
        let mut link = Disturbed::begin(script);
        link.disturb("ip link delete END", "went away");
        let (summary, told) = link.end();
        expect_invalid(&summary, &told);
        assert_eq!(summary["command_status"], status);
        let disturbances = summary["disturbances"].as_array().unwrap();
        assert_eq!(disturbances.len(), 1, "{disturbances:?}");
        assert_eq!(disturbances[0]["ended_command"], true);
        let what = disturbances[0]["what"].as_str().unwrap();
        assert!(what.contains("went away"), "{what}");
    }
}

#[test]
#[ignore = "needs root"]
fn a_change_of_mtu_or_name_and_an_end_that_is_down_are_told_at_once_and_the_command_goes_on() {
    let _alone = exclusive();
    let mut link = Disturbed::begin("read line; exit 7");
    link.disturb(
        "ip link set END mtu 1400",
        "was changed while it was in use: its MTU went from 1500 to 1400",
    );
    link.disturb("ip link set END down", "was taken down");
    link.disturb(
        "ip link set END name other0",
        "was changed while it was in use: it was renamed to other0",
    );
    let mut input = link.child.stdin.take().unwrap();
    input.write_all(b"\n").unwrap();
    let (summary, told) = link.end();
    expect_invalid(&summary, &told);
    assert_eq!(summary["command_status"], 7);
    let disturbances = summary["disturbances"].as_array().unwrap();
    assert_eq!(disturbances.len(), 3, "{disturbances:?}");
    let goes_on = |one: &Value| one["ended_command"] == false;
    assert!(disturbances.iter().all(goes_on), "{disturbances:?}");
}

#[test]
#[ignore = "needs root"]
fn a_link_that_was_changed_and_changed_back_is_not_what_was_asked_either() {
    let _alone = exclusive();
    let mut link = Disturbed::begin("read line");
    let told = "was changed while it was in use: its MTU went from 1500 to 1400";
    link.disturb("ip link set END mtu 1400", told);
    output_of(
        &link.outside,
        &format!("ip link set {} mtu 1500", link.interface),
    );
    let mut input = link.child.stdin.take().unwrap();
    input.write_all(b"\n").unwrap();
    let (summary, told) = link.end();
    assert_eq!(summary["verdict"], "invalid", "{summary}");
    assert!(told.contains("error: the link failed"), "{told}");
    // It carried packets all the time, and they were counted.
    assert!(summary["directions"][0]["packets"].is_u64(), "{summary}");
}
