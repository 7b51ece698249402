//! When a program of the experiment is ready: asked again and again, from inside its node.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use hexloop_topologies::plan::{CommandPlan, Readiness, ReadyPlan};
use hexloop_workloads::clock;

use super::{Playing, Role};
use crate::play::error::PlayError;
use crate::play::scene::check;

/// How often it is asked.
const ASK_EVERY_NS: u64 = 100_000_000;

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_millis(500);

/// How many lines are kept for errors.
const LINES: usize = 8;

/// What a program wrote last.
#[derive(Debug, Default)]
pub(super) struct LastLines(VecDeque<String>);

impl LastLines {
    pub(super) fn push(&mut self, line: &str) {
        if self.0.len() == LINES {
            self.0.pop_front();
        }
        self.0.push_back(line.to_owned());
    }

    /// As the end of an error's text.
    pub(super) fn told(&self) -> String {
        if self.0.is_empty() {
            return "; it wrote nothing".to_owned();
        }
        let lines: Vec<&str> = self.0.iter().map(String::as_str).collect();
        format!("; it wrote last:\n{}", lines.join("\n"))
    }
}

impl Playing<'_> {
    /// Waits until a program is ready.
    pub(super) fn await_command(
        &mut self,
        id: u32,
        place: usize,
        command: &CommandPlan,
        ready: &ReadyPlan,
    ) -> Result<(), PlayError> {
        let deadline = clock::now() + ready.within_ns;
        let mut ask_at = clock::now();
        let mut last = "nothing was tried".to_owned();
        loop {
            check(self.stop)?;
            self.hear()?;
            let now = clock::now();
            if let Readiness::Line { .. } = &ready.when {
                if let Some((_, Role::Command { awaited: None, .. })) = self.processes.get(&id) {
                    return Ok(());
                }
                "no such line came".clone_into(&mut last);
            } else if now >= ask_at {
                match self.ask(place, &ready.when)? {
                    Ok(()) => return Ok(()),
                    Err(why) => last = why,
                }
                ask_at = now + ASK_EVERY_NS;
            }
            if now >= deadline {
                let said = match self.processes.get(&id) {
                    Some((_, Role::Command { said, .. })) => said.told(),
                    _ => String::new(),
                };
                let seconds = Duration::from_nanos(ready.within_ns).as_secs_f64();
                let (name, what) = (&command.name, ready.when.in_words());
                let reason = format!(
                    "program {name} was not ready: {what} within {seconds} s: {last}{said}"
                );
                return Err(self.failed(place, reason));
            }
        }
    }

    /// Asks once, from inside the node. The inner error says why it is not ready.
    fn ask(&self, place: usize, when: &Readiness) -> Result<Result<(), String>, PlayError> {
        let node = &self.scene.nodes[place];
        let asked = node.namespace.run(|| match when {
            Readiness::Tcp { port } => connect(*port).map(drop),
            Readiness::Http { port, path, status } => get(*port, path, *status),
            Readiness::Line { .. } => Ok(()),
        });
        asked.map_err(|error| {
            let reason = format!("nobody can be asked in it: {error}");
            self.failed(place, reason)
        })
    }
}

/// Connects to a port of the node that the present thread is in: at its loopback, or else at one of
/// its addresses.
fn connect(port: u16) -> Result<TcpStream, String> {
    let loopback = [
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
    ];
    let mut last = String::new();
    for address in loopback.into_iter().chain(own_addresses()) {
        let address = SocketAddr::new(address, port);
        match TcpStream::connect_timeout(&address, ANSWER_LIMIT) {
            Ok(stream) => return Ok(stream),
            Err(error) if last.is_empty() => last = format!("{address}: {error}"),
            Err(_) => {}
        }
    }
    Err(last)
}

/// The addresses of the interfaces that the present thread sees.
fn own_addresses() -> Vec<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs();
    let addresses = interfaces.into_iter().flatten().filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|it| IpAddr::V4(it.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|it| IpAddr::V6(it.ip())))
    });
    addresses.collect()
}

/// GETs a path and compares the status (RFC 9112, section 4).
fn get(port: u16, path: &str, status: u16) -> Result<(), String> {
    let mut stream = connect(port)?;
    let head = answer(&mut stream, port, path).map_err(|error| format!("GET {path}: {error}"))?;
    let got = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse::<u16>().ok());
    match got {
        Some(got) if got == status => Ok(()),
        Some(got) => Err(format!("GET {path}: status {got}")),
        None => Err(format!("GET {path}: the answer is no HTTP")),
    }
}

/// The beginning of the answer.
fn answer(stream: &mut TcpStream, port: u16, path: &str) -> io::Result<String> {
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost:{port}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut head = Vec::new();
    let mut buffer = [0; 512];
    while head.len() < 64 && !head.contains(&b'\n') {
        match stream.read(&mut buffer)? {
            0 => break,
            count => head.extend_from_slice(&buffer[..count]),
        }
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn a_port_and_a_status_are_told_from_none() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        connect(port).unwrap();
        let server = std::thread::spawn(move || {
            for _ in 0..3 {
                let (mut stream, _) = listener.accept().unwrap();
                let mut buffer = [0; 1024];
                if stream.read(&mut buffer).unwrap() > 0 {
                    stream.write_all(b"HTTP/1.1 503 Not Yet\r\n\r\n").unwrap();
                }
            }
        });
        assert_eq!(get(port, "/health", 503), Ok(()));
        assert_eq!(
            get(port, "/health", 200).unwrap_err(),
            "GET /health: status 503"
        );
        server.join().unwrap();
        assert!(connect(port).unwrap_err().contains("refused"));
    }

    #[test]
    fn the_last_lines_are_the_last() {
        let mut said = LastLines::default();
        assert_eq!(said.told(), "; it wrote nothing");
        (0..20).for_each(|number| said.push(&number.to_string()));
        assert_eq!(
            said.told(),
            "; it wrote last:\n12\n13\n14\n15\n16\n17\n18\n19"
        );
    }
}
