//! Runs that are disturbed from outside while they play: the run says what happened and does not
//! pass for a good one, and the machine is put back.

use std::fs;
use std::io::Write;
use std::process::Command;

use hexloop_tests::points::Answer;
use hexloop_tests::sandbox::Finished;
use hexloop_tests::stage::command;
use hexloop_tests::system::System;
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::run::{NODES, expect_clean, expect_ended, play, walk};
use crate::shaping::{Trial, with_trial};

/// Plays a run and does something to it, told the agent's process, as soon as its phase plays.
fn disturbed(trial: &Trial<'_>, disturb: impl FnOnce(u32) + Send + 'static) -> Finished {
    let mut disturb = Some(disturb);
    trial.points.decide(move |point, pid| {
        if point.name == "phase-plays"
            && let Some(disturb) = disturb.take()
        {
            disturb(pid);
        }
        Answer::Go
    });
    let played = play(trial);
    trial.stage.expect_reachable();
    assert!(
        trial
            .points
            .so_far()
            .iter()
            .any(|point| point.name == "phase-plays")
    );
    played
}

/// The first process of the node `first`, which was started first.
fn first_node(before: &System) -> Pid {
    *before.new_processes(&[NODES]).first().expect("a node")
}

/// Runs `ip` with words separated by blanks in the network of the node `first`.
fn ip_in_first_node(before: &System, words: &str) {
    let namespace = format!("--net=/proc/{}/ns/net", first_node(before));
    let output = Command::new("nsenter")
        .args([&namespace, "ip"])
        .args(words.split(' '))
        .output()
        .unwrap();
    assert!(output.status.success(), "ip {words}: {output:?}");
}

#[test]
#[ignore = "needs root"]
fn an_interface_that_is_changed_while_a_run_plays_ends_it_with_the_reason() {
    with_trial(|trial| {
        for (words, told) in [
            (
                "link set hx0a mtu 1400",
                "its MTU went from 1500 to 1400 bytes",
            ),
            ("link set hx0a name other0", "it was renamed to other0"),
            ("link set hx0a down", "was taken down"),
            ("link del hx0a", "went away"),
        ] {
            let before = trial.system.clone();
            let played = disturbed(trial, move |_| ip_in_first_node(&before, words));
            played.expect_code(1).expect_error(&["hx0a", told]);
            expect_ended(trial, words);
            expect_clean(trial, words);
        }
    });
}

#[test]
#[ignore = "needs root"]
fn a_node_whose_namespaces_are_taken_away_ends_the_run_with_its_name() {
    with_trial(|trial| {
        let before = trial.system.clone();
        // With its first process a node loses every process and its network.
        let played = disturbed(trial, move |_| {
            kill(first_node(&before), Signal::SIGKILL).unwrap();
        });
        played
            .expect_code(1)
            .expect_error(&["node first", "its first process is gone"]);
        expect_ended(trial, "a node is gone");
        expect_clean(trial, "a node is gone");
    });
}

#[test]
#[ignore = "needs root"]
fn a_disk_that_fills_while_a_run_plays_ends_it_and_what_was_recorded_is_kept() {
    with_trial(|trial| {
        // A file system of this thread's own, with hardly more room than a run must have.
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        command("mount --make-rprivate /");
        let output = trial.sandbox.output();
        let mounted = output.display();
        command(&format!(
            "mount -t tmpfs -o size=66m,mode=755 none {mounted}"
        ));
        let filler = output.join("filler");
        let played = disturbed(trial, move |pid| {
            let seen_by_the_agent = format!("/proc/{pid}/root{}", filler.display());
            let mut file = fs::File::create(seen_by_the_agent).unwrap();
            while file.write_all(&[0; 1 << 16]).is_ok() {}
        });
        played
            .expect_code(1)
            .expect_error(&["No space left", "is the disk full?"]);
        let kept = fs::read_dir(&output).unwrap().flatten();
        let kept: Vec<_> = kept
            .map(|one| one.file_name().into_string().unwrap())
            .collect();
        let interrupted = kept.iter().find(|name| name.ends_with(".interrupted"));
        let events = output
            .join(interrupted.expect("an interrupted run"))
            .join("events.ndjson");
        assert!(
            fs::read_to_string(events)
                .unwrap()
                .contains("phase-started"),
            "{kept:?}"
        );
        expect_ended(trial, "the disk is full");
        fs::remove_file(output.join("filler")).unwrap();
        expect_clean(trial, "the disk is full");
        command(&format!("umount {mounted}"));
    });
}

#[test]
#[ignore = "needs root"]
fn a_run_that_loses_its_rights_leaves_a_dirty_machine_until_they_are_back() {
    with_trial(|trial| {
        walk(trial);
        let mut lost = false;
        trial.points.decide(move |point, _| {
            lost |= point.name == "phase-plays";
            match point.name.as_str() {
                "netlink" | "ethtool" | "cgroup" | "undo" if lost => {
                    Answer::Fail(Errno::EPERM as i32)
                }
                _ => Answer::Go,
            }
        });
        play(trial).expect_code(5).expect_error(&[
            "Operation not permitted",
            "could not be put back",
            "hexloop undo",
        ]);
        trial.stage.expect_reachable();
        assert!(!trial.ledgers().is_empty());
        // Still without them: nothing is begun, and nothing gets better.
        trial.undo().expect_code(5);
        play(trial).expect_code(5).expect_error(&["dirty"]);
        trial.stage.expect_reachable();
        trial.points.decide(|_, _| Answer::Go);
        trial.undo().expect_code(0);
        expect_clean(trial, "the rights are back");
    });
}
