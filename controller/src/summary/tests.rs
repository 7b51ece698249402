use hexloop_topologies::plan::Claim;
use hexloop_workloads::device::ComputeDevice;
use hexloop_workloads::job::Outcome;

use super::{ExpectationOutcome, RunStatus, Summary, outages};
use crate::fixture::{self, MS, S};
use crate::record::RunRecords;

fn summary_of(records: &RunRecords) -> Summary {
    records.summary(std::path::Path::new(
        "results/quickstart-20261120T235959Z-7",
    ))
}

#[test]
fn the_summary_of_the_recorded_run_is_pinned() {
    let summary = summary_of(&fixture::records());
    insta::assert_snapshot!(summary.to_json().unwrap());
}

#[test]
fn the_schema_is_pinned_with_its_version() {
    let schema = serde_json::to_string_pretty(&Summary::json_schema()).unwrap();
    insta::assert_snapshot!(schema);
}

#[test]
fn a_summary_reads_back_as_it_was_written() {
    let summary = summary_of(&fixture::records());
    let text = summary.to_json().unwrap();
    let again: Summary = serde_json::from_str(&text).unwrap();
    assert!(again.to_json().unwrap() == text);
}

#[test]
fn a_percentile_that_the_sample_cannot_carry_is_null_with_its_n() {
    let summary = summary_of(&fixture::records());
    let ttft = &summary.jobs[0].ttft_ms;
    assert!(ttft.n > 7 && ttft.n < 90, "{}", ttft.n);
    assert!(ttft.p50.is_some() && ttft.p95.is_none() && ttft.p99.is_none());
    // Token gaps are many: they carry more.
    assert!(summary.jobs[0].itl_ms.p99.is_some());
}

#[test]
fn an_outage_is_where_neither_direction_carries_anything() {
    assert_eq!(
        outages(&fixture::trace(), 20 * S),
        [(8 * S, 10 * S + 500 * MS)]
    );
    // The trace starts again; the second outage is cut by the end.
    assert_eq!(
        outages(&fixture::trace(), 29 * S),
        [(8 * S, 10 * S + 500 * MS), (28 * S, 29 * S)]
    );
}

#[test]
fn all_claims_of_the_recorded_run_hold() {
    for expectation in summary_of(&fixture::records()).expectations {
        assert_eq!(
            expectation.outcome,
            ExpectationOutcome::Held,
            "{expectation:?}"
        );
    }
}

fn outcome_of(records: &RunRecords, wanted: &Claim) -> ExpectationOutcome {
    let index = records
        .plan
        .expectations
        .iter()
        .position(|e| e.claim == *wanted)
        .unwrap();
    summary_of(records).expectations[index].outcome
}

#[test]
fn one_other_token_breaks_token_equality() {
    let mut records = fixture::records();
    records.results.phases[2]
        .requests
        .get_mut(&3)
        .unwrap()
        .tokens[5] += 1;
    let claim = records.plan.expectations[0].claim.clone();
    assert_eq!(outcome_of(&records, &claim), ExpectationOutcome::NotHeld);
}

#[test]
fn another_token_on_another_device_is_left_open_where_two_scores_are_close_and_places_are_few() {
    let mut records = fixture::records();
    let claim = records.plan.expectations[0].claim.clone();
    let edge = records
        .plan
        .nodes
        .iter_mut()
        .find(|node| node.name == "edge");
    edge.unwrap().compute.device = ComputeDevice::Cuda(0);
    assert_eq!(outcome_of(&records, &claim), ExpectationOutcome::Held);
    let phases = &mut records.results.phases;
    phases[2].requests.get_mut(&3).unwrap().tokens[5] += 1;
    assert_eq!(outcome_of(&records, &claim), ExpectationOutcome::NotHeld);
    let phases = &mut records.results.phases;
    phases[0].requests.get_mut(&3).unwrap().ties = vec![5];
    assert_eq!(outcome_of(&records, &claim), ExpectationOutcome::Undecided);
    // On one device nothing is rounded in another way.
    for node in &mut records.plan.nodes {
        node.compute.device = ComputeDevice::Cpu;
    }
    assert_eq!(outcome_of(&records, &claim), ExpectationOutcome::NotHeld);
}

#[test]
fn one_byte_more_breaks_the_payload_formula() {
    let claim = Claim::PayloadFormula {
        phase: "split".to_owned(),
    };
    let mut records = fixture::records();
    records.results.phases[2]
        .requests
        .get_mut(&3)
        .unwrap()
        .payload
        .up += 1;
    assert_eq!(outcome_of(&records, &claim), ExpectationOutcome::NotHeld);
    // And so does one that only the totals show.
    let mut records = fixture::records();
    let end = records.results.phases[2].end.as_mut().unwrap();
    end.jobs[1].totals.as_mut().unwrap().payload.down += 1;
    assert_eq!(outcome_of(&records, &claim), ExpectationOutcome::NotHeld);
}

#[test]
fn one_token_in_the_outage_breaks_the_stall_and_none_under_way_leaves_it_undecided() {
    let claim = Claim::StallsInOutage {
        phase: "edge".to_owned(),
    };
    let mut records = fixture::records();
    let requests = &mut records.results.phases[1].requests;
    requests.get_mut(&0).unwrap().token_ns[3] = 9 * S;
    assert_eq!(outcome_of(&records, &claim), ExpectationOutcome::NotHeld);
    let mut records = fixture::records();
    records.results.phases[1]
        .requests
        .retain(|_, r| r.token_ns.last() < Some(&(8 * S)));
    assert_eq!(outcome_of(&records, &claim), ExpectationOutcome::Undecided);
}

#[test]
fn a_device_that_waits_for_the_link_breaks_that_it_goes_on() {
    let claim = Claim::GoesOnInOutage {
        phase: "device".to_owned(),
    };
    let mut records = fixture::records();
    assert_eq!(outcome_of(&records, &claim), ExpectationOutcome::Held);
    let outages = outages(&fixture::trace(), records.plan.phases[0].duration_ns);
    let requests = records.results.phases[0].requests.values_mut();
    for at in requests.flat_map(|record| &mut record.token_ns) {
        if let Some((_, end)) = outages
            .iter()
            .find(|(start, end)| *start <= *at && *at < *end)
        {
            *at = *end;
        }
    }
    assert_eq!(outcome_of(&records, &claim), ExpectationOutcome::NotHeld);
}

#[test]
fn every_claim_states_how_much_it_was_judged_by_and_what_would_have_shown() {
    for expectation in summary_of(&fixture::records()).expectations {
        assert!(!expectation.evidence.is_empty(), "{expectation:?}");
        for evidence in &expectation.evidence {
            assert!(evidence.sample_size > 0, "{expectation:?}");
            assert!(!evidence.smallest_effect.is_empty(), "{expectation:?}");
            let told = evidence.to_string();
            assert!(expectation.detail.contains(&told), "{expectation:?}");
        }
    }
}

#[test]
fn an_unfinished_request_breaks_completeness_and_counts_as_longer_than_all() {
    let claim = Claim::AllCompleted {
        phase: "split".to_owned(),
    };
    let mut records = fixture::records();
    let before = summary_of(&records).jobs[2].e2e_ms.measured;
    let record = records.results.phases[2].requests.get_mut(&1).unwrap();
    record.outcome = Outcome::Unfinished;
    assert_eq!(outcome_of(&records, &claim), ExpectationOutcome::NotHeld);
    let job = &summary_of(&records).jobs[2];
    assert_eq!((job.unfinished, job.e2e_ms.measured), (1, before - 1));
    assert_eq!(job.e2e_ms.n, before, "it still counts as offered");
}

#[test]
fn wire_bytes_are_payload_and_headers() {
    let summary = summary_of(&fixture::records());
    for job in &summary.jobs[1..] {
        for account in [
            job.wire_up.as_ref().unwrap(),
            job.wire_down.as_ref().unwrap(),
        ] {
            assert_eq!(account.difference_bytes, 0);
            assert_eq!(account.header_bytes_per_packet, 66);
            assert_eq!(account.formula_bytes, account.counted_bytes);
        }
    }
    assert!(summary.jobs[0].wire_up.is_none());
}

#[test]
fn goodput_is_over_the_schedule_also_where_a_request_left_no_record() {
    let mut records = fixture::records();
    records.results.phases[2].requests.remove(&3);
    let job = &summary_of(&records).jobs[2];
    assert_eq!(job.completed + 1, job.requests);
    assert!(job.goodput_over_offered.unwrap() < 1.0);
    let claim = Claim::AllCompleted {
        phase: "split".to_owned(),
    };
    assert_eq!(outcome_of(&records, &claim), ExpectationOutcome::NotHeld);
}

#[test]
fn energy_of_the_whole_run_comes_with_its_end() {
    let mut records = fixture::records();
    records.results.energy_j = Some(hexloop_proto::Measurement::Measured {
        value: 812.5,
        source: "RAPL package-0".to_owned(),
    });
    let energy = summary_of(&records).energy_j;
    assert_eq!(energy.value, Some(812.5));
    assert_eq!(energy.source.as_deref(), Some("RAPL package-0"));
}

#[test]
fn a_run_without_its_end_is_interrupted_and_says_why() {
    let events = fixture::events();
    let records = fixture::records_of(fixture::plan(), &events[..events.len() - 1]);
    assert_eq!(summary_of(&records).status, RunStatus::Interrupted);
}
