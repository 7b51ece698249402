//! Whether somebody still has the port at the other end: a datagram of one byte, which QUIC takes for
//! nothing. The kernel of a node on which nobody has that port answers that it cannot be reached (ICMP),
//! which only a connected socket hears; in an outage nobody answers.
//!
//! That may take seconds, where TCP has a reset at once: a kernel that kills a process says nothing for it
//! over UDP. It need not be sooner. In a run the agent hears of a job's end from the first process of its
//! node, whoever killed it, and ends the phase with that job's name; this is for whoever plays jobs without
//! an agent. Errors of the socket that QUIC sends through would not tell it either, since who waits for an
//! answer sends nothing; questions in shorter intervals would be packets of every idle link; and an idle
//! timeout would end requests in outages that are shorter than their own.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

/// Nothing has come for so long before the other node is asked, and asked again.
const SILENCE: Duration = Duration::from_secs(5);

/// How long its answer may take.
const ANSWER_PATIENCE: Duration = Duration::from_secs(2);

/// Ends when the process at the other end has gone.
pub(super) async fn ends(peer: SocketAddr, asked: &AtomicU64) {
    loop {
        sleep(SILENCE).await;
        if refused(peer, asked).await {
            return;
        }
    }
}

/// Whether the other node says that nobody has that port. `asked` counts the datagrams that were sent.
pub(super) async fn refused(peer: SocketAddr, asked: &AtomicU64) -> bool {
    let own: SocketAddr = match peer {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let answer = async {
        let socket = UdpSocket::bind(own).await?;
        socket.connect(peer).await?;
        socket.send(&[0]).await?;
        asked.fetch_add(1, Ordering::Relaxed);
        socket.recv(&mut [0]).await
    };
    match timeout(ANSWER_PATIENCE, answer).await {
        Ok(Err(error)) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        Ok(Ok(_)) | Err(_) => false,
    }
}
