//! What crosses the forwarder of an ordinary user: datagrams, half-closed connections and broken
//! ones arrive as what they are.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use hexloop_tests::sandbox::Finished;
use hexloop_tests::system::exclusive;
use serde_json::Value;

use crate::given::by_a_shell;
use crate::harness::{Who, everybody, run, this_program};
use crate::part::{break_off, words};

/// Only a failure waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Plays a part behind a link; its summary.
fn played(who: Who, part: &[&str]) -> (Finished, Value) {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let json = directory.path().join("summary.json");
    let mut arguments = vec!["--delay", "2ms", "--json", json.to_str().unwrap(), "--"];
    let program = this_program();
    arguments.extend(words(&program, part));
    let finished = run(who, &arguments);
    finished.expect_code(0);
    let summary = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    (finished, summary)
}

/// Answers one connection, and hands over what became of it.
fn one_connection<T: Send + 'static>(
    talk: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (String, Receiver<T>) {
    // Everywhere: as root the command comes over an interface, not over the loopback.
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = channel();
    thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // A test that has failed does not listen.
        drop(tell.send(talk(stream)));
    });
    (port.to_string(), told)
}

#[test]
fn datagrams_come_back_through_the_forwarder_and_nobody_refuses() {
    let _alone = exclusive();
    let port = echo();
    let (finished, summary) = played(Who::Ordinary, &["datagrams", &port]);
    assert_eq!(summary["mode"], "forwarder", "{}", finished.told());
    assert_eq!(summary["forwarder"]["flows"], 2, "{summary}");
    assert_eq!(summary["forwarder"]["refused"], 1, "{summary}");
}

/// Answers every datagram with itself; the port.
fn echo() -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    thread::spawn(move || {
        let mut datagram = vec![0; 65_536];
        while let Ok((length, from)) = socket.recv_from(&mut datagram) {
            assert_eq!(socket.send_to(&datagram[..length], from).unwrap(), length);
        }
    });
    port
}

/// Plays a part behind a link of a program that may open so many descriptors; what it printed, and its summary.
fn played_with(descriptors: u64, part: &[&str]) -> (Finished, Value) {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let json = directory.path().join("summary.json");
    let mut arguments = vec!["--json", json.to_str().unwrap(), "--"];
    let program = this_program();
    arguments.extend(words(&program, part));
    let script = format!("ulimit -n {descriptors}; exec \"$@\"");
    let finished = by_a_shell(Who::Ordinary, &script, &arguments);
    finished.expect_code(0);
    let summary = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    (finished, summary)
}

#[test]
fn flows_of_datagrams_that_are_idle_make_room_for_new_ones() {
    let _alone = exclusive();
    let port = echo();
    // As many as there may be flows and some, and as there may be descriptors.
    for (descriptors, sockets, room) in [(4096, 1100_u64, 1024), (100, 300, 100)] {
        let part = ["many-datagrams", &port, &sockets.to_string()];
        let (finished, summary) = played_with(descriptors, &part);
        let forwarder = &summary["forwarder"];
        // The kernel may choose a port again, which is the same flow.
        let flows = forwarder["flows"].as_u64().unwrap();
        assert!((room + 1..=sockets).contains(&flows), "{}", finished.told());
        assert_eq!(forwarder["failed"], 0, "{summary}");
    }
}

#[test]
fn connections_for_which_there_are_no_sockets_are_refused_and_the_link_is_not_as_asked() {
    let _alone = exclusive();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // One that was given up again hears nothing.
            drop(stream.write_all(b"!"));
            kept.push(stream);
        }
    });
    // Each takes two of the program's descriptors and one of the command's.
    let (finished, summary) = played_with(120, &["many-connections", &port, "90"]);
    let answered = finished
        .stdout
        .lines()
        .find_map(|line| line.strip_prefix("answered "));
    let answered: u64 = answered.unwrap().parse().unwrap();
    assert!((1..90).contains(&answered), "{}", finished.told());
    assert!(
        summary["forwarder"]["failed"].as_u64().unwrap() > 0,
        "{summary}"
    );
    assert_eq!(summary["verdict"], "invalid", "{summary}");
    let reasons = summary["reasons"].to_string();
    assert!(reasons.contains("for want of sockets"), "{reasons}");
}

#[test]
fn a_half_closed_connection_still_carries_the_answer() {
    let _alone = exclusive();
    for who in everybody() {
        let (port, heard) = one_connection(|mut stream| {
            let mut question = Vec::new();
            stream.read_to_end(&mut question).unwrap();
            stream.write_all(&vec![7; 300_000]).unwrap();
            question
        });
        let (finished, summary) = played(who, &["half-close", &port, "300000"]);
        let heard = heard.recv_timeout(PATIENCE).unwrap();
        assert_eq!(heard, b"question", "{who:?}: {}", finished.told());
        let mode = if who == Who::Root {
            "veth"
        } else {
            "forwarder"
        };
        assert_eq!(summary["mode"], mode);
        assert_eq!(summary["datapath"], "relay");
        assert_eq!(summary["relay_mode"], "exact", "{summary}");
        assert!(
            finished.stderr.contains("relay, mode exact"),
            "{}",
            finished.told()
        );
    }
}

#[test]
fn a_connection_that_is_reset_on_one_side_is_reset_on_the_other() {
    let _alone = exclusive();
    let (port, _) = one_connection(|mut stream| {
        stream.read_exact(&mut [0]).unwrap();
        break_off(&stream);
    });
    played(Who::Ordinary, &["is-reset", &port]);

    let (port, broken) = one_connection(|mut stream| {
        stream.write_all(b"!").unwrap();
        stream.read(&mut [0; 16]).map_err(|error| error.kind())
    });
    let (finished, _) = played(Who::Ordinary, &["resets", &port]);
    let broken = broken.recv_timeout(PATIENCE).unwrap();
    assert_eq!(
        broken,
        Err(ErrorKind::ConnectionReset),
        "{}",
        finished.told()
    );
}
