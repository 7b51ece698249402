//! A run as small as one can be, on a host with a management path: two nodes, one link, one phase
//! without a model.

use std::fs;
use std::path::PathBuf;

use hexloop_tests::points::{Answer, Point, rounds, spread};
use hexloop_tests::sandbox::{Finished, finish, within_ms};

use crate::shaping::{CLEAN_MS, GUARDIAN, Trial};

/// The controller; its file tells it from everybody else.
pub(crate) const CONTROLLER: &str = "run small.toml";
pub(crate) const AGENT: &str = "agent serve";
/// The first processes of the nodes.
pub(crate) const NODES: &str = "agent init";

pub(crate) const SMALL: &str = r#"
schema = 1
name = "small"
seed = 1

[traces.constant.steps]
rates = ["10 Mbit/s"]
delay = "1 ms"
duration = "10 s"

[nodes.first]
cpu_quota = "50 %"
[nodes.second]

[[links]]
name = "link"
between = ["first", "second"]
trace = "constant"

[[traffic]]
name = "ping"
job = "ping"
gap = "10 ms"
duration = "1 s"

[calibration]
flow = "3 s"

[machine]
noise_check = "0 s"
"#;

/// The same on the kernel's queueing disciplines, without delay, so that htb alone does.
pub(crate) fn small_on_tc() -> String {
    small_on("tc").replace("delay = \"1 ms\"\n", "")
}

/// The same by departure times in the kernel.
pub(crate) fn small_on_edt() -> String {
    small_on("edt")
}

fn small_on(datapath: &str) -> String {
    let link = "trace = \"constant\"\n";
    SMALL.replace(link, &format!("{link}datapath = \"{datapath}\"\n"))
}

/// Calls to the kernel that are tried in one round: of those that make a run's links, and of those
/// that the links make again and again while they play.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    pub(crate) name: &'static str,
    pub(crate) making: usize,
    pub(crate) playing: usize,
}

impl Sample {
    /// The agent's calls in a run to which nothing happened that are tried: in more than one round
    /// all that make links, and as many more of the others.
    pub(crate) fn pick<'a>(self, walked: &'a [Point]) -> Vec<&'a Point> {
        let is_up = |point: &Point| point.part == "serve" && point.name == "link-up";
        let is_up = walked.iter().position(is_up).expect("a link that is up");
        let calls = |points: &'a [Point]| -> Vec<&'a Point> {
            let is_call = |point: &&Point| point.part == "serve" && point.name == self.name;
            points.iter().filter(is_call).collect()
        };
        let (making, playing) = walked.split_at(is_up);
        let (making, playing) = (calls(making), calls(playing));
        let of_making = if rounds() > 1 {
            making.len()
        } else {
            self.making
        };
        let mut picked = spread(&making, of_making);
        picked.extend(spread(&playing, self.playing * rounds()));
        let (name, count) = (self.name, making.len() + playing.len());
        println!("{name}: {} of {count} calls", picked.len());
        assert!(making.len() > 10, "only {} calls make a link", making.len());
        picked
    }
}

/// The run, to its end, whatever that is.
pub(crate) fn play(trial: &Trial<'_>) -> Finished {
    play_text(trial, SMALL)
}

/// Another experiment, to its end.
pub(crate) fn play_text(trial: &Trial<'_>, experiment: &str) -> Finished {
    trial.sandbox.write("small.toml", experiment);
    let arguments = ["run", "small.toml", "--output", "output", "--quiet"];
    finish(trial.command(&arguments).spawn().unwrap(), 180)
}

/// Every point of a run to which nothing happens.
pub(crate) fn walk(trial: &Trial<'_>) -> Vec<Point> {
    walk_text(trial, SMALL)
}

/// The same of another experiment.
pub(crate) fn walk_text(trial: &Trial<'_>, experiment: &str) -> Vec<Point> {
    walk_seeing(trial, experiment, |_| {})
}

/// The same, where somebody looks on at each point.
pub(crate) fn walk_seeing(
    trial: &Trial<'_>,
    experiment: &str,
    mut see: impl FnMut(&Point) + Send + 'static,
) -> Vec<Point> {
    trial.points.decide(move |point, _| {
        see(point);
        Answer::Go
    });
    let played = play_text(trial, experiment);
    // Its calibration is too short for a verdict other than INVALID.
    assert_eq!(played.code(), Some(6), "{}", played.told());
    let points = trial.points.so_far();
    expect_clean(trial, "nothing happened");
    points
}

/// Checks that the machine is as it was, and that what is kept of runs says what it is.
#[track_caller]
pub(crate) fn expect_clean(trial: &Trial<'_>, when: &str) {
    trial.expect_clean(when);
    let left = || -> Vec<PathBuf> {
        let runtime = fs::read_dir(trial.sandbox.path("runtime")).unwrap();
        runtime.flatten().map(|entry| entry.path()).collect()
    };
    // A guardian may still be at it when the program that it guarded is gone.
    let gone = within_ms(CLEAN_MS, || left().is_empty());
    assert!(gone, "{when}: sockets are left: {:?}", left());
    for run in fs::read_dir(trial.sandbox.path("output"))
        .unwrap()
        .flatten()
    {
        let name = run.file_name().into_string().unwrap();
        let is_whole = run.path().join("summary.json").is_file();
        let is_named = name.ends_with(".interrupted") || (is_whole && !name.starts_with('.'));
        assert!(is_named, "{when}: half a run {name}");
        fs::remove_dir_all(run.path()).unwrap();
    }
}

/// Waits until none of the run's processes is left.
#[track_caller]
pub(crate) fn expect_ended(trial: &Trial<'_>, when: &str) {
    let everybody = [CONTROLLER, AGENT, GUARDIAN, NODES];
    let gone = within_ms(CLEAN_MS, || trial.processes(&everybody).is_empty());
    let left = trial.processes(&everybody);
    assert!(gone, "{when}: somebody survived: {left:?}");
}
