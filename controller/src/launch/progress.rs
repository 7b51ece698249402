//! What a user sees while a run goes on: a bar on a terminal and the monitor's lines.

use std::io::IsTerminal as _;

use crate::tell::tell;
use hexloop_proto::Event;
use hexloop_tui::{LineMonitor, RunOutline};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Steps of the bar.
const STEPS: u64 = 1000;

/// Shows events as they come, on standard error.
pub(crate) struct RunMonitor {
    outline: RunOutline,
    lines: LineMonitor,
    bar: Option<ProgressBar>,
    quiet: bool,
}

impl RunMonitor {
    /// A monitor of a run.
    pub(crate) fn new(outline: RunOutline, quiet: bool) -> RunMonitor {
        let terminal = std::io::stderr().is_terminal() && !quiet;
        let bar = terminal.then(|| {
            let bar = ProgressBar::with_draw_target(Some(STEPS), ProgressDrawTarget::stderr());
            let template = "{prefix:12} [{bar:32}] {percent:>3} %  {wide_msg}";
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.set_prefix("calibration");
            bar
        });
        RunMonitor {
            lines: LineMonitor::new(outline.clone()),
            outline,
            bar,
            quiet,
        }
    }

    /// Shows one event.
    pub(crate) fn show(&mut self, event: &Event) {
        if self.quiet {
            return;
        }
        let lines = self.lines.on_event(event);
        let Some(bar) = &self.bar else {
            for line in lines {
                tell(&line);
            }
            return;
        };
        if let Some(progress) = self.outline.progress(event) {
            bar.set_prefix(event.phase.clone().unwrap_or_default());
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a share of 1 times 1000"
            )]
            bar.set_position((progress.run_fraction * 1000.0).round() as u64);
        }
        // On a terminal the line of the second that has passed replaces the last one.
        for line in lines {
            let passing = event.phase.is_some() && line.contains(" s: ");
            if passing {
                bar.set_message(line);
            } else {
                bar.println(line);
            }
        }
    }

    /// Takes the bar away.
    pub(crate) fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
