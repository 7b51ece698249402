use hexloop_proto::{
    AskedAndGot, CoolingReport, GpuSample, InterruptCpu, LateHistogram, LinkWindow, NoiseReport,
};
use hexloop_topologies::plan::Plan;
use hexloop_traces::Direction;
use hexloop_workloads::job::Outcome;

use super::{ReasonCode, Verdict, VerdictOutcome, judge};
use crate::fixture::{self, MS, late};
use crate::results::Results;

fn verdict_after(change: impl FnOnce(&mut Results)) -> Verdict {
    let mut results = Results::from_events(&fixture::events());
    change(&mut results);
    judge(&fixture::plan(), &results)
}

fn assert_only_reason(verdict: &Verdict, code: ReasonCode, part: &str) {
    assert_eq!(verdict.outcome, VerdictOutcome::Invalid);
    let codes: Vec<ReasonCode> = verdict.reasons.iter().map(|reason| reason.code).collect();
    assert_eq!(codes, [code], "{:?}", verdict.reasons);
    assert!(
        verdict.reasons[0].message.contains(part),
        "{:?}",
        verdict.reasons
    );
}

#[test]
fn a_run_within_all_bounds_is_valid() {
    let verdict = verdict_after(|_| {});
    assert_eq!(verdict.reasons, []);
    assert!(verdict.is_valid() && verdict.notes.is_empty());
}

#[test]
fn a_run_exactly_at_its_bounds_is_valid() {
    let verdict = verdict_after(|results| {
        for found in &mut results.calibrations {
            found.delivered_bytes = found.trace_bytes / 100 * 99 + found.trace_bytes % 100;
            found.backlogged_windows = 50;
            found.delay_error = late(459, 1, 500_000, 5 * MS);
            found.lateness = late(459, 1, MS, 5 * MS);
        }
        for phase in &mut results.phases {
            let end = phase.end.as_mut().unwrap();
            end.relay_cpu_ns[0].1 = end.duration_ns / 20;
            for record in phase.requests.values_mut() {
                record.sent_ns = record.scheduled_ns + 100 * MS;
            }
        }
    });
    assert_eq!(verdict.reasons, []);
}

#[test]
fn a_rate_that_is_wrong_by_more_than_its_bound_is_invalid() {
    let verdict = verdict_after(|results| {
        let found = &mut results.calibrations[0];
        found.delivered_bytes = found.trace_bytes / 100 * 97;
    });
    assert_only_reason(&verdict, ReasonCode::RateError, "3.000 %");
}

#[test]
fn too_much_is_as_wrong_as_too_little() {
    let verdict = verdict_after(|results| {
        let found = &mut results.calibrations[1];
        found.delivered_bytes = found.trace_bytes / 100 * 102;
    });
    assert_only_reason(&verdict, ReasonCode::RateError, "2.000 %");
}

/// A window of a run in which a tenth is missing.
fn run_window(start_ns: u64) -> LinkWindow {
    LinkWindow {
        link: "radio".to_owned(),
        direction: Direction::Down,
        start_ns,
        length_ns: 100 * MS,
        trace_bytes: 1_000_000,
        delivered_bytes: 900_000,
        delivered_packets: 600,
        backlogged: true,
        queue_bytes: 1,
        dropped_packets: 0,
        lost_packets: 0,
        marked_packets: 0,
        duplicated_packets: 0,
        corrupted_packets: 0,
    }
}

#[test]
fn a_wrong_rate_while_the_jobs_ran_is_invalid_once_there_are_enough_windows() {
    let with = |count: u64| {
        verdict_after(|results| {
            results.phases[1].windows = (0..count).map(|n| run_window(n * 100 * MS)).collect();
        })
    };
    assert!(with(49).is_valid());
    assert_only_reason(&with(50), ReasonCode::RateError, "10.000 %");
}

#[test]
fn a_queue_that_waits_for_the_end_of_an_outage_is_not_a_backlogged_window() {
    let mut results = Results::from_events(&fixture::events());
    for window in &mut results.phases[1].windows {
        window.backlogged = window.trace_bytes == 0;
    }
    let windows = &results.phases[1].windows;
    assert!(windows.iter().any(|window| window.backlogged));
    let grain = super::Grain::of(&fixture::plan(), &fixture::plan().links[0]);
    let totals = super::backlogged_totals(windows.iter(), "radio", Direction::Down, grain);
    assert_eq!(totals.windows, 0);
    let verdict = judge(&fixture::plan(), &results);
    let check = verdict
        .checks
        .iter()
        .find(|check| check.quantity.contains("while the jobs ran"))
        .unwrap();
    assert_eq!(check.measured, "not judged: 0 backlogged windows");
    assert_eq!(check.bound, "50 are needed");
}

#[test]
fn windows_shorter_than_a_packet_count_only_where_a_packet_does_not_matter() {
    // 20 kbit/s in windows of 20 ms. The packet of 1500 bytes ends in a window with an empty queue.
    let window = |number: u64, delivered_bytes| LinkWindow {
        trace_bytes: 50,
        delivered_bytes,
        length_ns: 20 * MS,
        ..run_window(number * 20 * MS)
    };
    let grain = super::Grain {
        packet_bytes: 1500,
        rate_error_ppm: 50_000,
    };
    let totals = |windows: &[LinkWindow]| {
        super::backlogged_totals(windows.iter(), "radio", Direction::Down, grain)
    };
    let alone: Vec<LinkWindow> = (0..29).map(|number| window(number, 0)).collect();
    assert_eq!(totals(&alone).windows, 0);
    // Twenty of them, one behind the other: one is a twentieth.
    let many: Vec<LinkWindow> = (0..600)
        .map(|number| window(number, if number % 30 == 29 { 1500 } else { 0 }))
        .collect();
    let found = totals(&many);
    assert_eq!(
        (found.windows, found.trace_bytes, found.delivered_bytes),
        (600, 30_000, 30_000)
    );
    // A gap parts them.
    let parted: Vec<LinkWindow> = [&many[..299], &many[300..]].concat();
    assert_eq!(totals(&parted).windows, 0);
}

#[test]
fn too_few_backlogged_windows_are_invalid() {
    let verdict = verdict_after(|results| results.calibrations[0].backlogged_windows = 49);
    assert_only_reason(
        &verdict,
        ReasonCode::TooFewBackloggedWindows,
        "49, bound at least 50",
    );
}

#[test]
fn a_wrong_delay_is_invalid_and_the_bound_grows_with_the_delay() {
    let with = |asked_delay_ns, p99| {
        verdict_after(|results| {
            let found = &mut results.calibrations[0];
            found.asked_delay_ns = asked_delay_ns;
            found.delay_error = late(1000, 1, p99, p99);
        })
    };
    assert_only_reason(
        &with(4 * MS, 500_001),
        ReasonCode::DelayError,
        "4.000 ms asked",
    );
    assert!(with(20 * MS, MS).is_valid());
    assert_only_reason(
        &with(20 * MS, MS + 1),
        ReasonCode::DelayError,
        "20.000 ms asked",
    );
}

#[test]
fn too_few_probes_are_invalid() {
    let verdict = verdict_after(|results| {
        results.calibrations[0].delay_error = late(458, 1, 1, 1);
        results.calibrations[0].probes_lost = 1000;
    });
    assert_only_reason(&verdict, ReasonCode::TooFewProbes, "458 (1000 lost)");
}

#[test]
fn a_late_shaper_is_invalid_in_calibration_and_in_a_phase() {
    let slow = || late(1000, MS, 2 * MS, 9 * MS);
    let verdict = verdict_after(|results| results.calibrations[0].lateness = slow());
    assert_only_reason(&verdict, ReasonCode::ShaperLateness, "2.000 ms");
    let verdict = verdict_after(|results| {
        results.phases[2].end.as_mut().unwrap().lateness[0].2 = slow();
    });
    assert_only_reason(&verdict, ReasonCode::ShaperLateness, "2.000 ms");
    assert_eq!(verdict.reasons[0].subject, "radio down in phase split");
}

#[test]
fn too_few_packets_to_judge_the_shaper_by_are_no_reason() {
    let few: LateHistogram = late(20, MS, 0, 9 * MS);
    let verdict = verdict_after(|results| {
        results.phases[2].end.as_mut().unwrap().lateness[0].2 = few;
    });
    assert!(verdict.is_valid());
    assert!(
        verdict
            .checks
            .iter()
            .any(|check| check.held.is_none() && check.code == ReasonCode::ShaperLateness)
    );
}

#[test]
fn a_first_row_that_was_set_late_is_invalid_though_it_is_the_only_one() {
    let verdict = verdict_after(|results| {
        results.phases[2].end.as_mut().unwrap().lateness[0].2 = late(1, 50 * MS, 0, 50 * MS);
    });
    assert_only_reason(
        &verdict,
        ReasonCode::ShaperLateness,
        "at most 50.000 ms (n = 1",
    );
    let verdict = verdict_after(|results| {
        results.phases[2].end.as_mut().unwrap().lateness[0].2 = late(1, MS, 0, MS);
    });
    assert!(verdict.is_valid());
}

#[test]
fn a_late_load_generator_is_invalid() {
    let verdict = verdict_after(|results| {
        let record = results.phases[0].requests.values_mut().next().unwrap();
        record.sent_ns = record.scheduled_ns + 101 * MS;
    });
    assert_only_reason(&verdict, ReasonCode::SendLateness, "101.000 ms");
}

#[test]
fn a_relay_that_starves_the_jobs_is_invalid() {
    let verdict = verdict_after(|results| {
        let end = results.phases[1].end.as_mut().unwrap();
        end.relay_cpu_ns[1].1 = end.duration_ns / 10;
    });
    assert_only_reason(&verdict, ReasonCode::RelayCpu, "10.000 %");
}

#[test]
fn setting_the_clock_while_delays_are_measured_is_invalid() {
    let verdict = verdict_after(|results| {
        results.calibrations[0].clock_step_ns = -50_000_000;
    });
    assert_only_reason(&verdict, ReasonCode::ClockStep, "50.000 ms");
}

#[test]
fn setting_the_clock_in_a_phase_is_invalid() {
    let verdict = verdict_after(|results| {
        results.phases[1].end.as_mut().unwrap().clock_step_ns = -50_000_000;
    });
    assert_only_reason(&verdict, ReasonCode::ClockStep, "50.000 ms");
    assert_eq!(verdict.reasons[0].subject, "edge");
}

#[test]
fn a_request_of_the_schedule_without_a_record_is_invalid() {
    let scheduled = fixture::plan().phases[1].schedule(7).len();
    let verdict = verdict_after(|results| {
        results.phases[1].requests.remove(&3);
    });
    let expected = format!("{}, bound {scheduled}", scheduled - 1);
    assert_only_reason(&verdict, ReasonCode::Incomplete, &expected);
    assert_eq!(verdict.reasons[0].subject, "edge");
}

#[test]
fn lost_events_are_invalid() {
    let verdict = verdict_after(|results| results.lost_events = 3);
    assert_only_reason(&verdict, ReasonCode::EventsLost, "3, bound 0");
}

#[test]
fn a_node_on_other_cpus_is_invalid() {
    let verdict = verdict_after(|results| results.nodes[1].pinning.got_cpus = vec![0, 1]);
    assert_only_reason(&verdict, ReasonCode::CpusNotApplied, "0,1");
}

#[test]
fn a_quota_that_was_not_applied_is_invalid() {
    let with = |got| verdict_after(|results| results.nodes[0].pinning.got_quota = got);
    assert_only_reason(&with(None), ReasonCode::CpuQuotaNotApplied, "none");
    assert_only_reason(&with(Some(0.52)), ReasonCode::CpuQuotaNotApplied, "0.520");
    assert!(with(Some(0.502)).is_valid());
}

#[test]
fn a_failed_request_or_job_is_invalid() {
    let verdict = verdict_after(|results| {
        let record = results.phases[0].requests.values_mut().next().unwrap();
        record.outcome = Outcome::Failed {
            reason: "connection refused".to_owned(),
        };
    });
    assert_only_reason(&verdict, ReasonCode::JobFailed, "connection refused");
    let verdict = verdict_after(|results| {
        results.phases[1].end.as_mut().unwrap().jobs[1].totals = None;
    });
    assert_only_reason(&verdict, ReasonCode::JobFailed, "edge");
}

#[test]
fn a_run_without_one_of_its_parts_is_invalid() {
    let verdict = verdict_after(|results| results.phases[2].end = None);
    assert_only_reason(&verdict, ReasonCode::Incomplete, "not played to its end");
    let verdict = verdict_after(|results| {
        results.calibrations.remove(1);
    });
    assert_only_reason(&verdict, ReasonCode::Incomplete, "never calibrated");
    let verdict = verdict_after(|results| results.failure = Some(("no route".to_owned(), 1)));
    assert_only_reason(&verdict, ReasonCode::Incomplete, "no route");
}

#[test]
fn an_injected_fault_is_told_and_is_no_reason_by_itself() {
    let mut plan = fixture::plan();
    plan.faults.delay_sends_ns = 1;
    let verdict = judge(&plan, &Results::from_events(&fixture::events()));
    assert!(verdict.is_valid());
    assert!(verdict.notes[0].contains("delay_sends_ns"));
}

#[test]
fn a_quota_that_cannot_be_read_back_is_judged_by_the_samples() {
    let with = |factor: u64| {
        verdict_after(|results| {
            let pinning = &mut results.nodes[0].pinning;
            (pinning.got_quota, pinning.got_period_us) = (None, None);
            pinning.quota_by = "stop-continue".to_owned();
            for phase in &mut results.phases {
                for sample in phase.samples.iter_mut().filter(|s| s.node == "device") {
                    sample.cpu_ns *= factor;
                }
            }
        })
    };
    assert!(with(1).is_valid(), "{:?}", with(1).reasons);
    assert_only_reason(&with(2), ReasonCode::CpuQuotaNotApplied, "at most 0.500");
}

#[test]
fn interrupts_that_took_more_of_a_node_s_cpus_than_allowed_are_a_reason() {
    let with = |cpu_ns| {
        verdict_after(|results| {
            let end = results.phases[1].end.as_mut().unwrap();
            end.interrupt_cpu = vec![InterruptCpu {
                node: "edge".to_owned(),
                cpu_ns,
                resolution_ns: 10 * MS,
                why: cpu_ns.is_none().then(|| "nothing counts it".to_owned()),
            }];
        })
    };
    // The bound is 10 % of 20 s.
    assert!(with(Some(2_000 * MS)).is_valid());
    assert_only_reason(&with(Some(2_010 * MS)), ReasonCode::InterruptCpu, "10 %");
    let unknown = with(None);
    assert!(unknown.is_valid());
    let mut checks = unknown.checks.iter();
    let undecided = checks.find(|check| check.code == ReasonCode::InterruptCpu);
    assert_eq!(undecided.unwrap().measured, "nothing counts it");
    assert_eq!(undecided.unwrap().held, None);
}

#[test]
fn a_setting_that_is_not_as_it_was_asked_is_a_reason_and_one_that_was_only_read_is_none() {
    let with = |setting: AskedAndGot| verdict_after(|results| results.settings = vec![setting]);
    let read = AskedAndGot {
        what: "cpuset partition of edge".to_owned(),
        got: Some("isolated invalid (no parent)".to_owned()),
        ..AskedAndGot::default()
    };
    assert!(with(read.clone()).is_valid());
    let asked = |held| AskedAndGot {
        asked: Some("isolated".to_owned()),
        held,
        ..read.clone()
    };
    assert!(with(asked(None)).is_valid() && with(asked(Some(true))).is_valid());
    let verdict = with(asked(Some(false)));
    assert_only_reason(&verdict, ReasonCode::SettingNotApplied, "isolated invalid");
    let verdict = verdict_after(|results| {
        results.cooling = Some(CoolingReport {
            asked_c: 40,
            after_c: Some(55),
            ..CoolingReport::default()
        });
    });
    assert_only_reason(&verdict, ReasonCode::SettingNotApplied, "55 C");
}

#[test]
fn a_noisy_machine_is_a_reason_only_where_the_experiment_bounds_it() {
    let mut results = Results::from_events(&fixture::events());
    results.noise = Some(NoiseReport {
        steal_ppm: Some(30_000),
        timer_lateness: late(500, 1, 2 * MS, 9 * MS),
        ..NoiseReport::default()
    });
    let mut plan = fixture::plan();
    assert!(judge(&plan, &results).is_valid());
    plan.verdict.steal_ppm = Some(20_000);
    assert_only_reason(&judge(&plan, &results), ReasonCode::NoisyMachine, "3 %");
    plan.verdict.steal_ppm = Some(30_000);
    plan.verdict.timer_lateness_ns = Some(MS);
    assert_only_reason(
        &judge(&plan, &results),
        ReasonCode::NoisyMachine,
        "2.000 ms",
    );
}

#[test]
fn somebody_else_on_a_gpu_that_no_node_was_given_is_none_of_our_business() {
    let with = |given: Option<&str>| {
        verdict_after(|results| {
            results.nodes[0].gpu = given.map(str::to_owned);
            results.phases[0].gpus = vec![GpuSample {
                uuid: "GPU-1".to_owned(),
                foreign_processes: Some(vec![42]),
                ..GpuSample::default()
            }];
        })
    };
    assert_only_reason(&with(None), ReasonCode::GpuNotOurs, "42");
    assert_only_reason(&with(Some("GPU-1")), ReasonCode::GpuNotOurs, "42");
    assert!(with(Some("GPU-2")).is_valid());
}

#[test]
fn a_study_that_ran_into_its_limit_is_incomplete_and_one_that_was_over_before_is_not() {
    let study = fixture::study_spec();
    let (mut plan, results) = fixture::with_study("cuts", study, Vec::new());
    let incomplete = |plan: &Plan| {
        let reasons = judge(plan, &results).reasons.into_iter();
        let of_code = reasons.filter(|reason| reason.code == ReasonCode::Incomplete);
        of_code.map(|reason| reason.message).collect::<Vec<_>>()
    };
    assert_eq!(incomplete(&plan), Vec::<String>::new());
    let phase = results.phase("cuts").unwrap();
    plan.studies[0].duration_ns = phase.end.as_ref().unwrap().duration_ns;
    let told = incomplete(&plan);
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("its limit of"), "{told:?}");
}
