use super::*;

const SECRET: &[u8] = &[b'7'; 64];

fn wait_until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        std::thread::yield_now();
    }
}

#[test]
fn probes_come_back_and_each_keeps_its_moment() {
    let listener = echo::Listener::open("127.0.0.1:0".parse().unwrap(), SECRET).unwrap();
    let gaps = (1_000_000, 5_000_000);
    let mut prober = echo::Prober::open(listener.address(), gaps, SECRET).unwrap();
    prober.start(clock::now(), &Arc::default()).unwrap();
    let back = |record: &TrafficRecord| {
        record.probes.len() == 5 && record.probes.iter().all(|p| p.round_trip_ns.is_some())
    };
    wait_until(|| back(&prober.finish()));
    let probes = prober.finish().probes;
    assert!(
        probes
            .iter()
            .zip(0..)
            .all(|(p, n)| p.sent_ns >= n * 1_000_000),
        "{probes:?}"
    );
}

#[test]
fn a_probe_without_the_secret_is_not_sent_back() {
    let listener = echo::Listener::open("127.0.0.1:0".parse().unwrap(), SECRET).unwrap();
    let gaps = (1_000_000, 1_000_000);
    let mut stranger = echo::Prober::open(listener.address(), gaps, &[b'8'; 64]).unwrap();
    stranger.start(clock::now(), &Arc::default()).unwrap();
    wait_until(|| stranger.finish().probes.len() == 1);
    // One that knows it gets its answer after the stranger's probe was looked at.
    let mut prober = echo::Prober::open(listener.address(), gaps, SECRET).unwrap();
    prober.start(clock::now(), &Arc::default()).unwrap();
    wait_until(|| {
        prober
            .finish()
            .probes
            .iter()
            .any(|p| p.round_trip_ns.is_some())
    });
    assert_eq!(stranger.finish().probes[0].round_trip_ns, None);
}

#[test]
fn bulk_bytes_arrive_in_the_directions_that_were_asked_for() {
    let address = "127.0.0.1:0".parse().unwrap();
    let mut listener = bulk::Listener::open(address, false, SECRET).unwrap();
    let mut connector = bulk::Transfer::connect(listener.address(), true, SECRET).unwrap();
    let end = Arc::default();
    let t0 = clock::now();
    listener.start(t0, &end).unwrap();
    connector.start(t0, &end).unwrap();
    wait_until(|| listener.received_bytes() > 1_000_000);
    end.store(true, Ordering::Relaxed);
    let (sent, received) = (connector.finish(), listener.finish());
    // A write that has not returned yet may have been read already.
    assert!(
        sent.sent_bytes + 65_536 >= received.received_bytes,
        "{sent:?} {received:?}"
    );
    assert_eq!((sent.received_bytes, received.sent_bytes), (0, 0));
    let fills_the_queue = ["cubic", "reno"].contains(&sent.congestion_control.as_str());
    assert!(fills_the_queue, "{sent:?}");
    assert_eq!(received.congestion_control, "");
}

#[test]
fn who_does_not_know_the_secret_gets_no_connection() {
    let address = "127.0.0.1:0".parse().unwrap();
    let mut listener = bulk::Listener::open(address, true, SECRET).unwrap();
    assert!(bulk::Transfer::connect(listener.address(), true, &[b'8'; 64]).is_err());
    let refused = listener.start(clock::now(), &Arc::default()).unwrap_err();
    assert!(
        matches!(refused, TrafficError::WrongSecret { .. }),
        "{refused}"
    );
}

#[test]
fn a_process_reports_ready_its_record_and_its_totals_in_this_order() {
    let spec = TrafficSpec {
        secret: "7".repeat(64),
        role: TrafficRole::Burner { threads: 1 },
    };
    let start = JobCommand::Start {
        t0_monotonic_ns: clock::now(),
    };
    let mut input = String::new();
    for line in [
        serde_json::to_string(&spec).unwrap(),
        serde_json::to_string(&start).unwrap(),
        serde_json::to_string(&JobCommand::Stop).unwrap(),
    ] {
        input.push_str(&line);
        input.push('\n');
    }
    let mut output = Vec::new();
    run_traffic(input.as_bytes(), &mut output).unwrap();
    let output = String::from_utf8(output).unwrap();
    let events: Vec<JobEvent> = output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(matches!(events[0], JobEvent::Ready { .. }), "{events:?}");
    assert_eq!(events[1], JobEvent::Traffic(TrafficRecord::default()));
    assert!(matches!(events[2], JobEvent::Done(_)), "{events:?}");
    assert!(run_traffic("nonsense\n".as_bytes(), Vec::new()).is_err());
}
