//! Runs in which something fails: the kernel, the disk, the ledger, a process that is started.

use std::fs;

use hexloop_tests::points::{Answer, Point, rounds};
use hexloop_tests::stage::command;
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

use crate::run::{
    AGENT, CONTROLLER, SMALL, Sample, expect_clean, expect_ended, play, play_text, small_on_edt,
    small_on_tc, walk, walk_text,
};
use crate::shaping::{GUARDIAN, Trial, with_trial};

/// Points at which an action can fail, and of how many in a row one is made to.
const CAN_FAIL: [(&str, usize); 10] = [
    ("netlink", 1),
    ("ethtool", 4),
    ("cgroup", 1),
    ("ledger-write", 1),
    ("ledger-synchronise", 5),
    ("guardian-spawn", 1),
    ("node-spawn", 1),
    ("record-write", 1),
    ("run-directory", 1),
    ("run-rename", 1),
];

fn is_failed(point: &Point) -> bool {
    let every = CAN_FAIL.iter().find(|(name, _)| *name == point.name);
    every.is_some_and(|(_, every)| rounds() > 1 || point.before.is_multiple_of(*every))
        || (point.name == "event-write" && point.before < 3)
}

#[test]
#[ignore = "needs root"]
fn whatever_fails_once_in_a_run_the_machine_is_put_back_and_the_error_says_why() {
    with_trial(|trial| {
        let walked = walk(trial);
        let points: Vec<_> = walked.iter().filter(|point| is_failed(point)).collect();
        println!("{} of {} points", points.len(), walked.len());
        let errors = [
            Errno::EPERM,
            Errno::ENOBUFS,
            Errno::ENODEV,
            Errno::ENOSPC,
            Errno::EBUSY,
        ];
        let mut told = 0;
        for (number, point) in points.iter().enumerate() {
            let error = errors[number % errors.len()];
            let ended_it = failed_at(trial, SMALL, point, error);
            told += usize::from(ended_it);
        }
        // What is left over is looked at again, and is not needed; nearly everything is.
        println!("{told} of {} errors ended the run", points.len());
        assert!(told * 2 > points.len(), "hardly any error was told");
    });
}

#[test]
#[ignore = "needs root"]
fn whatever_the_kernel_refuses_once_a_run_on_tc_is_taken_down_and_says_why() {
    let netlink = Sample {
        name: "netlink",
        making: 6,
        playing: 4,
    };
    with_trial(|trial| refused(trial, &small_on_tc(), &[netlink]));
}

#[test]
#[ignore = "needs root, fq"]
fn whatever_the_kernel_refuses_once_a_run_on_edt_is_taken_down_and_says_why() {
    let bpf = Sample {
        name: "bpf",
        making: 2,
        playing: 1,
    };
    let netlink = Sample {
        name: "netlink",
        making: 1,
        playing: 1,
    };
    with_trial(|trial| refused(trial, &small_on_edt(), &[bpf, netlink]));
}

/// Has calls of a run fail, one after the other.
fn refused(trial: &Trial<'_>, experiment: &str, samples: &[Sample]) {
    let walked = walk_text(trial, experiment);
    let picked = samples.iter().flat_map(|sample| sample.pick(&walked));
    let errors = [Errno::ENOBUFS, Errno::EPERM, Errno::EINVAL];
    let (mut told, mut count) = (0, 0);
    for (point, error) in picked.zip(errors.into_iter().cycle()) {
        told += usize::from(failed_at(trial, experiment, point, error));
        count += 1;
    }
    println!("{told} of {count} errors ended the run");
    assert!(told * 2 > count, "hardly any error was told");
}

/// Whether that ended the run.
fn failed_at(trial: &Trial<'_>, experiment: &str, point: &Point, error: Errno) -> bool {
    let when = format!("{error} at {point:?}");
    trial.fail_once(point, error);
    let played = play_text(trial, experiment);
    trial.stage.expect_reachable();
    let when = format!("{when}: exit code {:?}", played.code());
    match played.code() {
        // What went wrong was not needed, or tried again.
        Some(6) => {}
        Some(1 | 4) => {
            let why = error.desc();
            let said = played.stderr.contains("error: ") && played.stderr.contains(why);
            assert!(said, "{when}: {}", played.told());
        }
        other => panic!("{when}: {other:?}: {}", played.told()),
    }
    expect_ended(trial, &when);
    expect_clean(trial, &when);
    played.code() != Some(6)
}

#[test]
#[ignore = "needs root"]
fn a_run_on_a_full_disk_is_not_begun_and_leaves_nothing() {
    with_trial(|trial| {
        // A small file system of this thread's own, in the place of the state directory.
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        command("mount --make-rprivate /");
        let state = trial.sandbox.path("state");
        let state = state.display();
        command(&format!("mount -t tmpfs -o size=64k,mode=700 none {state}"));
        trial.points.decide(|_, _| Answer::Go);
        for pages in 0..6 {
            let filler = trial.sandbox.path("state/filler");
            // As much as fits, and then a few pages less.
            drop(fs::write(&filler, vec![0; 1 << 20]));
            let size = fs::metadata(&filler).unwrap().len();
            let file = fs::File::options().write(true).open(&filler).unwrap();
            file.set_len(size.saturating_sub(pages * 4096)).unwrap();
            drop(file);
            let played = play(trial);
            trial.stage.expect_reachable();
            if played.code() != Some(6) {
                played
                    .expect_code(4)
                    .expect_error(&["No space left", "space"]);
            }
            let when = format!("{pages} pages free");
            expect_ended(trial, &when);
            fs::remove_file(&filler).unwrap();
            expect_clean(trial, &when);
            drop(fs::remove_dir_all(trial.sandbox.path("state/ledgers")));
        }
        command(&format!("umount {state}"));
    });
}

#[test]
#[ignore = "needs root"]
fn after_a_boot_only_what_outlives_a_boot_is_undone() {
    with_trial(|trial| {
        let before = trial.system.clone();
        let mut once = true;
        trial.points.decide(move |point, _| {
            if point.name == "phase-plays" && std::mem::take(&mut once) {
                before.strike(&[GUARDIAN, AGENT, CONTROLLER]);
            }
            Answer::Go
        });
        drop(play(trial));
        expect_ended(trial, "everybody was killed");
        let groups = trial.system.left_over_within(0);
        assert!(!groups.is_empty(), "nothing is left to undo");
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let mut texts = Vec::new();
        for ledger in trial.ledgers() {
            let text = fs::read_to_string(&ledger).unwrap();
            let other = text.replace(boot.trim(), "an-earlier-boot");
            assert_ne!(other, text);
            fs::write(&ledger, other).unwrap();
            texts.push((ledger, text));
        }
        assert_eq!(texts.len(), 2, "the controller's and the agent's");
        trial.points.decide(|_, _| Answer::Go);
        trial.undo().expect_code(0);
        // Directories and files outlive a boot; a control group that is there is not that boot's.
        assert_eq!(trial.system.left_over_within(0), groups);
        for (ledger, text) in texts {
            fs::write(ledger, text).unwrap();
        }
        trial.undo().expect_code(0);
        expect_clean(trial, "this boot's ledgers");
    });
}
