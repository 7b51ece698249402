//! What this program does as the command of a link: other tests start it again with a part.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use hexloop_workloads::clock;
use nix::sys::socket::{setsockopt, sockopt};

/// The test that plays a part.
const THIS: &str = "part::plays_the_part_it_is_given";

/// Only a failure waits so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// The words that start a part.
pub(crate) fn words<'a>(program: &'a str, part: &[&'a str]) -> Vec<&'a str> {
    let mut words = vec![program, "--exact", THIS, "--nocapture", "--"];
    words.extend(part);
    words
}

/// Not a test of its own.
#[test]
fn plays_the_part_it_is_given() {
    let arguments: Vec<String> = std::env::args().skip_while(|a| a != "--").skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["datagrams", port] => datagrams(gateway(port)),
        ["many-datagrams", port, sockets] => {
            many_datagrams(gateway(port), sockets.parse().unwrap());
        }
        ["many-connections", port, connections] => {
            many_connections(gateway(port), connections.parse().unwrap());
        }
        ["half-close", port, bytes] => half_close(gateway(port), bytes.parse().unwrap()),
        ["is-reset", port] => is_reset(gateway(port)),
        ["resets", port] => resets(gateway(port)),
        ["burst", port, packets, bytes, class] => burst(
            gateway(port),
            packets.parse().unwrap(),
            bytes.parse().unwrap(),
            class.parse().unwrap(),
        ),
        _ => assert!(arguments.is_empty(), "{arguments:?}"),
    }
}

/// An address at which the network is reached that the link was started from.
fn gateway(port: &str) -> SocketAddr {
    let address: IpAddr = std::env::var("HEXLOOP_GATEWAY").unwrap().parse().unwrap();
    (address, port.parse().unwrap()).into()
}

fn socket_to(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(server).unwrap();
    socket
}

/// Datagrams come back as they were sent, and are refused where nobody listens.
fn datagrams(server: SocketAddr) {
    let socket = socket_to(server);
    for bytes in [1, 1_200, 1_472, 4_000] {
        let sent: Vec<u8> = (0..bytes).map(|i| u8::try_from(i % 251).unwrap()).collect();
        socket.send(&sent).unwrap();
        let mut back = vec![0; 65_536];
        let length = socket.recv(&mut back).unwrap();
        assert!(
            back[..length] == sent,
            "{length} of {bytes} bytes came back"
        );
    }
    let nobody = socket_to((server.ip(), 9).into());
    nobody.send(b"anybody?").unwrap();
    let refused = nobody.recv(&mut [0; 16]).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{refused}");
}

/// Asks from one socket after the other, as who looks up names does.
fn many_datagrams(server: SocketAddr, sockets: usize) {
    for number in 0..sockets {
        let socket = socket_to(server);
        let question = number.to_be_bytes();
        socket.send(&question).unwrap();
        let mut answer = [0; 16];
        let length = socket.recv(&mut answer).unwrap();
        assert_eq!(answer[..length], question);
    }
}

/// Opens connections and keeps them; tells how many were answered and how many were refused or reset.
fn many_connections(server: SocketAddr, connections: usize) {
    let opened: Vec<_> = (0..connections)
        .map(|_| TcpStream::connect(server))
        .collect();
    let is_answered = |stream: &TcpStream| {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let asked = (&*stream).write_all(b"?");
        let answered = asked.and_then(|()| (&*stream).read_exact(&mut [0]));
        let kind = answered.map_err(|error| error.kind());
        assert!(
            !matches!(kind, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)),
            "neither answered nor refused"
        );
        kind.is_ok()
    };
    let answered = opened.iter().flatten().filter(|stream| is_answered(stream));
    println!("answered {}", answered.count());
}

/// Says all that it has to say, and then hears the answer.
fn half_close(server: SocketAddr, bytes: usize) {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"question").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    assert_eq!(answer.len(), bytes);
}

/// The other side breaks the connection off.
fn is_reset(server: SocketAddr) {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"?").unwrap();
    let broken = stream.read(&mut [0; 16]).unwrap_err();
    assert_eq!(broken.kind(), ErrorKind::ConnectionReset, "{broken}");
}

/// Breaks the connection off, and stays until the server has seen that: the link ends with the command,
/// and what is on the way with it. A second connection, which the server never takes, goes with it.
fn resets(server: SocketAddr) {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.read_exact(&mut [0]).unwrap();
    let mut witness = TcpStream::connect(server).unwrap();
    witness.set_read_timeout(Some(PATIENCE)).unwrap();
    break_off(&stream);
    drop(stream);
    let end = witness.read(&mut [0]).map_err(|error| error.kind());
    assert!(
        matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset)),
        "{end:?}"
    );
}

/// Closed with this, a connection ends with a reset.
pub(crate) fn break_off(stream: &TcpStream) {
    let at_once = nix::libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(stream, sockopt::Linger, &at_once).unwrap();
}

/// Datagrams of a burst in each millisecond: more than links of tests take, and fewer than find no
/// room in the relay's socket.
const BURST_PER_MS: usize = 4;

/// Sends a burst of datagrams of this traffic class, and waits until all are through.
fn burst(server: SocketAddr, packets: usize, bytes: usize, class: i32) {
    let socket = socket_to(server);
    setsockopt(&socket, sockopt::Ipv4Tos, &class).unwrap();
    let mut due = clock::now();
    for packet in 0..packets {
        if packet.is_multiple_of(BURST_PER_MS) {
            due += 1_000_000;
            clock::sleep_until(due);
        }
        socket.send(&vec![0; bytes]).unwrap();
    }
    // What asks behind them is answered behind them.
    let refused = TcpStream::connect((server.ip(), 9)).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{refused}");
}
