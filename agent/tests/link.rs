//! Links between two network namespaces, with real packets.

#[cfg(test)]
mod datapaths;
#[cfg(test)]
mod shared_cell;
#[cfg(test)]
mod testbed;

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
    use std::sync::Arc;
    use std::sync::mpsc::sync_channel;
    use std::thread;
    use std::time::Duration;

    use hexloop_agent::link::{ModeChoice, Observer, RelayEngine, RelayMode};
    use hexloop_agent::namespace::NetworkNamespace;
    use hexloop_topologies::plan::{DatapathChoice, LinkEnd};
    use hexloop_traces::{
        CapacityCurve, Direction, EndPolicy, LinkChange, LinkSettings, LinkState, PlaybackChange,
        StateOverride, Trace,
    };
    use hexloop_workloads::clock;

    use crate::testbed::{self, MS, Testbed, chain, described, ratio, state};

    fn trace(steps: &[(u64, LinkState)]) -> Arc<Trace> {
        testbed::trace(EndPolicy::Loop, steps)
    }

    fn steps() -> Arc<Trace> {
        trace(&[
            (100 * MS, state(12_000_000, 5 * MS)),
            (100 * MS, state(48_000_000, 8 * MS)),
            (100 * MS, state(120_000_000, 4 * MS)),
        ])
    }

    #[test]
    #[ignore = "needs root"]
    fn the_relay_delivers_what_a_changing_trace_allows() {
        for result in Testbed::new(DatapathChoice::Relay, steps()).calibrated() {
            assert!(
                (ratio(&result) - 1.0).abs() < 0.01,
                "{}",
                described(&result)
            );
            assert!(result.backlogged_windows >= 50, "{}", described(&result));
            assert!(
                result.delay_error.p50_ns.unwrap() < 500_000,
                "{}",
                described(&result)
            );
            assert_eq!(result.probes_lost, 0);
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn a_relay_that_plays_a_wrong_rate_is_found_out() {
        let mut testbed = Testbed::new(DatapathChoice::Relay, steps());
        testbed.faults.scale_rate_ppm = 1_030_000;
        for result in testbed.calibrated() {
            assert!(
                (ratio(&result) - 1.03).abs() < 0.01,
                "{}",
                described(&result)
            );
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn a_relay_that_adds_delay_is_found_out() {
        let mut testbed = Testbed::new(DatapathChoice::Relay, steps());
        testbed.faults.add_delay_ns = 3 * MS;
        for result in testbed.calibrated() {
            assert!(
                result.delay_error.p50_ns.unwrap() > 2_500_000,
                "{}",
                described(&result)
            );
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn a_relay_that_stands_still_is_found_out() {
        let mut testbed = Testbed::new(DatapathChoice::Relay, steps());
        testbed.faults.stop_relay_ns = 200 * MS;
        for result in testbed.calibrated() {
            assert!(
                result.lateness.p99_ns.unwrap() > 50_000_000,
                "{}",
                described(&result)
            );
        }
    }

    /// Bytes that would show a lost or doubled piece.
    fn pattern(length: usize) -> Vec<u8> {
        (0..length)
            .map(|place| u8::try_from((place * 31 + place / 251) % 256).unwrap())
            .collect()
    }

    fn exchange_tcp(testbed: &Testbed, server: IpAddr) {
        let address = SocketAddr::new(server, 5001);
        let listener = testbed.nodes[1]
            .run(|| TcpListener::bind(address).unwrap())
            .unwrap();
        let echo = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut received = Vec::new();
            stream.read_to_end(&mut received).unwrap();
            stream.write_all(&received).unwrap();
        });
        let connect = || TcpStream::connect_timeout(&address, Duration::from_secs(5));
        let mut stream = testbed.nodes[0].run(connect).unwrap().unwrap();
        let sent = pattern(300_000);
        stream.write_all(&sent).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        assert!(
            received == sent,
            "the bytes came back changed over {server}"
        );
        echo.join().unwrap();
    }

    fn exchange_udp(testbed: &Testbed, client: IpAddr, server: IpAddr) {
        let bind = |address: IpAddr| move || UdpSocket::bind((address, 5002)).unwrap();
        let receiver = testbed.nodes[1].run(bind(server)).unwrap();
        let sender = testbed.nodes[0].run(bind(client)).unwrap();
        receiver
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        for length in [0, 1, 2, 999, 1400] {
            let sent = pattern(length);
            sender.send_to(&sent, (server, 5002)).unwrap();
            let mut buffer = [0; 2000];
            let received = receiver.recv(&mut buffer).unwrap();
            assert_eq!(buffer[..received], sent[..]);
        }
    }

    /// Counters of bad checksums in a node: names and values.
    fn checksum_errors(node: &NetworkNamespace) -> Vec<(String, u64)> {
        let read = |path: &str| std::fs::read_to_string(path).unwrap();
        let text = node.run(|| {
            (
                read("/proc/thread-self/net/snmp"),
                read("/proc/thread-self/net/snmp6"),
            )
        });
        let (ipv4, ipv6) = text.unwrap();
        let mut found = Vec::new();
        let lines: Vec<&str> = ipv4.lines().collect();
        for pair in lines.chunks_exact(2) {
            for (name, value) in pair[0].split(' ').zip(pair[1].split(' ')) {
                if name == "InCsumErrors" {
                    found.push((pair[0][..4].to_owned(), value.parse().unwrap()));
                }
            }
        }
        for line in ipv6.lines().filter(|line| line.contains("CsumErrors")) {
            let mut fields = line.split_whitespace();
            let name = fields.next().unwrap().to_owned();
            found.push((name, fields.next().unwrap().parse().unwrap()));
        }
        found
    }

    fn packets_of_both_families_arrive_whole(testbed: &Testbed) {
        let mut link = testbed.link();
        let (windows, _reader) = sync_channel(10_000);
        link.start(clock::now(), windows).unwrap();
        let [client, server] = &testbed.plan.ends;
        for (client, server) in [(client.ipv4, server.ipv4), (client.ipv6, server.ipv6)] {
            exchange_udp(testbed, client, server);
            exchange_tcp(testbed, server);
        }
        let report = link.stop().unwrap();
        for counters in &report.counters {
            assert!(counters.wire_bytes > 600_000, "{counters:?}");
        }
        for node in &testbed.nodes {
            let errors = checksum_errors(node);
            assert!(errors.len() >= 5, "{errors:?}");
            assert!(errors.iter().all(|(_, count)| *count == 0), "{errors:?}");
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn tcp_and_udp_of_both_address_families_cross_the_relay_with_whole_checksums() {
        let trace = trace(&[(60_000 * MS, state(200_000_000, MS))]);
        packets_of_both_families_arrive_whole(&Testbed::new(DatapathChoice::Relay, trace));
    }

    #[test]
    #[ignore = "needs root"]
    fn tc_delivers_what_a_changing_trace_allows() {
        // Without delay, so that htb and a plain queue do.
        let rows = trace(&[
            (500 * MS, state(12_000_000, 0)),
            (500 * MS, state(48_000_000, 0)),
            (500 * MS, state(100_000_000, 0)),
        ]);
        for result in Testbed::new(DatapathChoice::Tc, rows).calibrated() {
            assert!(
                (ratio(&result) - 1.0).abs() < 0.02,
                "{}",
                described(&result)
            );
            assert!(result.backlogged_windows >= 50, "{}", described(&result));
        }
    }

    /// The four rates of the reference measurement of plain htb stepping.
    /// Packets that the interface of the second node has counted.
    fn packets_counted(testbed: &Testbed) -> u64 {
        let interface = testbed.plan.ends[1].interface.clone();
        let read = || std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
        let text = testbed.nodes[1].run(read).unwrap();
        let line = text.lines().find(|line| line.contains(&interface)).unwrap();
        let (_, numbers) = line.split_once(':').unwrap();
        numbers.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    #[test]
    #[ignore = "needs root"]
    fn segments_that_leave_as_one_arrive_unchanged_and_are_counted_as_packets() {
        const BYTES: usize = 100_000_000;
        // So fast that many packets are due whenever the relay wakes up.
        let fast = trace(&[(60_000 * MS, state(10_000_000_000, 0))]);
        let mut testbed = Testbed::new(DatapathChoice::Relay, fast);
        testbed.plan.settings = LinkSettings::drop_tail(3_000_000);
        let mut link = testbed.link();
        for ends in [|end: &LinkEnd| end.ipv4, |end: &LinkEnd| end.ipv6] {
            let address = SocketAddr::new(ends(&testbed.plan.ends[1]), 5004);
            let before = packets_counted(&testbed);
            let (windows, _reader) = sync_channel(10_000);
            link.start(clock::now(), windows).unwrap();
            let listener = testbed.nodes[1]
                .run(|| TcpListener::bind(address).unwrap())
                .unwrap();
            let connect = || TcpStream::connect_timeout(&address, Duration::from_secs(5));
            let mut stream = testbed.nodes[0].run(connect).unwrap().unwrap();
            let sent = pattern(BYTES);
            let received = thread::scope(|scope| {
                scope.spawn(|| {
                    stream.write_all(&sent).unwrap();
                    stream.shutdown(std::net::Shutdown::Write).unwrap();
                });
                let mut received = Vec::with_capacity(BYTES);
                listener
                    .accept()
                    .unwrap()
                    .0
                    .read_to_end(&mut received)
                    .unwrap();
                received
            });
            assert!(received == sent, "the bytes came changed over {address}");
            let report = link.stop().unwrap();
            let counters = report.counters.iter();
            let up = counters
                .clone()
                .find(|counters| counters.direction == Direction::Up)
                .unwrap();
            let counted = packets_counted(&testbed) - before;
            println!("{address}: {} packets, {counted} counted", up.packets);
            assert!(up.packets >= counted);
            assert!(up.packets * 1448 >= u64::try_from(BYTES).unwrap());
        }
    }

    fn four_rates(step_ns: u64) -> Arc<Trace> {
        let rates = [12, 48, 120, 300];
        trace(&rates.map(|rate| (step_ns, state(rate * 1_000_000, 0))))
    }

    #[test]
    #[ignore = "needs root"]
    fn tc_steers_its_bytes_to_the_trace_in_steps_of_ten_and_of_one_millisecond() {
        for (step_ns, allowed) in [(10 * MS, 0.005), (MS, 0.01)] {
            for result in Testbed::new(DatapathChoice::Tc, four_rates(step_ns)).calibrated() {
                let text = described(&result);
                assert!((ratio(&result) - 1.0).abs() < allowed, "{step_ns}: {text}");
                assert!(result.backlogged_windows >= 50, "{step_ns}: {text}");
            }
        }
    }

    #[test]
    #[ignore = "needs root, netem, virtual-time"]
    fn tc_delays_and_limits_where_the_kernel_has_netem() {
        let rows = trace(&[
            (1000 * MS, state(20_000_000, 10 * MS)),
            (500 * MS, state(40_000_000, 5 * MS)),
        ]);
        for result in Testbed::new(DatapathChoice::Tc, rows).calibrated() {
            assert!(
                (ratio(&result) - 1.0).abs() < 0.03,
                "{}",
                described(&result)
            );
            assert!(
                result.delay_error.p50_ns.unwrap() < 2_000_000,
                "{}",
                described(&result)
            );
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn tcp_and_udp_of_both_address_families_cross_tc_with_whole_checksums() {
        let mut testbed = Testbed::new(
            DatapathChoice::Tc,
            trace(&[(60_000 * MS, state(200_000_000, 0))]),
        );
        testbed.plan.name = "tc".to_owned();
        packets_of_both_families_arrive_whole(&testbed);
    }

    fn interrupted() -> Arc<Trace> {
        trace(&[
            (500 * MS, state(20_000_000, 0)),
            (300 * MS, state(0, 0)),
            (700 * MS, state(20_000_000, 0)),
        ])
    }

    #[test]
    #[ignore = "needs root"]
    fn the_relay_delivers_exactly_through_an_outage() {
        for result in Testbed::new(DatapathChoice::Relay, interrupted()).calibrated() {
            assert!(
                (ratio(&result) - 1.0).abs() < 0.01,
                "{}",
                described(&result)
            );
        }
    }

    #[test]
    #[ignore = "needs root, netem, virtual-time"]
    fn tc_delivers_exactly_through_an_outage_where_the_kernel_can_hold_packets() {
        for result in Testbed::new(DatapathChoice::Tc, interrupted()).calibrated() {
            let text = described(&result);
            assert!((ratio(&result) - 1.0).abs() < 0.005, "{text}");
            assert!(result.delay_error.max_ns.unwrap() < 1_000_000, "{text}");
            assert_eq!(result.probes_lost, 0);
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn tc_plays_outages_or_says_what_to_do() {
        let mut testbed = Testbed::new(DatapathChoice::Tc, interrupted());
        if let Err(error) = testbed.try_link() {
            // A kernel without plug.
            let text = chain(&error);
            assert!(
                text.contains("plug") && text.contains("datapath relay"),
                "{text}"
            );
        }
        // Nothing of the kernel holds a queue that is managed actively.
        testbed.plan.settings.discipline = hexloop_traces::QueueDiscipline::CODEL;
        let text = chain(&testbed.try_link().unwrap_err());
        assert!(
            text.contains("outages") && text.contains("datapath relay"),
            "{text}"
        );
    }

    #[test]
    #[ignore = "needs root"]
    fn auto_prefers_the_relay_and_says_why() {
        let testbed = Testbed::new(DatapathChoice::Auto, steps());
        let description = testbed.link().description();
        println!("{description:?}");
        assert_eq!(description.datapath, "relay");
        assert!(
            description.reason.contains("relay is exact"),
            "{}",
            description.reason
        );
    }

    #[test]
    #[ignore = "needs root"]
    fn the_relay_damages_and_duplicates_packets_and_stops_when_told_to() {
        packets_are_damaged_and_duplicated_until_told_otherwise(DatapathChoice::Relay);
    }

    #[test]
    #[ignore = "needs root, fq"]
    fn edt_damages_and_duplicates_packets_and_stops_when_told_to() {
        packets_are_damaged_and_duplicated_until_told_otherwise(DatapathChoice::Edt);
    }

    #[test]
    #[ignore = "needs root, netem"]
    fn tc_damages_and_duplicates_packets_and_stops_when_told_to() {
        packets_are_damaged_and_duplicated_until_told_otherwise(DatapathChoice::Tc);
    }

    fn packets_are_damaged_and_duplicated_until_told_otherwise(datapath: DatapathChoice) {
        let damaging = LinkState {
            corrupt_ppb: 1_000_000_000,
            ..state(20_000_000, MS)
        };
        let testbed = Testbed::new(datapath, trace(&[(60_000 * MS, damaging)]));
        let mut link = testbed.link();
        let [client, server] = &testbed.plan.ends;
        // The neighbours get to know each other before anything is damaged.
        exchange_udp(&testbed, client.ipv4, server.ipv4);
        let bind = |address: IpAddr| move || UdpSocket::bind((address, 5004)).unwrap();
        let receiver = testbed.nodes[1].run(bind(server.ipv4)).unwrap();
        let sender = testbed.nodes[0].run(bind(client.ipv4)).unwrap();
        let timeout = Some(Duration::from_secs(5));
        receiver.set_read_timeout(timeout).unwrap();
        let send = |number: u8| {
            sender
                .send_to(&[number; 1000], (server.ipv4, 5004))
                .unwrap()
        };
        let (windows, _reader) = sync_channel(10_000);
        let t0 = clock::now();
        link.start(t0, windows).unwrap();
        // tc sets the first row when its thread wakes up.
        clock::sleep_until(t0 + 50 * MS);
        (0..50).for_each(|number| assert_eq!(send(number), 1000));
        let instead = StateOverride {
            corrupt_ppb: Some(0),
            dup_ppb: Some(1_000_000_000),
            ..StateOverride::NONE
        };
        let change = LinkChange::Play(PlaybackChange::Override(instead));
        // On tc what waits meets its fate as it leaves: 50 packets take 20 ms.
        clock::sleep_until(clock::now() + 50 * MS);
        let at_ns = link.change(Direction::Up, clock::now(), change).unwrap();
        // What waits may have to leave first, and tc changes its rows one by one.
        clock::sleep_until(t0 + at_ns + 50 * MS);
        (50..60).for_each(|number| assert_eq!(send(number), 1000));
        for number in 50..60 {
            for _copy in 0..2 {
                let mut buffer = [0; 2000];
                // netem also damages what nobody looks at: the sender's hardware address.
                let mut unharmed = 0;
                while buffer[0] < 50 {
                    assert_eq!(receiver.recv(&mut buffer).unwrap(), 1000);
                    unharmed += 1;
                }
                assert!(unharmed <= 4, "{unharmed}");
                assert_eq!(buffer[..1000], [number; 1000]);
            }
        }
        link.stop().unwrap();
        let seen = checksum_errors(&testbed.nodes[1]);
        let noticed: u64 = seen.iter().map(|(_, count)| count).sum();
        // The others were hit in their IP header, which is counted elsewhere.
        assert!((40..=50).contains(&noticed), "{seen:?}");
    }

    #[test]
    #[ignore = "needs root"]
    fn an_outage_holds_packets_back_and_lets_them_go() {
        an_outage_holds(DatapathChoice::Relay);
    }

    #[test]
    #[ignore = "needs root, netem, virtual-time"]
    fn tc_holds_packets_back_in_an_outage_and_lets_them_go() {
        an_outage_holds(DatapathChoice::Tc);
    }

    fn an_outage_holds(datapath: DatapathChoice) {
        let rows = [
            (100 * MS, state(20_000_000, 2 * MS)),
            (300 * MS, state(0, 2 * MS)),
            (60_000 * MS, state(20_000_000, 2 * MS)),
        ];
        let testbed = Testbed::new(datapath, trace(&rows));
        let mut link = testbed.link();
        let [client, server] = &testbed.plan.ends;
        let bind = |address: IpAddr| move || UdpSocket::bind((address, 5003)).unwrap();
        let receiver = testbed.nodes[1].run(bind(server.ipv4)).unwrap();
        let sender = testbed.nodes[0].run(bind(client.ipv4)).unwrap();
        receiver
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let (windows, reader) = sync_channel(10_000);
        let t0 = clock::now() + 50 * MS;
        link.start(t0, windows).unwrap();
        clock::sleep_until(t0 + 150 * MS);
        sender.send_to(&[7; 1000], (server.ipv4, 5003)).unwrap();
        receiver.recv(&mut [0; 2000]).unwrap();
        let arrived = clock::now() - t0;
        assert!(arrived >= 402 * MS, "{arrived}");
        clock::sleep_until(t0 + 500 * MS);
        link.stop().unwrap();
        let up: Vec<_> = reader
            .try_iter()
            .filter(|w| w.direction == Direction::Up)
            .collect();
        let delivered: u64 = up.iter().map(|window| window.delivered_bytes).sum();
        assert_eq!(delivered, 1028);
        // In the outage the queue was not empty and nothing came.
        let held = |w: &&hexloop_proto::LinkWindow| w.start_ns >= 200 * MS && w.start_ns < 380 * MS;
        let held: Vec<_> = up.iter().filter(held).collect();
        assert_eq!(held.len(), 9, "{up:?}");
        assert!(
            held.iter()
                .all(|w| w.backlogged && w.delivered_bytes == 0 && w.trace_bytes == 0)
        );
        assert!(held.iter().all(|window| window.queue_bytes == 1028));
    }

    /// Runs iproute2 in a node.
    fn ip(node: &NetworkNamespace, arguments: &[&str]) {
        let run = || std::process::Command::new("ip").args(arguments).status();
        assert!(
            node.run(run).unwrap().unwrap().success(),
            "ip {arguments:?}"
        );
    }

    /// What a playing link says at its end after something was done to its interface.
    fn stopped_after(
        datapath: DatapathChoice,
        arguments: &[&str],
        trace: Arc<Trace>,
    ) -> Result<(), String> {
        let testbed = Testbed::new(datapath, trace);
        let mut link = testbed.link();
        let (windows, _reader) = sync_channel(10_000);
        link.start(clock::now(), windows).unwrap();
        ip(&testbed.nodes[1], arguments);
        // Long enough for a row to be set on what is not there any more.
        clock::sleep_until(clock::now() + 50 * MS);
        link.stop().map(|_| ()).map_err(|error| chain(&error))
    }

    fn transparent() -> Arc<Trace> {
        trace(&[(60_000 * MS, LinkState::TRANSPARENT)])
    }

    #[test]
    #[ignore = "needs root"]
    fn an_interface_that_goes_away_or_down_fails_the_link_by_name_in_every_mode() {
        let shaped = || trace(&[(60_000 * MS, state(200_000_000, MS))]);
        let slow = || trace(&[(60_000 * MS, state(5_000_000, MS))]);
        for trace in [shaped(), slow(), transparent()] {
            let relay = DatapathChoice::Relay;
            let gone = stopped_after(relay, &["link", "delete", "hxl0n1"], Arc::clone(&trace));
            let text = gone.unwrap_err();
            assert!(text.contains("interface hxl0n1 went away"), "{text}");
            let down = stopped_after(relay, &["link", "set", "hxl0n1", "down"], trace);
            let text = down.unwrap_err();
            assert!(text.contains("interface hxl0n1 was taken down"), "{text}");
        }
    }

    #[test]
    #[ignore = "needs root, netem, fq"]
    fn an_interface_that_goes_away_or_down_fails_the_link_by_name_on_the_kernels_datapaths() {
        let steps = [
            (20 * MS, state(5_000_000, MS)),
            (20 * MS, state(9_000_000, 4 * MS)),
        ];
        for datapath in [DatapathChoice::Tc, DatapathChoice::Edt] {
            let gone = stopped_after(datapath, &["link", "delete", "hxl0n1"], trace(&steps));
            let text = gone.unwrap_err();
            assert!(
                text.contains("interface hxl0n1 went away"),
                "{datapath:?}: {text}"
            );
            let down = stopped_after(datapath, &["link", "set", "hxl0n1", "down"], trace(&steps));
            let text = down.unwrap_err();
            assert!(
                text.contains("interface hxl0n1 was taken down"),
                "{datapath:?}: {text}"
            );
            let mtu = ["link", "set", "hxl0n1", "mtu", "1400"];
            let text = stopped_after(datapath, &mtu, trace(&steps)).unwrap_err();
            assert!(
                text.contains("its MTU went from 1500 to 1400 bytes"),
                "{datapath:?}: {text}"
            );
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn a_packet_that_is_longer_than_the_mtu_after_a_change_fails_the_link() {
        let testbed = Testbed::new(
            DatapathChoice::Relay,
            trace(&[(60_000 * MS, state(200_000_000, MS))]),
        );
        let mut link = testbed.link();
        let (windows, _reader) = sync_channel(10_000);
        link.start(clock::now(), windows).unwrap();
        // The sender's may be raised; its peer, the relay's port, still takes a little more than
        // the old MTU, and the link does not.
        ip(&testbed.nodes[0], &["link", "set", "hxl0n0", "mtu", "1504"]);
        let [client, server] = &testbed.plan.ends;
        let bind = |address: IpAddr| move || UdpSocket::bind((address, 5005)).unwrap();
        let receiver = testbed.nodes[1].run(bind(server.ipv4)).unwrap();
        receiver
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let sender = testbed.nodes[0].run(bind(client.ipv4)).unwrap();
        sender.send_to(&[1; 1476], (server.ipv4, 5005)).unwrap();
        sender.send_to(&[2; 100], (server.ipv4, 5005)).unwrap();
        let mut buffer = [0; 2000];
        // The short one passes: one bad packet stops nothing.
        let length = receiver.recv(&mut buffer).unwrap();
        assert!(length == 100 || length == 1476);
        let outcome = link.stop().map(|_| ()).map_err(|error| chain(&error));
        assert_eq!(outcome.is_err(), length == 100, "{outcome:?}");
    }

    #[test]
    #[ignore = "needs root"]
    fn packets_of_both_families_pass_whole_where_nothing_acts_on_them() {
        for mode in [ModeChoice::Auto, ModeChoice::Bulk] {
            let mut testbed = Testbed::new(DatapathChoice::Relay, transparent());
            testbed.relay.mode = mode;
            let expected = if mode == ModeChoice::Bulk {
                RelayMode::Bulk
            } else {
                RelayMode::LowLatency
            };
            assert_eq!(testbed.link().description().mode, Some(expected));
            packets_of_both_families_arrive_whole(&testbed);
        }
    }

    #[test]
    #[ignore = "needs root"]
    fn a_mode_that_passes_packets_through_is_refused_where_something_acts() {
        let mut testbed = Testbed::new(DatapathChoice::Relay, steps());
        testbed.relay.mode = ModeChoice::LowLatency;
        let text = chain(&testbed.try_link().unwrap_err());
        assert!(text.contains("choose mode exact or auto"), "{text}");
    }

    #[test]
    #[ignore = "needs root"]
    fn an_observer_sees_every_segment_of_at_most_the_mtu_with_its_times() {
        let mut testbed = Testbed::new(
            DatapathChoice::Relay,
            trace(&[(60_000 * MS, state(200_000_000, 2 * MS))]),
        );
        let (observer, packets) = Observer::new(10_000);
        testbed.relay.observer = Some(observer.clone());
        testbed.relay.engine = Some(RelayEngine::new());
        let mut link = testbed.link();
        let (windows, _reader) = sync_channel(10_000);
        link.start(clock::now(), windows).unwrap();
        exchange_tcp(&testbed, testbed.plan.ends[1].ipv4);
        let report = link.stop().unwrap();
        assert_eq!((observer.dropped(), report.warnings), (0, Vec::new()));
        drop(link);
        let (mut seen, mut payload) = (0, 0);
        for packet in packets.try_iter() {
            seen += 1;
            // The playback's end lets go of what waits.
            if packet.due == 0 {
                continue;
            }
            assert!(packet.arrival + 2 * MS <= packet.due, "{packet:?}");
            assert!(packet.due <= packet.achieved, "{packet:?}");
            let frame = packet.into_frame();
            assert!(frame.len() <= 1514, "{}", frame.len());
            payload += frame.len();
        }
        assert!(
            seen > 400 && payload > 600_000,
            "{seen} packets, {payload} bytes"
        );
    }

    #[test]
    #[ignore = "needs root"]
    fn nothing_moves_on_an_idle_link_and_it_goes_away_whole() {
        let testbed = Testbed::new(DatapathChoice::Relay, steps());
        let mut link = testbed.link();
        let (windows, reader) = sync_channel(10_000);
        let t0 = clock::now() + 50 * MS;
        link.start(t0, windows).unwrap();
        clock::sleep_until(t0 + 1000 * MS);
        let report = link.stop().unwrap();
        assert!(
            report.counters.iter().all(|counters| counters.packets == 0),
            "{report:?}"
        );
        let delivered: u64 = reader.try_iter().map(|window| window.delivered_bytes).sum();
        assert_eq!(delivered, 0);
        drop(link);
        for node in &testbed.nodes {
            let interfaces =
                node.run(|| std::fs::read_to_string("/proc/thread-self/net/dev").unwrap());
            assert!(!interfaces.unwrap().contains("hx"));
        }
    }

    /// Sends numbered datagrams up the link at even distances, and says which arrived, in order
    /// and when since T0.
    fn arrivals(testbed: &Testbed, packets: u64, gap_ns: u64, length: usize) -> Vec<(u64, u64)> {
        let mut link = testbed.link();
        let [client, server] = &testbed.plan.ends;
        let bind = |address: IpAddr| move || UdpSocket::bind((address, 5004)).unwrap();
        let receiver = testbed.nodes[1].run(bind(server.ipv4)).unwrap();
        let sender = testbed.nodes[0].run(bind(client.ipv4)).unwrap();
        receiver
            .set_read_timeout(Some(Duration::from_millis(1000)))
            .unwrap();
        let (windows, _reader) = sync_channel(10_000);
        let t0 = clock::now() + 50 * MS;
        link.start(t0, windows).unwrap();
        let to = (server.ipv4, 5004);
        let sending = thread::spawn(move || {
            for number in 0..packets {
                clock::sleep_until(t0 + 10 * MS + number * gap_ns);
                let mut payload = vec![0; length];
                payload[..8].copy_from_slice(&number.to_be_bytes());
                sender.send_to(&payload, to).unwrap();
            }
        });
        let mut found = Vec::new();
        let mut buffer = [0; 2000];
        while let Ok(length) = receiver.recv(&mut buffer) {
            assert!(length >= 8);
            let number = u64::from_be_bytes(buffer[..8].try_into().unwrap());
            found.push((number, clock::now() - t0));
        }
        sending.join().unwrap();
        link.stop().unwrap();
        found
    }

    #[test]
    #[ignore = "needs root, netem, virtual-time"]
    fn tc_keeps_jittered_packets_in_order_unless_reordering_is_asked_for() {
        let jittered = LinkState {
            jitter_ns: 4_000_000,
            ..state(100_000_000, 5 * MS)
        };
        let mut testbed = Testbed::new(DatapathChoice::Tc, trace(&[(60_000 * MS, jittered)]));
        let found = arrivals(&testbed, 300, MS, 200);
        assert_eq!(found.len(), 300);
        assert!(found.is_sorted(), "{found:?}");
        let delays = found.iter().map(|(number, at)| at - 10 * MS - number * MS);
        let delays: Vec<u64> = delays.collect();
        assert!(delays.iter().any(|&delay| delay < 6 * MS), "{delays:?}");
        assert!(delays.iter().any(|&delay| delay > 8 * MS), "{delays:?}");
        testbed.plan.settings.reorder = true;
        let found = arrivals(&testbed, 300, MS, 200);
        assert_eq!(found.len(), 300);
        assert!(!found.is_sorted());
    }

    #[test]
    #[ignore = "needs root, netem, virtual-time"]
    fn tc_loses_in_bursts_of_the_length_that_the_trace_asks_for() {
        let lossy = LinkState {
            loss_ppb: 200_000_000,
            loss_burst_milli: 4000,
            ..state(100_000_000, MS)
        };
        let testbed = Testbed::new(DatapathChoice::Tc, trace(&[(60_000 * MS, lossy)]));
        let found = arrivals(&testbed, 4000, MS / 2, 200);
        let lost = 4000 - found.len();
        let bursts = found
            .windows(2)
            .filter(|pair| pair[1].0 > pair[0].0 + 1)
            .count();
        assert!((600..1000).contains(&lost), "{lost} of 4000 lost");
        let mean = lost * 10 / bursts;
        assert!((30..=50).contains(&mean), "{lost} lost in {bursts} bursts");
    }

    #[test]
    #[ignore = "needs root, netem, virtual-time"]
    fn tc_and_the_relay_deliver_the_same_packets_when_the_trace_says() {
        let rows = trace(&[
            (100 * MS, state(4_000_000, 10 * MS)),
            (100 * MS, state(12_000_000, 15 * MS)),
            (50 * MS, state(0, 15 * MS)),
            (150 * MS, state(8_000_000, 5 * MS)),
        ]);
        // 500 bytes of IP every 0.6 ms: 6.7 Mbit/s, queued in the first row and in the outage.
        let ideal = ideal_arrivals(&rows, 1000, 600_000, 500);
        for datapath in [DatapathChoice::Relay, DatapathChoice::Tc] {
            let found = arrivals(&Testbed::new(datapath, rows.clone()), 1000, 600_000, 472);
            assert_eq!(found.len(), 1000, "{datapath:?}");
            let compared = found.iter().zip(&ideal).enumerate();
            let errors = compared.map(|(place, ((number, at), ideal))| {
                assert_eq!(*number, u64::try_from(place).unwrap());
                at.abs_diff(*ideal)
            });
            let mut errors: Vec<u64> = errors.collect();
            errors.sort_unstable();
            println!(
                "{datapath:?}: {} {} {}",
                errors[500], errors[990], errors[999]
            );
            // htb sends a packet at the start of its own time (1 ms at 4 Mbit/s), the relay at
            // its end; the receiver is woken when the one processor of the guest is free.
            assert!(errors[500] <= 1_500_000, "{datapath:?}: {errors:?}");
        }
    }

    /// When packets arrive at best that are sent up at even distances from 10 ms on.
    fn ideal_arrivals(trace: &Trace, packets: u64, gap_ns: u64, ip_bytes: u64) -> Vec<u64> {
        let curve = CapacityCurve::new(trace, Direction::Up);
        let (mut free_ns, mut latest_ns) = (0, 0);
        let arrivals = (0..packets).map(|number| {
            let sent_ns = 10 * MS + number * gap_ns;
            free_ns = curve.finish_ns(sent_ns.max(free_ns), ip_bytes * 8).unwrap();
            latest_ns = latest_ns.max(free_ns + curve.state_at(free_ns).delay_ns);
            latest_ns
        });
        arrivals.collect()
    }
}
