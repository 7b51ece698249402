//! Several users who share an edge: what requests, those in time, idling and waiting cost.

use hexloop_workloads::study::shared::policy::Policy;
use hexloop_workloads::study::shared::{
    BatchCost, EdgeBooks, Ending, SharedCosts, SharedRound, SharedSpec, UserRecord,
};

use super::*;
use crate::summary::{SharedBatch, SharedLoad};

fn request(id: u32, ending: Ending, took_ms: u64) -> UserRecord {
    UserRecord {
        id,
        user: 0,
        prompt: 0,
        due_ns: 0,
        sent_ns: 0,
        first_ns: None,
        ended_ns: Some(took_ms * MS),
        tokens: if ending == Ending::Served { 10 } else { 0 },
        ending,
        uploaded: true,
        answer: Vec::new(),
        up: 0,
        down: 0,
    }
}

/// A round of two seconds, in which two requests are served in time, one late, and one is refused; then ten passes
/// over two sequences, which take one second. The machine draws 12 W, and 3 W without jobs.
fn played(is_metered: bool) -> (SharedLoad, SharedBatch) {
    let (policy, batch) = (Policy::Fcfs, 2);
    let round = SharedRound {
        number: 0,
        policy,
        batch,
        users: 1,
        offered_percent: 100,
        offered_per_kilosecond: 2_000,
        repetition: 0,
        from_ns: 0,
        until_ns: 2_000 * MS,
        requests: vec![
            request(0, Ending::Served, 500),
            request(1, Ending::Served, 500),
            request(2, Ending::Served, 800),
            request(3, Ending::Refused, 10),
        ],
        books: EdgeBooks::default(),
    };
    let run = BatchCost {
        sequences: 2,
        passes: 10,
        wall_ns: 1_000 * MS,
        cpu_ns: 900 * MS,
        from_ns: 2_000 * MS,
        until_ns: 3_000 * MS,
    };
    let costs = SharedCosts {
        prefill_ns: MS,
        batches: vec![run],
        upload_ns: vec![MS],
        echo_ns: vec![MS],
        alone: Vec::new(),
        alone_ties: Vec::new(),
    };
    let study = StudySpec {
        arms: vec![Arm::Shared { policy, batch }],
        shared: Some(SharedSpec {
            users: vec![1],
            offered_percent: vec![100],
            repetitions: 1,
            arrivals_for_ns: 2_000 * MS,
            deadline_ns: 600 * MS,
            upload_bytes: 1,
        }),
        ..fixture::study_spec()
    };
    let findings = vec![StudyFinding::Shared(costs), StudyFinding::Round(round)];
    let (plan, mut results) = fixture::with_study("shared", study, findings);
    if is_metered {
        let counters = [("package-0", "package", true)];
        fixture::meter(&mut results, &counters, 3_000, |_, _| 12);
        fixture::idle_power(&mut results, 3.0);
    }
    let shared = summaries(&plan, &BTreeMap::new(), &results)
        .pop()
        .unwrap()
        .shared
        .unwrap();
    let [load] = <[SharedLoad; 1]>::try_from(shared.loads).unwrap();
    let [batch] = <[SharedBatch; 1]>::try_from(shared.batches).unwrap();
    (load, batch)
}

fn energies(load: &SharedLoad, batch: &SharedBatch) -> [Quantity; 10] {
    [
        &load.energy.j_per_request,
        &load.energy.above_idle_j_per_request,
        &load.energy.j_per_token,
        &load.j_per_good_request,
        &load.j_per_good_token,
        &load.idle_j,
        &load.energy_delay_product_j_s,
        &batch.j_per_token,
        &batch.idle_j_per_token,
        &batch.energy_delay_product_j_s,
    ]
    .map(Clone::clone)
}

#[test]
fn a_round_s_energy_is_told_by_request_by_token_above_idle_and_times_what_requests_took() {
    let (load, batch) = played(true);
    // 24 J for three requests, less 6 J without jobs, and for their 30 tokens.
    let of_served = [8.0, 6.0, 0.8];
    // Two of them are in time, with 20 tokens.
    let of_good = [12.0, 1.2];
    // 3 W for two seconds; half a second twice and 0.8 s are 0.6 s on average.
    let idle_and_delayed = [6.0, 4.8];
    // 12 J and 3 J for 20 tokens; a pass takes 0.1 s.
    let of_batch = [0.6, 0.15, 0.06];
    let expected = of_served
        .into_iter()
        .chain(of_good)
        .chain(idle_and_delayed)
        .chain(of_batch);
    for (found, expected) in energies(&load, &batch).iter().zip(expected) {
        let value = found.value.unwrap();
        assert!((value - expected).abs() < 1e-6, "{expected}: {found:?}");
        assert_eq!(found.quality, Quality::Derived);
    }
}

#[test]
fn users_of_a_machine_without_a_meter_have_no_energy_but_reasons() {
    let (load, batch) = played(false);
    for energy in energies(&load, &batch) {
        assert_eq!(energy.value, None);
        assert_eq!(energy.quality, Quality::Unavailable);
        let why = energy.reason.unwrap();
        let known = [
            "no meter can be summed up",
            "the idle power was not measured",
        ];
        assert!(known.contains(&why.as_str()), "{why}");
    }
}
