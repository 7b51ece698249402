use hexloop_proto::{CaptureOutcome, CommandExit, Direction, IdlePower, LinkCapture, Measurement};
use hexloop_topologies::plan::CommandPlan;
use hexloop_workloads::coding::Coding;
use hexloop_workloads::study::{Arm, StudyFinding, StudySpec, TrialRecord};

use super::render;
use crate::fixture;
use crate::format::{ns_to_s, significant};
use crate::record::RunRecords;
use crate::record::end_to_end::{self, EndToEnd};
use crate::record::environment::Known;
use crate::results::ProgramEnd;
use crate::summary::{RatesSummary, Step, Surroundings, training_energy};

fn report_of(records: &RunRecords) -> String {
    render(records, &records.summary(std::path::Path::new("anywhere"))).unwrap()
}

#[test]
fn the_report_is_the_same_wherever_the_run_lies() {
    let records = fixture::records();
    let elsewhere = records.summary(std::path::Path::new("/somewhere/else.interrupted"));
    assert_eq!(render(&records, &elsewhere).unwrap(), report_of(&records));
}

#[test]
fn the_report_needs_no_network_and_no_scripts() {
    let html = report_of(&fixture::records());
    for forbidden in [
        "<script", "http://", "https://", "url(", "@import", " src=", "href=",
    ] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
}

#[test]
fn nothing_that_a_user_wrote_becomes_markup() {
    const HOSTILE: &str = "<script>alert(1)</script>\"'&";
    let mut plan = fixture::plan();
    plan.experiment = HOSTILE.to_owned();
    plan.nodes[0].name = HOSTILE.to_owned();
    plan.links[0].ends[0].node = HOSTILE.to_owned();
    plan.expectations[0].name = HOSTILE.to_owned();
    plan.phases[1].device = HOSTILE.to_owned();
    let mut records = fixture::records_of(plan, &fixture::events());
    records.results.warnings.push(HOSTILE.to_owned());
    records.results.nodes[0].node = HOSTILE.to_owned();
    records.results.failure = Some((HOSTILE.to_owned(), 1));
    records.environment.command = HOSTILE.to_owned();
    let model = records.environment.model.as_mut().unwrap();
    model.origin = HOSTILE.to_owned();
    let html = report_of(&records);
    assert!(!html.contains("<script"));
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&amp;"));
}

#[test]
fn what_is_not_metered_is_told_with_the_reason_of_each_source() {
    let html = report_of(&fixture::records());
    assert!(html.contains("<h3>Not metered</h3>"));
    assert!(html.contains("no permission to read energy_uj; run as root"));
}

#[test]
fn the_training_of_the_model_has_its_energy_or_why_that_is_not_known() {
    let mut records = fixture::records();
    let html = report_of(&records);
    assert!(html.contains("Unavailable: no energy.json beside the model&#39;s files."));
    let idle = |when: &str| {
        Some(IdlePower {
            when: when.to_owned(),
            span_ns: fixture::S,
            power_w: measured(40.0),
            uncertainty_w: None,
            channels_w: Vec::new(),
            readings: None,
        })
    };
    let around = Surroundings {
        source: "stub",
        idle: [idle("before"), idle("after")],
        unavailable: Vec::new(),
    };
    let steps = [0, 1, 2].map(|number| Step {
        at: number * fixture::S,
        held_out_loss: (number == 1).then_some(2.9),
    });
    let energy = training_energy(&steps, around, |from, to| {
        (measured(100.0 * ns_to_s(to - from)), None)
    });
    let model = records.environment.model.as_mut().unwrap();
    model.training = Known::Known(energy);
    let html = report_of(&records);
    for part in [
        "<h3>Training of the model (before this run)</h3>",
        "to perplexity 20 of held-out text",
        "By a meter of a test; idle power 40.0 W",
        "a test's stub stood in",
    ] {
        assert!(html.contains(part), "{part}");
    }
}

fn measured(value: f64) -> Measurement {
    Measurement::Measured {
        value,
        source: "a meter of a test".to_owned(),
    }
}

#[test]
fn a_program_that_failed_by_itself_is_a_row_and_a_warning_and_one_that_was_stopped_is_not() {
    let mut plan = fixture::plan();
    plan.commands.push(CommandPlan {
        environment: Vec::new(),
        directory: None,
        ready: None,
        lives: false,
        name: "probe".to_owned(),
        node: "edge".to_owned(),
        argv: vec!["/bin/probe".to_owned()],
    });
    let mut records = fixture::records_of(plan, &fixture::events());
    assert!(!report_of(&fixture::records()).contains("<h3>Programs"));
    let end = |at_ns, status: &str| ProgramEnd {
        at_ns,
        exit: CommandExit {
            command: "probe".to_owned(),
            status: status.to_owned(),
        },
    };
    let late = i64::try_from(20 * fixture::S).unwrap();
    records.results.phases[0].command_exits = vec![end(1, "exit status 3")];
    records.results.phases[1].command_exits = vec![end(late, "signal SIGKILL")];
    records.results.phases[2].command_exits = vec![end(1, "exit status 0")];
    let warnings = records.summary(std::path::Path::new("anywhere")).warnings;
    assert_eq!(
        warnings,
        ["program probe failed in phase device with exit status 3"]
    );
    let html = report_of(&records);
    assert!(html.contains("<span class=\"not-held\">exit status 3</span>"));
    assert!(html.contains("<span class=\"held\">signal SIGKILL</span>"));
}

#[test]
fn an_interrupted_run_says_so_on_top_and_is_still_drawn() {
    let events = fixture::events();
    let mut records = fixture::records_of(fixture::plan(), &events[..events.len() / 2]);
    records.torn = true;
    let html = report_of(&records);
    let banner = html.find("This run did not come to its end").unwrap();
    assert!(banner < html.find("<h2>").unwrap());
    assert!(html.contains("its last event was torn"));
}

#[test]
fn a_run_of_which_nothing_was_recorded_can_still_be_drawn() {
    let html = report_of(&fixture::records_of(fixture::plan(), &[]));
    assert!(html.contains("INVALID") && html.contains("No placement was played"));
}

#[test]
fn captures_are_told_with_their_files_or_why_there_are_none() {
    let mut records = fixture::records();
    assert!(!report_of(&records).contains("Capture"));
    let link = records.plan.links[0].name.clone();
    let outcomes = [
        CaptureOutcome::Written {
            file: "radio-down.pcapng".to_owned(),
            packets: 1234,
            missed_packets: 5,
            cut_short: Some("the disk is full".to_owned()),
        },
        CaptureOutcome::Unavailable {
            why: "datapath <tc>".to_owned(),
        },
    ];
    let captures = Direction::BOTH.into_iter().zip(outcomes);
    let captures = captures.map(|(direction, outcome)| LinkCapture {
        link: link.clone(),
        direction,
        outcome,
    });
    records.results.captures = captures.collect();
    let html = report_of(&records);
    for told in [
        "down 1234 packets in captures/radio-down.pcapng, which lacks 5 and ends early: the disk is full",
        "up not captured: datapath &lt;tc&gt;",
    ] {
        assert!(html.contains(told), "{told}");
    }
}

#[test]
fn energy_that_nobody_measured_is_unavailable_in_words() {
    let html = report_of(&fixture::records());
    assert!(html.contains("Unavailable: no sensor"));
}

/// The run with a study of one trial, which takes half a second, under a GPU of the edge's own if there is a meter.
fn with_study(is_metered: bool) -> RunRecords {
    let trial = TrialRecord {
        arm: Arm::Split {
            ends: vec![1, 3],
            in_flight: 1,
            coding: Coding::F32,
        },
        token_ns: vec![500 * fixture::MS],
        tokens: vec![7],
        ..fixture::trial()
    };
    let study = StudySpec {
        arms: vec![trial.arm.clone()],
        ..fixture::study_spec()
    };
    let findings = vec![StudyFinding::Trial(trial)];
    let mut records = fixture::records();
    (records.plan, records.results) = fixture::with_study("cuts", study, findings);
    if is_metered {
        let counters = [("GPU-of-the-edge", "GPU", true)];
        fixture::meter(&mut records.results, &counters, 500, |_, _| 12);
        fixture::idle_power(&mut records.results, 4.0);
        let mut nodes = records.results.nodes.iter_mut();
        let edge = nodes.find(|up| up.node == "edge").unwrap();
        edge.gpu = Some("GPU-of-the-edge".to_owned());
    }
    records
}

#[test]
fn a_study_tells_joules_of_the_machine_and_of_a_node_with_a_gpu_of_its_own() {
    let html = report_of(&with_study(true));
    let [gross, above_idle] = [6.0, 4.0].map(significant);
    for told in [
        "<th>J/request</th><th>Above idle, J/request</th><th>J/token</th>".to_owned(),
        format!("<td>{gross}</td><td>{above_idle}</td><td>{gross}</td>"),
        format!("<td class=\"t\">edge</td><td>{gross}</td><td>{gross}</td>"),
        "device: meters read devices that all nodes of this machine share".to_owned(),
        "edge: gross energy of its GPU alone, GPU-of-the-edge".to_owned(),
    ] {
        assert!(html.contains(&told), "{told}");
    }
}

#[test]
fn a_study_without_a_meter_says_why_it_has_no_joules() {
    let html = report_of(&with_study(false));
    for told in [
        "<td>Unavailable</td><td>Unavailable</td><td>Unavailable</td>",
        "Unavailable: no meter can be summed up.",
        "edge: nothing is metered on this machine",
    ] {
        assert!(html.contains(told), "{told}");
    }
    assert!(!html.contains("Energy of a node alone"));
}

#[test]
fn a_percentile_that_the_sample_cannot_carry_says_what_it_needs() {
    let html = report_of(&fixture::records());
    assert!(html.contains("needs 459"));
}

#[test]
fn the_report_of_the_recorded_run_is_pinned() {
    insta::assert_snapshot!(report_of(&fixture::records()));
}

#[test]
fn every_report_cites_the_latest_calibration_of_its_machine() {
    let mut records = fixture::records();
    let none = report_of(&records);
    assert!(none.contains("None yet: <code>hexloop run topologies/e00-calibration.toml"));
    let mut calibration = records.summary(std::path::Path::new("anywhere"));
    calibration.experiment = end_to_end::EXPERIMENT.to_owned();
    calibration.run = "e00-calibration-20261120T000000Z-1".to_owned();
    calibration.rates = Some(RatesSummary {
        passed_mbps: vec![5.0, 500.0],
        highest_passed_mbps: Some(500.0),
        ..RatesSummary::default()
    });
    let machine = records.environment.machine.clone();
    records.environment.end_to_end = EndToEnd::of(&calibration, &machine);
    let claims = calibration.expectations.len();
    let cited = report_of(&records);
    let run = "Run <code>e00-calibration-20261120T000000Z-1</code>";
    assert!(cited.contains(run), "{cited}");
    let held = format!("on this machine and kernel: verdict VALID, {claims} of {claims} claims");
    assert!(cited.contains(&held), "{cited}");
    let rates = "claims held; highest constant rate passed 500 Mbit/s.";
    assert!(cited.contains(rates), "{cited}");
    records.environment.machine.kernel = "another".to_owned();
    assert!(report_of(&records).contains("on another machine or kernel than this run"));
}
