//! Streams over QUIC with what stands between them: a wire that can be cut.

use std::net::UdpSocket as StdUdpSocket;
use std::sync::atomic::AtomicBool;
use std::thread;

use super::*;

const MTU_BYTES: u32 = 1500;

fn secret(digit: char) -> Secret {
    Secret::parse(&digit.to_string().repeat(64)).unwrap()
}

fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// Forwards datagrams between whoever comes and an address, as long as it is not cut.
fn wire(to: SocketAddr, cut: &Arc<AtomicBool>) -> SocketAddr {
    let near = StdUdpSocket::bind(loopback()).unwrap();
    let far = StdUdpSocket::bind(loopback()).unwrap();
    far.connect(to).unwrap();
    let address = near.local_addr().unwrap();
    let caller = Arc::new(Mutex::new(None));
    let (back, ahead) = (near.try_clone().unwrap(), far.try_clone().unwrap());
    let (known, off) = (Arc::clone(&caller), Arc::clone(cut));
    thread::spawn(move || {
        let mut bytes = [0; 2000];
        while let Ok((count, from)) = near.recv_from(&mut bytes) {
            *known.lock().unwrap() = Some(from);
            if !off.load(Ordering::Relaxed) {
                let _lost = ahead.send(&bytes[..count]);
            }
        }
    });
    let off = Arc::clone(cut);
    thread::spawn(move || {
        let mut bytes = [0; 2000];
        while let Ok(count) = far.recv(&mut bytes) {
            let to = *caller.lock().unwrap();
            if let Some(to) = to
                && !off.load(Ordering::Relaxed)
            {
                let _lost = back.send_to(&bytes[..count], to);
            }
        }
    });
    address
}

/// Both ends of a connection over a wire, and what ends the listener.
fn pair(cut: &Arc<AtomicBool>) -> (QuicStream, QuicStream, (QuicListener, End)) {
    let secret = secret('a');
    let (listener, end) = listen(loopback(), &secret, MTU_BYTES).unwrap();
    let address = wire(listener.address(), cut);
    let near = connect(address, &secret, MTU_BYTES).unwrap();
    // Who only opens a stream is not heard of.
    near.write(b"here").unwrap();
    let (far, _) = listener.accept().unwrap();
    assert_eq!(read(&far, 4), b"here");
    (near, far, (listener, end))
}

fn read(stream: &QuicStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    let mut filled = 0;
    while filled < count {
        let more = stream.read(&mut bytes[filled..]).unwrap();
        assert!(more > 0, "the stream ended after {filled} bytes");
        filled += more;
    }
    bytes
}

#[test]
fn bytes_come_in_order_in_both_directions_and_an_end_lets_the_last_of_them_arrive() {
    let (near, far, _listener) = pair(&Arc::default());
    let long: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    let sent = long.clone();
    let writer = near.clone();
    let sender = thread::spawn(move || {
        writer.write(&sent).unwrap();
        drop(writer.end());
    });
    assert_eq!(read(&far, long.len()), long);
    assert_eq!(far.read(&mut [0]).unwrap(), 0);
    sender.join().unwrap();
    let (sent, received) = (near.totals(), far.totals());
    assert!(sent.sent_bytes > u64::try_from(long.len()).unwrap());
    assert!(received.received_bytes <= sent.sent_bytes);
    // No datagram is longer than the link takes.
    assert!(sent.sent_bytes <= sent.sent_datagrams * u64::from(MTU_BYTES - 28));
}

#[test]
fn an_outage_shorter_than_the_patience_is_survived() {
    let cut = Arc::new(AtomicBool::new(false));
    let (near, far, _listener) = pair(&cut);
    near.limit_reading(Some(Duration::from_secs(600)));
    cut.store(true, Ordering::Relaxed);
    near.write(b"question").unwrap();
    far.limit_reading(Some(Duration::from_millis(300)));
    let waited = far.read(&mut [0; 8]).unwrap_err();
    assert_eq!(waited.kind(), io::ErrorKind::TimedOut);
    cut.store(false, Ordering::Relaxed);
    far.limit_reading(None);
    assert_eq!(read(&far, 8), b"question");
    far.write(b"answer").unwrap();
    assert_eq!(read(&near, 6), b"answer");
}

#[test]
fn a_stalled_link_a_silent_peer_and_one_that_has_gone_are_told_apart() {
    let waited = || ConnectionError::Read(io::ErrorKind::TimedOut.into());
    let cut = Arc::new(AtomicBool::new(false));
    let (near, _far, _listener) = pair(&cut);
    near.limit_reading(Some(Duration::from_millis(1)));
    let error = near.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    let told = near.explain(ConnectionError::Read(error), 3);
    let silent = matches!(told, ConnectionError::PeerSilent { seconds: 3 });
    assert!(silent, "{told}");
    cut.store(true, Ordering::Relaxed);
    let told = near.explain(waited(), 3);
    let stalled = matches!(told, ConnectionError::NothingAcknowledged { seconds: 3 });
    assert!(stalled, "{told}");
    let other = ConnectionError::Read(io::ErrorKind::ConnectionAborted.into());
    let told = near.explain(other, 3);
    assert!(matches!(told, ConnectionError::Read(_)), "{told}");

    // Nobody has the port that this one talks to any more.
    let secret = secret('b');
    let (listener, _end) = listen(loopback(), &secret, MTU_BYTES).unwrap();
    let near = connect(listener.address(), &secret, MTU_BYTES).unwrap();
    let held = near.0.connection.remote_address();
    assert_eq!(held, listener.address());
    let free = StdUdpSocket::bind(loopback())
        .unwrap()
        .local_addr()
        .unwrap();
    let asked = AtomicU64::new(0);
    let refused = |peer| near.0.runtime.block_on(presence::refused(peer, &asked));
    assert!(refused(free));
    assert!(!refused(held));
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}

#[test]
fn another_runs_key_opens_nothing_and_nobody_hears_of_it() {
    let (listener, end) = listen(loopback(), &secret('a'), MTU_BYTES).unwrap();
    let stranger = connect(listener.address(), &secret('b'), MTU_BYTES);
    assert!(matches!(stranger, Err(Unopened::Refused)), "{stranger:?}");
    drop(end);
    assert!(listener.accept().is_none());
}

#[test]
fn who_comes_before_anybody_listens_is_let_in_once_somebody_does() {
    let free = StdUdpSocket::bind(loopback())
        .unwrap()
        .local_addr()
        .unwrap();
    let early = thread::spawn(move || {
        let stream = connect(free, &secret('c'), MTU_BYTES).unwrap();
        stream.write(b"early").unwrap();
        stream
    });
    // It has asked at least once by then, or will; either way it gets in.
    let (listener, _end) = listen(free, &secret('c'), MTU_BYTES).unwrap();
    let (stream, _) = listener.accept().unwrap();
    assert_eq!(read(&stream, 5), b"early");
    drop(early.join().unwrap());
}

#[test]
fn datagrams_fit_the_links_packets_and_are_never_smaller_than_quic_can_do_with() {
    let v4 = loopback();
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    assert_eq!(datagram_bytes(v4, 1500), 1472);
    assert_eq!(datagram_bytes(v6, 1500), 1452);
    assert_eq!(datagram_bytes(v6, 1280), 1232);
    assert_eq!(datagram_bytes(v4, 9000), 8972);
    assert_eq!(datagram_bytes(v4, 0), 1200);
}
