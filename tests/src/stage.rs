//! A network of its own for tests of real interfaces: a host with a management path that must
//! stay open, and an interface that may be shaped, with an operator at the other end of both.

#![expect(clippy::panic, reason = "a harness fails the test that it serves")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};

use crate::sandbox::within_ms;

/// The host's address on the management path.
const HOST: &str = "10.99.0.1";

/// The interface that may be shaped.
pub const NIC: &str = "nic0";

/// The interface over which the host is reached.
pub const MANAGEMENT: &str = "mgmt0";

/// How long an answer on the management path may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// The host's side; the thread that has it is in the host's network namespace.
#[derive(Debug)]
pub struct Stage {
    ask: Sender<SocketAddr>,
    answered: Receiver<bool>,
    address: SocketAddr,
}

/// Runs a test on a thread in a network namespace of its own. Everything that the thread starts
/// is in that namespace; when it ends, the kernel takes everything in it away.
///
/// # Panics
/// The network cannot be made (needs root), or the test fails.
pub fn play(test: impl FnOnce(&Stage) + Send) {
    let (ask, asked) = channel::<SocketAddr>();
    let (answer, answered) = channel();
    let (ready, operator) = channel();
    thread::scope(|scope| {
        scope.spawn(move || {
            enter_new_network();
            let namespace = format!("/proc/{}/ns/net", nix::unistd::gettid());
            ready.send(namespace).expect("the test waits");
            for address in asked {
                let reply = probe(address);
                if answer.send(reply).is_err() {
                    break;
                }
            }
        });
        let host = scope.spawn(move || {
            enter_new_network();
            let namespace = operator.recv().expect("the operator");
            build(&namespace);
            let address = serve_echo();
            let stage = Stage {
                ask,
                answered,
                address,
            };
            test(&stage);
        });
        if let Err(failure) = host.join() {
            std::panic::resume_unwind(failure);
        }
    });
}

impl Stage {
    /// Checks that the operator reaches the host over a new connection.
    ///
    /// # Panics
    /// It does not.
    #[track_caller]
    pub fn expect_reachable(&self) {
        self.ask.send(self.address).expect("the operator");
        let answered = self.answered.recv().expect("the operator");
        assert!(answered, "the management path is lost");
    }

    /// Everything in the host's network, in words that do not change by themselves.
    #[must_use]
    pub fn snapshot(&self) -> Vec<String> {
        let mut text = Vec::new();
        let mut look = |program: &str, arguments: &[&str]| {
            let lines = output(program, arguments);
            // htb counts here what passed it by.
            let steady = |line: &str| match line.split_once(" direct_packets_stat") {
                Some((steady, _)) => steady.to_owned(),
                None => line.to_owned(),
            };
            text.extend(
                lines
                    .lines()
                    .map(|line| format!("{arguments:?}: {}", steady(line))),
            );
        };
        look("ip", &["-d", "link", "show"]);
        look("ip", &["address", "show"]);
        for family in ["-4", "-6"] {
            look("ip", &[family, "route", "show", "table", "all"]);
            look("ip", &[family, "rule", "show"]);
        }
        look("tc", &["qdisc", "show"]);
        for interface in ["lo", MANAGEMENT, NIC] {
            look("tc", &["class", "show", "dev", interface]);
            look("tc", &["filter", "show", "dev", interface]);
            look(
                "tc",
                &["filter", "show", "dev", interface, "parent", "ffff:"],
            );
        }
        look("ip", &["netns", "list"]);
        for interface in [MANAGEMENT, NIC] {
            let offloads = hexloop_agent::change::offloads(interface).unwrap_or_default();
            let offloads = offloads.into_iter();
            text.extend(offloads.map(|(name, on)| format!("{interface}: {name} {on}")));
        }
        text
    }

    /// Checks that the network is as it was.
    ///
    /// # Panics
    /// It is not; the message says what differs.
    #[track_caller]
    pub fn expect_as_before(&self, before: &[String]) {
        let now = self.snapshot();
        let more: Vec<_> = now.iter().filter(|line| !before.contains(line)).collect();
        let less: Vec<_> = before.iter().filter(|line| !now.contains(line)).collect();
        assert!(
            more.is_empty() && less.is_empty(),
            "more: {more:#?}\nless: {less:#?}"
        );
    }
}

fn enter_new_network() {
    unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
}

/// Runs `ip` or `tc` and returns what it prints; a refusal prints nothing.
#[must_use]
pub fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether a command of words that are separated by blanks succeeds.
#[must_use]
pub fn succeeds(line: &str) -> bool {
    let mut words = line.split_ascii_whitespace();
    let program = words.next().unwrap_or_default();
    let output = Command::new(program).args(words).output();
    output.is_ok_and(|output| output.status.success())
}

/// Runs a command of words that are separated by blanks; quotes mean nothing.
///
/// # Panics
/// It fails.
#[track_caller]
pub fn command(line: &str) {
    let mut words = line.split_ascii_whitespace();
    let program = words.next().expect("a program");
    let output = Command::new(program).args(words).output();
    let output = output.unwrap_or_else(|error| panic!("{line}: {error}"));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {told}");
}

fn build(operator: &str) {
    command("ip link set lo up");
    for (host, far, network) in [(MANAGEMENT, "op0", 0), (NIC, "far0", 1)] {
        command(&format!(
            "ip link add {host} type veth peer name {far} netns {operator}"
        ));
        command(&format!("ip link set {host} addrgenmode none"));
        command(&format!("ip address add 10.99.{network}.1/24 dev {host}"));
        command(&format!("ip link set {host} up"));
        let inside = format!("nsenter --net={operator}");
        command(&format!("{inside} ip link set {far} addrgenmode none"));
        command(&format!(
            "{inside} ip address add 10.99.{network}.2/24 dev {far}"
        ));
        command(&format!("{inside} ip link set {far} up"));
    }
    // The kernel notices a carrier a moment later; before, nothing here is as it will stay.
    for host in [MANAGEMENT, NIC] {
        let is_up = || output("ip", &["link", "show", "dev", host]).contains("state UP");
        assert!(within_ms(10_000, is_up), "{host} does not come up");
    }
    command(&format!("ip -6 address add fd99::1/64 dev {NIC} nodad"));
    // Its route follows from a work queue of the kernel's.
    let is_routed = || output("ip", &["-6", "route", "show", "table", "local"]).contains("fd99::1");
    assert!(within_ms(10_000, is_routed), "{NIC} gets no local route");
    command("ip route add default via 10.99.0.2");
}

/// Answers every connection with what it was sent, on a thread of the host.
fn serve_echo() -> SocketAddr {
    let listener = TcpListener::bind((HOST, 0)).expect("the management address");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { break };
            let mut byte = [0];
            if stream.read_exact(&mut byte).is_ok() && byte == [0] {
                break;
            }
            // A probe that has given up does not want its answer.
            let _ = stream.write_all(&byte);
        }
    });
    address
}

fn probe(address: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.write_all(&[7])?;
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        Ok(byte == [7])
    };
    ask().unwrap_or(false)
}

impl Drop for Stage {
    /// Ends the thread that answers: it would keep the namespace.
    fn drop(&mut self) {
        let stop = || -> std::io::Result<()> {
            let mut stream = TcpStream::connect_timeout(&self.address, ANSWER_LIMIT)?;
            stream.write_all(&[0])
        };
        // A listener that is gone needs no end.
        let _ = stop();
    }
}
