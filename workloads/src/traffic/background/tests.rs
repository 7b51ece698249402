use super::*;

fn spec(carrier: Carrier, periods: Option<Periods>) -> BackgroundSpec {
    BackgroundSpec {
        name: "beside".to_owned(),
        carrier,
        periods,
        seed: 3,
    }
}

const UDP: Carrier = Carrier::Udp {
    rate_bps: 8_000_000,
    packet_bytes: 972,
};

#[test]
fn fixed_periods_take_turns_and_drawn_ones_have_their_means() {
    let periods = Periods {
        on_ns: 30,
        off_ns: 10,
        exponential: false,
    };
    let mut pattern = Pattern::begin(&spec(UDP, Some(periods)), 100);
    assert_eq!((pattern.from, pattern.until), (100, 130));
    pattern.next();
    assert_eq!((pattern.from, pattern.until), (140, 170));
    let periods = Periods {
        on_ns: 3_000_000,
        off_ns: 1_000_000,
        exponential: true,
    };
    let mut pattern = Pattern::begin(&spec(UDP, Some(periods)), 0);
    let (mut on, rounds) = (0, 10_000);
    for _ in 0..rounds {
        on += pattern.until - pattern.from;
        pattern.next();
    }
    // Four standard errors of a mean of exponential draws are 4 %.
    let mean = on / rounds;
    assert!((2_880_000..3_120_000).contains(&mean), "{mean}");
    let share = on as f64 / pattern.from as f64;
    assert!((share - 0.75).abs() < 0.02, "{share}");
}

#[test]
fn without_periods_it_is_always_on() {
    let pattern = Pattern::begin(&spec(UDP, None), 7);
    assert_eq!((pattern.from, pattern.until), (7, MonotonicNs::MAX));
}

#[test]
fn datagrams_come_no_faster_than_their_rate_and_are_counted_at_both_ends() {
    let listener = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let sent = Counted::default();
    let end = AtomicBool::new(false);
    // 8000 bits at 8 Mbit/s are a millisecond: 20 in 20 ms.
    let from = clock::now();
    let pattern = Pattern {
        periods: None,
        random: ChaCha12Rng::seed_from_u64(1),
        from,
        until: MonotonicNs::MAX,
    };
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.connect(address).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pace(
                &sender,
                (&[0x5a; 972], 8000, 8_000_000),
                pattern,
                &sent,
                &end,
            );
        });
        let mut buffer = [0; 2000];
        for number in 0..20 {
            assert_eq!(listener.recv(&mut buffer).unwrap(), 972);
            assert!(clock::now() >= from + number * 1_000_000);
        }
        end.store(true, Ordering::Relaxed);
    });
    assert!(sent.packets.load(Ordering::Relaxed) >= 20);
}

#[test]
fn each_period_of_tcp_is_a_connection_whose_rest_is_not_sent_when_it_is_off() {
    let secret = b"secret";
    let address = "127.0.0.1:0".parse().unwrap();
    let listener = TcpListener::bind::<SocketAddr>(address).unwrap();
    let peer = listener.local_addr().unwrap();
    let periods = Periods {
        on_ns: 5_000_000,
        off_ns: 5_000_000,
        exponential: false,
    };
    let carrier = Carrier::Tcp {
        congestion_control: "reno".to_owned(),
    };
    let spec = spec(carrier, Some(periods));
    let end = Arc::new(AtomicBool::new(false));
    let (mut first, mut sender) = std::thread::scope(|scope| {
        let opened = scope.spawn(|| Sender::open(peer, &spec, secret).unwrap());
        let (mut first, _) = listener.accept().unwrap();
        assert!(bulk::admit(&mut first, secret).unwrap());
        (first, opened.join().unwrap())
    });
    sender.start(clock::now(), &end).unwrap();
    let (mut second, _) = listener.accept().unwrap();
    assert!(bulk::admit(&mut second, secret).unwrap());
    let mut buffer = vec![0; CHUNK_BYTES];
    let ended = loop {
        match first.read(&mut buffer) {
            Ok(0) => break None,
            Ok(_) => {}
            Err(error) => break Some(error.kind()),
        }
    };
    assert_eq!(ended, Some(io::ErrorKind::ConnectionReset));
    end.store(true, Ordering::Relaxed);
    let record = sender.finish();
    assert!(record.sent_bytes > 0);
    assert_eq!(record.congestion_control, "reno");
}

#[test]
fn a_congestion_control_that_the_kernel_lacks_is_refused_with_a_remedy() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let error = controlled(&stream, "no-such").unwrap_err().to_string();
    assert!(
        error.contains("no-such") && error.contains("modprobe"),
        "{error}"
    );
    assert_eq!(controlled(&stream, "reno").unwrap(), "reno");
}
