//! Shapings in which something fails: the kernel, the disk, the ledger.

use std::fs;

use hexloop_tests::points::{Answer, Point};
use hexloop_tests::sandbox::within_ms;
use hexloop_tests::stage::{NIC, command};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

use crate::shaping::{APPLIER, CLEAN_MS, GUARDIAN, HOLDER, Shape, Trial, abandoned, with_trial};

#[test]
#[ignore = "needs root"]
fn whatever_fails_once_the_machine_is_put_back_and_the_error_says_why() {
    failed_at_every_step_of(Shape::Rates);
}

#[test]
#[ignore = "needs root, netem"]
fn whatever_fails_while_peers_are_delayed_the_machine_is_put_back_and_the_error_says_why() {
    failed_at_every_step_of(Shape::DelayedPeers);
}

#[test]
#[ignore = "needs root"]
fn whatever_fails_while_a_trace_is_followed_and_confirmed_the_machine_is_put_back() {
    failed_at_every_step_of(Shape::FollowedAndConfirmed);
}

fn failed_at_every_step_of(shape: Shape) {
    with_trial(|trial| {
        let can_fail = [
            "ledger-write",
            "ledger-synchronise",
            "netlink",
            "netlink-look",
            "step-apply",
            "guardian-spawn",
            "undo",
        ];
        let mut walked = trial.walk_as(shape);
        walked.retain(|point| can_fail.contains(&point.name.as_str()));
        println!("{} points", walked.len());
        let errors = [Errno::EPERM, Errno::ENOBUFS, Errno::ENOSPC, Errno::EBUSY];
        for (number, point) in walked.iter().enumerate() {
            let error = errors[number % errors.len()];
            failed_at(trial, shape, point, error);
        }
    });
}

fn failed_at(trial: &Trial<'_>, shape: Shape, point: &Point, error: Errno) {
    trial.fail_once(point, error);
    let applied = trial.apply_as(shape);
    trial.stage.expect_reachable();
    let when = format!("{error} at {point:?} of {shape:?}");
    // What was applied and could not be confirmed is there until somebody clears it.
    let may_wait = shape == Shape::FollowedAndConfirmed;
    if applied.code() == Some(0) || may_wait {
        let cleared = trial.run(&["link", "clear", "--all"]);
        assert_eq!(cleared.code(), Some(0), "{when}: {}", cleared.told());
    }
    let said = applied.code() == Some(0) || applied.stderr.starts_with("error: ");
    assert!(said, "{when}: {}", applied.told());
    trial.expect_clean(&when);
}

#[test]
#[ignore = "needs root"]
fn a_machine_that_cannot_be_put_back_is_dirty_until_it_can() {
    with_trial(|trial| {
        trial.points.decide(|_, _| Answer::Go);
        trial.apply().expect_code(0);
        // All rights are lost: nothing can be deleted any more.
        trial.points.decide(|point, _| match point.name.as_str() {
            "undo" => Answer::Fail(Errno::EPERM as i32),
            _ => Answer::Go,
        });
        trial
            .run(&["link", "clear", NIC])
            .expect_code(5)
            .expect_error(&["dirty", "hexloop undo", "Operation not permitted"]);
        trial.undo().expect_code(5);
        trial.apply().expect_code(5).expect_error(&["dirty"]);
        assert_eq!(trial.ledgers().len(), 1);
        trial.stage.expect_reachable();
        trial.points.decide(|_, _| Answer::Go);
        trial.undo().expect_code(0);
        trial.expect_clean("rights are back");
    });
}

#[test]
#[ignore = "needs root"]
fn on_a_full_disk_nothing_is_begun() {
    with_trial(|trial| {
        // A small file system of this thread's own, in the place of the state directory.
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        command("mount --make-rprivate /");
        let state = trial.sandbox.path("state");
        let state = state.display();
        command(&format!("mount -t tmpfs -o size=64k,mode=700 none {state}"));
        trial.points.decide(|_, _| Answer::Go);
        for pages in 0..16 {
            let filler = trial.sandbox.path("state/filler");
            // As much as fits, and then a few pages less.
            drop(fs::write(&filler, vec![0; 1 << 20]));
            let size = fs::metadata(&filler).unwrap().len();
            let rest = size.saturating_sub(pages * 4096);
            let file = fs::File::options().write(true).open(&filler).unwrap();
            file.set_len(rest).unwrap();
            drop(file);
            let applied = trial.apply();
            if applied.code() == Some(0) {
                trial.run(&["link", "clear", NIC]).expect_code(0);
            } else {
                applied
                    .expect_code(4)
                    .expect_error(&["No space left", "space"]);
            }
            trial.expect_clean(&format!("{pages} pages free"));
            fs::remove_file(&filler).unwrap();
            for directory in ["state/ledgers", "state/ended"] {
                drop(fs::remove_dir_all(trial.sandbox.path(directory)));
            }
        }
        command(&format!("umount {state}"));
    });
}

#[test]
#[ignore = "needs root"]
fn after_a_boot_nothing_is_looked_for_that_the_boot_took_away() {
    with_trial(|trial| {
        let (ledger, text) = abandoned(trial);
        let shaped = trial.stage.snapshot();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let other = text.replace(boot.trim(), "an-earlier-boot");
        assert_ne!(other, text);
        fs::write(&ledger, &other).unwrap();
        trial.undo().expect_code(0);
        assert!(!ledger.exists());
        // What is there now is none of that earlier boot's.
        assert_eq!(trial.stage.snapshot(), shaped);
        fs::write(&ledger, &text).unwrap();
        trial.undo().expect_code(0);
        trial.expect_clean("this boot's ledger");
    });
}

#[test]
#[ignore = "needs root"]
fn a_torn_last_record_is_one_whose_action_was_never_begun() {
    with_trial(|trial| {
        // At every note: killed after it was written and before it was acted upon.
        let notes = trial.walk();
        let notes = notes
            .iter()
            .filter(|point| point.part == "keep" && point.name == "ledger-written")
            .count();
        for note in 0..notes {
            let system = trial.system.clone();
            trial.points.decide(move |point, _| {
                let here = point.part == "keep" && point.name == "ledger-written";
                if here && point.before == note {
                    system.strike(&[HOLDER, GUARDIAN, APPLIER]);
                }
                Answer::Go
            });
            // Killed or refused: what matters is what is left.
            let _ = trial.apply();
            let gone = within_ms(CLEAN_MS, || trial.processes(&[HOLDER, GUARDIAN]).is_empty());
            assert!(gone, "somebody survived");
            trial.points.decide(|_, _| Answer::Go);
            let ledger = trial.ledgers().pop().expect("a ledger");
            let text = fs::read_to_string(&ledger).unwrap();
            let last = text.trim_end().rfind('\n').map_or(0, |at| at + 1);
            // Torn in its middle; the unit tests tear at every byte.
            fs::write(&ledger, &text[..last.midpoint(text.len())]).unwrap();
            trial.undo().expect_code(0);
            trial.expect_clean(&format!("note {note} torn"));
        }
    });
}
