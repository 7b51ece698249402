//! A host on which `hexloop link apply` shapes an interface, and who can be killed there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use hexloop_tests::points::{Answer, Point, Points, rounds, spread};
use hexloop_tests::sandbox::{Finished, Sandbox, finish, within_ms};
use hexloop_tests::stage::{self, NIC, Stage};
use hexloop_tests::system::{System, exclusive};
use nix::errno::Errno;
use nix::unistd::Pid;

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_hexloop-under-test");

/// Within how long nothing may be left, in milliseconds: only a failure waits so long.
pub(crate) const CLEAN_MS: u64 = 60_000;

pub(crate) const ALLOWED: &str = "schema = 1\nallow_interfaces = [\"nic0\", \"mgmt0\"]\n";

/// Rows with rates and queues of their own, for ever.
const TURNS: &str = "# {\"schema\":1,\"scenario\":\"turns\",\"status\":\"control\",\
                     \"duration_ns\":200000000,\"end\":\"loop\",\"seed\":null,\
                     \"generator\":\"test\"}\n\
                     t_ns,down_rate_bps,down_queue_bytes,up_rate_bps,up_queue_bytes\n\
                     0,8000000,30000,16000000,60000\n\
                     100000000,4000000,40000,24000000,70000\n";

/// What is asked of an interface, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Two rates, confirmed by the command that applies.
    Rates,
    /// Delay and loss, for packets of peers alone: filters, netem, and the queue below it.
    DelayedPeers,
    /// A trace that is followed, applied for another command to confirm, which renews the lease too.
    FollowedAndConfirmed,
}

impl Shape {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Shape::Rates => &["--rate", "20Mbit/s,10Mbit/s", "--lease", "100 s"],
            Shape::DelayedPeers => &[
                "--rate",
                "20Mbit/s,10Mbit/s",
                "--delay",
                "5ms",
                "--loss",
                "1%",
                "--peer",
                "10.99.1.2",
                "--peer",
                "[fd99::2]:443",
                "--lease",
                "100 s",
            ],
            Shape::FollowedAndConfirmed => &[
                "--down",
                "turns.csv",
                "--lease",
                "100 s",
                "--confirm-within",
                "90 s",
            ],
        }
    }

    /// Whether a point comes in every round: what is asked for at news, and while a trace is followed, comes
    /// as often as it happens to.
    pub(crate) fn is_certain(self, point: &Point) -> bool {
        let is_followed = self == Shape::FollowedAndConfirmed && point.part == "keep";
        point.name != LOOK && !(is_followed && point.name == "netlink")
    }
}

/// The point of what is asked of the kernel at its news.
const LOOK: &str = "netlink-look";

/// Of points that are no certain ones, so many are tried.
const MOST_UNCERTAIN: usize = 8;

/// How many steps of a shape other than the plain one are tried where there is no time for all.
const SAMPLE: usize = 12;

/// The three kinds of process.
pub(crate) const APPLIER: &str = "link apply";
pub(crate) const CONFIRMER: &str = "link confirm";
pub(crate) const HOLDER: &str = "agent keep";
pub(crate) const GUARDIAN: &str = "agent guard";

/// Whom to kill at once.
pub(crate) const VICTIMS: [&[&str]; 7] = [
    &[HOLDER],
    &[GUARDIAN],
    &[APPLIER],
    &[HOLDER, GUARDIAN],
    &[HOLDER, APPLIER],
    &[GUARDIAN, APPLIER],
    &[HOLDER, GUARDIAN, APPLIER],
];

/// A host with a sandbox, the points of the processes in it, and how it looked at first.
pub(crate) struct Trial<'a> {
    pub(crate) stage: &'a Stage,
    /// Before the sandbox, which takes its socket away.
    pub(crate) points: Points,
    pub(crate) sandbox: Sandbox,
    pub(crate) network: Vec<String>,
    pub(crate) system: System,
}

impl Trial<'_> {
    pub(crate) fn new(stage: &Stage) -> Trial<'_> {
        let sandbox = Sandbox::new(BINARY);
        let trial = Trial {
            stage,
            points: Points::listen(&sandbox.path("points")),
            network: stage.snapshot(),
            system: System::look(""),
            sandbox,
        };
        trial.allow(ALLOWED);
        trial.sandbox.write("turns.csv", TURNS);
        trial
    }

    pub(crate) fn allow(&self, text: &str) {
        let path = self.sandbox.write("agent.toml", text);
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.sandbox.command(arguments);
        command
            .env("HEXLOOP_FAILPOINTS", self.sandbox.path("points"))
            .env("HEXLOOP_TEST_AGENT_TOML", self.sandbox.path("agent.toml"))
            .env_remove("SSH_CONNECTION");
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        finish(self.command(arguments).spawn().unwrap(), 180)
    }

    pub(crate) fn apply(&self) -> Finished {
        self.apply_as(Shape::Rates)
    }

    /// Applies a shape and, where that is left to another command, confirms and renews it. Returns the first
    /// command that failed, else the last.
    pub(crate) fn apply_as(&self, shape: Shape) -> Finished {
        let mut arguments = vec!["link", "apply", NIC];
        arguments.extend(shape.arguments());
        let applied = self.run(&arguments);
        if shape != Shape::FollowedAndConfirmed || applied.code() != Some(0) {
            return applied;
        }
        self.run(&["link", "confirm", NIC, "--extend", "90 s"])
    }

    pub(crate) fn undo(&self) -> Finished {
        self.run(&["undo"])
    }

    pub(crate) fn ledgers(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.sandbox.path("state/ledgers"));
        let entries = entries.into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect()
    }

    pub(crate) fn processes(&self, parts: &[&str]) -> Vec<Pid> {
        self.system.new_processes(parts)
    }

    /// Checks that everything is as it was at first.
    #[track_caller]
    pub(crate) fn expect_clean(&self, when: &str) {
        let clean = within_ms(CLEAN_MS, || {
            self.ledgers().is_empty() && self.system.left_over_within(0).is_empty()
        });
        let left = self.system.left_over_within(0);
        assert!(clean, "{when}: left over {left:#?} {:?}", self.ledgers());
        eprintln!("{when}");
        self.stage.expect_as_before(&self.network);
        self.stage.expect_reachable();
    }

    /// Lets what a process does at a point fail with that error, the first time it comes there.
    pub(crate) fn fail_once(&self, target: &Point, error: Errno) {
        let target = target.clone();
        let mut once = true;
        self.points.decide(move |point, _| {
            if *point == target && std::mem::take(&mut once) {
                Answer::Fail(error as i32)
            } else {
                Answer::Go
            }
        });
    }

    /// Every point of a shaping that is applied, cleared, and undone in order.
    pub(crate) fn walk(&self) -> Vec<Point> {
        self.walk_as(Shape::Rates)
    }

    /// The same for a shape: the certain ones, and some of the others. Of another shape than the plain one it
    /// is a sample, unless there is time for every victim at every step.
    pub(crate) fn walk_as(&self, shape: Shape) -> Vec<Point> {
        let walked = self.points_of(shape);
        let (certain, uncertain): (Vec<_>, Vec<_>) =
            walked.iter().partition(|point| shape.is_certain(point));
        let most = match shape {
            Shape::Rates => usize::MAX,
            _ if rounds() > 1 => usize::MAX,
            Shape::DelayedPeers | Shape::FollowedAndConfirmed => SAMPLE,
        };
        let mut tried = spread(&certain, most);
        tried.extend(spread(&uncertain, MOST_UNCERTAIN.min(most / 3)));
        tried.into_iter().cloned().collect()
    }

    fn points_of(&self, shape: Shape) -> Vec<Point> {
        self.points.decide(|_, _| Answer::Go);
        self.apply_as(shape).expect_code(0);
        assert_ne!(self.stage.snapshot(), self.network, "it is shaped");
        self.stage.expect_reachable();
        self.run(&["link", "clear", NIC]).expect_code(0);
        self.expect_clean("applied and cleared");
        self.points.so_far()
    }
}

pub(crate) fn with_trial(test: impl FnOnce(&Trial<'_>) + Send) {
    let _alone = exclusive();
    stage::play(|stage| test(&Trial::new(stage)));
}

/// Applies, kills everybody, and hands over the text of the ledger.
pub(crate) fn abandoned(trial: &Trial<'_>) -> (PathBuf, String) {
    trial.points.decide(|_, _| Answer::Go);
    trial.apply().expect_code(0);
    trial.system.strike(&[HOLDER, GUARDIAN]);
    let gone = within_ms(CLEAN_MS, || trial.processes(&[HOLDER, GUARDIAN]).is_empty());
    assert!(gone, "somebody survived");
    let ledger = trial.ledgers().pop().expect("a ledger");
    let text = fs::read_to_string(&ledger).unwrap();
    (ledger, text)
}
