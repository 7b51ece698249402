//! Shapings whose processes are killed, and undoings that are.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hexloop_tests::points::{Answer, Point, rounds};
use hexloop_tests::sandbox::within_ms;
use hexloop_tests::stage::NIC;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::shaping::{
    APPLIER, CLEAN_MS, CONFIRMER, GUARDIAN, HOLDER, Shape, Trial, VICTIMS, with_trial,
};

#[test]
#[ignore = "needs root"]
fn whoever_is_killed_at_any_step_of_a_shaping_the_machine_is_put_back() {
    killed_at_every_step_of(Shape::Rates);
}

#[test]
#[ignore = "needs root, netem"]
fn whoever_is_killed_while_peers_are_delayed_the_machine_is_put_back() {
    killed_at_every_step_of(Shape::DelayedPeers);
}

#[test]
#[ignore = "needs root"]
fn whoever_is_killed_while_a_trace_is_followed_confirmed_and_renewed_the_machine_is_put_back() {
    killed_at_every_step_of(Shape::FollowedAndConfirmed);
}

fn killed_at_every_step_of(shape: Shape) {
    with_trial(|trial| {
        let walked = trial.walk_as(shape);
        println!("{} points", walked.len());
        for (number, point) in walked.iter().enumerate() {
            for round in 0..rounds().min(VICTIMS.len()) {
                let victims = VICTIMS[(number + round) % VICTIMS.len()];
                killed_at(trial, shape, point, victims);
            }
        }
    });
}

/// One round: apply, and clear if that went well, with a strike at one point.
fn killed_at(trial: &Trial<'_>, shape: Shape, point: &Point, victims: &'static [&'static str]) {
    let when = format!("{victims:?} killed at {point:?} of {shape:?}");
    // Whoever confirms stands for whoever applies by then.
    let mut struck_at = victims.to_vec();
    if victims.contains(&APPLIER) {
        struck_at.push(CONFIRMER);
    }
    let (struck, target) = (Arc::new(AtomicBool::new(false)), point.clone());
    let (hit, before) = (Arc::clone(&struck), trial.system.clone());
    trial.points.decide(move |point, _| {
        if *point == target && !hit.swap(true, Ordering::SeqCst) {
            before.strike(&struck_at);
        }
        Answer::Go
    });
    let applied = trial.apply_as(shape);
    trial.stage.expect_reachable();
    // An applier that was killed after it had confirmed leaves what it asked for.
    let is_over = || trial.processes(&[HOLDER]).is_empty();
    let is_held = || {
        let shown = trial.run(&["link", "show", NIC]).stdout;
        let waits = shape == Shape::FollowedAndConfirmed && shown.contains(": unconfirmed");
        shown.contains(": held") || waits
    };
    let settled = within_ms(CLEAN_MS, || is_over() || is_held());
    assert!(settled, "{when}: neither held nor over: {}", applied.told());
    if !is_over() {
        let cleared = trial.run(&["link", "clear", NIC]);
        assert_ne!(cleared.code(), Some(5), "{}", cleared.told());
    }
    // The last steps of a holder come after its answer to whoever clears.
    let is_certain = shape.is_certain(point);
    let limit_ms = if is_certain { CLEAN_MS } else { 0 };
    let was_struck = within_ms(limit_ms, || struck.load(Ordering::SeqCst));
    assert!(
        was_struck || !is_certain,
        "nothing was {when}: {}",
        applied.told()
    );
    if was_struck && victims.contains(&HOLDER) && victims.contains(&GUARDIAN) {
        // Nobody is left who could: the next start, or `undo`, does it.
        let gone = within_ms(CLEAN_MS, || {
            trial.processes(&[APPLIER, HOLDER, GUARDIAN]).is_empty()
        });
        assert!(gone, "{when}: somebody survived");
        trial.undo().expect_code(0);
    }
    trial.expect_clean(&when);
}

#[test]
#[ignore = "needs root"]
fn a_guardian_or_an_undo_killed_at_any_step_leaves_the_rest_to_the_next_undo() {
    with_trial(|trial| {
        for part in ["guard-link", "undo"] {
            let mut number = 0;
            while undo_killed_at(trial, part, number) {
                number += 1;
            }
            assert!(number > 10, "only {number} points of {part}");
            println!("{part}: killed at {number} points");
        }
    });
}

/// Whether there was such a point.
fn undo_killed_at(trial: &Trial<'_>, part: &'static str, number: usize) -> bool {
    trial.points.decide(|_, _| Answer::Go);
    trial.apply().expect_code(0);
    let struck = Arc::new(AtomicBool::new(false));
    let hit = Arc::clone(&struck);
    let mut count = 0;
    trial.points.decide(move |point, pid| {
        if point.part == part {
            if count == number {
                hit.store(true, Ordering::SeqCst);
                let pid = Pid::from_raw(i32::try_from(pid).expect("a process id"));
                kill(pid, Signal::SIGKILL).expect("a living process");
            }
            count += 1;
        }
        Answer::Go
    });
    if part == "guard-link" {
        trial.system.strike(&[HOLDER]);
        let ended = within_ms(CLEAN_MS, || trial.processes(&[HOLDER, GUARDIAN]).is_empty());
        assert!(ended, "the guardian neither ended nor was killed");
    } else {
        trial.system.strike(&[HOLDER, GUARDIAN]);
        let gone = within_ms(CLEAN_MS, || trial.processes(&[HOLDER, GUARDIAN]).is_empty());
        assert!(gone, "somebody survived");
        // Killed on its way, or not: the next one is looked at.
        let _ = trial.undo();
    }
    trial.stage.expect_reachable();
    trial.points.decide(|_, _| Answer::Go);
    trial.undo().expect_code(0);
    trial.expect_clean(&format!("{part} killed at its point {number}"));
    struck.load(Ordering::SeqCst)
}
