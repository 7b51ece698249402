use super::super::numerology::{DuplexPattern, Numerology};
use super::super::radio::RlcMode;
use super::*;
use crate::Direction;
use crate::phy::linear;

fn settings(direction: Direction) -> RadioSettings {
    let pattern = DuplexPattern::time_division("DDDSU", 10, 2).unwrap();
    RadioSettings::new(direction, Numerology::new(1).unwrap(), pattern)
}

fn subbands(sinr_db: f64) -> [f64; 18] {
    [linear(sinr_db); 18]
}

fn link(settings: RadioSettings) -> LinkAdapter {
    LinkAdapter::new(settings, CounterRng::new(1, "user", "test")).unwrap()
}

#[test]
fn a_steady_channel_settles_at_the_target_block_error_rate() {
    for (direction, sinr_db) in [(Direction::Down, 14.3), (Direction::Up, 7.7)] {
        let mut link = link(RadioSettings {
            outer_loop: crate::phy::OuterLoop {
                step_db: 0.1,
                ..settings(direction).outer_loop
            },
            ..settings(direction)
        });
        let (mut first, mut failed) = (0_u32, 0_u32);
        for slot in 0..200_000 {
            let service = link.step(slot, &subbands(sinr_db), 1.0);
            if service.sent && service.attempts == 1 {
                first += 1;
                failed += u32::from(!service.decoded);
            }
        }
        let rate = f64::from(failed) / f64::from(first);
        assert!(
            (rate - 0.1).abs() < 0.01,
            "{direction:?}: {rate} of {first}"
        );
    }
}

#[test]
fn the_target_holds_in_fading_that_reports_are_too_old_for() {
    let mut link = link(settings(Direction::Down));
    let fading = CounterRng::new(9, "fading", "test");
    // A Gauss-Markov channel that changes within the age of a report.
    let (mut re, mut im) = (1.0_f64, 0.0);
    let (keep, change) = (0.9, libm::sqrt((1.0 - 0.81) / 2.0));
    let (mut first, mut failed) = (0_u32, 0_u32);
    for slot in 0..300_000 {
        let [a, b] = fading.normal_pair(slot);
        re = keep * re + change * a;
        im = keep * im + change * b;
        let sinr = linear(15.0) * (re * re + im * im).max(1e-3);
        let service = link.step(slot, &[sinr; 4], 1.0);
        if service.sent && service.attempts == 1 {
            first += 1;
            failed += u32::from(!service.decoded);
        }
    }
    let rate = f64::from(failed) / f64::from(first);
    assert!((rate - 0.1).abs() < 0.01, "{rate} of {first}");
}

#[test]
fn more_sinr_gives_more_bits_up_to_the_peak() {
    let mut before = 0;
    for sinr_db in [-15.0, -5.0, 0.0, 5.0, 10.0, 15.0, 20.0, 25.0, 30.0, 35.0] {
        let mut link = link(settings(Direction::Down));
        let bits: u64 = (0..4000)
            .map(|slot| link.step(slot, &subbands(sinr_db), 1.0).bits)
            .sum();
        assert!(bits >= before, "{sinr_db} dB: {bits} {before}");
        assert!(bits / 2 <= link.peak_rate_bps());
        before = bits;
    }
    assert!(before > 1_000_000_000, "{before}");
}

#[test]
fn out_of_range_nothing_is_sent_and_the_link_comes_back() {
    let mut link = link(settings(Direction::Down));
    let bits = |link: &mut LinkAdapter, slots: core::ops::Range<u64>, sinr_db| -> u64 {
        slots
            .map(|slot| link.step(slot, &subbands(sinr_db), 1.0).bits)
            .sum()
    };
    assert!(bits(&mut link, 0..100, 10.0) > 0);
    // Reports of the outage take effect within a period and their age.
    bits(&mut link, 100..140, -40.0);
    assert_eq!(bits(&mut link, 140..200, -40.0), 0);
    assert!(!link.step(200, &subbands(-40.0), 1.0).sent);
    bits(&mut link, 201..240, 10.0);
    assert!(bits(&mut link, 240..300, 10.0) > 0);
}

#[test]
fn retransmissions_come_a_round_trip_later() {
    let mut link = link(settings(Direction::Down));
    let timing = link.settings().timing;
    let (numerology, pattern) = (link.settings().numerology, link.settings().pattern.clone());
    let mut seen = 0;
    for slot in 0..20_000 {
        let service = link.step(slot, &subbands(12.0), 1.0);
        if service.sent && service.attempts == 2 {
            let first = slot - service.waited_slots;
            let round = timing.round_trip_slots(numerology, &pattern, Direction::Down, first);
            assert!(service.waited_slots >= round);
            // Another retransmission may take the slot first, but not for long.
            assert!(
                service.waited_slots <= round + 3,
                "{} {round}",
                service.waited_slots
            );
            seen += 1;
        }
    }
    assert!(seen > 500, "{seen}");
    let attempts = link.attempts();
    assert!(attempts[0] > 5 * attempts[1] && attempts[1] > 10 * attempts[2]);
    assert_eq!(attempts[MOST_ATTEMPTS], 0);
}

#[test]
fn few_processes_leave_slots_empty() {
    let rate = |processes| {
        let mut given = settings(Direction::Down);
        given.pattern = DuplexPattern::frequency_division();
        given.timing.round_trip_ns = 25_770_000;
        given.harq.processes = processes;
        let mut link = link(given);
        (0..4000)
            .map(|slot| link.step(slot, &subbands(15.0), 1.0).bits)
            .sum::<u64>()
    };
    // 58 slots of round trip: 16 processes fill 16 of 58, 32 twice as many.
    let ratio = rate(32) as f64 / rate(16) as f64;
    assert!((ratio - 2.0).abs() < 0.05, "{ratio}");
}

#[test]
fn a_share_of_the_slot_carries_a_share_of_the_bits() {
    let bits = |share| {
        let mut link = link(settings(Direction::Down));
        (0..10_000)
            .map(|slot| link.step(slot, &subbands(15.0), share).bits)
            .sum::<u64>()
    };
    let part = bits(0.25) as f64 / bits(1.0) as f64;
    assert!((part - 0.25).abs() < 0.01, "{part}");
    assert_eq!(bits(0.0), 0);
}

#[test]
fn a_second_layer_is_taken_where_it_pays() {
    let rank = |sinr_db, coupling| {
        let mut given = settings(Direction::Down);
        given.maximum_rank = 4;
        given.layer_coupling = coupling;
        let mut link = link(given);
        (0..200).for_each(|slot| {
            link.step(slot, &subbands(sinr_db), 1.0);
        });
        link.step(200, &subbands(sinr_db), 1.0).rank
    };
    assert_eq!(rank(-5.0, 0.25), 1);
    assert!(rank(12.0, 0.25) >= 2);
    assert_eq!(rank(45.0, 0.25), 4);
    assert_eq!(rank(20.0, 10.0), 1);
}

#[test]
fn unacknowledged_rlc_loses_what_acknowledged_rlc_delays() {
    let service = |rlc, sinr_db| {
        let mut given = settings(Direction::Up);
        given.rlc = rlc;
        given.harq.maximum_attempts = 1;
        // The inner loop alone: what fails depends on the SINR.
        given.outer_loop.limit_db = 0.0;
        let mut link = link(given);
        (0..20).for_each(|slot| {
            link.step(slot, &subbands(sinr_db), 1.0);
        });
        (link.step(24, &subbands(sinr_db), 1.0), link.access())
    };
    // Just above the threshold of some scheme.
    let lossy_at =
        |sinr_db: &f64| service(RlcMode::Unacknowledged, *sinr_db).0.loss_ppb > 1_000_000;
    let sinr_db = (0..200)
        .map(|at| 9.0 + 0.02 * f64::from(at))
        .find(lossy_at)
        .unwrap();
    let (lossy, access) = service(RlcMode::Unacknowledged, sinr_db);
    assert_eq!(u64::from(lossy.loss_ppb), whole(lossy.bler * 1e9));
    assert_eq!(lossy.delay_ns, whole(access.mean_ns));
    let acknowledged = RlcMode::Acknowledged {
        recovery_ns: 50_000_000,
        maximum_retransmissions: 8,
    };
    let (late, access) = service(acknowledged, sinr_db);
    assert!(late.loss_ppb < lossy.loss_ppb / 1000, "{late:?}");
    // Each block fails as often: the first try, and a further one more and more as that is known.
    let least = access.mean_ns + late.bler * 50e6;
    let most = access.mean_ns + late.bler / (1.0 - late.bler) * 50e6;
    let delay_ns = late.delay_ns as f64;
    assert!((least - 1.0..=most + 1.0).contains(&delay_ns), "{late:?}");
}

#[test]
fn a_moment_of_bad_channel_delays_packets_and_only_a_long_one_loses_them() {
    let mut given = settings(Direction::Down);
    given.rlc = RlcMode::Acknowledged {
        recovery_ns: 50_000_000,
        maximum_retransmissions: 4,
    };
    let mut link = link(given);
    let access_ns = whole(link.access().mean_ns);
    let mut slot = 0;
    let mut play = |link: &mut LinkAdapter, slots, sinr_db| {
        let mut last = None;
        for _ in 0..slots {
            slot += 1;
            let service = link.step(slot, &subbands(sinr_db), 1.0);
            if service.sent {
                last = Some(service);
            }
        }
        last.unwrap()
    };
    play(&mut link, 2000, 15.0);
    // The transmitter does not know yet: all attempts for what it sends now fail.
    let at_once = play(&mut link, 1, -15.0);
    assert!(at_once.bler > 0.999, "{at_once:?}");
    assert!(at_once.loss_ppb < 1000, "{at_once:?}");
    let waited_ns = at_once.delay_ns - access_ns;
    assert!((45_000_000..60_000_000).contains(&waited_ns), "{at_once:?}");
    // With the least robust scheme that is left, half a second later.
    let later = play(&mut link, 4000, -15.0);
    assert!(later.loss_ppb > at_once.loss_ppb, "{later:?}");
}

#[test]
fn the_same_numbers_give_the_same_service() {
    let run = |seed| {
        let mut link = LinkAdapter::new(
            settings(Direction::Down),
            CounterRng::new(seed, "user", "test"),
        )
        .unwrap();
        (0..3000)
            .map(|slot| {
                link.step(slot, &subbands(11.0 + (slot % 7) as f64), 1.0)
                    .bits
            })
            .collect::<Vec<u64>>()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let refused = |change: fn(&mut RadioSettings)| {
        let mut given = settings(Direction::Down);
        change(&mut given);
        LinkAdapter::new(given, CounterRng::new(1, "", ""))
            .unwrap_err()
            .what
    };
    assert_eq!(refused(|s| s.maximum_rank = 5), "maximum rank");
    assert_eq!(
        refused(|s| s.resource_blocks = 0),
        "resource blocks of a carrier"
    );
    assert_eq!(
        refused(|s| s.outer_loop.target = f64::NAN),
        "block error target"
    );
    assert_eq!(refused(|s| s.harq.processes = 33), "HARQ processes");
}

#[test]
fn bandwidth_beyond_a_carrier_takes_several() {
    let mut given = settings(Direction::Down);
    given.numerology = Numerology::new(5).unwrap();
    let given = given.with_bandwidth(2_000_000_000);
    assert_eq!((given.carriers, given.resource_blocks), (2, 164));
    let link = link(given);
    assert!(
        link.peak_rate_bps() > 10_000_000_000,
        "{}",
        link.peak_rate_bps()
    );
    assert_eq!(link.buffer_bytes(), link.peak_rate_bps() / 80);
}
