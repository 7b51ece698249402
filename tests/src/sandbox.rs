//! Runs the binary under test with state, cache and output directories of its own.

#![expect(clippy::panic, reason = "a harness fails the test that it serves")]

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use hexloop_workloads::clock;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A sandbox: a temporary directory that is gone when this is dropped.
#[derive(Debug)]
pub struct Sandbox {
    binary: PathBuf,
    directory: tempfile::TempDir,
    shared_cache: Option<PathBuf>,
}

/// What a finished command left.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// Its exit code; `None` if a signal ended it.
    #[must_use]
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Standard output as one JSON document.
    ///
    /// # Panics
    /// It is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        match serde_json::from_str(&self.stdout) {
            Ok(value) => value,
            Err(error) => panic!("not one JSON document ({error}): {}", self.told()),
        }
    }

    /// Checks the exit code.
    ///
    /// # Panics
    /// It is another one; what the command wrote is in the message.
    #[track_caller]
    pub fn expect_code(&self, code: i32) -> &Finished {
        assert!(
            self.code() == Some(code),
            "exit {code} expected:\n{}",
            self.told()
        );
        self
    }

    /// Checks that standard error contains every one of `parts`.
    ///
    /// # Panics
    /// It does not.
    #[track_caller]
    pub fn expect_error(&self, parts: &[&str]) -> &Finished {
        for part in parts {
            assert!(
                self.stderr.contains(part),
                "no {part:?} on stderr:\n{}",
                self.told()
            );
        }
        self
    }

    /// Everything, for the message of a failed assertion.
    #[must_use]
    pub fn told(&self) -> String {
        let Finished {
            status,
            stdout,
            stderr,
        } = self;
        format!("{status}\n--- stdout ---\n{stdout}\n--- stderr ---\n{stderr}")
    }
}

impl Sandbox {
    /// A sandbox for the binary under test: `env!("CARGO_BIN_EXE_hexloop-under-test")`.
    ///
    /// # Panics
    /// No temporary directory can be made.
    #[must_use]
    pub fn new(binary: &str) -> Sandbox {
        let directory = tempfile::Builder::new().prefix("hexloop-test-").tempdir();
        let directory = directory.expect("a temporary directory");
        let sandbox = Sandbox {
            binary: binary.into(),
            directory,
            shared_cache: None,
        };
        for part in ["state", "cache", "output", "runtime"] {
            let mut builder = fs::DirBuilder::new();
            builder.mode(0o700);
            builder
                .create(sandbox.path(part))
                .expect("a directory in the sandbox");
        }
        sandbox
    }

    /// Keeps trained models in a cache that outlives the sandbox: `HEXLOOP_TEST_CACHE_DIRECTORY`,
    /// or `test-cache` beside the binary's profile directory. Training takes about a minute, so tests
    /// that are not about training share one model, and it is there when this returns.
    ///
    /// # Panics
    /// The model cannot be trained.
    #[must_use]
    #[track_caller]
    pub fn with_shared_cache(mut self) -> Sandbox {
        let named = std::env::var_os("HEXLOOP_TEST_CACHE_DIRECTORY").map(PathBuf::from);
        let beside = self
            .binary
            .ancestors()
            .nth(2)
            .map(|target| target.join("test-cache"));
        self.shared_cache = named.or(beside);
        self.run(400, ["model", "train", "tiny", "--quiet"])
            .expect_code(0);
        self
    }

    /// A path inside the sandbox.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Where runs are put.
    #[must_use]
    pub fn output(&self) -> PathBuf {
        self.path("output")
    }

    /// Runs an experiment with `--json`, into [`Sandbox::output`]. A busy machine may be found too busy to
    /// believe: that is exit code 6, and a whole run.
    ///
    /// # Panics
    /// It did not come to its end.
    #[track_caller]
    pub fn play(&self, experiment: &str, arguments: &[&str]) -> Finished {
        self.write("experiment.toml", experiment);
        let mut all = vec!["run", "experiment.toml", "--output", "output", "--json"];
        all.extend(arguments);
        let finished = self.run(240, all);
        assert!(
            matches!(finished.code(), Some(0 | 6)),
            "{}",
            finished.told()
        );
        finished
    }

    /// The binary under test.
    #[must_use]
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Writes a file into the sandbox.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).expect("a file in the sandbox");
        path
    }

    /// A command with the sandbox's directories, not started yet.
    #[must_use]
    pub fn command<I, S>(&self, arguments: I) -> Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let cache = self
            .shared_cache
            .clone()
            .unwrap_or_else(|| self.path("cache"));
        let mut command = Command::new(&self.binary);
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .env("HOME", self.directory.path())
            .env("HEXLOOP_STATE_DIRECTORY", self.path("state"))
            .env("HEXLOOP_CACHE_DIRECTORY", cache)
            .env("XDG_RUNTIME_DIR", self.path("runtime"))
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end, at most `limit_s` seconds.
    ///
    /// # Panics
    /// It cannot be started or does not end in time (it is killed then).
    #[track_caller]
    pub fn run<I, S>(&self, limit_s: u64, arguments: I) -> Finished
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let child = self
            .command(arguments)
            .spawn()
            .expect("the binary under test");
        finish(child, limit_s)
    }
}

/// Waits for a process that was started with pipes, at most `limit_s` seconds.
///
/// # Panics
/// It does not end in time; it is killed then.
#[track_caller]
#[must_use]
pub fn finish(child: Child, limit_s: u64) -> Finished {
    let pid = pid_of(&child);
    let (sender, receiver) = mpsc::channel();
    let waiter = thread::spawn(move || {
        // The receiver may have given up; then nobody wants the output.
        drop(sender.send(child.wait_with_output()));
    });
    let output: Option<io::Result<_>> = receiver.recv_timeout(Duration::from_secs(limit_s)).ok();
    if output.is_none() {
        let killed = kill(pid, Signal::SIGKILL);
        eprintln!("killing the command: {killed:?}");
    }
    assert!(
        output.is_some(),
        "the command did not end within {limit_s} s and was killed"
    );
    drop(waiter.join());
    match output {
        Some(Ok(output)) => Finished {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        },
        other => panic!("cannot wait for the command: {other:?}"),
    }
}

/// The process id of a child, as signals want it.
#[must_use]
pub fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX))
}

/// Asks `done` again and again until it says yes or `limit_ms` have passed; whether it did.
pub fn within_ms(limit_ms: u64, mut done: impl FnMut() -> bool) -> bool {
    let deadline = clock::now() + limit_ms * 1_000_000;
    loop {
        if done() {
            return true;
        }
        let now = clock::now();
        if now >= deadline {
            return false;
        }
        clock::sleep_until((now + 20_000_000).min(deadline));
    }
}
