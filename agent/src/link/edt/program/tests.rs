//! The programs run by the kernel on made-up packets, against the traces' exact integral.

use hexloop_traces::{CapacityCurve, Direction, EndPolicy, LinkState, UNLIMITED_RATE_BPS};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::*;
use crate::link::edt::loaded::{Loaded, Settings};
use crate::link::edt::memory::{self, DAMAGED};
use crate::link::testing::{MS, state, trace};
use crate::sys::bpf::Ran;

const T0_NS: u64 = 1_000_000_000_000;
const HORIZON_NS: u64 = 4_000_000_000_000;

fn loaded(end: EndPolicy, steps: &[(u64, LinkState)], queue_bytes: u64) -> Loaded {
    served(end, steps, queue_bytes, None)
}

fn served(
    end: EndPolicy,
    steps: &[(u64, LinkState)],
    queue_bytes: u64,
    slot_ns: Option<u64>,
) -> Loaded {
    let settings = settings(slot_ns);
    loaded_with(end, steps, queue_bytes, settings)
}

fn settings(slot_ns: Option<u64>) -> Settings {
    Settings {
        window_ns: 10 * MS,
        horizon_ns: HORIZON_NS,
        seed: 7,
        reorder: false,
        queue_packets: None,
        slot_ns,
        clock: Clock::Packet,
    }
}

fn loaded_with(
    end: EndPolicy,
    steps: &[(u64, LinkState)],
    queue_bytes: u64,
    settings: Settings,
) -> Loaded {
    let table = Table::new(&trace(end, steps), Direction::Down, queue_bytes).unwrap();
    let loaded = Loaded::new(table, settings).unwrap_or_else(|error| panic!("{error:?}"));
    loaded.start(T0_NS, None).unwrap();
    loaded
}

fn run(loaded: &Loaded, arrival_ns: u64, ip_bytes: usize, repeat: u32) -> Ran {
    let mut packet = vec![0; 14 + ip_bytes];
    packet[12..14].copy_from_slice(&[0x88, 0xb5]);
    let mut context = vec![0; 192];
    let mut put = |at: i16, bytes: &[u8]| {
        let at = usize::try_from(at).unwrap();
        context[at..at + bytes.len()].copy_from_slice(bytes);
    };
    put(TIMESTAMP, &(T0_NS + arrival_ns).to_ne_bytes());
    put(
        WIRE_LENGTH,
        &u32::try_from(packet.len()).unwrap().to_ne_bytes(),
    );
    loaded.now().stamp.run(&packet, &context, repeat).unwrap()
}

/// What the kernel makes of a packet of `ip_bytes` that comes at an offset from T0: its due time
/// from T0, or `None` if it is dropped.
fn stamped(loaded: &Loaded, arrival_ns: u64, ip_bytes: usize) -> Option<u64> {
    let ran = run(loaded, arrival_ns, ip_bytes, 1);
    match ran.verdict.cast_signed() {
        GO_ON => Some(memory::field(&ran.context, TIMESTAMP) - T0_NS),
        DROP => None,
        verdict => panic!("{verdict}"),
    }
}

/// What a packet's due time is, by the exact integral: the rule that every datapath follows.
struct Rule {
    curve: CapacityCurve,
    /// When the present run of packets without a gap began, and its bits.
    run: (u64, u64),
    /// `None` once a packet is held for ever.
    finish_ns: Option<u64>,
    due_ns: u64,
}

impl Rule {
    fn due(&mut self, arrival_ns: u64, ip_bytes: usize) -> Option<u64> {
        let finish_ns = self.finish_ns?;
        let bits = u64::try_from(ip_bytes * 8).unwrap();
        let (start_ns, before) = self.run;
        self.run = if arrival_ns > finish_ns {
            (arrival_ns, bits)
        } else {
            (start_ns, before + bits)
        };
        self.finish_ns = self.curve.finish_ns(self.run.0, self.run.1);
        let finish_ns = self.finish_ns?.max(arrival_ns);
        self.finish_ns = Some(finish_ns);
        let due_ns = finish_ns + self.curve.state_at(finish_ns).delay_ns;
        self.due_ns = self.due_ns.max(due_ns);
        Some(self.due_ns)
    }
}

/// Random packets through the program and through the rule: they agree to within a tolerance, and a nanosecond for
/// each time the trace has begun again, which is where the table's integral is rounded to a unit.
fn compare(
    end: EndPolicy,
    steps: &[(u64, LinkState)],
    packets: &[(u64, usize)],
    tolerance_ns: u64,
) -> Result<(), TestCaseError> {
    let program = loaded(end, steps, 1_000_000);
    let mut rule = Rule {
        curve: CapacityCurve::new(&trace(end, steps), Direction::Down),
        run: (0, 0),
        finish_ns: Some(0),
        due_ns: 0,
    };
    let lap_ns: u64 = steps.iter().map(|(length_ns, _)| length_ns).sum();
    let mut now_ns = 0;
    for &(gap_ns, ip_bytes) in packets {
        now_ns += gap_ns;
        let expected = rule.due(now_ns, ip_bytes);
        let found = stamped(&program, now_ns, ip_bytes);
        match (found, expected) {
            (None, None) => {}
            (Some(found), Some(expected)) => {
                let laps = match end {
                    EndPolicy::Loop => expected / lap_ns,
                    _ => 0,
                };
                prop_assert!(
                    found.abs_diff(expected) <= tolerance_ns + laps,
                    "at {now_ns}: {found} instead of {expected}"
                );
            }
            other => return Err(TestCaseError::fail(format!("at {now_ns}: {other:?}"))),
        }
    }
    Ok(())
}

fn rate() -> impl Strategy<Value = u64> {
    prop_oneof![
        1 => Just(0),
        1 => Just(UNLIMITED_RATE_BPS),
        3 => 1_000_000_u64..100_000_000,
        2 => 100_000_000_u64..10_000_000_000,
    ]
}

#[test]
#[ignore = "needs root"]
fn due_times_are_those_of_the_exact_integral_to_within_the_stated_rounding() {
    let steps = prop::collection::vec((MS..40 * MS, rate(), 0_u64..30 * MS), 1..12);
    let packets = prop::collection::vec((0_u64..3 * MS, 60_usize..1500), 1..80);
    let ends = prop_oneof![
        Just(EndPolicy::Loop),
        Just(EndPolicy::Hold),
        Just(EndPolicy::Clear)
    ];
    let cases = Config {
        cases: 200,
        failure_persistence: None,
        ..Config::default()
    };
    TestRunner::new(cases)
        .run(&(ends, steps, packets), |(end, steps, packets)| {
            let steps: Vec<_> = steps
                .into_iter()
                .map(|(length_ns, rate_bps, delay_ns)| (length_ns, state(rate_bps, delay_ns)))
                .collect();
            compare(end, &steps, &packets, 3)
        })
        .unwrap();
}

#[test]
#[ignore = "needs root"]
fn losses_have_the_share_and_the_bursts_of_the_trace() {
    for (loss_burst_milli, burst) in [(1000, 1.0), (4000, 4.0)] {
        let lossy = LinkState {
            loss_ppb: 100_000_000,
            loss_burst_milli,
            ..state(UNLIMITED_RATE_BPS, 0)
        };
        let program = loaded(EndPolicy::Hold, &[(MS, lossy)], 100_000);
        let lost: Vec<bool> = (0..40_000)
            .map(|packet| stamped(&program, packet, 100).is_none())
            .collect();
        let count = |found: usize| f64::from(u32::try_from(found).unwrap());
        let losses = count(lost.iter().filter(|&&lost| lost).count());
        let bursts = count(lost.windows(2).filter(|pair| !pair[0] && pair[1]).count());
        // Four standard deviations of a mean over this many packets, bursts included.
        assert!((losses / 40_000.0 - 0.1).abs() < 0.016, "{losses}");
        let booked = memory::field(&program.state().unwrap(), LOST);
        assert_eq!(
            booked,
            u64::try_from(lost.iter().filter(|&&lost| lost).count()).unwrap()
        );
        let expected = if burst > 1.0 { burst } else { 1.0 / 0.9 };
        assert!(
            (losses / bursts / expected - 1.0).abs() < 0.1,
            "{losses} in {bursts}"
        );
    }
}

#[test]
#[ignore = "needs root"]
fn jitter_spreads_packets_but_keeps_their_order() {
    let jittery = LinkState {
        jitter_ns: 2_000_000,
        ..state(UNLIMITED_RATE_BPS, 5 * MS)
    };
    let program = loaded(EndPolicy::Hold, &[(MS, jittery)], 100_000);
    let mut last = 0;
    let mut early = 0;
    for packet in 0..2000 {
        let arrival = packet * 20 * MS;
        let due = stamped(&program, arrival, 100).unwrap();
        assert!(
            (3 * MS..=7 * MS).contains(&(due - arrival)),
            "{}",
            due - arrival
        );
        early += u32::from(due - arrival < 5 * MS);
        assert!(due >= last);
        last = due;
    }
    assert!((900..1100).contains(&early), "{early}");
    let close: Vec<u64> = (0..200)
        .map(|packet| stamped(&program, 100_000 * MS + packet * 1000, 100).unwrap())
        .collect();
    assert!(close.is_sorted());
}

#[test]
#[ignore = "needs root"]
fn the_queue_holds_what_it_may_and_no_more() {
    // 1000 bytes take 1 ms, and 10 000 may wait.
    let program = loaded(EndPolicy::Hold, &[(MS, state(8_000_000, 0))], 10_000);
    let sent: Vec<_> = (0..15).map(|_| stamped(&program, 0, 1000)).collect();
    let due: Vec<u64> = sent.iter().flatten().copied().collect();
    assert_eq!(due, (1..=10).map(|ms| ms * MS).collect::<Vec<_>>());
    assert_eq!(memory::field(&program.state().unwrap(), DROPPED), 5);
    // Half a packet later there is room for half a packet.
    assert_eq!(stamped(&program, MS / 2, 1000), None);
    assert_eq!(stamped(&program, MS / 2, 500), Some(10 * MS + MS / 2));
}

#[test]
#[ignore = "needs root"]
fn an_outage_without_end_drops_what_it_would_hold_for_ever() {
    let rows = [(10 * MS, state(8_000_000, 0)), (10 * MS, state(0, 0))];
    let program = loaded(EndPolicy::Hold, &rows, 100_000);
    assert_eq!(stamped(&program, 9 * MS, 1000), Some(10 * MS));
    assert_eq!(stamped(&program, 9 * MS, 1000), None);
}

#[test]
#[ignore = "needs root"]
fn before_its_start_and_after_its_end_a_link_is_transparent() {
    let program = loaded(EndPolicy::Hold, &[(MS, state(8_000_000, 0))], 100_000);
    program.start(T0_NS + MS, None).unwrap();
    assert_eq!(stamped(&program, MS - 1, 1000), Some(MS - 1));
    assert_eq!(stamped(&program, MS, 1000), Some(2 * MS));
    program.stop().unwrap();
    assert_eq!(stamped(&program, 2 * MS, 1000), Some(2 * MS));
}

#[test]
#[ignore = "needs root"]
fn a_pause_holds_what_would_leave_in_it() {
    let program = loaded(EndPolicy::Hold, &[(MS, state(8_000_000, 0))], 100_000);
    program.start(T0_NS, Some((5 * MS, 8 * MS))).unwrap();
    let due = [0, 4 * MS, 5 * MS, 8 * MS].map(|at| stamped(&program, at, 1000).unwrap());
    assert_eq!(due, [MS, 8 * MS, 8 * MS, 9 * MS]);
}

/// Prints what a packet costs; says nothing about what it may cost.
#[test]
#[ignore = "needs root"]
fn a_packet_costs_what_is_printed_here() {
    for rows in [1, 1 << 10, 1 << 16] {
        let steps: Vec<_> = (0..rows - 1)
            .map(|row| (MS, state(1_000_000_000 + row, 5 * MS)))
            .chain([(MS, state(1_000_000_000, 5 * MS))])
            .collect();
        let program = loaded(
            EndPolicy::Loop,
            &steps[..steps.len().min(60_000)],
            1_000_000_000,
        );
        let ran = run(&program, MS, 1000, 100_000);
        println!("{rows} rows: {} ns per packet", ran.duration_ns);
        assert!(ran.duration_ns > 0);
    }
}

#[test]
#[ignore = "needs root"]
fn opportunities_grant_a_slot_at_its_end_and_carry_over_what_waits() {
    // 3000 bytes per slot of 2 ms.
    let rows = [(MS, state(12_000_000, 0))];
    let program = served(EndPolicy::Hold, &rows, 100_000, Some(2 * MS));
    let sent = [
        // The first slot takes two packets, whenever they come in it; the third waits.
        (MS / 2, 1500, 2),
        (MS, 1500, 2),
        (MS, 1500, 4),
        // Half of the second slot is left.
        (3 * MS, 1000, 4),
        // And of that 500 bytes: the packet spans two grants.
        (3 * MS, 1000, 6),
        // Nobody came for the rest of the third: it is lost.
        (20 * MS, 1500, 22),
        (20 * MS, 1500, 22),
        (20 * MS, 60, 24),
    ];
    for (arrival_ns, ip_bytes, due_ms) in sent {
        assert_eq!(stamped(&program, arrival_ns, ip_bytes), Some(due_ms * MS));
    }
}

#[test]
#[ignore = "needs root"]
fn a_queue_in_packets_holds_so_many_of_any_size_unless_the_trace_says_bytes() {
    let own_queue = LinkState {
        queue_bytes: 1000,
        ..state(8_000_000, 0)
    };
    let rows = [(100 * MS, state(8_000_000, 0)), (MS, own_queue)];
    let settings = Settings {
        queue_packets: Some(3),
        ..settings(None)
    };
    let program = loaded_with(EndPolicy::Hold, &rows, 4500, settings);
    // 100 bytes take 0.1 ms.
    let due: Vec<_> = (0..5).map(|_| stamped(&program, 0, 100)).collect();
    let tenths = |tenths: u64| Some(tenths * MS / 10);
    assert_eq!(due, [tenths(1), tenths(2), tenths(3), None, None]);
    // The first is through at 0.1 ms.
    assert_eq!(
        stamped(&program, MS / 10, 1500),
        Some(3 * MS / 10 + MS * 3 / 2)
    );
    assert_eq!(stamped(&program, MS / 10, 60), None);
    // Later the trace's own limit counts.
    let late = 100 * MS;
    let due: Vec<_> = (0..12).map(|_| stamped(&program, late, 100)).collect();
    assert_eq!(due.iter().flatten().count(), 10);
}

#[test]
#[ignore = "needs root"]
fn what_an_outage_without_end_drops_uses_nothing_up() {
    let rows = [(10 * MS, state(0, 0))];
    let program = loaded(EndPolicy::Hold, &rows, 100_000);
    (0..20).for_each(|_| assert_eq!(stamped(&program, MS, 1000), None));
    let state = program.state().unwrap();
    assert_eq!(memory::field(&state, CONSUMED), 0);
    assert_eq!(memory::field(&state, DROPPED), 20);
}

#[test]
#[ignore = "needs root"]
fn damage_flips_one_bit_behind_the_ethernet_header_of_the_share_of_packets() {
    let damaging = LinkState {
        corrupt_ppb: 250_000_000,
        ..state(UNLIMITED_RATE_BPS, 0)
    };
    let program = loaded(EndPolicy::Hold, &[(MS, damaging)], 100_000);
    let mut damaged = 0;
    for packet in 0..2000 {
        let ran = run(&program, packet, 100, 1);
        let flipped: Vec<(usize, u32)> = ran
            .packet
            .iter()
            .enumerate()
            .map(|(place, byte)| match place {
                12 => (place, (byte ^ 0x88).count_ones()),
                13 => (place, (byte ^ 0xb5).count_ones()),
                _ => (place, byte.count_ones()),
            })
            .filter(|(_, bits)| *bits > 0)
            .collect();
        match flipped.as_slice() {
            [] => {}
            [(place, 1)] if *place >= 14 => damaged += 1,
            other => panic!("{other:?}"),
        }
    }
    // Four standard deviations.
    assert!((420..=580).contains(&damaged), "{damaged}");
    let booked = memory::field(&program.state().unwrap(), DAMAGED);
    assert_eq!(booked, damaged);
}

#[test]
#[ignore = "needs root"]
fn windows_of_a_long_trace_stamp_what_the_exact_integral_asks_for() {
    // A packet every 5 ms for two minutes, through rates about what that takes, outages and delays.
    let rate = |row: u64| match row % 900 {
        0..40 => 0,
        part => 1_000_000 + part * 4_321,
    };
    let rows: Vec<_> = (0..50_000)
        .map(|row| (MS, state(rate(row), (row / 100) % 7 * MS)))
        .collect();
    let trace = trace(EndPolicy::Loop, &rows);
    let table = Table::first_window(&trace, Direction::Down, 1_000_000).unwrap();
    let mut loaded = Loaded::new(table, settings(None)).unwrap();
    loaded.start(T0_NS, None).unwrap();
    let curve = CapacityCurve::new(&trace, Direction::Down);
    let schedule = hexloop_traces::Schedule::new(curve.clone());
    let mut rule = Rule {
        curve,
        run: (0, 0),
        finish_ns: Some(0),
        due_ns: 0,
    };
    let mut windows = 1;
    for now_ns in (0..24_000).map(|packet| packet * 5 * MS) {
        let window = loaded.now().table.window.unwrap();
        if now_ns >= window.next_ns {
            let table = &loaded.now().table;
            let next = table.next_window(window, &schedule, now_ns - MS, 1_000_000);
            let next = loaded.another(next.unwrap(), settings(None)).unwrap();
            loaded.take_over(next);
            windows += 1;
        }
        let expected = rule.due(now_ns, 1500).unwrap();
        let found = stamped(&loaded, now_ns, 1500).unwrap();
        // A unit of the integral, and what the program rounds.
        let apart_ns = found.abs_diff(expected);
        assert!(apart_ns <= 3 + windows, "{now_ns}: {found} {expected}");
    }
    assert!(windows >= 8, "{windows}");
}
