//! What is known of a node alone: its GPU's energy, where that is nobody else's.

use hexloop_proto::GpuSample;

use super::*;

const UUID: &str = "GPU-of-the-edge";

/// Of each trial, one after the other: first one of either arm, then again.
const TRIAL_MS: u64 = 500;

/// Two splits that take turns, under counters of a package, which draws 10 W, and a GPU, which draws 2 W with the first
/// arm and 20 W with the second. The machine draws 4 W without jobs.
fn played(counted: [bool; 2], change: impl FnOnce(&mut Results)) -> StudySummary {
    let arms = [split(1), split(2)];
    let (plan, mut results) = two_arms(&arms, TRIAL_MS);
    let counters = [
        ("package-0", "package", counted[0]),
        (UUID, "GPU", counted[1]),
    ];
    fixture::meter(
        &mut results,
        &counters,
        4 * TRIAL_MS,
        |place, at_ms| match (place, at_ms / TRIAL_MS % 2) {
            (0, _) => 10,
            (_, 0) => 2,
            _ => 20,
        },
    );
    fixture::idle_power(&mut results, 4.0);
    node(&mut results, "edge").gpu = Some(UUID.to_owned());
    change(&mut results);
    summaries(&plan, &BTreeMap::new(), &results).pop().unwrap()
}

fn node<'a>(results: &'a mut Results, name: &str) -> &'a mut hexloop_proto::NodeUp {
    let mut nodes = results.nodes.iter_mut();
    nodes.find(|up| up.node == name).unwrap()
}

#[test]
fn a_request_is_its_power_times_its_time_and_the_gpu_s_part_is_its_node_s() {
    let study = played([true, true], |_| ());
    // Half a second at 12 W or 30 W, of which 4 W would have been drawn anyway, for five tokens; 2 W or 20 W are the GPU's.
    let expected = [[6.0, 4.0, 1.2, 1.0, 0.2], [15.0, 13.0, 3.0, 10.0, 2.0]];
    assert_eq!(study.cells.len(), expected.len());
    for (cell, expected) in study.cells.iter().zip(expected) {
        let energy = &cell.energy;
        let [device, edge] = energy.node_energy.as_slice() else {
            panic!("two nodes: {:?}", energy.node_energy);
        };
        let found = [
            &energy.j_per_request,
            &energy.above_idle_j_per_request,
            &energy.j_per_token,
            &edge.j_per_request,
            &edge.j_per_token,
        ];
        for (found, expected) in found.into_iter().zip(expected) {
            let joules = found.value.unwrap();
            assert!((joules - expected).abs() < 1e-6, "{expected}: {found:?}");
            assert_eq!(found.quality, Quality::Derived);
        }
        assert_eq!(
            (device.node.as_str(), edge.node.as_str()),
            ("device", "edge")
        );
        let source = edge.j_per_request.source.as_deref().unwrap();
        assert!(source.contains("its GPU alone"), "{source}");
        for shared in [&device.j_per_request, &device.j_per_token] {
            assert_eq!(shared.value, None);
            let why = "meters read devices that all nodes of this machine share";
            assert_eq!(shared.reason.as_deref(), Some(why));
        }
    }
}

#[test]
fn a_node_s_gpu_is_metered_where_something_else_stands_for_the_machine() {
    let study = played([true, false], |_| ());
    for (cell, expected) in study.cells.iter().zip([1.0, 10.0]) {
        let machine = cell.energy.j_per_request.value.unwrap();
        assert!((machine - 5.0).abs() < 1e-6, "10 W for half a second");
        let edge = cell.energy.node_energy[1].j_per_request.value.unwrap();
        assert!((edge - expected).abs() < 1e-6, "{edge}");
    }
}

/// What is not known of the edge, and why, after a change.
fn assert_unknown(change: impl FnOnce(&mut Results), why: &str) {
    let study = played([true, true], change);
    for cell in &study.cells {
        let edge = &cell.energy.node_energy[1];
        for energy in [&edge.j_per_request, &edge.j_per_token] {
            assert_eq!(energy.value, None, "{why}");
            assert_eq!(energy.reason.as_deref(), Some(why));
        }
    }
}

#[test]
fn what_is_not_a_node_s_alone_or_not_metered_is_unavailable_with_the_reason() {
    let look = |change: fn(&mut GpuSample)| {
        move |results: &mut Results| {
            let mut sample = GpuSample {
                uuid: UUID.to_owned(),
                ..GpuSample::default()
            };
            change(&mut sample);
            results.phases.last_mut().unwrap().gpus = vec![sample];
        }
    };
    assert_unknown(
        |results| node(results, "edge").gpu = None,
        "meters read devices that all nodes of this machine share",
    );
    assert_unknown(
        |results| node(results, "device").gpu = Some(UUID.to_owned()),
        "its GPU is that of device as well",
    );
    assert_unknown(
        look(|sample| sample.mig = Some(true)),
        "its GPU is cut into instances, and meters read the whole board",
    );
    assert_unknown(
        look(|sample| sample.foreign_processes = Some(vec![1])),
        "processes of others computed on its GPU",
    );
    assert_unknown(
        |results| node(results, "edge").gpu = Some("GPU-of-nobody".to_owned()),
        "no meter reads its GPU, GPU-of-nobody",
    );
    assert_unknown(
        |results| results.agent.as_mut().unwrap().meters.clear(),
        "nothing is metered on this machine",
    );
}

#[test]
fn what_is_above_idle_is_unavailable_where_idle_power_was_not_measured_and_gross_energy_stands() {
    let study = played([true, true], |results| results.idle.clear());
    for cell in &study.cells {
        assert!(cell.energy.j_per_request.value.is_some());
        let above = &cell.energy.above_idle_j_per_request;
        assert_eq!(above.value, None);
        let why = "the idle power was not measured";
        assert_eq!(above.reason.as_deref(), Some(why));
    }
}
