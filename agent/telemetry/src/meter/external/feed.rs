//! What comes of the lines of one external meter: the reading that holds now, and what was not
//! taken.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::super::{Meter, Reading};
use super::parse_line;
use crate::{Channel, Origin, Quality, Quantity, Scope, Trouble};

/// What an external meter is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalSpec {
    /// Its name, a word.
    pub name: String,
    /// Which part of the machine it covers.
    pub scope: Scope,
    /// Whether it stands for the machine's energy; then no other meter is part of the sum. `None`
    /// where it does if nothing else can.
    pub counted: Option<bool>,
}

/// What has come of its lines up to now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FeedReport {
    /// Readings that were taken.
    pub taken: u64,
    /// Lines that were not.
    pub refused: u64,
    /// Why the last of these was not.
    pub last_refusal: Option<String>,
    /// How old a reading was when it came, at most, in nanoseconds.
    pub largest_lag_ns: u64,
    /// Why nothing comes any more, if that is known.
    pub ended: Option<String>,
}

/// Gaps between readings that are remembered.
const GAPS: usize = 16;
/// A reading holds for five gaps, but never longer or shorter than this, in nanoseconds: then the
/// meter has stopped.
const SHORTEST_HOLD_NS: u64 = 2_000_000_000;
const LONGEST_HOLD_NS: u64 = 30_000_000_000;
/// The same before the gaps are known.
const FIRST_HOLD_NS: u64 = 10_000_000_000;
/// How far a meter's clock may be ahead of this machine's.
const LARGEST_LEAD_NS: u64 = 1_000_000_000;
/// Older readings come too late to be of any use.
const LARGEST_LAG_NS: u64 = 10_000_000_000;

#[derive(Debug, Default)]
struct State {
    /// Moment on the monotonic clock, and microwatts.
    latest: Option<(u64, u64)>,
    gaps_ns: VecDeque<u64>,
    report: FeedReport,
}

/// The lines of one meter. Clones feed and read the same one.
#[derive(Debug, Clone)]
pub struct ExternalFeed {
    spec: ExternalSpec,
    state: Arc<Mutex<State>>,
}

impl ExternalFeed {
    /// A meter that has sent nothing yet.
    #[must_use]
    pub fn new(spec: ExternalSpec) -> ExternalFeed {
        ExternalFeed {
            spec,
            state: Arc::default(),
        }
    }

    /// What it is.
    #[must_use]
    pub const fn spec(&self) -> &ExternalSpec {
        &self.spec
    }

    fn held(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a line that came now: `now_ns` on the monotonic clock, `wall_clock_ns` since 1970.
    ///
    /// # Errors
    /// It is not taken, in words: no reading, another meter's, older than what came before, or of
    /// a moment that cannot be right.
    pub fn take(&self, line: &str, now_ns: u64, wall_clock_ns: u64) -> Result<(), String> {
        let outcome = self.place(line, now_ns, wall_clock_ns);
        let mut state = self.held();
        match outcome {
            Ok(None) => Ok(()),
            Ok(Some((at_ns, power_uw))) => {
                if let Some((last_ns, _)) = state.latest {
                    if at_ns <= last_ns {
                        let refusal = "its time went back or stood still".to_owned();
                        return state.refuse(refusal);
                    }
                    if state.gaps_ns.len() == GAPS {
                        state.gaps_ns.pop_front();
                    }
                    state.gaps_ns.push_back(at_ns - last_ns);
                }
                state.latest = Some((at_ns, power_uw));
                state.report.taken += 1;
                state.report.ended = None;
                let lag_ns = now_ns.saturating_sub(at_ns);
                state.report.largest_lag_ns = state.report.largest_lag_ns.max(lag_ns);
                Ok(())
            }
            Err(refusal) => state.refuse(refusal),
        }
    }

    /// The moment on the monotonic clock and the microwatts of a line, if it holds a reading.
    fn place(
        &self,
        line: &str,
        now_ns: u64,
        wall_clock_ns: u64,
    ) -> Result<Option<(u64, u64)>, String> {
        let Some(reading) = parse_line(line).map_err(|error| error.to_string())? else {
            return Ok(None);
        };
        if let Some(device) = reading.device.filter(|device| *device != self.spec.name) {
            return Err(format!("it is of `{device}`, not of `{}`", self.spec.name));
        }
        let stamp_ns = reading.wall_clock_ns.unwrap_or(wall_clock_ns);
        if stamp_ns > wall_clock_ns + LARGEST_LEAD_NS {
            let lead_s = (stamp_ns - wall_clock_ns) / 1_000_000_000;
            return Err(format!(
                "its time is {lead_s} s ahead of this machine's clock"
            ));
        }
        let lag_ns = wall_clock_ns.saturating_sub(stamp_ns);
        if lag_ns > LARGEST_LAG_NS {
            return Err(format!("it came {} s late", lag_ns / 1_000_000_000));
        }
        Ok(Some((now_ns.saturating_sub(lag_ns), reading.power_uw)))
    }

    /// Notes why nothing comes any more; a later reading takes that back.
    pub fn end(&self, why: impl Into<String>) {
        self.held().report.ended = Some(why.into());
    }

    /// What has come of its lines up to now.
    #[must_use]
    pub fn report(&self) -> FeedReport {
        self.held().report.clone()
    }

    /// What its latest reading said, in microwatts; `None` before the first.
    #[must_use]
    pub fn latest_uw(&self) -> Option<u64> {
        self.held().latest.map(|(_, power_uw)| power_uw)
    }

    /// A meter that reads it by the clock `now`.
    #[must_use]
    pub fn meter(&self, origin: Origin, now: fn() -> u64) -> ExternalMeter {
        let channel = Channel {
            device: self.spec.name.clone(),
            scope: self.spec.scope,
            quantity: Quantity::AveragePower { window_ns: None },
            quality: Quality::Measured,
            source: "external meter".to_owned(),
            counted: self.spec.counted == Some(true),
            origin,
        };
        ExternalMeter {
            channel: [channel],
            feed: self.clone(),
            now,
        }
    }
}

impl State {
    fn refuse(&mut self, why: String) -> Result<(), String> {
        self.report.refused += 1;
        self.report.last_refusal = Some(why.clone());
        Err(why)
    }

    /// How long a reading holds.
    fn hold_ns(&self) -> u64 {
        let mut gaps: Vec<u64> = self.gaps_ns.iter().copied().collect();
        gaps.sort_unstable();
        match gaps.get(gaps.len() / 2) {
            Some(median_ns) if gaps.len() >= 3 => median_ns
                .saturating_mul(5)
                .clamp(SHORTEST_HOLD_NS, LONGEST_HOLD_NS),
            _ => FIRST_HOLD_NS,
        }
    }
}

/// An external meter: what its lines say now.
#[derive(Debug)]
pub struct ExternalMeter {
    channel: [Channel; 1],
    feed: ExternalFeed,
    now: fn() -> u64,
}

impl Meter for ExternalMeter {
    fn name(&self) -> &str {
        "external meter"
    }

    fn channels(&self) -> &[Channel] {
        &self.channel
    }

    fn read(&mut self, readings: &mut Vec<Reading>) {
        readings.clear();
        let now_ns = (self.now)();
        let state = self.feed.held();
        let ended = state.report.ended.as_deref();
        let failed = |reason: String| {
            let ended = ended.map_or_else(String::new, |why| format!("; {why}"));
            Trouble::Failed {
                what: format!("external meter {}", self.feed.spec.name),
                reason: format!("{reason}{ended}"),
            }
        };
        readings.push(match state.latest {
            None => Err(failed("it has sent no reading yet".to_owned())),
            Some((at_ns, _)) if now_ns.saturating_sub(at_ns) > state.hold_ns() => {
                let age_s = now_ns.saturating_sub(at_ns) / 1_000_000_000;
                Err(failed(format!("its last reading is {age_s} s old")))
            }
            Some((_, power_uw)) => Ok(power_uw),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;
    /// 1 January 2026 in seconds since 1970.
    const DAY: u64 = 1_767_225_600;

    fn feed() -> ExternalFeed {
        ExternalFeed::new(ExternalSpec {
            name: "plug".to_owned(),
            scope: Scope::Machine,
            counted: Some(true),
        })
    }

    /// A line that comes `at_s` after the start, at which the monotonic clock showed 1000 s.
    fn take(feed: &ExternalFeed, line: &str, at_s: u64) -> Result<(), String> {
        feed.take(line, (1_000 + at_s) * S, (DAY + at_s) * S)
    }

    fn forty_seconds() -> u64 {
        1_040 * S
    }

    fn read(feed: &ExternalFeed, now: fn() -> u64) -> Reading {
        let mut readings = Vec::new();
        feed.meter(Origin::Hardware, now).read(&mut readings);
        readings.remove(0)
    }

    #[test]
    fn garbage_late_lines_and_times_that_go_back_are_refused_by_name_and_counted() {
        let feed = feed();
        take(&feed, &format!("{}.5 41.8 plug", DAY + 29), 31).unwrap();
        take(&feed, "# a comment", 31).unwrap();
        for (line, why) in [
            (format!("{} 40", DAY + 29), "its time went back"),
            (format!("{}.5 40", DAY + 29), "its time went back"),
            (format!("{} 40", DAY + 20), "it came 12 s late"),
            (
                format!("{} 40", DAY + 40),
                "its time is 8 s ahead of this machine's clock",
            ),
            ("- 40 fridge".to_owned(), "it is of `fridge`, not of `plug`"),
            ("volts".to_owned(), "`volts` is no timestamp"),
        ] {
            let refusal = take(&feed, &line, 32).unwrap_err();
            assert!(refusal.starts_with(why), "{line}: {refusal}");
        }
        let report = feed.report();
        assert_eq!((report.taken, report.refused), (1, 6));
        assert_eq!(report.largest_lag_ns, S + S / 2);
        let last = report.last_refusal.unwrap();
        assert!(last.starts_with("`volts`"), "{last}");
        assert_eq!(
            read(&feed, forty_seconds),
            Err(Trouble::Failed {
                what: "external meter plug".to_owned(),
                reason: "its last reading is 10 s old".to_owned(),
            })
        );
    }

    #[test]
    fn a_meter_that_has_stopped_gives_no_value_and_says_why() {
        let feed = feed();
        let none = read(&feed, forty_seconds).unwrap_err().to_string();
        assert!(none.ends_with("it has sent no reading yet"), "{none}");
        for at_s in 30..=36 {
            take(&feed, "- 7", at_s).unwrap();
        }
        assert_eq!(read(&feed, forty_seconds), Ok(7_000_000), "4 s of 5 gaps");
        feed.end("its command ended with exit status 3");
        let later = read(&feed, || 1_042 * S).unwrap_err().to_string();
        assert!(
            later.ends_with("6 s old; its command ended with exit status 3"),
            "{later}"
        );
        take(&feed, "- 8", 41).unwrap();
        assert_eq!(read(&feed, || 1_042 * S), Ok(8_000_000));
        assert_eq!(feed.report().ended, None);
    }

    proptest::proptest! {
        #[test]
        fn no_line_makes_it_panic(line in "\\PC*") {
            let _taken_or_refused = take(&feed(), &line, 1);
        }
    }
}
