//! What the options of a link do to packets, end to end.

use std::collections::BTreeSet;
use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::thread;

use hexloop_tests::pcapng::comments;
use hexloop_tests::system::exclusive;
use serde_json::Value;

use crate::harness::{ROUND_TRIP, Who, numbers, run, this_program};
use crate::part::words;

/// Takes every datagram that comes.
fn sink() -> String {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    thread::spawn(move || while socket.recv(&mut [0; 65_536]).is_ok() {});
    port
}

/// The sums of columns of the windows away from the command, behind a link with these options,
/// over which a burst of datagrams went.
fn after_a_burst(options: &[&str], burst: [&str; 3], columns: [&str; 2]) -> [u64; 2] {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let log = directory.path().join("log");
    let port = sink();
    let mut arguments = vec!["-q", "--log", log.to_str().unwrap()];
    arguments.extend(options);
    arguments.push("--");
    let [packets, bytes, class] = burst;
    let program = this_program();
    arguments.extend(words(&program, &["burst", &port, packets, bytes, class]));
    run(Who::Ordinary, &arguments).expect_code(0);
    let table = fs::read_to_string(log.join("link.csv")).unwrap();
    let mut lines = table
        .lines()
        .map(|line| line.split(',').collect::<Vec<_>>());
    let head = lines.next().unwrap();
    let up: Vec<_> = lines.filter(|cells| cells[2] == "up").collect();
    columns.map(|column| {
        let place = head.iter().position(|name| *name == column).expect(column);
        up.iter()
            .map(|cells| cells[place].parse::<u64>().unwrap())
            .sum()
    })
}

#[test]
fn a_queue_that_is_managed_drops_early_or_marks_who_can_be_marked() {
    let _alone = exclusive();
    let rate = ["--rate", "8Mbit/s", "--queue", "3000p"];
    let columns = ["dropped_packets", "marked_packets"];
    // 368 kB at 1 MB/s: the queue is too long for more than three of CoDel's intervals.
    let burst = |class| ["300", "1200", class];
    let codel = [&rate[..], &["--queue-discipline", "codel"]].concat();
    let [dropped, marked] = after_a_burst(&codel, burst("2"), columns);
    assert!(
        dropped > 0 && marked == 0,
        "{dropped} dropped, {marked} marked"
    );
    let ecn = [&codel[..], &["--ecn"]].concat();
    let [dropped, marked] = after_a_burst(&ecn, burst("2"), columns);
    assert!(
        dropped == 0 && marked > 0,
        "{dropped} dropped, {marked} marked"
    );
    // Who cannot be marked is dropped.
    let [dropped, marked] = after_a_burst(&ecn, burst("0"), columns);
    assert!(
        dropped > 0 && marked == 0,
        "{dropped} dropped, {marked} marked"
    );
    let pie = [&rate[..], &["--queue-discipline", "pie"]].concat();
    let [dropped, marked] = after_a_burst(&pie, ["1500", "1200", "0"], columns);
    assert!(
        dropped > 0 && marked == 0,
        "{dropped} dropped, {marked} marked"
    );
    // A queue that is not managed holds all of it.
    let [dropped, marked] = after_a_burst(&rate, burst("2"), columns);
    assert_eq!((dropped, marked), (0, 0));
}

#[test]
fn with_slots_packets_leave_at_the_ends_of_slots_alone() {
    let _alone = exclusive();
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let captures = directory.path().join("captures");
    let port = sink();
    // 10 kB to a slot, for 41 kB.
    let mut arguments = vec!["-q", "--rate", "800kbit/s", "--slots", "100ms", "--pcap"];
    arguments.extend([captures.to_str().unwrap(), "--"]);
    let program = this_program();
    arguments.extend(words(&program, &["burst", &port, "40", "1000", "0"]));
    run(Who::Ordinary, &arguments).expect_code(0);
    let (comments, _) = comments(&fs::read(captures.join("link-up.pcapng")).unwrap()).unwrap();
    // Before its first slot begins, everything passes at once, and what still waits at the end is let go.
    let held = comments
        .iter()
        .filter(|comment| !comment.contains("held 0 ns") && !comment.contains("due never"));
    let due = held.map(|comment| {
        let (_, rest) = comment.split_once("due ").expect("a moment");
        rest.split(' ').next().unwrap().parse::<u64>().unwrap()
    });
    let due: BTreeSet<u64> = due.collect();
    let first = *due.first().unwrap();
    assert!(due.len() >= 5, "{comments:#?}");
    assert!(
        due.iter()
            .all(|due| (due - first).is_multiple_of(100_000_000)),
        "{comments:#?}"
    );
}

/// A link by one of the kernel's datapaths is what it says and delays what crosses it.
fn by_the_kernel(datapath: &str) {
    let _alone = exclusive();
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("summary.json");
    let script = format!("{ROUND_TRIP} round_trip $HEXLOOP_GATEWAY once");
    let arguments = [
        "--datapath",
        datapath,
        "--rate",
        "8Mbit/s",
        "--delay",
        "10ms",
        "--json",
        json.to_str().unwrap(),
        "--",
        "bash",
        "-c",
        &script,
    ];
    let finished = run(Who::Root, &arguments);
    finished.expect_code(0);
    assert!(
        numbers(&finished.stdout)[0].1 >= 20_000,
        "{}",
        finished.told()
    );
    let summary: Value = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
    assert_eq!(summary["datapath"], datapath);
    assert_eq!(summary["relay_mode"], Value::Null);
    assert_eq!(summary["mode"], "veth");
}

#[test]
#[ignore = "needs root, netem"]
fn a_link_of_queueing_disciplines_delays_what_crosses_it() {
    by_the_kernel("tc");
}

#[test]
#[ignore = "needs root, fq"]
fn a_link_of_departure_times_delays_what_crosses_it() {
    by_the_kernel("edt");
}
