//! `hexloop link`: a command behind a shaped link, or a real interface.

mod interface;
mod log;
mod shape;
mod summary;
pub(super) mod user;
mod words;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode as Status;
use std::sync::Arc;

use hexloop_agent::behind::{self, Behind, BehindError, BehindSpec, Disturbance, Said};
use hexloop_agent::capture::Captured;
use hexloop_agent::descriptors;
use hexloop_agent::privilege::PrivilegeError;
use hexloop_agent::process::SelfCommand;
use hexloop_topologies::plan::DatapathChoice;
use hexloop_traces::{Direction, Trace, UNLIMITED_RATE_BPS};
use nix::errno::Errno;
use serde::Serialize;

use super::Voice;
use crate::cli::link::{DatapathArgument, LinkArguments};
use crate::exit_code::ExitCode;
use crate::failure::{Failure, OrFail};
use crate::paths::Paths;
use crate::record::write_file;
use crate::tell::tell;
use log::Log;
use shape::Shape;
use summary::Setting;

/// What the process exits with when the link itself fails, as env(1) does.
pub(super) const OWN_FAILURE: u8 = 125;
/// When the command cannot be run.
const CANNOT_RUN: u8 = 126;
/// When it was not found.
const NOT_FOUND: u8 = 127;
/// Added to the number of the signal that ended the command.
const SIGNALLED: i32 = 128;

/// Does what `hexloop link` asks and returns the status to exit with.
pub(super) fn link(arguments: &LinkArguments, voice: Voice) -> Status {
    let outcome = match &arguments.interface {
        Some(action) => interface::interface(action, voice).map(Status::from),
        None => told(arguments, voice).map(Status::from),
    };
    outcome.unwrap_or_else(|failure| {
        tell(&failure);
        match (&arguments.interface, failure.code) {
            (Some(_), code) | (None, code @ ExitCode::Interrupted) => code.into(),
            (None, _) => Status::from(OWN_FAILURE),
        }
    })
}

/// Runs the command behind the link; its status. Whoever wants the summary as JSON is told there of a failure
/// too, whatever it is.
fn told(arguments: &LinkArguments, voice: Voice) -> Result<u8, Failure> {
    let mut summary = SummaryFile {
        path: arguments.json.as_deref(),
        is_written: false,
    };
    let outcome = behind(arguments, voice, &mut summary);
    if let Err(failure) = &outcome
        && !summary.is_written
    {
        // What could not be written for this very reason cannot be told there.
        let _ = summary.write(&summary::Failed::of(failure));
    }
    outcome
}

/// Where the summary goes as JSON, if it is to.
struct SummaryFile<'a> {
    path: Option<&'a str>,
    is_written: bool,
}

impl SummaryFile<'_> {
    /// Looks whether it can be written, before anything is made for which it would be missing.
    fn prepare(&self) -> Result<(), Failure> {
        let Some(path) = self.path else {
            return Ok(());
        };
        try_writing(path.as_ref()).or_fail(ExitCode::Failed, || no_summary(path))
    }

    fn write(&mut self, document: &impl Serialize) -> Result<(), Failure> {
        let Some(path) = self.path else {
            return Ok(());
        };
        let document = serde_json::to_vec_pretty(document).or_fail(ExitCode::Failed, || {
            "cannot write a JSON document".to_owned()
        })?;
        write_file(path.as_ref(), &document).or_fail(ExitCode::Failed, || no_summary(path))?;
        self.is_written = true;
        Ok(())
    }
}

fn behind(
    arguments: &LinkArguments,
    voice: Voice,
    file: &mut SummaryFile<'_>,
) -> Result<u8, Failure> {
    // Before this program has opened any itself.
    let descriptors = descriptors::inherited().or_fail(ExitCode::Preflight, || {
        "cannot look which descriptors the command is to have".to_owned()
    })?;
    let Shape {
        trace,
        settings,
        notes,
    } = shape::shape(&arguments.shape)?;
    let peer = arguments.peer.as_deref().map(words::split).transpose();
    let peer =
        peer.map_err(|problem| Failure::message(ExitCode::Usage, format!("--peer: {problem}")))?;
    if arguments.pcap.is_some()
        && arguments.datapath != DatapathArgument::Auto
        && arguments.datapath != DatapathArgument::Relay
    {
        let message = "--pcap: only the relay knows when a packet was due; use --datapath relay";
        return Err(Failure::message(ExitCode::Usage, message));
    }
    let trace = Arc::new(trace);
    let spec = BehindSpec {
        trace: Arc::clone(&trace),
        settings,
        datapath: match arguments.datapath {
            DatapathArgument::Auto if arguments.pcap.is_some() => DatapathChoice::Relay,
            DatapathArgument::Auto => DatapathChoice::Auto,
            DatapathArgument::Relay => DatapathChoice::Relay,
            DatapathArgument::Tc => DatapathChoice::Tc,
            DatapathArgument::Edt => DatapathChoice::Edt,
        },
        mtu: arguments.mtu,
        seed: arguments.seed,
        capture: arguments.pcap.clone(),
        peer: peer.map(|words| words.into_iter().map(OsString::from).collect()),
        relay_cpus: relay_cpus(),
        descriptors,
        user: user::invoking()?,
        program: SelfCommand::hexloop(),
    };
    let (command, mut environment) = match arguments.command.is_empty() {
        true => user::shell(&spec, &trace),
        false => (arguments.command.clone(), Vec::new()),
    };
    environment.extend(user::environment(spec.user.as_ref()));
    // Before anything is made: a log that cannot be written is no reason to run at all.
    let mut log = Log::open(arguments.log.as_deref(), arguments.mtu)?;
    file.prepare()?;
    behind::signals::block().or_fail(ExitCode::Failed, || "cannot block signals".to_owned())?;
    let power = behind::power::acquire().map_err(no_power)?;
    let mut stage = Behind::build(spec, power).or_fail(ExitCode::Preflight, || {
        "cannot put a command behind a link".to_owned()
    })?;
    let mut setting = Setting {
        mode: stage.far_end().name(),
        description: stage.description(),
        trace: trace.metadata().scenario.clone(),
        limited: Direction::BOTH.map(|direction| is_limited(&trace, direction)),
        gateway: stage.gateway().map(|address| address.to_string()),
        limit_bps: stage.limit_bps(),
        forwarded: None,
        notes: notes.into_iter().chain(stage.notes().to_vec()).collect(),
    };
    if arguments.command.is_empty() && !voice.quiet {
        tell(&format_args!(
            "link: a shell behind the link; the gateway is {}; `exit` leaves",
            setting.gateway[0]
        ));
    }
    let name = command.first().cloned().unwrap_or_default();
    let take = |window| log.take(&window);
    // At once, however quiet it is to be: the command may wait for what never comes.
    let disturbed = |disturbance: &Disturbance| {
        tell(&format_args!("link: {}", summary::told(disturbance)));
    };
    let report = match stage.run(command, environment, take, disturbed) {
        Err(error @ BehindError::Interrupted { .. }) => {
            return Err(Failure::new(ExitCode::Interrupted, error));
        }
        report => report.or_fail(ExitCode::Failed, || "the link failed".to_owned())?,
    };
    setting.forwarded = stage.forwarded();
    if let Some(captured) = stage.take_down() {
        setting.notes.extend(notes_of(captured));
    }
    let status = status_of(report.command, &name)?;
    let peer_status = report.peer.and_then(shell_status);
    let statuses = [Some(status), peer_status];
    let (sums, logged) = log.finish();
    let summary = summary::summarise(setting, &report, &sums, statuses);
    let written = file.write(&summary);
    if !voice.quiet {
        tell(&summary.text());
    }
    logged?;
    written?;
    report
        .link
        .or_fail(ExitCode::Failed, || "the link failed".to_owned())?;
    match report.disturbances.last() {
        None => Ok(status),
        Some(_) => {
            let message = "the link failed: it was changed while the command ran, as told above";
            Err(Failure::message(ExitCode::Failed, message))
        }
    }
}

/// Where this user's links tell each other which CPUs their relays have. Who has no such place shares the
/// CPU that each link would rather have.
fn relay_cpus() -> Option<PathBuf> {
    let paths = Paths::of_this_user().ok()?;
    Some(paths.runtime.join("hexloop-relay-cpus"))
}

fn no_summary(path: &str) -> String {
    format!("cannot write the summary to {path}")
}

/// Whether a file can be written, which is left as it is; pipes and devices are not touched.
fn try_writing(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() && !found.is_dir() => Ok(()),
        _ => fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .map(drop),
    }
}

fn no_power(error: PrivilegeError) -> Failure {
    let remedy = error.remedy().to_owned();
    Failure::new(ExitCode::Preflight, error)
        .context("this user may not make networks")
        .remedy(remedy)
}

/// What a capture has to say for itself.
fn notes_of(captured: io::Result<[Captured; 2]>) -> Vec<String> {
    let captured = match captured {
        Ok(captured) => captured,
        Err(error) => return vec![format!("the capture is not complete: {error}")],
    };
    let packets: u64 = captured.iter().map(|file| file.packets).sum();
    let missed: u64 = captured.iter().map(|file| file.missed).sum();
    let mut notes = vec![format!("{packets} packets captured")];
    if missed > 0 {
        notes.push(format!("{missed} packets are missing in the capture"));
    }
    for (file, direction) in captured.into_iter().zip(Direction::BOTH) {
        notes.extend(file.cut_short.map(|reason| {
            let direction = direction.name();
            format!("the capture of what goes {direction} ends early: {reason}")
        }));
    }
    notes
}

fn is_limited(trace: &Trace, direction: Direction) -> bool {
    let mut states = trace.states();
    states.any(|(_, [down, up])| match direction {
        Direction::Down => down.rate_bps != UNLIMITED_RATE_BPS,
        Direction::Up => up.rate_bps != UNLIMITED_RATE_BPS,
    })
}

/// The status of a command that has ended, as a shell would tell it.
fn shell_status(said: Said) -> Option<u8> {
    let number = match said {
        Said::Exited(status) => status,
        Said::Signalled(signal) => SIGNALLED + signal,
        Said::Started | Said::NotStarted(_) => return None,
    };
    u8::try_from(number & 0xff).ok()
}

/// The command's status, as a shell would tell it; an error where it never ran.
pub(super) fn status_of(said: Option<Said>, name: &OsStr) -> Result<u8, Failure> {
    match said {
        Some(said @ (Said::Exited(_) | Said::Signalled(_))) => {
            Ok(shell_status(said).unwrap_or(OWN_FAILURE))
        }
        Some(Said::NotStarted(number)) => {
            let errno = Errno::from_raw(number);
            tell(&format_args!(
                "error: cannot run `{}`: {}",
                name.to_string_lossy(),
                errno.desc()
            ));
            match errno {
                Errno::ENOENT => Ok(NOT_FOUND),
                // What no exec answers with: taking its privileges away failed.
                Errno::EPERM | Errno::EINVAL | Errno::ENOSPC => Ok(OWN_FAILURE),
                _ => Ok(CANNOT_RUN),
            }
        }
        Some(Said::Started) | None => Err(Failure::message(
            ExitCode::Failed,
            "the process around the command was killed",
        )),
    }
}
