//! The external meters that the owner of this machine named, each tried.

use hexloop_telemetry::ExternalFeed;
use hexloop_topologies::{HostMeter, MeterLines};
use hexloop_workloads::clock;

use super::{Check, Outcome};
use crate::configuration::Configuration;
use crate::node::with_causes;
use crate::telemetry::feeds::{FeedError, Feeds};

/// How long a program may take to print a reading, and how often that is looked at.
const FIRST_LIMIT_NS: u64 = 3_000_000_000;
const LOOK_EVERY_NS: u64 = 50_000_000;

/// A check for each of them. Those that others feed are waited for during runs alone.
pub(super) fn checks(is_root: bool) -> Vec<Check> {
    // A file that is not understood is told of by the checks of settings.
    let configured = match is_root {
        true => Configuration::load().map(|configuration| configuration.host.meters),
        false => return Vec::new(),
    };
    configured.unwrap_or_default().iter().map(check).collect()
}

fn check(meter: &HostMeter) -> Check {
    let name = format!("meter {}", meter.name);
    let place = match &meter.lines {
        MeterLines::Command(words) => {
            return match first_reading(meter) {
                Ok(watts) => {
                    Check::new(&name, Outcome::Works, format!("{watts} W, by {}", words[0]))
                }
                Err(why) => Check::new(&name, Outcome::Limited, format!("{}: {why}", words[0]))
                    .with_remedy(format!(
                        "run that program by hand, or mend [meters.{}] of agent.toml",
                        meter.name
                    )),
            };
        }
        MeterLines::Unix(path) => path.display().to_string(),
        MeterLines::Tcp(address) => address.to_string(),
    };
    Check::new(
        &name,
        Outcome::Works,
        format!("lines are taken at {place} during runs"),
    )
}

/// Starts the program and waits for what it prints first, in watts.
fn first_reading(meter: &HostMeter) -> Result<String, String> {
    let in_words = |error: FeedError| with_causes(&error);
    let feeds = Feeds::open(std::slice::from_ref(meter), None).map_err(in_words)?;
    let until = clock::now() + FIRST_LIMIT_NS;
    let is_over = |feed: &ExternalFeed| {
        let report = feed.report();
        report.taken > 0 || report.ended.is_some()
    };
    while clock::now() < until && !feeds.feeds().iter().all(is_over) {
        clock::sleep_until(clock::now() + LOOK_EVERY_NS);
    }
    let told = feeds.feeds().iter().find_map(ExternalFeed::latest_uw);
    let report = feeds.feeds().first().map(ExternalFeed::report);
    feeds.close();
    told.map(watts).ok_or_else(|| {
        let report = report.unwrap_or_default();
        let why = report.last_refusal.or(report.ended);
        why.unwrap_or_else(|| "it printed no reading in 3 s".to_owned())
    })
}

fn watts(power_uw: u64) -> String {
    let milliwatts = power_uw / 1_000;
    format!("{}.{:03}", milliwatts / 1_000, milliwatts % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(words: &[&str]) -> Check {
        check(&HostMeter {
            name: "plug".to_owned(),
            lines: MeterLines::Command(words.iter().map(|word| (*word).to_owned()).collect()),
            scope: "machine".to_owned(),
            counted: None,
        })
    }

    #[test]
    fn a_program_is_tried_and_its_reading_or_what_is_wrong_with_it_is_told() {
        let works = of(&["/bin/sh", "-c", "echo - 41.8; exec sleep 60"]);
        assert_eq!(
            (works.outcome, works.detail.as_str()),
            (Outcome::Works, "41.800 W, by /bin/sh")
        );
        for (words, why) in [
            (&["/bin/sh", "-c", "echo off"][..], "`off` is no timestamp"),
            (
                &["/bin/sh", "-c", "exit 3"],
                "its command ended with exit status: 3",
            ),
            (
                &["/nowhere/reader"],
                "cannot take lines of the external meter plug",
            ),
        ] {
            let check = of(words);
            assert_eq!(check.outcome, Outcome::Limited);
            assert!(check.detail.contains(why), "{}", check.detail);
            assert!(check.remedy.unwrap().contains("[meters.plug]"));
        }
    }
}
