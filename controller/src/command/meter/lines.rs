//! External meters: those of the machine's owner, and those of the command line.

use std::path::PathBuf;

use hexloop_agent::attended::Attendant;
use hexloop_agent::configuration::Configuration;
use hexloop_agent::guardian::Guardian;
use hexloop_agent::telemetry::feeds::Feeds;
use hexloop_telemetry::ExternalFeed;
use hexloop_topologies::HostMeter;
use hexloop_workloads::clock;
use nix::unistd::geteuid;

use crate::cli::SamplingArguments;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, OrFail};
use crate::launch::make_private;
use crate::launch::metering::{self, Lines};
use crate::paths::Paths;

/// How long a meter may take to send its first reading, and how often that is looked at.
const FIRST_LIMIT_NS: u64 = 10_000_000_000;
const LOOK_EVERY_NS: u64 = 20_000_000;

/// External meters before any line is taken, and who would clean up after them.
pub(super) struct Guarded {
    meters: Vec<HostMeter>,
    from_stdin: Option<PathBuf>,
    guardian: Option<Guardian>,
}

/// Finds out which there are, and has their programs and sockets guarded. No thread exists yet.
pub(super) fn guard(sampling: &SamplingArguments) -> Result<Guarded, Failure> {
    let configured = if geteuid().is_root() {
        let configuration = Configuration::load().or_fail(ExitCode::InvalidInput, || {
            "cannot tell which meters this machine's owner named".to_owned()
        })?;
        configuration.host.meters
    } else {
        Vec::new()
    };
    if configured.is_empty() && sampling.meters.is_empty() {
        return Ok(Guarded {
            meters: Vec::new(),
            from_stdin: None,
            guardian: None,
        });
    }
    let paths = Paths::of_this_user()?;
    let directory = paths.runtime.join(format!("hx-{}", std::process::id()));
    let lines = Lines::of(sampling, &directory)?;
    let guardian = Guardian::start(&paths.state, "meter").or_fail(ExitCode::Preflight, || {
        "cannot guard the external meters".to_owned()
    })?;
    if lines.from_stdin.is_some() {
        make_private(&directory, &guardian).or_fail(ExitCode::Preflight, || {
            format!("cannot make the socket directory {}", directory.display())
        })?;
    }
    let asked = lines.meters.into_iter().map(|(_, meter)| meter);
    Ok(Guarded {
        meters: configured.into_iter().chain(asked).collect(),
        from_stdin: lines.from_stdin,
        guardian: Some(guardian),
    })
}

/// External meters whose lines are taken.
pub(super) struct ExternalLines {
    open: Option<(Feeds, Guardian)>,
    reads_input: bool,
}

impl ExternalLines {
    /// Takes their lines from now on.
    pub(super) fn open(guarded: Guarded) -> Result<ExternalLines, Failure> {
        let Some(guardian) = guarded.guardian else {
            return Ok(ExternalLines {
                open: None,
                reads_input: false,
            });
        };
        let feeds = Feeds::open(&guarded.meters, Some(&guardian))
            .or_fail(ExitCode::Preflight, || {
                "the external meters cannot be read".to_owned()
            })?;
        let reads_input = guarded.from_stdin.is_some();
        if let Some(socket) = guarded.from_stdin {
            metering::send_stdin(socket)?;
        }
        Ok(ExternalLines {
            open: Some((feeds, guardian)),
            reads_input,
        })
    }

    /// What comes of them.
    pub(super) fn feeds(&self) -> Vec<ExternalFeed> {
        let open = self.open.as_ref();
        open.map_or_else(Vec::new, |(feeds, _)| feeds.feeds().to_vec())
    }

    /// Whether standard input is one of them.
    pub(super) const fn reads_input(&self) -> bool {
        self.reads_input
    }

    /// Waits until each has sent a reading; those that do not are told.
    pub(super) fn wait_for_all(&self, attendant: &Attendant) -> Result<Vec<String>, Failure> {
        let feeds = self.feeds();
        let silent = || feeds.iter().filter(|feed| feed.report().taken == 0);
        let until = clock::now() + FIRST_LIMIT_NS;
        while clock::now() < until && silent().any(|feed| feed.report().ended.is_none()) {
            let whole = attendant
                .wait_until(clock::now() + LOOK_EVERY_NS)
                .or_fail(ExitCode::Failed, || "cannot wait".to_owned())?;
            if !whole {
                let message = "interrupted before every external meter had sent a reading";
                return Err(Failure::message(ExitCode::Interrupted, message));
            }
        }
        let told = silent().map(|feed| {
            let report = feed.report();
            let ended = report.ended.or(report.last_refusal);
            let why = ended.map_or_else(String::new, |why| format!(": {why}"));
            let name = &feed.spec().name;
            format!("the external meter {name} sent no reading before the command{why}")
        });
        Ok(told.collect())
    }

    /// Ends them, and tells what of their lines was not taken.
    pub(super) fn close(self) -> Result<Vec<String>, Failure> {
        let refused = self.feeds().into_iter().filter_map(|feed| {
            let report = feed.report();
            let last = report.last_refusal?;
            Some(format!(
                "external meter {}: {} of {} lines were refused; the last one: {last}",
                feed.spec().name,
                report.refused,
                report.refused + report.taken
            ))
        });
        let notes = refused.collect();
        if let Some((feeds, guardian)) = self.open {
            feeds.close();
            guardian.finish().or_fail(ExitCode::Dirty, || {
                "cannot clean up after the external meters".to_owned()
            })?;
        }
        Ok(notes)
    }
}
