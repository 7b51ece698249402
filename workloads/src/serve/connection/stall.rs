//! Why nothing comes: whether the link or the other side is at fault.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use super::ConnectionError;

/// Tells a read that waited for too long from one that failed: what was not acknowledged is still
/// on the link, and a side that acknowledged everything has gone silent.
pub(super) fn explain(stream: &TcpStream, error: ConnectionError, seconds: u64) -> ConnectionError {
    let waited = matches!(
        &error,
        ConnectionError::Read(error)
            if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
    );
    if !waited {
        return error;
    }
    match unacknowledged(stream) {
        Some(unacknowledged_bytes) if unacknowledged_bytes > 0 => ConnectionError::LinkStalled {
            unacknowledged_bytes,
            seconds,
        },
        Some(_) => ConnectionError::PeerSilent { seconds },
        None => error,
    }
}

/// Bytes that the kernel has taken and the other side has not acknowledged; `None` where the
/// kernel's table does not say.
fn unacknowledged(stream: &TcpStream) -> Option<u64> {
    let (local, peer) = (stream.local_addr().ok()?, stream.peer_addr().ok()?);
    let table = if local.is_ipv4() { "tcp" } else { "tcp6" };
    let text = std::fs::read_to_string(format!("/proc/self/net/{table}")).ok()?;
    in_table(&text, local, peer)
}

/// The same in a text like /proc/net/tcp (Linux, `net/ipv4/tcp_ipv4.c`, `get_tcp4_sock`): number,
/// local address, remote address, state, `tx_queue:rx_queue`, all hexadecimal.
fn in_table(text: &str, local: SocketAddr, peer: SocketAddr) -> Option<u64> {
    let (local, peer) = (written(local), written(peer));
    let line = text.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let same = words.next() == Some(&local) && words.next() == Some(&peer);
        same.then(|| words.nth(1)).flatten()
    })?;
    let (transmit, _) = line.split_once(':')?;
    u64::from_str_radix(transmit, 16).ok()
}

/// An address as that table writes it: words of four bytes in the machine's order.
fn written(address: SocketAddr) -> String {
    let octets = match address.ip() {
        IpAddr::V4(ip) => Ipv4Addr::octets(&ip).to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let (words, _) = octets.as_chunks::<4>();
    let words = words
        .iter()
        .map(|word| format!("{:08X}", u32::from_ne_bytes(*word)));
    format!("{}:{:04X}", words.collect::<String>(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::net::TcpListener;

    #[test]
    #[cfg(target_endian = "little")]
    fn the_queue_is_found_by_both_addresses() {
        let text = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid
   0: 0100007F:1E78 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0
   1: 010012C6:D431 020012C6:1E78 01 00000A10:00000000 01:00000014 00000000     0";
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let found = in_table(
            text,
            address("198.18.0.1:54321"),
            address("198.18.0.2:7800"),
        );
        assert_eq!(found, Some(0xa10));
        let none = in_table(text, address("198.18.0.1:1"), address("198.18.0.2:7800"));
        assert_eq!(none, None);
    }

    #[test]
    fn a_side_that_has_taken_everything_is_silent_and_other_errors_stay() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_kept, _) = listener.accept().unwrap();
        stream.write_all(b"question").unwrap();
        let waited = || ConnectionError::Read(io::ErrorKind::WouldBlock.into());
        let told = explain(&stream, waited(), 3);
        // The loopback acknowledges at once, or at least within a few looks.
        let silent = matches!(told, ConnectionError::PeerSilent { seconds: 3 });
        assert!(silent || unacknowledged(&stream).is_some(), "{told}");
        let reset = ConnectionError::Read(io::ErrorKind::ConnectionReset.into());
        let told = explain(&stream, reset, 3);
        assert!(matches!(told, ConnectionError::Read(_)), "{told}");
    }
}
