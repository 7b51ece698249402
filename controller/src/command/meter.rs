//! `hexloop meter`: what any command costs in energy, with the idle power before and after it.

mod lines;
mod readings;
mod summary;
mod text;

use std::process::ExitCode as Status;

use hexloop_agent::attended::{Attendant, Attended, AttendedEnd};
use hexloop_agent::telemetry::power::PowerSampler;
use hexloop_agent::telemetry::sources::MeterSources;
use hexloop_telemetry::Places;
use hexloop_workloads::clock::{self, MonotonicNs};

use super::Voice;
use super::link::{OWN_FAILURE, status_of, user};
use crate::cli::meter::MeterArguments;
use crate::exit_code::ExitCode;
use crate::failure::{Failure, OrFail};
use crate::record::write_file;
use crate::tell::tell;
use lines::ExternalLines;
use readings::Readings;
use summary::{Metered, Span};

/// Between the end of the command and the idle span after it: averages of a second must have
/// forgotten the command.
const SETTLE_NS: u64 = 1_000_000_000;

/// Meters are read before anything begins, so that the first window has a reading before it, and
/// after the last window.
const MARGIN_NS: u64 = 250_000_000;

/// Does what `hexloop meter` asks and returns the status to exit with.
pub(super) fn meter(arguments: &MeterArguments, voice: Voice) -> Status {
    let outcome = metered(arguments, voice).map(Status::from);
    outcome.unwrap_or_else(|failure| {
        tell(&failure);
        match failure.code {
            ExitCode::Interrupted => failure.code.into(),
            _ => Status::from(OWN_FAILURE),
        }
    })
}

/// Meters the command; its status.
fn metered(arguments: &MeterArguments, voice: Voice) -> Result<u8, Failure> {
    let user = user::invoking()?;
    let guarded = lines::guard(&arguments.sampling)?;
    let attendant =
        Attendant::begin().or_fail(ExitCode::Failed, || "cannot take signals".to_owned())?;
    let lines = ExternalLines::open(guarded)?;
    let sources = MeterSources {
        feeds: lines.feeds(),
        rate_hz: arguments.sampling.meter_rate,
        ..MeterSources::at(Places::from_environment())
    };
    let mut notes = lines.wait_for_all(&attendant)?;
    let sampler = PowerSampler::start(&sources).or_fail(ExitCode::Failed, || {
        "cannot start the thread that reads the meters".to_owned()
    })?;
    let readings = Readings::begin(arguments.csv.as_deref(), sampler.channels())?;
    let spans = Course {
        attendant: &attendant,
        sampler: &sampler,
        readings: &readings,
        idle_ns: arguments.idle.ns,
        says: !voice.quiet,
    }
    .take(Attended {
        words: arguments.command.clone(),
        environment: user::environment(user.as_ref()),
        user,
        without_input: lines.reads_input(),
    })?;
    let window = |span: Span| sampler.window(span.from, span.to);
    let metered = Metered {
        command: &arguments.command,
        end: spans.end,
        channels: sampler.channels(),
        unmetered: sampler.unmetered(),
        gross: window(Span::of(&spans.end)),
        idle: [spans.before, spans.after].map(|span| span.map(|span| (span, window(span)))),
    };
    let cost = sampler.finish();
    let seen = readings.finish()?;
    notes.extend(lines.close()?);
    let status = status_of(Some(spans.end.said), &arguments.command[0])?;
    let summary = summary::summarise(&metered, cost.as_ref(), seen, notes, status);
    if !voice.quiet {
        tell(&text::text(&summary));
    }
    if let Some(path) = &arguments.json {
        let document = serde_json::to_vec_pretty(&summary).or_fail(ExitCode::Failed, || {
            "cannot write a JSON document".to_owned()
        })?;
        write_file(path.as_ref(), &document).or_fail(ExitCode::Failed, || {
            format!("cannot write the summary to {path}")
        })?;
    }
    Ok(status)
}

/// Idle, command, idle.
struct Course<'a> {
    attendant: &'a Attendant,
    sampler: &'a PowerSampler,
    readings: &'a Readings,
    idle_ns: u64,
    says: bool,
}

/// What was metered when.
struct Spans {
    before: Option<Span>,
    end: AttendedEnd,
    after: Option<Span>,
}

impl Course<'_> {
    fn take(&self, attended: Attended) -> Result<Spans, Failure> {
        let meters_idle = self.idle_ns > 0 && self.sampler.can_sum();
        self.pause(if self.sampler.can_sum() { MARGIN_NS } else { 0 })?;
        let before = if meters_idle {
            Some(self.idle("before")?)
        } else {
            None
        };
        let end = self
            .attendant
            .run(attended, |t0, pid| {
                self.readings
                    .begin_span(self.sampler, "command", t0, vec![pid]);
            })
            .or_fail(ExitCode::Failed, || {
                "cannot wait for the command".to_owned()
            })?;
        self.readings.end_span(self.sampler);
        // The command has run: what comes now only shortens what is known of idle power.
        let after = if meters_idle && self.pause(SETTLE_NS).is_ok() {
            self.idle("after").ok()
        } else {
            None
        };
        if self.sampler.can_sum() {
            let _ = self.pause(MARGIN_NS);
        }
        Ok(Spans { before, end, after })
    }

    fn idle(&self, when: &str) -> Result<Span, Failure> {
        if self.says {
            let seconds = crate::format::trimmed(crate::format::ns_to_s(self.idle_ns), 3);
            tell(&format_args!(
                "meter: idle power for {seconds} s {when} the command"
            ));
        }
        let from = clock::now();
        self.readings
            .begin_span(self.sampler, when, from, Vec::new());
        let done = self.pause(self.idle_ns);
        self.readings.end_span(self.sampler);
        done.map(|()| Span {
            from,
            to: from + self.idle_ns,
        })
    }

    /// Waits; fails when a signal comes.
    fn pause(&self, length_ns: MonotonicNs) -> Result<(), Failure> {
        let whole = self
            .attendant
            .wait_until(clock::now() + length_ns)
            .or_fail(ExitCode::Failed, || "cannot wait".to_owned())?;
        match whole {
            true => Ok(()),
            false => Err(Failure::message(
                ExitCode::Interrupted,
                "interrupted before the command was run",
            )),
        }
    }
}
