//! Runs whose processes are killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;

use hexloop_tests::points::{Answer, Point, rounds};
use hexloop_tests::system::{System, Trace};

use crate::run::{
    AGENT, CONTROLLER, SMALL, Sample, expect_clean, expect_ended, play_text, small_on_edt,
    small_on_tc, walk, walk_seeing, walk_text,
};
use crate::shaping::{GUARDIAN, Trial, with_trial};

/// Whom to kill at once; `GUARDIAN` is both.
const VICTIMS: [&[&str]; 7] = [
    &[AGENT],
    &[GUARDIAN],
    &[CONTROLLER],
    &[AGENT, GUARDIAN],
    &[AGENT, CONTROLLER],
    &[GUARDIAN, CONTROLLER],
    &[AGENT, GUARDIAN, CONTROLLER],
];

/// Points before which nothing has happened since an earlier one: a process that dies there leaves
/// the same behind. They are struck only in more than one round.
const NOTHING_NEW: [&str; 7] = [
    "ledger-write",
    "ledger-synchronise",
    "cgroup",
    "guardian-spawn",
    "node-spawn",
    "run-directory",
    "undo",
];

/// Strikes of one round.
const MOST_STRIKES: usize = 40;

/// Which points are struck. What is made over netlink and by ethtool goes with the namespaces, so
/// that one round strikes every eighth of them; events come in numbers that differ from run to run.
fn is_struck(point: &Point) -> bool {
    let name = point.name.as_str();
    let thinned = match name {
        "netlink" | "ethtool" => point.before % 8 == 3,
        _ => !NOTHING_NEW.contains(&name),
    };
    (thinned || rounds() > 1) && (name != "event-write" || point.before < 3)
}

#[test]
#[ignore = "needs root"]
fn whoever_is_killed_at_any_step_of_a_run_the_machine_is_put_back() {
    with_trial(|trial| {
        let walked = walk(trial);
        let points: Vec<_> = walked.iter().filter(|point| is_struck(point)).collect();
        // One round takes a sample over the whole run, so that it stays short.
        let every = if rounds() > 1 {
            1
        } else {
            points.len().div_ceil(MOST_STRIKES)
        };
        let points: Vec<_> = points.into_iter().step_by(every.max(1)).collect();
        println!("{} of {} points", points.len(), walked.len());
        let (mut struck, mut missed) = (0, Vec::new());
        for (number, point) in points.into_iter().enumerate() {
            for round in 0..rounds().min(VICTIMS.len()) {
                let victims = VICTIMS[(number + round) % VICTIMS.len()];
                match killed_at(trial, SMALL, point, victims) {
                    true => struck += 1,
                    false => missed.push(point.clone()),
                }
            }
        }
        println!("struck {struck} times; not reached this time: {missed:?}");
        assert!(
            missed.len() * 10 <= struck,
            "{struck} struck, {missed:?} missed"
        );
    });
}

#[test]
#[ignore = "needs root"]
fn whoever_is_killed_while_the_kernels_disciplines_shape_a_run_they_are_gone_with_it() {
    let netlink = Sample {
        name: "netlink",
        making: 3,
        playing: 2,
    };
    with_trial(|trial| {
        let experiment = small_on_tc();
        let walked = walk_text(trial, &experiment);
        let moments = ["link-up", "phase-plays", "taking-down"];
        let moments = moments.map(|name| walked.iter().find(|point| point.name == name));
        let moments = moments.map(|point| point.expect("a moment of every run"));
        killed(
            trial,
            &experiment,
            netlink.pick(&walked).into_iter().chain(moments),
        );
    });
}

#[test]
#[ignore = "needs root, fq"]
fn whoever_is_killed_while_departure_times_shape_a_run_programs_and_maps_are_gone_with_it() {
    let samples = ["bpf", "netlink"].map(|name| Sample {
        name,
        making: 1,
        playing: 1,
    });
    with_trial(|trial| {
        let experiment = small_on_edt();
        let (before, (seen, sees)) = (trial.system.clone(), channel());
        let walked = walk_seeing(trial, &experiment, move |point| {
            if point.name == "phase-plays" {
                seen.send(System::look("").since(&before)).unwrap();
            }
        });
        // Else nobody would see that they are left over.
        let playing = sees.try_recv().expect("a phase that plays");
        let is_ours = |one: &Trace| matches!(one, Trace::Bpf(_));
        assert!(playing.iter().any(is_ours), "{playing:?}");
        let points = samples.iter().flat_map(|sample| sample.pick(&walked));
        killed(trial, &experiment, points);
    });
}

/// Strikes at points of a run, at each of them as many sets of victims as there are rounds.
fn killed<'a>(trial: &Trial<'_>, experiment: &str, points: impl Iterator<Item = &'a Point>) {
    let (mut struck, mut missed) = (0, Vec::new());
    for (number, point) in points.enumerate() {
        for round in 0..rounds().min(VICTIMS.len()) {
            let victims = VICTIMS[(number + round) % VICTIMS.len()];
            match killed_at(trial, experiment, point, victims) {
                true => struck += 1,
                // How often a link is steered or read differs from run to run.
                false => missed.push(point),
            }
        }
    }
    println!("struck {struck} times; not reached this time: {missed:?}");
    assert!(struck > missed.len(), "{struck} struck, {missed:?} missed");
}

/// Strikes once; whether the run came to that point: threads that note things side by side do so in
/// numbers that differ from run to run.
fn killed_at(
    trial: &Trial<'_>,
    experiment: &str,
    point: &Point,
    victims: &'static [&'static str],
) -> bool {
    let when = format!("{victims:?} killed at {point:?}");
    let (struck, target) = (Arc::new(AtomicBool::new(false)), point.clone());
    let (hit, before) = (Arc::clone(&struck), trial.system.clone());
    trial.points.decide(move |point, _| {
        if *point == target && !hit.swap(true, Ordering::SeqCst) {
            before.strike(victims);
        }
        Answer::Go
    });
    let played = play_text(trial, experiment);
    trial.stage.expect_reachable();
    let struck = struck.load(Ordering::SeqCst);
    if !struck {
        assert_eq!(played.code(), Some(6), "{when}: {}", played.told());
    }
    expect_ended(trial, &when);
    trial.points.decide(|_, _| Answer::Go);
    if struck && victims.contains(&GUARDIAN) && victims.len() > 1 {
        // Nobody is left who could: the next start, or `undo`, does it.
        trial.undo().expect_code(0);
    }
    expect_clean(trial, &when);
    struck
}
